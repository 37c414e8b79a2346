//! Room kept for the moment when the disk is full, so that the catalog can still forget.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::fs::FallocateFlags;

use super::budget::Disk;
use super::ledger::allocated;
use super::{Cache, CacheError, Result};

const MOST: u64 = 64 << 20;

/// How large the ballast of a disk is.
pub(super) fn wanted(disk: &Disk) -> u64 {
    MOST.min(disk.total / 100)
}

impl Cache {
    fn ballast_path(&self) -> PathBuf {
        self.state_dir().join("ballast")
    }

    /// Learns of the ballast of an earlier run.
    pub(super) fn find_ballast(&self) {
        let size = std::fs::metadata(self.ballast_path()).map_or(0, |file| allocated(&file));
        self.ledger().books().ballast = size;
    }

    /// Allocates the ballast file (64 MiB, at most 1 % of the disk) unless it is there, and returns its size.
    ///
    /// Returns 0 while the disk has no room for it beside `min_free` and as much again.
    pub fn restore_ballast(&self) -> Result<u64> {
        let path = self.ballast_path();
        let failed = |error: std::io::Error| CacheError::io("allocate", &path, error);
        let disk = Disk::ask(self.state_dir())?;
        let size = wanted(&disk);
        let (there, reserved) = {
            let books = self.ledger().books();
            (books.ballast, books.reserved)
        };
        if there > 0 || size == 0 {
            return Ok(there);
        }
        // It counts towards min_free, so it may lie within it; what is promised to writers it may not take.
        let floor = self.limits().min_free.saturating_sub(size).saturating_add(2 * size);
        if disk.free < floor.saturating_add(reserved) {
            return Ok(0);
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(failed)?;
        if let Err(error) = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
            std::fs::remove_file(&path).map_err(failed)?;
            return Err(failed(error.into()));
        }
        let size = file.metadata().map_or(size, |metadata| allocated(&metadata));
        self.ledger().books().ballast = size;
        Ok(size)
    }

    /// Gives the ballast's room back to the disk, and returns how much that was.
    pub fn give_up_ballast(&self) -> Result<u64> {
        let path = self.ballast_path();
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(CacheError::io("give up", &path, error)),
        }
        Ok(std::mem::take(&mut self.ledger().books().ballast))
    }
}
