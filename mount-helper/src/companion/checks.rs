//! What may be registered: the caller's own regular file that he has shown he may read and write, on a connection of his
//! own mount.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, FileType, OFlags, Statx, StatxFlags};
use rustix::io::{Errno, Result};

use crate::systems;

/// Where the kernel shows the connections, with their users as owners.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// The numbers of `/dev/fuse`, by the kernel's list of devices.
const FUSE: (u32, u32) = (10, 229);

/// Is one connection, told from a later one under the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    number: u32,
    serial: u64,
}

impl Connection {
    /// The connection behind a descriptor, if the user's own mount is served over it.
    pub(crate) fn of(fuse: &OwnedFd, uid: u32) -> Result<Self> {
        let (kind, about) = about(fuse)?;
        let numbers = (about.stx_rdev_major, about.stx_rdev_minor);
        if kind != FileType::CharacterDevice || numbers != FUSE {
            return Err(Errno::NOTTY);
        }
        // Kernels before 6.16 never say.
        let number = told(fuse, "fuse_connection:")?.ok_or(Errno::NOTCONN)?;
        let (connection, owner) = Self::found(number).ok_or(Errno::NOTCONN)?;
        (owner == uid).then_some(connection).ok_or(Errno::PERM)
    }

    /// Whether it is still there.
    pub(crate) fn lives(&self) -> bool {
        Self::found(self.number).is_some_and(|(now, _)| now == *self)
    }

    /// The connection of this number and whose it is.
    fn found(number: u32) -> Option<(Self, u32)> {
        let entry = fs::symlink_metadata(format!("{CONNECTIONS}/{number}")).ok()?;
        Some((Self { number, serial: entry.ino() }, entry.uid()))
    }
}

/// The number that the kernel notes about a descriptor under this key, if any.
pub(crate) fn told(descriptor: &OwnedFd, key: &str) -> Result<Option<u32>> {
    let notes = fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()));
    let notes = notes.map_err(|_unreadable| Errno::IO)?;
    Ok(notes.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()))
}

/// Whether the user may have the kernel read and write `file` for him. Whoever serves the mount decides who writes, so
/// `proof` is the same file as he could open it for both: a descriptor that is only his to read does not become more.
pub(crate) fn may_register(file: &OwnedFd, proof: &OwnedFd, uid: u32) -> Result<()> {
    let ((kind, this), (_, other)) = (about(file)?, about(proof)?);
    if kind != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    if this.stx_uid != uid || !systems::holds_files(file)? {
        return Err(Errno::PERM);
    }
    let name = |of: &Statx| (of.stx_dev_major, of.stx_dev_minor, of.stx_ino);
    if name(&this) != name(&other) {
        return Err(Errno::ACCESS);
    }
    // O_PATH asks nobody for permission.
    let (flags, shown) = (rustix::fs::fcntl_getfl(file)?, rustix::fs::fcntl_getfl(proof)?);
    let reads = !flags.contains(OFlags::PATH) && flags & OFlags::RWMODE != OFlags::WRONLY;
    let writes = !shown.intersects(OFlags::PATH | OFlags::APPEND);
    let both = writes && shown & OFlags::RWMODE == OFlags::RDWR;
    (reads && both).then_some(()).ok_or(Errno::ACCESS)
}

/// What the kernel knows of a descriptor without asking anybody, such as a FUSE daemon that never answers.
pub(crate) fn about(descriptor: &OwnedFd) -> Result<(FileType, Statx)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let about = rustix::fs::statx(descriptor, "", flags, StatxFlags::BASIC_STATS)?;
    Ok((FileType::from_raw_mode(about.stx_mode.into()), about))
}
