//! Who a directory is: the file system by its UUID, and in it the inode by its number and birth.
//!
//! What a file system says as its id is the number of its device on xfs, f2fs and FAT: the same disk has another one after it
//! was unplugged, and another disk has its. It still counts where no UUID is known.

use std::os::fd::OwnedFd;

use rustix::fs::{self, Mode, OFlags};

use super::disk::Meta;
use super::uuid;

/// What a directory is known by; `None` if it could be any other on a file system of its kind.
pub(super) fn of(root: &OwnedFd, meta: &Meta, fsid: u64) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let uuid = fs::openat(root, ".", flags, Mode::empty()).ok().and_then(|open| uuid::of(&open));
    let inode = if meta.numbered { meta.inode } else { 0 };
    if uuid.is_none() && inode == 0 && meta.born == 0 && fsid == 0 {
        return None;
    }
    let uuid = uuid.map(|uuid| format!("@{uuid}")).unwrap_or_default();
    Some(format!("{fsid:x}-{inode:x}-{:x}{uuid}", meta.born))
}

/// Is an identity in its parts, also one that was noted before UUIDs were.
struct Told<'a> {
    fsid: &'a str,
    inode: &'a str,
    born: &'a str,
    uuid: Option<&'a str>,
}

fn parse(identity: &str) -> Option<Told<'_>> {
    let (rest, uuid) = match identity.split_once('@') {
        Some((rest, uuid)) => (rest, Some(uuid)),
        None => (identity, None),
    };
    let (fsid, rest) = rest.split_once('-')?;
    let (inode, born) = rest.split_once('-')?;
    Some(Told { fsid, inode, born, uuid })
}

/// Whether both are of one directory.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let (Some(one), Some(other)) = (parse(one), parse(other)) else { return false };
    let is_born = one.born == other.born;
    let is_inode = one.inode == other.inode || one.inode == "0" || other.inode == "0";
    match (one.uuid, other.uuid) {
        (Some(one), Some(other)) => one == other && is_born && is_inode,
        // The moment of its birth, to the nanosecond, is nobody else's.
        _ => is_born && is_inode && (one.fsid == other.fsid || one.born != "0"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn a_directory_is_known_by_its_disk_and_by_its_birth() {
        let (disk, unplugged, other) = ("811-80-17f@aa", "821-80-17f@aa", "811-80-2a0@bb");
        assert!(is_same(disk, unplugged));
        assert!(!is_same(disk, other));
        // Copied by the block, and given a UUID of its own.
        assert!(!is_same(disk, "811-80-17f@bb"));
        // Noted before UUIDs were.
        assert!(is_same("811-80-17f", disk) && is_same("821-80-17f", disk));
        assert!(!is_same("811-80-2a0", disk));
        // FAT: no birth of the root, and numbers that were counted.
        assert!(is_same("811-1-0", "811-0-0@12ab") && !is_same("821-1-0", "811-0-0@12ab"));
        assert!(
            is_same("811-0-0@12ab", "821-0-0@12ab") && !is_same("811-0-0@12ab", "811-0-0@34cd")
        );
        assert!(!is_same("anything", disk) && is_same("anything", "anything"));
    }
}
