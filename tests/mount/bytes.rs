//! Reading and writing through the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::support::mapping::Mapping;
use crate::support::mount::{Mounted, bytes, errno, eventually};
use rustix::fs::{FallocateFlags, FlockOperation};

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Stores at both ends of a shared writable mapping.
fn map_and_change(file: &File, length: usize) {
    let mapped = Mapping::of(file, length);
    mapped.store(0, b'<');
    mapped.store(length - 1, b'>');
    mapped.sync();
}

#[test]
fn what_is_written_is_read_and_arrives() {
    let mount = Mounted::empty();
    for (name, length) in [("empty", 0), ("one", 1), ("page", 4096), ("big", 5_000_001)] {
        let content = bytes(length, length as u64);
        fs::write(mount.path(name), &content).unwrap();
        assert_eq!(fs::read(mount.path(name)).unwrap(), content);
        assert_eq!(fs::metadata(mount.path(name)).unwrap().len(), length as u64);
        mount.arrives(name, &content);
    }
}

#[test]
fn what_is_there_is_read_in_any_order() {
    let content = bytes(3_000_000, 1);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    let file = File::open(mount.path("f")).unwrap();
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..200 {
        let from = random.usize(..content.len());
        let to = (from + random.usize(..100_000)).min(content.len());
        let mut buffer = vec![0; to - from];
        file.read_exact_at(&mut buffer, from as u64).unwrap();
        assert_eq!(buffer, content[from..to]);
    }
    let mut end = [0; 100];
    assert_eq!(file.read_at(&mut end, 3_000_000).unwrap(), 0);
    assert_eq!(file.read_at(&mut end, 2_999_950).unwrap(), 50);
}

#[test]
fn random_writes_are_what_a_local_file_would_hold() {
    let content = bytes(1_000_000, 3);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    let mut expected = content;
    let file = open(&mount.path("f"));
    let mut random = fastrand::Rng::with_seed(4);
    for round in 0..300 {
        let from = random.usize(..1_100_000);
        let data = bytes(random.usize(1..30_000), round);
        if expected.len() < from + data.len() {
            expected.resize(from + data.len(), 0);
        }
        expected[from..from + data.len()].copy_from_slice(&data);
        file.write_all_at(&data, from as u64).unwrap();
        if round % 50 == 49 {
            let cut = random.usize(500_000..expected.len());
            expected.truncate(cut);
            file.set_len(cut as u64).unwrap();
        }
    }
    drop(file);
    assert_eq!(fs::read(mount.path("f")).unwrap(), expected);
    mount.arrives("f", &expected);
}

#[test]
fn appends_go_to_the_end_whoever_wrote_last() {
    let mount = Mounted::of(|remote| fs::write(remote.join("log"), "0\n").unwrap());
    let append = || OpenOptions::new().append(true).open(mount.path("log")).unwrap();
    let (mut a, mut b) = (append(), append());
    for line in 1..50 {
        let file = if line % 2 == 0 { &mut a } else { &mut b };
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
    drop((a, b));
    let expected: String = (0..50).map(|line| format!("{line}\n")).collect();
    assert_eq!(fs::read_to_string(mount.path("log")).unwrap(), expected);
    mount.arrives("log", expected.as_bytes());
}

#[test]
fn truncating_cuts_and_grows_with_zeros() {
    let content = bytes(100_000, 5);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    let file = open(&mount.path("f"));
    file.set_len(70_000).unwrap();
    file.set_len(90_000).unwrap();
    let mut expected = content[..70_000].to_vec();
    expected.resize(90_000, 0);
    assert_eq!(file.metadata().unwrap().len(), 90_000);
    assert_eq!(fs::read(mount.path("f")).unwrap(), expected);
    rustix::fs::ftruncate(&file, 0).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    drop(file);
    mount.arrives("f", b"");
}

#[test]
fn opening_with_o_trunc_empties() {
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), bytes(50_000, 6)).unwrap());
    let mut file = File::create(mount.path("f")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    file.write_all(b"new").unwrap();
    drop(file);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"new");
    mount.arrives("f", b"new");
}

#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    let mount = Mounted::of(|remote| fs::write(remote.join("there"), bytes(200_000, 7)).unwrap());
    fs::write(mount.path("here"), "content").unwrap();
    for (name, content) in [("here", b"content".to_vec()), ("there", bytes(200_000, 7))] {
        let mut file = open(&mount.path(name));
        let mut first = [0; 3];
        file.read_exact(&mut first).unwrap();
        fs::remove_file(mount.path(name)).unwrap();
        assert!(!mount.path(name).exists());
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        assert_eq!(all, content);
        file.write_all(b" and more").unwrap();
        assert_eq!(file.metadata().unwrap().len(), content.len() as u64 + 9);
        eventually("its name to go at the remote", || !mount.remote(name).exists());
    }
}

#[test]
fn a_replaced_open_file_keeps_its_content() {
    let mount = Mounted::empty();
    fs::write(mount.path("doc"), "old").unwrap();
    let mut old = File::open(mount.path("doc")).unwrap();
    fs::write(mount.path("doc.new"), "new").unwrap();
    fs::rename(mount.path("doc.new"), mount.path("doc")).unwrap();
    let mut content = String::new();
    old.read_to_string(&mut content).unwrap();
    assert_eq!(content, "old");
    assert_eq!(fs::read(mount.path("doc")).unwrap(), b"new");
    mount.arrives("doc", b"new");
}

#[test]
fn shared_mappings_are_the_file() {
    let content = bytes(123_456, 8);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    let file = open(&mount.path("f"));
    map_and_change(&file, content.len());
    drop(file);
    let mut expected = content;
    expected[0] = b'<';
    expected[123_455] = b'>';
    assert_eq!(fs::read(mount.path("f")).unwrap(), expected);
    mount.arrives("f", &expected);
}

/// The kernel brings pages back by any handle that may write, also by one that appends: a store grew the file by a page and
/// was lost itself.
#[test]
fn regression_a_store_through_a_mapping_of_an_appender_goes_where_it_was_made() {
    let content = bytes(8192, 9);
    let mount = Mounted::with(&["-o", "passthrough=off"], |remote| {
        fs::write(remote.join("own"), &content).unwrap();
        fs::write(remote.join("other"), &content).unwrap();
    });
    let appender =
        |name: &str| OpenOptions::new().read(true).append(true).open(mount.path(name)).unwrap();
    let mut expected = content.clone();
    expected[0] = b'<';
    expected[8191] = b'>';
    map_and_change(&appender("own"), 8192);
    // One program stores through its own mapping, another has the file mapped that appends to it.
    let (writer, mut other) = (open(&mount.path("other")), appender("other"));
    let (ours, theirs) = (Mapping::of(&writer, 8192), Mapping::of(&other, 8192));
    ours.store(0, b'<');
    ours.store(8191, b'>');
    ours.sync();
    other.write_all(b"end").unwrap();
    drop((ours, writer, other));
    assert_eq!(fs::read(mount.path("own")).unwrap(), expected);
    mount.arrives("own", &expected);
    expected.extend(b"end");
    assert_eq!(fs::read(mount.path("other")).unwrap(), expected);
    drop(theirs);
    mount.arrives("other", &expected);
}

#[test]
fn holes_read_as_zeros_and_are_found() {
    let mount = Mounted::empty();
    let mut file = File::create_new(mount.path("sparse")).unwrap();
    file.seek(SeekFrom::Start(4 << 20)).unwrap();
    file.write_all(b"end").unwrap();
    let file = open(&mount.path("sparse"));
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!((1..=4 << 20).contains(&data), "{data}");
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).unwrap(), 0);
    let beyond = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(5 << 20)).unwrap_err();
    assert_eq!(beyond.raw_os_error(), libc::ENXIO);
    let mut expected = vec![0; 4 << 20];
    expected.extend(b"end");
    assert_eq!(fs::read(mount.path("sparse")).unwrap(), expected);
    mount.arrives("sparse", &expected);
}

/// S20 "`SEEK_HOLE` finds only holes that were made here; what is not here is data."
#[test]
fn what_is_not_here_is_data_to_lseek() {
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), bytes(1 << 20, 9)).unwrap());
    let file = File::open(mount.path("f")).unwrap();
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(5)).unwrap(), 5);
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(5)).unwrap(), 1 << 20);
    assert!(file.metadata().unwrap().blocks() > 0, "archivers would store zeros");
}

#[test]
fn fallocate_reserves_grows_punches_and_zeroes() {
    let content = bytes(100_000, 10);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    let file = open(&mount.path("f"));
    let size = || file.metadata().unwrap().len();
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 300_000).unwrap();
    assert_eq!(size(), 100_000);
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 150_000).unwrap();
    assert_eq!(size(), 150_000);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 10_000, 20_000).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 140_000, 20_000).unwrap();
    assert_eq!(size(), 160_000);
    let refused = rustix::fs::fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(refused.unwrap_err().raw_os_error(), libc::EOPNOTSUPP);
    let mut expected = content;
    expected.resize(160_000, 0);
    expected[10_000..30_000].fill(0);
    drop(file);
    assert_eq!(fs::read(mount.path("f")).unwrap(), expected);
    mount.arrives("f", &expected);
}

#[test]
fn copies_within_the_mount_are_whole() {
    let content = bytes(2_000_000, 11);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    // copy_file_range first, then whatever the kernel offers instead.
    assert_eq!(fs::copy(mount.path("f"), mount.path("g")).unwrap(), 2_000_000);
    assert_eq!(fs::read(mount.path("g")).unwrap(), content);
    mount.arrives("g", &content);
}

/// S2 "When `fsync` of a file, and of its folder for its name, has returned, they survive a power cut." (The calls; the cut itself is still to be tested.)
#[test]
fn fsync_of_file_and_folder_works() {
    let mount = Mounted::empty();
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(b"safe").unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    File::open(&mount.places.at).unwrap().sync_all().unwrap();
}

#[test]
fn locks_are_kept_between_processes() {
    let mount = Mounted::empty();
    fs::write(mount.path("f"), "").unwrap();
    let file = open(&mount.path("f"));
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    let other = open(&mount.path("f"));
    let refused = rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(refused.unwrap_err().raw_os_error(), libc::EWOULDBLOCK);
    let status = std::process::Command::new("flock")
        .args(["-n", "-E", "75"])
        .arg(mount.path("f"))
        .arg("true")
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(75));
    rustix::fs::flock(&file, FlockOperation::Unlock).unwrap();
    rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
}

/// Locks of a range, as databases and office programs take them.
#[test]
fn record_locks_are_kept_between_processes() {
    let mount = Mounted::empty();
    fs::write(mount.path("f"), "0123456789").unwrap();
    let try_lock = |start: u64| {
        let script = "import errno, fcntl, sys\nfile = open(sys.argv[1], 'r+')\ntry:\n    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, int(sys.argv[2]))\n    print('got it')\nexcept OSError as error:\n    print(errno.errorcode[error.errno])";
        let mut python = std::process::Command::new("python3");
        python.args(["-c", script]).arg(mount.path("f")).arg(start.to_string());
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", crate::support::mount::said(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let refused = |what: String| assert!(["EAGAIN", "EACCES"].contains(&&*what), "{what}");
    assert_eq!(try_lock(0), "got it");
    let file = open(&mount.path("f"));
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    refused(try_lock(0));
    refused(try_lock(5));
    rustix::fs::fcntl_lock(&file, FlockOperation::Unlock).unwrap();
    assert_eq!(try_lock(0), "got it");
    // Whoever closes any descriptor of a file, or ends, lets its locks go.
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    refused(try_lock(5));
    drop(file);
    assert_eq!(try_lock(5), "got it");
}

#[test]
fn a_reader_sees_what_a_writer_wrote_without_closing() {
    let mount = Mounted::empty();
    let mut writer = File::create(mount.path("f")).unwrap();
    let reader = File::open(mount.path("f")).unwrap();
    let mut length = 0;
    for round in 0..20u64 {
        let data = bytes(10_000, round);
        writer.write_all(&data).unwrap();
        let mut found = vec![0; 10_000];
        reader.read_exact_at(&mut found, length).unwrap();
        assert_eq!(found, data);
        length += 10_000;
        assert_eq!(fs::metadata(mount.path("f")).unwrap().len(), length);
    }
}

#[test]
fn many_readers_at_once_get_the_same_bytes() {
    let content = bytes(4_000_000, 12);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(fs::read(mount.path("f")).unwrap() == content));
        }
    });
}

#[test]
fn a_new_remote_version_is_read_whole_and_open_files_keep_theirs() {
    let (old, new) = (bytes(300_000, 13), bytes(500_000, 14));
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &old).unwrap());
    assert_eq!(fs::read(mount.path("f")).unwrap(), old);
    let opened = File::open(mount.path("f")).unwrap();
    fs::write(mount.remote("new"), &new).unwrap();
    fs::rename(mount.remote("new"), mount.remote("f")).unwrap();
    let mut seen = Vec::new();
    eventually("the new version", || {
        seen = fs::read(mount.path("f")).unwrap();
        assert!(seen == old || seen == new, "a mixed file of {} bytes", seen.len());
        seen == new
    });
    let mut found = vec![0; old.len()];
    opened.read_exact_at(&mut found, 0).unwrap();
    assert!(found == old, "an open file is a snapshot");
}

/// S13 "A reader here sees bytes of one version only. If the version it opened is gone from the remote before its
/// bytes were fetched, it gets `ESTALE`, never other bytes."
#[test]
fn a_version_that_is_gone_before_it_was_read_is_stale() {
    let (old, new) = (bytes(16 << 20, 15), bytes(16 << 20, 16));
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &old).unwrap());
    let opened = File::open(mount.path("f")).unwrap();
    let mut piece = vec![0; 4096];
    opened.read_exact_at(&mut piece, 0).unwrap();
    assert_eq!(piece, old[..4096]);
    fs::write(mount.remote("new"), &new).unwrap();
    fs::rename(mount.remote("new"), mount.remote("f")).unwrap();
    assert_eq!(errno(opened.read_exact_at(&mut piece, 12 << 20)), libc::ESTALE);
    opened.read_exact_at(&mut piece, 0).unwrap();
    assert_eq!(piece, old[..4096], "what came before is still there");
    mount.shows("f", &new);
}

/// S19 "`st_size` is the true size. `st_blocks` counts what is here, but is never 0 for a file with bytes."
#[test]
fn sizes_are_true_and_blocks_count_what_is_here() {
    let content = bytes(4 << 20, 17);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    let about = || {
        let about = fs::metadata(mount.path("f")).unwrap();
        (about.len(), about.blocks() * 512)
    };
    let (size, here) = about();
    assert_eq!(size, 4 << 20);
    assert!((1..100_000).contains(&here), "{here} bytes here before anything was read");
    let file = File::open(mount.path("f")).unwrap();
    file.read_exact_at(&mut [0; 10], 2 << 20).unwrap();
    let (size, part) = about();
    assert_eq!(size, 4 << 20);
    assert!((10..4 << 20).contains(&part), "{part} bytes here after a part was read");
    assert_eq!(fs::read(mount.path("f")).unwrap(), content);
    drop(file);
    eventually("all of it counted", || about() == (4 << 20, 4 << 20));
}

#[test]
fn a_read_only_mount_changes_nothing() {
    let mount = Mounted::with(&["-o", "ro"], |remote| fs::write(remote.join("f"), "x").unwrap());
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
    assert_eq!(errno(fs::write(mount.path("f"), "y")), libc::EROFS);
    assert_eq!(errno(fs::create_dir(mount.path("d"))), libc::EROFS);
    assert_eq!(errno(fs::remove_file(mount.path("f"))), libc::EROFS);
}

/// Who opened it for reading and to be emptied saw it empty for a moment, and nothing was emptied.
#[test]
fn regression_opening_for_reading_can_empty_a_file() {
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), bytes(100, 0)).unwrap());
    assert_eq!(fs::read(mount.path("f")).unwrap().len(), 100);
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::TRUNC;
    drop(rustix::fs::open(mount.path("f"), flags, rustix::fs::Mode::empty()).unwrap());
    assert_eq!(fs::metadata(mount.path("f")).unwrap().len(), 0);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"");
    mount.arrives("f", b"");
}
