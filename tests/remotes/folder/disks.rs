//! Real file systems as the root or below it: mounted, taken away, and back.

use std::fs;
use std::path::{Path, PathBuf};

use dewfs::remote::folder::FolderRemote;
use dewfs::remote::{ErrorKind, Expect, FeedKind, Locator, Remote, RemoteError, Result};

use super::{at, list, names_in, open, settled, tag, upload, version};
use crate::support::disk::run;
use crate::support::mount::{self, Mounted, Places, dewfs, eventually};

/// Something mounted at a directory until this is dropped; `None`, and why, where that cannot be done.
struct Guest(PathBuf);

impl Guest {
    fn of(place: &Path, options: &[&str], source: &Path) -> Option<Self> {
        let (source, root) = (source.to_str().unwrap(), place.to_str().unwrap());
        let all: Vec<&str> = options.iter().copied().chain([source, root]).collect();
        match run("mount", &all) {
            Ok(()) => Some(Self(place.to_owned())),
            Err(why) => {
                assert!(!rustix::process::geteuid().is_root(), "{why}");
                eprintln!("NOT RUN: {why}");
                None
            }
        }
    }

    fn bind(place: &Path, source: &Path) -> Option<Self> {
        Self::of(place, &["--bind"], source)
    }

    fn image(place: &Path, image: &Path) -> Option<Self> {
        Self::of(place, &["-o", "loop"], image)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let done = run("umount", &["-l", self.0.to_str().unwrap()]);
        assert!(done.is_ok() || std::thread::panicking(), "{done:?}");
    }
}

fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    let RemoteError { kind, .. } = outcome.unwrap_err();
    kind
}

async fn shown(remote: &FolderRemote, folder: &str) -> Vec<String> {
    list(remote, folder).await.into_iter().map(|entry| entry.name.to_string()).collect()
}

#[tokio::test]
async fn what_lies_on_a_file_system_that_is_away_is_not_removed() {
    let (root, remote) = open();
    let disk = tempfile::tempdir().unwrap();
    let place = root.path().join("media/disk");
    fs::create_dir_all(&place).unwrap();
    fs::create_dir(disk.path().join("folder")).unwrap();
    fs::write(disk.path().join("folder/file"), b"on the disk").unwrap();
    fs::write(disk.path().join("file"), b"on the disk").unwrap();
    let Some(guest) = Guest::bind(&place, disk.path()) else { return };
    let listed = list(&remote, "media").await;
    let noted = listed[0].entry.extra.clone();
    assert!(noted.is_some(), "what is mounted there is not noted");
    let file = settled(&remote, "media/disk/folder/file").await;
    drop(guest);

    // In another life only what was noted tells of it.
    let later = FolderRemote::open(root.path()).unwrap();
    later.interested(&Locator { extra: noted.clone(), ..at("media/disk") });
    for remote in [&remote, &later] {
        assert_eq!(shown(remote, "media").await, ["disk"]);
        assert_eq!(remote.stat(&at("media/disk")).await.unwrap().unwrap().extra, noted);
        for gone in ["media/disk/file", "media/disk/folder", "media/disk/folder/file"] {
            assert_eq!(kind(remote.stat(&at(gone)).await), ErrorKind::Away, "{gone}");
        }
        for gone in ["media/disk", "media/disk/folder"] {
            assert_eq!(kind(remote.list(&at(gone), None).await), ErrorKind::Away, "{gone}");
            let new = at(&format!("{gone}/new"));
            let written = remote.write(&new, upload(b"x", 1), Expect::Absent).await;
            assert_eq!(kind(written), ErrorKind::Away, "{gone}");
            assert_eq!(kind(remote.make_folder(&new).await), ErrorKind::Away, "{gone}");
        }
        let read = remote.read(&at("media/disk/folder/file"), &file.version, 0..1).await;
        assert_eq!(kind(read), ErrorKind::Away);
        let removed = remote.remove(&at("media/disk/file"), version(&file), &tag(2)).await;
        assert_eq!(kind(removed), ErrorKind::Away);
    }
    assert!(names_in(&place).is_empty(), "something was put where the disk should be");

    // The place goes with the disk, as under /media.
    fs::remove_dir_all(root.path().join("media")).unwrap();
    for remote in [&remote, &later] {
        assert_eq!(shown(remote, "").await, ["media"]);
        assert_eq!(shown_in_gone(remote).await, ErrorKind::NotFound);
        assert_eq!(kind(remote.stat(&at("media/disk/file")).await), ErrorKind::Away);
    }
    fs::create_dir_all(&place).unwrap();
    let Some(_back) = Guest::bind(&place, disk.path()) else { return };
    for remote in [&remote, &later] {
        assert_eq!(shown(remote, "media/disk").await, ["file", "folder"]);
        let seen = remote.stat(&at("media/disk/folder/file")).await.unwrap().unwrap();
        assert_eq!(seen.version, file.version);
    }
}

/// A folder that is only shown because something was mounted below it cannot be listed itself.
async fn shown_in_gone(remote: &FolderRemote) -> ErrorKind {
    kind(remote.list(&at("media"), None).await)
}

#[tokio::test]
async fn who_removes_a_place_that_is_gone_with_its_disk_wants_it_no_longer() {
    let (root, remote) = open();
    let disk = tempfile::tempdir().unwrap();
    let place = root.path().join("media/disk");
    fs::create_dir_all(&place).unwrap();
    fs::write(disk.path().join("file"), b"on the disk").unwrap();
    let Some(guest) = Guest::bind(&place, disk.path()) else { return };
    list(&remote, "media").await;
    let file = settled(&remote, "media/disk/file").await;
    drop(guest);
    let remove = |what: &'static str, expect: Expect| {
        let remote = remote.clone();
        async move { kind(remote.remove(&at(what), expect, &tag(1)).await) }
    };
    assert_eq!(remove("media/disk/file", version(&file)).await, ErrorKind::Away);
    fs::remove_dir_all(root.path().join("media")).unwrap();
    assert_eq!(shown(&remote, "").await, ["media"]);
    assert_eq!(remove("media/disk/file", version(&file)).await, ErrorKind::NotFound);
    assert_eq!(shown(&remote, "").await, ["media"]);
    assert_eq!(remove("media/disk", Expect::Folder).await, ErrorKind::NotFound);
    assert_eq!(remove("media", Expect::Folder).await, ErrorKind::NotFound);
    assert!(shown(&remote, "").await.is_empty());
    assert_eq!(fs::read(disk.path().join("file")).unwrap(), b"on the disk");
}

#[tokio::test]
async fn a_move_between_file_systems_is_a_copy_under_the_same_conditions() {
    let (root, remote) = open();
    let disk = tempfile::tempdir().unwrap();
    let place = root.path().join("disk");
    fs::create_dir(&place).unwrap();
    fs::write(root.path().join("file"), b"content").unwrap();
    let Some(_guest) = Guest::bind(&place, disk.path()) else { return };
    list(&remote, "").await;
    assert!(remote.divides(&at("file").path, &at("disk").path));
    assert!(remote.divides(&at("disk/file").path, &at("").path));
    assert!(!remote.divides(&at("disk/file").path, &at("disk/folder").path));
    assert!(!remote.divides(&at("file").path, &at("folder").path));
    let before = settled(&remote, "file").await;
    fs::write(root.path().join("file"), b"theirs!").unwrap();
    let moved = remote.rename(&at("file"), &at("disk/moved"), version(&before), &tag(1)).await;
    assert_eq!(kind(moved), ErrorKind::VersionMismatch);
    fs::write(root.path().join("disk/taken"), b"taken").unwrap();
    let now = settled(&remote, "file").await;
    let moved = remote.rename(&at("file"), &at("disk/taken"), version(&now), &tag(1)).await;
    assert_eq!(kind(moved), ErrorKind::AlreadyExists);
    assert_eq!(names_in(disk.path()).into_iter().collect::<Vec<_>>(), ["taken"]);
    let moved = remote.rename(&at("file"), &at("disk/moved"), version(&now), &tag(1)).await;
    assert_eq!(moved.unwrap().mtime, now.mtime);
    assert_eq!(fs::read(disk.path().join("moved")).unwrap(), b"theirs!");
    assert_eq!(names_in(root.path()).into_iter().collect::<Vec<_>>(), ["disk"]);
}

/// The share of this test is a FUSE file system that counts its inodes as they are looked up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_each_mount_invents_are_no_part_of_a_version() {
    let mut share = Mounted::of(|remote| {
        for name in ["a", "b"] {
            fs::write(remote.join(name), name).unwrap();
        }
    });
    let mut seen = Vec::new();
    for life in 0..2 {
        let remote = FolderRemote::open(&share.places.at).unwrap();
        let mut versions = std::collections::BTreeMap::new();
        for name in ["a", "b"] {
            let entry = remote.stat(&at(name)).await.unwrap().unwrap();
            assert_eq!(entry.id, None, "a number that is another's tomorrow tells who it is");
            versions.insert(name, (entry.version, mount::ino(&share.path(name))));
        }
        assert!(!remote.capabilities().stable_ids);
        drop(remote);
        share.unmount();
        fs::remove_dir_all(&share.places.state).unwrap();
        fs::create_dir(&share.places.state).unwrap();
        // What is first in the folder is counted first.
        fs::write(share.remote(format!("0 {life}")), b"new").unwrap();
        share.mount();
        seen.push(versions);
    }
    assert_ne!(seen[0]["a"].1, seen[1]["a"].1, "the numbers are the same in both lives");
    assert_eq!(seen[0]["a"].0, seen[1]["a"].0);
    assert_eq!(seen[0]["b"].0, seen[1]["b"].0);
}

/// What others do on a share is told to nobody here: its folders are looked at again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_behind_a_share_are_found_by_a_walk() {
    let share = Mounted::of(|remote| {
        fs::create_dir(remote.join("folder")).unwrap();
        fs::write(remote.join("folder/file"), b"first").unwrap();
    });
    let remote = FolderRemote::open(&share.places.at).unwrap();
    assert_eq!(remote.probe().await.unwrap().feed, FeedKind::Walk);
    assert_eq!(remote.capabilities().feed, FeedKind::Walk);
    drop(remote);
    let mut places = Places::new();
    places.spec = share.places.at.clone().into();
    places.remote.clone_from(&share.places.at);
    let mount = Mounted::at(places, &["-o", "poll=200ms"]);
    mount.shows("folder/file", b"first");
    let status = dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["feed"], "walk", "{status}");
    fs::write(share.remote("folder/file"), b"the second, longer").unwrap();
    fs::write(share.remote("folder/new"), b"new").unwrap();
    mount.shows("folder/file", b"the second, longer");
    mount.shows("folder/new", b"new");
    fs::remove_file(share.remote("folder/file")).unwrap();
    eventually("what was removed", || !mount.path("folder/file").exists());
}

fn disk(dir: &Path, name: &str) -> Option<PathBuf> {
    let image = dir.join(name);
    fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
    match run("mkfs.xfs", &["-q", image.to_str().unwrap()]) {
        Ok(()) => Some(image),
        Err(why) => {
            eprintln!("NOT RUN: {why}");
            None
        }
    }
}

#[test]
fn a_disk_that_was_unplugged_is_known_again_and_no_other_is_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(ours), Some(other)) = (disk(dir.path(), "ours"), disk(dir.path(), "other")) else {
        return;
    };
    let (place, elsewhere) = (dir.path().join("mnt"), dir.path().join("elsewhere"));
    fs::create_dir(&place).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let told = |place: &Path| FolderRemote::open(place).unwrap().capabilities().identity.unwrap();
    let Some(first) = Guest::image(&place, &ours) else { return };
    let (_root, remote) = open();
    let known = told(&place);
    drop(first);
    // The device that it had is the other's now.
    let Some(taken) = Guest::image(&place, &other) else { return };
    let stranger = told(&place);
    assert!(!remote.is_same(&known, &stranger), "{known} {stranger}");
    drop(taken);
    let Some(_taken) = Guest::image(&elsewhere, &other) else { return };
    let Some(_back) = Guest::image(&place, &ours) else { return };
    let back = told(&place);
    assert_ne!(known, back, "it has the same device, so this shows nothing");
    assert!(remote.is_same(&known, &back), "{known} {back}");
    // As it was noted before UUIDs were.
    let (old, _) = known.split_once('@').expect("the kernel tells no UUID");
    assert!(remote.is_same(old, &back) && !remote.is_same(old, &stranger));
}
