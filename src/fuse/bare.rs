//! The folder below a mount, while nothing is mounted on it.
//!
//! What a program saves there while a unit stops or starts again is at no remote, and the next mount would bury it. So the own
//! place of a saved remote is closed to writing as long as dewfs is not mounted there, and what got into it all the same is
//! moved to a folder beside it.

use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, RenameFlags};

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
    /// The folder at this place; `None` if something is mounted there, or it cannot be looked into, or if it is not an ordinary user's
    /// own in a folder of his own: root is to change and move nothing where others could lead it elsewhere.
    pub fn at(place: &Path) -> Option<Self> {
        let user = rustix::process::geteuid().as_raw();
        let bare = Self::opened(place).filter(|_| user != 0)?;
        let above = folder(place.parent()?)?;
        let is_own = |folder: &File| folder.metadata().is_ok_and(|found| found.uid() == user);
        (is_own(&bare.folder) && is_own(&above)).then_some(bare)
    }

    fn opened(place: &Path) -> Option<Self> {
        if mountinfo::at(place).ok()?.is_some() {
            return None;
        }
        Some(Self { folder: folder(place)?, place: place.to_owned() })
    }

    /// Lets its owner write in it, as who mounts without being root has to be able to; answers whether it was closed.
    pub fn open_up(&self) -> bool {
        self.change(|mode| mode | 0o200)
    }

    /// Lets nobody write in it. Where it is covered that concerns what comes after the mount.
    pub fn close(&self) {
        self.change(|mode| mode & !WRITABLE);
    }

    fn change(&self, wanted: impl Fn(u32) -> u32) -> bool {
        let changed = self.folder.metadata().and_then(|found| {
            let mode = found.permissions().mode() & 0o7777;
            match wanted(mode) {
                same if same == mode => Ok(false),
                other => self.folder.set_permissions(Permissions::from_mode(other)).map(|()| true),
            }
        });
        changed.unwrap_or_else(|why| {
            tracing::debug!("{}: {why}.", self.place.display());
            false
        })
    }

    /// Moves what is in it to a new folder beside it, and answers where that is, if anything was moved, and what could not be.
    pub fn set_aside(&self) -> io::Result<(Option<PathBuf>, Option<io::Error>)> {
        let names = self.names()?;
        if names.is_empty() {
            return Ok((None, None));
        }
        // Nothing can be moved out of what is closed.
        let was_closed = self.open_up();
        let moved = self.move_all(names);
        if was_closed {
            self.close();
        }
        moved
    }

    fn move_all(&self, names: Vec<CString>) -> io::Result<(Option<PathBuf>, Option<io::Error>)> {
        let aside = self.new_folder_beside()?;
        let to = folder(&aside).ok_or(io::ErrorKind::NotADirectory)?;
        let (mut moved, mut failed) = (0, None);
        for name in names {
            match rustix::fs::renameat_with(
                &self.folder,
                name.as_c_str(),
                &to,
                name.as_c_str(),
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => moved += 1,
                Err(why) => failed = Some(why.into()),
            }
        }
        if moved == 0 {
            // Nothing is in it.
            std::fs::remove_dir(&aside)?;
        }
        Ok(((moved > 0).then_some(aside), failed))
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

/// A folder, whatever leads there but for a link at its end.
fn folder(at: &Path) -> Option<File> {
    let only = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(only).open(at).ok()
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
        let bare = Bare::opened(dir.path()).unwrap();
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
        let bare = Bare::opened(&place).unwrap();
        let aside = bare.set_aside().unwrap().0.unwrap();
        assert_eq!(fs::read(aside.join("sub/f")).unwrap(), b"kept");
        assert_eq!(fs::read(aside.join(".hidden")).unwrap(), b"too");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        let (aside_again, failed) = bare.set_aside().unwrap();
        assert!(aside_again.is_none() && failed.is_none());
        // A second one of the same second has a name of its own.
        fs::write(place.join(".hidden"), "again").unwrap();
        let second = bare.set_aside().unwrap().0.unwrap();
        assert_ne!(second, aside);
        assert_eq!(fs::read(aside.join(".hidden")).unwrap(), b"too");
    }

    /// What could not be moved left a new folder beside it with each try, and what was moved was not told of.
    #[test]
    fn regression_what_cannot_be_moved_is_told_and_leaves_nothing() {
        let above = tempfile::tempdir().unwrap();
        let place = above.path().join("Cloud");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("f"), "kept").unwrap();
        let bare = Bare::opened(&place).unwrap();
        // A folder that is gone takes nothing any more.
        fs::remove_file(place.join("f")).unwrap();
        fs::create_dir(place.join("mine")).unwrap();
        let (aside, failed) = bare.move_all(vec![c"mine".into(), c"gone".into()]).unwrap();
        assert!(failed.is_some());
        assert!(aside.unwrap().join("mine").is_dir());
        let (aside, failed) = bare.move_all(vec![c"gone".into()]).unwrap();
        assert!(aside.is_none() && failed.is_some());
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 2);
    }

    /// A daemon of root changed and moved what belonged to others, where they could lead it elsewhere.
    #[test]
    fn regression_what_is_not_an_ordinary_users_own_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("Cloud");
        fs::create_dir(&place).unwrap();
        let user = rustix::process::geteuid();
        assert_eq!(Bare::at(&place).is_some(), !user.is_root());
        assert!(Bare::at(Path::new("/usr")).is_none());
    }

    #[test]
    fn what_is_a_mountpoint_or_a_link_is_none() {
        assert!(Bare::opened(Path::new("/proc")).is_none());
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        assert!(Bare::opened(&dir.path().join("link")).is_none());
    }
}
