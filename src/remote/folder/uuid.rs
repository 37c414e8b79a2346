//! Which file system it is, by the mark that its maker gave it: the number of its device may be another's tomorrow.
#![allow(unsafe_code)]

use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs;
use rustix::ioctl::{Getter, opcode};

/// What the kernel answers since Linux 6.9: `struct fsuuid2`.
#[repr(C)]
struct FsUuid {
    length: u8,
    bytes: [u8; 16],
}

const GET_FS_UUID: u32 = opcode::read::<FsUuid>(0x15, 0);
const BY_UUID: &str = "/dev/disk/by-uuid";

/// The UUID of the file system that an opened directory is in, in small hexadecimal digits; `None` if nobody tells.
pub(super) fn of(folder: &OwnedFd) -> Option<String> {
    from_kernel(folder).or_else(|| from_links(folder))
}

fn from_kernel(folder: &OwnedFd) -> Option<String> {
    // SAFETY: FS_IOC_GETFSUUID writes one `struct fsuuid2`, which `FsUuid` is, and any bytes are a valid one.
    let told = unsafe { rustix::ioctl::ioctl(folder, Getter::<GET_FS_UUID, FsUuid>::new()) };
    let told = told.ok()?;
    let bytes = told.bytes.get(..usize::from(told.length))?;
    let is_set = bytes.iter().any(|byte| *byte != 0);
    is_set.then(|| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _cannot_fail = write!(text, "{byte:02x}");
            text
        })
    })
}

/// udev names each disk by the UUID that it read from it.
fn from_links(folder: &OwnedFd) -> Option<String> {
    let device = fs::fstat(folder).ok()?.st_dev;
    let links = std::fs::read_dir(BY_UUID).ok()?;
    let ours = links.flatten().find(|link| {
        fs::stat(link.path()).is_ok_and(|disk| disk.st_rdev == device && device != 0)
    })?;
    let name = ours.file_name().to_string_lossy().to_lowercase();
    let uuid: String = name.chars().filter(|digit| digit.is_ascii_alphanumeric()).collect();
    (!uuid.is_empty()).then_some(uuid)
}
