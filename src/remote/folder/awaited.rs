//! A directory that may not be there yet: an unmounted disk, a network share without network.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use async_trait::async_trait;

use super::parts::Parts;
use super::threads::Threads;
use super::{FolderRemote, identity, not_run};
use crate::remote::behind::Behind;
use crate::remote::{
    Capabilities, Conditional, ErrorKind, FeedKind, Locator, Remote, RemoteError, Result,
};

/// How long the start waits for the directory: one that is there answers at once, one that hangs is awaited.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Is a directory that is opened when it is there: until then every request answers `Offline`, and
/// [`probe`](Remote::probe) says why.
#[derive(Clone, Debug)]
pub struct AwaitedFolder {
    path: PathBuf,
    opened: Arc<Mutex<Option<Arc<FolderRemote>>>>,
    threads: Threads,
    parts: Arc<Parts>,
}

impl AwaitedFolder {
    /// The directory at `path`, opened at once if it is there and answers.
    pub fn new(path: &Path) -> Self {
        let this = Self {
            path: path.to_owned(),
            opened: Arc::default(),
            threads: Threads::default(),
            parts: Arc::default(),
        };
        let (tell, told) = mpsc::channel::<()>();
        let opening = this.clone();
        this.threads.leave(move || {
            if let Err(error) = opening.open() {
                tracing::debug!(%error, "the remote is awaited");
            }
            drop(tell);
        });
        if told.recv_timeout(AT_ONCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::debug!(path = %path.display(), "the remote does not answer yet");
        }
        this
    }

    fn open(&self) -> Result<Arc<FolderRemote>> {
        let opened =
            Arc::new(FolderRemote::open_on(&self.path, self.threads.clone(), self.parts.clone())?);
        let mut slot = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(slot.get_or_insert(opened).clone())
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
            settable_extended: true,
            version_tick: Duration::ZERO,
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
        let this = self.clone();
        let opened = self.threads.run(move |_| this.open()).await;
        Ok(opened.unwrap_or_else(|| Err(not_run("open", self.path.display())))?)
    }

    async fn there(&self) -> Result<Arc<dyn Remote>> {
        self.find().await.map_err(|error| RemoteError { kind: ErrorKind::Offline, ..error })
    }

    fn interested_before(&self, folder: &Locator) {
        self.parts.recall(folder);
    }

    fn is_same(&self, known: &str, told: &str) -> bool {
        identity::is_same(known, told)
    }
}
