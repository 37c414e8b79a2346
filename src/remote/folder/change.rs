//! Changing names and attributes: folders made, entries moved and removed, and the leftovers of attempts.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::FolderRemote;
use super::disk::{Folder, Found, Meta, look, now, open_entry, refused};
use super::extended;
use super::inherit::without_list;
use super::threads::Wanted;
use super::write::{Spot, rename_free, sync_folder};
use crate::remote::names;
use crate::remote::{
    AttemptTag, Body, Digest, ErrorKind, Expect, Kind, Metadata, Name, Observed, RemoteError,
    RemotePath, Result, Upload,
};

/// Which mount the temporaries say that are made to try out a file system.
const TRYING: &str = "probe";
/// A minute in nanoseconds.
const MINUTE: i128 = 60_000_000_000;
const DAY: i128 = 24 * 60 * 60 * 1_000_000_000;
/// After this long without a write a temporary is nobody's any more.
const ABANDONED: i128 = 30 * DAY;

fn nobody() -> AttemptTag {
    AttemptTag { mount: "none".to_owned(), item: 0, nonce: 0 }
}

pub(super) fn make_folder(
    remote: &FolderRemote,
    at: &RemotePath,
    wanted: &Wanted,
) -> Result<Observed> {
    let spot = Spot::open(remote, at, &nobody(), "make folder", ErrorKind::NoParent)?;
    spot.go_on(wanted)?;
    match fs::mkdirat(&spot.folder, spot.name.as_bytes(), Mode::from_raw_mode(0o777)) {
        Ok(()) => {}
        Err(Errno::EXIST) if spot.look(&spot.name)? == Found::Strange => return Err(spot.strange()),
        Err(error) => return Err(spot.fail(error)),
    }
    spot.sync()?;
    remote.shared.feed.made(at);
    let made = spot.look(&spot.name)?.entry();
    let made = made.ok_or_else(|| spot.error(ErrorKind::Other))?;
    Ok(remote.state().root.observed(&made))
}

pub(super) fn rename(
    remote: &FolderRemote,
    from: &RemotePath,
    to: &RemotePath,
    expect: &Expect,
    tag: &AttemptTag,
    wanted: &Wanted,
) -> Result<Observed> {
    let source = Spot::open(remote, from, tag, "rename", ErrorKind::NotFound)?;
    let known = source.expect(expect)?.ok_or_else(|| source.error(ErrorKind::NotFound))?;
    if to.starts_with(from) && to != from {
        return Err(source.error(ErrorKind::NameRejected));
    }
    let target = Spot::open(remote, to, tag, "rename", ErrorKind::NoParent)?;
    source.take_turn();
    source.go_on(wanted)?;
    match rename_free(&source.folder, &source.name, &target.folder, &target.name) {
        Ok(()) => {}
        Err(Errno::EXIST) => match target.look(&target.name)? {
            Found::Strange => return Err(target.strange()),
            // Two spellings of one name, where case or form do not count: it goes by a name between.
            Found::Entry(there) if there.is_same_inode(&known) && from != to => {
                respell(&source, &target)?;
            }
            Found::Entry(_) | Found::Nothing => return Err(target.error(ErrorKind::AlreadyExists)),
        },
        Err(Errno::XDEV) if known.kind == Kind::File => {
            drop(target);
            return carry(remote, &source, to, known, expect, tag, wanted);
        }
        Err(error) => return Err(source.fail(error)),
    }
    remote.state().root.parts.moved(from, to);
    let moved = target.look(&target.name)?.entry();
    let moved = moved.ok_or_else(|| target.error(ErrorKind::Other))?;
    if moved.fits(expect).is_err()
        && rename_free(&target.folder, &target.name, &source.folder, &source.name).is_ok()
    {
        return Err(source.error(ErrorKind::VersionMismatch));
    }
    target.sync()?;
    source.sync()?;
    Ok(remote.state().root.observed(&moved))
}

/// Moves a file to another file system: a copy under the same conditions, then the original goes.
fn carry(
    remote: &FolderRemote,
    source: &Spot<'_>,
    to: &RemotePath,
    known: Meta,
    expect: &Expect,
    tag: &AttemptTag,
    wanted: &Wanted,
) -> Result<Observed> {
    let file = open_entry(&source.folder, &source.name).map_err(|error| source.fail(error))?;
    let is_known = || {
        let now = source.folder.opened(&file).map_err(|error| source.fail(error))?;
        match now.is_some_and(|now| now.version() == known.version()) {
            true => Ok(()),
            false => Err(source.error(ErrorKind::VersionMismatch)),
        }
    };
    is_known()?;
    let body = Upload {
        body: Body::File(format!("/proc/self/fd/{}", file.as_raw_fd()).into()),
        digest: Digest { size: known.size, hash: [0; 32] },
        mtime: i64::try_from(known.mtime).ok(),
        mode: Some(without_list(&file, known.mode)),
        extended: extended::of(&file, known).map_err(|error| source.fail(error))?,
        tag: tag.clone(),
        still_whole: None,
        progress: None,
        pace: None,
    };
    let copied = super::write::write(remote, to, &body, &Expect::Absent, wanted)?;
    let version = Expect::Version(known.version());
    let expect = if *expect == Expect::Any { &version } else { expect };
    let gone = is_known().and_then(|()| remove_version(source, expect));
    if let Err(error) = gone {
        let back = Expect::Version(copied.version);
        if let Err(left) = remove(remote, to, &back, tag, wanted) {
            tracing::warn!(%left, "a copy stays where a file was to be moved to");
        }
        return Err(error);
    }
    source.sync()?;
    Ok(copied)
}

fn respell(source: &Spot<'_>, target: &Spot<'_>) -> Result<()> {
    if fs::statat(&source.folder, source.name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| stat.st_nlink > 1 && !is_folder(source))
    {
        return Err(target.error(ErrorKind::AlreadyExists));
    }
    source.move_free(&source.name, &source.aside).map_err(|error| source.fail(error))?;
    let back = rename_free(&source.folder, &source.aside, &target.folder, &target.name);
    if let Err(error) = back {
        source.give_back()?;
        return Err(source.fail(error));
    }
    Ok(())
}

fn is_folder(spot: &Spot<'_>) -> bool {
    let there = spot.look(&spot.name).ok().and_then(Found::entry);
    there.is_some_and(|there| there.kind == Kind::Folder)
}

pub(super) fn remove(
    remote: &FolderRemote,
    at: &RemotePath,
    expect: &Expect,
    tag: &AttemptTag,
    wanted: &Wanted,
) -> Result<()> {
    let parts = &remote.state().root.parts;
    let spot = match Spot::open(remote, at, tag, "remove", ErrorKind::NotFound) {
        // Nobody has even the place any more where something was mounted: who removes it here wants it no longer.
        Err(error) if error.kind == ErrorKind::Away && is_place_gone(remote, at) => {
            parts.forget(at);
            return Err(RemoteError { kind: ErrorKind::NotFound, ..error });
        }
        Err(error) if error.kind == ErrorKind::NotFound => {
            parts.forget(at);
            return Err(error);
        }
        other => other?,
    };
    let known = match spot.expect(expect) {
        // A link is not shown, so for us there is nothing.
        Err(error) if error.kind == ErrorKind::NameRejected => {
            return Err(spot.error(ErrorKind::NotFound));
        }
        Err(error) if error.kind == ErrorKind::NotFound => {
            parts.forget(at);
            return Err(error);
        }
        other => other?.ok_or_else(|| spot.error(ErrorKind::NotFound))?,
    };
    spot.go_on(wanted)?;
    match (known.kind, expect) {
        (Kind::Folder, _) => {
            remove_folder(&spot, tag)?;
            parts.forget(at);
        }
        (_, Expect::Version(_)) => remove_version(&spot, expect)?,
        _ => spot.unlink(&spot.name)?,
    }
    spot.sync()
}

/// Whether the folder is gone on which the innermost file system was mounted that `at` was in.
fn is_place_gone(remote: &FolderRemote, at: &RemotePath) -> bool {
    let root = remote.state().root;
    let innermost = root.parts.mounts_above(at).into_iter().next();
    innermost.is_some_and(|mounted| match root.parent(&mounted) {
        Ok((folder, name)) => look(&folder, name) == Ok(Found::Nothing),
        Err(error) => matches!(error, Errno::NOENT | Errno::NOTDIR),
    })
}

fn remove_folder(spot: &Spot<'_>, tag: &AttemptTag) -> Result<()> {
    let rmdir = || fs::unlinkat(&spot.folder, spot.name.as_bytes(), AtFlags::REMOVEDIR);
    let mut done = rmdir();
    if done == Err(Errno::NOTEMPTY)
        && open_folder(spot).is_ok_and(|folder| clean(&Folder::plain(folder), Some(tag), now()))
    {
        done = rmdir();
    }
    match done {
        Ok(()) => Ok(()),
        Err(Errno::NOTDIR) => Err(spot.error(ErrorKind::VersionMismatch)),
        Err(Errno::EXIST) => Err(spot.error(ErrorKind::NotEmpty)),
        Err(error) => Err(spot.fail(error)),
    }
}

fn open_folder(spot: &Spot<'_>) -> rustix::io::Result<OwnedFd> {
    open_entry(&spot.folder, &spot.name)
}

/// Moves the file to a private visible name, looks, and removes it or brings it back.
pub(super) fn remove_version(spot: &Spot<'_>, expect: &Expect) -> Result<()> {
    spot.take_turn();
    spot.expect(expect)?;
    spot.move_free(&spot.name, &spot.aside).map_err(|error| spot.fail(error))?;
    let out = spot.look(&spot.aside)?.entry();
    if out.is_some_and(|out| out.fits(expect).is_ok()) {
        return spot.unlink(&spot.aside);
    }
    spot.give_back()?;
    Err(spot.error(ErrorKind::VersionMismatch))
}

pub(super) fn tidy(
    remote: &FolderRemote,
    at: &RemotePath,
    expect: &Expect,
    tag: &AttemptTag,
    wanted: &Wanted,
) -> Result<()> {
    let spot = match Spot::open(remote, at, tag, "tidy", ErrorKind::NotFound) {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    spot.go_on(wanted)?;
    spot.unlink(&spot.temp)?;
    let Some(aside) = spot.look(&spot.aside)?.entry() else { return Ok(()) };
    if aside.kind == Kind::File && super::write::is_marked(&spot, &spot.aside, tag) {
        // Not yet exchanged, or already taken back.
        spot.unlink(&spot.aside)?;
        return spot.sync();
    }
    let is_known = matches!(expect, Expect::Version(_)) && aside.fits(expect).is_ok();
    match is_known && spot.look(&spot.name)?.entry().is_some() {
        true => spot.unlink(&spot.aside)?,
        false => spot.give_back()?,
    }
    spot.sync()
}

pub(super) fn set_metadata(
    remote: &FolderRemote,
    at: &RemotePath,
    metadata: &Metadata,
    expect: &Expect,
    wanted: &Wanted,
) -> Result<Observed> {
    let operation = "set metadata of";
    let fail = |error: Errno| refused(error, operation, at);
    let root = remote.state().root;
    let (folder, entry) = if at.is_root() {
        let folder = root.folder(at).map_err(fail)?;
        let entry = folder
            .try_clone()
            .map_err(|error| RemoteError::new(ErrorKind::Other, operation, at).because(error))?;
        (folder, entry)
    } else {
        let spot = Spot::open(remote, at, &nobody(), operation, ErrorKind::NotFound)?;
        spot.expect(expect)?.ok_or_else(|| spot.error(ErrorKind::NotFound))?;
        let entry = open_entry(&spot.folder, &spot.name).map_err(fail)?;
        (spot.folder, entry)
    };
    let missing = || RemoteError::new(ErrorKind::NotFound, operation, at);
    let opened = folder.opened(&entry).map_err(fail)?.ok_or_else(missing)?;
    opened.fits(expect).map_err(|kind| RemoteError::new(kind, operation, at))?;
    if !wanted.is_so() {
        return Err(RemoteError::new(ErrorKind::Offline, operation, at));
    }
    extended::set(&entry, opened, metadata).map_err(fail)?;
    // What is told to be there must outlive a power cut, as a content does.
    match fs::fsync(&entry) {
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
        Err(error) => return Err(fail(error)),
    }
    let seen = folder.opened(&entry).map_err(fail)?.ok_or_else(missing)?;
    Ok(root.observed(&seen))
}

/// Removes temporaries that nobody will come back for: anybody's after thirty days, those of `owner`'s mount after one, those
/// of trying out, which takes milliseconds, after a minute. Whether any was removed.
pub(super) fn clean(folder: &Folder, owner: Option<&AttemptTag>, now: i128) -> bool {
    let Ok(entries) = fs::Dir::read_from(folder) else { return false };
    let mut removed = false;
    for entry in entries.flatten() {
        let Some((tag, _)) = names::parse_temp(entry.file_name().to_bytes()) else { continue };
        let Ok(name) = Name::new(entry.file_name().to_bytes()) else { continue };
        let is_own = owner.is_some_and(|owner| names::is_same_mount(owner, &tag));
        let limit = match tag.mount.as_str() {
            TRYING => MINUTE,
            _ if is_own => DAY,
            _ => ABANDONED,
        };
        let is_old = look(folder, &name).ok().and_then(Found::entry).is_some_and(|meta| {
            meta.kind == Kind::File && now - meta.changed.max(meta.mtime) > limit
        });
        if is_old && fs::unlinkat(folder, name.as_bytes(), AtFlags::empty()).is_ok() {
            tracing::debug!(%name, "removed an abandoned temporary");
            removed = true;
        }
    }
    removed
}

/// Is what trying out a file system told.
pub(super) struct Tried {
    /// Whether it can rename without replacing, and exchange.
    pub(super) is_atomic: bool,
    /// By how many nanoseconds its clock is ahead of ours.
    pub(super) skew: i128,
}

/// Tries what the file system under `folder` can do. An error if nothing can be created there at all.
pub(super) fn try_out(folder: &Folder) -> rustix::io::Result<Tried> {
    let tag = AttemptTag {
        mount: TRYING.to_owned(),
        item: std::process::id().into(),
        nonce: fastrand::u64(..),
    };
    let name = |text: &[u8]| Name::new(text).map(|name| names::temp(&tag, &name));
    let (Ok(a), Ok(b)) = (name(b"a"), name(b"b")) else { return Err(Errno::INVAL) };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = |name: &Name| {
        fs::openat(folder, name.as_bytes(), flags, Mode::from_raw_mode(0o600)).map(drop)
    };
    let rename = |from: &Name, to: &Name, how| {
        fs::renameat_with(folder, from.as_bytes(), folder, to.as_bytes(), how)
    };
    create(&a)?;
    let skew = look(folder, &a)?.entry().map_or(0, |made| made.mtime - now());
    let free = rename(&a, &b, RenameFlags::NOREPLACE).is_ok();
    let both = if free { create(&a) } else { create(&b) };
    let swapped = both.is_ok() && rename(&a, &b, RenameFlags::EXCHANGE).is_ok();
    for name in [&a, &b] {
        match fs::unlinkat(folder, name.as_bytes(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    sync_folder(folder)?;
    Ok(Tried { is_atomic: free && swapped, skew })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn temporaries_go_after_thirty_days_and_own_ones_after_one() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::plain(std::fs::File::open(root.path()).unwrap().into());
        let tag = |mount: &str| AttemptTag { mount: mount.to_owned(), item: 1, nonce: 2 };
        let name = Name::new(&b"a"[..]).unwrap();
        let make = |tag: &AttemptTag| {
            let path = root.path().join(names::temp(tag, &name).to_string());
            std::fs::write(&path, b"half").unwrap();
            path
        };
        let (own, other) = (make(&tag("own")), make(&tag("other")));
        std::fs::write(root.path().join("old"), b"content").unwrap();
        let tried = make(&tag(TRYING));
        assert!(!clean(&folder, None, now() + MINUTE / 2));
        assert!(clean(&folder, None, now() + 2 * MINUTE));
        assert!(!tried.exists() && own.exists());
        assert!(!clean(&folder, Some(&tag("own")), now() + DAY - DAY / 24));
        assert!(clean(&folder, Some(&tag("own")), now() + 2 * DAY));
        assert!(!own.exists() && other.exists());
        assert!(!clean(&folder, None, now() + 29 * DAY));
        assert!(clean(&folder, None, now() + 31 * DAY));
        assert!(!other.exists() && root.path().join("old").exists());
    }
}
