//! A mount whose cache is small: `cache_size` and `min_free` hold at every instant, for those as well who read and write
//! past the daemon, and who writes waits for uploads. What cannot run here says why.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::disk::image;
use crate::support::line::Line;
use crate::support::mount::{LIMIT, Mounted, Places, bytes, dewfs, eventually, said};
use crate::support::servers::{Product, Server};
use crate::support::space::{Room, Sampler};
use rustix::thread::CapabilitySet;

const MIB: usize = 1 << 20;

/// A mount whose state has a file system of its own, looked at all the time.
fn mounted(places: Places, limit: usize, options: &[&str]) -> (Mounted, Sampler) {
    mounted_in(Room::new(), places, limit, options)
}

fn mounted_in(
    room: Room,
    mut places: Places,
    limit: usize,
    options: &[&str],
) -> (Mounted, Sampler) {
    let room = Arc::new(room);
    places.state = room.path().join("state");
    fs::create_dir(&places.state).unwrap();
    let limits = format!("cache_size={limit}");
    let options: Vec<&str> = options.iter().copied().chain(["-o", &limits]).collect();
    let sampler = Sampler::start(room, places.state.clone(), limit as u64);
    (Mounted::at(places, &options), sampler)
}

fn sync(mount: &Mounted) {
    let output = dewfs()
        .args(["sync", "--wait", "--timeout", "60s"])
        .arg(&mount.places.at)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-r").arg(from).arg(to).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// S62 "A program that writes waits while uploads make room, as long as these go on."
#[test]
fn a_copy_of_three_times_the_cache_succeeds_on_a_slow_server() {
    let server = Server::start(Product::Apache);
    let line = Line::to(server.port);
    line.set_rate(4 * MIB as u64);
    let mut places = Places::new();
    places.spec = line.url().into();
    places.remote = server.root().to_owned();
    let (mount, sampler) = mounted(places, 12 * MIB, &["-o", "timeout=5s"]);
    let from = tempfile::tempdir().unwrap();
    let tree = from.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for file in 0..18 {
        fs::write(tree.join(format!("f{file}")), bytes(2 * MIB, file)).unwrap();
    }
    let begun = Instant::now();
    copy(&tree, &mount.path("tree"));
    println!("36 MiB through a cache of 12 MiB in {:?}", begun.elapsed());
    sync(&mount);
    for file in 0..18 {
        mount.arrives(format!("tree/f{file}"), &bytes(2 * MIB, file));
    }
    sampler.end(8 * MIB as u64);
}

/// Programs that read files larger than the cache at once get the right bytes, and the limit holds.
#[test]
fn readers_of_more_than_the_cache_get_the_right_bytes() {
    let places = Places::new();
    for file in 0..4 {
        fs::write(places.remote.join(format!("f{file}")), bytes(20 * MIB, file)).unwrap();
    }
    let (mount, sampler) = mounted(places, 12 * MIB, &[]);
    std::thread::scope(|scope| {
        for file in 0..4 {
            let mount = &mount;
            scope.spawn(move || {
                for _ in 0..2 {
                    assert!(
                        fs::read(mount.path(format!("f{file}"))).unwrap() == bytes(20 * MIB, file)
                    );
                }
            });
        }
    });
    let shown: u64 = (0..4)
        .map(|file| fs::metadata(mount.path(format!("f{file}"))).unwrap().blocks() * 512)
        .sum();
    assert!(shown <= 12 * MIB as u64, "st_blocks tell of {shown} bytes");
    sampler.end(8 * MIB as u64);
}

fn goes_past(mount: &Mounted) -> bool {
    let output = dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    if status["passthrough"] != true {
        eprintln!("NOT RUN: no passthrough here: {}", status["passthrough_reason"]);
    }
    status["passthrough"] == true
}

/// A cache with room enough that files are written past the daemon, and three quarters more than it holds.
#[test]
fn a_copy_of_more_than_the_cache_succeeds_past_the_daemon() {
    const FILE: usize = 96 * MIB;
    const FILES: u64 = 22;
    let Some(disk) = image("ext4", 2000) else { return };
    let room = Room::at(&disk.root());
    let options = ["-o", "transfers=2,min_free=100M"];
    let (mount, sampler) = mounted_in(room, Places::new(), 1200 * MIB, &options);
    if !goes_past(&mount) {
        return;
    }
    let content = bytes(FILE, 1);
    for file in 0..FILES {
        let mut to = File::create(mount.path(format!("f{file}"))).unwrap();
        to.write_all(&file.to_le_bytes()).unwrap();
        to.write_all(&content[8..]).unwrap();
    }
    sync(&mount);
    for file in 0..FILES {
        let there = fs::read(mount.remote(format!("f{file}"))).unwrap();
        assert!(there[..8] == file.to_le_bytes() && there[8..] == content[8..], "f{file}");
    }
    sampler.end(900 * MIB as u64);
}

/// Writes pieces until one is refused, at most `most` bytes: how many were taken, and the errno.
fn write_until_refused(file: &mut File, most: usize) -> (usize, Option<i32>) {
    let piece = bytes(MIB, 2);
    let mut taken = 0;
    while taken < most {
        match file.write(&piece) {
            Ok(length) => taken += length,
            Err(error) => return (taken, error.raw_os_error()),
        }
    }
    (taken, None)
}

/// S63 "Who writes past the daemon is stopped (`EPERM`) before `min_free` or `cache_size` is passed, where the file system can do
/// that (ext4); elsewhere it is only looked at, and the disk may get full."
#[test]
fn who_writes_past_the_daemon_is_stopped_before_the_disk_is_full() {
    let Some(disk) = image("ext4", 1600) else { return };
    let mut places = Places::new();
    places.state = disk.root().join("state");
    let min_free = 200 * MIB as u64;
    let mount = Mounted::at(places, &["-o", "min_free=200M,cache_size=9G,write_back_delay=1h"]);
    if !goes_past(&mount) {
        return;
    }
    let mut file = File::create(mount.path("large")).unwrap();
    let (taken, why) = write_until_refused(&mut file, 1500 * MIB);
    let free = {
        let disk = rustix::fs::statvfs(disk.root()).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    println!("{} MiB were taken, {} MiB stay free, errno {why:?}", taken / MIB, free >> 20);
    assert_eq!(why, Some(libc::EPERM), "{taken} bytes were taken");
    // The reserve for the catalog counts towards it.
    assert!(free + (16 << 20) >= min_free, "{free} bytes are free");
    assert!(taken > 1000 * MIB, "{taken}");
    // What was taken is whole, can be read, sent and removed.
    assert_eq!(file.metadata().unwrap().len(), taken as u64);
    drop(file);
    fs::write(mount.path("small"), b"there is still room for what asks").unwrap_or_else(|error| {
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    });
    fs::remove_file(mount.path("large")).unwrap();
    eventually("its room comes back", || {
        let disk = rustix::fs::statvfs(disk.root()).unwrap();
        disk.f_bavail * disk.f_frsize > free + (900 << 20)
    });
    let mut file = File::create(mount.path("again")).unwrap();
    assert_eq!(write_until_refused(&mut file, 100 * MIB), (100 * MIB, None));
}

/// A writer that was stopped when the daemon was killed is a file like others for the next one.
#[test]
fn a_file_whose_writer_was_stopped_is_sent_by_the_next_daemon() {
    let Some(disk) = image("ext4", 1400) else { return };
    let mut places = Places::new();
    places.state = disk.root().join("state");
    let mut mount = Mounted::at(places, &["-o", "min_free=100M,cache_size=9G,write_back_delay=1h"]);
    if !goes_past(&mount) {
        return;
    }
    let mut file = File::create(mount.path("large")).unwrap();
    let (taken, why) = write_until_refused(&mut file, 1400 * MIB);
    assert_eq!(why, Some(libc::EPERM), "{taken} bytes were taken");
    mount.kill();
    drop(file);
    mount.options_replaced(&["-o", "min_free=100M,cache_size=9G,write_back_delay=10ms"]);
    mount.mount();
    eventually("it arrives", || {
        fs::metadata(mount.remote("large")).is_ok_and(|there| there.len() == taken as u64)
    });
    fs::remove_file(mount.path("large")).unwrap();
    eventually("it goes there, too", || !mount.remote("large").exists());
}

/// Where nobody can be stopped the disk gets full; the catalog can still forget.
#[test]
fn on_a_disk_filled_past_the_daemon_the_catalog_can_forget() {
    let Some(disk) = image("ext4", 1400) else { return };
    // Without it nobody stops a writer, wherever that is. What this thread starts has it no more.
    rustix::thread::remove_capability_from_bounding_set(CapabilitySet::LINUX_IMMUTABLE).unwrap();
    let mut places = Places::new();
    fs::write(places.remote.join("old"), "old").unwrap();
    places.state = disk.root().join("state");
    let mount = Mounted::at(places, &["-o", "min_free=64M,cache_size=9G,write_back_delay=1h"]);
    if !goes_past(&mount) {
        return;
    }
    assert_eq!(fs::read(mount.path("old")).unwrap(), b"old");
    let mut file = File::create(mount.path("large")).unwrap();
    let (taken, why) = write_until_refused(&mut file, 1400 * MIB);
    assert_eq!(why, Some(libc::ENOSPC), "{taken} bytes were taken");
    assert!(taken > 1200 * MIB, "{taken}: to the last block");
    let begun = Instant::now();
    fs::remove_file(mount.path("old")).unwrap();
    drop(file);
    fs::remove_file(mount.path("large")).unwrap();
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    sync(&mount);
    eventually("the removal", || !mount.remote("old").exists());
    eventually("room for others", || fs::write(mount.path("new"), bytes(3 * MIB, 4)).is_ok());
    sync(&mount);
    mount.arrives("new", &bytes(3 * MIB, 4));
}

#[test]
fn a_line_that_is_slow_takes_its_time() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let line = Line::to(listener.local_addr().unwrap().port());
    line.set_rate(MIB as u64);
    let begun = Instant::now();
    let mut to = std::net::TcpStream::connect(("127.0.0.1", line.port)).unwrap();
    let sender = std::thread::spawn(move || to.write_all(&[0; MIB / 2]).unwrap());
    let (mut from, _) = listener.accept().unwrap();
    let mut got = vec![0; MIB / 2];
    std::io::Read::read_exact(&mut from, &mut got).unwrap();
    sender.join().unwrap();
    assert!(begun.elapsed() > Duration::from_millis(400), "{:?}", begun.elapsed());
}
