//! A mount whose state directory lies on a disk that gets full. Mounting disks needs root; what cannot run here says why.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;

use crate::support::disk::{Disk, image, tmpfs};
use crate::support::mount::{LIMIT, Mounted, Places, bytes, dewfs, eventually, said};

/// What somebody else has on the disk.
struct Filler(PathBuf);

impl Filler {
    /// Takes all the room there is, to the last block.
    fn of(disk: &Disk) -> Self {
        let path = disk.root().join("filler");
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        for piece in [1 << 20, 1 << 16, 4096, 512] {
            // What a file system holds back for itself comes free at a sync.
            for _ in 0..2 {
                while file.write_all(&vec![1; piece]).is_ok() {}
                drop(file.sync_all());
            }
        }
        Self(path)
    }

    fn go_away(self) {
        fs::remove_file(self.0).unwrap();
    }
}

fn mounted(disk: &Disk, options: &[&str], fill: impl FnOnce(&std::path::Path)) -> Mounted {
    let mut places = Places::new();
    fill(&places.remote);
    places.state = disk.root().join("state");
    Mounted::at(places, options)
}

fn told(words: &[&str], path: PathBuf) -> String {
    let output = dewfs().args(words).arg(path).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes until it fails; answers how much was taken and the errno.
fn write_until_full(path: &PathBuf, content: &[u8]) -> (usize, Option<i32>) {
    let mut file = match File::create(path) {
        Ok(file) => file,
        Err(why) => return (0, why.raw_os_error()),
    };
    let mut taken = 0;
    for piece in content.chunks(64 << 10) {
        match file.write(piece) {
            Ok(length) => taken += length,
            Err(why) => return (taken, why.raw_os_error()),
        }
    }
    (taken, None)
}

/// S3 "Content that is not in sync is never freed or evicted."
fn a_full_disk(disk: &Disk) {
    let (here, far) = (bytes(4 << 20, 1), bytes(12 << 20, 2));
    let mut mount = mounted(disk, &["-o", "write_back_delay=1h,cache_size=32M"], |remote| {
        fs::write(remote.join("here"), &here).unwrap();
        fs::write(remote.join("far"), &far).unwrap();
        fs::write(remote.join("old"), "old").unwrap();
    });
    assert_eq!(fs::read(mount.path("here")).unwrap(), here);
    fs::write(mount.path("edited"), "edited before").unwrap();
    assert!(told(&["status"], mount.path("here")).contains("local"));
    let filler = Filler::of(disk);

    // Something may still fit where content was evicted for it; then the error has its name.
    let begun = std::time::Instant::now();
    let (taken, why) = write_until_full(&mount.path("new"), &bytes(8 << 20, 3));
    assert_eq!(why, Some(libc::ENOSPC), "{taken} bytes were taken");
    assert!(begun.elapsed() < LIMIT, "nobody waits for room that cannot come");
    // What is here is read, and what is not comes through without being kept.
    assert_eq!(fs::read(mount.path("edited")).unwrap(), b"edited before");
    assert_eq!(fs::read(mount.path("here")).unwrap(), here);
    assert_eq!(fs::read(mount.path("far")).unwrap(), far);
    assert!(told(&["ls"], mount.places.at.clone()).contains("far"));
    let mut part = vec![0; 100_000];
    File::open(mount.path("far")).unwrap().read_exact(&mut part).unwrap();
    assert_eq!(part, far[..100_000]);

    // What was evicted for room is gone from here only.
    assert_eq!(fs::read(mount.remote("here")).unwrap(), here);
    // The catalog can still forget.
    fs::remove_file(mount.path("old")).unwrap();
    told(&["free"], mount.path("here"));
    fs::remove_file(mount.path("new"))
        .or_else(|why| match why.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(why),
        })
        .unwrap();

    filler.go_away();
    let new = bytes(5 << 20, 4);
    fs::write(mount.path("new"), &new).unwrap();
    told(&["sync", "--wait", "--timeout", "20s"], mount.places.at.clone());
    mount.arrives("new", &new);
    mount.arrives("edited", b"edited before");
    eventually("the removal", || !mount.remote("old").exists());
    assert_eq!(fs::read(mount.path("here")).unwrap(), here);

    // Full again: there was room for a new reserve meanwhile, and a new mount needs none.
    let filler = Filler::of(disk);
    mount.remount();
    assert_eq!(fs::read(mount.path("far")).unwrap(), far);
    assert_eq!(write_until_full(&mount.path("more"), &bytes(48 << 20, 5)).1, Some(libc::ENOSPC));
    fs::remove_file(mount.path("new")).unwrap();
    told(&["sync", "--wait", "--timeout", "20s"], mount.places.at.clone());
    eventually("the removal", || !mount.remote("new").exists());
    drop(filler);
}

#[test]
fn a_full_tmpfs_is_said_and_lived_through() {
    if let Some(disk) = tmpfs("size=48M") {
        a_full_disk(&disk);
    }
}

#[test]
fn a_full_ext4_is_said_and_lived_through() {
    if let Some(disk) = image("ext4", 64) {
        a_full_disk(&disk);
    }
}

/// S164 "Where the disk refuses what it seems to have room for, a quota or the number of files, content that may go goes for it as well."
/// Reading kept nothing any more, and writing failed beside all the content that could have gone.
#[test]
fn regression_content_goes_for_what_the_disk_refuses_though_it_has_room() {
    // 256 directories, some files of the catalog: the rest does not do for all that is read.
    let Some(disk) = tmpfs("size=64M,nr_inodes=420") else { return };
    let content = |index: u64| bytes(4096, index);
    let mount = mounted(&disk, &["-o", "cache_size=32M"], |remote| {
        for index in 0..400 {
            fs::write(remote.join(format!("old{index}")), content(index)).unwrap();
        }
    });
    for index in 0..400 {
        assert_eq!(fs::read(mount.path(format!("old{index}"))).unwrap(), content(index));
    }
    for index in 0..30 {
        let name = format!("new{index}");
        fs::write(mount.path(&name), content(1000 + index)).unwrap();
        assert_eq!(fs::read(mount.path(&name)).unwrap(), content(1000 + index));
    }
    told(&["sync", "--wait", "--timeout", "20s"], mount.places.at.clone());
    for index in 0..30 {
        mount.arrives(format!("new{index}"), &content(1000 + index));
    }
    // What is read is kept again.
    assert_eq!(fs::read(mount.path("old7")).unwrap(), content(7));
    eventually("what was read last is here", || {
        told(&["status"], mount.path("old7")).contains("local")
    });
}

#[test]
fn a_first_mount_on_a_full_disk_is_refused_by_name() {
    let Some(disk) = tmpfs("size=16M") else { return };
    let mut places = Places::new();
    places.state = disk.root().join("state");
    let filler = Filler::of(&disk);
    let output = places.command(&[]).output().unwrap();
    let line = said(&output);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    assert!(line.contains(&*places.state.to_string_lossy()), "{line}");
    assert!(line.contains("No space") || line.contains("no room left"), "{line}");
    filler.go_away();
    assert!(places.command(&[]).output().unwrap().status.success(), "nothing is in the way");
    places.detach();
}
