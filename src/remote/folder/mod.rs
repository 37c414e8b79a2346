//! A local directory as a remote.
//!
//! Everything is asked relative to the root's descriptor and no link is ever followed, so nothing outside the root can be
//! reached, whoever rearranges it meanwhile. Links, devices, pipes and sockets in it are not shown.
//!
//! A write goes to a hidden temporary beside its target, is flushed, and is then exchanged with the target in one step; what
//! came out is looked at, and if it is not the version expected, it is exchanged back. So nothing is replaced unseen,
//! although a file system knows no conditions. Versions are made of inode, birth time, size and mtime; one whose mtime is
//! within a clock tick (20 ms on local file systems, 2 s on others) of now is unsettled, since the next edit could get the
//! same. Identities are inode and birth time, so a number used again is another identity. FAT, exFAT and FUSE count their
//! inodes anew at each mount: there numbers are part of neither.
//!
//! An edit that leaves size and mtime as they were changes no version. On local file systems the ctime of a file is noted in
//! its `extra`: when another one is noted, the engine looks once whether the content is the same.
//!
//! A file system mounted below the root is noted where it was seen, in the entry's `extra`: while it is away, what was in it
//! answers `Away`, and nothing counts as removed.
//!
//! Every request waits on one of a few threads of the remote's own: a network file system whose server is away can hang in
//! the kernel for as long as it likes, and nothing else does. Who asked is answered in time by the layers above; what is
//! late then changes nothing any more.
//!
//! On local file systems changes are told by inotify, for listed folders only; on network and FUSE file systems, where
//! other machines' changes are told to nobody, and when the kernel's watches are used up, the engine must walk.

mod awaited;
mod change;
mod disk;
mod extended;
mod feed;
mod identity;
mod inherit;
mod mounts;
mod over;
mod parts;
mod read;
mod requests;
mod systems;
mod threads;
mod uuid;
mod waiting;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Conditional, Locator, RemoteError, RemotePath, Result};
pub use awaited::AwaitedFolder;
use disk::Root;
use feed::Feed;
use parts::Parts;
use requests::Listings;
use threads::{Threads, Wanted};
pub(super) use waiting::HiddenName;

/// Is a directory as a remote. Clones share everything.
#[derive(Clone, Debug)]
pub struct FolderRemote {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Whether names that belong to dewfs are listed as well.
    hidden: bool,
    state: Mutex<State>,
    listings: Mutex<Listings>,
    feed: Feed,
    threads: Threads,
}

#[derive(Clone, Debug)]
struct State {
    root: Arc<Root>,
    conditional: Conditional,
    writable: bool,
    stable_ids: bool,
}

impl FolderRemote {
    /// Opens the directory at `root`. `NotFound`, `Denied`, and `Unsupported` if it is no directory or the kernel is older
    /// than Linux 5.6.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_on(root, Threads::default(), Arc::default())
    }

    /// The same, with the threads that its requests will wait on, and what is known of file systems below it.
    fn open_on(root: &Path, threads: Threads, parts: Arc<Parts>) -> Result<Self> {
        let path = std::fs::canonicalize(root).map_err(|error| {
            let kind = rustix::io::Errno::from_io_error(&error)
                .map_or(super::ErrorKind::Other, disk::kind_of);
            RemoteError::new(kind, "open", root.display()).because(error)
        })?;
        let opened = Arc::new(Root::open(&path, parts)?);
        let feed = Feed::new(&path, opened.is_shared, opened.parts.clone(), threads.clone());
        let state = State {
            stable_ids: has_birth_times(&opened),
            root: opened,
            conditional: Conditional::Atomic,
            writable: true,
        };
        let (state, listings) = (Mutex::new(state), Mutex::default());
        Ok(Self {
            shared: Arc::new(Shared { path, hidden: false, state, listings, feed, threads }),
        })
    }

    /// The same remote, freshly opened, that lists names which belong to dewfs as well: for who only passes them on.
    pub(super) fn with_hidden_names(mut self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.hidden = true;
        }
        self
    }

    /// As when the kernel has no more watches.
    #[cfg(test)]
    pub(super) fn tells_no_changes(&self) {
        self.shared.feed.give_up();
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.shared.path.clone()
    }

    fn state(&self) -> State {
        self.locked().clone()
    }

    /// What an entry noted of itself when it was seen tells of file systems mounted below.
    fn recall(&self, at: &Locator) {
        if parts::noted(at).is_some() {
            self.state().root.parts.recall(at);
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something that waits for the disk where that holds up nobody else.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        at: &RemotePath,
        act: impl FnOnce(&Self, &Wanted) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let done = self.shared.threads.run(move |wanted| act(&this, wanted)).await;
        done.unwrap_or_else(|| Err(not_run(operation, at)))
    }
}

/// There was no thread for it, or it broke.
fn not_run(operation: &'static str, at: impl ToString) -> RemoteError {
    RemoteError::new(super::ErrorKind::Offline, operation, at).because("no thread waits for it")
}

fn has_birth_times(root: &Root) -> bool {
    root.stat(&RemotePath::root()).ok().flatten().is_some_and(|seen| seen.id.is_some())
}
