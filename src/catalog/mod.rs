//! The catalog: the truth about names, places, attributes, content states, pins, the outbox and the change cursor.
//!
//! One SQLite database in WAL mode. One thread writes: closures from a queue, many to a transaction, each in a savepoint of
//! its own, answered after the commit. Any thread reads, each with a connection of its own, in read transactions that never
//! outlive one reply. SQL stands in this room only; nothing here knows of bytes, remotes or the kernel.

mod error;
mod rows;

use std::path::Path;
use std::sync::Arc;

pub use error::CatalogError;
pub use rows::{Attributes, Change, DirEntry, Inode, NewInode, Origin, PendingItem, Totals};

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
}

/// Is the catalog of one mount; cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    _inner: Arc<()>,
}

/// Is a read transaction.
pub struct Reader {}

/// Is a write transaction: implements [`crate::model::Rows`] and the engine's own verbs on rows.
pub struct Tx {}

impl Catalog {
    /// Opens or creates the catalog in this file and starts its writer thread.
    pub fn open(path: &Path, memory: Arc<dyn Memory>) -> Result<Self> {
        let _ = (path, memory);
        todo!()
    }

    /// Reads on this thread, with this thread's own connection, in one read transaction.
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

    /// The same for callers that cannot await: `done` is called on the writer thread after the commit and must not block.
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

    /// What changed, in order, sent after each commit. There is one receiver: the engine takes it once.
    pub fn take_changes(&self) -> Option<tokio::sync::mpsc::UnboundedReceiver<Vec<Change>>> {
        todo!()
    }

    /// Folders somebody waits for, then those marked look-again whose time has come.
    pub fn folders_to_list(&self, most: usize) -> Result<Vec<(Ino, Option<Tick>)>> {
        let _ = most;
        todo!()
    }
}
