//! Opening files, and the requests whose arguments need more than passing on.

use std::ffi::OsStr;
use std::ops::Range;

use fuser::{
    Errno, FileHandle, FopenFlags, INodeNo, OpenAccMode, OpenFlags, ReplyCreate, ReplyEmpty,
    ReplyLseek, ReplyOpen, ReplyWrite, WriteFlags,
};

use super::answer::Call;
use super::attributes::{GENERATION, attributes, ino};
use super::backing;
use super::filesystem::{Kernel, handle, name_or_refuse};
use super::names::made;
use super::notify::forget_attributes;
use crate::engine::{Allocate, Caller, Engine, OpenMode, Opened, Seek};

fn open_mode(flags: OpenFlags) -> OpenMode {
    let access = flags.acc_mode();
    OpenMode {
        read: access != OpenAccMode::O_WRONLY,
        // Who may only read empties it all the same, as on any local file system.
        write: access != OpenAccMode::O_RDONLY || flags.0 & libc::O_TRUNC != 0,
        append: flags.0 & libc::O_APPEND != 0,
        truncate: flags.0 & libc::O_TRUNC != 0,
        exclusive: flags.0 & libc::O_EXCL != 0,
    }
}

fn open_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    if opened.keep_pages {
        flags |= FopenFlags::FOPEN_KEEP_CACHE;
    }
    if opened.direct {
        flags |= FopenFlags::FOPEN_DIRECT_IO;
    }
    if opened.silent_close {
        flags |= FopenFlags::FOPEN_NOFLUSH;
    }
    flags
}

fn allocate(mode: i32) -> Option<Allocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(Allocate::Grow),
        KEEP => Some(Allocate::KeepSize),
        PUNCH => Some(Allocate::PunchHole),
        ZERO => Some(Allocate::Zero),
        ZERO_KEEP => Some(Allocate::ZeroKeepSize),
        _ => None,
    }
}

impl Kernel {
    pub(super) fn open_file(&self, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // O_EXCL without O_CREAT means nothing.
        let mode = OpenMode { exclusive: false, ..open_mode(flags) };
        let notifier = self.door.notifier.clone();
        let verb = |engine: &Engine| engine.open(ino(number), mode);
        self.door.answer(Call::of("open", number), reply, verb, move |reply, opened| {
            // Else the kernel would cut what is read now at the size it remembers.
            if opened.stale_attributes
                && let Some(notifier) = notifier.get()
            {
                forget_attributes(notifier, number);
            }
            let (fh, flags) = (FileHandle(opened.handle.0), open_flags(&opened));
            match opened.passthrough {
                Some(id) => backing::opened(reply, fh, flags, id),
                None => reply.opened(fh, flags),
            }
        });
    }

    pub(super) fn create_file(
        &self,
        parent: INodeNo,
        name: &OsStr,
        permissions: u32,
        flags: OpenFlags,
        by: Caller,
        reply: ReplyCreate,
    ) {
        let name = name_or_refuse!(made(name), reply);
        let mode = open_mode(flags);
        let notifier = self.door.notifier.clone();
        let verb = |engine: &Engine| engine.create(ino(parent), name, permissions, mode, by);
        let call = Call::in_folder("create", parent);
        self.door.answer(call, reply, verb, move |reply, (stat, opened)| {
            let attributes = attributes(&stat);
            if opened.stale_attributes
                && let Some(notifier) = notifier.get()
            {
                forget_attributes(notifier, attributes.ino);
            }
            let (fh, flags) = (FileHandle(opened.handle.0), open_flags(&opened));
            match opened.passthrough {
                Some(id) => backing::created(reply, &stat.believe, &attributes, fh, flags, id),
                None => reply.created(&stat.believe, &attributes, GENERATION, fh, flags),
            }
        });
    }

    /// Writes what a program wrote, or what the kernel brings back from a mapping.
    pub(super) fn write_file(
        &self,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        reply: ReplyWrite,
    ) {
        let kill_suid = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let is_stored = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        // The kernel's buffer is read into again as soon as this returns.
        let data = bytes::Bytes::copy_from_slice(data);
        let verb = |engine: &Engine| match (ino(number), handle(fh)) {
            (ino, handle) if is_stored => engine.write_stored(ino, handle, offset, data),
            (ino, handle) => engine.write(ino, handle, offset, data, kill_suid),
        };
        // It waits for room as long as uploads make some.
        let call = Call::of("write", number).holding().may_transfer();
        self.door.answer(call, reply, verb, |reply, written| reply.written(written));
    }

    pub(super) fn allocate(
        &self,
        number: INodeNo,
        fh: FileHandle,
        bytes: Range<u64>,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = allocate(mode) else { return reply.error(Errno::EOPNOTSUPP) };
        let length = bytes.end - bytes.start;
        let verb =
            |engine: &Engine| engine.allocate(ino(number), handle(fh), bytes.start, length, how);
        // What is not here is fetched first, and room is waited for as by a write.
        let call = Call::of("fallocate", number).holding().may_transfer();
        self.door.answer(call, reply, verb, |reply, ()| reply.ok());
    }

    pub(super) fn seek(
        &self,
        number: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        let verb = |engine: &Engine| engine.seek(ino(number), handle(fh), offset, what);
        self.door.answer(Call::of("lseek", number).holding(), reply, verb, |reply, found| {
            match i64::try_from(found) {
                Ok(found) => reply.offset(found),
                Err(_too_far) => reply.error(Errno::EOVERFLOW),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_a_mode() {
        let mode = open_mode(OpenFlags(libc::O_RDWR | libc::O_APPEND | libc::O_TRUNC));
        assert!(mode.read && mode.write && mode.append && mode.truncate && !mode.exclusive);
        let mode = open_mode(OpenFlags(libc::O_WRONLY | libc::O_EXCL));
        assert!(!mode.read && mode.write && mode.exclusive);
        let mode = open_mode(OpenFlags(libc::O_RDONLY | libc::O_TRUNC));
        assert!(mode.read && mode.write && mode.truncate);
    }

    #[test]
    fn fallocate_knows_what_the_engine_knows() {
        assert_eq!(allocate(0), Some(Allocate::Grow));
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        assert_eq!(allocate(punch), Some(Allocate::PunchHole));
        assert_eq!(allocate(libc::FALLOC_FL_COLLAPSE_RANGE), None);
    }
}
