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

    fn has(self, load: Load) -> bool {
        match load {
            Load::Light => self.light > 0,
            Load::Tiny => self.tiny > 0,
            Load::Small => self.heavy > 0,
            Load::Large => self.heavy > 0 && self.large > 0 && self.line > 0,
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
    pub(super) heavy: super::workers::Heavy,
    pub(super) open: Arc<OpenTable>,
}

/// Is what choosing found.
#[derive(Default)]
pub(super) struct Chosen {
    /// Steps to run, each with the row that led to it.
    pub(super) steps: Vec<(Step, Ino, Load)>,
    /// Rows that wait for the step of another inode.
    pub(super) waiting: Vec<(Ino, Ino)>,
    /// How many rows were looked at.
    pub(super) looked_at: usize,
    /// Whether one was left for want of room.
    pub(super) skipped: bool,
    /// Large ones, which go if there is room after the small ones.
    large: Vec<(Step, Ino)>,
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
        // Those whose step is under way are the first of all, and are not planned: its end says when they go on.
        let mut rows = tx.outbox_due(self.now, LOOKED_AT + self.busy.len())?;
        rows.retain(|row| !self.busy.contains(row));
        rows.truncate(LOOKED_AT);
        if rows.len() < LOOKED_AT {
            lock(&self.heavy).retain(|row, _| rows.contains(row));
        }
        self.look(tx, (&rows, is_full), &mut guard, &mut chosen)?;
        if rows.len() >= LOOKED_AT && self.room.takes_small() && chosen.passed_over {
            // Small files do not wait until fewer large ones are before them.
            let mut small = tx.outbox_due_small(self.now, BULK, LOOKED_AT + self.busy.len())?;
            small.retain(|row| !rows.contains(row) && !self.busy.contains(row));
            small.truncate(LOOKED_AT);
            self.look(tx, (&small, is_full), &mut guard, &mut chosen)?;
        }
        for (step, row) in std::mem::take(&mut chosen.large) {
            if self.room.has(Load::Large) {
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
        let mut heavy = lock(&heavy);
        for row in rows.iter().copied() {
            if self.room.is_none() {
                chosen.skipped = true;
                break;
            }
            chosen.looked_at += 1;
            // It is planned anew when there is room: planning all that wait with every step that ends costs more than the
            // steps.
            if let Some(load) = heavy.get(&row).filter(|load| !self.room.has(**load)) {
                chosen.passed_over |= *load == Load::Large;
                chosen.skipped = true;
                continue;
            }
            heavy.remove(&row);
            let step = model::plan(tx, row, &self.busy)?;
            if step == (Step { kind: StepKind::Wait, ino: row }) && self.busy.contains(&row) {
                // Its step under way says when it goes on.
                continue;
            }
            if step.kind == StepKind::Held && step.ino != row {
                guard.0.behind.insert(row);
            } else {
                guard.0.behind.remove(&row);
            }
            if let Some(rest) = self.rest_of(tx, row, step, is_full)? {
                if step.kind == StepKind::Wait && self.busy.contains(&step.ino) {
                    chosen.waiting.push((row, step.ino));
                }
                tx.outbox_defer(row, self.now.saturating_add(rest))?;
                continue;
            }
            let load = load_of(tx, step)?;
            chosen.passed_over |= load == Load::Large;
            if !self.room.has(load) {
                if load != Load::Light {
                    heavy.insert(row, load);
                }
                chosen.skipped = true;
            } else if load == Load::Large {
                self.busy.insert(step.ino);
                chosen.large.push((step, row));
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
        Ok(match step.kind {
            StepKind::Wait | StepKind::Cycle => Some(nanos(WAIT)),
            StepKind::Held => Some(nanos(HELD)),
            StepKind::Confirm if is_full && self.gives_way(tx, step.ino)? => Some(nanos(BEHIND)),
            StepKind::Settled if writing => Some(self.writers_rest),
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
        let since = tx.outbox_item(ino)?.map_or(self.now, |item| item.since);
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::Durability;
    use crate::catalog::{Catalog, NewInode, Origin};
    use crate::model::Kind;
    use crate::model::{Exclude, Handles, Place};

    struct Nobody(Exclude);

    impl crate::catalog::Memory for Nobody {
        fn handles(&self, _ino: Ino) -> Handles {
            Handles::default()
        }

        fn exclude(&self) -> &Exclude {
            &self.0
        }
    }

    fn new(number: usize) -> NewInode {
        let name = crate::model::Name::new(format!("new-{number}")).unwrap();
        let place = Place::new(Ino::ROOT, name);
        let kind = Kind::File;
        NewInode { kind, place, mode: 0o644, uid: None, gid: None, now: 1, target: None }
    }

    /// Each step that ends makes room for one: what waits is not planned for that again and again.
    #[test]
    fn what_waits_for_room_is_planned_once() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Arc::new(Nobody(Exclude::new::<&str>(&[])));
        let catalog = Catalog::open(&dir.path().join("catalog.db"), memory).unwrap();
        let (soon, engine) = (Durability::Soon, Origin::Engine);
        let fill =
            |tx: &mut Tx| (0..LOOKED_AT).try_for_each(|number| tx.create(new(number)).map(drop));
        catalog.write_blocking(soon, engine, fill).unwrap();
        let heavy = super::super::workers::Heavy::default();
        let choose = |(heavy_room, light): (usize, usize), busy: Busy, steps: usize| {
            let choosing = Choosing {
                now: i64::MAX,
                busy,
                urgent: Arc::default(),
                writers_rest: 0,
                room: Room { light, tiny: heavy_room, heavy: 0, large: 0, line: heavy_room },
                limit: 0,
                guard: super::super::guard::Shared::default(),
                heavy: heavy.clone(),
                open: Arc::default(),
            };
            let count = move |tx: &mut Tx| {
                let before = tx.statements();
                let chosen = choosing.run(tx)?;
                assert_eq!(chosen.steps.len(), steps);
                assert!(chosen.skipped, "there is more than there is room for");
                Ok::<_, CatalogError>(tx.statements() - before)
            };
            catalog.write_blocking(soon, engine, count).unwrap()
        };
        let all = choose((1, 4), Busy::default(), 1);
        let first = lock(&heavy).clone();
        assert_eq!(first.len(), LOOKED_AT - 1);
        let next = choose((1, 4), Busy::default(), 1);
        assert!(next * 8 < all, "{next} statements for one step, {all} for all");
        let none = choose((0, 4), Busy::default(), 0);
        assert!(none * 16 < all, "{none} statements for nothing");
    }

    /// As many rows as are looked at may be under way, and they are due before all others: the others go all the same, and
    /// nothing is looked at again and again for them.
    #[test]
    fn what_is_under_way_is_not_planned_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Arc::new(Nobody(Exclude::new::<&str>(&[])));
        let catalog = Catalog::open(&dir.path().join("catalog.db"), memory).unwrap();
        let (soon, engine) = (Durability::Soon, Origin::Engine);
        let fill = |tx: &mut Tx| {
            let made = (0..LOOKED_AT + 2).map(|number| Ok(tx.create(new(number))?.ino));
            made.collect::<Result<Vec<Ino>, CatalogError>>()
        };
        let made = catalog.write_blocking(soon, engine, fill).unwrap();
        let choose = |busy: &[Ino]| {
            let choosing = Choosing {
                now: i64::MAX,
                busy: busy.iter().copied().collect(),
                urgent: Arc::default(),
                writers_rest: 0,
                room: Room { light: 4, tiny: 4, heavy: 4, large: 1, line: 4 },
                limit: 0,
                guard: super::super::guard::Shared::default(),
                heavy: super::super::workers::Heavy::default(),
                open: Arc::default(),
            };
            catalog.write_blocking(soon, engine, move |tx| choosing.run(tx)).unwrap()
        };
        let chosen = choose(&made[..LOOKED_AT]);
        let steps: Vec<Ino> = chosen.steps.iter().map(|(step, ..)| step.ino).collect();
        assert_eq!(steps, made[LOOKED_AT..]);
        let chosen = choose(&made);
        assert!(chosen.steps.is_empty());
        assert_eq!(chosen.looked_at, 0, "as long as nothing ends there is nothing to look at");
    }
}
