#![allow(unused_variables, unused_imports, dead_code)]
//! The engine's own verbs on names, attributes, pins, the outbox and the endpoint.

use super::{Inode, NewInode, Result, SetAttributes, Tx};
use crate::model::{Ino, Pin};

impl Tx {
    /// Creates a local inode, with an outbox row if a remote is to get it; its folder's times follow. `Taken` if somebody is there.
    pub fn create(&mut self, new: NewInode) -> Result<Inode> {
        todo!()
    }

    /// Sets a folder's (or any inode's) mtime and ctime to `now`: an entry came or went.
    pub fn touch_times(&mut self, ino: Ino, now: i64) -> Result<()> {
        todo!()
    }

    /// Sets what a user set. Does not make an outbox row.
    pub fn set_attributes(&mut self, ino: Ino, set: SetAttributes) -> Result<()> {
        todo!()
    }

    /// Sets or replaces an extended attribute.
    pub fn set_xattr(&mut self, ino: Ino, name: &[u8], value: &[u8]) -> Result<()> {
        todo!()
    }

    /// Removes an extended attribute; `false` if it was not there.
    pub fn remove_xattr(&mut self, ino: Ino, name: &[u8]) -> Result<bool> {
        todo!()
    }

    /// Sets the pin of an inode itself.
    pub fn set_pin(&mut self, ino: Ino, pin: Pin) -> Result<()> {
        todo!()
    }

    /// Inserts an outbox row if there is none and a remote is to get this inode; `true` if there is one now.
    pub fn mark_pending(&mut self, ino: Ino) -> Result<bool> {
        todo!()
    }

    /// Lets its outbox row go now: no error, no waiting.
    pub fn outbox_wake(&mut self, ino: Ino) -> Result<()> {
        todo!()
    }

    /// Lets every outbox row go now.
    pub fn outbox_wake_all(&mut self) -> Result<()> {
        todo!()
    }

    /// Notes that a try failed: the row waits until `not_before` and goes to the end. Answers the tries so far.
    pub fn outbox_failed(
        &mut self,
        ino: Ino,
        error: &str,
        kind: &str,
        not_before: i64,
    ) -> Result<u32> {
        todo!()
    }

    /// Puts an outbox row off without an error.
    pub fn outbox_defer(&mut self, ino: Ino, not_before: i64) -> Result<()> {
        todo!()
    }

    /// Marks every outbox row as released from the mass-change guard.
    pub fn release_all(&mut self) -> Result<()> {
        todo!()
    }

    /// Puts a look-again mark off because of `cause`, if known; it comes back at once when that one's outbox row goes. Answers how often in a row.
    pub fn look_defer(&mut self, folder: Ino, not_before: i64, cause: Option<Ino>) -> Result<u32> {
        todo!()
    }

    /// Notes that a folder was looked at.
    pub fn looked_at(&mut self, folder: Ino, now: i64) -> Result<()> {
        todo!()
    }

    /// Records how far the change feed was applied.
    pub fn set_cursor(&mut self, cursor: Option<&str>) -> Result<()> {
        todo!()
    }

    /// Records who the remote said it is.
    pub fn set_identity(&mut self, identity: Option<&str>) -> Result<()> {
        todo!()
    }

    /// Keeps a value for the engine under a key of its own; `None` drops it.
    pub fn set_state(&mut self, key: &str, value: Option<&[u8]>) -> Result<()> {
        todo!()
    }

    /// Records when files were last used.
    pub fn set_last_use(&mut self, uses: &[(Ino, i64)]) -> Result<()> {
        todo!()
    }

    /// Forgets what happened to an inode.
    pub fn drop_history(&mut self, ino: Ino) -> Result<()> {
        todo!()
    }

    /// Says that a conflict copy is resolved.
    pub fn resolve_conflict(&mut self, ino: Ino) -> Result<()> {
        todo!()
    }

    /// The numbers of all data files that a row needs: inode and generation, beyond `after`, for the sweep.
    pub fn data_files(
        &self,
        after: Ino,
        limit: usize,
    ) -> Result<Vec<(Ino, crate::model::Generation)>> {
        todo!()
    }
}
