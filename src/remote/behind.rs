//! Remotes that stand for another one that has to be found first.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, Expect, ListPage, Locator, Metadata,
    Observed, PageToken, Remote, RemotePath, Result, Space, Upload, Version,
};

/// Is what stands for another remote: every request goes to that one once it is found.
#[async_trait]
pub(super) trait Behind: Send + Sync + fmt::Debug {
    /// The other one, if it is found already.
    fn known(&self) -> Option<Arc<dyn Remote>>;

    /// What is assumed of it before.
    fn assumed(&self) -> Capabilities;

    /// Finds it; the error is the one that people should read.
    async fn find(&self) -> Result<Arc<dyn Remote>>;

    /// Is told what is listed here while the other one is not found yet.
    fn interested_before(&self, folder: &Locator) {
        let _unused = folder;
    }

    /// Whether two identities are of one remote.
    fn is_same(&self, known: &str, told: &str) -> bool {
        self.known().map_or(known == told, |remote| remote.is_same(known, told))
    }

    /// Finds it for a request that goes on by itself later.
    async fn there(&self) -> Result<Arc<dyn Remote>> {
        self.find().await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: Behind> Remote for B {
    fn capabilities(&self) -> Capabilities {
        self.known().map_or_else(|| self.assumed(), |known| known.capabilities())
    }

    async fn probe(&self) -> Result<Capabilities> {
        self.find().await?.probe().await
    }

    async fn identity(&self) -> Result<Option<String>> {
        self.find().await?.identity().await
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        self.there().await?.stat(at).await
    }

    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
        self.there().await?.list(folder, page).await
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        self.there().await?.read(at, version, range).await
    }

    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        self.there().await?.write(at, body, expect).await
    }

    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        self.there().await?.make_folder(at).await
    }

    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        tag: &AttemptTag,
    ) -> Result<Observed> {
        self.there().await?.rename(from, to, expect, tag).await
    }

    async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
        self.there().await?.remove(at, expect, tag).await
    }

    async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
        self.there().await?.tidy(at, expect, tag).await
    }

    async fn set_metadata(
        &self,
        at: &Locator,
        metadata: &Metadata,
        expect: Expect,
    ) -> Result<Observed> {
        self.there().await?.set_metadata(at, metadata, expect).await
    }

    fn clock_ahead(&self) -> Option<i64> {
        self.known()?.clock_ahead()
    }

    async fn space(&self) -> Result<Option<Space>> {
        self.there().await?.space().await
    }

    async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
        self.there().await?.changes(since).await
    }

    fn watch(&self) -> Option<BoxStream<'static, ()>> {
        self.known()?.watch()
    }

    fn interested(&self, folder: &Locator) {
        match self.known() {
            Some(known) => known.interested(folder),
            None => self.interested_before(folder),
        }
    }

    fn divides(&self, from: &RemotePath, folder: &RemotePath) -> bool {
        self.known().is_some_and(|known| known.divides(from, folder))
    }

    fn is_same(&self, known: &str, told: &str) -> bool {
        Behind::is_same(self, known, told)
    }
}
