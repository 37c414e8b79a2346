//! The directory behind the remote: resolving below the root without ever following a link, and looking at what is there.

use std::ffi::OsStr;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp,
};
use rustix::io::Errno;

use super::parts::{self, Border, Parts};
use super::systems::{AWAY, FileSystem};
pub(super) use super::systems::{kind_of, refused};
use super::{identity, mounts};
use crate::remote::{
    ErrorKind, Expect, Kind, Name, Observed, RemoteError, RemoteId, RemotePath, Result, Version,
};

/// Steps of a path are resolved together up to this many bytes; `PATH_MAX` is 4096.
const PATH_STEP: usize = 3500;

const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Is the opened root.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    /// Who the directory is, to notice another one in its place; `None` where nothing tells.
    pub(super) identity: Option<String>,
    /// What it is, for people.
    pub(super) product: String,
    /// Whether changes by other machines are told to nobody here.
    pub(super) is_shared: bool,
    /// Which file system, and which mount of it, this is.
    seat: Seat,
    /// Whether its inode numbers are those of the disk.
    numbered: bool,
    /// What is mounted below it.
    pub(super) parts: Arc<Parts>,
    /// Two changes within this long may leave the same mtime.
    pub(super) tick: Duration,
    /// By how many nanoseconds the clock that stamps files there is ahead of ours.
    pub(super) skew: AtomicI64,
}

/// Says which file system, and which mount of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    device: (u32, u32),
    mount: u64,
}

/// Is an opened folder.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    numbered: bool,
    seat: Option<Seat>,
}

impl Folder {
    /// One in which names are looked at, but no versions are asked.
    pub(super) fn plain(fd: OwnedFd) -> Self {
        Self { fd, numbered: true, seat: None }
    }

    /// Says what a descriptor is that was opened in it; `None` for what is neither file nor folder.
    pub(super) fn opened(&self, file: &OwnedFd) -> rustix::io::Result<Option<Meta>> {
        look_open(file, self.numbered)
    }

    /// What begins at an entry of it.
    pub(super) fn border(&self, meta: &Meta) -> Option<Border> {
        let seat = self.seat.filter(|seat| meta.kind == Kind::Folder && *seat != meta.seat)?;
        Some(if seat.mount == meta.seat.mount && seat.mount != 0 {
            Border::Volume
        } else {
            Border::Mount
        })
    }
}

impl Deref for Folder {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        &self.fd
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What is asked of the kernel about an entry.
const WANTED: StatxFlags =
    StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

/// Is what the kernel says about one file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) kind: Kind,
    pub(super) inode: u64,
    pub(super) born: i128,
    pub(super) has_born: bool,
    /// How many names it has in this file system.
    pub(super) links: u32,
    /// Which file system, and which mount of it, it was seen through.
    seat: Seat,
    /// Whether the inode number will be the same tomorrow.
    pub(super) numbered: bool,
    pub(super) size: u64,
    pub(super) mtime: i128,
    /// When content or attributes last changed; nobody can set it.
    pub(super) changed: i128,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

impl Meta {
    /// The mark of the content: which inode, how long, and when last written. A rename leaves it as it is. Folders have none:
    /// theirs would stay the same when a file in them is edited. Numbers that are invented anew by each mount are no mark.
    pub(super) fn version(&self) -> Version {
        match self.kind {
            Kind::Folder => Version(String::new()),
            _ if !self.numbered => {
                Version(format!("-.{:x}-{:x}-{:x}", self.born, self.size, self.mtime))
            }
            _ => Version(format!(
                "{:x}.{:x}-{:x}-{:x}",
                self.inode, self.born, self.size, self.mtime
            )),
        }
    }

    /// Whether two looks are at the same inode, and at no later one that got its number.
    pub(super) fn is_same_inode(&self, other: &Self) -> bool {
        self.inode == other.inode && self.born == other.born
    }

    pub(super) fn fits(&self, expect: &Expect) -> std::result::Result<(), ErrorKind> {
        match expect {
            Expect::Absent => Err(ErrorKind::AlreadyExists),
            Expect::Any => Ok(()),
            Expect::Folder if self.kind == Kind::Folder => Ok(()),
            Expect::Version(version) if self.kind == Kind::File && self.version() == *version => {
                Ok(())
            }
            Expect::Folder | Expect::Version(_) => Err(ErrorKind::VersionMismatch),
        }
    }
}

fn nanoseconds(time: StatxTimestamp) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

pub(super) fn now() -> i128 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(_) => 0,
    }
}

fn meta(stat: &Statx, numbered: bool) -> Option<Meta> {
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        _ => return None,
    };
    let has_born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    Some(Meta {
        kind,
        inode: stat.stx_ino,
        born: if has_born { nanoseconds(stat.stx_btime) } else { 0 },
        has_born,
        links: stat.stx_nlink,
        seat: Seat { device: (stat.stx_dev_major, stat.stx_dev_minor), mount: stat.stx_mnt_id },
        numbered,
        size: stat.stx_size,
        mtime: nanoseconds(stat.stx_mtime),
        changed: nanoseconds(stat.stx_ctime),
        mode: u32::from(stat.stx_mode) & 0o7777,
        owner: (stat.stx_uid, stat.stx_gid),
    })
}

/// Is what is found at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A file or a folder.
    Entry(Meta),
    /// A link, device, pipe or socket: not shown, never followed.
    Strange,
}

impl Found {
    pub(super) fn entry(self) -> Option<Meta> {
        match self {
            Self::Entry(meta) => Some(meta),
            Self::Nothing | Self::Strange => None,
        }
    }
}

/// Says what is at `name` in a folder.
pub(super) fn look(folder: &Folder, name: &Name) -> rustix::io::Result<Found> {
    // What is mounted on demand is not mounted by being seen.
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match fs::statx(folder, name.as_bytes(), flags, WANTED) {
        Ok(stat) => Ok(meta(&stat, folder.numbered).map_or(Found::Strange, Found::Entry)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// Says what an open descriptor is; `None` for what is neither file nor folder.
pub(super) fn look_open(file: &OwnedFd, numbered: bool) -> rustix::io::Result<Option<Meta>> {
    fs::statx(file, "", AtFlags::EMPTY_PATH, WANTED).map(|stat| meta(&stat, numbered))
}

impl Root {
    /// What the remote says about something. A file whose mtime is within one clock tick of now may get the same one by the
    /// next edit.
    pub(super) fn observed(&self, meta: &Meta) -> Observed {
        let there = now() + i128::from(self.skew.load(Ordering::Relaxed));
        let is_old = there.abs_diff(meta.mtime) >= self.tick.as_nanos();
        Observed {
            kind: meta.kind,
            size: if meta.kind == Kind::File { meta.size } else { 0 },
            mtime: i64::try_from(meta.mtime).ok(),
            version: meta.version(),
            settled: is_old || meta.kind == Kind::Folder,
            id: self.id_of(meta),
            digest: None,
            mode: Some(meta.mode),
            extra: self.changed(meta),
        }
    }

    /// When content or attributes last changed, of files where the kernel here says so: an edit that leaves size and mtime as
    /// they were leaves no other trace.
    fn changed(&self, meta: &Meta) -> Option<Vec<u8>> {
        let is_told = meta.kind == Kind::File && meta.seat == self.seat && !self.is_shared;
        let when = i64::try_from(meta.changed).ok().filter(|_| is_told && meta.numbered)?;
        Some([b"c".as_slice(), &when.to_le_bytes()].concat())
    }

    /// What tells an entry from all others below this root: not what has several names, nor what is seen through another
    /// mount or is in another volume, where the same may be seen twice (bind mounts, snapshots).
    fn id_of(&self, meta: &Meta) -> Option<RemoteId> {
        let is_one = meta.kind == Kind::Folder || meta.links <= 1;
        let is_known = meta.has_born && is_one && meta.numbered && meta.seat == self.seat;
        is_known.then(|| RemoteId(format!("{:x}-{:x}", meta.inode, meta.born)))
    }

    pub(super) fn open(path: &Path, parts: Arc<Parts>) -> Result<Self> {
        let fail = |kind, error: Errno| {
            Err(RemoteError::new(kind, "open", path.display()).because(std::io::Error::from(error)))
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(error @ Errno::NOTDIR) => return fail(ErrorKind::Unsupported, error),
            Err(error) => return fail(kind_of(error), error),
        };
        match fs::openat2(&fd, ".", flags, Mode::empty(), INSIDE) {
            Ok(_) => {}
            Err(error @ Errno::NOSYS) => return fail(ErrorKind::Unsupported, error),
            Err(error) => return fail(kind_of(error), error),
        }
        let described = fs::fstatfs(&fd).and_then(|about| {
            let system = FileSystem::of(about.f_type);
            Ok((look_open(&fd, system.is_numbered)?, fs::fstatvfs(&fd)?.f_fsid, system))
        });
        match described {
            Ok((Some(meta), fsid, system)) => Ok(Self {
                identity: identity::of(&fd, &meta, fsid),
                fd,
                path: path.to_owned(),
                product: format!("directory on {}", system.name),
                is_shared: system.is_shared,
                seat: meta.seat,
                numbered: system.is_numbered,
                parts,
                tick: system.tick,
                skew: AtomicI64::new(0),
            }),
            Ok((None, ..)) => fail(ErrorKind::Unsupported, Errno::NOTDIR),
            Err(error) => fail(kind_of(error), error),
        }
    }

    /// Whether the directory that was opened is still the one at its path.
    pub(super) fn is_in_place(&self) -> rustix::io::Result<bool> {
        let ours = fs::fstat(&self.fd)?;
        Ok(match fs::stat(&self.path) {
            Ok(now) => ours.st_nlink > 0 && (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino),
            Err(Errno::NOENT | Errno::NOTDIR) => false,
            Err(error) => return Err(error),
        })
    }

    /// Opens a folder. A link on the way is as if nothing were there.
    pub(super) fn folder(&self, path: &RemotePath) -> rustix::io::Result<Folder> {
        // A root that was removed looks empty, and so does the one under a disk that was unmounted: no entry is gone, it is.
        if !self.is_in_place()? {
            return Err(Errno::NOMEDIUM);
        }
        let above = self.parts.mounts_above(path);
        let folder = match self.reach(path) {
            Err(Errno::NOENT | Errno::NOTDIR) if !above.is_empty() => return Err(AWAY),
            other => other?,
        };
        // The same of what is mounted below it. Who was there when it was opened stays there.
        if let Some(outer) = above.first().and_then(RemotePath::parent)
            && self.reach(&outer)?.seat == folder.seat
        {
            return Err(AWAY);
        }
        Ok(folder)
    }

    fn reach(&self, path: &RemotePath) -> rustix::io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = self.resolve(&self.fd, Path::new("."), flags)?;
        let mut step = Vec::new();
        for name in &path.0 {
            if step.len() + name.as_bytes().len() > PATH_STEP {
                at = self.resolve(&at, Path::new(OsStr::from_bytes(&step)), flags)?;
                step.clear();
            }
            if !step.is_empty() {
                step.push(b'/');
            }
            step.extend_from_slice(name.as_bytes());
        }
        let fd = match step.is_empty() {
            true => at,
            false => self.resolve(&at, Path::new(OsStr::from_bytes(&step)), flags)?,
        };
        let seat = look_open(&fd, self.numbered)?.map(|meta| meta.seat);
        let is_ours = seat.is_none_or(|seat| seat.device == self.seat.device);
        let numbered = match is_ours {
            true => self.numbered,
            false => FileSystem::of(fs::fstatfs(&fd)?.f_type).is_numbered,
        };
        Ok(Folder { fd, numbered, seat })
    }

    fn resolve(&self, at: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        loop {
            match fs::openat2(at, path, flags, Mode::empty(), INSIDE) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::LOOP | Errno::XDEV) => return Err(Errno::NOENT),
                other => return other,
            }
        }
    }

    /// Opens the folder that `path` is in, and its name there.
    pub(super) fn parent<'p>(
        &self,
        path: &'p RemotePath,
    ) -> rustix::io::Result<(Folder, &'p Name)> {
        let (folder, name) = path.parent().zip(path.name()).ok_or(Errno::BUSY)?;
        Ok((self.folder(&folder)?, name))
    }

    /// Says what is at a path, links and all else that is not shown being nothing.
    pub(super) fn stat(&self, path: &RemotePath) -> rustix::io::Result<Option<Observed>> {
        if path.is_root() {
            let folder = self.folder(path)?;
            return Ok(folder.opened(&folder)?.map(|meta| self.observed(&meta)));
        }
        match self.parent(path) {
            Ok((folder, name)) => self.see(&folder, path, name),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is shown of what was found at a path: a file system mounted there that is away is as it was.
    fn entry(
        &self,
        folder: &Folder,
        path: &RemotePath,
        found: Found,
    ) -> rustix::io::Result<Option<Observed>> {
        let meta = found.entry();
        let border = meta.and_then(|meta| folder.border(&meta));
        let is_away = border.is_none() && self.parts.is_mount(path);
        match (meta, border) {
            (Some(meta), Some(border)) => {
                let seen = Observed { extra: Some(border.note()), ..self.observed(&meta) };
                self.parts.saw(path, border, &seen);
                Ok(Some(seen))
            }
            (Some(meta), None) if !is_away => Ok(Some(self.observed(&meta))),
            // On the way to something that is away is at least a folder.
            _ => Ok(self.parts.shown(path)),
        }
    }

    /// What is shown of the entry of a folder. One that cannot be looked at and is a mount, as another user's or one whose
    /// server is dead, is shown all the same: it keeps no other entry from being seen.
    pub(super) fn see(
        &self,
        folder: &Folder,
        path: &RemotePath,
        name: &Name,
    ) -> rustix::io::Result<Option<Observed>> {
        let error = match look(folder, name) {
            Ok(found) => {
                if found == Found::Strange {
                    tracing::debug!(%path, "not shown: neither file nor folder");
                }
                return self.entry(folder, path, found);
            }
            Err(error) => error,
        };
        if !self.parts.is_mount(path) && !mounts::is_mounted(folder, name) {
            return Err(error);
        }
        tracing::debug!(%path, %error, "what is mounted there cannot be looked at");
        Ok(Some(self.parts.shown(path).unwrap_or_else(parts::unseen)))
    }

    /// Whether a file system is mounted at a path now.
    pub(super) fn is_mounted(&self, at: &RemotePath) -> bool {
        match self.parent(at) {
            Ok((folder, name)) => look(&folder, name).is_ok_and(|found| {
                found.entry().is_some_and(|meta| folder.border(&meta).is_some())
            }),
            Err(_) => false,
        }
    }
}

/// Opens what is at `name` for reading; never waits for a pipe, never follows a link.
pub(super) fn open_entry(folder: &OwnedFd, name: &Name) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    fs::openat2(folder, name.as_bytes(), flags, Mode::empty(), INSIDE)
}
