//! A state that no daemon has to be running for: what it holds that is nowhere else, and how it goes away.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::settings::EDITOR_FILES;
use crate::catalog::{self, CatalogError, OnlyHere};
use crate::model::{Exclude, Name};

/// Folders and files of a state by their names. The catalog goes last: until then it is known for a state.
const OURS: [&str; 14] = [
    "data",
    "staging",
    "recovered",
    "ballast",
    "log",
    "log.1",
    "mount.json",
    "mount.json.new",
    "catalog.db.copying",
    "catalog.db-journal",
    "lock",
    "catalog.db-shm",
    "catalog.db-wal",
    "catalog.db",
];
/// How others begin: scratch files that a crash left, copies of older catalogs.
const OURS_BEGIN: [&str; 2] = [".examine-", "catalog.db.format-"];

/// How many items a state directory holds that are not sent, whoever uses it; `None` if there is no catalog.
pub fn left_to_send(state_dir: &Path) -> Result<Option<u64>, CatalogError> {
    let catalog = state_dir.join("catalog.db");
    if is_missing(&catalog) { Ok(None) } else { catalog::left_to_send(&catalog).map(Some) }
}

/// What a state directory holds that the remote does not have: what is not sent, and files and symlinks that stay on this
/// machine, except empty files and those that editors make for themselves.
pub fn only_here(state_dir: &Path) -> Result<Vec<OnlyHere>, CatalogError> {
    let catalog = state_dir.join("catalog.db");
    if is_missing(&catalog) {
        return Ok(Vec::new());
    }
    let editors = Exclude::new(EDITOR_FILES);
    let is_editors = |names: &[Name]| {
        let above = || Ok::<_, Infallible>(Vec::new());
        names.iter().any(|name| matches!(editors.matches(name, false, above), Ok(true)))
    };
    let mut found = catalog::only_here(&catalog)?;
    found.retain(|one| one.unsent || one.has_content() && !is_editors(&one.names));
    Ok(found)
}

/// What cannot be looked at is there.
fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Takes a state away, and the directory with it if it holds nothing else.
pub fn remove_state(state_dir: &Path) -> io::Result<()> {
    remove_state_but(state_dir, &[])
}

/// The same, and keeps its log.
pub fn remove_state_but_log(state_dir: &Path) -> io::Result<()> {
    remove_state_but(state_dir, &["log", "log.1"])
}

fn remove_state_but(state_dir: &Path, kept: &[&str]) -> io::Result<()> {
    let others = fs::read_dir(state_dir)?.collect::<Result<Vec<_>, _>>()?;
    for entry in others {
        let name = entry.file_name();
        if OURS_BEGIN.iter().any(|begin| name.as_bytes().starts_with(begin.as_bytes())) {
            remove(state_dir, &name)?;
        }
    }
    let ours = OURS.iter().filter(|name| !kept.contains(name));
    ours.map(OsStr::new).try_for_each(|name| remove(state_dir, name))?;
    match fs::remove_dir(state_dir) {
        // Something else lies in it, or a disk is mounted there.
        Err(error)
            if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn remove(state_dir: &Path, name: &OsStr) -> io::Result<()> {
    let path = state_dir.join(name);
    let removed = match path.symlink_metadata() {
        Ok(about) if about.is_dir() => fs::remove_dir_all(&path),
        Ok(_) => fs::remove_file(&path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
