//! States that `state_dir=` put elsewhere: a note in the usual place of states says where, from the mount on until nothing is
//! left to send. Without it what they hold would be told of only while a daemon lives.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::config::Places;
use crate::engine::left_to_send;

use super::Note;
use super::server::make_dir;

/// How long a note stays of a state that is not there: its disk may come back.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Notes where the state of a mount is, if it is elsewhere.
pub(super) fn note_elsewhere(places: &Places, note: &Note) {
    let Some(at) = &places.elsewhere else { return };
    if let Err(error) = write(at, note) {
        // Nobody but its owner is told less by this, and only of what is not mounted.
        tracing::warn!("{}: {error}: what is unmounted and unsent is not told of.", at.display());
    }
}

/// Takes the note away once the daemon has ended with nothing left; else sees to it that it is there. A state that cannot be
/// looked at, or has gone with its disk, may hold something: then the note stays.
pub fn settle_elsewhere(places: &Places) {
    let Some(at) = &places.elsewhere else { return };
    let is_empty = matches!(left_to_send(&places.state_dir), Ok(Some(0)));
    if is_empty {
        remove(at);
    } else if !at.exists()
        && let Some(note) = Note::read(&places.state_dir.join(Note::IN_STATE))
    {
        note_elsewhere(places, &note);
    }
}

/// Takes the note away of a state that is given up.
pub fn forget_elsewhere(places: &Places) {
    if let Some(at) = &places.elsewhere {
        remove(at);
    }
}

/// The notes that are kept in the usual place of states.
pub fn noted_elsewhere(base: &Path) -> Vec<Note> {
    let entries = std::fs::read_dir(base.join(Places::ELSEWHERE)).into_iter().flatten();
    entries.filter_map(|entry| Note::read(&entry.ok()?.path())).collect()
}

fn write(at: &Path, note: &Note) -> io::Result<()> {
    let dir = at.parent().unwrap_or(Path::new("/"));
    make_dir(dir, false)?;
    for entry in std::fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        let is_old = || entry.metadata()?.modified()?.elapsed().map_err(io::Error::other);
        let is_gone = |note: Note| matches!(note.state_dir.try_exists(), Ok(false));
        if is_old().is_ok_and(|age| age > KEPT) && Note::read(&path).is_some_and(is_gone) {
            remove(&path);
        }
    }
    note.write(at, 0o600)
}

fn remove(at: &Path) {
    if let Err(error) = std::fs::remove_file(at)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!("{}: {error}.", at.display());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use super::*;

    /// S162 "What a mount left unsent is told of by `dewfs status` after it is gone, wherever its state is."
    ///
    /// A state that was not there counted as one with nothing left: with the stick it was on its note went, and nobody told of
    /// the edits on it when it came back.
    #[test]
    fn regression_the_note_of_a_state_whose_disk_is_away_stays() {
        let base = tempfile::tempdir().unwrap();
        let at = base.path().join(Places::ELSEWHERE).join("one.json");
        // The disk's own folder goes with it, or is empty while it is away.
        for state_dir in [base.path().join("stick/state"), base.path().to_owned()] {
            let places = Places {
                id: "one".into(),
                socket: base.path().join("s"),
                note: base.path().join("n"),
                log: state_dir.join("log"),
                state_dir: state_dir.clone(),
                elsewhere: Some(at.clone()),
            };
            let note = Note {
                mountpoint: "/mnt/x".into(),
                socket: places.socket.clone(),
                state_dir,
                pid: 7,
            };
            note_elsewhere(&places, &note);
            settle_elsewhere(&places);
            assert_eq!(noted_elsewhere(base.path()), [note]);
            forget_elsewhere(&places);
            assert!(!at.exists());
        }
    }

    #[test]
    fn a_note_of_a_state_that_is_long_gone_goes_when_another_comes() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join(Places::ELSEWHERE);
        let note = |state: &Path| Note {
            mountpoint: "/mnt/x".into(),
            socket: "/run/s".into(),
            state_dir: state.to_owned(),
            pid: 7,
        };
        let (gone, there) = (Path::new("/nowhere/at/all"), base.path());
        for (name, state) in [("old", gone), ("lately", gone), ("kept", there)] {
            write(&dir.join(format!("{name}.json")), &note(state)).unwrap();
        }
        let long_ago = SystemTime::now() - KEPT - Duration::from_secs(60);
        for name in ["old.json", "kept.json"] {
            let file = std::fs::File::options().write(true).open(dir.join(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        write(&dir.join("new.json"), &note(there)).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["kept.json", "lately.json", "new.json"]);
        assert_eq!(noted_elsewhere(base.path()).len(), 3);
    }
}
