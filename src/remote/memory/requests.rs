//! Every trait method as one or more requests that faults and gates can meet.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::client::MemoryRemote;
use super::fault::{Fault, Operation};
use super::tree::{Put, Tree, fail};
use crate::remote::names::is_hidden;
use crate::remote::{
    AttemptTag, Body, ByteStream, Capabilities, ChangePage, Conditional, Cursor, ErrorKind, Expect,
    FeedKind, Kind, ListPage, Listed, Locator, Metadata, Name, Observed, PageToken, Remote,
    RemotePath, Result, Space, Upload, Version,
};

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
    Ok(Put { content, mtime: body.mtime, mode: body.mode, extended: body.extended.clone() })
}

fn pieces(
    content: &Bytes,
    piece: usize,
    broken: Option<(u64, ErrorKind)>,
    at: &RemotePath,
) -> BoxStream<'static, Result<Bytes>> {
    let whole = content.len();
    let (after, why) = broken.unzip();
    let sent = after.and_then(|after| usize::try_from(after).ok()).map_or(whole, |n| n.min(whole));
    let piece = piece.max(1);
    let mut items: Vec<Result<Bytes>> = (0..sent.div_ceil(piece))
        .map(|i| Ok(content.slice(i * piece..sent.min((i + 1) * piece))))
        .collect();
    if let Some(why) = why.filter(|_| sent < whole) {
        items.push(fail(why, Operation::Read, at));
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
    let entries = names.into_iter().filter_map(|(_, name)| listed(name)).collect();
    Ok(ListPage { entries, next, folder: None })
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
            settable_extended: true,
            version_tick,
            feed: tree.options.feed,
            product: "memory".to_owned(),
            identity: (!tree.nameless).then(|| format!("memory-{}", tree.options.seed)),
            folder_versions: false,
            dot_names: true,
        }
    }

    async fn probe(&self) -> Result<Capabilities> {
        let root = RemotePath::root();
        let look = |tree: &mut Tree| match tree.entries.contains_key(&RemotePath::root()) {
            true => Ok(()),
            false => fail(ErrorKind::NotFound, Operation::Probe, &RemotePath::root()),
        };
        self.call(Operation::Probe, &root, look).await?;
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
            Some(Fault::Truncate(after)) => Some((after, ErrorKind::Offline)),
            Some(Fault::BadPlace(at)) if range.contains(&at) => {
                Some((at - range.start, ErrorKind::Other))
            }
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
        let total = Some(content.len() as u64);
        Ok(ByteStream { length: (to - from) as u64, total, bytes })
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
            entry.set(metadata.mode, &metadata.extended);
            let (id, is_file) = (entry.id, entry.kind == Kind::File);
            if is_file && tree.options.metadata_versions {
                let (version, clock) = (tree.new_version(id), tree.clock);
                if let Some(entry) = tree.entries.get_mut(&path) {
                    (entry.version, entry.since) = (version, clock);
                }
            }
            let Some(entry) = tree.entries.get(&path) else {
                return fail(ErrorKind::NotFound, op, &path);
            };
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

    /// Sends the bytes of an upload to a temporary name of a weak store.
    pub(super) async fn upload_temp(&self, temp: &Locator, body: &Upload) -> Result<Observed> {
        let put = take(temp, body).await?;
        self.raw_write(temp, put, Expect::Absent).await
    }
}
