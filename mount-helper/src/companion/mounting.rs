//! Mounting and unmounting for a user, under the rules of fusermount3: on a directory that he may write to, of a plain file
//! system, never with set-user-id programs or devices in it, for others only where the machine's owner allows that; and
//! away only with a dewfs mount of his own. Over another mount nothing is mounted.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, StatxAttributes, accessat, open, openat,
};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::checks::{about, told};
use crate::systems;

/// What each bit of a request is to the kernel: an attribute of the mount; and at last an option of its file system.
const ATTRIBUTES: [MountAttrFlags; 3] = [
    MountAttrFlags::MOUNT_ATTR_RDONLY,
    MountAttrFlags::MOUNT_ATTR_NOEXEC,
    MountAttrFlags::MOUNT_ATTR_NOATIME,
];
const ALLOW_OTHER: u32 = 1 << ATTRIBUTES.len();

/// What the machine's owner lets users do.
const CONF: &str = "/etc/fuse.conf";
/// How many FUSE mounts there may be where that says nothing.
const MOUNT_MAX: usize = 1000;

/// Mounts on `place`, and answers the descriptor over which the mount is served.
pub(crate) fn mount(
    (uid, gid): (u32, u32),
    place: &OwnedFd,
    flags: u32,
    source: &OsStr,
) -> Result<OwnedFd> {
    if flags >= ALLOW_OTHER << 1 {
        return Err(Errno::INVAL);
    }
    let for_others = flags & ALLOW_OTHER != 0;
    may_cover(uid, place)?;
    may_have(for_others)?;
    // This thread is the user, and root's namespace of users is the one that mounts: the daemon may be in another.
    let fuse = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let system = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&system, "source", source)?;
    for (key, value) in [
        ("subtype", "dewfs"),
        ("rootmode", "40000"),
        ("fd", &fuse.as_raw_fd().to_string()),
        ("user_id", &uid.to_string()),
        ("group_id", &gid.to_string()),
    ] {
        fsconfig_set_string(&system, key, value)?;
    }
    fsconfig_set_flag(&system, "default_permissions")?;
    if for_others {
        fsconfig_set_flag(&system, "allow_other")?;
    }
    fsconfig_create(&system)?;
    let mut shown = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    for (bit, attribute) in ATTRIBUTES.into_iter().enumerate() {
        shown.set(attribute, flags >> bit & 1 != 0);
    }
    let mounted = fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, shown)?;
    let by_descriptors =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mounted, "", place, "", by_descriptors).map(|()| fuse)
}

/// Whether the user may cover a directory; this thread is he.
fn may_cover(uid: u32, place: &OwnedFd) -> Result<()> {
    let (kind, about) = about(place)?;
    if kind != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    if u32::from(about.stx_mode) & Mode::SVTX.bits() != 0 && about.stx_uid != uid {
        return Err(Errno::PERM);
    }
    // Who unmounts it twice at once would take away what lies below, which need not be his.
    if about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Errno::BUSY);
    }
    accessat(place, ".", Access::WRITE_OK, AtFlags::EACCESS)?;
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
    let there = mounts()?.lines().filter(|line| line.contains(" - fuse")).count();
    (there < told.unwrap_or(MOUNT_MAX)).then_some(()).ok_or(Errno::NOSPC)
}

/// Unmounts what is mounted on `name` in the directory `above`, if that is a dewfs mount of the user's own.
pub(crate) fn unmount(uid: u32, above: &OwnedFd, lazy: u32, name: &OsStr) -> Result<()> {
    if lazy > 1 || Path::new(name).file_name() != Some(name) {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(above, name, flags, Mode::empty())?;
    let number = told(&place, "mnt_id:")?;
    let owner = format!("user_id={uid}");
    // `36 35 98:0 /root /mountpoint options [optional fields …] - type source options`; spaces in names are escaped.
    let is_his = |line: &str| {
        let mut words = line.split(' ');
        words.next().map(str::parse) == number.map(Ok)
            && words.any(|word| word == "-")
            && words.next() == Some("fuse.dewfs")
            && words.nth(1).is_some_and(|options| options.split(',').any(|one| one == owner))
    };
    if !mounts()?.lines().any(is_his) {
        return Err(Errno::PERM);
    }
    if lazy == 1 {
        // The very mount that was looked at: what is in its place by now stays.
        return rustix::mount::unmount(by_descriptor(&place), UnmountFlags::DETACH);
    }
    // Held, it would be busy, by us.
    drop(place);
    // Through the descriptor to the very directory that was looked into; and what is there now is no link.
    rustix::mount::unmount(by_descriptor(above).join(name), UnmountFlags::NOFOLLOW)
}

fn by_descriptor(at: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(at.as_raw_fd().to_string())
}

/// All mounts, as the kernel lists them; names are whatever people gave them.
fn mounts() -> Result<String> {
    let list = fs::read("/proc/self/mountinfo").map_err(|_unreadable| Errno::IO)?;
    Ok(String::from_utf8_lossy(&list).into_owned())
}
