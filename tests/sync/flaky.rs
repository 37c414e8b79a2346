//! One engine's way to the remote: requests and answers get lost on it, changes are held back on it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dewfs::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, ErrorKind, Expect, FeedKind,
    ListPage, Locator, Metadata, Observed, PageToken, Remote, RemoteError, Result, Space, Upload,
    Version,
};
use fastrand::Rng;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

/// Says to which requests something happens.
#[derive(Debug)]
pub(super) struct Dice {
    rng: Mutex<Rng>,
    per_mille: AtomicU32,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let rng = Mutex::new(Rng::with_seed(seed));
        Arc::new(Self { rng, per_mille: AtomicU32::new(0) })
    }

    pub(super) fn faults(&self, per_mille: u32) {
        self.per_mille.store(per_mille, Ordering::SeqCst);
    }

    fn throw(&self) -> Strike {
        let per_mille = self.per_mille.load(Ordering::SeqCst);
        let mut rng = self.rng.lock().unwrap();
        if per_mille == 0 || rng.u32(..1000) >= per_mille {
            return Strike::None;
        }
        let all = [Strike::Request, Strike::Answer, Strike::Answer, Strike::Slow, Strike::Cut];
        all[rng.usize(..all.len())]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strike {
    None,
    /// It is lost on its way.
    Request,
    /// It is carried out, and its answer lost.
    Answer,
    /// It takes its time.
    Slow,
    /// The stream of a read breaks.
    Cut,
}

/// Is one incarnation's way to the remote.
#[derive(Clone, Debug)]
pub(super) struct Flaky {
    inner: Arc<dyn Remote>,
    dice: Arc<Dice>,
    cut: Arc<AtomicBool>,
    online: Arc<AtomicBool>,
    /// Nobody tells of changes.
    deaf: bool,
    /// Changes wait while this is true.
    held: Arc<watch::Sender<bool>>,
}

impl Flaky {
    pub(super) fn new(inner: Arc<dyn Remote>, dice: Arc<Dice>, deaf: bool) -> Self {
        let (cut, online) = (Arc::default(), Arc::new(AtomicBool::new(true)));
        Self { inner, dice, cut, online, deaf, held: Arc::new(watch::Sender::new(false)) }
    }

    /// Lets no change begin, or lets those that wait go on.
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(super) fn cut_off(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub(super) fn set_online(&self, online: bool) {
        self.online.store(online, Ordering::SeqCst);
    }

    fn lost(&self) -> bool {
        self.cut.load(Ordering::SeqCst) || !self.online.load(Ordering::SeqCst)
    }

    async fn change<T>(&self, at: &Locator, ask: impl Future<Output = Result<T>>) -> Result<T> {
        // Nobody else has the sender: it lives as long as this.
        drop(self.held.subscribe().wait_for(|held| !held).await);
        self.call(at, ask).await
    }

    async fn call<T>(&self, at: &Locator, ask: impl Future<Output = Result<T>>) -> Result<T> {
        let strike = self.dice.throw();
        let offline = || Err(RemoteError::new(ErrorKind::Offline, "ask", &at.path));
        if strike == Strike::Slow {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        if self.lost() || strike == Strike::Request {
            return offline();
        }
        let outcome = ask.await;
        if self.lost() || strike == Strike::Answer {
            return offline();
        }
        outcome
    }
}

#[async_trait]
impl Remote for Flaky {
    fn capabilities(&self) -> Capabilities {
        let can = self.inner.capabilities();
        if self.deaf { Capabilities { feed: FeedKind::Walk, ..can } } else { can }
    }
    async fn probe(&self) -> Result<Capabilities> {
        if self.lost() {
            return Err(RemoteError::new(ErrorKind::Offline, "probe", "/"));
        }
        self.inner.probe().await
    }
    async fn identity(&self) -> Result<Option<String>> {
        if self.lost() {
            return Err(RemoteError::new(ErrorKind::Offline, "identity", "/"));
        }
        self.inner.identity().await
    }
    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        self.call(at, self.inner.stat(at)).await
    }
    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
        self.call(folder, self.inner.list(folder, page)).await
    }
    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        let stream = self.call(at, self.inner.read(at, version, range)).await?;
        if self.dice.throw() != Strike::Cut {
            return Ok(stream);
        }
        let broken = Err(RemoteError::new(ErrorKind::Offline, "read", &at.path));
        let bytes = futures_util::stream::once(std::future::ready(broken)).boxed();
        Ok(ByteStream { bytes, ..stream })
    }
    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        self.change(at, self.inner.write(at, body, expect)).await
    }
    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        self.change(at, self.inner.make_folder(at)).await
    }
    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        tag: &AttemptTag,
    ) -> Result<Observed> {
        self.change(from, self.inner.rename(from, to, expect, tag)).await
    }
    async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
        self.change(at, self.inner.remove(at, expect, tag)).await
    }
    async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
        self.change(at, self.inner.tidy(at, expect, tag)).await
    }
    async fn set_metadata(
        &self,
        at: &Locator,
        metadata: &Metadata,
        expect: Expect,
    ) -> Result<Observed> {
        self.change(at, self.inner.set_metadata(at, metadata, expect)).await
    }
    async fn space(&self) -> Result<Option<Space>> {
        self.inner.space().await
    }
    async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
        let root = Locator::at(dewfs::remote::RemotePath::root());
        if self.deaf {
            return Err(RemoteError::new(ErrorKind::Unsupported, "changes of", &root.path));
        }
        self.call(&root, self.inner.changes(since)).await
    }
    fn watch(&self) -> Option<BoxStream<'static, ()>> {
        if self.deaf { None } else { self.inner.watch() }
    }
    fn interested(&self, folder: &Locator) {
        if !self.deaf {
            self.inner.interested(folder);
        }
    }
}
