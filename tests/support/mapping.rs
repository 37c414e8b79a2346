//! A file as memory.
#![allow(unsafe_code, dead_code)]

use std::fs::File;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// Is a shared writable mapping of a whole file.
pub(crate) struct Mapping {
    at: *mut u8,
    length: usize,
}

impl Mapping {
    /// Of a file that is at least as long.
    pub(crate) fn of(file: &File, length: usize) -> Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice; nobody shortens the file while it lives.
        let at = unsafe { mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, file, 0) };
        Self { at: at.unwrap().cast(), length }
    }

    /// Stores one byte.
    pub(crate) fn store(&self, at: usize, byte: u8) {
        assert!(at < self.length);
        // SAFETY: within the mapping.
        unsafe { self.at.add(at).write_volatile(byte) };
    }

    /// Has the kernel write what was stored.
    pub(crate) fn sync(&self) {
        // SAFETY: the mapping is that of `of`.
        unsafe { msync(self.at.cast(), self.length, MsyncFlags::SYNC).unwrap() };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`, unmapped only here.
        unsafe { munmap(self.at.cast(), self.length).unwrap() };
    }
}
