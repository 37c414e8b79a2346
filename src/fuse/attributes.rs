//! The kernel's attributes from the engine's, and the other way round.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, Generation, INodeNo, TimeOrNow};

use crate::engine::{SetTime, Stat};
use crate::model::{Ino, Kind};

/// How long the kernel may believe a name, or that there is none: until we say otherwise.
pub(super) const NAMES: Duration = Duration::from_secs(6 * 3600);

/// The generation of what has never been anything else, and of what is not there.
pub(super) const GENERATION: Generation = Generation(0);

/// The unit of preferred I/O that `stat` shows.
const IO_SIZE: u32 = 4096;

pub(super) fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

pub(super) fn number(ino: Ino) -> INodeNo {
    INodeNo(ino.0)
}

/// The kernel's word for a kind.
pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Folder => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

/// Inode numbers are never reused; but of a folder that came back the kernel makes another inode, for its own is dead as
/// long as somebody is in it.
pub(super) fn generation(stat: &Stat) -> Generation {
    Generation(stat.life)
}

/// What `stat` shows.
pub(super) fn attributes(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: number(stat.ino),
        size: stat.size,
        blocks: stat.blocks,
        atime: time(stat.atime),
        mtime: time(stat.mtime),
        ctime: time(stat.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(stat.kind),
        perm: (stat.mode & 0o7777) as u16,
        nlink: stat.links,
        uid: stat.uid,
        gid: stat.gid,
        rdev: 0,
        blksize: IO_SIZE,
        flags: 0,
    }
}

/// Says how the root folder of a mount is shown. What the kernel has cached it answers without asking; so a mount that it opened
/// for all, but that is only for who mounted it and root, is to be closed by its own check of permissions, at the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threshold {
    /// As it is.
    Open,
    /// Without permissions for others than this user, who mounted it.
    ClosedFor(u32),
}

impl Threshold {
    /// What `stat` shows.
    pub(super) fn attributes(self, stat: &Stat) -> FileAttr {
        let mut shown = attributes(stat);
        // Where it is somebody else's, he who mounted it is one of the others himself, unless he is root.
        if let Self::ClosedFor(user) = self
            && stat.ino == Ino::ROOT
            && (user == 0 || user == stat.uid)
        {
            shown.perm &= 0o700;
        }
        shown
    }
}

/// Attributes for a name that is not there: inode 0 makes the kernel remember that.
pub(super) fn nothing() -> FileAttr {
    folder(INodeNo(0))
}

/// Attributes for `.` and `..`, of which the kernel takes number and type only.
pub(super) fn folder(ino: INodeNo) -> FileAttr {
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: IO_SIZE,
        flags: 0,
    }
}

fn time(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    if nanoseconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// A time to set. Times that nanoseconds since 1970 cannot hold (before 1677, after 2262) become the nearest that they can.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(nanoseconds(time)),
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        // The kernel sends whole seconds rounded down and nanoseconds forward from there; fuser 0.18 subtracts both, so the
        // nanoseconds of times before 1970 have to be turned round.
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            seconds
                .checked_neg()
                .and_then(|seconds| seconds.checked_mul(1_000_000_000))
                .and_then(|whole| whole.checked_add(i64::from(before.subsec_nanos())))
                .unwrap_or(i64::MIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(uid: u32, ino: Ino) -> Stat {
        Stat {
            ino,
            kind: Kind::Folder,
            life: 0,
            size: 0,
            blocks: 0,
            mtime: 0,
            atime: 0,
            ctime: 0,
            mode: 0o755,
            uid,
            gid: 0,
            links: 2,
            believe: Duration::ZERO,
        }
    }

    #[test]
    fn a_root_folder_is_closed_to_all_but_who_mounted_it_and_root() {
        let shown =
            |threshold: Threshold, uid, ino| threshold.attributes(&folder_of(uid, ino)).perm;
        assert_eq!(shown(Threshold::Open, 1000, Ino::ROOT), 0o755);
        assert_eq!(shown(Threshold::ClosedFor(1000), 1000, Ino::ROOT), 0o700);
        assert_eq!(shown(Threshold::ClosedFor(0), 1000, Ino::ROOT), 0o700);
        assert_eq!(shown(Threshold::ClosedFor(1000), 1000, Ino(7)), 0o755);
        // It would close him out.
        assert_eq!(shown(Threshold::ClosedFor(1000), 1001, Ino::ROOT), 0o755);
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let at = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        assert_eq!(set_time(TimeOrNow::SpecificTime(at)), SetTime::At(1_700_000_000_123_456_789));
        assert_eq!(time(1_700_000_000_123_456_789), at);
        assert_eq!(time(-1_500_000_000), UNIX_EPOCH - Duration::from_millis(1500));
    }

    #[test]
    fn times_before_1970_are_read_as_fuser_wrote_them() {
        // -1.5 s is sent as -2 s and 500 ms; fuser makes of it 2.5 s before 1970.
        let fuser = UNIX_EPOCH - Duration::from_millis(2500);
        assert_eq!(nanoseconds(fuser), -1_500_000_000);
        assert_eq!(nanoseconds(UNIX_EPOCH - Duration::from_secs(7)), -7_000_000_000);
    }

    #[test]
    fn times_out_of_range_are_cut() {
        assert_eq!(nanoseconds(UNIX_EPOCH + Duration::from_secs(1 << 40)), i64::MAX);
        assert_eq!(nanoseconds(UNIX_EPOCH - Duration::from_secs(1 << 40)), i64::MIN);
    }
}
