//! Mode, owner, group, time and user attributes as users set them in a mount: as much of it as the file system holds and as who
//! mounts may set. What cannot be held stays with who set it; what fails for another reason is told, and tried again.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{self, Gid, Uid, XattrFlags};
use rustix::io::Errno;

use super::disk::Meta;
use super::inherit::{LARGEST, SPECIAL, USERS, bits, without_new_special};
use super::write::{MARK, timestamps};
use crate::remote::{Extended, Metadata};

type Done = rustix::io::Result<()>;

/// The permission to write of a file's owner, without which nobody but root may set its attributes.
const OWNER_WRITES: u32 = 0o200;
/// With less than this left on its disk, bytes, an attribute that finds no room found none on the disk.
const ROOM: u64 = 1 << 20;

/// What of a file moves along with it to another disk: owner, group, user attributes.
pub(super) fn of(file: &OwnedFd, there: Meta) -> rustix::io::Result<Extended> {
    let (uid, gid) = there.owner;
    let mut names = vec![0; LARGEST];
    let length = match fs::flistxattr(file, &mut names) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        length => length?,
    };
    let mut attributes = BTreeMap::new();
    let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    for name in names.filter(|name| is_users(name)) {
        let mut value = vec![0; LARGEST];
        match fs::fgetxattr(file, name, &mut value) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error),
        }
        attributes.insert(name.to_vec(), Some(value));
    }
    Ok(Extended { uid: Some(uid), gid: Some(gid), attributes })
}

/// Gives a new file that only its owner can open so far what goes with its content; its mode comes after.
pub(super) fn give(file: &OwnedFd, extended: &Extended) -> Done {
    set_attributes(file, extended)?;
    if extended.uid.is_none() && extended.gid.is_none() {
        return Ok(());
    }
    // Its own may be a group that the folder gives.
    let stat = fs::fstat(file)?;
    own(file, (stat.st_uid, stat.st_gid), extended)
}

/// Sets what was set on a file that is there.
pub(super) fn set(file: &OwnedFd, there: Meta, metadata: &Metadata) -> Done {
    let old = there.mode & 0o7777;
    let extended = &metadata.extended;
    if extended.attributes.is_empty() || old & OWNER_WRITES != 0 {
        set_attributes(file, extended)?;
    } else {
        // Who owns it and may not write it may let itself.
        let lets = fs::fchmod(file, bits(old | OWNER_WRITES)).is_ok();
        let set = set_attributes(file, extended);
        if lets {
            fs::fchmod(file, bits(old))?;
        }
        set?;
    }
    let mode = metadata.mode.map(|mode| without_new_special(mode, there) & 0o7777);
    let moves = extended.uid.is_some() || extended.gid.is_some();
    if let (Some(mode), true) = (mode, moves) {
        // Never may the new group do what only the old one might, nor the old one what only the new one may.
        chmod(file, old, old & mode)?;
    }
    own(file, there.owner, extended)?;
    if let Some(mode) = mode {
        let now = fs::fstat(file)?;
        // Of somebody else now, it runs as nobody because it did before.
        let is_moved = (now.st_uid, now.st_gid) != there.owner;
        chmod(file, now.st_mode & 0o7777, if is_moved { mode & !SPECIAL } else { mode })?;
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
    if mode == old { Ok(()) } else { held(fs::fchmod(file, bits(mode))) }
}

/// Changes owner and group where they are others: even who gives a file to its own owner takes its capabilities away. Only root
/// may give files away, and not every number is known everywhere: as much of it is done as can be.
fn own(file: &OwnedFd, (user, group): (u32, u32), extended: &Extended) -> Done {
    let user = extended.uid.filter(|uid| *uid != user).map(Uid::from_raw);
    let group = extended.gid.filter(|gid| *gid != group).map(Gid::from_raw);
    let tries = [(user, group), (None, group), (user, None)];
    for (user, group) in tries {
        if user.is_none() && group.is_none() {
            continue;
        }
        match fs::fchown(file, user, group) {
            Err(
                error @ (Errno::PERM
                | Errno::ACCESS
                | Errno::INVAL
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::OVERFLOW),
            ) => tracing::debug!(%error, "an owner or group cannot be held there"),
            done => return done,
        }
    }
    Ok(())
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
        match done {
            // Who may not write a file may not set its attributes either.
            Err(error @ Errno::ACCESS) => {
                tracing::debug!(%error, "an attribute cannot be set there");
            }
            done => held(done)?,
        }
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
