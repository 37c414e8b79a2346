//! What a state directory occupies, measured at single instants all the time.
#![allow(dead_code)]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};

/// A directory on a file system of its own, which tells in one number what it holds. Needs root; elsewhere it is a plain
/// directory and only says so.
pub(crate) struct Room {
    dir: tempfile::TempDir,
    exact: bool,
    /// Where it is somebody else's: its place, and what was used of it before.
    other: Option<(PathBuf, u64)>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::of(c"size=2G,mode=0700")
    }

    /// One of another size.
    pub(crate) fn of(options: &std::ffi::CStr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            rustix::mount::mount("dewfs-test", dir.path(), "tmpfs", MountFlags::empty(), options);
        if let Err(why) = &mounted {
            eprintln!("the limit is NOT LOOKED AT: no file system of its own: {why}");
        }
        Self { dir, exact: mounted.is_ok(), other: None }
    }

    /// One that somebody else made and takes away.
    pub(crate) fn at(root: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, exact: true, other: Some((root.to_owned(), used(root))) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.other.as_ref().map_or(self.dir.path(), |(root, _)| root)
    }

    /// By how much less is free at this instant than `min_free`; the reserve for the catalog counts towards it.
    pub(crate) fn short_of(&self, min_free: u64, state: &Path) -> Option<u64> {
        if !self.exact {
            return None;
        }
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        let reserve =
            std::fs::metadata(state.join("ballast")).map_or(0, |file| file.blocks() * 512);
        Some(min_free.saturating_sub(disk.f_bavail * disk.f_frsize + reserve))
    }

    /// What content occupies at this instant: all that is not the catalog's.
    pub(crate) fn content(&self, state: &Path) -> Option<u64> {
        if !self.exact {
            return None;
        }
        let first = self.other.as_ref().map_or(0, |(_, first)| *first);
        let before = others(state);
        let used = used(self.path());
        Some(used.saturating_sub(first + before.max(others(state))))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.exact && self.other.is_none() {
            // Whoever still holds a file there keeps only that.
            let gone = rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH);
            assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
        }
    }
}

fn used(root: &Path) -> u64 {
    let disk = rustix::fs::statvfs(root).unwrap();
    (disk.f_blocks - disk.f_bfree) * disk.f_frsize
}

/// What lies in the state directory beside `data/` and `staging/`, with one block for each name.
fn others(state: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(state) else { return 0 };
    let entries = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    entries.filter(|metadata| metadata.is_file()).map(|metadata| metadata.blocks() * 512).sum()
}

/// A thread that looks without pause, and tells the most that was there.
pub(crate) struct Sampler {
    over: Arc<AtomicBool>,
    limit: u64,
    thread: Option<JoinHandle<(u64, u64)>>,
    pub(crate) room: Arc<Room>,
}

impl Sampler {
    pub(crate) fn start(room: Arc<Room>, state: PathBuf, limit: u64) -> Self {
        let looked_at = room.clone();
        Self::of(room, limit, move || looked_at.content(&state).unwrap_or(0))
    }

    /// Looks whether `min_free` holds; the catalog may take `slack` of it.
    pub(crate) fn of_free(room: Arc<Room>, state: PathBuf, min_free: u64, slack: u64) -> Self {
        let looked_at = room.clone();
        Self::of(room, slack, move || looked_at.short_of(min_free, &state).unwrap_or(0))
    }

    fn of(room: Arc<Room>, limit: u64, measure: impl Fn() -> u64 + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let end = over.clone();
        let thread = std::thread::spawn(move || {
            let (mut most, mut looks) = (0, 0);
            loop {
                most = most.max(measure());
                looks += 1;
                if end.load(Ordering::Relaxed) {
                    return (most, looks);
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        Self { over, limit, thread: Some(thread), room }
    }

    /// Ends it; the limit must have held all the time, and at least `used` must have been there.
    pub(crate) fn end(mut self, used: u64) {
        self.over.store(true, Ordering::Relaxed);
        let (most, looks) = self.thread.take().unwrap().join().unwrap();
        eprintln!("at most {most} of {} bytes in {looks} looks", self.limit);
        assert!(most <= self.limit, "{most} bytes were there, {} are allowed", self.limit);
        assert!(most >= used || !self.room.exact, "only {most} bytes were ever used");
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
