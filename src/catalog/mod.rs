//! The catalog: the truth about names, places, attributes, content states, pins, the outbox and the change cursor.
//!
//! One SQLite database in WAL mode. One thread writes: closures from a queue, many to a transaction, each in a savepoint of
//! its own, answered after the commit. Any thread reads, each with a connection of its own, in read transactions that never
//! outlive one reply. SQL stands in this room only; nothing here knows of bytes, remotes or the kernel.

mod error;
mod reader;
mod reader_names;
mod reader_sync;
mod rows;
mod tx;
mod tx_files;
mod tx_rows;
mod tx_verbs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::CatalogError;
pub use reader::Reader;
pub use rows::{
    Attributes, Change, DirEntry, Endpoint, Event, Inode, NewInode, Origin, OutboxItem,
    PendingItem, Presence, SetAttributes, Sums, Totals,
};
pub use tx::Tx;

use crate::model::{Handles, Ino, Name, Tick};

/// What catalog calls answer.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// Says what a commit must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A killed process.
    Soon,
    /// A power cut as well: the commit is synced before it is answered, with everything before it.
    Synced,
}

/// Is what decisions ask that lives in memory only, given to the catalog when it is opened.
pub trait Memory: Send + Sync + 'static {
    /// The handles open on an inode.
    fn handles(&self, ino: Ino) -> Handles;
    /// Whether a name is kept local only.
    fn is_excluded(&self, name: &Name) -> bool;
    /// Called on the writer thread just before each commit with what it will change, to mark inodes stale before anybody
    /// can see the new rows. Must not block. The commit may still fail: a mark too many does no harm.
    fn before_commit(&self, _changes: &[Change]) {}
    /// Called on the writer thread when the disk is short of room: gives up the ballast. `true` if that made room.
    fn on_disk_full(&self) -> bool {
        false
    }
}

/// Is the catalog of one mount; cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    _inner: Arc<()>,
}

impl Catalog {
    /// Opens or creates the catalog in this file and starts its writer thread.
    pub fn open(path: &Path, memory: Arc<dyn Memory>) -> Result<Self> {
        let _ = (path, memory);
        todo!()
    }

    /// Moves a damaged catalog (the file, its WAL and its index) into `recovered`; answers where the file went.
    pub fn set_aside(path: &Path, recovered: &Path) -> std::io::Result<PathBuf> {
        let _ = (path, recovered);
        todo!()
    }

    /// Reads with a connection of its own, in one read transaction.
    pub fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        let _ = read;
        todo!()
    }

    /// Runs `change` on the writer thread and resolves after its commit; an error rolls back just this change.
    pub async fn write<T, E>(
        &self,
        durability: Durability,
        origin: Origin,
        change: impl FnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        let _ = (durability, origin, change);
        todo!()
    }

    /// The same for threads that may wait (never a runtime thread).
    pub fn write_blocking<T, E>(
        &self,
        durability: Durability,
        origin: Origin,
        change: impl FnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        let _ = (durability, origin, change);
        todo!()
    }

    /// The same for callers that cannot wait: `done` is called on the writer thread after the commit and must not block.
    /// After `close` it is called at once with `Closed`.
    pub fn submit<T, E>(
        &self,
        durability: Durability,
        origin: Origin,
        change: impl FnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
        done: impl FnOnce(std::result::Result<T, E>) + Send + 'static,
    ) where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        let _ = (durability, origin, change, done);
        todo!()
    }

    /// Everything committed so far survives a power cut when this resolves.
    pub async fn barrier(&self) -> Result<()> {
        todo!()
    }

    /// What changed, in order, sent after each commit and before its answers. There is one receiver: the engine takes it
    /// once.
    pub fn take_changes(&self) -> Option<tokio::sync::mpsc::UnboundedReceiver<Vec<Change>>> {
        todo!()
    }

    /// Folders somebody waits for, then those marked look-again whose time has come; none that are being listed.
    pub fn folders_to_list(&self, most: usize) -> Result<Vec<(Ino, Option<Tick>)>> {
        let _ = most;
        todo!()
    }

    /// Asks for this folder to be listed soon; memory only. Sends `Change::Listing`.
    pub fn need_list(&self, folder: Ino) {
        let _ = folder;
        todo!()
    }

    /// Notes that a listing of this folder begins (it is no longer asked for); `false` if one is under way already.
    pub fn begin_listing(&self, folder: Ino) -> bool {
        let _ = folder;
        todo!()
    }

    /// Notes that the listing of this folder ended, whole or not.
    pub fn end_listing(&self, folder: Ino) {
        let _ = folder;
        todo!()
    }

    /// Does what was queued, checkpoints and ends the writer thread; later calls answer `Closed`. Blocks.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
}
