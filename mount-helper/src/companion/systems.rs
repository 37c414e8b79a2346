//! File systems that hold people's files, by their magic numbers. Others are the kernel's own view of itself: a mount over
//! such as /proc could deceive programs of others, and a file there may ask who opened it instead of who writes.

use std::os::fd::BorrowedFd;

use rustix::io::Result;

const DISKS: [u32; 13] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x9123_683e, // btrfs
    0x5846_5342, // xfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // zfs
    0x5265_4973, // reiserfs
    0x3153_464a, // jfs
    0x0000_3434, // nilfs
    0x7366_746e, // ntfs3
    0x2011_bab0, // exfat
    0x0000_4d44, // fat
    0x0102_1994, // tmpfs
];

const STACKED_OR_FAR: [u32; 7] = [
    0x794c_7630, // overlay
    0x0000_f15f, // ecryptfs
    0x6573_5546, // fuse
    0x0000_6969, // nfs
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x00c3_6400, // ceph
];

/// Whether it lies on a disk or in memory, as files do.
pub(crate) fn holds_files(descriptor: BorrowedFd<'_>) -> Result<bool> {
    Ok(DISKS.contains(&magic(descriptor)?))
}

/// Whether it lies on files of another file system or of another machine.
pub(crate) fn is_stacked_or_far(descriptor: BorrowedFd<'_>) -> Result<bool> {
    Ok(STACKED_OR_FAR.contains(&magic(descriptor)?))
}

/// All of them have 32 bits, however wide the field is here.
fn magic(descriptor: BorrowedFd<'_>) -> Result<u32> {
    Ok(rustix::fs::fstatfs(descriptor)?.f_type as u32)
}
