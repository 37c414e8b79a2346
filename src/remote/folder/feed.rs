//! What the kernel tells about listed folders, as hints behind a cursor.
//!
//! Hints wait in memory until the next `changes` says by its cursor that they were taken. A queue that overflowed, here or
//! in the kernel, and every new process, begin a new era: cursors of another one are expired.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::mem::take;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::parts::Parts;
use super::threads::Threads;
use crate::remote::names::is_hidden;
use crate::remote::{
    ChangePage, Cursor, ErrorKind, FeedKind, Hint, Name, RemoteError, RemotePath, Result,
};

/// Hints kept at most; more are one look at everything.
const QUEUE: usize = 65_536;
const PAGE: usize = 512;

/// Is the feed of one folder remote.
#[derive(Debug)]
pub(super) struct Feed {
    root: PathBuf,
    queue: Arc<Mutex<Queue>>,
    watching: Mutex<Option<Watching>>,
    /// Whether `watching` is something, known without waiting for who watches.
    is_on: AtomicBool,
    woken: watch::Sender<u64>,
    /// What is mounted below it.
    parts: Arc<Parts>,
    threads: Threads,
}

#[derive(Debug)]
struct Watching {
    watcher: RecommendedWatcher,
    queue: Arc<Mutex<Queue>>,
    /// The kernel's watch is on the inode, whatever its name is now.
    folders: BTreeMap<RemotePath, Inode>,
    names: HashMap<Inode, RemotePath>,
}

/// Tells one directory from every other, also from a later one with its number.
type Inode = (u64, Option<SystemTime>);

fn inode(path: &Path) -> Option<Inode> {
    let stat = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    Some((stat.ino(), stat.created().ok()))
}

impl Watching {
    fn watch(&mut self, folder: &RemotePath, path: &Path, inode: Inode) -> notify::Result<()> {
        // Noted before it is so: the watcher may take it back at once, since the name's last owner went.
        lock(&self.queue).watched.insert(folder.clone());
        let watched = self.watcher.watch(path, RecursiveMode::NonRecursive);
        if watched.is_ok() {
            self.folders.insert(folder.clone(), inode);
            self.names.insert(inode, folder.clone());
        } else {
            lock(&self.queue).watched.remove(folder);
        }
        watched
    }

    fn unwatch(&mut self, folder: &RemotePath, path: &Path) {
        if let Some(inode) = self.folders.remove(folder) {
            self.names.remove(&inode);
        }
        if let Err(error) = self.watcher.unwatch(path) {
            tracing::trace!(%folder, %error, "was not watched any more");
        }
        lock(&self.queue).watched.remove(folder);
    }
}

#[derive(Debug)]
struct Queue {
    era: String,
    /// The number of the first hint in `hints`.
    first: u64,
    hints: VecDeque<Hint>,
    /// Those that were not handed out yet.
    fresh: HashSet<Hint>,
    /// The folders that are watched.
    watched: BTreeSet<RemotePath>,
    /// Folders that moved away or went, and are watched or have watched ones below: their watches are under old names.
    stale: BTreeSet<RemotePath>,
    away: ByMount,
}

/// Is folders that are not watched any more, by the file system mounted below the root that they are on.
type ByMount = BTreeMap<Option<RemotePath>, BTreeSet<RemotePath>>;

impl Queue {
    fn new() -> Self {
        let (first, hints, fresh) = (0, VecDeque::new(), HashSet::new());
        let (watched, stale) = (BTreeSet::new(), BTreeSet::new());
        let era = format!("{:016x}", fastrand::u64(..));
        Self { era, first, hints, fresh, watched, stale, away: ByMount::new() }
    }

    fn push(&mut self, hint: Hint) {
        if self.hints.len() >= QUEUE {
            self.overflow();
        } else if self.fresh.insert(hint.clone()) {
            self.hints.push_back(hint);
        }
    }

    fn overflow(&mut self) {
        let new = std::mem::replace(self, Self::new());
        (self.watched, self.stale, self.away) = (new.watched, new.stale, new.away);
    }

    /// A name moved away or went. What was never watched has nothing to give up: who lists nothing would be told for ever.
    fn went(&mut self, path: &RemotePath) {
        let mut at_or_below = self.watched.range(path.clone()..);
        if at_or_below.next().is_some_and(|first| first.starts_with(path)) {
            self.stale.insert(path.clone());
        }
    }

    fn cursor(&self, number: u64) -> Cursor {
        Cursor(format!("{}-{number}", self.era))
    }

    fn end(&self) -> u64 {
        self.first + self.hints.len() as u64
    }

    /// The hints from `number` on; those before it were taken.
    fn page(&mut self, number: u64) -> ChangePage {
        while self.first < number {
            if let Some(hint) = self.hints.pop_front() {
                self.fresh.remove(&hint);
            }
            self.first += 1;
        }
        let hints: Vec<Hint> = self.hints.iter().take(PAGE).cloned().collect();
        // What was handed out may be looked at before the next change of the same name: that one is told again.
        for hint in &hints {
            self.fresh.remove(hint);
        }
        let next = self.first + hints.len() as u64;
        ChangePage { hints, cursor: self.cursor(next), more: next < self.end() }
    }
}

fn path_in(root: &Path, folder: &RemotePath) -> PathBuf {
    let mut path = root.to_owned();
    path.extend(folder.0.iter().map(|name| OsStr::from_bytes(name.as_bytes())));
    path
}

fn tell(queue: &Mutex<Queue>, woken: &watch::Sender<u64>, hints: impl IntoIterator<Item = Hint>) {
    let mut queue = lock(queue);
    hints.into_iter().for_each(|hint| queue.push(hint));
    drop(queue);
    woken.send_modify(|count| *count += 1);
}

/// Tells of those of these folders that are there.
fn tell_of(
    root: &Path,
    folders: BTreeSet<RemotePath>,
    queue: &Mutex<Queue>,
    woken: &watch::Sender<u64>,
) {
    let there = folders.into_iter().filter(|folder| inode(&path_in(root, folder)).is_some());
    // Looked at under no lock.
    let there: Vec<_> = there.map(Hint::Folder).collect();
    if !there.is_empty() {
        tell(queue, woken, there);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    pub(super) fn new(root: &Path, is_shared: bool, parts: Arc<Parts>, threads: Threads) -> Self {
        let queue = Arc::new(Mutex::new(Queue::new()));
        let woken = watch::Sender::new(0);
        let watching = if is_shared { None } else { start(root, &queue, &woken) };
        let is_on = AtomicBool::new(watching.is_some());
        let (root, watching) = (root.to_owned(), Mutex::new(watching));
        Self { root, queue, watching, is_on, woken, parts, threads }
    }

    /// The root was away: the kernel's watches may have gone with it, and what happened meanwhile was told to nobody.
    pub(super) fn renew(&self) {
        if let Some(at) = lock(&self.watching).as_mut() {
            for folder in at.folders.keys().cloned().collect::<Vec<_>>() {
                at.unwatch(&folder, &self.path(&folder));
            }
        }
        lock(&self.queue).overflow();
        self.woken.send_modify(|count| *count += 1);
    }

    pub(super) fn kind(&self) -> FeedKind {
        if self.is_on.load(Ordering::Acquire) { FeedKind::Inotify } else { FeedKind::Walk }
    }

    fn path(&self, folder: &RemotePath) -> PathBuf {
        path_in(&self.root, folder)
    }

    /// Watches a folder; when the kernel has no more watches, there is no feed any more. A folder on a file system that hangs is
    /// looked at under no lock, and so is never watched.
    pub(super) fn interested(&self, folder: &RemotePath) {
        // Of what is hidden nothing is told, and nobody would take it out again.
        if !self.is_on.load(Ordering::Acquire) || is_below_hidden(folder) {
            return;
        }
        let path = self.path(folder);
        self.drop_stale();
        let Some(now) = inode(&path) else { return };
        let Some(watched) = self.watch_as(folder, &path, now) else { return };
        match watched {
            // Another directory came to the name meanwhile, and perhaps it is that one that is watched now.
            Ok(()) if inode(&path) != Some(now) => {
                let mut watching = lock(&self.watching);
                if let Some(at) =
                    watching.as_mut().filter(|at| at.folders.get(folder) == Some(&now))
                {
                    at.unwatch(folder, &path);
                }
                drop(watching);
                self.tell([Hint::Folder(folder.clone())]);
            }
            Ok(()) => {}
            Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                tracing::warn!(
                    "the kernel's inotify watches are used up: folders are walked instead"
                );
                self.give_up();
            }
            // It went meanwhile; its parent's watch tells.
            Err(error) => tracing::debug!(%folder, %error, "cannot be watched"),
        }
    }

    /// Sets the watch of a folder that was just seen to be `now`; `None` if it has it, or if there is no feed.
    fn watch_as(&self, folder: &RemotePath, path: &Path, now: Inode) -> Option<notify::Result<()>> {
        let mut watching = lock(&self.watching);
        let at = watching.as_mut().filter(|at| at.folders.get(folder) != Some(&now))?;
        // One inode has one watch: its old name's must go before its new name's is set, or both go.
        let known =
            at.names.get(&now).into_iter().chain(at.folders.get_key_value(folder).map(|(n, _)| n));
        for name in known.cloned().collect::<Vec<_>>() {
            at.unwatch(&name, &self.path(&name));
        }
        Some(at.watch(folder, path, now))
    }

    /// From now on nothing is told: who asks for changes has to walk.
    pub(super) fn give_up(&self) {
        let watching = lock(&self.watching).take();
        self.is_on.store(false, Ordering::Release);
        drop(watching);
        *lock(&self.queue) = Queue::new();
        self.woken.send_modify(|count| *count += 1);
    }

    /// Watches a folder that was made for whoever lists it no more, since it is known to be empty.
    pub(super) fn made(&self, folder: &RemotePath) {
        // Who gives it a visible name has that told, and whoever lists it then watches it.
        if is_below_hidden(folder) {
            return;
        }
        self.interested(folder);
        let is_empty =
            std::fs::read_dir(self.path(folder)).map_or(true, |mut all| all.next().is_none());
        if !is_empty {
            // Somebody was there before the watch.
            self.tell([Hint::Folder(folder.clone())]);
        }
    }

    /// Gives up the watches of names that went, and of all below them. The watcher takes them back by itself, by name and
    /// after the fact, whoever has the name by then: so a folder that is there is to be listed again, which watches it anew.
    /// One on a file system that is away is so when that is back.
    fn drop_stale(&self) {
        let mut queue = lock(&self.queue);
        let (stale, mut unwatched) = (take(&mut queue.stale), take(&mut queue.away));
        drop(queue);
        if let Some(at) = lock(&self.watching).as_mut() {
            for gone in stale {
                let below = at.folders.range(gone.clone()..);
                let below = below.map(|(path, _)| path).take_while(|path| path.starts_with(&gone));
                for folder in below.cloned().collect::<Vec<_>>() {
                    at.unwatch(&folder, &self.path(&folder));
                    let mount = self.parts.mounts_above(&folder).into_iter().next();
                    unwatched.entry(mount).or_default().insert(folder);
                }
            }
        }
        for (mount, folders) in unwatched {
            match &mount {
                Some(at) if self.parts.is_away(at) => {
                    lock(&self.queue).away.entry(mount).or_default().extend(folders);
                }
                // It may hang, and nobody is to wait for that.
                Some(_) => {
                    let (root, queue, woken) =
                        (self.root.clone(), self.queue.clone(), self.woken.clone());
                    self.threads.leave(move || tell_of(&root, folders, &queue, &woken));
                }
                None => tell_of(&self.root, folders, &self.queue, &self.woken),
            }
        }
    }

    /// Another file system is mounted at these folders than was, or none.
    pub(super) fn look_anew(&self, folders: Vec<RemotePath>) {
        if !folders.is_empty() {
            let mut queue = lock(&self.queue);
            folders.iter().for_each(|folder| queue.went(folder));
            drop(queue);
            self.tell(folders.into_iter().map(Hint::Folder));
        }
    }

    fn tell(&self, hints: impl IntoIterator<Item = Hint>) {
        tell(&self.queue, &self.woken, hints);
    }

    pub(super) fn changes(&self, since: Option<&Cursor>, in_place: bool) -> Result<ChangePage> {
        let fail = |kind| Err(RemoteError::new(kind, "changes of", RemotePath::root()));
        self.drop_stale();
        if !self.is_on.load(Ordering::Acquire) {
            return fail(ErrorKind::Unsupported);
        }
        if !in_place {
            return fail(ErrorKind::RootMissing);
        }
        let mut queue = lock(&self.queue);
        let Some(since) = since else {
            let cursor = queue.cursor(queue.end());
            return Ok(ChangePage { hints: Vec::new(), cursor, more: false });
        };
        let known = since.0.split_once('-').filter(|(era, _)| *era == queue.era);
        let number = known.and_then(|(_, number)| number.parse::<u64>().ok());
        match number.filter(|number| (queue.first..=queue.end()).contains(number)) {
            Some(number) => Ok(queue.page(number)),
            None => fail(ErrorKind::CursorExpired),
        }
    }

    pub(super) fn watch(&self) -> Option<BoxStream<'static, ()>> {
        self.is_on.load(Ordering::Acquire).then_some(())?;
        let wait = |mut woken: watch::Receiver<u64>| async move {
            woken.changed().await.ok().map(|()| ((), woken))
        };
        Some(stream::unfold(self.woken.subscribe(), wait).boxed())
    }
}

fn start(root: &Path, queue: &Arc<Mutex<Queue>>, woken: &watch::Sender<u64>) -> Option<Watching> {
    let (root, queue, woken) = (root.to_owned(), Arc::clone(queue), woken.clone());
    let known = Arc::clone(&queue);
    let told = move |event: notify::Result<notify::Event>| {
        if hear(&root, &mut lock(&queue), event) {
            woken.send_modify(|count| *count += 1);
        }
    };
    match notify::recommended_watcher(told) {
        Ok(watcher) => {
            let (folders, names) = (BTreeMap::new(), HashMap::new());
            Some(Watching { watcher, queue: known, folders, names })
        }
        Err(error) => {
            tracing::warn!(%error, "inotify cannot be used: folders are walked instead");
            None
        }
    }
}

/// Notes what an event tells; whether it tells anything: whoever only reads there wakes nobody.
fn hear(root: &Path, queue: &mut Queue, event: notify::Result<notify::Event>) -> bool {
    let event = match event {
        Ok(event) if event.need_rescan() => {
            queue.overflow();
            return true;
        }
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "inotify lost something");
            queue.overflow();
            return true;
        }
    };
    if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
    {
        return false;
    }
    let moved = matches!(
        event.kind,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
    );
    for path in &event.paths {
        let Some(path) = below(root, path) else { continue };
        if is_below_hidden(&path) {
            continue;
        }
        if moved {
            queue.went(&path);
        }
        queue.push(if path.is_root() { Hint::Folder(path) } else { Hint::Entry(path) });
    }
    true
}

fn is_below_hidden(path: &RemotePath) -> bool {
    path.0.iter().any(|name| is_hidden(name.as_bytes()))
}

fn below(root: &Path, path: &Path) -> Option<RemotePath> {
    let rest = path.strip_prefix(root).ok()?;
    let names = rest.iter().map(|name| Name::new(name.as_bytes()));
    names.collect::<std::result::Result<Vec<_>, _>>().ok().map(RemotePath)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What went was remembered until somebody asked, and of what nobody had listed as well.
    #[test]
    fn regression_while_nobody_asks_what_goes_is_not_gathered() {
        let (root, mut queue) = (Path::new("/remote"), Queue::new());
        for folder in ["kept", "kept/below", "kept 2"] {
            queue.watched.insert(below(root, &root.join(folder)).unwrap());
        }
        let gone = EventKind::Remove(notify::event::RemoveKind::Any);
        let mut hears = |path: &str| {
            hear(root, &mut queue, Ok(notify::Event::new(gone).add_path(root.join(path))))
        };
        for number in 0..QUEUE + 10 {
            assert!(hears(&format!("kept/temporary {number}")));
            assert!(hears("kept/below"));
        }
        assert!(hears("kept 2"));
        let stale: Vec<String> = queue.stale.iter().map(ToString::to_string).collect();
        assert_eq!(stale, ["/kept/below", "/kept 2"]);
        assert!(queue.hints.len() <= QUEUE && queue.watched.len() == 3);
    }

    /// Each program that read a file of the remote woke the daemon, which asked for changes then.
    #[test]
    fn regression_who_reads_at_the_remote_wakes_nobody() {
        let (root, mut queue) = (Path::new("/remote"), Queue::new());
        let mut hears =
            |kind| hear(root, &mut queue, Ok(notify::Event::new(kind).add_path(root.join("f"))));
        assert!(!hears(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!hears(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(hears(EventKind::Access(AccessKind::Close(AccessMode::Write))));
    }

    /// Each folder that was replaced or copied under a hidden name was watched and noted there, and never taken out.
    #[test]
    fn regression_what_is_hidden_is_not_watched() {
        let dir = tempfile::tempdir().unwrap();
        let hidden = dir.path().join(".dewfs-tmp.serve.0.7--name");
        for folder in [dir.path().join("shown"), hidden.join("below")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let feed = Feed::new(dir.path(), false, Arc::default(), Threads::default());
        for folder in [dir.path().join("shown"), hidden.clone(), hidden.join("below")] {
            feed.interested(&below(dir.path(), &folder).unwrap());
        }
        let watched: Vec<String> =
            lock(&feed.queue).watched.iter().map(ToString::to_string).collect();
        assert_eq!(watched, ["/shown"]);
        assert_eq!(lock(&feed.watching).as_ref().unwrap().folders.len(), 1);
    }
}
