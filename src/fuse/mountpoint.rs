//! Whether a place can be mounted on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::mount::unmount;
use super::mountinfo::{self, Mount};
use crate::config::shell_word;

/// How many dead mounts may lie on top of each other.
const MOST_DEAD: usize = 16;

/// Says in one line why a place cannot be mounted on.
#[derive(Debug, thiserror::Error)]
pub enum MountpointError {
    /// Nothing there.
    #[error("{}: no such folder; make it first", .0.display())]
    Missing(PathBuf),
    /// Not a folder.
    #[error("{}: not a folder", .0.display())]
    NotFolder(PathBuf),
    /// Something is in it that would be hidden.
    #[error("{}: not empty; -o nonempty mounts over what is in it", .0.display())]
    NotEmpty(PathBuf),
    /// Another mount is there.
    #[error("{}: in use, {what} ({kind}) is mounted there{}", mountpoint.display(), way_out(kind, mountpoint))]
    InUse {
        /// The place.
        mountpoint: PathBuf,
        /// What is mounted there.
        what: String,
        /// As which type.
        kind: String,
    },
    /// It could not be looked at.
    #[error("{}: {why}", mountpoint.display())]
    Unreadable {
        /// The place.
        mountpoint: PathBuf,
        /// Why not.
        why: io::Error,
    },
}

/// Looks whether `dir` can be mounted on, and detaches what a killed dewfs left there. Answers its absolute path.
pub fn examine(dir: &Path, nonempty: bool) -> Result<PathBuf, MountpointError> {
    let unreadable = |why| MountpointError::Unreadable { mountpoint: dir.to_path_buf(), why };
    let place = absolute(dir).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => MountpointError::Missing(dir.to_path_buf()),
        io::ErrorKind::NotADirectory => MountpointError::NotFolder(dir.to_path_buf()),
        _ => unreadable(why),
    })?;
    clear(&place)?;
    let found = fs::metadata(&place).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => MountpointError::Missing(place.clone()),
        _ => unreadable(why),
    })?;
    if !found.is_dir() {
        return Err(MountpointError::NotFolder(place));
    }
    if !nonempty && !is_empty(&place).map_err(unreadable)? {
        return Err(MountpointError::NotEmpty(place));
    }
    Ok(place)
}

/// Detaches what killed daemons left mounted there; a living mount, or none, is left as it is.
pub fn clear_dead(dir: &Path) -> Result<(), MountpointError> {
    let unreadable = |why| MountpointError::Unreadable { mountpoint: dir.to_path_buf(), why };
    let place = match absolute(dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(unreadable)?,
    };
    match clear(&place) {
        Err(MountpointError::InUse { .. }) => Ok(()),
        other => other,
    }
}

/// The absolute path without symlinks. A dead mount may refuse to be looked at; its folder does not.
fn absolute(dir: &Path) -> io::Result<PathBuf> {
    dir.canonicalize().or_else(|why| {
        let dead = is_dead(&why);
        match (dir.parent(), dir.file_name()) {
            (Some(above), Some(name)) if dead => {
                let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
                Ok(above.canonicalize()?.join(name))
            }
            _ => Err(why),
        }
    })
}

/// Detaches dead mounts of ours and refuses living ones of anybody.
fn clear(place: &Path) -> Result<(), MountpointError> {
    let unreadable = |why| MountpointError::Unreadable { mountpoint: place.to_path_buf(), why };
    for _ in 0..MOST_DEAD {
        match mountinfo::at(place).map_err(unreadable)? {
            // An automount point is there to be mounted on.
            Some(mount) if mount.kind == "autofs" => return Ok(()),
            Some(mount) if mount.is_dewfs() && is_left_behind(place) => {
                unmount(place).map_err(unreadable)?;
            }
            Some(mount) => return Err(in_use(mount)),
            None => return Ok(()),
        }
    }
    Err(unreadable(io::Error::other("too many dead mounts on top of each other")))
}

fn in_use(mount: Mount) -> MountpointError {
    MountpointError::InUse {
        what: mount.source.to_string_lossy().into_owned(),
        kind: mount.kind,
        mountpoint: mount.mountpoint,
    }
}

/// Attributes may still be believed for hours; how much room there is, is always asked of the daemon.
fn is_left_behind(place: &Path) -> bool {
    rustix::fs::statfs(place).is_err_and(|why| is_dead(&why.into()))
}

/// What the kernel says of a mount whose daemon is gone.
fn is_dead(why: &io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

/// A folder that its user may enter but not read is for mount(2) to judge.
fn is_empty(place: &Path) -> io::Result<bool> {
    match fs::read_dir(place) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => Ok(true),
        Err(why) => Err(why),
    }
}

/// How to go on where something is mounted.
fn way_out(kind: &str, mountpoint: &Path) -> String {
    match kind {
        "fuse.dewfs" => format!("; dewfs umount {} ends that", shell_word(mountpoint)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_empty_folder_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let dotted = dir.path().join(".");
        assert_eq!(examine(&dotted, false).unwrap(), dir.path().canonicalize().unwrap());
    }

    #[test]
    fn what_will_not_do_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = examine(&dir.path().join("missing"), false).unwrap_err().to_string();
        assert!(missing.contains("missing: no such folder"), "{missing}");
        fs::write(dir.path().join("file"), "x").unwrap();
        let file = examine(&dir.path().join("file"), false).unwrap_err();
        assert!(matches!(file, MountpointError::NotFolder(_)), "{file}");
        let full = examine(dir.path(), false).unwrap_err();
        assert!(matches!(full, MountpointError::NotEmpty(_)), "{full}");
        assert!(examine(dir.path(), true).is_ok());
    }

    #[test]
    fn a_place_in_use_names_what_is_mounted() {
        let used = examine(Path::new("/proc"), true).unwrap_err().to_string();
        assert!(used.contains("/proc: in use, proc (proc)"), "{used}");
    }
}
