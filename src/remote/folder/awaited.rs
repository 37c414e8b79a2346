//! A directory that may not be there yet: an unmounted disk, a network share without network.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::FolderRemote;
use crate::remote::behind::Behind;
use crate::remote::{Capabilities, Conditional, ErrorKind, FeedKind, Remote, RemoteError, Result};

/// Is a directory that is opened when it is there: until then every request answers `Offline`, and
/// [`probe`](Remote::probe) says why.
#[derive(Clone, Debug)]
pub struct AwaitedFolder {
    path: PathBuf,
    opened: Arc<Mutex<Option<Arc<FolderRemote>>>>,
}

impl AwaitedFolder {
    /// The directory at `path`, opened at once if it is there.
    pub fn new(path: &Path) -> Self {
        let opened = FolderRemote::open(path).ok().map(Arc::new);
        Self { path: path.to_owned(), opened: Arc::new(Mutex::new(opened)) }
    }

    fn now(&self) -> Option<Arc<FolderRemote>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Behind for AwaitedFolder {
    fn known(&self) -> Option<Arc<dyn Remote>> {
        self.now().map(|opened| opened as Arc<dyn Remote>)
    }

    fn assumed(&self) -> Capabilities {
        Capabilities {
            ranges: true,
            conditional: Conditional::Atomic,
            writable: true,
            stable_ids: true,
            rename: true,
            server_copy: false,
            settable_mtime: true,
            settable_mode: true,
            version_tick: std::time::Duration::ZERO,
            feed: FeedKind::Inotify,
            product: "directory".to_owned(),
            identity: None,
            folder_versions: false,
            dot_names: true,
        }
    }

    async fn find(&self) -> Result<Arc<dyn Remote>> {
        if let Some(opened) = self.known() {
            return Ok(opened);
        }
        let path = self.path.clone();
        let opened = match tokio::task::spawn_blocking(move || FolderRemote::open(&path)).await {
            Ok(opened) => Arc::new(opened?),
            Err(stopped) => {
                let at = self.path.display();
                return Err(RemoteError::new(ErrorKind::Other, "open", at).because(stopped));
            }
        };
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened.clone());
        Ok(opened)
    }

    async fn there(&self) -> Result<Arc<dyn Remote>> {
        self.find().await.map_err(|error| RemoteError { kind: ErrorKind::Offline, ..error })
    }
}
