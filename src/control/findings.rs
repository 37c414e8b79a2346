//! Finding the daemon of a mountpoint.

use std::path::{Path, PathBuf};

use crate::config::RunDir;

use super::Note;

/// Is a running daemon that said where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it noted.
    pub note: Note,
}

/// The daemons that said they are at this mount, by the notes of the mount's owner, of the caller and of root. There may be
/// several: a killed one leaves its note, and another remote at the same mountpoint has another name.
pub fn find_daemon(mountpoint: &Path, owner: Option<u32>, caller: u32) -> Vec<Found> {
    let mut owners: Vec<u32> = owner.into_iter().chain([caller, 0]).collect();
    owners.dedup();
    let all = owners.into_iter().flat_map(find_daemons);
    all.filter(|found| found.note.mountpoint == mountpoint).collect()
}

/// All daemons that a user's notes name.
pub fn find_daemons(uid: u32) -> Vec<Found> {
    let notes = RunDir::all(uid).into_iter().flat_map(|run| notes_in(&run.notes));
    notes.filter_map(|at| Note::read(&at)).map(|note| Found { note }).collect()
}

fn notes_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
}
