//! How a decorator forwards: one place for the whole trait, and two hooks for what the decorator adds.

use crate::remote::RemotePath;

/// Is what is asked of the remote within.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// In words, as errors say it.
    pub(super) operation: &'static str,
    /// What it is about.
    pub(super) at: &'a RemotePath,
    /// Whether it has time although the remote is known to be away.
    pub(super) is_patient: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn of(operation: &'static str, at: &'a RemotePath) -> Self {
        Self { operation, at, is_patient: false }
    }

    pub(super) fn patiently(operation: &'static str, at: &'a RemotePath) -> Self {
        Self { is_patient: true, ..Self::of(operation, at) }
    }
}

/// Makes a type with a remote in `inner` a remote. It has four methods of its own: `ask` for what may be asked again, `change`
/// for what is sent once, and `read_within` and `write_within`, which move content.
macro_rules! layer {
    ($layer:ty) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl $crate::remote::Remote for $layer {
            fn capabilities(&self) -> Capabilities {
                self.inner.capabilities()
            }

            async fn probe(&self) -> Result<Capabilities> {
                let root = RemotePath::root();
                self.ask(Asked::of("probe", &root), || self.inner.probe()).await
            }

            async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
                self.ask(Asked::of("stat", &at.path), || self.inner.stat(at)).await
            }

            async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
                let ask = || self.inner.list(folder, page.clone());
                self.ask(Asked::of("list", &folder.path), ask).await
            }

            async fn read(
                &self,
                at: &Locator,
                version: &Version,
                range: Range<u64>,
            ) -> Result<ByteStream> {
                self.read_within(at, version, range).await
            }

            async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
                self.write_within(at, body, expect).await
            }

            async fn make_folder(&self, at: &Locator) -> Result<Observed> {
                let ask = self.inner.make_folder(at);
                self.change(Asked::of("make folder", &at.path), ask).await
            }

            async fn rename(
                &self,
                from: &Locator,
                to: &Locator,
                expect: Expect,
                tag: &AttemptTag,
            ) -> Result<Observed> {
                let ask = self.inner.rename(from, to, expect, tag);
                self.change(Asked::of("rename", &from.path), ask).await
            }

            async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
                let ask = self.inner.remove(at, expect, tag);
                self.change(Asked::of("remove", &at.path), ask).await
            }

            async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
                let ask = self.inner.tidy(at, expect, tag);
                self.change(Asked::of("tidy", &at.path), ask).await
            }

            async fn set_metadata(
                &self,
                at: &Locator,
                metadata: &Metadata,
                expect: Expect,
            ) -> Result<Observed> {
                let ask = self.inner.set_metadata(at, metadata, expect);
                self.change(Asked::of("set metadata of", &at.path), ask).await
            }

            async fn identity(&self) -> Result<Option<String>> {
                let root = RemotePath::root();
                self.ask(Asked::of("identity", &root), || self.inner.identity()).await
            }

            async fn space(&self) -> Result<Option<Space>> {
                let root = RemotePath::root();
                self.ask(Asked::of("space", &root), || self.inner.space()).await
            }

            async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
                let root = RemotePath::root();
                self.ask(Asked::patiently("changes of", &root), || self.inner.changes(since)).await
            }

            fn clock_ahead(&self) -> Option<i64> {
                self.inner.clock_ahead()
            }

            fn divides(&self, from: &RemotePath, folder: &RemotePath) -> bool {
                self.inner.divides(from, folder)
            }

            fn is_same(&self, known: &str, told: &str) -> bool {
                self.inner.is_same(known, told)
            }

            fn watch(&self) -> Option<BoxStream<'static, ()>> {
                self.inner.watch()
            }

            fn interested(&self, folder: &Locator) {
                self.inner.interested(folder);
            }
        }
    };
}
pub(super) use layer;
