//! Which rows of the outbox go next: those whose time has come, small ones before large ones, as many as there is room for.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::guard::{Guarding, Memory};
use super::open::{OpenTable, lock};
use super::outcome::LONGEST_WAIT;
use super::pause::BULK;
use super::send::nanos;
use crate::catalog::{CatalogError, Tx};
use crate::model::{self, Busy, Ino, Rows as _, Step, StepKind};

/// Rows planned in one transaction.
pub(super) const LOOKED_AT: usize = 64;
/// What is hardly any content.
const HARDLY_ANY: u64 = 64 << 10;
/// How long a row rests that waits for another one's step, if nobody wakes it before.
const WAIT: Duration = Duration::from_millis(300);
/// The same where somebody does: the end of a step that is under way.
const WOKEN: Duration = Duration::from_secs(5);
/// For how long one that moves many bytes gives way to others that come later.
const LARGE_WAITS: Duration = Duration::from_secs(10);
/// How long such a look rests while others are yet to be sent: there may be as many as were sent.
const BEHIND: Duration = Duration::from_secs(1);
/// How long a look at what was sent gives way at most.
const GIVE_WAY: Duration = Duration::from_secs(30);
/// How long a held row rests; a person's release wakes it.
const HELD: Duration = Duration::from_secs(60);

/// Says how much a step moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// No bytes.
    Light,
    /// Hardly any bytes: bringing them to the disk takes longer than sending them.
    Tiny,
    /// Few bytes.
    Small,
    /// Many.
    Large,
}

/// Is how many steps may begin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// Of those that move no bytes.
    pub(super) light: usize,
    /// Of those that move hardly any.
    pub(super) tiny: usize,
    /// Of those that move more.
    pub(super) heavy: usize,
    /// Of these, how many may move many.
    pub(super) large: usize,
    /// How many would not wait for their turn in sending: only then may what moves many begin, else small ones would wait for it.
    pub(super) line: usize,
    /// Whether nothing that moves many is under way: one may begin all the same when it waited long.
    pub(super) first_large: bool,
}

impl Room {
    /// Whether nothing may begin.
    pub(super) fn is_none(self) -> bool {
        self.light == 0 && self.tiny == 0 && self.heavy == 0
    }

    /// Whether any that move few bytes may begin.
    fn takes_small(self) -> bool {
        self.tiny > 0 || self.heavy > 0
    }

    /// Whether some that move bytes must wait.
    fn is_short(self) -> bool {
        self.tiny == 0 || self.heavy == 0
    }

    /// Whether there is room for it; `waited`: for how long it was pending, nanoseconds.
    fn has(self, load: Load, waited: i64) -> bool {
        match load {
            Load::Light => self.light > 0,
            Load::Tiny => self.tiny > 0,
            Load::Small => self.heavy > 0,
            Load::Large => {
                let is_its_turn = self.line > 0 || self.first_large && waited > nanos(LARGE_WAITS);
                self.heavy > 0 && self.large > 0 && is_its_turn
            }
        }
    }

    fn take(&mut self, load: Load) {
        match load {
            Load::Light => self.light = self.light.saturating_sub(1),
            Load::Tiny => {
                self.tiny = self.tiny.saturating_sub(1);
                self.line = self.line.saturating_sub(1);
            }
            Load::Small | Load::Large => {
                self.heavy = self.heavy.saturating_sub(1);
                self.line = self.line.saturating_sub(1);
                self.large = self.large.saturating_sub(usize::from(load == Load::Large));
                self.first_large &= load != Load::Large;
            }
        }
    }
}

/// Is what choosing needs to know.
pub(super) struct Choosing {
    pub(super) now: i64,
    pub(super) busy: Busy,
    pub(super) urgent: Arc<HashSet<Ino>>,
    pub(super) writers_rest: i64,
    pub(super) room: Room,
    pub(super) limit: usize,
    pub(super) guard: super::guard::Shared,
    /// Rows known to move bytes, for which there was no room.
    pub(super) heavy: super::due::Heavy,
    pub(super) open: Arc<OpenTable>,
}

/// Is what choosing found.
#[derive(Default)]
pub(super) struct Chosen {
    /// Steps to run, each with the row that led to it.
    pub(super) steps: Vec<(Step, Ino, Load)>,
    /// Rows that wait for the step of another inode.
    pub(super) waiting: Vec<(Ino, Ino)>,
    /// Rows that wait for another one, which rests itself.
    pub(super) behind: Vec<(Ino, Ino)>,
    /// How many rows were looked at.
    pub(super) looked_at: usize,
    /// Whether one was left for want of room.
    pub(super) skipped: bool,
    /// Large ones, which go if there is room after the small ones; with how long they were pending, nanoseconds.
    large: Vec<(Step, Ino, i64)>,
    /// Whether a large one was among those looked at.
    passed_over: bool,
}

impl Choosing {
    /// Chooses, and puts off what cannot go.
    pub(super) fn run(mut self, tx: &mut Tx) -> Result<Chosen, CatalogError> {
        let shared = self.guard.clone();
        let mut memory = lock(&shared);
        let guarding = memory.guard(tx, self.limit)?;
        let mut guard = (&mut *memory, guarding);
        let mut chosen = Chosen::default();
        let is_full = self.room.is_short();
        let (rows, is_all) = self.page(tx)?;
        self.look(tx, (&rows, is_full), &mut guard, &mut chosen)?;
        if !is_all && self.room.takes_small() && chosen.passed_over {
            let small = self.small_behind(tx, &rows)?;
            self.look(tx, (&small, is_full), &mut guard, &mut chosen)?;
        }
        for (step, row, waited) in std::mem::take(&mut chosen.large) {
            if self.room.has(Load::Large, waited) {
                self.take(tx, (step, row, Load::Large), &mut guard, &mut chosen)?;
            } else {
                chosen.skipped = true;
            }
        }
        Ok(chosen)
    }

    /// Takes of these rows what may go, and puts the large ones by; `is_full`: there was no room for bytes from the start.
    fn look(
        &mut self,
        tx: &mut Tx,
        (rows, is_full): (&[Ino], bool),
        guard: &mut (&mut Memory, Guarding),
        chosen: &mut Chosen,
    ) -> Result<(), CatalogError> {
        let heavy = self.heavy.clone();
        let heavy = &mut lock(&heavy).loads;
        for row in rows.iter().copied() {
            if self.room.is_none() {
                chosen.skipped = true;
                break;
            }
            chosen.looked_at += 1;
            // It is planned anew when there is room: planning all that wait with every step that ends costs more than the
            // steps.
            if let Some((load, since)) = heavy.remove(&row)
                && !self.room.has(load, self.now - since)
            {
                heavy.insert(row, (load, since));
                chosen.passed_over |= load == Load::Large;
                chosen.skipped = true;
                continue;
            }
            let step = model::plan(tx, row, &self.busy)?;
            if step.kind == StepKind::Held && step.ino != row {
                guard.0.behind.insert(row);
            } else {
                guard.0.behind.remove(&row);
            }
            if let Some(rest) = self.rest_of(tx, row, step, is_full)? {
                let is_woken = step.kind == StepKind::Wait && self.busy.contains(&step.ino);
                if is_woken && step.ino == row {
                    // Its own step is under way, and says how it goes on.
                    continue;
                }
                if is_woken {
                    chosen.waiting.push((row, step.ino));
                }
                if !is_woken && step.ino != row {
                    chosen.behind.push((row, step.ino));
                }
                let rest = if is_woken { nanos(WOKEN) } else { rest };
                tx.outbox_defer(row, self.now.saturating_add(rest))?;
                continue;
            }
            let load = load_of(tx, step)?;
            chosen.passed_over |= load == Load::Large;
            let since = match load {
                Load::Light => self.now,
                _ => tx.outbox_item(step.ino)?.map_or(self.now, |item| item.since),
            };
            if !self.room.has(load, self.now - since) {
                if load != Load::Light {
                    heavy.insert(row, (load, since));
                }
                chosen.skipped = true;
            } else if load == Load::Large {
                self.busy.insert(step.ino);
                chosen.large.push((step, row, self.now - since));
            } else {
                self.take(tx, (step, row, load), guard, chosen)?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        tx: &mut Tx,
        (step, row, load): (Step, Ino, Load),
        guard: &mut (&mut Memory, Guarding),
        chosen: &mut Chosen,
    ) -> Result<(), CatalogError> {
        if !guard.0.passes(tx, step, guard.1)? {
            return tx.outbox_defer(row, self.now.saturating_add(super::guard::rest()));
        }
        self.room.take(load);
        self.busy.insert(step.ino);
        chosen.steps.push((step, row, load));
        Ok(())
    }

    /// How long this row rests instead of being run, nanoseconds; `None` if its step may go.
    fn rest_of(
        &self,
        tx: &Tx,
        row: Ino,
        step: Step,
        is_full: bool,
    ) -> Result<Option<i64>, CatalogError> {
        if let Some(item) = tx.outbox_item(step.ino)?.filter(|_| step.ino != row)
            && let Some(left) = item.not_before.map(|when| when - self.now).filter(|l| *l > 0)
            && step.kind != StepKind::Wait
        {
            return Ok(Some(left.min(nanos(LONGEST_WAIT))));
        }
        // A file that is only mapped is asked about by its step: nobody tells of the end.
        let mapped = u32::from(self.open.is_mapped(step.ino));
        let writing = tx.handles(step.ino).writers > mapped;
        // What was written and could not be told counts as a writer, and only the step tells of it.
        let held = self.open.handles(step.ino).writers > 0;
        Ok(match step.kind {
            StepKind::Wait | StepKind::Cycle => Some(nanos(WAIT)),
            StepKind::Held => Some(nanos(HELD)),
            StepKind::Confirm if is_full && self.gives_way(tx, step.ino)? => Some(nanos(BEHIND)),
            StepKind::Settled if writing && held => Some(self.writers_rest),
            StepKind::Write if writing && !self.may_interrupt(tx, step.ino)? => {
                Some(self.writers_rest)
            }
            _ => None,
        })
    }

    /// Whether a look at what was sent gives way to what is yet to be sent.
    fn gives_way(&self, tx: &Tx, ino: Ino) -> Result<bool, CatalogError> {
        let since = tx.outbox_item(ino)?.map_or(self.now, |item| item.since);
        Ok(!self.urgent.contains(&ino) && self.now - since < nanos(GIVE_WAY))
    }

    /// Whether a file that is being written is to be sent all the same.
    fn may_interrupt(&self, tx: &Tx, ino: Ino) -> Result<bool, CatalogError> {
        // Its row may be about an earlier change that could not be sent.
        let since = tx.outbox_item(ino)?.map_or(self.now, |item| item.since);
        let since = since.max(self.open.written_since(ino).unwrap_or(since));
        Ok(self.urgent.contains(&ino) || self.now - since >= self.writers_rest)
    }
}

/// How much a step moves: of a file that is fetched to be compared, too little is known.
fn load_of(tx: &Tx, step: Step) -> Result<Load, CatalogError> {
    Ok(match step.kind {
        StepKind::Write => match tx.inode(step.ino)?.map_or(0, |inode| inode.attributes.size) {
            0..=HARDLY_ANY => Load::Tiny,
            size if size <= BULK => Load::Small,
            _ => Load::Large,
        },
        StepKind::Fetch => Load::Small,
        _ => Load::Light,
    })
}

#[cfg(test)]
mod tests;
