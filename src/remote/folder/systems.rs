//! What is known of file systems by their kind, and what their refusals mean.

use std::time::Duration;

use rustix::fs;
use rustix::io::Errno;

use crate::remote::{ErrorKind, RemoteError, RemotePath};

/// What a file system answers whose mounted one is away: no kernel says this of a path.
pub(super) const AWAY: Errno = Errno::NOTBLK;

/// Is what a kind of file system is known for.
pub(super) struct FileSystem {
    pub(super) name: &'static str,
    /// Whether changes by other machines are told to nobody here.
    pub(super) is_shared: bool,
    /// Whether an inode has the same number after the next mount.
    pub(super) is_numbered: bool,
    pub(super) tick: Duration,
}

impl FileSystem {
    #[expect(clippy::cast_possible_truncation, reason = "magic numbers have 32 bits")]
    pub(super) fn of(magic: fs::FsWord) -> Self {
        let (name, is_shared, is_fine) = match magic as u32 {
            0xEF53 => ("ext4", false, true),
            0x5846_5342 => ("xfs", false, true),
            0x9123_683E => ("btrfs", false, true),
            0x0102_1994 => ("tmpfs", false, true),
            0x794C_7630 => ("overlayfs", false, true),
            0x2FC1_2FC1 => ("zfs", false, true),
            0xF2F5_2010 => ("f2fs", false, true),
            0xCA45_1A4E => ("bcachefs", false, true),
            0x7366_746E => ("ntfs", false, false),
            0x4D44 => ("vfat", false, false),
            0x2011_BAB0 => ("exfat", false, false),
            0x6969 => ("NFS", true, false),
            0xFF53_4D42 | 0xFE53_4D42 | 0x517B => ("SMB", true, false),
            0x0102_1997 => ("9p", true, false),
            0x6573_5546 => ("FUSE", true, false),
            0x00C3_6400 => ("ceph", true, false),
            0x5346_414F => ("AFS", true, false),
            0x0BD0_0BD0 => ("lustre", true, false),
            0x786F_4256 => ("vboxsf", true, false),
            0x0116_1970 => ("gfs2", true, false),
            0x7461_636F => ("ocfs2", true, false),
            _ => ("an unknown file system", false, false),
        };
        // Who has no numbers on its disk, or may not tell them, counts its inodes anew at each mount.
        let is_numbered = !matches!(name, "vfat" | "exfat" | "FUSE" | "vboxsf");
        // Local kernels give times by a clock that ticks every 10 ms at worst; FAT and old servers every 2 s.
        let tick = Duration::from_millis(if is_fine { 20 } else { 2000 });
        Self { name, is_shared, is_numbered, tick }
    }
}

/// What an errno means to a caller who asked about a path.
pub(super) fn kind_of(error: Errno) -> ErrorKind {
    match error {
        Errno::NOENT | Errno::NOTDIR => ErrorKind::NotFound,
        Errno::EXIST => ErrorKind::AlreadyExists,
        Errno::NOTEMPTY => ErrorKind::NotEmpty,
        Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::MLINK => ErrorKind::NoSpace,
        Errno::NAMETOOLONG | Errno::ILSEQ | Errno::INVAL => ErrorKind::NameRejected,
        Errno::ROFS => ErrorKind::ReadOnly,
        Errno::BUSY | Errno::TXTBSY => ErrorKind::Locked { after: None },
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV => ErrorKind::Unsupported,
        Errno::NOMEDIUM => ErrorKind::RootMissing,
        AWAY => ErrorKind::Away,
        Errno::STALE
        | Errno::TIMEDOUT
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETUNREACH
        | Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::NOTCONN
        | Errno::NODEV
        | Errno::NXIO => ErrorKind::Offline,
        _ => ErrorKind::Other,
    }
}

/// The error of an operation that the kernel refused.
pub(super) fn refused(error: Errno, operation: &'static str, at: &RemotePath) -> RemoteError {
    let refused = RemoteError::new(kind_of(error), operation, at);
    match error {
        AWAY => refused,
        error => refused.because(std::io::Error::from(error)),
    }
}
