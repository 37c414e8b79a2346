//! Writing: a temporary beside the target, then one step that makes it the content, under the condition asked for.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{
    self, AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use super::FolderRemote;
use super::disk::{Folder, Found, Meta, look, refused};
use super::extended;
use super::inherit::{SPECIAL, bits, date, inherit};
use super::threads::Wanted;
use crate::remote::names;
use crate::remote::{
    AttemptTag, Body, ErrorKind, Expect, Kind, Name, Observed, RemoteError, RemotePath, Result,
    Upload,
};

const WRITE: &str = "write";
const PIECE: usize = 256 * 1024;
/// How long a commit waits for another one in the same folder before it goes on without having been let in.
const TURN: Duration = Duration::from_millis(200);

/// Is a place in an opened folder, with the private names an attempt may use beside it.
pub(super) struct Spot<'a> {
    pub(super) folder: Folder,
    pub(super) name: Name,
    pub(super) temp: Name,
    pub(super) aside: Name,
    pub(super) kept: Name,
    pub(super) at: &'a RemotePath,
    pub(super) operation: &'static str,
}

impl<'a> Spot<'a> {
    /// Opens the folder; `missing` is what it means if it is not there.
    pub(super) fn open(
        remote: &FolderRemote,
        at: &'a RemotePath,
        tag: &AttemptTag,
        operation: &'static str,
        missing: ErrorKind,
    ) -> Result<Self> {
        let (folder, name) = match remote.state().root.parent(at) {
            Ok(found) => found,
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => {
                return Err(RemoteError { kind: missing, ..refused(error, operation, at) });
            }
            Err(error) => return Err(refused(error, operation, at)),
        };
        let (temp, aside) = (names::temp(tag, name), names::held(tag, name));
        let kept = names::kept(tag, name);
        Ok(Self { folder, name: name.clone(), temp, aside, kept, at, operation })
    }

    pub(super) fn fail(&self, error: Errno) -> RemoteError {
        refused(error, self.operation, self.at)
    }

    pub(super) fn error(&self, kind: ErrorKind) -> RemoteError {
        RemoteError::new(kind, self.operation, self.at)
    }

    pub(super) fn look(&self, name: &Name) -> Result<Found> {
        look(&self.folder, name).map_err(|error| self.fail(error))
    }

    /// What is at the place if it fits; a link or device there means that the name cannot be used.
    pub(super) fn expect(&self, expect: &Expect) -> Result<Option<Meta>> {
        match (self.look(&self.name)?, expect) {
            (Found::Strange, _) => Err(self.strange()),
            (Found::Nothing, Expect::Absent | Expect::Any) => Ok(None),
            (Found::Nothing, _) => Err(self.error(ErrorKind::NotFound)),
            (Found::Entry(meta), expect) => match meta.fits(expect) {
                Ok(()) => Ok(Some(meta)),
                Err(kind) => Err(self.error(kind)),
            },
        }
    }

    pub(super) fn strange(&self) -> RemoteError {
        self.error(ErrorKind::NameRejected).because("a link or device has this name there")
    }

    /// Moves one name to another that must be free.
    pub(super) fn move_free(&self, from: &Name, to: &Name) -> rustix::io::Result<()> {
        rename_free(&self.folder, from, &self.folder, to)
    }

    /// Removes a file; that it is gone is as good.
    pub(super) fn unlink(&self, name: &Name) -> Result<()> {
        match fs::unlinkat(&self.folder, name.as_bytes(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The last moment before something changes: what hung until nobody waits for it any more was looked after already.
    pub(super) fn go_on(&self, wanted: &Wanted) -> Result<()> {
        match wanted.is_so() {
            true => Ok(()),
            false => Err(self.error(ErrorKind::Offline).because("too late: nobody waits for it")),
        }
    }

    /// Makes the names durable.
    pub(super) fn sync(&self) -> Result<()> {
        sync_folder(&self.folder).map_err(|error| self.fail(error))
    }

    /// Waits for its turn among the dewfs processes of this machine that change this folder; ends when the spot is dropped.
    ///
    /// Nothing depends on it but peace: without it two commits could exchange with each other's withdrawn files, and a
    /// content would end beside its name.
    pub(super) fn take_turn(&self) {
        let end = Instant::now() + TURN;
        while fs::flock(&self.folder, FlockOperation::NonBlockingLockExclusive)
            == Err(Errno::WOULDBLOCK)
            && Instant::now() < end
        {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Brings what was moved aside back, or, if the name is taken meanwhile, to a visible name beside it.
    pub(super) fn give_back(&self) -> Result<()> {
        let back = match self.move_free(&self.aside, &self.name) {
            Err(Errno::EXIST) => self.move_free(&self.aside, &self.kept),
            other => other,
        };
        match back {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }
}

/// Flushes a folder; some file systems have nothing to flush there.
pub(super) fn sync_folder(folder: &OwnedFd) -> rustix::io::Result<()> {
    match fs::fsync(folder) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// The attribute by which bytes of an attempt are known again after a crash, whatever name they have then.
pub(super) const MARK: &str = "user.dewfs.attempt";

fn mark_of(tag: &AttemptTag) -> String {
    format!("{}.{}.{}", tag.mount, tag.item, tag.nonce)
}

/// Where attributes cannot be set, what a crash leaves is kept as if it were somebody else's.
fn mark(file: &OwnedFd, tag: &AttemptTag) {
    if let Err(error) = fs::fsetxattr(file, MARK, mark_of(tag).as_bytes(), XattrFlags::empty()) {
        tracing::trace!(%error, "an upload cannot be marked");
    }
}

fn unmark(file: &OwnedFd) {
    if let Err(error) = fs::fremovexattr(file, MARK) {
        tracing::trace!(%error, "the mark of an upload stays");
    }
}

/// Whether what has this name is what this very attempt sent.
pub(super) fn is_marked(spot: &Spot<'_>, name: &Name, tag: &AttemptTag) -> bool {
    let mut found = [0; 256];
    let read = super::disk::open_entry(&spot.folder, name)
        .and_then(|file| fs::fgetxattr(&file, MARK, &mut found));
    read.is_ok_and(|length| found.get(..length) == Some(mark_of(tag).as_bytes()))
}

/// Renames without replacing. Where the file system cannot, a file gets its second name by a link, which never replaces
/// either; a folder only after a look.
pub(super) fn rename_free(
    from_folder: &Folder,
    from: &Name,
    to_folder: &Folder,
    to: &Name,
) -> rustix::io::Result<()> {
    let (old, new) = (from.as_bytes(), to.as_bytes());
    match fs::renameat_with(from_folder, old, to_folder, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        other => return other,
    }
    match fs::linkat(from_folder, old, to_folder, new, AtFlags::empty()) {
        Ok(()) => return fs::unlinkat(from_folder, old, AtFlags::empty()),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        Err(_) => {}
    }
    match look(to_folder, to)? {
        Found::Nothing => fs::renameat(from_folder, old, to_folder, new),
        Found::Entry(_) | Found::Strange => Err(Errno::EXIST),
    }
}

pub(super) fn timestamps(mtime: i64) -> Timestamps {
    let (seconds, nanos) = (mtime.div_euclid(1_000_000_000), mtime.rem_euclid(1_000_000_000));
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos },
    }
}

pub(super) fn write(
    remote: &FolderRemote,
    at: &RemotePath,
    body: &Upload,
    expect: &Expect,
    wanted: &Wanted,
) -> Result<Observed> {
    let spot = Spot::open(remote, at, &body.tag, WRITE, ErrorKind::NoParent)?;
    let there = spot.expect(expect)?;
    if there.is_some_and(|there| there.kind == Kind::Folder) {
        return Err(spot.error(ErrorKind::AlreadyExists));
    }
    let result = send(&spot, body, there).and_then(|file| {
        if body.still_whole.as_ref().is_some_and(|whole| !whole()) {
            return Err(spot.error(ErrorKind::Other).because("changed while it was sent"));
        }
        spot.take_turn();
        spot.expect(expect)?;
        spot.go_on(wanted)?;
        commit(&spot, expect, &file)?;
        unmark(&file);
        spot.sync()?;
        spot.folder.opened(&file).map_err(|error| spot.fail(error))
    });
    match result {
        Ok(Some(meta)) => Ok(remote.state().root.observed(&meta)),
        Ok(None) => Err(spot.error(ErrorKind::Other)),
        Err(error) => {
            // Under the temporary's own name there is never anything but our own bytes.
            if let Err(left) = spot.unlink(&spot.temp) {
                tracing::debug!(%left, "a temporary stays behind");
            }
            Err(error)
        }
    }
}

pub(super) fn create_temp(spot: &Spot<'_>, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let temp = spot.temp.as_bytes();
    match fs::openat(&spot.folder, temp, flags, mode) {
        Err(Errno::EXIST) => {
            fs::unlinkat(&spot.folder, temp, AtFlags::empty())?;
            fs::openat(&spot.folder, temp, flags, mode)
        }
        other => other,
    }
}

/// Fills the temporary: bytes, owner and mode of the file it will replace, mode and mtime asked for; flushed.
fn send(spot: &Spot<'_>, body: &Upload, there: Option<Meta>) -> Result<OwnedFd> {
    let mode = body.mode.or(there.map(|there| there.mode));
    // Nobody may read a half of what they may not read when it is whole.
    let first = Mode::from_raw_mode(if mode.is_some() { 0o600 } else { 0o666 });
    let file = create_temp(spot, first).map_err(|error| spot.fail(error))?;
    let sent = match &body.body {
        Body::Memory(bytes) => copy(spot, &mut bytes.as_ref(), &file, body)?,
        Body::File(path) => {
            let mut from =
                File::open(path).map_err(|error| spot.error(ErrorKind::Other).because(error))?;
            copy(spot, &mut from, &file, body)?
        }
    };
    if sent != body.digest.size {
        return Err(spot
            .error(ErrorKind::Other)
            .because("the body is not as long as it should be"));
    }
    let finish = || {
        // Before the attributes, of which there may be more than there is room for.
        mark(&file, &body.tag);
        let mode = match (there, mode) {
            (Some(there), Some(mode)) => Some(inherit(spot, there, &file, &body.extended, mode)?),
            (_, mode) => {
                extended::give(&file, &body.extended)?;
                mode
            }
        };
        if let Some(mode) = mode {
            // Another content never runs as somebody else because the one before did, or because a mount was told so.
            fs::fchmod(&file, bits(mode & !SPECIAL))?;
        }
        if let Some(mtime) = body.mtime {
            date(spot, &file, there, mtime)?;
        }
        fs::fsync(&file)
    };
    finish().map_err(|error| spot.fail(error))?;
    Ok(file)
}

fn copy(spot: &Spot<'_>, from: &mut dyn Read, to: &OwnedFd, body: &Upload) -> Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut sent = 0u64;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(sent),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(spot.error(ErrorKind::Other).because(error)),
        };
        if let Some(pace) = &body.pace {
            pace.take_blocking(count as u64);
        }
        let mut rest = buffer.get(..count).unwrap_or_default();
        while !rest.is_empty() {
            match rustix::io::write(to, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(spot.fail(error)),
            }
        }
        sent += count as u64;
        if let Some(progress) = &body.progress {
            progress(sent);
        }
    }
}

fn commit(spot: &Spot<'_>, expect: &Expect, file: &OwnedFd) -> Result<()> {
    match expect {
        Expect::Absent => place(spot),
        Expect::Version(_) => exchange(spot, expect, file),
        Expect::Folder => Err(spot.error(ErrorKind::VersionMismatch)),
        Expect::Any => match spot.look(&spot.name)? {
            Found::Strange => Err(spot.strange()),
            Found::Nothing | Found::Entry(_) => {
                let (temp, name) = (spot.temp.as_bytes(), spot.name.as_bytes());
                fs::renameat(&spot.folder, temp, &spot.folder, name).map_err(|error| match error {
                    Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => {
                        spot.error(ErrorKind::AlreadyExists)
                    }
                    error => spot.fail(error),
                })
            }
        },
    }
}

fn place(spot: &Spot<'_>) -> Result<()> {
    match spot.move_free(&spot.temp, &spot.name) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if spot.look(&spot.name)? == Found::Strange => Err(spot.strange()),
        Err(error) => Err(spot.fail(error)),
    }
}

/// Exchanges the new file with the one to replace, looks at what came out, and takes it back if it is not the one expected.
///
/// From here on the private name may hold somebody's only copy, so it is one that is never removed by age.
fn exchange(spot: &Spot<'_>, expect: &Expect, file: &OwnedFd) -> Result<()> {
    let ours = spot.folder.opened(file).map_err(|error| spot.fail(error))?;
    let ours = ours.ok_or_else(|| spot.error(ErrorKind::Other))?;
    spot.move_free(&spot.temp, &spot.aside).map_err(|error| spot.fail(error))?;
    let swap = || {
        let (aside, name) = (spot.aside.as_bytes(), spot.name.as_bytes());
        fs::renameat_with(&spot.folder, aside, &spot.folder, name, RenameFlags::EXCHANGE)
    };
    match swap() {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return replace(spot, expect),
        Err(error) => {
            spot.unlink(&spot.aside)?;
            return Err(spot.fail(error));
        }
    }
    let out = spot.look(&spot.aside)?.entry();
    if out.is_some_and(|out| out.fits(expect).is_ok()) {
        return spot.unlink(&spot.aside);
    }
    match swap() {
        // Somebody removed ours from the name: what came out goes back to it.
        Err(Errno::NOENT) => spot.give_back()?,
        Err(error) => return Err(spot.fail(error)),
        Ok(()) => match spot.look(&spot.aside)?.entry() {
            Some(back) if back.is_same_inode(&ours) => spot.unlink(&spot.aside)?,
            // Somebody replaced ours meanwhile: theirs goes back, and what we held stays beside it.
            _ => {
                swap().map_err(|error| spot.fail(error))?;
                keep(spot)?;
            }
        },
    }
    Err(spot.error(ErrorKind::VersionMismatch))
}

fn keep(spot: &Spot<'_>) -> Result<()> {
    match spot.move_free(&spot.aside, &spot.kept) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(spot.fail(error)),
    }
}

/// Replaces where nothing can be exchanged: the old file moves aside, is looked at, and the new one moves in. The new one
/// waits under the aside name, which it gives up first.
fn replace(spot: &Spot<'_>, expect: &Expect) -> Result<()> {
    let step = |result: rustix::io::Result<()>| result.map_err(|error| spot.fail(error));
    step(spot.move_free(&spot.aside, &spot.temp))?;
    step(spot.move_free(&spot.name, &spot.aside))?;
    let out = spot.look(&spot.aside)?.entry();
    if out.is_none_or(|out| out.fits(expect).is_err()) {
        spot.give_back()?;
        return Err(spot.error(ErrorKind::VersionMismatch));
    }
    match spot.move_free(&spot.temp, &spot.name) {
        Ok(()) => spot.unlink(&spot.aside),
        Err(Errno::EXIST) => {
            spot.unlink(&spot.aside)?;
            Err(spot.error(ErrorKind::VersionMismatch))
        }
        Err(error) => {
            spot.give_back()?;
            Err(spot.fail(error))
        }
    }
}
