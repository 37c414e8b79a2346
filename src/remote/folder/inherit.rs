//! What a file keeps when its content is replaced by another inode: owner, group, mode, access list, user attributes. And its
//! time, which it may not keep.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{self, Mode, XattrFlags};
use rustix::io::Errno;

use super::disk::Meta;
use super::extended::give;
use super::write::{MARK, Spot, timestamps};
use crate::remote::Extended;

/// The access control list, beyond the mode.
const ACCESS: &str = "system.posix_acl_access";
/// Attributes of users; ours among them are about one inode only.
pub(super) const USERS: &[u8] = b"user.";
/// The largest value, and list of names, that Linux allows.
pub(super) const LARGEST: usize = 64 << 10;
/// The bits of the group, which are those of the whole list where there is one.
const GROUP: u32 = 0o070;
/// The bits that make a program run as its owner or its group.
pub(super) const SPECIAL: u32 = 0o6000;
/// The bits that let somebody write.
const WRITE: u32 = 0o222;

/// By how much an mtime is moved on where it must be a later one, nanoseconds: file systems keep times as coarsely as that.
const LATER: [i128; 3] = [1_000_000, 1_000_000_000, 2_000_000_000];

/// Gives `file`, a whole content that nobody else can open yet and that is to replace what is at the spot, what that has but for
/// what was set; answers the mode that it may get then.
///
/// Only root may give files away; for everybody else the new file is the writer's own, as after any safe-save. Whose it will be it
/// becomes in one step: nobody else may open it in between.
pub(super) fn inherit(
    spot: &Spot<'_>,
    there: Meta,
    file: &OwnedFd,
    set: &Extended,
    mode: u32,
) -> rustix::io::Result<u32> {
    for (name, value) in attributes(spot, |name| name.starts_with(USERS) && name != MARK.as_bytes())
    {
        if let Err(error) = fs::fsetxattr(file, name, &value, XattrFlags::empty()) {
            tracing::trace!(path = %spot.at, %error, "an attribute is not kept");
        }
    }
    let (user, group) = there.owner;
    let owner =
        Extended { uid: set.uid.or(Some(user)), gid: set.gid.or(Some(group)), ..set.clone() };
    give(file, &owner)?;
    for (name, value) in attributes(spot, |name| name == ACCESS.as_bytes()) {
        if let Err(error) = fs::fsetxattr(file, name, &value, XattrFlags::empty()) {
            // Without its list the group's bits would be everybody's whom the list let in.
            tracing::debug!(path = %spot.at, %error, "a replaced file's access list cannot be kept");
            return Ok(mode & !GROUP);
        }
    }
    Ok(mode)
}

/// The attributes of what is at the spot whose names are asked for; the access list is empty if it cannot be read.
fn attributes(spot: &Spot<'_>, wanted: impl Fn(&[u8]) -> bool) -> Vec<(CString, Vec<u8>)> {
    let mut old = format!("/proc/self/fd/{}/", spot.folder.as_raw_fd()).into_bytes();
    old.extend_from_slice(spot.name.as_bytes());
    let Ok(old) = CString::new(old) else { return Vec::new() };
    let mut names = vec![0; LARGEST];
    let Ok(length) = fs::llistxattr(&old, &mut names) else { return Vec::new() };
    let mut value = vec![0; LARGEST];
    let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    let read = |name: &[u8]| {
        let length = match fs::lgetxattr(&old, name, &mut value) {
            Ok(length) => length,
            // Set as it is, that is refused.
            Err(_) if name == ACCESS.as_bytes() => 0,
            Err(_) => return None,
        };
        Some((CString::new(name).ok()?, value.get(..length).unwrap_or_default().to_vec()))
    };
    names.filter(|name| wanted(name)).filter_map(read).collect()
}

/// What of a mode may be set on a file that is there: no program runs as somebody else because of a bit that was set through a
/// mount, where such bits count for nothing. What it has it keeps, unless more may write it then.
pub(super) fn without_new_special(mode: u32, there: Meta) -> u32 {
    let kept = if mode & !there.mode & WRITE == 0 { there.mode & SPECIAL } else { 0 };
    mode & (!SPECIAL | kept)
}

/// The mode that a copy of `file` may have, which does not get its access list: without that, the bits of the group are those of
/// all whom it lets in, and would be the group's.
pub(super) fn without_list(file: &OwnedFd, mode: u32) -> u32 {
    match fs::fgetxattr(file, ACCESS, &mut [0; 0][..]) {
        Ok(0) | Err(Errno::NODATA | Errno::OPNOTSUPP) => mode,
        _ => mode & !GROUP,
    }
}

/// The mode as the kernel takes it.
pub(super) fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// Sets the mtime asked for. Where versions are made of it and of the size, a content that replaces another of its size gets a
/// later one: under the version that everybody knows already nobody would see it.
pub(super) fn date(
    spot: &Spot<'_>,
    file: &OwnedFd,
    there: Option<Meta>,
    mtime: i64,
) -> rustix::io::Result<()> {
    fs::futimens(file, &timestamps(mtime))?;
    let Some(there) = there.filter(|there| !there.numbered) else { return Ok(()) };
    for later in LATER {
        let ours = spot.folder.opened(file)?;
        if ours.is_none_or(|ours| ours.size != there.size || ours.mtime > there.mtime) {
            break;
        }
        let next = i64::try_from(there.mtime + later).unwrap_or(mtime);
        fs::futimens(file, &timestamps(next))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustix::fs::OFlags;

    use super::*;
    use crate::remote::folder::disk::Folder;
    use crate::remote::{Name, RemotePath};

    /// An edit that keeps size and mtime was a version that everybody had already, where numbers are none.
    #[test]
    fn regression_another_content_has_a_later_time_where_that_is_the_version() {
        let root = tempfile::tempdir().unwrap();
        let open = |name: &str, content: &str| {
            let path = root.path().join(name);
            std::fs::write(&path, content).unwrap();
            fs::open(&path, OFlags::RDWR, Mode::empty()).unwrap()
        };
        let folder = fs::open(root.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (at, name) = (RemotePath::root(), || Name::new("new").unwrap());
        let spot = Spot {
            folder: Folder::plain(folder),
            name: name(),
            temp: name(),
            aside: name(),
            kept: name(),
            at: &at,
            operation: "write",
        };
        const THEN: i64 = 1_234_567_890_000_000_000;
        let old = open("old", "0000");
        fs::futimens(&old, &timestamps(THEN)).unwrap();
        let meta = |file: &OwnedFd| spot.folder.opened(file).unwrap().unwrap();
        let mut there = meta(&old);
        for (content, numbered, is_later) in
            [("1111", false, true), ("1111", true, false), ("longer", false, false)]
        {
            let new = open("new", content);
            there.numbered = numbered;
            date(&spot, &new, Some(there), THEN).unwrap();
            assert_eq!(meta(&new).mtime > i128::from(THEN), is_later, "{content}");
            assert_eq!(meta(&new).mtime == i128::from(THEN), !is_later, "{content}");
        }
    }
}
