//! What a cut of the power leaves of a mount: its state lies on a real file system that forgets what was not synced.
//! Mounting disks needs root; what cannot run here says why.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::disk::{Disk, image};
use crate::support::mount::{self, Mounted, Places, bytes, eventually, names};

const LENGTH: usize = 300_000;

fn mounted(disk: &Disk, fill: impl FnOnce(&Path)) -> Mounted {
    let mut places = Places::new();
    fill(&places.remote);
    places.state = disk.root().join("state");
    // Nothing is sent before the power is cut: what arrives later came through it.
    Mounted::at(places, &["-o", "write_back_delay=1h"])
}

/// Cuts the power, and starts the machine again.
fn cut(disk: &Disk, mount: &mut Mounted) {
    disk.cut_power();
    mount.kill();
    mount.places.detach();
    disk.power_on();
    mount.options_replaced(&[]);
    mount.mount();
}

fn sync_folder(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// An old content with another in its middle.
fn with_middle(old: &[u8], middle: &[u8]) -> Vec<u8> {
    let at = old.len() / 2;
    [&old[..at], middle, &old[at + middle.len()..]].concat()
}

/// S2 "When `fsync` of a file, and of its folder for its name, has returned, they survive a power cut."
fn what_was_synced_is_there(disk: &Disk) {
    let old = bytes(LENGTH, 1);
    let far = bytes(3 << 20, 2);
    let mut mount = mounted(disk, |remote| {
        for name in ["edited", "rewritten", "saved"] {
            fs::write(remote.join(name), &old).unwrap();
        }
        fs::write(remote.join("far"), &far).unwrap();
    });
    let new = bytes(LENGTH, 3);
    let middle = bytes(70_000, 4);
    assert_eq!(fs::read(mount.path("edited")).unwrap(), old);

    // Written and synced, and closed: an open file may hold on to the disk.
    let synced = |name: &str| {
        let mut file = File::create(mount.path(name)).unwrap();
        file.write_all(&new).unwrap();
        file.sync_all().unwrap();
    };
    synced("new");
    for (name, whole) in [("edited", &old), ("far", &far)] {
        let file = OpenOptions::new().write(true).open(mount.path(name)).unwrap();
        file.write_all_at(&middle, whole.len() as u64 / 2).unwrap();
        file.sync_data().unwrap();
    }
    synced("rewritten");
    synced("saved.tmp");
    fs::rename(mount.path("saved.tmp"), mount.path("saved")).unwrap();
    fs::create_dir(mount.path("folder")).unwrap();
    synced("folder/deep");
    sync_folder(&mount.path("folder"));
    sync_folder(&mount.places.at);

    cut(disk, &mut mount);
    let expected = [
        ("edited", with_middle(&old, &middle)),
        ("far", with_middle(&far, &middle)),
        ("folder/deep", new.clone()),
        ("new", new.clone()),
        ("rewritten", new.clone()),
        ("saved", new),
    ];
    for (name, content) in &expected {
        assert!(fs::read(mount.path(name)).unwrap() == *content, "{name}");
    }
    for (name, content) in &expected {
        mount.arrives(name, content);
    }
    let shown = ["edited", "far", "folder", "new", "rewritten", "saved"];
    eventually("nothing else at the remote", || names(&mount.places.remote) == shown);
}

/// Closed and not synced: the old content or the new, whole, here and at the remote.
fn what_was_not_synced_is_old_or_new(disk: &Disk, catalog_synced: bool) {
    let (old, new) = (bytes(LENGTH, 1), bytes(LENGTH + 5, 3));
    let middle = bytes(70_000, 4);
    let mut mount = mounted(disk, |remote| {
        for name in ["edited", "rewritten", "saved", "untouched"] {
            fs::write(remote.join(name), &old).unwrap();
        }
    });
    assert_eq!(fs::read(mount.path("edited")).unwrap(), old);
    assert_eq!(fs::read(mount.path("untouched")).unwrap(), old);
    let file = OpenOptions::new().write(true).open(mount.path("edited")).unwrap();
    file.write_all_at(&middle, old.len() as u64 / 2).unwrap();
    drop(file);
    fs::write(mount.path("rewritten"), &new).unwrap();
    fs::write(mount.path("new"), &new).unwrap();
    fs::write(mount.path("saved.tmp"), &new).unwrap();
    fs::rename(mount.path("saved.tmp"), mount.path("saved")).unwrap();
    if catalog_synced {
        // Takes the rows of all the others to the disk, but not their bytes.
        let mut file = File::create(mount.path("other")).unwrap();
        file.write_all(b"other").unwrap();
        file.sync_all().unwrap();
        drop(file);
        sync_folder(&mount.places.at);
    }

    cut(disk, &mut mount);
    let edited = with_middle(&old, &middle);
    let may_be = |name: &str, content: &[u8]| match name {
        "edited" => content == old || content == edited,
        "rewritten" | "saved" => content == old || content == new,
        // Nobody had it but this machine: what the disk kept of it, as for any local file, and nothing else.
        "new" | "saved.tmp" => new.starts_with(content),
        "untouched" => content == old,
        "other" => content == b"other",
        _ => false,
    };
    let whole = |place: &Path| {
        for name in names(place).iter().filter(|name| !name.starts_with(".dewfs-")) {
            let content = fs::read(place.join(name)).unwrap();
            assert!(may_be(name, &content), "{name}: {} bytes", content.len());
        }
    };
    whole(&mount.places.at);
    whole(&mount.places.remote);
    for name in ["edited", "rewritten", "saved", "untouched"] {
        assert!(mount.path(name).exists(), "{name} is gone");
    }
    let output = mount::dewfs()
        .args(["sync", "--wait", "--timeout", "20s"])
        .arg(&mount.places.at)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", mount::said(&output));
    whole(&mount.places.at);
    whole(&mount.places.remote);
    if catalog_synced {
        mount.arrives("other", b"other");
    }
}

macro_rules! on {
    ($kind:ident, $megabytes:expr) => {
        mod $kind {
            use super::*;

            fn disk() -> Option<Disk> {
                image(stringify!($kind), $megabytes)
            }

            #[test]
            fn what_was_synced_survives_a_power_cut() {
                disk().iter().for_each(what_was_synced_is_there);
            }

            #[test]
            fn what_was_only_closed_is_old_or_new_after_a_power_cut() {
                disk().iter().for_each(|disk| what_was_not_synced_is_old_or_new(disk, false));
            }

            #[test]
            fn rows_without_their_bytes_are_not_believed_after_a_power_cut() {
                disk().iter().for_each(|disk| what_was_not_synced_is_old_or_new(disk, true));
            }
        }
    };
}

on!(ext4, 64);
on!(xfs, 320);
