//! A whole moment of a data file, for an upload.
//!
//! Small files are copied to memory, larger ones shared by reflink; where there is none, they are sent from the data file
//! itself, under a stamp that is compared again before the upload becomes visible. A lease is not needed for any of it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Cache, CacheError, DataFile, Result, digest_bytes};
use crate::model::{Digest, Ino, Stamp};

/// What is copied to memory, at most.
const SMALL: u64 = 1 << 20;

/// Is where the bytes of a snapshot are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotBody {
    /// In memory.
    Memory(Bytes),
    /// In a file.
    File {
        /// Where.
        path: PathBuf,
        /// `true`: a copy of our own that nobody changes. `false`: the data file itself, whole only as long as
        /// [`DataFile::unmoved_since`] says so of the snapshot's stamp.
        owned: bool,
    },
}

/// Is a whole moment of a data file. A copy of its own is removed when this is dropped.
#[derive(Debug)]
pub struct Snapshot {
    /// The bytes.
    pub body: SnapshotBody,
    /// The data file's stamp at that moment.
    pub stamp: Stamp,
    /// What the bytes are for certain.
    pub digest: Digest,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let SnapshotBody::File { path, owned: true } = &self.body {
            discard(path);
        }
    }
}

/// Is what a large data file held when it was read ahead of its upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// Its stamp then: as long as it has that one, it holds the same.
    pub stamp: Stamp,
    /// What it held for certain.
    pub digest: Digest,
}

impl Cache {
    /// Brings a large data file to the disk and reads it, so that a snapshot need not: `None` if it is small, if it is written
    /// to meanwhile, or if `go_on` says no, which is asked now and then.
    pub fn foresee(&self, data: &DataFile, go_on: impl Fn() -> bool) -> Result<Option<Foreseen>> {
        if data.size()? <= SMALL {
            return Ok(None);
        }
        match self.whole_moment(data, || data.digest_while(&go_on)) {
            Ok((stamp, digest)) => Ok(digest.map(|digest| Foreseen { stamp, digest })),
            Err(CacheError::Moving { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a whole moment of `data` for an attempt: [`CacheError::Moving`] if it is written to meanwhile.
    pub fn snapshot(&self, ino: Ino, attempt: u64, data: &DataFile) -> Result<Snapshot> {
        self.snapshot_of(ino, attempt, data, None)
    }

    /// The same; a large file that is as it was foreseen is not read again.
    pub fn snapshot_of(
        &self,
        ino: Ino,
        attempt: u64,
        data: &DataFile,
        foreseen: Option<Foreseen>,
    ) -> Result<Snapshot> {
        let known = |stamp| foreseen.filter(|one| one.stamp == stamp).map(|one| one.digest);
        if data.size()? <= SMALL {
            let (stamp, bytes) = self.whole_moment(data, || read_small(data))?;
            let digest = digest_bytes(&bytes);
            return Ok(Snapshot { body: SnapshotBody::Memory(bytes.into()), stamp, digest });
        }
        let path = self.state_dir().join(format!("staging/{ino}.{attempt}"));
        let (stamp, copy) = match self.whole_moment(data, || reflink(data, &path)) {
            Err(error) => {
                discard(&path);
                return Err(error);
            }
            Ok(done) => done,
        };
        match copy {
            Some(copy) => {
                // Owned from here on, so that it goes if it cannot be read.
                let body = SnapshotBody::File { path: path.clone(), owned: true };
                let mut snapshot = Snapshot { body, stamp, digest: digest_bytes(&[]) };
                snapshot.digest = match known(stamp) {
                    Some(digest) => digest,
                    None => super::digest::digest_file(&copy, &path)?,
                };
                Ok(snapshot)
            }
            None => {
                let (stamp, digest) = self.whole_moment_at(data, |stamp| {
                    known(stamp).map_or_else(|| data.digest(), Ok)
                })?;
                let body = SnapshotBody::File { path: data.path().to_owned(), owned: false };
                Ok(Snapshot { body, stamp, digest })
            }
        }
    }

    /// The stamp of a file that is at rest, such that every later write moves it: [`CacheError::Moving`] if one did.
    ///
    /// Where ctime moves in ticks this waits for one, by the monotonic clock; a wall clock that is set back does no harm.
    pub fn ripe_stamp(&self, data: &DataFile) -> Result<Stamp> {
        data.sync_data()?;
        let stamp = data.stamp()?;
        if let Some(tick) = self.stamp_tick() {
            std::thread::sleep(tick);
            // A store in the same tick left the stamp and an unprotected page behind; this protects it again.
            data.sync_data()?;
        }
        if data.stamp()? != stamp {
            return Err(CacheError::Moving { path: data.path().to_owned() });
        }
        Ok(stamp)
    }

    /// Whether nothing was written since a snapshot with this stamp was taken, not even through a mapping.
    pub fn is_still(&self, data: &DataFile, stamp: Stamp) -> Result<bool> {
        match self.stamp_tick() {
            Some(_) => data.unmoved_since(stamp),
            None => Ok(data.stamp()? == stamp),
        }
    }

    /// Takes something of a file between two equal stamps.
    pub(super) fn whole_moment<T>(
        &self,
        data: &DataFile,
        take: impl FnOnce() -> Result<T>,
    ) -> Result<(Stamp, T)> {
        self.whole_moment_at(data, |_stamp| take())
    }

    fn whole_moment_at<T>(
        &self,
        data: &DataFile,
        take: impl FnOnce(Stamp) -> Result<T>,
    ) -> Result<(Stamp, T)> {
        let stamp = if self.stamp_tick().is_some() {
            self.ripe_stamp(data)?
        } else {
            // What is stored through a mapping from here to the sync may leave the stamp, and is among what is taken. After
            // the sync it is the first to touch its page, and moves the stamp.
            let stamp = data.stamp()?;
            data.sync_data()?;
            stamp
        };
        let taken = take(stamp)?;
        if self.is_still(data, stamp)? {
            return Ok((stamp, taken));
        }
        Err(CacheError::Moving { path: data.path().to_owned() })
    }

    /// Removes what an earlier run left in staging, except what `keep` says of (inode, attempt).
    pub fn clear_staging(&self, mut keep: impl FnMut(Ino, u64) -> bool) -> Result<()> {
        let dir = self.state_dir().join("staging");
        let files = std::fs::read_dir(&dir).map_err(|e| CacheError::io("list", &dir, e))?;
        for file in files.flatten() {
            let name = file.file_name();
            let parts = name.to_str().and_then(|name| name.split_once('.'));
            let known = parts.and_then(|(ino, attempt)| {
                Some((Ino(ino.parse().ok()?), attempt.parse::<u64>().ok()?))
            });
            if !known.is_some_and(|(ino, attempt)| keep(ino, attempt)) {
                discard(&file.path());
            }
        }
        Ok(())
    }
}

fn read_small(data: &DataFile) -> Result<Vec<u8>> {
    let size = usize::try_from(data.size()?).unwrap_or(usize::MAX);
    // It may have grown since it was found small; then its stamp has moved, and what is beyond does not matter.
    let mut bytes = vec![0; size.min(SMALL as usize)];
    let read = data.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Shares the data file's blocks with a new file at `path`; `None` where the file system cannot.
fn reflink(data: &DataFile, path: &Path) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let copy = options.open(path).map_err(|e| CacheError::io("create", path, e))?;
    match rustix::fs::ioctl_ficlone(&copy, &data.file) {
        Ok(()) => Ok(Some(copy)),
        Err(_) => {
            discard(path);
            Ok(None)
        }
    }
}

fn discard(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "A snapshot could not be removed.");
        }
        _ => {}
    }
}
