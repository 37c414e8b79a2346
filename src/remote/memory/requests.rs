//! A handle to a memory store: every trait method as one or more requests that faults and gates can meet.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::fault::{Fault, Moment, Operation, Step};
use super::store::MemoryStore;
use super::tree::{Put, Tree, fail};
use crate::remote::names::is_hidden;
use crate::remote::{
    AttemptTag, Body, ByteStream, Capabilities, ChangePage, Conditional, Cursor, ErrorKind, Expect,
    FeedKind, Kind, ListPage, Listed, Locator, Metadata, Name, Observed, PageToken, Remote,
    RemotePath, Result, Space, Upload, Version,
};

/// Is one client of a [`MemoryStore`]. Clones are the same client.
#[derive(Clone, Debug)]
pub struct MemoryRemote {
    pub(super) store: Arc<MemoryStore>,
    client: Arc<Client>,
}

#[derive(Debug)]
struct Client {
    number: u64,
    online: AtomicBool,
    cut: AtomicBool,
    counts: Mutex<BTreeMap<Operation, u64>>,
}

/// Is a request on its way: what it is about, and what meets it.
struct Way<'a> {
    remote: &'a MemoryRemote,
    op: Operation,
    at: RemotePath,
    fault: Option<Fault>,
}

impl MemoryRemote {
    pub(super) fn new(store: Arc<MemoryStore>, number: u64) -> Self {
        let client = Client {
            number,
            online: AtomicBool::new(true),
            cut: AtomicBool::new(false),
            counts: Mutex::default(),
        };
        Self { store, client: Arc::new(client) }
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    /// Which client of its store this is; [`Step::handle`] names it.
    pub fn number(&self) -> u64 {
        self.client.number
    }

    /// Parts this client from the store, or ends that.
    pub fn set_online(&self, online: bool) {
        self.client.online.store(online, Ordering::SeqCst);
    }

    /// Cuts this client off for ever, as a crash does: nothing it asks, or has asked and that is not applied yet, is ever
    /// applied, and it gets no more answers than `Offline`.
    pub fn cut_off(&self) {
        self.client.cut.store(true, Ordering::SeqCst);
    }

    /// How many requests of each kind this client sent.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        self.client.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests this client sent.
    pub fn requests(&self) -> u64 {
        self.counts().values().sum()
    }

    fn is_reachable(&self) -> bool {
        self.client.online.load(Ordering::SeqCst)
            && !self.client.cut.load(Ordering::SeqCst)
            && self.store.tree().online
    }

    fn count(&self, op: Operation) {
        let mut counts = self.client.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(op).or_default() += 1;
        drop(counts);
        *self.store.tree().counts.entry(op).or_default() += 1;
    }

    /// One request: arrives, is applied, is answered; faults and gates in between.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        op: Operation,
        at: &RemotePath,
        apply: impl FnOnce(&mut Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.call_looking(op, at, |_| Ok(()), apply, false).await
    }

    /// One request to a store that first looks and then, if `apart`, lets others come in between before it acts.
    pub(super) async fn call_looking<T: Send + 'static>(
        &self,
        op: Operation,
        at: &RemotePath,
        look: impl FnOnce(&mut Tree) -> Result<()> + Send + 'static,
        act: impl FnOnce(&mut Tree) -> Result<T> + Send + 'static,
        apart: bool,
    ) -> Result<T> {
        self.count(op);
        let way = self.arrive(op, at).await?;
        if way.fault == Some(Fault::DeliverLate) {
            let request = move |tree: &mut Tree| {
                if look(tree).is_ok() {
                    drop(act(tree));
                }
            };
            self.store.tree().late.push_back(Box::new(request));
            return fail(ErrorKind::Offline, op, at);
        }
        let mut result = self.store.act(|tree| look(tree));
        if apart && result.is_ok() && way.pause(Moment::Looked).await.is_some() {
            result = fail(ErrorKind::Offline, op, at);
        }
        if result.is_ok() && self.client.cut.load(Ordering::SeqCst) {
            return fail(ErrorKind::Offline, op, at);
        }
        let result = match result {
            Ok(()) => self.store.act(act),
            Err(error) => Err(error),
        };
        way.answer(result).await
    }

    async fn arrive(&self, op: Operation, at: &RemotePath) -> Result<Way<'_>> {
        if !self.is_reachable() {
            return fail(ErrorKind::Offline, op, at);
        }
        let mut way = Way { remote: self, op, at: at.clone(), fault: None };
        let held = way.pause(Moment::Arrives).await;
        way.fault = held.or_else(|| self.strike(op, at));
        if let Some(Fault::Delay(time)) = way.fault {
            tokio::time::sleep(time).await;
        }
        if let Some(Fault::Fail(kind)) = &way.fault {
            return fail(kind.clone(), op, at);
        }
        if !self.is_reachable() {
            return fail(ErrorKind::Offline, op, at);
        }
        Ok(way)
    }

    fn strike(&self, op: Operation, at: &RemotePath) -> Option<Fault> {
        let mut tree = self.store.tree();
        if let Some(fault) = tree.rules.iter_mut().find_map(|rule| rule.strike(op, at)) {
            return Some(fault);
        }
        let random = tree.random_faults.clone()?;
        if random.faults.is_empty() || tree.random.u32(0..1000) >= random.per_mille {
            return None;
        }
        let which = tree.random.usize(0..random.faults.len());
        random.faults.get(which).cloned()
    }

    /// What somebody who is no request can see: whether the store's conditions are atomic.
    pub(super) fn level(&self) -> Conditional {
        self.store.tree().options.conditional
    }

    async fn raw_write(&self, at: &Locator, put: Put, expect: Expect) -> Result<Observed> {
        let path = at.path.clone();
        self.call(Operation::Write, &at.path, move |tree| tree.write(&path, put, &expect)).await
    }

    fn need_writable(&self, op: Operation, at: &RemotePath) -> Result<()> {
        match self.store.tree().options.writable {
            true => Ok(()),
            false => fail(ErrorKind::ReadOnly, op, at),
        }
    }
}

impl Way<'_> {
    async fn pause(&self, moment: Moment) -> Option<Fault> {
        let gate = self.remote.store.tree().gate.clone()?;
        let handle = self.remote.client.number;
        (gate.0)(Step { handle, operation: self.op, path: self.at.clone(), moment }).await
    }

    async fn answer<T>(self, result: Result<T>) -> Result<T> {
        let lost = self.pause(Moment::Answers).await.is_some();
        if let Some(Fault::DelayAnswer(time)) = self.fault {
            tokio::time::sleep(time).await;
        }
        if lost || self.fault == Some(Fault::LoseAnswer) || !self.remote.is_reachable() {
            return fail(ErrorKind::Offline, self.op, &self.at);
        }
        result
    }
}

/// Reads an upload's bytes and refuses what is not what was promised.
async fn take(at: &Locator, body: &Upload) -> Result<Put> {
    let content = match &body.body {
        Body::Memory(bytes) => bytes.clone(),
        Body::File(file) => match tokio::fs::read(file).await {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => {
                let refused: Result<Put> = fail(ErrorKind::Other, Operation::Write, &at.path);
                return refused.map_err(|refusal| refusal.because(error));
            }
        },
    };
    let known = body.digest.hash != [0; 32];
    let wrong_bytes = known && *blake3::hash(&content).as_bytes() != body.digest.hash;
    if content.len() as u64 != body.digest.size || wrong_bytes {
        let refused: Result<Put> = fail(ErrorKind::Other, Operation::Write, &at.path);
        return refused.map_err(|refusal| refusal.because("the body is not what its digest says"));
    }
    if let Some(progress) = &body.progress {
        progress(content.len() as u64);
    }
    if body.still_whole.as_ref().is_some_and(|whole| !whole()) {
        let refused: Result<Put> = fail(ErrorKind::Other, Operation::Write, &at.path);
        return refused.map_err(|refusal| refusal.because("changed while it was sent"));
    }
    Ok(Put { content, mtime: body.mtime, mode: body.mode })
}

fn pieces(
    content: &Bytes,
    piece: usize,
    broken: Option<u64>,
    at: &RemotePath,
) -> BoxStream<'static, Result<Bytes>> {
    let whole = content.len();
    let sent = broken.and_then(|after| usize::try_from(after).ok()).map_or(whole, |n| n.min(whole));
    let piece = piece.max(1);
    let mut items: Vec<Result<Bytes>> = (0..sent.div_ceil(piece))
        .map(|i| Ok(content.slice(i * piece..sent.min((i + 1) * piece))))
        .collect();
    if broken.is_some() && sent < whole {
        items.push(fail(ErrorKind::Offline, Operation::Read, at));
    }
    stream::iter(items).boxed()
}

fn page_token(page: &PageToken, folder: &RemotePath) -> Result<(u64, u64)> {
    let parts = page.0.split_once('-');
    let parsed = parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parsed {
        Some(token) => Ok(token),
        None => fail(ErrorKind::Corrupt, Operation::List, folder),
    }
}

fn list(tree: &mut Tree, folder: &RemotePath, page: Option<&PageToken>) -> Result<ListPage> {
    if !tree.is_folder(folder) {
        return fail(ErrorKind::NotFound, Operation::List, folder);
    }
    let (listing, after) = match page {
        Some(page) => {
            let (listing, after) = page_token(page, folder)?;
            (listing, Some(after))
        }
        None => (tree.next(), None),
    };
    let mut names = tree.shuffled(folder, listing);
    names.retain(|(key, name)| {
        after.is_none_or(|after| *key > after) && !is_hidden(name.as_bytes())
    });
    let more = names.len() > tree.options.page;
    names.truncate(tree.options.page.max(1));
    let last = names.last().map(|(key, _)| *key);
    let next = last.filter(|_| more).map(|key| PageToken(format!("{listing}-{key}")));
    let listed = |name: Name| {
        let entry = tree.stat(&folder.child(name.clone()))?;
        Some(Listed { name, entry })
    };
    Ok(ListPage { entries: names.into_iter().filter_map(|(_, name)| listed(name)).collect(), next })
}

fn changes(tree: &mut Tree, since: Option<&Cursor>) -> Result<ChangePage> {
    let end = tree.hints.len();
    let root = RemotePath::root();
    let Some(since) = since else {
        return Ok(ChangePage { hints: Vec::new(), cursor: Cursor(end.to_string()), more: false });
    };
    let Some(from) = since.0.parse::<usize>().ok().filter(|n| (tree.forgotten..=end).contains(n))
    else {
        return fail(ErrorKind::CursorExpired, Operation::Changes, &root);
    };
    let to = end.min(from + tree.options.hint_page.max(1));
    let mut hints = tree.hints.get(from..to).unwrap_or_default().to_vec();
    if tree.random.u32(0..1000) < tree.hint_faults.reorder {
        tree.random.shuffle(&mut hints);
    }
    Ok(ChangePage { hints, cursor: Cursor(to.to_string()), more: to < end })
}

#[async_trait]
impl Remote for MemoryRemote {
    fn capabilities(&self) -> Capabilities {
        let version_tick = self.store.version_tick();
        let tree = self.store.tree();
        Capabilities {
            ranges: true,
            conditional: tree.options.conditional,
            writable: tree.options.writable,
            stable_ids: tree.options.stable_ids,
            rename: true,
            server_copy: false,
            settable_mtime: true,
            settable_mode: true,
            version_tick,
            feed: tree.options.feed,
            product: "memory".to_owned(),
            identity: Some(format!("memory-{}", tree.options.seed)),
        }
    }

    async fn probe(&self) -> Result<Capabilities> {
        let root = RemotePath::root();
        self.call(Operation::Probe, &root, |_| Ok(())).await?;
        Ok(self.capabilities())
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        let path = at.path.clone();
        self.call(Operation::Stat, &at.path, move |tree| Ok(tree.stat(&path))).await
    }

    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
        let path = folder.path.clone();
        self.call(Operation::List, &folder.path, move |tree| list(tree, &path, page.as_ref())).await
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        let (op, path) = (Operation::Read, at.path.clone());
        self.count(op);
        let way = self.arrive(op, &path).await?;
        if way.fault == Some(Fault::DeliverLate) {
            return fail(ErrorKind::Offline, op, &path);
        }
        let broken = match way.fault {
            Some(Fault::Truncate(after)) => Some(after),
            _ => None,
        };
        let expect = Expect::Version(version.clone());
        let found = self.store.act(|tree| {
            tree.check(op, &path, &expect)?;
            let content = tree.entries.get(&path).map(|entry| entry.content.clone());
            Ok((content.unwrap_or_default(), tree.options.piece))
        });
        let (content, piece) = way.answer(found).await?;
        let within = |n: u64| usize::try_from(n).ok().filter(|n| *n <= content.len());
        let Some((from, to)) = within(range.start).zip(within(range.end)).filter(|(a, b)| a <= b)
        else {
            return fail(ErrorKind::Unsupported, op, &path);
        };
        let bytes = pieces(&content.slice(from..to), piece, broken, &path);
        Ok(ByteStream { length: (to - from) as u64, bytes })
    }

    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        self.need_writable(Operation::Write, &at.path)?;
        if self.level() != Conditional::Atomic {
            return self.publish(at, body, expect).await;
        }
        let put = take(at, &body).await?;
        self.raw_write(at, put, expect).await
    }

    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        self.need_writable(Operation::MakeFolder, &at.path)?;
        let path = at.path.clone();
        self.call(Operation::MakeFolder, &at.path, move |tree| tree.make_folder(&path)).await
    }

    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        tag: &AttemptTag,
    ) -> Result<Observed> {
        self.need_writable(Operation::Rename, &from.path)?;
        if self.level() != Conditional::Atomic {
            return self.rename_looking(from, to, expect).await;
        }
        let _unneeded = tag;
        let (old, new) = (from.path.clone(), to.path.clone());
        let rename = move |tree: &mut Tree| tree.rename(&old, &new, &expect, false);
        self.call(Operation::Rename, &from.path, rename).await
    }

    async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
        self.need_writable(Operation::Remove, &at.path)?;
        if self.level() != Conditional::Atomic {
            return self.remove_aside(at, expect, tag).await;
        }
        let path = at.path.clone();
        let remove = move |tree: &mut Tree| tree.remove(&path, &expect, false);
        self.call(Operation::Remove, &at.path, remove).await
    }

    async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
        match self.level() {
            Conditional::Atomic => Ok(()),
            _ => self.sweep(at, expect, tag).await,
        }
    }

    async fn set_metadata(
        &self,
        at: &Locator,
        metadata: &Metadata,
        expect: Expect,
    ) -> Result<Observed> {
        self.need_writable(Operation::SetMetadata, &at.path)?;
        let (op, path, metadata) = (Operation::SetMetadata, at.path.clone(), metadata.clone());
        let set = move |tree: &mut Tree| {
            tree.check(op, &path, &expect)?;
            let Some(entry) = tree.entries.get_mut(&path) else {
                return fail(ErrorKind::NotFound, op, &path);
            };
            entry.mtime = metadata.mtime.unwrap_or(entry.mtime);
            entry.mode = metadata.mode.or(entry.mode);
            let entry = entry.clone();
            tree.hint(&path);
            Ok(tree.observe(&entry))
        };
        self.call(op, &at.path, set).await
    }

    async fn space(&self) -> Result<Option<Space>> {
        let used = |tree: &mut Tree| {
            let files = tree.entries.values().filter(|entry| entry.kind == Kind::File);
            let used = files.map(|entry| entry.content.len() as u64).sum();
            Ok(Some(Space { used: Some(used), limit: None }))
        };
        self.call(Operation::Space, &RemotePath::root(), used).await
    }

    async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
        let root = RemotePath::root();
        if self.store.tree().options.feed == FeedKind::None {
            return fail(ErrorKind::Unsupported, Operation::Changes, &root);
        }
        let since = since.cloned();
        self.call(Operation::Changes, &root, move |tree| changes(tree, since.as_ref())).await
    }

    fn watch(&self) -> Option<BoxStream<'static, ()>> {
        if self.store.tree().options.feed != FeedKind::Push {
            return None;
        }
        let moved = self.store.moved.subscribe();
        let wait = |mut moved: tokio::sync::watch::Receiver<u64>| async move {
            moved.changed().await.ok().map(|()| ((), moved))
        };
        Some(stream::unfold(moved, wait).boxed())
    }

    fn interested(&self, folder: &Locator) {
        let _everything_is_told = folder;
    }
}

impl MemoryRemote {
    /// Sends the bytes of an upload to a temporary name of a weak store.
    pub(super) async fn upload_temp(&self, temp: &Locator, body: &Upload) -> Result<Observed> {
        let put = take(temp, body).await?;
        self.raw_write(temp, put, Expect::Absent).await
    }
}
