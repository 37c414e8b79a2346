//! Mode, owner, group, time and user attributes as users set them in a mount: as much of it as the file system holds and as who
//! mounts may set. What cannot be held stays with who set it; what fails for another reason is told, and tried again.

use std::os::fd::OwnedFd;

use rustix::fs::{self, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::disk::Meta;
use super::inherit::{LARGEST, USERS, bits, without_new_special};
use super::write::{MARK, timestamps};
use crate::remote::{Extended, Metadata};

type Done = rustix::io::Result<()>;

/// The permission to write of a file's owner, without which nobody but root may set its attributes.
const OWNER_WRITES: u32 = 0o200;
/// With less than this left on its disk, bytes, an attribute that finds no room found none on the disk.
const ROOM: u64 = 1 << 20;

/// What of a file moves along with it to another disk: owner, group, user attributes.
pub(super) fn of(file: &OwnedFd, there: Meta) -> Extended {
    let (uid, gid) = there.owner;
    let mut names = vec![0; LARGEST];
    let length = fs::flistxattr(file, &mut names).unwrap_or_default();
    let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    let read = |name: &[u8]| {
        let mut value = vec![0; LARGEST];
        let length = fs::fgetxattr(file, name, &mut value).ok()?;
        value.truncate(length);
        Some((name.to_vec(), Some(value)))
    };
    let attributes = names.filter(|name| is_users(name)).filter_map(read).collect();
    Extended { uid: Some(uid), gid: Some(gid), attributes }
}

/// Gives a new file that only its owner can open so far what goes with its content; its mode comes after.
pub(super) fn give(file: &OwnedFd, extended: &Extended) -> Done {
    if *extended == Extended::default() {
        return Ok(());
    }
    set_attributes(file, extended)?;
    // Its own may be a group that the folder gives.
    let stat = fs::fstat(file)?;
    own(file, (stat.st_uid, stat.st_gid), extended)
}

/// Sets what was set on a file that is there.
pub(super) fn set(file: &OwnedFd, there: Meta, metadata: &Metadata) -> Done {
    let old = there.mode & 0o7777;
    let extended = &metadata.extended;
    if extended.attributes.is_empty() {
        // Nothing that needs to write.
    } else if old & OWNER_WRITES == 0 && set_attributes(file, extended) == Err(Errno::ACCESS) {
        // An owner that may not write it may let itself.
        held(fs::fchmod(file, bits(old | OWNER_WRITES)))?;
        let set = set_attributes(file, extended);
        held(fs::fchmod(file, bits(old)))?;
        set?;
    } else {
        set_attributes(file, extended)?;
    }
    let mode = metadata.mode.map(|mode| without_new_special(mode, there) & 0o7777);
    let moves = extended.uid.is_some() || extended.gid.is_some();
    if let (Some(mode), true) = (mode, moves) {
        // Never may the new group do what only the old one might, nor the old one what only the new one may.
        chmod(file, old, old & mode)?;
    }
    own(file, there.owner, extended)?;
    if let Some(mode) = mode {
        let now = fs::fstat(file)?.st_mode & 0o7777;
        chmod(file, now, mode)?;
    }
    match metadata.mtime {
        Some(mtime) if i128::from(mtime) != there.mtime => {
            match fs::futimens(file, &timestamps(mtime)) {
                // Told as one thing that this remote cannot do: what was asked for would be looked for there.
                Err(Errno::PERM) => Err(Errno::OPNOTSUPP),
                done => done,
            }
        }
        _ => Ok(()),
    }
}

fn chmod(file: &OwnedFd, old: u32, mode: u32) -> Done {
    if mode == old { Ok(()) } else { held(fs::fchmod(file, Mode::from_raw_mode(mode))) }
}

/// Changes owner and group where they are others: even who gives a file to its own owner takes its capabilities away.
fn own(file: &OwnedFd, (user, group): (u32, u32), extended: &Extended) -> Done {
    let user = extended.uid.filter(|uid| *uid != user).map(Uid::from_raw);
    let group = extended.gid.filter(|gid| *gid != group).map(Gid::from_raw);
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    match fs::fchown(file, user, group) {
        // Only root may give files away; a group of one's own is another matter.
        Err(Errno::PERM | Errno::INVAL) if user.is_some() && group.is_some() => {
            held(fs::fchown(file, None, group))
        }
        // A number that this user namespace does not know.
        Err(Errno::INVAL) => Ok(()),
        other => held(other),
    }
}

fn set_attributes(file: &OwnedFd, extended: &Extended) -> Done {
    for (name, value) in extended.attributes.iter().filter(|(name, _)| is_users(name)) {
        let name = name.as_slice();
        let done = match value {
            Some(value) => match fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                // Some file systems say so of a value that has no room beside the inode.
                Err(Errno::NOSPC) if has_room(file) => Ok(()),
                done => done,
            },
            None => match fs::fremovexattr(file, name) {
                Err(Errno::NODATA) => Ok(()),
                done => done,
            },
        };
        held(done)?;
    }
    Ok(())
}

/// User attributes but for our own mark, which is about one inode only.
fn is_users(name: &[u8]) -> bool {
    name.starts_with(USERS) && name != MARK.as_bytes()
}

fn has_room(file: &OwnedFd) -> bool {
    fs::fstatvfs(file).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) > ROOM)
}

/// What the file system does not hold, or who mounts may not set, is not set.
fn held(done: Done) -> Done {
    match done {
        Err(error @ (Errno::PERM | Errno::OPNOTSUPP | Errno::TOOBIG | Errno::RANGE)) => {
            tracing::debug!(%error, "a mode, owner, time or attribute cannot be held there");
            Ok(())
        }
        done => done,
    }
}
