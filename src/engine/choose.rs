//! Choosing: which rows of the outbox have their time, what is to be done for each, and for which there is room.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::open::{OpenTable, lock};
use super::outcome::LONGEST_WAIT;
use super::send::nanos;
use crate::catalog::{CatalogError, Tx};
use crate::model::{self, Busy, Ino, Rows as _, Step, StepKind};

/// Rows planned in one transaction.
pub(super) const LOOKED_AT: usize = 64;
/// How long a row rests that waits for another one's step, if nobody wakes it before.
const WAIT: Duration = Duration::from_millis(300);
/// How long a look at what was sent gives way at most.
const GIVE_WAY: Duration = Duration::from_secs(30);
/// How long a held row rests; a person's release wakes it.
const HELD: Duration = Duration::from_secs(60);

/// Is what choosing needs to know.
pub(super) struct Choosing {
    pub(super) now: i64,
    pub(super) busy: Busy,
    pub(super) urgent: HashSet<Ino>,
    pub(super) writers_rest: i64,
    /// How many steps that move bytes, and how many that do not, may begin.
    pub(super) room: (usize, usize),
    pub(super) limit: usize,
    pub(super) guard: super::guard::Shared,
    pub(super) heavy: super::workers::Heavy,
    pub(super) open: Arc<OpenTable>,
}

/// Is what choosing found.
#[derive(Default)]
pub(super) struct Chosen {
    /// Steps to run, each with the row that led to it.
    pub(super) steps: Vec<(Step, Ino)>,
    /// Rows that wait for the step of another inode.
    pub(super) waiting: Vec<(Ino, Ino)>,
    /// How many rows were looked at.
    pub(super) looked_at: usize,
    /// How many of the steps move bytes, and how many do not.
    pub(super) taken: (usize, usize),
    /// Whether there is no more room for the ones, and for the others.
    pub(super) full: (bool, bool),
    /// Whether one was left for want of room.
    pub(super) skipped: bool,
}

impl Chosen {
    /// Whether there is room for such a step.
    fn has_room(&mut self, step: Step, room: (usize, usize)) -> bool {
        self.full = (self.taken.0 >= room.0, self.taken.1 >= room.1);
        if moves_bytes(step.kind) { !self.full.0 } else { !self.full.1 }
    }

    /// Counts a step for which there is room.
    fn take(&mut self, step: Step, room: (usize, usize)) {
        let taken = if moves_bytes(step.kind) { &mut self.taken.0 } else { &mut self.taken.1 };
        *taken += 1;
        self.full = (self.taken.0 >= room.0, self.taken.1 >= room.1);
    }
}

pub(super) fn moves_bytes(kind: StepKind) -> bool {
    matches!(kind, StepKind::Write | StepKind::Fetch)
}

impl Choosing {
    /// Plans what is due, in order, and takes what there is room for; what cannot go is put off.
    pub(super) fn run(self, tx: &mut Tx) -> Result<Chosen, CatalogError> {
        let mut guard = lock(&self.guard);
        let guarding = guard.guard(tx, self.limit)?;
        let mut busy = self.busy.clone();
        let full = (self.room.0 == 0, self.room.1 == 0);
        let mut chosen = Chosen { full, ..Chosen::default() };
        let mut heavy = lock(&self.heavy);
        let due = tx.outbox_due(self.now, LOOKED_AT)?;
        if due.len() < LOOKED_AT {
            heavy.retain(|row| due.contains(row));
        }
        for row in due {
            if chosen.full == (true, true) {
                chosen.skipped = true;
                break;
            }
            chosen.looked_at += 1;
            // It is planned anew when there is room: planning all that wait with every step that ends costs more than the
            // steps.
            if chosen.full.0 && heavy.contains(&row) {
                chosen.skipped = true;
                continue;
            }
            heavy.remove(&row);
            let step = model::plan(tx, row, &busy)?;
            if step.kind == StepKind::Held && step.ino != row {
                guard.behind.insert(row);
            } else {
                guard.behind.remove(&row);
            }
            if let Some(rest) = self.rest_of(tx, row, step)? {
                if step.kind == StepKind::Wait && busy.contains(&step.ino) {
                    chosen.waiting.push((row, step.ino));
                }
                tx.outbox_defer(row, self.now.saturating_add(rest))?;
                continue;
            }
            if !chosen.has_room(step, self.room) {
                if moves_bytes(step.kind) {
                    heavy.insert(row);
                }
                chosen.skipped = true;
                continue;
            }
            if !guard.passes(tx, step, guarding)? {
                tx.outbox_defer(row, self.now.saturating_add(super::guard::rest()))?;
                continue;
            }
            chosen.take(step, self.room);
            busy.insert(step.ino);
            chosen.steps.push((step, row));
        }
        Ok(chosen)
    }

    /// How long this row rests instead of being run, nanoseconds; `None` if its step may go.
    fn rest_of(&self, tx: &Tx, row: Ino, step: Step) -> Result<Option<i64>, CatalogError> {
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
            StepKind::Confirm if self.gives_way(tx, step.ino)? => Some(nanos(WAIT)),
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
        let is_awaited = self.urgent.contains(&ino) || self.now - since >= nanos(GIVE_WAY);
        Ok(self.room.0 == 0 && !is_awaited)
    }

    /// Whether a file that is being written is to be sent all the same.
    fn may_interrupt(&self, tx: &Tx, ino: Ino) -> Result<bool, CatalogError> {
        let since = tx.outbox_item(ino)?.map_or(self.now, |item| item.since);
        Ok(self.urgent.contains(&ino) || self.now - since >= self.writers_rest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::Durability;
    use crate::catalog::{Catalog, Memory, NewInode, Origin};
    use crate::model::Kind;
    use crate::model::{Exclude, Handles, Place};

    struct Nobody(Exclude);

    impl Memory for Nobody {
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
        let choose = |room: (usize, usize), busy: Busy, steps: usize| {
            let choosing = Choosing {
                now: i64::MAX,
                busy,
                urgent: HashSet::new(),
                writers_rest: 0,
                room,
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
}
