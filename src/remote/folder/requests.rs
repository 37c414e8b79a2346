//! The trait's methods: each waits for the disk on a thread that may.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use rustix::fs;
use rustix::io::Errno;
use tokio::time::timeout;

use super::disk::{Root, kind_of, now, refused};
use super::parts::{self, Asking, Border, There};
use super::threads::Wanted;
use super::{FolderRemote, State, change, has_birth_times, identity, read, write};
use crate::remote::names::is_hidden;
use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Conditional, Cursor, ErrorKind, Expect,
    ListPage, Listed, Locator, Metadata, Name, Observed, PageToken, Remote, RemoteError,
    RemotePath, Result, Space, Upload, Version,
};

const PAGE: usize = 1000;
/// How long it is waited for what a mounted file system says of itself: only one that hangs takes that long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Listings under way whose names are kept; the names of others are read again for their next page.
const KEPT: usize = 8;

/// Holds the names of listings under way.
#[derive(Debug, Default)]
pub(super) struct Listings {
    started: u64,
    names: VecDeque<(u64, Arc<Vec<Name>>)>,
}

impl Listings {
    fn start(&mut self, names: Arc<Vec<Name>>) -> u64 {
        self.started += 1;
        self.names.push_back((self.started, names));
        if self.names.len() > KEPT {
            self.names.pop_front();
        }
        self.started
    }

    fn find(&self, listing: u64) -> Option<Arc<Vec<Name>>> {
        let found = self.names.iter().find(|(number, _)| *number == listing);
        found.map(|(_, names)| Arc::clone(names))
    }
}

fn names(folder: &rustix::fd::OwnedFd, hidden: bool) -> rustix::io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        // `.` and `..` are no names; nothing else here can fail to be one.
        if (hidden || !is_hidden(name))
            && let Ok(name) = Name::new(name)
        {
            names.push(name);
        }
    }
    Ok(names)
}

fn token(page: &PageToken, at: &RemotePath) -> Result<(u64, Vec<u8>)> {
    let parse = || {
        let (listing, last) = page.0.split_once('-')?;
        let digits: Vec<char> = last.chars().collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok();
        Some((listing.parse().ok()?, digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?))
    };
    parse().ok_or_else(|| RemoteError::new(ErrorKind::Corrupt, "list", at))
}

fn list(remote: &FolderRemote, at: &RemotePath, page: Option<&PageToken>) -> Result<ListPage> {
    let fail = |error: Errno| refused(error, "list", at);
    let root = remote.state().root;
    let folder = root.folder(at).map_err(fail)?;
    if page.is_none() {
        // Watched before it is read, so that no change falls between.
        remote.shared.feed.interested(at);
    }
    let kept = || remote.shared.listings.lock().unwrap_or_else(PoisonError::into_inner);
    let (listing, after) = match page {
        Some(page) => token(page, at).map(|(listing, after)| (listing, Some(after)))?,
        None => (0, None),
    };
    let found = kept().find(listing);
    let (listing, all) = match found {
        Some(all) => (listing, all),
        None => {
            let mut all = names(&folder, remote.shared.hidden).map_err(fail)?;
            // What is mounted below and away is shown as it was.
            let mounts = root.parts.mounts_below(at);
            all.extend(mounts.iter().filter_map(|mount| mount.0.get(at.0.len()).cloned()));
            all.sort_unstable();
            all.dedup();
            let all = Arc::new(all);
            let listing = if all.len() > PAGE { kept().start(Arc::clone(&all)) } else { 0 };
            (listing, all)
        }
    };
    let start = after.map_or(0, |after| all.partition_point(|name| *name.as_bytes() <= *after));
    let rest = all.get(start..).unwrap_or_default();
    let these = rest.get(..PAGE.min(rest.len())).unwrap_or_default();
    let mut entries = Vec::with_capacity(these.len());
    for name in these {
        let path = at.child(name.clone());
        let seen = root.see(&folder, &path, name);
        if let Some(entry) = seen.map_err(|error| refused(error, "list", &path))? {
            entries.push(Listed { name: name.clone(), entry });
        }
    }
    let next = these.last().filter(|_| these.len() < rest.len()).map(|last| {
        let hex: String = last.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        PageToken(format!("{listing}-{hex}"))
    });
    Ok(ListPage { entries, next, folder: None })
}

/// Opens the root anew, since another directory may be in its place, and tries what it can do.
fn probe(remote: &FolderRemote) -> Result<()> {
    let at = RemotePath::root();
    let fail = |error: Errno| refused(error, "probe", &at);
    let opened = Root::open(&remote.shared.path, remote.state().root.parts.clone())?;
    let folder = opened.folder(&at).map_err(fail)?;
    change::clean(&folder, None, now());
    let mut skew = 0;
    let (writable, conditional) = match change::try_out(&folder) {
        Ok(tried) => {
            skew = tried.skew;
            (true, if tried.is_atomic { Conditional::Atomic } else { Conditional::Checked })
        }
        // Some roots take no new entries though folders in them do (a share's top): only a read-only system is sure.
        Err(Errno::ROFS) => (false, Conditional::Atomic),
        Err(error) => match kind_of(error) {
            ErrorKind::Offline => return Err(fail(error)),
            _ => (true, Conditional::Atomic),
        },
    };
    let stable_ids = has_birth_times(&opened);
    // Nothing that may hang is asked under the lock.
    let before = remote.state().root;
    let same = is_same(&before, &opened) && before.is_in_place().map_err(fail)?;
    let root = if same { before } else { Arc::new(opened) };
    if !same {
        remote.shared.feed.renew();
    }
    // Less than a tick is how coarse the clock is, not how wrong.
    let is_wrong = skew.unsigned_abs() > root.tick.as_nanos();
    let skew = if is_wrong { i64::try_from(skew).unwrap_or(0) } else { 0 };
    root.skew.store(skew, Ordering::Relaxed);
    *remote.locked() = State { root, conditional, writable, stable_ids };
    Ok(())
}

fn is_same(one: &Root, other: &Root) -> bool {
    match (&one.identity, &other.identity) {
        (Some(one), Some(other)) => identity::is_same(one, other),
        (one, other) => one == other,
    }
}

/// Whether both have an identity, and it is one: without any, everything could be in the place of what was there.
fn is_surely_same(one: &Root, other: &Root) -> bool {
    one.identity.is_some() && is_same(one, other)
}

/// Who is at the path now. The one we know is opened anew if it was away; another one is not touched.
fn who(remote: &FolderRemote, is_same: fn(&Root, &Root) -> bool) -> Result<Option<String>> {
    let opened = Root::open(&remote.shared.path, remote.state().root.parts.clone())?;
    let told = opened.identity.clone();
    let before = remote.state().root;
    if is_same(&before, &opened) && !before.is_in_place().unwrap_or(false) {
        opened.skew.store(before.skew.load(Ordering::Relaxed), Ordering::Relaxed);
        remote.locked().root = Arc::new(opened);
        remote.shared.feed.renew();
    }
    Ok(told)
}

fn space(remote: &FolderRemote) -> Result<Option<Space>> {
    let at = RemotePath::root();
    let fail = |error: Errno| refused(error, "space", &at);
    let folder = remote.state().root.folder(&at).map_err(fail)?;
    let stat = fs::fstatvfs(&folder).map_err(fail)?;
    // As large as the disk is; what it keeps for root is as good as used.
    let used = stat.f_blocks.saturating_sub(stat.f_bavail).saturating_mul(stat.f_frsize);
    Ok(Some(Space { used: Some(used), limit: Some(stat.f_blocks.saturating_mul(stat.f_frsize)) }))
}

impl FolderRemote {
    /// Who is at the path now, as `identity`; but what has no identity is not opened in the place of what had none.
    pub(in crate::remote) async fn known_identity(&self) -> Result<Option<String>> {
        let root = RemotePath::root();
        self.blocking("identity", &root, |this, _| who(this, is_surely_same)).await
    }

    /// Says which of the file systems that are mounted below the root came or went since this was last asked.
    async fn came_or_went(&self) -> Vec<RemotePath> {
        let root = self.state().root;
        let mounts = root.parts.mounts_below(&RemotePath::root());
        let told = mounts.into_iter().map(|at| {
            let root = Arc::clone(&root);
            async move {
                let there = self.is_mounted(&root, &at).await;
                root.parts.note_there(&at, there).then_some(at)
            }
        });
        join_all(told).await.into_iter().flatten().collect()
    }

    /// Whether a file system is mounted at a path now, as far as that is known in time.
    async fn is_mounted(&self, root: &Arc<Root>, at: &RemotePath) -> There {
        let asking = match Asking::begin(&root.parts, at) {
            Ok(asking) => asking,
            Err(waiting) => return There::Unanswered(waiting),
        };
        let (root, at) = (Arc::clone(root), at.clone());
        let told = self.shared.threads.run(move |_| {
            let told = root.is_mounted(&at);
            drop(asking);
            told
        });
        match timeout(PATIENCE, told).await {
            Ok(Some(true)) => There::Yes,
            Ok(Some(false)) => There::No,
            // There was no thread for it.
            Ok(None) => There::Unanswered(Duration::ZERO),
            Err(_) => There::Unanswered(PATIENCE),
        }
    }
}

#[async_trait]
impl Remote for FolderRemote {
    fn capabilities(&self) -> Capabilities {
        let state = self.state();
        Capabilities {
            ranges: true,
            conditional: state.conditional,
            writable: state.writable,
            stable_ids: state.stable_ids,
            rename: true,
            server_copy: false,
            settable_mtime: true,
            settable_mode: true,
            settable_extended: true,
            version_tick: state.root.tick,
            feed: self.shared.feed.kind(),
            product: state.root.product.clone(),
            identity: state.root.identity.clone(),
            folder_versions: false,
            dot_names: true,
        }
    }

    async fn probe(&self) -> Result<Capabilities> {
        self.blocking("probe", &RemotePath::root(), |this, _| probe(this)).await?;
        Ok(self.capabilities())
    }

    async fn identity(&self) -> Result<Option<String>> {
        self.blocking("identity", &RemotePath::root(), |this, _| who(this, is_same)).await
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        self.recall(at);
        let path = at.path.clone();
        self.blocking("stat", &at.path, move |this, _| {
            let root = this.state().root;
            root.stat(&path).map_err(|error| refused(error, "stat", &path))
        })
        .await
    }

    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
        self.recall(folder);
        let path = folder.path.clone();
        self.blocking("list", &folder.path, move |this, _| list(this, &path, page.as_ref())).await
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        let (path, version) = (at.path.clone(), version.clone());
        self.blocking("read", &at.path, move |this, _| read::read(this, &path, &version, range))
            .await
    }

    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        let path = at.path.clone();
        let act =
            move |this: &Self, wanted: &Wanted| write::write(this, &path, &body, &expect, wanted);
        self.blocking("write", &at.path, act).await
    }

    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        let path = at.path.clone();
        let act = move |this: &Self, wanted: &Wanted| change::make_folder(this, &path, wanted);
        self.blocking("make folder", &at.path, act).await
    }

    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        tag: &AttemptTag,
    ) -> Result<Observed> {
        self.recall(from);
        let (old, new, tag) = (from.path.clone(), to.path.clone(), tag.clone());
        let act = move |this: &Self, wanted: &Wanted| {
            change::rename(this, &old, &new, &expect, &tag, wanted)
        };
        self.blocking("rename", &from.path, act).await
    }

    async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
        self.recall(at);
        let (path, tag) = (at.path.clone(), tag.clone());
        let act =
            move |this: &Self, wanted: &Wanted| change::remove(this, &path, &expect, &tag, wanted);
        self.blocking("remove", &at.path, act).await
    }

    async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
        let (path, expect, tag) = (at.path.clone(), expect.clone(), tag.clone());
        let act =
            move |this: &Self, wanted: &Wanted| change::tidy(this, &path, &expect, &tag, wanted);
        self.blocking("tidy", &at.path, act).await
    }

    async fn set_metadata(
        &self,
        at: &Locator,
        metadata: &Metadata,
        expect: Expect,
    ) -> Result<Observed> {
        let (path, metadata) = (at.path.clone(), metadata.clone());
        let act = move |this: &Self, wanted: &Wanted| {
            change::set_metadata(this, &path, &metadata, &expect, wanted)
        };
        self.blocking("set metadata of", &at.path, act).await
    }

    async fn space(&self) -> Result<Option<Space>> {
        self.blocking("space", &RemotePath::root(), |this, _| space(this)).await
    }

    async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
        let (since, changed) = (since.cloned(), self.came_or_went().await);
        let drain = move |this: &Self, _: &Wanted| {
            let in_place = this.state().root.is_in_place().unwrap_or(false);
            // Watches go with what they are on, and what happens in it while it is away is told to nobody.
            this.shared.feed.look_anew(changed);
            this.shared.feed.changes(since.as_ref(), in_place)
        };
        self.blocking("changes of", &RemotePath::root(), drain).await
    }

    fn divides(&self, from: &RemotePath, folder: &RemotePath) -> bool {
        self.state().root.parts.divide(from, folder)
    }

    fn is_same(&self, known: &str, told: &str) -> bool {
        identity::is_same(known, told)
    }

    fn watch(&self) -> Option<BoxStream<'static, ()>> {
        self.shared.feed.watch()
    }

    fn interested(&self, folder: &Locator) {
        self.recall(folder);
        // Nothing brings a mount to another name, and to look at one may hang.
        if parts::noted(folder) == Some(Border::Mount) {
            return;
        }
        // Who lists it watches it already; this is for the one that a move of ours brought to the name meanwhile.
        let (this, path) = (self.clone(), folder.path.clone());
        self.shared.threads.leave(move || this.shared.feed.interested(&path));
    }
}
