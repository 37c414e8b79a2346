//! File systems that hold people's files, by their magic numbers. Others are the kernel's own view of itself: a mount over
//! such as /proc could deceive programs of others, and a file there may ask who opened it instead of who writes.

use std::os::fd::OwnedFd;

use rustix::io::Result;

#[rustfmt::skip]
const DISKS: &[u32] = &[
    0xef53, 0x9123_683e, 0x5846_5342, 0xf2f5_2010, // ext2 to ext4, btrfs, xfs, f2fs
    0xca45_1a4e, 0x2fc1_2fc1, 0x5265_4973, 0x3153_464a, // bcachefs, zfs, reiserfs, jfs
    0x3434, 0x7366_746e, 0x2011_bab0, 0x4d44, 0x0102_1994, // nilfs, ntfs3, exfat, fat, tmpfs
];

#[rustfmt::skip]
const STACKED_OR_FAR: &[u32] = &[
    0x794c_7630, 0xf15f, 0x6573_5546, // overlay, ecryptfs, fuse
    0x6969, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, // nfs, cifs, smb2, ceph
];

/// Whether it lies on a disk or in memory, as files do.
pub(crate) fn holds_files(descriptor: &OwnedFd) -> Result<bool> {
    // All of them have 32 bits, however wide the field is here.
    Ok(DISKS.contains(&(rustix::fs::fstatfs(descriptor)?.f_type as u32)))
}

/// The same, or on files of another file system or of another machine.
pub(crate) fn may_be_covered(descriptor: &OwnedFd) -> Result<bool> {
    let there = rustix::fs::fstatfs(descriptor)?.f_type as u32;
    Ok(DISKS.contains(&there) || STACKED_OR_FAR.contains(&there))
}
