//! The one account of what data files occupy and what is promised to be written.
//!
//! A file in use has an entry with the bytes counted for it, so that writers that go past us cannot make a later removal
//! give back more than was ever counted. Files at rest are counted by one walk after start, a directory at a time under the
//! lock; who is opened before its directory is walked is counted then and skipped by the walk.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{DirEntry, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Reservation;
use crate::model::Ino;

/// Where the walk is when it has seen every directory.
const DONE: u16 = 256;

/// The directory below `data/` that an inode's data files lie in.
pub(super) fn shelf(ino: Ino) -> u8 {
    (ino.0 & 0xff) as u8
}

/// Bytes that a file occupies on the disk.
pub(super) fn allocated(metadata: &Metadata) -> u64 {
    metadata.blocks().saturating_mul(512)
}

#[derive(Debug, Default)]
struct Entry {
    counted: u64,
    openers: u32,
    gone: bool,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    /// Bytes that data files occupy, of those counted so far.
    pub(super) used: u64,
    /// Bytes promised and not yet written.
    pub(super) reserved: u64,
    /// Bytes of the ballast file.
    pub(super) ballast: u64,
    /// By the data file's own inode number on the disk, which is not used again while the file is open.
    files: HashMap<u64, Entry>,
    /// Counted by being opened before the walk came by.
    claimed: HashSet<u64>,
    /// The first directory not yet walked.
    walked: u16,
    /// What all data files occupied when the last daemon ended, if it could tell, and by how much that has changed since.
    known: Option<u64>,
    moved: i64,
    /// Whether nothing is promised any more: what is counted is the last word.
    pub(super) closed: bool,
}

impl Books {
    fn recount(&mut self, file: u64, now: u64) {
        if let Some(entry) = self.files.get_mut(&file) {
            let before = std::mem::replace(&mut entry.counted, now);
            self.used = self.used.saturating_sub(before).saturating_add(now);
            self.moved = self.moved.saturating_add_unsigned(now).saturating_sub_unsigned(before);
        }
    }

    fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        self.moved = self.moved.saturating_sub_unsigned(bytes);
    }

    /// What data files occupied when the last daemon ended, and nobody wrote to them since.
    pub(super) fn know(&mut self, bytes: u64) {
        self.known = Some(bytes);
    }

    /// What data files occupy for certain, as soon as that can be told.
    pub(super) fn sure(&self) -> Option<u64> {
        match self.is_counted() {
            true => Some(self.used),
            false => self.known.map(|known| known.saturating_add_signed(self.moved)),
        }
    }

    /// Whether every data file is counted.
    pub(super) fn is_counted(&self) -> bool {
        self.walked >= DONE
    }
}

/// Is the account. Its lock is a leaf: nothing else is locked under it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    counted: Condvar,
    /// Data files of which the disk lost something.
    lossy: Mutex<HashSet<PathBuf>>,
}

impl Ledger {
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the disk lost something of this data file.
    pub(super) fn is_lossy(&self, path: &Path) -> bool {
        self.lossy.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Notes that the disk lost something of this data file, or that it holds nothing any more that could be lost.
    pub(super) fn note_lossy(&self, path: &Path, is_lossy: bool) {
        let mut lossy = self.lossy.lock().unwrap_or_else(PoisonError::into_inner);
        if is_lossy {
            lossy.insert(path.to_owned());
        } else {
            lossy.remove(path);
        }
    }

    /// Waits until every data file is counted.
    pub(super) fn wait_counted<'a>(
        &'a self,
        books: MutexGuard<'a, Books>,
    ) -> MutexGuard<'a, Books> {
        self.counted
            .wait_while(books, |books| !books.is_counted())
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a data file into use. What it occupies is asked under the lock, as everywhere: an older answer would undo
    /// what others counted since.
    pub(super) fn enter(self: &Arc<Self>, ino: Ino, file: &File) -> io::Result<Seat> {
        let mut books = self.books();
        let metadata = file.metadata()?;
        let (file, now) = (metadata.ino(), allocated(&metadata));
        let entry = books.files.entry(file).or_default();
        entry.openers += 1;
        if entry.openers == 1 && metadata.nlink() == 0 {
            // It was removed between its opening and now, and given back then: nobody gives it back once more.
            entry.gone = true;
        } else if entry.openers == 1 {
            entry.counted = now;
            if u16::from(shelf(ino)) >= books.walked && books.claimed.insert(file) {
                books.used = books.used.saturating_add(now);
            }
        } else {
            books.recount(file, now);
        }
        drop(books);
        let freed = Freed { ledger: Arc::clone(self), bytes: AtomicU64::new(0) };
        Ok(Seat { ledger: Arc::clone(self), file, freed: Arc::new(freed) })
    }

    /// Counts what lies in the directories of `data` that are not walked yet; ends early when `stopped` says so.
    pub(super) fn walk(&self, data: &Path, mut stopped: impl FnMut() -> bool) {
        // What is made later is of this life, and counted when it is opened.
        let there = std::fs::read_dir(data).into_iter().flatten().flatten();
        let there: HashSet<OsString> = there.map(|shelf| shelf.file_name()).collect();
        loop {
            let Ok(next) = u8::try_from(self.books().walked) else { break };
            if stopped() {
                return;
            }
            let shelf = OsString::from(format!("{next:02x}"));
            let files = there.contains(&shelf).then(|| std::fs::read_dir(data.join(shelf)));
            let mut counted = Vec::new();
            for file in files.into_iter().flatten().flatten().flatten() {
                counted.extend(self.count(&file));
            }
            let mut books = self.books();
            books.walked += 1;
            for file in counted {
                books.claimed.remove(&file);
            }
        }
        self.books().claimed = HashSet::new();
        self.counted.notify_all();
    }

    /// Counts a file that nobody has opened; its inode number if it was. The lock is held for this file alone: who opens or
    /// writes another one waits for no cold disk.
    fn count(&self, file: &DirEntry) -> Option<u64> {
        let mut books = self.books();
        let metadata = file.metadata().ok().filter(Metadata::is_file)?;
        if !books.claimed.insert(metadata.ino()) {
            return None;
        }
        books.used = books.used.saturating_add(allocated(&metadata));
        Some(metadata.ino())
    }
}

/// Is one use of a data file; the file's entry goes with the last one.
#[derive(Debug)]
pub(super) struct Seat {
    ledger: Arc<Ledger>,
    file: u64,
    freed: Arc<Freed>,
}

/// Is what a removed file occupied: given back when the last who holds this, and closed its descriptor before, lets go of it.
/// Only then are the bytes free on the disk.
#[derive(Debug)]
pub(super) struct Freed {
    ledger: Arc<Ledger>,
    bytes: AtomicU64,
}

impl Drop for Freed {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        if bytes > 0 {
            self.ledger.books().give_back(bytes);
        }
    }
}

impl Seat {
    /// The account that it is in.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Reads anew what the file occupies. The lock is held over the question, so the last answer is the newest.
    pub(super) fn recount(&self, file: &File) {
        let mut books = self.ledger.books();
        if let Ok(metadata) = file.metadata() {
            books.recount(self.file, allocated(&metadata));
        }
    }

    /// Reads anew what the file occupies, and takes `bytes` off what was promised to its writer.
    pub(super) fn recount_from(&self, file: &File, room: &mut Reservation, bytes: u64) {
        let mut books = self.ledger.books();
        if let Ok(metadata) = file.metadata() {
            books.recount(self.file, allocated(&metadata));
        }
        room.take(&mut books, bytes);
    }

    /// Takes another use of the same file.
    pub(super) fn share(&self) -> Self {
        if let Some(entry) = self.ledger.books().files.get_mut(&self.file) {
            entry.openers += 1;
        }
        let freed = self.freed();
        Self { ledger: Arc::clone(&self.ledger), file: self.file, freed }
    }

    /// To be held until the descriptor is closed.
    pub(super) fn freed(&self) -> Arc<Freed> {
        Arc::clone(&self.freed)
    }

    /// Says that the file is no longer in `data/`, or is after all: what it occupies is given back with its last use.
    pub(super) fn set_gone(&self, gone: Gone) {
        if let Some(entry) = self.ledger.books().files.get_mut(&self.file) {
            entry.gone = gone == Gone::Yes;
        }
    }
}

/// Says whether a file has left `data/`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Yes,
    No,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        let Some(entry) = books.files.get_mut(&self.file) else { return };
        entry.openers -= 1;
        if entry.openers == 0 {
            let freed = if entry.gone { entry.counted } else { 0 };
            books.files.remove(&self.file);
            self.freed.bytes.fetch_add(freed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Two removed one file: who had opened it before the other one's removal, and took it into use after that, gave its room
    /// back a second time, and `cache_size` was exceeded by as much from then on.
    #[test]
    fn regression_what_was_removed_is_given_back_once() {
        let (dir, ledger) = (tempfile::tempdir().unwrap(), Arc::new(Ledger::default()));
        let (path, ino) = (dir.path().join("one"), Ino(7));
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let [first, second] = [(); 2].map(|()| File::open(&path).unwrap());
        let other = 3 << 20;
        ledger.books().used = other;
        let remove = |file: File| {
            let seat = ledger.enter(ino, &file).unwrap();
            seat.set_gone(Gone::Yes);
            drop(std::fs::remove_file(&path));
            drop(seat);
        };
        remove(first);
        assert_eq!(ledger.books().used, other);
        remove(second);
        assert_eq!(ledger.books().used, other);
    }
}
