//! What neither the standard library nor rustix has a safe call for.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::{io, ptr};

use rustix::io::{Errno, Result};
use rustix::net::UCred;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// `FUSE_DEV_IOC_BACKING_OPEN`: `_IOW(229, 1, struct fuse_backing_map)` of linux/fuse.h.
const BACKING_OPEN: libc::Ioctl = (1 << 30) | (16 << 16) | (229 << 8) | 1;
/// `FUSE_DEV_IOC_BACKING_CLOSE`: `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: libc::Ioctl = (1 << 30) | (4 << 16) | (229 << 8) | 2;

#[repr(C)]
struct BackingMap {
    file: i32,
    flags: u32,
    padding: u64,
}

/// Registers a file on the connection of `fuse`.
pub(crate) fn register(fuse: &OwnedFd, file: &OwnedFd) -> Result<u32> {
    ask(fuse, BACKING_OPEN, &BackingMap { file: file.as_raw_fd(), flags: 0, padding: 0 })
}

/// Ends that.
pub(crate) fn unregister(fuse: &OwnedFd, id: u32) -> Result<u32> {
    ask(fuse, BACKING_CLOSE, &id)
}

fn ask<T>(fuse: &OwnedFd, request: libc::Ioctl, about: &T) -> Result<u32> {
    // SAFETY: both requests make the kernel read what their number says, which is a `T` that lives over the call, and write
    // nothing; the descriptor is open.
    let answer = unsafe { libc::ioctl(fuse.as_raw_fd(), request, ptr::from_ref(about)) };
    let why = |_negative| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO);
    u32::try_from(answer).map_err(why)
}

/// Makes this thread the user's in everything about files: the kernel keeps these credentials with what is registered, so
/// quotas and the blocks that are kept for root are as for him. The capability to register and to mount stays, no other.
pub(crate) fn become_user(who: &UCred) -> Result<()> {
    rustix::thread::set_thread_groups(&[who.gid])?;
    let (uid, gid) = (who.uid.as_raw(), who.gid.as_raw());
    // SAFETY: both take a number and concern this thread alone. They answer the number before and never fail aloud: asked
    // for one that nobody can have, they answer what is.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX))
    };
    if now.0.cast_unsigned() != uid || now.1.cast_unsigned() != gid {
        return Err(Errno::PERM);
    }
    let only = CapabilitySet::SYS_ADMIN;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: only, permitted: only, inheritable })
}
