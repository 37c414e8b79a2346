//! Mounting for a user, under the rules of fusermount3: on a directory that he may write to, of a plain file system, never
//! with set-user-id programs or devices in it, and for others only where the machine's owner allows that.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Access, AtFlags, FileType, Mode};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::net::UCred;

use crate::checks::{about, device, kind};
use crate::systems;

const READ_ONLY: u32 = 1;
const NO_EXEC: u32 = 2;
const NO_ATIME: u32 = 4;
const ALLOW_OTHER: u32 = 8;
const KNOWN: u32 = READ_ONLY | NO_EXEC | NO_ATIME | ALLOW_OTHER;

/// What the machine's owner lets users do.
const CONF: &str = "/etc/fuse.conf";
/// How many FUSE mounts there may be where that says nothing.
const MOUNT_MAX: usize = 1000;

/// Mounts the connection that `fuse` is to be, on `place`.
pub(crate) fn mount(
    who: &UCred,
    fuse: BorrowedFd<'_>,
    place: BorrowedFd<'_>,
    flags: u32,
    source: &OsStr,
) -> Result<()> {
    if flags & !KNOWN != 0 || device(fuse)?.is_some() {
        return Err(Errno::INVAL);
    }
    may_cover(who, place)?;
    may_have(flags & ALLOW_OTHER != 0)?;
    let system = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&system, "source", source)?;
    for (key, value) in [
        ("subtype", "dewfs"),
        ("rootmode", "40000"),
        ("fd", &fuse.as_raw_fd().to_string()),
        ("user_id", &who.uid.as_raw().to_string()),
        ("group_id", &who.gid.as_raw().to_string()),
    ] {
        fsconfig_set_string(&system, key, value)?;
    }
    let mut shown = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    shown.set(MountAttrFlags::MOUNT_ATTR_RDONLY, flags & READ_ONLY != 0);
    shown.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, flags & NO_EXEC != 0);
    shown.set(MountAttrFlags::MOUNT_ATTR_NOATIME, flags & NO_ATIME != 0);
    fsconfig_set_flag(&system, "default_permissions")?;
    for (flag, key) in [(READ_ONLY, "ro"), (ALLOW_OTHER, "allow_other")] {
        if flags & flag != 0 {
            fsconfig_set_flag(&system, key)?;
        }
    }
    fsconfig_create(&system)?;
    let mounted = fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, shown)?;
    let by_descriptors =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mounted, "", place, "", by_descriptors)
}

/// Whether the user may cover a directory; this thread is he.
fn may_cover(who: &UCred, place: BorrowedFd<'_>) -> Result<()> {
    let about = about(place)?;
    if kind(&about) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    if u32::from(about.stx_mode) & Mode::SVTX.bits() != 0 && about.stx_uid != who.uid.as_raw() {
        return Err(Errno::PERM);
    }
    rustix::fs::accessat(place, ".", Access::WRITE_OK, AtFlags::EACCESS)?;
    systems::may_be_covered(place)?.then_some(()).ok_or(Errno::PERM)
}

/// Whether there may be one more mount of a user, open to others or not.
fn may_have(for_others: bool) -> Result<()> {
    let conf = fs::read_to_string(CONF).unwrap_or_default();
    if for_others && !conf.lines().any(|line| line.trim() == "user_allow_other") {
        return Err(Errno::ACCESS);
    }
    let told = conf.lines().find_map(|line| line.trim().strip_prefix("mount_max"));
    let told = told.and_then(|rest| rest.trim().strip_prefix('=')?.trim().parse().ok());
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|_unreadable| Errno::IO)?;
    let there = mounts.lines().filter(|line| line.contains(" - fuse")).count();
    (there < told.unwrap_or(MOUNT_MAX)).then_some(()).ok_or(Errno::NOSPC)
}
