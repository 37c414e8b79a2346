//! The data files as a whole: found, made, removed, set aside.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::budget::{Disk, Limits, Reservation, Usage, reserve};
use super::examine::stamp_tick;
use super::ledger::{Gone, Ledger, allocated, shelf};
use super::{Access, CacheError, DataFile, Result};
use crate::model::{Generation, Ino};

/// Is the data files of one state directory. Clones are the same cache.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state_dir: PathBuf,
    limits: Limits,
    ledger: Arc<Ledger>,
    tick: Option<Duration>,
}

/// Is a data file found on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Whose content it is.
    pub ino: Ino,
    /// Which content of it.
    pub generation: Generation,
    /// Bytes it occupies.
    pub allocated: u64,
}

impl Cache {
    /// Opens the state directory, making what is missing, for its owner only. Takes no lock. Files of an earlier run are
    /// counted in the background.
    pub fn open(state_dir: &Path, limits: Limits) -> Result<Self> {
        for dir in [state_dir.to_owned(), state_dir.join("data"), state_dir.join("staging")]
            .into_iter()
            .chain([state_dir.join("recovered")])
        {
            make_private_dir(&dir)?;
        }
        for dir in ["data", "staging", "recovered"].map(|name| state_dir.join(name)) {
            std::fs::set_permissions(&dir, Permissions::from_mode(0o700))
                .map_err(|e| CacheError::io("protect", &dir, e))?;
        }
        let tick = stamp_tick(&state_dir.join("staging"))?;
        Ok(Self::with_tick(state_dir, limits, tick))
    }

    /// Opens a state directory that is made, whose file system's ctime is taken to move in ticks of `tick`.
    pub(super) fn with_tick(state_dir: &Path, limits: Limits, tick: Option<Duration>) -> Self {
        let inner = Inner {
            state_dir: state_dir.to_owned(),
            limits,
            ledger: Arc::new(Ledger::default()),
            tick,
        };
        let cache = Self { inner: Arc::new(inner) };
        cache.find_ballast();
        cache.start_counting();
        cache
    }

    fn start_counting(&self) {
        let data = self.state_dir().join("data");
        let ledger = Arc::clone(self.ledger());
        let owner = Arc::downgrade(&self.inner);
        let empty = std::fs::read_dir(&data).is_ok_and(|mut shelves| shelves.next().is_none());
        let counting = move || ledger.walk(&data, || owner.strong_count() == 0);
        if empty {
            return counting();
        }
        let thread = std::thread::Builder::new().name("dewfs-count".to_owned());
        if thread.spawn(counting.clone()).is_err() {
            counting();
        }
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.inner.state_dir
    }

    pub(super) fn limits(&self) -> Limits {
        self.inner.limits
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    /// How long two writes may lie apart and still have one ctime; `None` where each write after a look moves it.
    pub fn stamp_tick(&self) -> Option<Duration> {
        self.inner.tick
    }

    /// Where a data file lies, whether or not there is one.
    pub fn data_path(&self, ino: Ino, generation: Generation) -> PathBuf {
        self.state_dir().join(format!("data/{:02x}/{ino}.{generation}", shelf(ino)))
    }

    /// Makes an empty data file; one that is already there is an error.
    pub fn create(&self, ino: Ino, generation: Generation) -> Result<DataFile> {
        let path = self.data_path(ino, generation);
        let opened = options(Access::Write).create_new(true).open(&path);
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), make_private_dir)?;
                options(Access::Write).create_new(true).open(&path)
            }
            other => other,
        };
        self.adopt(ino, file.map_err(|e| CacheError::io("create", &path, e))?, path, Access::Write)
    }

    /// The same, but with a descriptor for reading only, which does not stand in the way of the read lease; `None`, and
    /// nothing is done, if it is already there.
    pub fn create_to_read(&self, ino: Ino, generation: Generation) -> Result<Option<DataFile>> {
        let path = self.data_path(ino, generation);
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let make = || rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        let made = match make() {
            Err(Errno::NOENT) => {
                path.parent().map_or(Ok(()), make_private_dir)?;
                make()
            }
            other => other,
        };
        match made {
            Ok(file) => self.adopt(ino, file.into(), path, Access::Read).map(Some),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(CacheError::io("create", &path, error)),
        }
    }

    /// Opens a data file; `None` if there is none.
    pub fn open_data(
        &self,
        ino: Ino,
        generation: Generation,
        access: Access,
    ) -> Result<Option<DataFile>> {
        let path = self.data_path(ino, generation);
        let opened = options(access).open(&path).or_else(|error| {
            // Its writers were stopped, by an earlier run perhaps: who asks us for it is none of them.
            let stopped = access == Access::Write && error.kind() == ErrorKind::PermissionDenied;
            if stopped && self.let_go_on(ino, generation) {
                options(access).open(&path)
            } else {
                Err(error)
            }
        });
        match opened {
            Ok(file) => self.adopt(ino, file, path, access).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CacheError::io("open", &path, error)),
        }
    }

    /// Lets writers of a data file go on that were stopped; `false` if that cannot be had.
    fn let_go_on(&self, ino: Ino, generation: Generation) -> bool {
        let data = self.open_data(ino, generation, Access::Read);
        data.is_ok_and(|data| data.is_some_and(|data| data.brake(false).is_ok()))
    }

    /// Opens a data file for writing, making an empty one if there is none.
    pub fn open_or_create(&self, ino: Ino, generation: Generation) -> Result<DataFile> {
        match self.open_data(ino, generation, Access::Write)? {
            Some(data) => Ok(data),
            None => self.create(ino, generation),
        }
    }

    fn adopt(&self, ino: Ino, file: File, path: PathBuf, access: Access) -> Result<DataFile> {
        let seat = self.ledger().enter(ino, &file);
        let seat = seat.map_err(|e| CacheError::io("examine", &path, e))?;
        Ok(DataFile::new(file, path, access, seat))
    }

    /// Removes a data file and returns the bytes it occupied; 0 if there is none. They are free, here and on the disk, when
    /// its last user is gone. The caller sees to it that nobody opens, makes or removes the same data file meanwhile.
    pub fn remove(&self, ino: Ino, generation: Generation) -> Result<u64> {
        let Some(data) = self.open_data(ino, generation, Access::Read)? else { return Ok(0) };
        let freed = data.allocated()?;
        data.set_gone(Gone::Yes);
        match std::fs::remove_file(data.path()).or_else(|error| unless_stopped(&data, error)) {
            Ok(()) => Ok(freed),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => {
                data.set_gone(Gone::No);
                Err(CacheError::io("remove", data.path(), error))
            }
        }
    }

    /// Moves a data file to `recovered/` under a readable name that nothing there has, and returns where it is now.
    pub fn set_aside(&self, ino: Ino, generation: Generation, name_hint: &[u8]) -> Result<PathBuf> {
        let Some(data) = self.open_data(ino, generation, Access::Read)? else {
            let path = self.data_path(ino, generation);
            return Err(CacheError::io("set aside", &path, Errno::NOENT));
        };
        data.set_gone(Gone::Yes);
        // A file whose writers are stopped cannot be moved; where nobody can be stopped this does nothing.
        drop(data.brake(false));
        let moved = move_to_free_name(data.path(), &self.state_dir().join("recovered"), |count| {
            super::aside::readable_name(name_hint, ino, count)
        });
        moved.inspect_err(|_| data.set_gone(Gone::No))
    }

    /// Whether the disk lost something of a data file.
    pub fn is_lossy(&self, ino: Ino, generation: Generation) -> bool {
        self.ledger().is_lossy(&self.data_path(ino, generation))
    }

    /// Notes that the disk lost something of a data file, or that nothing of what it holds is needed any more.
    pub fn note_lossy(&self, ino: Ino, generation: Generation, is_lossy: bool) {
        self.ledger().note_lossy(&self.data_path(ino, generation), is_lossy);
    }

    /// All data files on the disk, a directory at a time; names that are none of ours are passed over.
    pub fn data_files(&self) -> impl Iterator<Item = Found> + use<> {
        let data = self.state_dir().join("data");
        // Most of the 256 that there may be are not there.
        let shelves = std::fs::read_dir(data).into_iter().flatten().flatten();
        let mut shelves: Vec<_> = shelves.map(|shelf| shelf.path()).collect();
        shelves.sort_unstable();
        shelves.into_iter().flat_map(|shelf| found_in(&shelf))
    }

    /// Promises room for `bytes` about to be written, counted at once and rounded up to blocks.
    ///
    /// [`CacheError::OverLimit`] if `cache_size`, [`CacheError::DiskFull`] if `min_free` stands in the way. May wait until
    /// files of an earlier run are counted.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation> {
        reserve(self.ledger(), self.state_dir(), self.limits(), bytes, true)
    }

    /// What is said where the disk takes no more of what was promised: a quota may be full, or the number of files.
    pub fn refused_by_disk(&self) -> CacheError {
        CacheError::DiskFull { path: self.state_dir().to_owned() }
    }

    /// The same as [`reserve`](Self::reserve) for who must not wait: [`CacheError::OverLimit`] as well while it cannot be told yet.
    pub fn reserve_now(&self, bytes: u64) -> Result<Reservation> {
        reserve(self.ledger(), self.state_dir(), self.limits(), bytes, false)
    }

    /// Takes over what data files occupied when an earlier life closed its books, as [`close_books`](Self::close_books) told it.
    pub fn trust_books(&self, told: &[u8]) {
        let (bytes, of) = told.split_at_checked(8).unwrap_or_default();
        if let (Ok(bytes), Some(here)) = (bytes.try_into(), self.whose_books())
            && here == of
        {
            self.ledger().books().know(u64::from_le_bytes(bytes));
        }
    }

    /// Promises nothing more, and tells the next life what data files occupy at most; `None` if that is not known.
    pub fn close_books(&self) -> Option<Vec<u8>> {
        let whose = self.whose_books()?;
        let mut books = self.ledger().books();
        let sure = books.sure()?.saturating_add(books.reserved);
        books.closed = true;
        Some([&sure.to_le_bytes(), &whose[..]].concat())
    }

    /// Tells this data directory from a copy of it, whose files may occupy more.
    fn whose_books(&self) -> Option<Vec<u8>> {
        let found = std::fs::metadata(self.state_dir().join("data")).ok()?;
        Some([found.ino().to_le_bytes(), found.blksize().to_le_bytes()].concat())
    }

    /// How much is used, and of how much.
    pub fn usage(&self) -> Result<Usage> {
        let disk = Disk::ask(self.state_dir())?;
        let books = self.ledger().books();
        Ok(Usage {
            used_bytes: books.sure().unwrap_or(books.used),
            reserved_bytes: books.reserved,
            limit_bytes: self.limits().cache_size,
            free_bytes: disk.free,
            min_free: self.limits().min_free,
            ballast_bytes: books.ballast,
            counted: books.is_counted(),
        })
    }
}

/// Removes a file after all whose writers were stopped.
fn unless_stopped(data: &DataFile, error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::PermissionDenied && data.brake(false).is_ok() {
        return std::fs::remove_file(data.path());
    }
    Err(error)
}

fn options(access: Access) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::Write).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

fn make_private_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| CacheError::io("create", dir, e))
}

fn found_in(shelf: &Path) -> Vec<Found> {
    let Ok(files) = std::fs::read_dir(shelf) else { return Vec::new() };
    let found = files.filter_map(|file| {
        let file = file.ok()?;
        let name = file.file_name();
        let (ino, generation) = name.to_str()?.split_once('.')?;
        Some(Found {
            ino: Ino(ino.parse().ok()?),
            generation: Generation(generation.parse().ok()?),
            allocated: allocated(&file.metadata().ok()?),
        })
    });
    found.collect()
}

fn move_to_free_name(
    from: &Path,
    dir: &Path,
    mut name: impl FnMut(u32) -> std::ffi::OsString,
) -> Result<PathBuf> {
    let mut count = 1;
    loop {
        let to = dir.join(name(count));
        match rename_without_replacing(from, &to) {
            Ok(()) => return Ok(to),
            Err(Errno::EXIST) => count += 1,
            Err(error) => return Err(CacheError::io("set aside", from, error)),
        }
    }
}

fn rename_without_replacing(from: &Path, to: &Path) -> std::result::Result<(), Errno> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems know no flags here; a hard link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::link(from, to)?;
            rustix::fs::unlink(from)
        }
        other => other,
    }
}
