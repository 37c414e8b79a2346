//! Passthrough: data files are registered with the kernel, which then reads and writes them itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{BackingId, FileAttr, FileHandle, FopenFlags, ReplyCreate, ReplyOpen};
use tracing::debug;

use super::attributes::GENERATION;
use super::companion::Companion;
use crate::engine::Backings;

/// `FUSE_DEV_IOC_BACKING_CLOSE`: `_IOW(229, 2, uint32_t)` of linux/fuse.h.
const BACKING_CLOSE: libc::Ioctl = (1 << 30) | (4 << 16) | (229 << 8) | 2;

/// Is one mount's registry in the kernel, reached over a descriptor of its own: by us, or by the helper where we may not.
pub(super) struct Registry {
    device: OwnedFd,
    companion: OnceLock<Arc<Companion>>,
}

impl Registry {
    /// Over another descriptor of the connection that `device` is.
    pub(super) fn new(device: &OwnedFd) -> io::Result<Self> {
        Ok(Self { device: device.try_clone()?, companion: OnceLock::new() })
    }

    fn register_by_helper(&self, file: BorrowedFd<'_>) -> io::Result<u32> {
        let companion = match self.companion.get() {
            Some(companion) => companion,
            None => {
                let found = Companion::find().map_err(|why| {
                    let lacking = "needs the capability CAP_SYS_ADMIN, or dewfs-helper";
                    io::Error::new(io::ErrorKind::PermissionDenied, format!("{lacking} ({why})"))
                })?;
                self.companion.get_or_init(|| Arc::new(found))
            }
        };
        companion.register(self.device.as_fd(), file)
    }
}

impl Backings for Registry {
    fn register(&self, file: BorrowedFd<'_>) -> io::Result<u32> {
        if self.companion.get().is_some() {
            return self.register_by_helper(file);
        }
        match BackingId::create_raw(&self.device, file) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                self.register_by_helper(file)
            }
            outcome => outcome,
        }
    }

    fn unregister(&self, id: u32) {
        if let Some(companion) = self.companion.get() {
            return companion.unregister(self.device.as_fd(), id);
        }
        // SAFETY: the kernel reads four bytes at the address of `id`, which lives over the call; the descriptor is ours.
        let done = unsafe { libc::ioctl(self.device.as_raw_fd(), BACKING_CLOSE, &raw const id) };
        if done == -1 {
            // After an unmount there is nothing left to be ended.
            debug!(id, "cannot end a backing: {}", io::Error::last_os_error());
        }
    }

    fn by(&self) -> &'static str {
        if self.companion.get().is_some() { "dewfs-helper" } else { "dewfs" }
    }

    fn trouble(&self) -> Option<String> {
        self.companion.get()?.trouble()
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
