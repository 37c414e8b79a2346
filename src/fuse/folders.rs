//! Folder pages, and the other requests about a folder as a whole.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{
    FileHandle, FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyOpen,
    ReplyStatfs,
};

use super::answer::Call;
use super::attributes::{GENERATION, attributes, file_type, folder, generation, ino, number};
use super::copies::Use;
use super::filesystem::Kernel;
use crate::engine::{Answer, Engine, FileSystemSpace, Reach};

/// Cookies of `.` and `..`; entries have their inode number, which begins at 3.
const DOTS: [(u64, &str); 2] = [(1, "."), (2, "..")];

/// Entries asked of the engine for one page at least, and at most; what does not fit is asked for again.
const FEWEST: usize = 32;
const MOST: usize = 1024;

/// The unit in which statfs(2) counts.
const BLOCK: u32 = 4096;

/// Inodes that can still be made: there is no limit but the disk.
const FREE_INODES: u64 = 1 << 40;

/// Knows how many entries go into one page. The kernel's buffer decides: 4 KiB in older kernels, much more in newer ones; what is
/// read from the catalog beyond that is thrown away.
#[derive(Debug)]
pub(super) struct PageSize(AtomicUsize);

impl Default for PageSize {
    fn default() -> Self {
        Self(AtomicUsize::new(MOST / 8))
    }
}

impl PageSize {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns from a page for which `asked` entries were read, of which only `fitted` went in.
    fn learn(&self, asked: usize, fitted: usize) {
        // Names differ in length: a few more than fitted last are asked for.
        let next = if fitted < asked { fitted + fitted / 4 } else { asked * 2 };
        self.0.store(next.clamp(FEWEST, MOST), Ordering::Relaxed);
    }
}

/// Knows of each open folder how far whoever reads it has something to read, from his first page on.
#[derive(Default)]
pub(super) struct OpenFolders {
    last: AtomicU64,
    reach: Mutex<HashMap<u64, Reach>>,
}

impl OpenFolders {
    /// A handle for one more.
    pub(super) fn open(&self) -> FileHandle {
        FileHandle(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// How far the page at this offset goes, if that is decided: whoever begins anew gets what there is now.
    fn reach(&self, fh: FileHandle, offset: u64) -> Option<Reach> {
        self.all().get(&fh.0).copied().filter(|_| offset > 0)
    }

    fn note(&self, fh: FileHandle, reach: Reach) {
        self.all().insert(fh.0, reach);
    }

    /// Nobody reads it any more.
    pub(super) fn close(&self, fh: FileHandle) {
        self.all().remove(&fh.0);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Reach>> {
        // Nothing in here can leave the map half changed.
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cookie after which the engine continues.
fn after_dots(offset: u64) -> u64 {
    if offset <= 2 { 0 } else { offset }
}

/// The dots that a page beginning after `offset` still has to show. `..` carries the folder's own number: nobody relies on
/// it, and `stat` of `..` is answered by the kernel.
fn dots(offset: u64) -> impl Iterator<Item = (u64, &'static str)> {
    DOTS.into_iter().filter(move |(cookie, _)| *cookie > offset)
}

impl Kernel {
    /// Somebody opens a folder, to read it.
    pub(super) fn open_folder(&self, at: INodeNo, reply: ReplyOpen) {
        let fh = self.folders.open();
        let used = self.copies.open(at, fh);
        // Who reads the copy asks for no page.
        let verb = |engine: &Engine| {
            Answer::Ready(Ok(used == Use::Kept && engine.begins_to_read_again(ino(at))))
        };
        self.door.answer(Call::of("opendir", at), reply, verb, move |reply, is_known| {
            let used = if used == Use::Kept && !is_known { Use::Anew } else { used };
            reply.opened(fh, used.flags());
        });
    }

    /// A page of names.
    pub(super) fn read_names(
        &self,
        at: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let call = Call::in_folder("readdir", at);
        let pages = Arc::clone(&self.names_a_page);
        let asked = pages.get();
        let (open, reach) = (Arc::clone(&self.folders), self.folders.reach(fh, offset));
        let verb = |engine: &Engine| engine.read_page(ino(at), after_dots(offset), reach, asked);
        self.door.answer(call, reply, verb, move |mut reply, page| {
            open.note(fh, page.reach);
            for (cookie, name) in dots(offset) {
                if reply.add(at, cookie, FileType::Directory, name) {
                    return reply.ok();
                }
            }
            let (got, mut fitted) = (page.entries.len(), 0);
            for entry in page.entries {
                let name = OsStr::from_bytes(entry.name.as_bytes());
                let kind = file_type(entry.stat.kind);
                if reply.add(number(entry.stat.ino), entry.cookie, kind, name) {
                    break;
                }
                fitted += 1;
            }
            if fitted < got || got == asked {
                pages.learn(asked, fitted);
            }
            reply.ok();
        });
    }

    /// A page of names with their attributes.
    pub(super) fn read_entries(
        &self,
        at: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let call = Call::in_folder("readdirplus", at);
        let pages = Arc::clone(&self.entries_a_page);
        let asked = pages.get();
        let (open, reach) = (Arc::clone(&self.folders), self.folders.reach(fh, offset));
        let verb = |engine: &Engine| engine.read_page(ino(at), after_dots(offset), reach, asked);
        self.door.answer(call, reply, verb, move |mut reply, page| {
            open.note(fh, page.reach);
            for (cookie, name) in dots(offset) {
                if reply.add(at, cookie, name, &Duration::ZERO, &folder(at), GENERATION) {
                    return reply.ok();
                }
            }
            let (got, mut fitted) = (page.entries.len(), 0);
            for entry in page.entries {
                let name = OsStr::from_bytes(entry.name.as_bytes());
                let (ino, believe) = (number(entry.stat.ino), entry.stat.believe);
                let (attributes, life) = (attributes(&entry.stat), generation(&entry.stat));
                if reply.add(ino, entry.cookie, name, &believe, &attributes, life) {
                    break;
                }
                fitted += 1;
            }
            if fitted < got || got == asked {
                pages.learn(asked, fitted);
            }
            reply.ok();
        });
    }

    /// Makes a folder's names survive a power cut.
    pub(super) fn sync_folder(&self, at: INodeNo, reply: ReplyEmpty) {
        let verb = |engine: &Engine| engine.sync_folder(ino(at));
        let call = Call::of("fsyncdir", at).may_transfer();
        self.door.answer(call, reply, verb, |reply, ()| reply.ok());
    }

    /// How much room there is.
    pub(super) fn space(&self, at: INodeNo, reply: ReplyStatfs) {
        self.door.answer(Call::of("statfs", at), reply, Engine::space, |reply, space| {
            let FileSystemSpace { total, free, items } = space;
            let (total, free) = (total / u64::from(BLOCK), free / u64::from(BLOCK));
            let inodes = items.saturating_add(FREE_INODES);
            reply.statfs(total, free, free, inodes, FREE_INODES, BLOCK, 255, BLOCK);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_entries_are_read_as_fit() {
        let pages = PageSize::default();
        pages.learn(128, 25);
        assert_eq!(pages.get(), FEWEST);
        pages.learn(32, 32);
        pages.learn(64, 64);
        pages.learn(128, 100);
        assert_eq!(pages.get(), 125);
        pages.learn(128, 0);
        assert_eq!(pages.get(), FEWEST);
    }

    #[test]
    fn dots_come_first_and_once() {
        assert_eq!(dots(0).collect::<Vec<_>>(), [(1, "."), (2, "..")]);
        assert_eq!(dots(1).collect::<Vec<_>>(), [(2, "..")]);
        assert_eq!(dots(2).count(), 0);
        assert_eq!(dots(3).count(), 0);
        assert_eq!((after_dots(0), after_dots(2), after_dots(3)), (0, 0, 3));
    }
}
