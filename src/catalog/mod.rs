//! The catalog: the truth about names, places, attributes, content states, pins, the outbox and the change cursor.
//!
//! One SQLite database in WAL mode. One thread writes: closures from a queue, many to a transaction, each but the first in a
//! savepoint of its own, answered after the commit. Any thread reads, each with a connection of its own, in read transactions
//! that never outlive one reply. SQL stands in this room only; nothing here knows of bytes, remotes or the kernel.

mod at_rest;
mod clock;
mod codec;
mod damage;
mod error;
mod lists;
mod memo;
mod open;
mod pending;
mod reader;
mod reader_files;
mod reader_find;
mod reader_names;
mod reader_outbox;
mod reader_sync;
mod rows;
mod schema;
mod tx;
mod tx_files;
mod tx_listing;
mod tx_pins;
mod tx_places;
mod tx_rows;
mod tx_touched;
mod tx_verbs;
mod writer;

use std::sync::Arc;

pub use at_rest::{OnlyHere, left_to_send, only_here};
#[cfg(debug_assertions)]
pub use clock::shift_clock;
pub use clock::{now, steady};
pub use error::CatalogError;
pub use pending::PendingCounts;
pub use reader::Reader;
pub use rows::{
    Attributes, Change, DirEntry, Endpoint, Event, Found, Inode, Mark, NewInode, Origin,
    OutboxItem, PendingItem, Presence, Rank, SetAttributes, Sums, Totals, Usage,
};
pub use tx::Tx;

use crate::model::{Exclude, Handles, Ino, Pin};
use open::Inner;

/// What catalog calls answer.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// Says what a commit must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A killed process, once it is committed: nobody waits for that, so it may go along with the change that comes next.
    Later,
    /// A killed process.
    Soon,
    /// A power cut as well: the commit is synced before it is answered, with everything before it.
    Synced,
}

/// Is what decisions ask that lives in memory only, given to the catalog when it is opened.
pub trait Memory: Send + Sync + 'static {
    /// The handles open on an inode.
    fn handles(&self, ino: Ino) -> Handles;
    /// Which names are kept local only.
    fn exclude(&self) -> &Exclude;
    /// The pin that holds for the whole mount where nothing else was said.
    fn root_pin(&self) -> Pin {
        Pin::Unspecified
    }
    /// Called on the writer thread just before each commit with what it will change, to mark inodes stale before anybody
    /// can see the new rows. Must not block. The commit may still fail: a mark too many does no harm.
    fn before_commit(&self, _changes: &[Change]) {}
    /// Called on the writer thread when an inode gets another local place or loses it, and whether it loses it to the remote.
    /// The change may still be taken back.
    fn note_unnamed(&self, _ino: Ino, _by_remote: bool) {}
    /// Called on the writer thread after the commit with which a user took its place from a folder.
    fn note_removed(&self, _folder: Ino) {}
    /// Called on the writer thread after each commit or rollback, before anything of it is answered: what decisions asked
    /// of handles needs to hold no longer.
    fn ended(&self) {}
    /// Called on the writer thread when the disk is short of room: gives up the ballast. `true` if that made room.
    fn on_disk_full(&self) -> bool {
        false
    }
}

/// Is the catalog of one mount; cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

#[cfg(test)]
mod tests;
