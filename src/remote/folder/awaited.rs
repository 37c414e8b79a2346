//! A directory that may not be there yet: an unmounted disk, a network share without network.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::FolderRemote;
use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Conditional, Cursor, ErrorKind, Expect,
    FeedKind, ListPage, Locator, Metadata, Observed, PageToken, Remote, RemoteError, Result, Space,
    Upload, Version,
};

/// Is a directory that is opened when it is there: until then every request answers `Offline`, and
/// [`probe`](Remote::probe) says why.
#[derive(Clone, Debug)]
pub struct AwaitedFolder {
    path: PathBuf,
    opened: Arc<Mutex<Option<FolderRemote>>>,
}

impl AwaitedFolder {
    /// The directory at `path`, opened at once if it is there.
    pub fn new(path: &Path) -> Self {
        let opened = FolderRemote::open(path).ok();
        Self { path: path.to_owned(), opened: Arc::new(Mutex::new(opened)) }
    }

    fn now(&self) -> Option<FolderRemote> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens it if it is not; the error is the one people should read.
    async fn look(&self) -> Result<FolderRemote> {
        if let Some(opened) = self.now() {
            return Ok(opened);
        }
        let path = self.path.clone();
        let opened = match tokio::task::spawn_blocking(move || FolderRemote::open(&path)).await {
            Ok(opened) => opened?,
            Err(stopped) => {
                let at = self.path.display();
                return Err(RemoteError::new(ErrorKind::Other, "open", at).because(stopped));
            }
        };
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened.clone());
        Ok(opened)
    }

    async fn get(&self) -> Result<FolderRemote> {
        self.look().await.map_err(|error| RemoteError { kind: ErrorKind::Offline, ..error })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Remote for AwaitedFolder {
    fn capabilities(&self) -> Capabilities {
        self.now().map_or_else(
            || Capabilities {
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
            },
            |opened| opened.capabilities(),
        )
    }

    async fn probe(&self) -> Result<Capabilities> {
        self.look().await?.probe().await
    }

    async fn identity(&self) -> Result<Option<String>> {
        self.look().await?.identity().await
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        self.get().await?.stat(at).await
    }

    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
        self.get().await?.list(folder, page).await
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        self.get().await?.read(at, version, range).await
    }

    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        self.get().await?.write(at, body, expect).await
    }

    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        self.get().await?.make_folder(at).await
    }

    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        tag: &AttemptTag,
    ) -> Result<Observed> {
        self.get().await?.rename(from, to, expect, tag).await
    }

    async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
        self.get().await?.remove(at, expect, tag).await
    }

    async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
        self.get().await?.tidy(at, expect, tag).await
    }

    async fn set_metadata(
        &self,
        at: &Locator,
        metadata: &Metadata,
        expect: Expect,
    ) -> Result<Observed> {
        self.get().await?.set_metadata(at, metadata, expect).await
    }

    fn clock_ahead(&self) -> Option<i64> {
        None
    }

    async fn space(&self) -> Result<Option<Space>> {
        self.get().await?.space().await
    }

    async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
        self.get().await?.changes(since).await
    }

    fn watch(&self) -> Option<BoxStream<'static, ()>> {
        self.now()?.watch()
    }

    fn interested(&self, folder: &Locator) {
        if let Some(opened) = self.now() {
            opened.interested(folder);
        }
    }
}
