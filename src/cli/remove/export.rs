//! `dewfs remove --export`: copies what only this machine has, and looks afterwards whether that was all.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::config::resolved;
use crate::engine::{OnlyHere, only_here};
use crate::model::Kind;

use super::super::saved::Saved;
use super::super::units::Units;
use super::super::{Failure, LEFT};
use super::{about, cannot_tell, connect, state};

/// What was copied, or needs no copy.
pub(super) type Copied = HashSet<OnlyHere>;

/// Copies what only this machine has, as it is in the mount, which is mounted for it if need be.
pub(super) fn copy(saved: &Saved, dir: &Path, units: Option<&Units>) -> Result<Copied, Failure> {
    refuse_inside(saved, dir)?;
    let is_mounted = connect(saved)?.is_some();
    if is_mounted {
        // What was closed a moment ago is not in its row yet: it would look changed afterwards.
        drop(File::open(&saved.mount.mountpoint).and_then(|root| root.sync_all()));
    }
    let mut all = list(saved)?;
    if !all.is_empty() && !is_mounted {
        match units {
            Some(units) => units.start(&saved.name)?,
            None => {
                return Err(Failure::failed(format!(
                    "{}: mount it first: dewfs mount {}:",
                    saved.name, saved.name
                )));
            }
        }
        all = list(saved)?;
    }
    fs::create_dir_all(dir).map_err(|error| about(dir, &error))?;
    for one in &all {
        let below = below(one);
        let (from, to) = (saved.mount.mountpoint.join(&below), dir.join(&below));
        match copy_one(one.kind, &from, &to) {
            // It was removed here meanwhile.
            Err(error)
                if error.kind() == ErrorKind::NotFound && from.symlink_metadata().is_err() => {}
            Err(error) => return Err(about(&from, &error)),
            Ok(()) => {}
        }
    }
    flush(dir)?;
    Ok(all.into_iter().collect())
}

/// Refuses if something is only here that was not copied so. Asked when nobody can write any more.
pub(super) fn refuse_changed(saved: &Saved, copied: &Copied) -> Result<(), Failure> {
    let changed = list(saved)?.iter().filter(|one| !copied.contains(*one)).count();
    if changed == 0 {
        return Ok(());
    }
    let (items, they) = if changed == 1 { ("item", "it was") } else { ("items", "they were") };
    Err(Failure {
        exit: LEFT,
        message: format!(
            "{}: {changed} {items} changed while {they} copied, and nothing was removed: do the same again",
            saved.name
        ),
    })
}

/// Copies what was saved from conflicts and damage.
pub(super) fn copy_recovered(saved: &Saved, dir: &Path) -> Result<(), Failure> {
    let kept = state(saved).join("recovered");
    if kept.is_dir() {
        copy_tree(&kept, &dir.join("recovered")).map_err(|error| about(&kept, &error))?;
        flush(dir)?;
    }
    Ok(())
}

/// Its path below the mountpoint.
pub(super) fn below(one: &OnlyHere) -> PathBuf {
    one.names.iter().map(|name| OsStr::from_bytes(name.as_bytes())).collect()
}

fn list(saved: &Saved) -> Result<Vec<OnlyHere>, Failure> {
    only_here(state(saved)).map_err(|why| cannot_tell(saved, &why))
}

/// What is copied to where it goes away is not saved.
fn refuse_inside(saved: &Saved, dir: &Path) -> Result<(), Failure> {
    let to = resolved(&std::env::current_dir()?.join(dir));
    for place in [&saved.mount.mountpoint, state(saved)] {
        if to.starts_with(resolved(place)) {
            return Err(Failure::usage(format!(
                "--export {}: that goes away with {}: choose a directory outside {}",
                dir.display(),
                saved.name,
                place.display()
            )));
        }
    }
    Ok(())
}

fn copy_one(kind: Kind, from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    match kind {
        Kind::File => copy_file(from, to),
        Kind::Folder => fs::create_dir_all(to),
        Kind::Symlink => {
            let target = fs::read_link(from)?;
            match symlink(&target, to) {
                // Of an earlier try.
                Err(_) if fs::read_link(to).is_ok_and(|there| there == target) => Ok(()),
                other => other,
            }
        }
        // They hold nothing.
        Kind::Fifo | Kind::Socket => Ok(()),
    }
}

/// Copies over nothing: what is there has to be what an earlier try has copied, or a pipe.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let open = File::open(from)?;
    match File::options().write(true).create_new(true).open(to) {
        Ok(new) => {
            let copied = fill(open, new);
            if copied.is_err() {
                // Another try would take the part for another file.
                drop(fs::remove_file(to));
            }
            copied
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(to)?.file_type();
            match there {
                _ if there.is_fifo() => fill(open, File::options().write(true).open(to)?),
                _ if there.is_file() && is_equal(from, to)? => Ok(()),
                _ => Err(io::Error::other(format!(
                    "{} is there already and is another file: choose an empty directory",
                    to.display()
                ))),
            }
        }
        Err(error) => Err(error),
    }
}

fn fill(mut from: File, mut to: File) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    let mode = from.metadata()?.permissions();
    if to.metadata()?.is_file() { to.set_permissions(mode) } else { Ok(()) }
}

fn is_equal(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one).bytes(), BufReader::new(other).bytes());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (a, b) if a != b => return Ok(false),
            _ => {}
        }
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The copies are on the disk before what they were made of goes away.
fn flush(dir: &Path) -> Result<(), Failure> {
    let open = File::open(dir).map_err(|error| about(dir, &error))?;
    rustix::fs::syncfs(open).map_err(|error| about(dir, &error.into()))
}
