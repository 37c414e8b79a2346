//! The verbs: the only room that sees catalog, cache and remote together.
//!
//! One verb is one catalog transaction. What is here is answered at once; what needs the remote is a future; what changes
//! the catalog is answered by its writer after the commit. Decisions are asked of `model`, never made here.

mod answer;
mod error;
mod settings;
mod state;
mod verbs;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

pub use answer::{Answer, Done};
pub use error::EngineError;
pub use settings::{Returns, Settings};
pub use state::{
    Freed, Happened, ItemStatus, LastError, MountState, MountStatus, Progress, RequestsBy,
    SyncState, pin_word,
};
pub use verbs::{
    Allocate, Caller, FileSystemSpace, Handle, Invalidation, OpenMode, Opened, PageEntry,
    RenameMode, Seek, SetAttributes, SetTime, Stat,
};

use crate::model::{Ino, Kind, Name, Pin};
use crate::remote::Remote;

/// Is one mount's engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    _core: Arc<()>,
}

/// Says why an engine could not start, in one line for people.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else uses the state directory.
    #[error("{dir}: another dewfs uses this state directory (process {pid})")]
    InUse {
        /// The directory.
        dir: String,
        /// Who.
        pid: u32,
    },
    /// The state directory cannot be used.
    #[error("{0}")]
    StateDir(String),
    /// The first mount needs the remote.
    #[error("{0}")]
    Remote(String),
    /// The remote is another one than before.
    #[error("{0}")]
    OtherRemote(String),
    /// The catalog cannot be used.
    #[error(transparent)]
    Catalog(#[from] crate::catalog::CatalogError),
}

type Ready<T> = Result<T, EngineError>;

impl Engine {
    /// Opens the state, recovers what a crash left, asks the remote once if it is new, and starts the workers on `runtime`.
    pub async fn start(
        settings: Settings,
        state_dir: &Path,
        remote: Arc<dyn Remote>,
    ) -> Result<Self, StartError> {
        let _unused = (settings, state_dir, remote);
        todo!()
    }

    /// What the kernel must forget, in order; there is one receiver.
    pub fn take_invalidations(&self) -> Option<UnboundedReceiver<Vec<Invalidation>>> {
        todo!()
    }

    // ---- names -----------------------------------------------------------------------------------------------------

    /// The entry of this name in this folder.
    pub fn lookup(&self, parent: Ino, name: &Name) -> Answer<Stat> {
        let _u = (parent, name);
        todo!()
    }
    /// What is known of an inode.
    pub fn stat(&self, ino: Ino) -> Answer<Stat> {
        let _u = ino;
        todo!()
    }
    /// Changes attributes; a size change needs the file to be writable.
    pub fn set_attributes(
        &self,
        ino: Ino,
        handle: Option<Handle>,
        set: SetAttributes,
        caller: Caller,
    ) -> Answer<Stat> {
        let _u = (ino, handle, set, caller);
        todo!()
    }
    /// The target of a symlink.
    pub fn read_link(&self, ino: Ino) -> Answer<Vec<u8>> {
        let _u = ino;
        todo!()
    }
    /// Up to `most` entries after `cookie` (0: from the start; a cookie is the inode number of the last entry given).
    pub fn read_dir(&self, folder: Ino, cookie: u64, most: usize) -> Answer<Vec<PageEntry>> {
        let _u = (folder, cookie, most);
        todo!()
    }
    /// A new folder.
    pub fn make_folder(&self, parent: Ino, name: Name, mode: u32, caller: Caller) -> Answer<Stat> {
        let _u = (parent, name, mode, caller);
        todo!()
    }
    /// A new symlink, fifo or socket, kept here only; a regular file without opening it.
    pub fn make_node(
        &self,
        parent: Ino,
        name: Name,
        kind: Kind,
        mode: u32,
        target: Option<Vec<u8>>,
        caller: Caller,
    ) -> Answer<Stat> {
        let _u = (parent, name, kind, mode, target, caller);
        todo!()
    }
    /// Removes a file (or symlink, fifo, socket).
    pub fn unlink(&self, parent: Ino, name: &Name) -> Answer<()> {
        let _u = (parent, name);
        todo!()
    }
    /// Removes an empty folder.
    pub fn remove_folder(&self, parent: Ino, name: &Name) -> Answer<()> {
        let _u = (parent, name);
        todo!()
    }
    /// Moves an entry.
    pub fn rename(
        &self,
        parent: Ino,
        name: &Name,
        to_parent: Ino,
        to_name: Name,
        mode: RenameMode,
    ) -> Answer<()> {
        let _u = (parent, name, to_parent, to_name, mode);
        todo!()
    }
    /// A `user.*` attribute, or one of `user.dewfs.*`.
    pub fn get_xattr(&self, ino: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        let _u = (ino, name);
        todo!()
    }
    /// The names of the `user.*` attributes that users set.
    pub fn list_xattr(&self, ino: Ino) -> Answer<Vec<Vec<u8>>> {
        let _u = ino;
        todo!()
    }
    /// Sets a `user.*` attribute; `create`/`replace` as in setxattr(2).
    pub fn set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        create: bool,
        replace: bool,
    ) -> Answer<()> {
        let _u = (ino, name, value, create, replace);
        todo!()
    }
    /// Removes a `user.*` attribute.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Answer<()> {
        let _u = (ino, name);
        todo!()
    }

    // ---- bytes -----------------------------------------------------------------------------------------------------

    /// Opens a file.
    pub fn open(&self, ino: Ino, mode: OpenMode) -> Answer<Opened> {
        let _u = (ino, mode);
        todo!()
    }
    /// Creates and opens a file; opens it if it exists and `mode.exclusive` is not set.
    pub fn create(
        &self,
        parent: Ino,
        name: Name,
        permissions: u32,
        mode: OpenMode,
        caller: Caller,
    ) -> Answer<(Stat, Opened)> {
        let _u = (parent, name, permissions, mode, caller);
        todo!()
    }
    /// Up to `length` bytes from `offset`; fewer only at the end of the file.
    pub fn read(&self, ino: Ino, handle: Handle, offset: u64, length: u32) -> Answer<Bytes> {
        let _u = (ino, handle, offset, length);
        todo!()
    }
    /// Writes all of `data` (at the end if the handle appends).
    pub fn write(
        &self,
        ino: Ino,
        handle: Handle,
        offset: u64,
        data: Bytes,
        kill_suid: bool,
    ) -> Answer<u32> {
        let _u = (ino, handle, offset, data, kill_suid);
        todo!()
    }
    /// A descriptor is being closed: with `close=remote` and edits, waits until the remote has them.
    pub fn flush(&self, ino: Ino, handle: Handle) -> Answer<()> {
        let _u = (ino, handle);
        todo!()
    }
    /// Makes bytes and rows survive a power cut; with `fsync=remote` also waits for the remote.
    pub fn sync_file(&self, ino: Ino, handle: Handle) -> Answer<()> {
        let _u = (ino, handle);
        todo!()
    }
    /// The last descriptor of this open is gone. Never fails.
    pub fn release(&self, ino: Ino, handle: Handle) {
        let _u = (ino, handle);
        todo!()
    }
    /// Makes the names in a folder survive a power cut.
    pub fn sync_folder(&self, folder: Ino) -> Answer<()> {
        let _u = folder;
        todo!()
    }
    /// fallocate(2).
    pub fn allocate(
        &self,
        ino: Ino,
        handle: Handle,
        offset: u64,
        length: u64,
        how: Allocate,
    ) -> Answer<()> {
        let _u = (ino, handle, offset, length, how);
        todo!()
    }
    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    pub fn seek(&self, ino: Ino, handle: Handle, offset: u64, what: Seek) -> Answer<u64> {
        let _u = (ino, handle, offset, what);
        todo!()
    }
    /// How much room there is.
    pub fn space(&self) -> Answer<FileSystemSpace> {
        todo!()
    }

    // ---- what people ask -------------------------------------------------------------------------------------------

    /// The inode at a path below the mountpoint (bytes, `/`-separated, no leading slash; empty = root). With `fetch`, lists
    /// folders on the way; else a name in an unlisted folder is `NotFound`.
    pub async fn resolve(&self, path: &[u8], fetch: bool) -> Ready<Ino> {
        let _u = (path, fetch);
        todo!()
    }
    /// The mount's state.
    pub async fn mount_status(&self) -> Ready<MountStatus> {
        todo!()
    }
    /// One item's state.
    pub async fn item_status(&self, ino: Ino) -> Ready<ItemStatus> {
        let _u = ino;
        todo!()
    }
    /// The states of what is in a folder, sorted by name; with `fetch` it is listed first if need be.
    pub async fn folder_status(&self, folder: Ino, fetch: bool) -> Ready<Vec<ItemStatus>> {
        let _u = (folder, fetch);
        todo!()
    }
    /// Items not in sync at or below `top`, at most `most`.
    pub async fn pending(&self, top: Ino, most: usize) -> Ready<Vec<ItemStatus>> {
        let _u = (top, most);
        todo!()
    }
    /// Sends pending changes at or below `top` now and asks the remote for its changes now; returns when asked, not when done.
    pub async fn sync_now(&self, top: Ino) -> Ready<()> {
        let _u = top;
        todo!()
    }
    /// Waits until nothing at or below `top` can go further by itself: true if all is in sync, false if something is left that
    /// needs a person or the remote (offline, error, held). Ends at `deadline` with `TimedOut`.
    pub async fn wait_in_sync(&self, top: Ino, deadline: Option<Duration>) -> Ready<bool> {
        let _u = (top, deadline);
        todo!()
    }
    /// Brings all bytes of a file here, or of everything below a folder (listing what is not listed).
    pub async fn hydrate(&self, top: Ino) -> Ready<u64> {
        let _u = top;
        todo!()
    }
    /// Gives space back: sets `unpinned` and drops content of what is in sync and not open. `dry_run` only tells.
    pub async fn free(&self, top: Ino, dry_run: bool) -> Ready<Freed> {
        let _u = (top, dry_run);
        todo!()
    }
    /// Sets a pin state.
    pub async fn set_pin(&self, ino: Ino, pin: Pin) -> Ready<()> {
        let _u = (ino, pin);
        todo!()
    }
    /// Bytes still to come for what is pinned at or below `top`.
    pub async fn pin_left(&self, top: Ino) -> Ready<u64> {
        let _u = top;
        todo!()
    }
    /// What happened to an item, oldest first.
    pub async fn history(&self, ino: Ino) -> Ready<Vec<Happened>> {
        let _u = ino;
        todo!()
    }
    /// Drops all clean content that is not pinned; `dry_run` only tells.
    pub async fn clear_cache(&self, dry_run: bool) -> Ready<Freed> {
        let _u = dry_run;
        todo!()
    }
    /// Compares hydrated files in sync with what the catalog knows of them: paths that differ, with what differs.
    pub async fn verify_cache(&self) -> Ready<Vec<(Vec<u8>, String)>> {
        todo!()
    }
    /// What is being transferred now.
    pub fn progress(&self) -> Vec<Progress> {
        todo!()
    }
    /// Resolves when something that `mount_status`, `item_status` or `progress` shows may have changed since `seen`; returns
    /// the new mark.
    pub async fn changed(&self, seen: u64) -> u64 {
        let _u = seen;
        todo!()
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Sends what is pending while that makes progress, at most `drain` long: how many items are left.
    pub async fn drain(&self, drain: Duration) -> u64 {
        let _u = drain;
        todo!()
    }
    /// Stops the workers, makes everything durable and lets go of the state directory. Verbs answer `Stopped` afterwards.
    pub async fn stop(&self) {
        todo!()
    }
    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        todo!()
    }
}
