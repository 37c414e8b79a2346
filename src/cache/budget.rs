//! Room is reserved before it is written to.

use std::path::Path;
use std::sync::Arc;

use super::ledger::{Books, Ledger};
use super::{CacheError, Result, ballast};

/// Is how much content may be kept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What data files may occupy together.
    pub cache_size: u64,
    /// What stays free on the disk.
    pub min_free: u64,
}

/// Is how much content is kept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What data files occupy.
    pub used_bytes: u64,
    /// What is reserved and not yet written.
    pub reserved_bytes: u64,
    /// What they may occupy.
    pub limit_bytes: u64,
    /// What the disk has free for an ordinary user.
    pub free_bytes: u64,
    /// What must stay free of it; the ballast counts towards it.
    pub min_free: u64,
    /// Size of the ballast file.
    pub ballast_bytes: u64,
    /// `false` while data files of an earlier run are still being counted; `used_bytes` may be too small until then.
    pub counted: bool,
}

impl Usage {
    /// How many bytes more may be written now, by both limits.
    pub fn room(&self) -> u64 {
        let by_limit =
            self.limit_bytes.saturating_sub(self.used_bytes).saturating_sub(self.reserved_bytes);
        let by_disk = (self.free_bytes.saturating_add(self.ballast_bytes))
            .saturating_sub(self.min_free)
            .min(self.free_bytes)
            .saturating_sub(self.reserved_bytes);
        by_limit.min(by_disk)
    }
}

/// Is room promised to one writer. What is left of it is given back when dropped.
#[derive(Debug)]
#[must_use = "the room is given back when this is dropped"]
pub struct Reservation {
    ledger: Arc<Ledger>,
    left: u64,
}

impl Reservation {
    /// Says that so many of the bytes are written: from now on they are counted as part of their data file.
    pub fn used(&mut self, bytes: u64) {
        let ledger = Arc::clone(&self.ledger);
        self.take(&mut ledger.books(), bytes);
    }

    pub(super) fn take(&mut self, books: &mut Books, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        books.reserved = books.reserved.saturating_sub(bytes);
    }

    /// Bytes not yet written.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used(self.left);
    }
}

/// What the file system says about itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) free: u64,
    pub(super) total: u64,
    /// In use, including what only root could use.
    pub(super) occupied: u64,
    pub(super) block: u64,
}

impl Disk {
    pub(super) fn ask(dir: &Path) -> Result<Self> {
        let disk = rustix::fs::statvfs(dir).map_err(|e| CacheError::io("measure", dir, e))?;
        // A tmpfs without a limit says that it has no blocks at all.
        let free = if disk.f_blocks == 0 { u64::MAX / 4 } else { disk.f_bavail };
        Ok(Self {
            free: free.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
            occupied: disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize),
            block: disk.f_frsize.max(512),
        })
    }

    /// The most that writing so many bytes in one piece can occupy: blocks cut at both ends, and one for the map of the
    /// file.
    fn most(&self, bytes: u64) -> u64 {
        match bytes {
            0 => 0,
            _ => bytes.div_ceil(self.block).saturating_add(2).saturating_mul(self.block),
        }
    }
}

/// Promises room for `bytes`, counted at once, or says which limit stands in the way.
pub(super) fn reserve(
    ledger: &Arc<Ledger>,
    dir: &Path,
    limits: Limits,
    bytes: u64,
    may_wait: bool,
) -> Result<Reservation> {
    let mut books = ledger.books();
    let mut disk = Disk::ask(dir)?;
    let needed = disk.most(bytes);
    // Until all is counted, the disk's own number is the least that is certainly not too small.
    let surely_fits = |disk: &Disk, reserved: u64| {
        disk.occupied.saturating_add(reserved).saturating_add(needed) <= limits.cache_size
    };
    if books.sure().is_none() && !surely_fits(&disk, books.reserved) {
        if !may_wait {
            let used = disk.occupied.saturating_add(books.reserved);
            return Err(CacheError::OverLimit { needed, used, limit: limits.cache_size });
        }
        books = ledger.wait_counted(books);
        disk = Disk::ask(dir)?;
    }
    let sure = books.sure().map(|sure| sure.saturating_add(books.reserved));
    if let Some(used) = sure
        && (books.closed || used.saturating_add(needed) > limits.cache_size)
    {
        return Err(CacheError::OverLimit { needed, used, limit: limits.cache_size });
    }
    let promised = books.reserved.saturating_add(needed);
    // The ballast's room is the catalog's, also after it was given up.
    let stays = limits.min_free.max(ballast::wanted(&disk));
    let short = disk.free < promised
        || disk.free.saturating_add(books.ballast) < promised.saturating_add(stays);
    if short && needed > 0 {
        return Err(CacheError::DiskFull { path: dir.to_owned() });
    }
    books.reserved = promised;
    drop(books);
    Ok(Reservation { ledger: Arc::clone(ledger), left: needed })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use super::*;
    use crate::model::Ino;

    /// After each start of a large state who wrote or read waited until all data files were counted, for minutes.
    #[test]
    fn regression_what_is_known_of_the_last_life_needs_no_counting_and_is_the_limit() {
        let (dir, ledger) = (tempfile::tempdir().unwrap(), Arc::new(Ledger::default()));
        let limits = Limits { cache_size: 4 << 20, min_free: 0 };
        let ask = |bytes| reserve(&ledger, dir.path(), limits, bytes, false);
        let is_refused = |bytes| matches!(ask(bytes), Err(CacheError::OverLimit { .. }));
        ledger.books().know(2 << 20);
        let first = ask(1 << 20).unwrap();
        assert!(is_refused(1 << 20), "what is promised counts as well");
        drop(first);
        // What grows and what goes moves what is known.
        let path = dir.path().join("one");
        let file = File::create(&path).unwrap();
        let seat = ledger.enter(Ino(7), &file).unwrap();
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        seat.recount(&file);
        assert!(is_refused(1 << 20));
        seat.set_gone(super::super::ledger::Gone::Yes);
        drop(seat);
        drop(ask(1 << 20).unwrap());
        // Once the books are closed nothing is promised any more: what was told stays enough.
        ledger.books().closed = true;
        assert!(is_refused(1));
    }
}
