//! Which rows of the outbox are looked at for the next choice.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::choose::{Choosing, LOOKED_AT, Load};
use super::open::lock;
use super::pause::BULK;
use crate::catalog::{CatalogError, Tx};
use crate::model::Ino;

/// Rows whose time came within this are looked at again, nanoseconds: one may just be written with that time.
const JUST_NOW: i64 = 1_000_000_000;

/// Is what is remembered, from choice to choice, of rows that found no room.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// What their steps move, and since when they are pending, nanoseconds since 1970.
    pub(super) loads: HashMap<Ino, (Load, i64)>,
    /// Rows whose time came before this are all of large files: walking over them with each choice costs more than sending.
    pub(super) large_until: i64,
}

/// Is the same, shared.
pub(super) type Heavy = Arc<Mutex<Passed>>;

impl Choosing {
    /// The rows to look at, none of which is under way: those that somebody waits for, then those that wait longest. With
    /// whether these are all.
    pub(super) fn page(&self, tx: &Tx) -> Result<(Vec<Ino>, bool), CatalogError> {
        let most = LOOKED_AT + self.busy.len();
        let due = tx.outbox_due(self.now, most)?;
        let is_all = due.len() < most;
        let mut rows = Vec::new();
        // If it is more, nearly all is awaited.
        if self.urgent.len() <= LOOKED_AT {
            for row in self.urgent.iter().copied() {
                if tx.is_due(row, self.now)? {
                    rows.push(row);
                }
            }
        }
        let first: HashSet<Ino> = rows.iter().copied().collect();
        rows.extend(due.into_iter().filter(|row| !first.contains(row)));
        rows.retain(|row| !self.busy.contains(row));
        let is_all = is_all && rows.len() <= LOOKED_AT;
        rows.truncate(LOOKED_AT);
        if is_all {
            lock(&self.heavy).loads.retain(|row, _| rows.contains(row));
        }
        Ok((rows, is_all))
    }

    /// Rows of small files behind `rows`: they do not wait until fewer large ones are before them.
    pub(super) fn small_behind(&self, tx: &Tx, rows: &[Ino]) -> Result<Vec<Ino>, CatalogError> {
        let mut heavy = lock(&self.heavy);
        let most = LOOKED_AT + self.busy.len();
        let small = tx.outbox_due_small(heavy.large_until, self.now, BULK, most)?;
        let first = small.first().map_or(self.now, |(_, due)| *due);
        heavy.large_until = first.min(self.now.saturating_sub(JUST_NOW));
        let small = small.into_iter().map(|(row, _)| row);
        let is_new = |row: &Ino| !rows.contains(row) && !self.busy.contains(row);
        Ok(small.filter(is_new).take(LOOKED_AT).collect())
    }
}
