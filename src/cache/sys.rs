//! The system calls that no safe wrapper offers.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use rustix::mm::{MapFlags, ProtFlags};

/// Says which signal tells of a broken lease; asm-generic/fcntl.h. The C library's bindings leave it out.
const F_SETSIG: libc::c_int = 10;

/// Places in which the C library keeps memory, at most.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Lets the C library keep what threads allocate together: else each of the daemon's threads has a heap of its own, and none gives
/// back what another could use. For the start of a process, before it has threads.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers and changes a setting of the allocator, under the allocator's own lock.
    let _is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

/// Is a kind of lease on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// Granted if nobody has the file open or mapped for writing.
    Read,
    /// Granted if nobody else has the file open or mapped at all.
    Write,
}

/// Asks for a lease and gives it back at once; `false` if somebody stands in its way.
pub(super) fn ask_lease(fd: impl AsFd, lease: Lease) -> io::Result<bool> {
    let granted = take_lease(&fd, lease)?;
    if granted {
        set_lease(fd.as_fd(), libc::F_UNLCK)?;
    }
    Ok(granted)
}

/// Takes a lease that lasts until the descriptor is closed; `false` if somebody stands in its way.
///
/// Who opens the file in the meantime has the kernel send a signal: by default SIGIO, whose default action ends the process.
/// SIGURG is asked for instead, whose default action is nothing, whatever program this code runs in.
pub(super) fn take_lease(fd: impl AsFd, lease: Lease) -> io::Result<bool> {
    let kind = match lease {
        Lease::Read => libc::F_RDLCK,
        Lease::Write => libc::F_WRLCK,
    };
    set_signal(fd.as_fd(), libc::SIGURG)?;
    match set_lease(fd.as_fd(), kind) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

fn set_lease(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an integer and touches no memory of ours; the descriptor is borrowed, so it is open.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, kind) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_signal(fd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETSIG takes an integer and touches no memory of ours; the descriptor is borrowed, so it is open.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, signal) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Is one page of a file, mapped writable and shared; unmapped when dropped.
pub(super) struct WritablePage {
    at: *mut libc::c_void,
    len: usize,
}

impl WritablePage {
    /// Maps the first page of a file that is at least 4 KiB long.
    pub(super) fn map(fd: impl AsFd) -> io::Result<Self> {
        let len = 4096;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours.
        let at = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, fd, 0)?
        };
        Ok(Self { at, len })
    }

    /// Stores a byte at the start of the page.
    pub(super) fn store(&self, byte: u8) {
        // SAFETY: the page is mapped writable for the life of `self` and nothing holds a reference into it.
        unsafe { self.at.cast::<u8>().write_volatile(byte) };
    }
}

impl Drop for WritablePage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this address and length, and is unmapped only here.
        let given_back = unsafe { rustix::mm::munmap(self.at, self.len) };
        if given_back.is_err() {
            tracing::warn!("A scratch mapping could not be given back.");
        }
    }
}
