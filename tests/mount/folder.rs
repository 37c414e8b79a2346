//! What is a directory as remote only: other file systems mounted in it, edits that leave no trace in its times.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::support::disk::run;
use crate::support::mount::{self, Mounted, Places, errno, eventually, names};
use rustix::io::Errno;

struct Plugged<'a>(&'a Path);

impl<'a> Plugged<'a> {
    fn at(place: &'a Path, disk: &Path) -> Option<Self> {
        match run("mount", &["--bind", disk.to_str().unwrap(), place.to_str().unwrap()]) {
            Ok(()) => Some(Self(place)),
            Err(why) => {
                assert!(!rustix::process::geteuid().is_root(), "{why}");
                eprintln!("NOT RUN: {why}");
                None
            }
        }
    }
}

impl Drop for Plugged<'_> {
    fn drop(&mut self) {
        let done = run("umount", &["-l", self.0.to_str().unwrap()]);
        assert!(done.is_ok() || std::thread::panicking(), "{done:?}");
    }
}

/// S141 "What lies on a file system that is mounted in a directory as remote and is away now is away, not removed: what is here
/// stays readable, what changed here waits, and the rest of the remote goes on."
#[test]
fn a_file_system_that_is_taken_away_from_below_the_remote_takes_nothing_with_it() {
    let places = Places::new();
    let (place, disk) = (places.remote.join("disk"), tempfile::tempdir().unwrap());
    fs::create_dir(&place).unwrap();
    fs::write(places.remote.join("beside"), b"beside").unwrap();
    fs::create_dir(disk.path().join("folder")).unwrap();
    for file in 0..8 {
        fs::write(disk.path().join(format!("folder/f{file}")), b"on the disk").unwrap();
    }
    let Some(plugged) = Plugged::at(&place, disk.path()) else { return };
    let mut mount = Mounted::at(places, &["-o", "timeout=2s"]);
    let all: Vec<String> = (0..8).map(|file| format!("f{file}")).collect();
    assert_eq!(names(&mount.path("disk/folder")), all);
    assert_eq!(fs::read(mount.path("disk/folder/f0")).unwrap(), b"on the disk");
    for restart in [false, true] {
        match restart {
            false => run("umount", &["-l", place.to_str().unwrap()]).unwrap(),
            // Another life knows of it only what was noted.
            true => mount.remount(),
        }
        fs::write(mount.remote(format!("new {restart}")), b"new").unwrap();
        mount.shows(format!("new {restart}"), b"new");
        // A whole round of looks ended since.
        fs::remove_file(mount.remote(format!("new {restart}"))).unwrap();
        eventually("a file that was removed", || !mount.path(format!("new {restart}")).exists());
        assert_eq!(names(&mount.path("disk/folder")), all);
        assert_eq!(fs::read(mount.path("disk/folder/f0")).unwrap(), b"on the disk");
        assert_eq!(errno(fs::read(mount.path("disk/folder/f5"))), Errno::HOSTDOWN.raw_os_error());
        fs::write(mount.path(format!("disk/folder/own {restart}")), b"own").unwrap();
        fs::remove_file(mount.path(format!("disk/folder/own {restart}"))).unwrap();
    }
    fs::write(mount.path("disk/folder/f0"), b"edited").unwrap();
    fs::write(mount.path("disk/folder/own"), b"own").unwrap();
    fs::write(disk.path().join("folder/theirs"), b"theirs").unwrap();
    fs::write(mount.path("arrives"), b"arrives").unwrap();
    mount.arrives("arrives", b"arrives");
    assert!(names(&place).is_empty(), "something was put where the disk should be");
    run("mount", &["--bind", disk.path().to_str().unwrap(), place.to_str().unwrap()]).unwrap();
    mount.arrives("disk/folder/f0", b"edited");
    mount.arrives("disk/folder/own", b"own");
    mount.shows("disk/folder/theirs", b"theirs");
    mount.shows("disk/folder/f5", b"on the disk");
    // Its watches are there again.
    fs::write(disk.path().join("folder/later"), b"later").unwrap();
    mount.shows("disk/folder/later", b"later");
    drop(mount);
    drop(plugged);
}

/// S142 "A move between file systems mounted in a directory as remote is `EXDEV` here as well, so that programs copy."
#[test]
fn a_move_from_one_file_system_into_another_is_made_by_who_asks() {
    let places = Places::new();
    let (place, disk) = (places.remote.join("disk"), tempfile::tempdir().unwrap());
    fs::create_dir(&place).unwrap();
    fs::create_dir(places.remote.join("folder")).unwrap();
    fs::write(places.remote.join("file"), b"content").unwrap();
    let Some(_plugged) = Plugged::at(&place, disk.path()) else { return };
    let mount = Mounted::at(places, &[]);
    assert_eq!(names(&mount.places.at), ["disk", "file", "folder"]);
    let moved = fs::rename(mount.path("file"), mount.path("disk/file"));
    assert_eq!(errno(moved), Errno::XDEV.raw_os_error());
    fs::rename(mount.path("file"), mount.path("folder/file")).unwrap();
    let (from, to) = (mount.path("folder/file"), mount.path("disk/file"));
    run("mv", &[from.to_str().unwrap(), to.to_str().unwrap()]).unwrap();
    mount.arrives("disk/file", b"content");
    eventually("the original to go", || names(&mount.remote("folder")).is_empty());
    fs::rename(mount.path("disk/file"), mount.path("disk/renamed")).unwrap();
    mount.arrives("disk/renamed", b"content");
}

/// Writes into a file in place and gives it its mtime back.
fn edit_unseen(file: &Path, content: &[u8]) {
    let before = fs::metadata(file).unwrap();
    let open = fs::File::options().write(true).open(file).unwrap();
    open.write_all_at(content, 0).unwrap();
    open.set_modified(before.modified().unwrap()).unwrap();
    drop(open);
    let after = fs::metadata(file).unwrap();
    assert_eq!((before.len(), before.mtime_nsec()), (after.len(), after.mtime_nsec()));
}

fn is_idle(mount: &Mounted) -> bool {
    let output = mount::dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["pending"] == 0
}

/// S143 "A directory on a local file system: an edit there that leaves size and mtime as they were is seen as well; changed
/// attributes and further names are no edit."
#[test]
fn an_edit_that_leaves_size_and_mtime_as_they_were_is_seen() {
    let mount = Mounted::of(|remote| {
        for file in ["here", "not here", "touched"] {
            fs::write(remote.join(file), b"first").unwrap();
        }
    });
    for file in ["here", "touched"] {
        mount.shows(file, b"first");
    }
    eventually("all to be sure", || is_idle(&mount));
    let before = mount::ino(&mount.path("touched"));
    edit_unseen(&mount.remote("here"), b"other");
    edit_unseen(&mount.remote("not here"), b"other");
    mount.shows("here", b"other");
    mount.shows("not here", b"other");
    // Of these only the attributes, and a name.
    let shared = fs::Permissions::from_mode(0o640);
    fs::set_permissions(mount.remote("touched"), shared).unwrap();
    fs::hard_link(mount.remote("touched"), mount.remote("second name")).unwrap();
    mount.shows("second name", b"first");
    eventually("all to be sure", || is_idle(&mount));
    assert_eq!(fs::read(mount.path("touched")).unwrap(), b"first");
    assert_eq!(mount::ino(&mount.path("touched")), before, "it was taken for another file");
}
