//! Data files on the local disk: bytes and nothing else.
//!
//! A content of an inode lies in one data file, named by inode and generation; another remote version's bytes are never put
//! into a data file that somebody can see, they get a new generation. The room knows no names of users, no catalog and no
//! remote, and waits for nothing but the disk: callers run it where blocking is allowed.
//!
//! * [`Cache`] finds, makes, removes and sets aside data files; [`DataFile`] reads and writes one.
//! * [`Cache::reserve`] is asked before dewfs writes: `cache_size` and `min_free` hold at every moment for what it writes
//!   itself. What data files occupy is read back from the file system after each act, so rounding, holes and writers that
//!   go past us (passthrough) are counted as they are, at the latest when the [`DataFile`] is dropped.
//! * A [`Stamp`](crate::model::Stamp) tells whether a data file was written since. dewfs never sets times, mode, owner or
//!   attributes of a data file that has been in use: its ctime is its own.
//! * [`Cache::snapshot`] takes a whole moment of a file for an upload: equal stamps around it, or [`CacheError::Moving`].
//! * A lease is a question, never a lock: [`Cache::nobody_can_write`].
//! * [`examine`] finds out what the state directory's file system really does, by doing it.
//! * The ballast is room that a full disk can be given back, so that the catalog can still forget.

mod aside;
mod ballast;
mod budget;
mod data;
mod digest;
mod error;
mod examine;
mod lease;
mod ledger;
mod staging;
mod store;
mod sys;
#[cfg(test)]
mod tests;

pub use budget::{Limits, Reservation, Usage};
pub use data::{Access, DataFile};
#[cfg(debug_assertions)]
pub use data::{fail_next_sync, is_sync_to_fail};
pub use digest::digest_bytes;
pub use error::{CacheError, Result};
pub use examine::{Examination, examine};
pub use staging::{Foreseen, Snapshot, SnapshotBody};
pub use store::{Cache, Found};
pub use sys::share_heaps;
