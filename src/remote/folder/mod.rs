//! A local directory as a remote.
//!
//! Everything is asked relative to the root's descriptor and no link is ever followed, so nothing outside the root can be
//! reached, whoever rearranges it meanwhile. Links, devices, pipes and sockets in it are not shown.
//!
//! A write goes to a hidden temporary beside its target, is flushed, and is then exchanged with the target in one step; what
//! came out is looked at, and if it is not the version expected, it is exchanged back. So nothing is replaced unseen,
//! although a file system knows no conditions. Versions are made of inode, birth time, size and mtime; one whose mtime is
//! within a clock tick (20 ms on local file systems, 2 s on others) of now is unsettled, since the next edit could get the
//! same. Identities are inode and birth time, so a number used again is another identity.
//!
//! On local file systems changes are told by inotify, for listed folders only; on network and FUSE file systems, where
//! other machines' changes are told to nobody, and when the kernel's watches are used up, the engine must walk.

mod awaited;
mod change;
mod disk;
mod feed;
mod inherit;
mod read;
mod requests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Conditional, RemoteError, RemotePath, Result};
pub use awaited::AwaitedFolder;
use disk::Root;
use feed::Feed;
use requests::Listings;

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
        let path = std::fs::canonicalize(root).map_err(|error| {
            let kind = rustix::io::Errno::from_io_error(&error)
                .map_or(super::ErrorKind::Other, disk::kind_of);
            RemoteError::new(kind, "open", root.display()).because(error)
        })?;
        let opened = Arc::new(Root::open(&path)?);
        let feed = Feed::new(&path, opened.is_shared);
        let state = State {
            stable_ids: has_birth_times(&opened),
            root: opened,
            conditional: Conditional::Atomic,
            writable: true,
        };
        let (state, listings) = (Mutex::new(state), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { path, hidden: false, state, listings, feed }) })
    }

    /// The same remote, freshly opened, that lists names which belong to dewfs as well: for who only passes them on.
    pub(super) fn with_hidden_names(mut self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.hidden = true;
        }
        self
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.shared.path.clone()
    }

    fn state(&self) -> State {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs something that waits for the disk where that is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        at: &RemotePath,
        act: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || act(&this)).await {
            Ok(result) => result,
            Err(stopped) => {
                Err(RemoteError::new(super::ErrorKind::Other, operation, at).because(stopped))
            }
        }
    }
}

fn has_birth_times(root: &Root) -> bool {
    root.stat(&RemotePath::root()).ok().flatten().is_some_and(|meta| meta.has_born)
}
