//! What a file keeps when its content is replaced by another inode: owner, group, mode, access list, user attributes.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{self, Gid, Mode, Uid, XattrFlags};

use super::disk::Meta;
use super::write::{MARK, Spot};

/// The access control list, beyond the mode.
const ACCESS: &str = "system.posix_acl_access";
/// Attributes of users; ours among them are about one inode only.
const USERS: &[u8] = b"user.";
/// The largest value, and list of names, that Linux allows.
const LARGEST: usize = 64 << 10;
/// The bits of the group, which are those of the whole list where there is one.
const GROUP: u32 = 0o070;

/// Gives `file`, which is to replace what is at the spot, what that has; answers the mode that it may get then.
///
/// Only root may give files away; for everybody else the new file is the writer's own, as after any safe-save.
pub(super) fn inherit(spot: &Spot<'_>, there: Meta, file: &OwnedFd, mode: u32) -> u32 {
    let (user, group) = there.owner;
    let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    if fs::fchown(file, user, group).is_err() && fs::fchown(file, None, group).is_err() {
        tracing::trace!(path = %spot.at, "a replaced file's group cannot be kept");
    }
    match inherit_attributes(spot, file) {
        Ok(()) => mode,
        // Without its list the group's bits would be everybody's whom the list let in.
        Err(error) => {
            tracing::debug!(path = %spot.at, %error, "a replaced file's access list cannot be kept");
            mode & !GROUP
        }
    }
}

/// Copies attributes. Those of users are lost where they cannot be set; the access list is an error then.
fn inherit_attributes(spot: &Spot<'_>, file: &OwnedFd) -> rustix::io::Result<()> {
    let mut old = format!("/proc/self/fd/{}/", spot.folder.as_raw_fd()).into_bytes();
    old.extend_from_slice(spot.name.as_bytes());
    let old = CString::new(old).map_err(|_| rustix::io::Errno::INVAL)?;
    let mut names = vec![0; LARGEST];
    let Ok(length) = fs::llistxattr(&old, &mut names) else { return Ok(()) };
    let mut value = vec![0; LARGEST];
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        let is_access = name == ACCESS.as_bytes();
        let is_users = name.starts_with(USERS) && name != MARK.as_bytes();
        if !is_access && !is_users {
            continue;
        }
        let kept = fs::lgetxattr(&old, name, &mut value).and_then(|length| {
            let value = value.get(..length).unwrap_or_default();
            fs::fsetxattr(file, name, value, XattrFlags::empty())
        });
        match kept {
            Err(error) if is_access => return Err(error),
            Err(error) => tracing::trace!(path = %spot.at, %error, "an attribute is not kept"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The mode as the kernel takes it.
pub(super) fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}
