#![allow(unused_variables, unused_imports, dead_code)]
//! What the catalog answers about contents, the outbox, pins and the endpoint.

use super::{Endpoint, Inode, OutboxItem, PendingItem, Presence, Reader, Result, Sums, Totals};
use crate::model::{Base, Ino, OutboxRow, Pin, Tick};

impl Reader {
    /// What the remote last had of it (as in `Rows`).
    pub fn base(&self, ino: Ino) -> Result<Option<Base>> {
        todo!()
    }

    /// Its outbox row (as in `Rows`).
    pub fn outbox(&self, ino: Ino) -> Result<Option<OutboxRow>> {
        todo!()
    }

    /// Its outbox row with times and errors.
    pub fn outbox_item(&self, ino: Ino) -> Result<Option<OutboxItem>> {
        todo!()
    }

    /// Which blocks are here. Hydrated: all of them; a placeholder or no such inode: none.
    pub fn presence(&self, ino: Ino) -> Result<Presence> {
        todo!()
    }

    /// Outbox rows whose time has come, the one waiting longest first; a row that was tried goes to the end.
    pub fn outbox_due(&self, now: i64, limit: usize) -> Result<Vec<Ino>> {
        todo!()
    }

    /// When the next outbox row may go, nanoseconds since 1970 (in the past if it may go now).
    pub fn next_due(&self) -> Result<Option<i64>> {
        todo!()
    }

    /// Items not in sync, the oldest first, for people.
    pub fn pending(&self, limit: usize) -> Result<Vec<PendingItem>> {
        todo!()
    }

    /// How many items in this folder, at any depth, are not in sync.
    pub fn pending_below(&self, folder: Ino) -> Result<u64> {
        todo!()
    }

    /// Counts of everything.
    pub fn totals(&self) -> Result<Totals> {
        todo!()
    }

    /// Items and their sizes, at the cost of one row.
    pub fn sums(&self) -> Result<Sums> {
        todo!()
    }

    /// The pin that holds for it, by its own and those of the folders above.
    pub fn effective_pin(&self, ino: Ino) -> Result<Pin> {
        todo!()
    }

    /// The inode whose pin decides for it, if any was set.
    pub fn pin_from(&self, ino: Ino) -> Result<Option<Ino>> {
        todo!()
    }

    /// Files pinned by themselves or by a folder above and not hydrated, with numbers beyond `after`, in order.
    pub fn pinned_not_hydrated(&self, after: Ino, limit: usize) -> Result<Vec<Ino>> {
        todo!()
    }

    /// Files with bytes here that may be freed because they are unpinned: in sync, with a base.
    pub fn unpinned_with_bytes(&self, after: Ino, limit: usize) -> Result<Vec<Ino>> {
        todo!()
    }

    /// Files with bytes here that may be freed: in sync, with a base, not pinned; the least recently used first.
    pub fn eviction_candidates(&self, limit: usize) -> Result<Vec<Inode>> {
        todo!()
    }

    /// All inodes missing at the remote, with since when.
    pub fn all_missing(&self) -> Result<Vec<(Ino, Tick)>> {
        todo!()
    }

    /// Folders marked look-again whose time has come, the oldest mark first.
    pub fn look_again_due(&self, now: i64, limit: usize) -> Result<Vec<(Ino, Tick)>> {
        todo!()
    }

    /// When the next look-again mark comes due, nanoseconds since 1970.
    pub fn next_look(&self) -> Result<Option<i64>> {
        todo!()
    }

    /// Listed folders, the one looked at longest ago first, with when that was (nanoseconds since 1970).
    pub fn oldest_looks(&self, limit: usize) -> Result<Vec<(Ino, i64)>> {
        todo!()
    }

    /// Conflict copies made here and not resolved.
    pub fn conflicts(&self, limit: usize) -> Result<Vec<Ino>> {
        todo!()
    }

    /// Cursor, identity and guard.
    pub fn endpoint(&self) -> Result<Endpoint> {
        todo!()
    }

    /// A value that the engine keeps under a key of its own.
    pub fn state(&self, key: &str) -> Result<Option<Vec<u8>>> {
        todo!()
    }
}
