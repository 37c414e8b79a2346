//! What the kernel reads and writes itself, past the daemon: sizes, edits, mappings, and what a frozen daemon cannot stop.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::support::mapping::Mapping;
use crate::support::mount::{self, Mounted, bytes, dewfs, eventually};
use rustix::process::Signal;

fn status(mount: &Mounted) -> serde_json::Value {
    let output = dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether the kernel goes past the daemon here; where it does not, these tests hold all the same, but for the frozen one.
fn goes_past(mount: &Mounted) -> bool {
    status(mount)["passthrough"] == true
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn hydrated(mount: &Mounted, name: &str) {
    let output = dewfs().arg("hydrate").arg(mount.path(name)).output().unwrap();
    assert!(output.status.success(), "{}", mount::said(&output));
}

/// Acts while the daemon stands still. Whoever waits for it is helped on in the end, and the test fails.
fn without_the_daemon<T>(mount: &Mounted, act: impl FnOnce() -> T) -> T {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        mount.freeze();
        let helper = scope.spawn(move || {
            let in_time = wait.recv_timeout(mount::LIMIT).is_ok();
            mount.signal(Signal::CONT);
            in_time
        });
        let outcome = act();
        let _late = done.send(());
        assert!(helper.join().unwrap(), "somebody waited for the daemon");
        outcome
    })
}

/// S38 "A file that is all here may be read and written by the kernel itself, past the daemon: sizes, times, edits and what a
/// mapping writes after the close are the same as without, and arrive on the remote." (Here and in the tests below.)
#[test]
fn a_file_that_is_here_is_read_and_written_while_the_daemon_stands_still() {
    let content = bytes(3_000_000, 1);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    let found = status(&mount);
    if found["passthrough"] != true {
        let reason = found["passthrough_reason"].as_str().unwrap();
        assert!(!reason.is_empty());
        eprintln!("no passthrough here: {reason}");
        return;
    }
    hydrated(&mount, "f");
    let file = open(&mount.path("f"));
    // With the first write the kernel asks once whether there are privileges to be taken away.
    file.write_all_at(&content[..1], 0).unwrap();
    let mut read = vec![0; content.len()];
    let outcome = without_the_daemon(&mount, || {
        file.read_exact_at(&mut read, 0)
            .and_then(|()| file.write_all_at(b"written past it", 1_000_000))
            .and_then(|()| file.read_exact_at(&mut read[1_000_000..1_000_015], 1_000_000))
    });
    outcome.unwrap();
    let mut expected = content;
    expected[1_000_000..1_000_015].copy_from_slice(b"written past it");
    assert!(read == expected);
    drop(file);
    mount.arrives("f", &expected);
}

#[test]
fn sizes_and_times_are_right_while_somebody_writes() {
    let mount = Mounted::empty();
    let path = mount.path("f");
    let file = OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
    let mut length = 0;
    let mut last = 0;
    for round in 1..20_usize {
        (&file).write_all(&bytes(round * 777, 5)).unwrap();
        length += round as u64 * 777;
        let shown = fs::metadata(&path).unwrap();
        assert_eq!(shown.len(), length);
        assert_eq!(file.metadata().unwrap().len(), length);
        let time = shown.mtime() * 1_000_000_000 + shown.mtime_nsec();
        assert!(time >= last);
        last = time;
    }
    file.set_len(1000).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 1000);
    (&file).write_all(b"more").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 1004);
    drop(file);
    let content = fs::read(&path).unwrap();
    assert_eq!((content.len(), &content[1000..]), (1004, &b"more"[..]));
    mount.arrives("f", &content);
}

#[test]
fn readers_and_writers_of_one_file_open_it_in_any_order() {
    let content = bytes(500_000, 2);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    let path = mount.path("f");
    // While it is only partly here it is opened through the daemon, and so is whoever comes next.
    let first = File::open(&path).unwrap();
    let mut head = [0; 100];
    first.read_exact_at(&mut head, 0).unwrap();
    hydrated(&mount, "f");
    let second = open(&path);
    second.write_all_at(b"one", 0).unwrap();
    first.read_exact_at(&mut head, 0).unwrap();
    assert_eq!(&head[..3], b"one");
    drop((first, second));
    // Now all of it is here: past the daemon, in any order.
    for round in 0..20_u8 {
        let reader = File::open(&path).unwrap();
        let writer = open(&path);
        writer.write_all_at(&[round; 3], 0).unwrap();
        reader.read_exact_at(&mut head, 0).unwrap();
        assert_eq!(head[..3], [round; 3]);
        let late = File::open(&path).unwrap();
        drop(reader);
        drop(writer);
        late.read_exact_at(&mut head, 0).unwrap();
        assert_eq!(head[..3], [round; 3]);
    }
    let mut expected = content;
    expected[..3].copy_from_slice(&[19; 3]);
    mount.arrives("f", &expected);
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn many_threads_open_and_close_one_file() {
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), bytes(100_000, 3)).unwrap());
    hydrated(&mount, "f");
    let path = mount.path("f");
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let path = &path;
            scope.spawn(move || {
                for round in 0..200_usize {
                    let at = (thread * 10_000 + round) as u64;
                    let file = if round % 3 == 0 { open(path) } else { File::open(path).unwrap() };
                    if round % 3 == 0 {
                        file.write_all_at(&[thread as u8], at).unwrap();
                    }
                    let mut one = [0];
                    file.read_exact_at(&mut one, at).unwrap();
                    assert!(round % 3 != 0 || one[0] == thread as u8);
                }
            });
        }
    });
    let expected = fs::read(&path).unwrap();
    mount.arrives("f", &expected);
}

#[test]
fn what_a_mapping_writes_after_the_file_was_closed_arrives() {
    let mount = Mounted::empty();
    let mut content = bytes(100_000, 4);
    fs::write(mount.path("f"), &content).unwrap();
    let file = open(&mount.path("f"));
    let mapping = Mapping::of(&file, content.len());
    drop(file);
    mount.arrives("f", &content);
    mapping.store(10, b'!');
    mapping.store(99_999, b'?');
    mapping.sync();
    drop(mapping);
    content[10] = b'!';
    content[99_999] = b'?';
    assert!(fs::read(mount.path("f")).unwrap() == content);
    // `sync` sends what rests as well.
    let output = dewfs().args(["sync", "--wait"]).arg(mount.path("f")).output().unwrap();
    assert!(output.status.success(), "{}", mount::said(&output));
    mount.arrives("f", &content);
}

#[test]
fn what_a_mapping_may_still_write_is_neither_in_sync_nor_freed() {
    let mount = Mounted::empty();
    let content = bytes(100_000, 4);
    fs::write(mount.path("f"), &content).unwrap();
    mount.arrives("f", &content);
    let file = open(&mount.path("f"));
    let mapping = Mapping::of(&file, content.len());
    drop(file);
    drop(dewfs().args(["free"]).arg(mount.path("f")).output().unwrap());
    mapping.store(0, b'!');
    let mut expected = content;
    expected[0] = b'!';
    assert!(fs::read(mount.path("f")).unwrap() == expected);
    drop(mapping);
    let output = dewfs().args(["sync", "--wait"]).arg(mount.path("f")).output().unwrap();
    assert!(output.status.success(), "{}", mount::said(&output));
    mount.arrives("f", &expected);
}

#[test]
fn what_a_mapping_writes_into_a_closed_file_is_sent_though_nobody_opens_it_again() {
    let mount = Mounted::empty();
    let mut content = bytes(100_000, 4);
    fs::write(mount.path("f"), &content).unwrap();
    let sync = || dewfs().args(["sync", "--wait"]).arg(&mount.places.at).output().unwrap();
    assert!(sync().status.success());
    let file = open(&mount.path("f"));
    let mapping = Mapping::of(&file, content.len());
    drop(file);
    // Long after the close: whatever the close alone lets go is gone.
    let start = fs::read(mount.remote("f")).unwrap();
    fs::write(mount.path("other"), b"sent after the close of f").unwrap();
    mount.arrives("other", b"sent after the close of f");
    assert!(start == content);
    mapping.store(10, b'!');
    drop(mapping);
    content[10] = b'!';
    mount.arrives("f", &content);
}

#[test]
fn what_is_written_past_a_killed_daemon_arrives_with_the_next() {
    let mut mount = Mounted::empty();
    let content = bytes(50_000, 6);
    fs::write(mount.path("f"), &content).unwrap();
    mount.arrives("f", &content);
    let file = open(&mount.path("f"));
    file.write_all_at(b"before", 0).unwrap();
    mount.kill();
    let mut expected = content;
    expected[..6].copy_from_slice(b"before");
    // The kernel may or may not let a program go on that has it open; if it does, nothing of that is lost either.
    if file.write_all_at(b"after", 100).is_ok() {
        expected[100..105].copy_from_slice(b"after");
    }
    drop(file);
    mount.mount();
    assert!(fs::read(mount.path("f")).unwrap() == expected);
    mount.arrives("f", &expected);
}

#[test]
fn what_is_cut_by_path_is_cut_for_who_has_it_open() {
    let content = bytes(200_000, 7);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    hydrated(&mount, "f");
    let path = mount.path("f");
    let file = open(&path);
    nix::unistd::truncate(&path, 100).unwrap();
    let mut one = [0; 1000];
    assert_eq!(file.read_at(&mut one, 0).unwrap(), 100);
    assert_eq!(file.metadata().unwrap().len(), 100);
    let emptied = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    emptied.write_all_at(b"new", 0).unwrap();
    assert_eq!(file.read_at(&mut one, 0).unwrap(), 3);
    drop((file, emptied));
    mount.arrives("f", b"new");
}

#[test]
fn a_small_cache_is_not_written_past() {
    let mount = Mounted::with(&["-o", "cache_size=64M"], |_| {});
    let content = bytes(3_000_000, 8);
    fs::write(mount.path("f"), &content).unwrap();
    mount.arrives("f", &content);
    assert!(fs::read(mount.path("f")).unwrap() == content);
    // What is opened through the daemon cannot be read without it.
    let file = File::open(mount.path("f")).unwrap();
    drop(file);
    if goes_past(&mount) {
        eventually("what is used", || {
            status(&mount)["cache"]["used_bytes"].as_u64() > Some(2_999_999)
        });
    }
}

#[test]
fn it_can_be_switched_off() {
    let mount = Mounted::with(&["-o", "passthrough=off"], |_| {});
    let found = status(&mount);
    assert_eq!(found["passthrough"], false);
    assert_eq!(found["passthrough_reason"], "switched off (passthrough=off)");
    let content = bytes(300_000, 9);
    fs::write(mount.path("f"), &content).unwrap();
    assert!(fs::read(mount.path("f")).unwrap() == content);
    mount.arrives("f", &content);
}

/// A file that is opened again while a mapping of an earlier open still writes shows what that writes, however the kernel
/// reads it now.
#[test]
fn what_an_older_mapping_writes_is_seen_by_whoever_opens_the_file_again() {
    let mount = Mounted::empty();
    let path = mount.path("f");
    fs::write(&path, bytes(100_000, 4)).unwrap();
    mount.arrives("f", &bytes(100_000, 4));
    for round in 0..100_u8 {
        let file = open(&path);
        file.write_all_at(&[round], 50).unwrap();
        let mapping = Mapping::of(&file, 100_000);
        drop(file);
        // While the close is still being told of.
        let again = File::open(&path).unwrap();
        let mut one = [0];
        again.read_exact_at(&mut one, 50).unwrap();
        assert_eq!(one, [round], "round {round}");
        mapping.store(50, 200);
        again.read_exact_at(&mut one, 50).unwrap();
        assert_eq!(one, [200], "round {round}: an old page");
        mapping.store(51, round);
        drop(again);
        let again = open(&path);
        again.read_exact_at(&mut one, 51).unwrap();
        assert_eq!(one, [round], "round {round}: an old page after another open");
        drop(mapping);
    }
    let expected = fs::read(&path).unwrap();
    assert_eq!((expected[50], expected[51]), (200, 99));
    mount.arrives("f", &expected);
}

/// What is written through a mapping after the file was sent does not wait as long as what a program has open.
#[test]
fn what_a_mapping_writes_after_the_file_was_sent_goes_soon() {
    // 300 times that is what an open file rests.
    let mount = Mounted::with(&["-o", "write_back_delay=300ms"], |_| {});
    if !goes_past(&mount) {
        // There the kernel keeps the file open for its mapping, and it rests as open files do.
        return;
    }
    let mut content = bytes(100_000, 4);
    fs::write(mount.path("f"), &content).unwrap();
    let file = open(&mount.path("f"));
    file.write_all_at(b"now", 0).unwrap();
    content[..3].copy_from_slice(b"now");
    let mapping = Mapping::of(&file, content.len());
    drop(file);
    mount.arrives("f", &content);
    mapping.store(10, b'!');
    mapping.sync();
    content[10] = b'!';
    mount.arrives("f", &content);
    mapping.store(11, b'?');
    drop(mapping);
    content[11] = b'?';
    mount.arrives("f", &content);
}

#[test]
fn room_that_is_made_past_the_daemon_is_as_on_a_local_disk() {
    use rustix::fs::{FallocateFlags, fallocate};
    let content = bytes(500_000, 5);
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), &content).unwrap());
    hydrated(&mount, "f");
    let file = open(&mount.path("f"));
    let mut expected = content;
    let keep = FallocateFlags::KEEP_SIZE;
    file.write_all_at(b"before", 0).unwrap();
    expected[..6].copy_from_slice(b"before");
    let same = |expected: &[u8]| {
        assert_eq!(file.metadata().unwrap().len(), expected.len() as u64);
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected);
    };
    fallocate(&file, FallocateFlags::empty(), 400_000, 300_000).unwrap();
    expected.resize(700_000, 0);
    same(&expected);
    fallocate(&file, keep, 700_000, 300_000).unwrap();
    same(&expected);
    fallocate(&file, FallocateFlags::PUNCH_HOLE | keep, 40_960, 81_920).unwrap();
    expected[40_960..122_880].fill(0);
    same(&expected);
    fallocate(&file, FallocateFlags::ZERO_RANGE, 690_000, 20_000).unwrap();
    expected.resize(710_000, 0);
    expected[690_000..].fill(0);
    same(&expected);
    file.write_all_at(b"after", 705_000).unwrap();
    expected[705_000..705_005].copy_from_slice(b"after");
    same(&expected);
    drop(file);
    assert!(fs::read(mount.path("f")).unwrap() == expected);
    mount.arrives("f", &expected);
}

/// The same where nobody goes past the daemon any more: the kernel keeps no pages of such a file.
#[test]
fn what_a_mapping_writes_past_a_killed_daemon_is_seen_without_passthrough() {
    let mut mount = Mounted::with(&["-o", "write_back_delay=1h"], |_| {});
    if !goes_past(&mount) {
        return;
    }
    let path = mount.path("f");
    fs::write(&path, bytes(100_000, 4)).unwrap();
    let file = open(&path);
    let mapping = Mapping::of(&file, 100_000);
    mapping.store(1, 1);
    drop(file);
    mount.kill();
    mount.options_replaced(&["-o", "passthrough=off"]);
    mount.mount();
    for round in 0..5_u8 {
        let again = File::open(&path).unwrap();
        let mut one = [0];
        again.read_exact_at(&mut one, 50).unwrap();
        mapping.store(50, 100 + round);
        again.read_exact_at(&mut one, 50).unwrap();
        assert_eq!(one, [100 + round], "an old page");
    }
    drop(mapping);
    let mut expected = bytes(100_000, 4);
    (expected[1], expected[50]) = (1, 104);
    mount.arrives("f", &expected);
}
