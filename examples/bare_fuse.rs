//! A FUSE file system with nothing behind it: what the kernel, the protocol and the machine cost any daemon.
//!
//! `bare_fuse SOURCE DATA MOUNTPOINT [plain]` shows the tree SOURCE, all of whose names and attributes it holds in memory, in which
//! files can be made, whose bytes lie in the folder DATA. It answers each request at once, and is asked what dewfs is asked: the
//! same abilities, the same believing for hours, passthrough (or, with `plain`, none). It remembers nothing, fetches nothing,
//! sends nothing and survives nothing; `benches/bench.py` measures it beside dewfs. Ends when it is unmounted.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackingId, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

const BELIEVE: Duration = Duration::from_secs(4 * 3600);

/// What an inode is; of a file, where its bytes are.
struct Node {
    attributes: FileAttr,
    entries: BTreeMap<OsString, INodeNo>,
    /// By number, in the order they are listed.
    listed: BTreeMap<u64, OsString>,
    bytes: Option<PathBuf>,
    is_made: bool,
}

/// A file that is open.
struct Open {
    ino: INodeNo,
    file: File,
    backing: Option<Arc<BackingId>>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<INodeNo, Node>,
    open: HashMap<u64, Open>,
    last: u64,
}

struct Bare {
    state: Mutex<State>,
    data: PathBuf,
    passthrough: bool,
}

fn attributes(ino: INodeNo, kind: FileType, mode: u32, size: u64, time: SystemTime) -> FileAttr {
    let blocks = size.div_ceil(512);
    let (atime, mtime, ctime, crtime) = (time, time, time, SystemTime::UNIX_EPOCH);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let perm = (mode & 0o7777) as u16;
    let (nlink, rdev, blksize, flags) =
        (if kind == FileType::Directory { 2 } else { 1 }, 0, 4096, 0);
    FileAttr {
        ino,
        size,
        blocks,
        atime,
        mtime,
        ctime,
        crtime,
        kind,
        perm,
        nlink,
        uid,
        gid,
        rdev,
        blksize,
        flags,
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn node(&self, ino: INodeNo) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    fn folder(&mut self, ino: INodeNo) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<INodeNo, Errno> {
        self.node(parent)?.entries.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// Attributes as they are now: of what was made here the file with its bytes knows.
    fn attributes(&mut self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let node = self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)?;
        if let (true, Some(path)) = (node.is_made, &node.bytes)
            && let Ok(found) = fs::metadata(path)
        {
            node.attributes.size = found.len();
            node.attributes.blocks = found.blocks();
            node.attributes.mtime = found.modified().unwrap_or(node.attributes.mtime);
        }
        Ok(node.attributes)
    }

    fn add(
        &mut self,
        parent: INodeNo,
        name: &OsStr,
        attributes: FileAttr,
        bytes: Option<PathBuf>,
        is_made: bool,
    ) {
        let ino = attributes.ino;
        let node =
            Node { attributes, entries: BTreeMap::new(), listed: BTreeMap::new(), bytes, is_made };
        self.nodes.insert(ino, node);
        self.name(parent, name, ino);
    }

    fn name(&mut self, parent: INodeNo, name: &OsStr, ino: INodeNo) {
        if let Ok(folder) = self.folder(parent) {
            folder.entries.insert(name.to_owned(), ino);
            folder.listed.insert(ino.0, name.to_owned());
        }
    }

    fn take(&mut self, parent: INodeNo, name: &OsStr) -> Result<INodeNo, Errno> {
        let folder = self.folder(parent)?;
        let ino = folder.entries.remove(name).ok_or(Errno::ENOENT)?;
        folder.listed.remove(&ino.0);
        Ok(ino)
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let ino = self.take(parent, name)?;
        if let Some(node) = self.nodes.remove(&ino)
            && node.is_made
            && let Some(path) = node.bytes
        {
            fs::remove_file(path).map_err(Errno::from)?;
        }
        Ok(())
    }

    fn fill(&mut self, parent: INodeNo, source: &Path) -> io::Result<()> {
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            let (found, ino) = (entry.metadata()?, INodeNo(self.number()));
            let (is_folder, path) = (found.is_dir(), entry.path());
            let kind = if is_folder { FileType::Directory } else { FileType::RegularFile };
            let shown = attributes(ino, kind, found.mode(), found.len(), found.modified()?);
            self.add(parent, &entry.file_name(), shown, (!is_folder).then(|| path.clone()), false);
            if is_folder {
                self.fill(ino, &path)?;
            }
        }
        Ok(())
    }
}

impl Bare {
    fn new(source: &Path, data: &Path, passthrough: bool) -> io::Result<Self> {
        let mut state = State { last: 2, ..State::default() };
        let root = attributes(INodeNo::ROOT, FileType::Directory, 0o755, 4096, SystemTime::now());
        state.add(INodeNo(0), OsStr::new(""), root, None, false);
        state.fill(INodeNo::ROOT, source)?;
        Ok(Self { state: Mutex::new(state), data: data.to_owned(), passthrough })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an inode with this name.
    fn make(&self, parent: INodeNo, name: &OsStr, kind: FileType, mode: u32) -> FileAttr {
        let mut state = self.state();
        let ino = INodeNo(state.number());
        let size = if kind == FileType::Directory { 4096 } else { 0 };
        let shown = attributes(ino, kind, mode, size, SystemTime::now());
        let bytes = (kind == FileType::RegularFile).then(|| self.data.join(ino.0.to_string()));
        state.add(parent, name, shown, bytes, true);
        shown
    }

    /// Notes that a file is open; all who have it open share what is registered with the kernel.
    fn opened(
        &self,
        ino: INodeNo,
        file: File,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> io::Result<(FileHandle, Option<Arc<BackingId>>)> {
        let mut state = self.state();
        let shared = state.open.values().find(|open| open.ino == ino);
        let backing = match shared.and_then(|open| open.backing.clone()) {
            None if self.passthrough => Some(Arc::new(register(&file)?)),
            known => known,
        };
        let fh = state.number();
        state.open.insert(fh, Open { ino, file, backing: backing.clone() });
        Ok((FileHandle(fh), backing))
    }

    fn with_file<T>(
        &self,
        fh: FileHandle,
        act: impl FnOnce(&File) -> io::Result<T>,
    ) -> Result<T, Errno> {
        let file = match self.state().open.get(&fh.0) {
            Some(open) => open.file.try_clone(),
            None => return Err(Errno::EBADF),
        };
        file.and_then(|file| act(&file)).map_err(Errno::from)
    }
}

fn done(reply: ReplyEmpty, outcome: Result<(), Errno>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

const PAST_US: FopenFlags = FopenFlags::FOPEN_NOFLUSH;
/// With passthrough the kernel has no pages of its own to keep.
const BY_US: FopenFlags = FopenFlags::FOPEN_NOFLUSH.union(FopenFlags::FOPEN_KEEP_CACHE);

impl Filesystem for Bare {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        config.add_capabilities(wanted).map_err(|_lacking| io::ErrorKind::Unsupported)?;
        if self.passthrough {
            let passthrough = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH);
            passthrough.map_err(|_lacking| io::ErrorKind::Unsupported)?;
            config.set_max_stack_depth(1).map_err(|_most| io::ErrorKind::Unsupported)?;
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        match state.child(parent, name).and_then(|ino| state.attributes(ino)) {
            Ok(shown) => reply.entry(&BELIEVE, &shown, Generation(0)),
            Err(_missing) => {
                let kind = FileType::RegularFile;
                let none = attributes(INodeNo(0), kind, 0, 0, SystemTime::UNIX_EPOCH);
                reply.entry(&BELIEVE, &none, Generation(0));
            }
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attributes(ino) {
            Ok(shown) => reply.attr(&BELIEVE, &shown),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&ino) else { return reply.error(Errno::ENOENT) };
        let shown = &mut node.attributes;
        shown.perm = mode.map_or(shown.perm, |mode| (mode & 0o7777) as u16);
        (shown.uid, shown.gid) = (uid.unwrap_or(shown.uid), gid.unwrap_or(shown.gid));
        let time = mtime.map(|time| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        });
        shown.mtime = time.unwrap_or(shown.mtime);
        let file = node.bytes.as_ref().filter(|_| size.is_some() || time.is_some());
        let changed = file.map_or(Ok(()), |path| {
            let file = OpenOptions::new().write(true).open(path)?;
            size.map_or(Ok(()), |size| file.set_len(size))?;
            time.map_or(Ok(()), |time| file.set_modified(time))
        });
        match changed.map_err(Errno::from).and_then(|()| state.attributes(ino)) {
            Ok(shown) => reply.attr(&BELIEVE, &shown),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.make(parent, name, FileType::Directory, mode);
        reply.entry(&BELIEVE, &made, Generation(0));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.state().remove(parent, name));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.state().remove(parent, name));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        to_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let moved = state.take(parent, name).and_then(|ino| {
            let replaced = state.child(to, to_name).is_ok();
            if replaced {
                state.remove(to, to_name)?;
            }
            state.name(to, to_name, ino);
            Ok(())
        });
        done(reply, moved);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn open(&self, _request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (path, is_made) = match self.state().node(ino) {
            Ok(Node { bytes: Some(path), is_made, .. }) => (path.clone(), *is_made),
            _ => return reply.error(Errno::ENOENT),
        };
        let truncates = flags.0 & libc::O_TRUNC != 0;
        let file = OpenOptions::new().read(true).write(is_made).truncate(truncates).open(path);
        let opened = file.and_then(|file| self.opened(ino, file, |file| reply.open_backing(file)));
        match opened {
            Ok((fh, Some(backing))) => reply.opened_passthrough(fh, PAST_US, &backing),
            Ok((fh, None)) => reply.opened(fh, BY_US),
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.make(parent, name, FileType::RegularFile, mode);
        let path = self.data.join(made.ino.0.to_string());
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let opened =
            file.and_then(|file| self.opened(made.ino, file, |file| reply.open_backing(file)));
        let life = Generation(0);
        match opened {
            Ok((fh, Some(backing))) => {
                reply.created_passthrough(&BELIEVE, &made, life, fh, PAST_US, &backing);
            }
            Ok((fh, None)) => reply.created(&BELIEVE, &made, life, fh, BY_US),
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size as usize];
        match self.with_file(fh, |file| file.read_at(&mut buffer, offset)) {
            Ok(read) => reply.data(&buffer[..read]),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.with_file(fh, |file| file.write_all_at(data, offset)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        drop(self.state().open.remove(&fh.0));
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.with_file(fh, File::sync_data));
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Nobody but the kernel changes anything.
        let keeps = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        reply.opened(FileHandle(0), keeps);
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut state = self.state();
        let Ok(folder) = state.node(ino) else { return reply.error(Errno::ENOENT) };
        let dots = [(1, "."), (2, "..")].map(|(cookie, name)| (cookie, OsString::from(name)));
        let after = (std::ops::Bound::Excluded(offset.max(2)), std::ops::Bound::Unbounded);
        let page = folder.listed.range(after).take(1024).map(|(ino, name)| (*ino, name.clone()));
        let page: Vec<_> =
            dots.into_iter().filter(|(cookie, _)| *cookie > offset).chain(page).collect();
        for (cookie, name) in page {
            let shown = if cookie <= 2 { ino } else { INodeNo(cookie) };
            let Ok(shown) = state.attributes(shown) else { continue };
            let believe = if cookie <= 2 { Duration::ZERO } else { BELIEVE };
            if reply.add(shown.ino, cookie, name, &believe, &shown, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENODATA);
    }
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (places, plain) = match words.as_slice() {
        [source, data, at] => ([source, data, at].map(PathBuf::from), false),
        [source, data, at, word] if word == "plain" => {
            ([source, data, at].map(PathBuf::from), true)
        }
        _ => {
            eprintln!("usage: bare_fuse SOURCE DATA MOUNTPOINT [plain]");
            return ExitCode::from(2);
        }
    };
    let [source, data, at] = places;
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::FSName("bare".to_owned()), MountOption::DefaultPermissions];
    config.n_threads = Some(4);
    config.clone_fd = true;
    match Bare::new(&source, &data, !plain).and_then(|bare| fuser::mount(bare, at, &config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare_fuse: {error}");
            ExitCode::FAILURE
        }
    }
}
