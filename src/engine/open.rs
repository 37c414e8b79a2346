//! The table of open inodes: handles, writer counts, and the live content of what is open or being fetched. Memory only.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::EngineError;
use super::live::Live;
use super::show::BELIEVE;
use super::through::Backing;
use super::verbs::{Handle, OpenMode};
use super::writing::Writing;
use crate::catalog::Inode;
use crate::model::{Generation, Handles, Ino};

/// How many last-opened generations are remembered for keeping kernel pages.
const REMEMBERED: usize = 65_536;

/// How often rows and live contents are looked at together before the kernel is told not to believe it.
const LOOKS: u32 = 3;

/// Is one open file description of the kernel.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) live: Arc<Live>,
    pub(crate) mode: OpenMode,
    /// Where the next read begins if the reader goes on in order, and how far was read ahead.
    pub(crate) reader: Mutex<super::window::Window>,
    /// Whether anything was read through it.
    pub(crate) was_read: AtomicBool,
    /// What the kernel reads and writes itself for it.
    pub(crate) backing: Option<Arc<Backing>>,
    /// What was fetched for it beyond what it asked for, where nothing can be kept.
    pub(crate) passing: tokio::sync::Mutex<super::passing::Passing>,
}

/// Says how the kernel does the I/O of an open inode: the first open decides, and that holds until the last is gone.
#[derive(Clone, Debug)]
pub(crate) enum IoMode {
    /// Through us, with pages kept by the kernel.
    Cached,
    /// Past us.
    Through(Arc<Backing>),
}

#[derive(Default)]
struct Entry {
    counts: Handles,
    /// Work that is no handle but must not lose the live content: fetches, truncation by path, snapshots.
    guests: u32,
    live: Option<Arc<Live>>,
    io: Option<IoMode>,
}

#[derive(Default)]
struct Entries {
    open: HashMap<Ino, Entry>,
    /// Inodes that a transaction under way takes to be closed: they are not opened before it has ended.
    claimed: HashSet<Ino>,
    /// The same of those that it takes to have no writer.
    unwritten: HashSet<Ino>,
    writing: Writing,
}

/// Is the table of open inodes.
#[derive(Default)]
pub(crate) struct OpenTable {
    entries: Mutex<Entries>,
    handles: Mutex<HashMap<u64, Arc<OpenFile>>>,
    next: AtomicU64,
    last_opened: Mutex<HashMap<Ino, Generation>>,
    /// Whether somebody looks at the room that writers take past us.
    watched: AtomicBool,
    /// Files that somebody can write through a mapping, although nobody has them open any more, as far as was asked.
    mapped: Mutex<HashSet<Ino>>,
    /// Inodes whose names the remote took away: what is written into them would be found by nobody.
    unnamed: Mutex<HashSet<Ino>>,
    /// How often users removed a folder that may come back: the kernel never lets a folder live again that it removed.
    removed: Mutex<HashMap<Ino, u64>>,
    /// How often live contents were told to the catalog.
    told: AtomicU64,
    /// Rung when claims end.
    claims_ended: Notify,
}

/// Locks, also after a panic elsewhere: every critical section here leaves the value whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenTable {
    /// The handles open on an inode, those being opened included.
    pub(crate) fn handles(&self, ino: Ino) -> Handles {
        lock(&self.entries).open.get(&ino).map_or_else(Handles::default, |entry| entry.counts)
    }

    /// The live content of an inode, if it is open or being fetched.
    pub(crate) fn live(&self, ino: Ino) -> Option<Arc<Live>> {
        lock(&self.entries).open.get(&ino).and_then(|entry| entry.live.clone())
    }

    /// How many inodes are open or wait to be told of.
    pub(crate) fn count(&self) -> usize {
        lock(&self.entries).open.len()
    }

    /// Since when an inode is being written.
    pub(crate) fn written_since(&self, ino: Ino) -> Option<i64> {
        lock(&self.entries).writing.since(ino)
    }

    /// All live contents.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        lock(&self.entries).open.values().filter_map(|entry| entry.live.clone()).collect()
    }

    /// Counts a handle before its row is read, so that nothing replaces the content meanwhile; `false`, and nothing is
    /// counted, while a transaction relies on the inode being closed, or on its not being written.
    #[must_use]
    pub(crate) fn begin(&self, ino: Ino, write: bool) -> bool {
        let mut entries = lock(&self.entries);
        if entries.claimed.contains(&ino) || write && entries.unwritten.contains(&ino) {
            return false;
        }
        let entry = entries.open.entry(ino).or_default();
        entry.counts.open += 1;
        entry.counts.writers += u32::from(write);
        if write && entry.counts.writers == 1 {
            entries.writing.begun(ino);
        }
        true
    }

    /// The same, after such a transaction has ended.
    pub(crate) async fn begin_later(&self, ino: Ino, write: bool) {
        loop {
            let ended = self.claims_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.begin(ino, write) {
                return;
            }
            ended.await;
        }
    }

    /// The handles open on an inode, for a transaction: if there are none, or no writers, there will be none until it has
    /// ended. Writes that the catalog does not know of yet count as a writer: else a row that tells of them could be dropped.
    pub(crate) fn claim(&self, ino: Ino) -> Handles {
        let mut entries = lock(&self.entries);
        let entry = entries.open.get(&ino);
        let mut counts = entry.map_or_else(Handles::default, |entry| entry.counts);
        let live = entry.and_then(|entry| entry.live.clone());
        if counts.open == 0 {
            entries.claimed.insert(ino);
        } else if counts.writers == 0 {
            entries.unwritten.insert(ino);
        }
        // Its state may be locked over a write to the disk; the table must not be.
        drop(entries);
        let unseen = live.is_some_and(|live| live.has_unrecorded_writes()) || self.is_mapped(ino);
        counts.writers += u32::from(unseen);
        counts
    }

    /// Notes whether somebody can still write a file through a mapping: as good as an open writer, but one of whose end
    /// nobody tells, so it is asked about again.
    pub(crate) fn note_mapped(&self, ino: Ino, mapped: bool) {
        let mut all = lock(&self.mapped);
        if mapped {
            all.insert(ino);
        } else {
            all.remove(&ino);
        }
    }

    /// Notes whether the remote took the name of an inode away. Those that a user unlinked are his as long as they are open.
    pub(crate) fn note_unnamed(&self, ino: Ino, by_remote: bool) {
        let mut all = lock(&self.unnamed);
        if by_remote {
            all.insert(ino);
        } else if !all.is_empty() {
            all.remove(&ino);
        }
    }

    /// Counts that a user removed a folder.
    pub(crate) fn note_removed(&self, folder: Ino) {
        let mut removed = lock(&self.removed);
        if removed.len() >= REMEMBERED {
            removed.clear();
        }
        *removed.entry(folder).or_default() += 1;
    }

    /// How often a user removed this folder.
    pub(crate) fn removals(&self, folder: Ino) -> u64 {
        lock(&self.removed).get(&folder).copied().unwrap_or_default()
    }

    /// Whether the remote took the name of an inode away, as far as was noted: its row tells whether it has none.
    pub(crate) fn is_unnamed(&self, ino: Ino) -> bool {
        lock(&self.unnamed).contains(&ino)
    }

    /// Whether somebody may begin to write a file: what is looked up again, by a name that leads somewhere, can be written.
    pub(crate) fn may_be_written(&self, inode: &Inode) -> Result<(), EngineError> {
        let lost = inode.local.is_none() && self.is_unnamed(inode.ino);
        if lost { Err(EngineError::Stale) } else { Ok(()) }
    }

    /// All such files.
    pub(crate) fn all_mapped(&self) -> Vec<Ino> {
        lock(&self.mapped).iter().copied().collect()
    }

    /// Whether somebody was found to be able to write a file through a mapping.
    pub(crate) fn is_mapped(&self, ino: Ino) -> bool {
        lock(&self.mapped).contains(&ino)
    }

    /// The transaction that asked has ended.
    pub(crate) fn end_claims(&self) {
        let mut entries = lock(&self.entries);
        if !entries.claimed.is_empty() || !entries.unwritten.is_empty() {
            entries.claimed.clear();
            entries.unwritten.clear();
            drop(entries);
            self.claims_ended.notify_waiters();
        }
    }

    /// Takes back what [`Self::begin`] counted. Returns whether that was the last handle, and whether the last writer.
    pub(crate) fn end(&self, ino: Ino, write: bool) -> (bool, bool) {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.open.get_mut(&ino) else { return (true, write) };
        entry.counts.open = entry.counts.open.saturating_sub(1);
        entry.counts.writers = entry.counts.writers.saturating_sub(u32::from(write));
        let ended = (entry.counts.open == 0, write && entry.counts.writers == 0);
        let io = entry.io.take_if(|_| ended.0);
        Self::sweep(&mut entries.open, ino);
        if ended.1 {
            entries.writing.ended(ino);
        }
        drop(entries);
        // It may be the end of a backing, which is told to the kernel.
        drop(io);
        ended
    }

    /// How the kernel does the I/O of an inode, if that is decided.
    pub(crate) fn io_mode(&self, ino: Ino) -> Option<IoMode> {
        lock(&self.entries).open.get(&ino).and_then(|entry| entry.io.clone())
    }

    /// Decides it, unless somebody was faster; answers what holds.
    pub(crate) fn settle_io_mode(&self, ino: Ino, proposed: IoMode) -> IoMode {
        let mut entries = lock(&self.entries);
        let settled =
            entries.open.entry(ino).or_default().io.get_or_insert_with(|| proposed.clone());
        let settled = settled.clone();
        drop(entries);
        drop(proposed);
        settled
    }

    /// The data files that somebody writes past us.
    pub(crate) fn written_through(&self) -> Vec<(Ino, Arc<Backing>)> {
        let entries = lock(&self.entries);
        let written = entries.open.iter().filter(|(_, entry)| entry.counts.writers > 0);
        let through = written.filter_map(|(ino, entry)| match &entry.io {
            Some(IoMode::Through(backing)) => Some((*ino, backing.clone())),
            _ => None,
        });
        through.collect()
    }

    /// Whether nobody looks yet at the room that is taken past us; from now on somebody does.
    pub(crate) fn begin_watch(&self) -> bool {
        !self.watched.swap(true, Ordering::AcqRel)
    }

    /// The look has ended; `false` if it must go on, because a writer came meanwhile.
    pub(crate) fn end_watch(&self) -> bool {
        self.watched.store(false, Ordering::Release);
        let nobody = self.written_through().is_empty() && lock(&self.mapped).is_empty();
        nobody || self.watched.swap(true, Ordering::AcqRel)
    }

    /// Keeps the live content of an inode for work that is no handle.
    pub(crate) fn visit(self: &Arc<Self>, ino: Ino) -> Visit {
        lock(&self.entries).open.entry(ino).or_default().guests += 1;
        Visit { table: self.clone(), ino }
    }

    /// The live content for this generation: the one in the table, or `fresh` put there. What is in the table may be newer
    /// than the row that `fresh` was made of, never older.
    pub(crate) fn adopt(&self, fresh: Arc<Live>) -> Arc<Live> {
        let mut entries = lock(&self.entries);
        let entry = entries.open.entry(fresh.ino).or_default();
        match &entry.live {
            Some(live) if live.generation >= fresh.generation => live.clone(),
            _ => {
                let old = entry.live.replace(fresh.clone());
                drop(entries);
                old.iter().for_each(|old| old.retire());
                fresh
            }
        }
    }

    /// Forgets the live content of this generation, which its row has left behind.
    pub(crate) fn forget_live(&self, ino: Ino, generation: Generation) {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.open.get_mut(&ino) else { return };
        let old = entry.live.take_if(|live| live.generation <= generation);
        drop(entries);
        old.iter().for_each(|old| old.retire());
    }

    /// What a live content knew is in its row now: called before the live content counts as told.
    pub(crate) fn note_told(&self) {
        self.told.fetch_add(1, Ordering::SeqCst);
    }

    /// What rows and live contents show together. Between the looks at the one and at the other a content can be told and
    /// let go, which would show neither: then it is looked at again, and in the end answered with what is not to be believed.
    pub(crate) fn steady<T, E>(&self, look: impl Fn(Duration) -> Result<T, E>) -> Result<T, E> {
        for _ in 0..LOOKS {
            let before = self.told.load(Ordering::SeqCst);
            let seen = look(BELIEVE)?;
            if self.told.load(Ordering::SeqCst) == before {
                return Ok(seen);
            }
        }
        look(Duration::ZERO)
    }

    /// Makes a handle for a file that was begun.
    pub(crate) fn insert(
        &self,
        live: Arc<Live>,
        mode: OpenMode,
        backing: Option<Arc<Backing>>,
    ) -> Handle {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let file = OpenFile {
            live,
            mode,
            reader: Mutex::default(),
            was_read: AtomicBool::new(false),
            backing,
            passing: tokio::sync::Mutex::default(),
        };
        lock(&self.handles).insert(number, Arc::new(file));
        Handle(number)
    }

    /// The open file of a handle.
    pub(crate) fn get(&self, handle: Handle) -> Result<Arc<OpenFile>, EngineError> {
        lock(&self.handles).get(&handle.0).cloned().ok_or(EngineError::Invalid("unknown handle"))
    }

    /// Takes a handle away.
    pub(crate) fn remove(&self, handle: Handle) -> Option<Arc<OpenFile>> {
        lock(&self.handles).remove(&handle.0)
    }

    /// Notes that this generation is being opened, and tells whether it was the last one opened before.
    pub(crate) fn same_as_last(&self, ino: Ino, generation: Generation) -> bool {
        let mut last = lock(&self.last_opened);
        if last.len() >= REMEMBERED {
            last.clear();
        }
        last.insert(ino, generation) == Some(generation)
    }

    /// What was last opened of an inode is not what it should be.
    pub(crate) fn forget_last_opened(&self, ino: Ino) {
        lock(&self.last_opened).remove(&ino);
    }

    /// Whether the pages that the kernel has of an inode that is opened past it are those of what is there.
    pub(crate) fn opened_through(&self, ino: Ino, generation: Generation, write: bool) -> bool {
        let mut last = lock(&self.last_opened);
        let same = last.get(&ino) == Some(&generation);
        if write {
            // The kernel's own pages are not written to.
            last.remove(&ino);
        }
        same
    }

    fn sweep(entries: &mut HashMap<Ino, Entry>, ino: Ino) {
        let idle = |entry: &Entry| {
            entry.counts.open == 0
                && entry.guests == 0
                && entry.live.as_ref().is_none_or(|live| live.is_at_rest())
        };
        if entries.get(&ino).is_some_and(idle) {
            entries.remove(&ino);
        }
    }

    /// Drops the live content of an inode that nobody uses any more and that has nothing left to record.
    pub(crate) fn settle(&self, ino: Ino) {
        Self::sweep(&mut lock(&self.entries).open, ino);
    }
}

/// Keeps an inode's live content in the table while it lives.
pub(crate) struct Visit {
    table: Arc<OpenTable>,
    ino: Ino,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut entries = lock(&self.table.entries);
        if let Some(entry) = entries.open.get_mut(&self.ino) {
            entry.guests = entry.guests.saturating_sub(1);
        }
        OpenTable::sweep(&mut entries.open, self.ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockSet, Content};

    fn live(generation: u64) -> Arc<Live> {
        let (ino, generation) = (Ino(7), Generation(generation));
        let blocks = BlockSet::default();
        Arc::new(Live::new(ino, generation, 10, Content::Placeholder, blocks, None, false))
    }

    #[test]
    fn a_content_of_an_older_row_never_takes_the_place_of_a_newer_one() {
        let table = Arc::new(OpenTable::default());
        let _visit = table.visit(Ino(7));
        let newer = table.adopt(live(2));
        assert!(Arc::ptr_eq(&table.adopt(live(1)), &newer));
        table.forget_live(Ino(7), Generation(1));
        assert!(table.live(Ino(7)).is_some_and(|found| Arc::ptr_eq(&found, &newer)));
        table.forget_live(Ino(7), Generation(2));
        assert!(table.live(Ino(7)).is_none());
    }

    #[test]
    fn what_was_told_between_two_looks_is_looked_at_again_or_not_believed() {
        let table = OpenTable::default();
        let looks = std::cell::Cell::new(0);
        let look = |busy: u32| {
            looks.set(0);
            table.steady(|believe| {
                looks.set(looks.get() + 1);
                if looks.get() <= busy {
                    table.note_told();
                }
                Ok::<_, ()>(believe)
            })
        };
        assert_eq!((look(0), looks.get()), (Ok(BELIEVE), 1));
        assert_eq!((look(1), looks.get()), (Ok(BELIEVE), 2));
        assert_eq!((look(9), looks.get()), (Ok(Duration::ZERO), LOOKS + 1));
    }
}
