//! One open data file.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, IFlags, SeekFrom, XattrFlags};
use rustix::io::Errno;

use super::ledger::{Freed, Gone, Seat, allocated};
use super::{CacheError, Reservation, Result};
use crate::model::Stamp;

/// The attribute that names the owner of a data file.
const LABEL: &str = "user.dewfs.origin";

/// Says what a data file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only; such a descriptor does not stand in the way of the read lease.
    Read,
    /// Reading and writing.
    Write,
}

/// Is one open descriptor of a data file. What the file occupies is counted anew after each act and when this is dropped.
#[derive(Debug)]
pub struct DataFile {
    /// Dropped before the descriptor: once that is closed, the disk may give the file's number to another one.
    seat: Seat,
    pub(super) file: File,
    /// Dropped behind the descriptor: what a removed file occupies is free once that is closed, and no sooner.
    _freed: Arc<Freed>,
    path: PathBuf,
    access: Access,
}

impl DataFile {
    pub(super) fn new(file: File, path: PathBuf, access: Access, seat: Seat) -> Self {
        let freed = seat.freed();
        Self { seat, file, _freed: freed, path, access }
    }

    fn failed<E: Into<io::Error>>(&self, action: &'static str) -> impl FnOnce(E) -> CacheError {
        move |error| CacheError::io(action, &self.path, error)
    }

    fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map_err(self.failed("examine"))
    }

    /// Where it was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Reads from `offset` until the buffer or the file ends; fewer bytes than asked means the end of the file.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("read")(error)),
            }
        }
        Ok(done)
    }

    /// Fills the buffer from `offset`; an earlier end of the file is an error.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buf, offset).map_err(self.failed("read"))
    }

    /// Writes all bytes at `offset`. Room for them was reserved before.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = self.file.write_all_at(bytes, offset);
        self.seat.recount(&self.file);
        written.map_err(self.failed("write"))
    }

    /// Writes all bytes at `offset` into room that was reserved. What is promised becomes what is used in one step, so that
    /// no other writer is refused in between.
    pub fn write_reserved(&self, room: &mut Reservation, bytes: &[u8], offset: u64) -> Result<()> {
        let written = self.file.write_all_at(bytes, offset);
        self.seat.recount_from(&self.file, room, bytes.len() as u64);
        written.map_err(self.failed("write"))
    }

    /// Cuts or lengthens the file; a longer file ends in a hole.
    pub fn set_len(&self, size: u64) -> Result<()> {
        let cut = self.file.set_len(size);
        self.seat.recount(&self.file);
        if size == 0 && cut.is_ok() {
            self.seat.ledger().note_lossy(&self.path, false);
        }
        cut.map_err(self.failed("resize"))
    }

    /// Brings the bytes to the disk, and protects mapped pages so that a later store moves the stamp.
    ///
    /// What the disk could not take is gone, and the system tells of it once: from then on this is [`CacheError::Lost`], until
    /// the file is emptied.
    pub fn sync_data(&self) -> Result<()> {
        let ledger = self.seat.ledger();
        if ledger.is_lossy(&self.path) {
            return Err(CacheError::Lost { path: self.path.clone() });
        }
        let synced = self.try_sync();
        self.seat.recount(&self.file);
        if let Err(Errno::IO | Errno::NOSPC | Errno::DQUOT) =
            synced.as_ref().map_err(|error| Errno::from_io_error(error).unwrap_or(Errno::INVAL))
        {
            ledger.note_lossy(&self.path, true);
        }
        synced.map_err(self.failed("sync"))
    }

    fn try_sync(&self) -> io::Result<()> {
        let synced = self.file.sync_data();
        #[cfg(debug_assertions)]
        if take_failure(&self.path) {
            return Err(Errno::IO.into());
        }
        synced
    }

    /// Size and ctime now. Equal to an earlier ripe one ([`Cache::ripe_stamp`](super::Cache::ripe_stamp)) = not written.
    pub fn stamp(&self) -> Result<Stamp> {
        self.metadata().map(|metadata| stamp(&metadata))
    }

    /// Whether nothing was written since `stamp` was taken, not even through a mapping.
    pub fn unmoved_since(&self, stamp: Stamp) -> Result<bool> {
        self.sync_data()?;
        Ok(self.stamp()? == stamp)
    }

    /// Length in bytes.
    pub fn size(&self) -> Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    /// Mtime of the data file in nanoseconds since 1970.
    pub fn mtime(&self) -> Result<i64> {
        self.metadata().map(|metadata| nanoseconds(metadata.mtime(), metadata.mtime_nsec()))
    }

    /// Bytes it occupies on the disk.
    pub fn allocated(&self) -> Result<u64> {
        self.metadata().map(|metadata| allocated(&metadata))
    }

    /// Counts anew what it occupies, for writers that go past us.
    pub fn recount(&self) {
        self.seat.recount(&self.file);
    }

    /// Makes a hole of the range and gives back its room. The size stays. Moves the stamp.
    pub fn punch(&self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.fallocate(hole, range.start, range.end - range.start)
    }

    /// Does what fallocate(2) does. Room for what is allocated was reserved before.
    pub fn fallocate(&self, mode: FallocateFlags, offset: u64, len: u64) -> Result<()> {
        let done = rustix::fs::fallocate(&self.file, mode, offset, len);
        self.seat.recount(&self.file);
        done.map_err(self.failed("allocate"))
    }

    /// The next offset at or after `offset` that holds data; `None` if only a hole or nothing follows.
    pub fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        self.seek(SeekFrom::Data(offset))
    }

    /// The next offset at or after `offset` that lies in a hole, at the latest the end; `None` beyond the end.
    pub fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        self.seek(SeekFrom::Hole(offset))
    }

    fn seek(&self, to: SeekFrom) -> Result<Option<u64>> {
        match rustix::fs::seek(&self.file, to) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(self.failed("seek in")(error)),
        }
    }

    /// Notes on the file whose content it is, for naming it should it ever end in `recovered/`; `false` where the file
    /// system keeps no such notes. Moves the stamp, so it is done before the file is in use.
    pub fn set_label(&self, label: &[u8]) -> Result<bool> {
        match rustix::fs::fsetxattr(&self.file, LABEL, label, XattrFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(self.failed("label")(error)),
        }
    }

    /// What was noted with [`Self::set_label`].
    pub fn label(&self) -> Result<Option<Vec<u8>>> {
        let mut label = vec![0; 64 * 1024];
        match rustix::fs::fgetxattr(&self.file, LABEL, label.as_mut_slice()) {
            Ok(len) => {
                label.truncate(len);
                Ok(Some(label))
            }
            Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(None),
            Err(error) => Err(self.failed("read the label of")(error)),
        }
    }

    /// Stops everybody who has the file open for writing, or lets them go on, where the file system does that
    /// ([`Examination::brake`](super::Examination)). Moves the stamp if it changes something.
    pub fn brake(&self, pulled: bool) -> Result<()> {
        let failed = self.failed("stop writers of");
        let change = || {
            let before = rustix::fs::ioctl_getflags(&self.file)?;
            let mut after = before;
            after.set(IFlags::IMMUTABLE, pulled);
            if after == before { Ok(()) } else { rustix::fs::ioctl_setflags(&self.file, after) }
        };
        change().map_err(failed)
    }

    /// Another descriptor of the same open file.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone().map_err(self.failed("open"))?;
        Ok(Self::new(file, self.path.clone(), self.access, self.seat.share()))
    }

    pub(super) fn set_gone(&self, gone: Gone) {
        self.seat.set_gone(gone);
    }
}

impl AsFd for DataFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        self.seat.recount(&self.file);
    }
}

/// The stamp that a file's metadata holds.
pub(super) fn stamp(metadata: &Metadata) -> Stamp {
    Stamp { size: metadata.len(), ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()) }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(debug_assertions)]
static TO_FAIL: std::sync::Mutex<Vec<PathBuf>> = std::sync::Mutex::new(Vec::new());

#[cfg(debug_assertions)]
fn to_fail() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    TO_FAIL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Lets the next sync of a data file of this process fail, for a test; nothing of it is in release builds.
#[cfg(debug_assertions)]
pub fn fail_next_sync(path: &Path) {
    to_fail().push(path.to_owned());
}

/// Whether the sync that was to fail is still to come.
#[cfg(debug_assertions)]
pub fn is_sync_to_fail(path: &Path) -> bool {
    to_fail().iter().any(|one| one == path)
}

#[cfg(debug_assertions)]
fn take_failure(path: &Path) -> bool {
    let mut to_fail = to_fail();
    let at = to_fail.iter().position(|one| one == path);
    at.map(|at| to_fail.swap_remove(at)).is_some()
}
