//! What may be registered: the caller's own regular file that he has shown he may read and write, on a connection of his
//! own mount.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
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
    device: u32,
    serial: u64,
}

impl Connection {
    /// The connection behind a descriptor, if the user's own mount is served over it.
    pub(crate) fn of(fuse: BorrowedFd<'_>, uid: u32) -> Result<Self> {
        let device = device(fuse)?.ok_or(Errno::NOTCONN)?;
        match found(device) {
            Some((connection, owner)) if owner == uid => Ok(connection),
            Some(_) => Err(Errno::PERM),
            None => Err(Errno::NOTCONN),
        }
    }

    /// Whether it is still there.
    pub(crate) fn lives(&self) -> bool {
        found(self.device).is_some_and(|(now, _)| now == *self)
    }
}

/// The number of the connection that a descriptor of `/dev/fuse` has, if any.
pub(crate) fn device(fuse: BorrowedFd<'_>) -> Result<Option<u32>> {
    let about = about(fuse)?;
    let numbers = (about.stx_rdev_major, about.stx_rdev_minor);
    if kind(&about) != FileType::CharacterDevice || numbers != FUSE {
        return Err(Errno::NOTTY);
    }
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", fuse.as_raw_fd()));
    let told = told.map_err(|_unreadable| Errno::IO)?;
    let line = told.lines().find_map(|line| line.strip_prefix("fuse_connection:"));
    // Kernels before 6.16 never say.
    Ok(line.and_then(|number| number.trim().parse().ok()))
}

/// The connection of this number and whose it is.
fn found(device: u32) -> Option<(Connection, u32)> {
    let entry = fs::symlink_metadata(format!("{CONNECTIONS}/{device}")).ok()?;
    Some((Connection { device, serial: entry.ino() }, entry.uid()))
}

/// Whether the user may have the kernel read and write `file` for him. Whoever serves the mount decides who writes, so
/// `proof` is the same file as he could open it for both: a descriptor that is only his to read does not become more.
pub(crate) fn may_register(file: BorrowedFd<'_>, proof: BorrowedFd<'_>, uid: u32) -> Result<()> {
    let (this, other) = (about(file)?, about(proof)?);
    if kind(&this) != FileType::RegularFile {
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
pub(crate) fn about(descriptor: impl AsFd) -> Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(descriptor, "", flags, StatxFlags::BASIC_STATS)
}

/// The kind of file.
pub(crate) fn kind(about: &Statx) -> FileType {
    FileType::from_raw_mode(about.stx_mode.into())
}
