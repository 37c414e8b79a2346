//! The kernel's requests, taken apart: names, attributes and what needs no more than a line. Folders, files and extended
//! attributes have files of their own.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags,
    ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::answer::{Call, Door, refuse};
use super::attributes::{GENERATION, NAMES, Threshold, ino, nothing, set_time};
use super::copies::Copies;
use super::flags::{kind_of, rename_mode};
use super::folders::{OpenFolders, PageSize};
use super::mount::negotiate;
use super::names::{made, sought};
use super::nodes::{New, give_attributes, give_entry};
use crate::engine::{Caller, Engine, EngineError, Handle, SetAttributes};
use crate::model::Kind;

/// Is the mounted file system as fuser sees it.
pub(super) struct Kernel {
    pub(super) door: Door,
    root: Threshold,
    pub(super) names_a_page: Arc<PageSize>,
    pub(super) entries_a_page: Arc<PageSize>,
    pub(super) folders: Arc<OpenFolders>,
    pub(super) copies: Arc<Copies>,
}

impl Kernel {
    pub(super) fn new(door: Door, root: Threshold, copies: Arc<Copies>) -> Self {
        Self {
            door,
            root,
            names_a_page: Arc::default(),
            entries_a_page: Arc::default(),
            folders: Arc::default(),
            copies,
        }
    }
}

/// The name, or the answer that there can be none.
macro_rules! name_or_refuse {
    ($name:expr, $reply:ident) => {
        match $name {
            Ok(name) => name,
            Err(errno) => return $reply.error(errno),
        }
    };
}
pub(super) use name_or_refuse;

/// Who asks.
pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

/// The handle that the engine gave.
pub(super) fn handle(fh: FileHandle) -> Handle {
    Handle(fh.0)
}

impl Filesystem for Kernel {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config)
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name_or_refuse!(sought(name), reply);
        let call = Call::in_folder("lookup", parent);
        let verb = |engine: &Engine| engine.lookup(ino(parent), &name);
        let copies = Arc::clone(&self.copies);
        self.door.answer_with(call, reply, verb, move |reply, outcome| match outcome {
            Ok(stat) => {
                copies.looked_up(parent);
                give_entry(reply, &stat);
            }
            // Remembered by the kernel until a name appears there.
            Err(EngineError::NotFound) => {
                reply.entry_with_ttls(&Duration::ZERO, &NAMES, &nothing(), GENERATION);
            }
            Err(error) => refuse(call, reply, &error),
        });
    }

    // Inode numbers are never reused and the catalog is the table: there is nothing to be forgotten.
    fn forget(&self, _request: &Request, _ino: INodeNo, _lookups: u64) {}

    fn getattr(
        &self,
        _request: &Request,
        number: INodeNo,
        _fh: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let verb = |engine: &Engine| engine.stat(ino(number));
        self.door.answer(Call::of("getattr", number), reply, verb, give_attributes(self.root));
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttributes {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
        };
        let by = caller(request);
        let verb = |engine: &Engine| engine.set_attributes(ino(number), fh.map(handle), set, by);
        let call = Call::of("setattr", number).holding();
        self.door.answer(call, reply, verb, give_attributes(self.root));
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        let verb = |engine: &Engine| engine.read_link(ino(number));
        let call = Call::of("readlink", number);
        self.door.answer(call, reply, verb, |reply, target| reply.data(&target));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let kind = match kind_of(mode) {
            Ok(kind) => kind,
            Err(errno) => return reply.error(errno),
        };
        let node = New { call: "mknod", kind, mode: mode & !umask, target: None };
        self.make(parent, name, node, caller(request), reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = Some(target.as_os_str().as_bytes());
        let node = New { call: "symlink", kind: Kind::Symlink, mode: 0o777, target };
        self.make(parent, name, node, caller(request), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let name = name_or_refuse!(made(name), reply);
        let by = caller(request);
        let verb =
            |engine: &Engine| engine.make_folder(ino(parent), name, mode & !umask & 0o7777, by);
        let call = Call::in_folder("mkdir", parent);
        self.door.answer(call, reply, verb, |reply, stat| give_entry(reply, &stat));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name_or_refuse!(sought(name), reply);
        let verb = |engine: &Engine| engine.unlink(ino(parent), &name);
        let call = Call::in_folder("unlink", parent);
        self.door.answer(call, reply, verb, |reply, ()| reply.ok());
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name_or_refuse!(sought(name), reply);
        let verb = |engine: &Engine| engine.remove_folder(ino(parent), &name);
        let call = Call::in_folder("rmdir", parent);
        self.door.answer(call, reply, verb, |reply, ()| reply.ok());
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = name_or_refuse!(rename_mode(flags), reply);
        let name = name_or_refuse!(sought(name), reply);
        let to_name = name_or_refuse!(made(to_name), reply);
        let verb =
            |engine: &Engine| engine.rename(ino(parent), &name, ino(to_parent), to_name, mode);
        // With `namespace=remote` a file that was never sent is sent first.
        let call = Call::in_folder("rename", parent).and_folder(to_parent).may_transfer();
        self.door.answer(call, reply, verb, |reply, ()| reply.ok());
    }

    fn link(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _parent: INodeNo,
        _name: &OsStr,
        reply: ReplyEntry,
    ) {
        // No remote has hard links: an honest no makes programs copy.
        reply.error(Errno::EPERM);
    }

    fn statfs(&self, _request: &Request, number: INodeNo, reply: ReplyStatfs) {
        self.space(number, reply);
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.open_folder(number, reply);
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.read_names(number, fh, offset, reply);
    }

    fn readdirplus(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.read_entries(number, fh, offset, reply);
    }

    fn releasedir(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.folders.close(fh);
        self.copies.close(number, fh);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.sync_folder(number, reply);
    }

    fn open(&self, _request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.open_file(number, flags, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let permissions = mode & !umask & 0o7777;
        self.create_file(parent, name, permissions, OpenFlags(flags), caller(request), reply);
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let verb = |engine: &Engine| engine.read(ino(number), handle(fh), offset, size);
        let mut call = Call::of("read", number);
        if self.door.reads_wait_for_all() {
            call = call.may_transfer();
        }
        self.door.answer(call, reply, verb, |reply, bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.write_file(number, fh, offset, data, write_flags, reply);
    }

    fn flush(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let verb = |engine: &Engine| engine.flush(ino(number), handle(fh));
        let call = Call::of("flush", number).may_transfer();
        self.door.answer(call, reply, verb, |reply, ()| reply.ok());
    }

    fn release(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.door.tell(Call::of("release", number), |engine| {
            engine.release(ino(number), handle(fh));
        });
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let verb = |engine: &Engine| engine.sync_file(ino(number), handle(fh));
        let call = Call::of("fsync", number).holding().may_transfer();
        self.door.answer(call, reply, verb, |reply, ()| reply.ok());
    }

    fn fallocate(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.allocate(number, fh, offset..offset.saturating_add(length), mode, reply);
    }

    fn lseek(
        &self,
        _request: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.seek(number, fh, offset, whence, reply);
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel then copies by reading and writing, and never asks again.
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(
        &self,
        _request: &Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        self.get_xattr(number, name, size, reply);
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        self.list_xattr(number, size, reply);
    }

    fn setxattr(
        &self,
        _request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.set_xattr(number, name, value, flags, reply);
    }

    fn removexattr(&self, _request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove_xattr(number, name, reply);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        // The kernel then says that files are always ready, and never asks again.
        reply.error(Errno::ENOSYS);
    }

    fn bmap(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _block_size: u32,
        _index: u64,
        reply: ReplyBmap,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
