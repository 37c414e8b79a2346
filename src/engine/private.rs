//! The state directory belongs to one user, and nobody else can look into it, whatever the umask, and whoever made it before.

use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions, Permissions};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use super::StartError;

/// What tells a state directory from one of somebody's own.
const OURS: [&str; 2] = ["catalog.db", "lock"];
/// What may lie in a new one: its log, begun before it was locked, and what a file system of its own has.
const FRESH: [&str; 3] = ["log", "log.1", "lost+found"];
/// For whom a directory is that files of all users lie in.
const STICKY: u32 = 0o1000;
const OTHERS: u32 = 0o077;

/// Makes a state directory, or takes one that is there, for its owner only: what is open to others is closed if it is
/// surely a state directory or empty. One with other files and nothing of dewfs's is refused.
pub fn claim_state_dir(dir: &Path) -> Result<(), StartError> {
    let refuse = |why: String| StartError::StateDir(why);
    let shown = dir.display();
    if dir.is_file() {
        return Err(refuse(format!(
            "the state directory {shown} is a file: name a folder with state_dir=, or move that file away"
        )));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| refuse(format!("cannot create the state directory {shown}: {e}")))?;
    let failed = |e: std::io::Error| refuse(format!("cannot protect {shown}: {e}"));
    let about = fs::metadata(dir).map_err(failed)?;
    let me = rustix::process::geteuid().as_raw();
    if about.uid() != me {
        let owner = about.uid();
        return Err(refuse(format!("{shown} belongs to user {owner}: choose another state_dir=")));
    }
    let entries = fs::read_dir(dir).map_err(failed)?;
    let entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(failed)?;
    let is = |entry: &DirEntry, names: &[&str]| names.iter().any(|one| *one == entry.file_name());
    let is_state = entries.iter().any(|entry| is(entry, &OURS));
    let is_ours = is_state || entries.iter().all(|entry| is(entry, &FRESH));
    let (open, mode) = (about.mode() & OTHERS != 0, about.mode());
    if !is_ours || open && mode & STICKY != 0 {
        let open = if open { "is open to others and " } else { "" };
        return Err(refuse(format!(
            "{shown} {open}holds other files: choose a directory of its own as state_dir="
        )));
    }
    if open {
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    for entry in entries {
        // A daemon that is about to end takes its files away.
        let Some(about) = unless_gone(entry.metadata()).map_err(failed)? else { continue };
        // root's is no danger: a file system's own `lost+found`, for one
        if about.uid() != me && about.uid() != 0 {
            let name = entry.path();
            let why = format!("{} belongs to user {}", name.display(), about.uid());
            return Err(refuse(format!("{why}: choose another state_dir=, or remove it")));
        }
        if about.is_file() && about.mode() & OTHERS != 0 {
            unless_gone(tighten(&entry.path())).map_err(failed)?;
        }
    }
    Ok(())
}

/// What is gone is no danger to anybody.
fn unless_gone<T>(outcome: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match outcome {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Asks the open file, so that nothing put in its place meanwhile is changed.
fn tighten(path: &Path) -> std::io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn wide(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_state_open_to_others_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        claim_state_dir(&state).unwrap();
        assert_eq!((mode(&state), mode(&dir.path().join("a"))), (0o700, 0o700));
        wide(&state, 0o777);
        claim_state_dir(&state).unwrap();
        assert_eq!(mode(&state), 0o700, "an empty one");
        for name in ["catalog.db", "log", "mount.json"] {
            fs::write(state.join(name), "x").unwrap();
            wide(&state.join(name), 0o666);
        }
        wide(&state, 0o755);
        claim_state_dir(&state).unwrap();
        assert_eq!(mode(&state), 0o700);
        for name in ["catalog.db", "log", "mount.json"] {
            assert_eq!(mode(&state.join(name)), 0o600, "{name}");
        }
    }

    /// A daemon that was about to end took its files away while the next one looked at them: that one did not start.
    #[test]
    fn regression_what_goes_while_it_is_looked_at_is_no_danger() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("catalog.db"), "x").unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let note = dir.path().join("mount.json.new");
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::write(&note, "x").unwrap();
                    wide(&note, 0o644);
                    fs::remove_file(&note).unwrap();
                }
            });
            let claimed: Vec<_> = (0..5000).map(|_| claim_state_dir(dir.path())).collect();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(
                claimed.iter().all(Result::is_ok),
                "{:?}",
                claimed.iter().find(|one| one.is_err())
            );
        });
    }

    #[test]
    fn what_may_be_something_else_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path();
        fs::write(place.join("letter"), "x").unwrap();
        wide(place, 0o755);
        let why = claim_state_dir(place).unwrap_err().to_string();
        assert!(why.contains("holds other files") && why.contains("state_dir="), "{why}");
        assert_eq!(mode(place), 0o755);
        wide(place, 0o700);
        claim_state_dir(place).unwrap_err();
        fs::rename(place.join("letter"), place.join("data")).unwrap();
        claim_state_dir(place).unwrap_err();
        fs::rename(place.join("data"), place.join("log")).unwrap();
        claim_state_dir(place).unwrap();
        fs::remove_file(place.join("log")).unwrap();
        wide(place, 0o1777);
        claim_state_dir(place).unwrap_err();
        assert_eq!(mode(place), 0o1777);
    }

    #[test]
    fn a_link_in_it_changes_nothing_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (state, other) = (dir.path().join("state"), dir.path().join("other"));
        fs::create_dir(&state).unwrap();
        fs::write(&other, "x").unwrap();
        wide(&other, 0o644);
        std::os::unix::fs::symlink(&other, state.join("log")).unwrap();
        fs::write(state.join("catalog.db"), "").unwrap();
        claim_state_dir(&state).unwrap();
        assert_eq!(mode(&other), 0o644);
    }
}
