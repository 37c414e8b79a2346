//! Passthrough: data files are registered with the kernel, which then reads and writes them itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use fuser::{BackingId, FileAttr, FileHandle, FopenFlags, ReplyCreate, ReplyOpen};
use tracing::debug;

use super::attributes::GENERATION;
use crate::engine::Backings;

/// `FUSE_DEV_IOC_BACKING_CLOSE`: `_IOW(229, 2, uint32_t)` of linux/fuse.h.
const BACKING_CLOSE: libc::Ioctl = (1 << 30) | (4 << 16) | (229 << 8) | 2;

/// Is one mount's registry in the kernel, reached over a descriptor of its own.
pub(super) struct Registry {
    device: OwnedFd,
}

impl Registry {
    /// Over another descriptor of the connection that `device` is.
    pub(super) fn new(device: &OwnedFd) -> io::Result<Self> {
        Ok(Self { device: device.try_clone()? })
    }
}

impl Backings for Registry {
    fn register(&self, file: BorrowedFd<'_>) -> io::Result<u32> {
        BackingId::create_raw(&self.device, file)
    }

    fn unregister(&self, id: u32) {
        // SAFETY: the kernel reads four bytes at the address of `id`, which lives over the call; the descriptor is ours.
        let done = unsafe { libc::ioctl(self.device.as_raw_fd(), BACKING_CLOSE, &raw const id) };
        if done == -1 {
            // After an unmount there is nothing left to be ended.
            debug!(id, "cannot end a backing: {}", io::Error::last_os_error());
        }
    }
}

/// Answers an open whose I/O the kernel does itself.
pub(super) fn opened(reply: ReplyOpen, fh: FileHandle, flags: FopenFlags, id: u32) {
    // SAFETY: the number was registered on this connection, and `into_raw` leaves it to its owner to end it.
    let backing = unsafe { reply.wrap_backing(id) };
    reply.opened_passthrough(fh, flags, &backing);
    let _owned_elsewhere = backing.into_raw();
}

/// Answers a create whose I/O the kernel does itself.
pub(super) fn created(
    reply: ReplyCreate,
    believe: &Duration,
    attributes: &FileAttr,
    fh: FileHandle,
    flags: FopenFlags,
    id: u32,
) {
    // SAFETY: the number was registered on this connection, and `into_raw` leaves it to its owner to end it.
    let backing = unsafe { reply.wrap_backing(id) };
    reply.created_passthrough(believe, attributes, GENERATION, fh, flags, &backing);
    let _owned_elsewhere = backing.into_raw();
}
