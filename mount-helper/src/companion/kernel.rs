//! What neither the standard library nor rustix has a safe call for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::UCred;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// `FUSE_DEV_IOC_BACKING_OPEN`: `_IOW(229, 1, struct fuse_backing_map)` of linux/fuse.h.
const BACKING_OPEN: libc::Ioctl = (1 << 30) | (16 << 16) | (229 << 8) | 1;
/// `FUSE_DEV_IOC_BACKING_CLOSE`: `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: libc::Ioctl = (1 << 30) | (4 << 16) | (229 << 8) | 2;

/// The first descriptor that systemd hands over.
const FIRST: i32 = 3;

#[repr(C)]
struct BackingMap {
    file: i32,
    flags: u32,
    padding: u64,
}

/// Registers a file on the connection of `fuse`.
pub(crate) fn register(fuse: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<u32> {
    let map = BackingMap { file: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads a `fuse_backing_map` at this address, which lives over the call; both descriptors are open.
    let id = unsafe { libc::ioctl(fuse.as_raw_fd(), BACKING_OPEN, &raw const map) };
    u32::try_from(id).map_err(|_negative| io::Error::last_os_error())
}

/// Ends that.
pub(crate) fn unregister(fuse: BorrowedFd<'_>, id: u32) -> io::Result<()> {
    // SAFETY: the kernel reads four bytes at the address of `id`, which lives over the call; the descriptor is open.
    match unsafe { libc::ioctl(fuse.as_raw_fd(), BACKING_CLOSE, &raw const id) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes this thread the user's in everything about files: the kernel keeps these credentials with what is registered, so
/// quotas and the blocks that are kept for root are as for him. The capability to register and to mount stays, no other.
pub(crate) fn become_user(who: &UCred) -> io::Result<()> {
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
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let only = CapabilitySet::SYS_ADMIN;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: only, permitted: only, inheritable })?;
    Ok(())
}

/// The socket that systemd listens on for us.
pub(crate) fn socket_of_systemd() -> io::Result<OwnedFd> {
    let told = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if told("LISTEN_PID") != Some(std::process::id()) || told("LISTEN_FDS") != Some(1) {
        return Err(io::Error::other("systemd hands over no socket; --socket PATH makes one"));
    }
    // SAFETY: systemd opened it for this process, and nobody else takes it: this is called once, first of all.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}
