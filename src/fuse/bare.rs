//! The folder below a mount, while nothing is mounted on it.
//!
//! What a program saves there while a unit stops or starts again is at no remote, and the next mount would bury it. So the own
//! place of a saved remote is closed to writing as long as dewfs is not mounted there, and what got into it all the same is
//! moved to a folder beside it.

use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Dir;

use super::mountinfo;

/// Owner, group and others may write.
const WRITABLE: u32 = 0o222;

/// So many folders of one second are not made.
const MOST_OF_A_SECOND: u32 = 100;

/// Is the folder below a mount, whether or not it is covered by now.
#[derive(Debug)]
pub struct Bare {
    folder: File,
    place: PathBuf,
}

impl Bare {
    /// The folder at this place; `None` if something is mounted there, or it cannot be looked into.
    pub fn at(place: &Path) -> Option<Self> {
        if mountinfo::at(place).ok()?.is_some() {
            return None;
        }
        let only = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let folder = OpenOptions::new().read(true).custom_flags(only).open(place).ok()?;
        Some(Self { folder, place: place.to_owned() })
    }

    /// Lets its owner write in it, as who mounts without being root has to be able to.
    pub fn open_up(&self) {
        self.change(|mode| mode | 0o200);
    }

    /// Lets nobody write in it. Where it is covered that concerns what comes after the mount.
    pub fn close(&self) {
        self.change(|mode| mode & !WRITABLE);
    }

    /// Somebody else's folder stays as it is.
    fn change(&self, wanted: impl Fn(u32) -> u32) {
        let changed = self.folder.metadata().and_then(|found| {
            let mode = found.permissions().mode() & 0o7777;
            match wanted(mode) {
                same if same == mode => Ok(()),
                other => self.folder.set_permissions(Permissions::from_mode(other)),
            }
        });
        if let Err(why) = changed {
            tracing::debug!("{}: {why}.", self.place.display());
        }
    }

    /// Moves what is in it to a new folder beside it, and answers where that is; `None` if nothing was in it.
    pub fn set_aside(&self) -> io::Result<Option<PathBuf>> {
        let names = self.names()?;
        if names.is_empty() {
            return Ok(None);
        }
        let aside = self.new_folder_beside()?;
        let to = File::open(&aside)?;
        for name in names {
            // A name that is new is never in the way of another.
            rustix::fs::renameat(&self.folder, name.as_c_str(), &to, name.as_c_str())?;
        }
        Ok(Some(aside))
    }

    fn names(&self) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn new_folder_beside(&self) -> io::Result<PathBuf> {
        let now = jiff::Zoned::now().strftime("%Y-%m-%d %H.%M.%S").to_string();
        let name = self.place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for turn in 1..=MOST_OF_A_SECOND {
            let again = if turn == 1 { String::new() } else { format!(" {turn}") };
            let aside =
                self.place.with_file_name(format!("{name} (saved while unmounted {now}){again}"));
            match DirBuilder::new().mode(0o700).create(&aside) {
                Ok(()) => return Ok(aside),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
                Err(why) => return Err(why),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    fn mode(place: &Path) -> u32 {
        fs::metadata(place).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn it_is_closed_and_opened_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o770)).unwrap();
        let bare = Bare::at(dir.path()).unwrap();
        bare.close();
        assert_eq!(mode(dir.path()), 0o550);
        bare.open_up();
        assert_eq!(mode(dir.path()), 0o750);
    }

    #[test]
    fn what_is_in_it_is_found_beside_it() {
        let above = tempfile::tempdir().unwrap();
        let place = above.path().join("Cloud");
        fs::create_dir_all(place.join("sub")).unwrap();
        fs::write(place.join("sub/f"), "kept").unwrap();
        fs::write(place.join(".hidden"), "too").unwrap();
        let bare = Bare::at(&place).unwrap();
        let aside = bare.set_aside().unwrap().unwrap();
        assert_eq!(fs::read(aside.join("sub/f")).unwrap(), b"kept");
        assert_eq!(fs::read(aside.join(".hidden")).unwrap(), b"too");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        assert_eq!(bare.set_aside().unwrap(), None);
        // A second one of the same second has a name of its own.
        fs::write(place.join(".hidden"), "again").unwrap();
        let second = bare.set_aside().unwrap().unwrap();
        assert_ne!(second, aside);
        assert_eq!(fs::read(aside.join(".hidden")).unwrap(), b"too");
    }

    #[test]
    fn what_is_a_mountpoint_or_a_link_is_none() {
        assert!(Bare::at(Path::new("/proc")).is_none());
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        assert!(Bare::at(&dir.path().join("link")).is_none());
    }
}
