//! An ordinary user's mounts with the privileged helper, and what the helper refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mount.rs"]
mod support;

#[path = "support/ordinary.rs"]
mod ordinary;

#[path = "support/asks.rs"]
mod asks;

#[path = "support/mapping.rs"]
mod mapping;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use asks::{Asks, MOUNT, Nothing, REGISTER, UNREGISTER, device, device_of_root};
use mapping::Mapping;
use ordinary::{Machine, USUAL, boxed, control, goes_on};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Signal;
use support::{Mounted, Places, bytes, dewfs, errno, eventually, said};

/// A machine with the helper.
const HELPED: Machine = Machine { helper: Some(""), ..USUAL };

/// However full this machine's disk is: with little room left writers do not go past the daemon.
const ROOM: [&str; 2] = ["-o", "min_free=0"];

/// Whether this kernel tells the helper whose a connection is; older ones have no passthrough for ordinary users.
fn tells() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
    let tells = (numbers.next(), numbers.next()) >= (Some(6), Some(16));
    if !tells {
        eprintln!("NOT RUN: Linux {release} does not tell whose a FUSE connection is");
    }
    tells
}

fn helped(name: &str, machine: Machine) -> bool {
    goes_on(name, machine) && tells()
}

fn status(mount: &Mounted) -> serde_json::Value {
    let output = dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Acts while the daemon stands still; whoever waits for it is helped on in the end, and the test fails.
fn without_the_daemon<T>(mount: &Mounted, act: impl FnOnce() -> T) -> T {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        mount.signal(Signal::STOP);
        let watch = scope.spawn(move || {
            let in_time = wait.recv_timeout(support::LIMIT).is_ok();
            mount.signal(Signal::CONT);
            in_time
        });
        let outcome = act();
        let _late = done.send(());
        assert!(watch.join().unwrap(), "somebody waited for the daemon");
        outcome
    })
}

/// Whether the kernel reads this file itself: it does so while the daemon stands still. It must not be in the page cache.
fn read_by_the_kernel(mount: &Mounted, file: &File, content: &[u8]) {
    // With the first write the kernel asks once whether there are privileges to be taken away.
    file.write_all_at(&content[..1], 0).unwrap();
    let mut read = vec![0; content.len()];
    without_the_daemon(mount, || {
        file.write_all_at(&content[1..], 1).unwrap();
        file.read_exact_at(&mut read, 0).unwrap();
    });
    assert!(read == content);
}

/// S102 "Where `dewfs-helper` runs, a mount of an ordinary user has passthrough as well."
#[test]
fn the_kernel_reads_and_writes_the_files_of_a_user_itself() {
    if !helped("the_kernel_reads_and_writes_the_files_of_a_user_itself", HELPED) {
        return;
    }
    let content = bytes(3_000_000, 1);
    let mut mount = Mounted::with(&ROOM, |remote| fs::write(remote.join("f"), &content).unwrap());
    let found = status(&mount);
    assert_eq!(found["passthrough"], true, "{found}");
    assert_eq!(found["passthrough_by"], "dewfs-helper");
    assert_eq!(found["passthrough_reason"], serde_json::Value::Null);
    let output = dewfs().arg("hydrate").arg(mount.path("f")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let file = open(&mount.path("f"));
    let edited = bytes(3_000_000, 2);
    read_by_the_kernel(&mount, &file, &edited);
    drop(file);
    mount.arrives("f", &edited);

    let made = OpenOptions::new().create_new(true).read(true).write(true).open(mount.path("g"));
    let made = made.unwrap();
    read_by_the_kernel(&mount, &made, &content);
    assert_eq!(fs::metadata(mount.path("g")).unwrap().len(), 3_000_000);
    drop(made);
    mount.arrives("g", &content);
    mount.remount();
    assert!(fs::read(mount.path("f")).unwrap() == edited);
}

/// The kernel's list of connections is what tells the helper whose each is.
#[test]
fn it_is_refused_where_the_kernel_does_not_say_whose_a_connection_is() {
    let machine = Machine { connections: false, ..HELPED };
    if !helped("it_is_refused_where_the_kernel_does_not_say_whose_a_connection_is", machine) {
        return;
    }
    let mount = Mounted::with(&ROOM, |_| {});
    let found = status(&mount);
    assert_eq!(found["passthrough"], false);
    let reason = found["passthrough_reason"].as_str().unwrap();
    assert!(reason.contains("/sys/fs/fuse/connections"), "{reason}");
    fs::write(mount.path("f"), "x").unwrap();
    mount.arrives("f", b"x");
}

#[test]
fn mappings_and_many_opens_of_a_user_are_right() {
    if !helped("mappings_and_many_opens_of_a_user_are_right", HELPED) {
        return;
    }
    let mount = Mounted::with(&ROOM, |_| {});
    let mut content = bytes(100_000, 4);
    let path = mount.path("f");
    fs::write(&path, &content).unwrap();
    let file = open(&path);
    let mapping = Mapping::of(&file, content.len());
    drop(file);
    mount.arrives("f", &content);
    mapping.store(10, b'!');
    mapping.sync();
    content[10] = b'!';
    assert!(fs::read(&path).unwrap() == content);
    mapping.store(99_999, b'?');
    drop(mapping);
    content[99_999] = b'?';
    mount.arrives("f", &content);

    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let path = &path;
            scope.spawn(move || {
                for round in 0..200_usize {
                    let at = (thread * 10_000 + round) as u64;
                    let file = open(path);
                    file.write_all_at(&[thread as u8], at).unwrap();
                    let mut one = [9];
                    file.read_exact_at(&mut one, at).unwrap();
                    assert_eq!(one[0], thread as u8);
                }
            });
        }
    });
    let expected = fs::read(&path).unwrap();
    mount.arrives("f", &expected);
    assert_eq!(status(&mount)["passthrough"], true, "{}", mount.log());
}

/// S103 "A mount goes on when the helper ends: what was open stays as it was, what is opened then goes through the daemon."
#[test]
fn a_killed_helper_is_done_without_and_found_again() {
    if !helped("a_killed_helper_is_done_without_and_found_again", HELPED) {
        return;
    }
    let content = bytes(300_000, 5);
    let mount = Mounted::with(&ROOM, |_| {});
    fs::write(mount.path("f"), &content).unwrap();
    fs::write(mount.path("g"), &content).unwrap();
    let before = open(&mount.path("f"));
    control("kill");
    eventually("the end to be noticed", || status(&mount)["passthrough"] == false);
    let reason = status(&mount)["passthrough_reason"].to_string();
    assert!(reason.contains("dewfs-helper"), "{reason}");

    let edited = bytes(300_000, 6);
    read_by_the_kernel(&mount, &before, &edited);
    let after = open(&mount.path("g"));
    after.write_all_at(b"without it", 0).unwrap();
    let mut expected = content.clone();
    expected[..10].copy_from_slice(b"without it");
    assert!(fs::read(mount.path("g")).unwrap() == expected);
    drop((before, after));
    mount.arrives("f", &edited);
    mount.arrives("g", &expected);

    control("start");
    eventually("the helper to be found again", || {
        drop(open(&mount.path("f")));
        status(&mount)["passthrough"] == true
    });
    read_by_the_kernel(&mount, &open(&mount.path("f")), &content);
}

#[test]
fn a_helper_that_stands_still_holds_nobody_up() {
    if !helped("a_helper_that_stands_still_holds_nobody_up", HELPED) {
        return;
    }
    let mount = Mounted::with(&ROOM, |_| {});
    fs::write(mount.path("f"), b"content").unwrap();
    control("stop");
    eventually("an open through the daemon", || {
        let start = Instant::now();
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"content");
        // A second, and what a machine with much to do adds.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        status(&mount)["passthrough"] == false
    });
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"content");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    control("cont");
}

/// HAZARDS: a descriptor of the mount that anybody else holds makes a hang of a crash.
#[test]
fn a_killed_daemon_is_gone_though_the_helper_lives() {
    if !helped("a_killed_daemon_is_gone_though_the_helper_lives", HELPED) {
        return;
    }
    let mut mount = Mounted::with(&ROOM, |_| {});
    for name in ["f", "g", "h"] {
        fs::write(mount.path(name), "closed").unwrap();
    }
    let _open = open(&mount.path("f"));
    assert_eq!(status(&mount)["passthrough_by"], "dewfs-helper");
    mount.kill();
    // Not here: it would wait for ever.
    let (tell, told) = std::sync::mpsc::channel();
    let at = mount.places.at.clone();
    std::thread::spawn(move || tell.send(errno(fs::read_dir(at))));
    let outcome = told.recv_timeout(Duration::from_secs(1));
    if outcome.is_err() {
        // Nor would anything else here come back.
        mount.places.detach();
    }
    assert_eq!(outcome, Ok(libc::ENOTCONN));
    mount.mount();
    assert_eq!(status(&mount)["passthrough_by"], "dewfs-helper");
    assert_eq!(fs::read(mount.path("g")).unwrap(), b"closed");
    read_by_the_kernel(&mount, &open(&mount.path("h")), &bytes(5000, 1));
}

#[test]
fn a_user_without_the_helper_is_told_so() {
    if !goes_on("a_user_without_the_helper_is_told_so", USUAL) {
        return;
    }
    let mount = Mounted::with(&ROOM, |_| {});
    let found = status(&mount);
    assert_eq!(found["passthrough"], false);
    assert_eq!(found["passthrough_by"], serde_json::Value::Null);
    let reason = found["passthrough_reason"].as_str().unwrap();
    assert!(reason.contains("CAP_SYS_ADMIN") && reason.contains("helper.sock"), "{reason}");
    let output = dewfs().arg("doctor").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let line = told.lines().find(|line| line.contains("passthrough ")).unwrap();
    assert!(!line.starts_with("FAIL") && line.contains("through the daemon"), "{line}");
    assert!(told.contains("systemctl enable --now dewfs-helper.socket"), "{told}");
}

#[test]
fn the_doctor_finds_the_helper() {
    if !helped("the_doctor_finds_the_helper", HELPED) {
        return;
    }
    let output = dewfs().arg("doctor").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("dewfs-helper asks the kernel for it"), "{told}");
}

#[test]
fn what_is_past_the_users_limit_goes_through_the_daemon() {
    let machine = Machine { helper: Some("2"), ..USUAL };
    if !helped("what_is_past_the_users_limit_goes_through_the_daemon", machine) {
        return;
    }
    let mount = Mounted::with(&ROOM, |_| {});
    let files: Vec<File> = (0..6_u64)
        .map(|at| {
            let path = mount.path(format!("f{at}"));
            let file = OpenOptions::new().create_new(true).read(true).write(true).open(path);
            let file = file.unwrap();
            file.write_all_at(&bytes(50_000, at), 0).unwrap();
            file
        })
        .collect();
    for (at, file) in (0..).zip(&files) {
        let mut read = vec![0; 50_000];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes(50_000, at));
    }
    assert_eq!(status(&mount)["passthrough"], true);
    drop(files);
    for at in 0..6_u64 {
        mount.arrives(format!("f{at}"), &bytes(50_000, at));
    }
}

/// S104 "Where fusermount3 is missing, the helper mounts under the same rules."
#[test]
fn the_helper_mounts_where_fusermount_is_missing() {
    let machine = Machine { fusermount: false, ..HELPED };
    if !helped("the_helper_mounts_where_fusermount_is_missing", machine) {
        return;
    }
    let mut mount = Mounted::with(&["-o", "noexec,min_free=0"], |remote| {
        fs::write(remote.join("f"), "x").unwrap();
    });
    let shown = dewfs::fuse::mountinfo::at(&mount.places.at).unwrap().unwrap();
    let me = rustix::process::geteuid().as_raw();
    assert_eq!((shown.kind.as_str(), shown.owner), ("fuse.dewfs", Some(me)));
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = mount.places.at.to_string_lossy().into_owned();
    let line = info.lines().find(|line| line.contains(&at)).unwrap();
    for word in ["nosuid", "nodev", "noexec", "default_permissions"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
    assert_eq!(status(&mount)["passthrough_by"], "dewfs-helper");
    mount.unmount();
    assert!(!mount.places.is_mounted());
}

/// The places of the user, with an empty mount and a file of his own.
struct Own {
    mount: Option<Nothing>,
    file: PathBuf,
    /// Removed last: all of it lies there.
    places: Places,
}

impl Own {
    fn new() -> Self {
        let places = Places::new();
        let file = places.remote.join("own");
        fs::write(&file, "own").unwrap();
        let mount = Some(Nothing::at(&places.at));
        Self { mount, file, places }
    }

    fn fuse(&self) -> &OwnedFd {
        &self.mount.as_ref().unwrap().fuse
    }
}

fn path_only(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// S105 "The helper registers only the caller's own regular files, opened for reading and writing, for his own mounts."
#[test]
fn files_that_are_not_the_callers_to_write_are_refused() {
    if !helped("files_that_are_not_the_callers_to_write_are_refused", HELPED) {
        return;
    }
    let own = Own::new();
    let asks = Asks::new();
    let refuses = |what: &str, errno: i32, file: &OwnedFd, proof: &OwnedFd| {
        let outcome = asks.ask(&[REGISTER], &[own.fuse().as_fd(), file.as_fd(), proof.as_fd()]);
        assert_eq!(outcome, Err(errno), "{what}");
        // An error and nothing else: the next one who asks rightly is served.
        let id = asks.register(own.fuse(), &own.file).unwrap();
        assert_eq!(asks.unregister(own.fuse(), id), Ok(0), "{what}");
    };
    let read = |path: &Path| OwnedFd::from(File::open(path).unwrap());
    let both = |path: &Path| OwnedFd::from(open(path));
    let (reads, writes) = (read(&own.file), both(&own.file));

    let everybodys = boxed("everybodys");
    refuses("another user's", libc::EPERM, &read(&everybodys), &both(&everybodys));
    let shadow = path_only(Path::new("/etc/shadow"));
    refuses("/etc/shadow by O_PATH", libc::EPERM, &shadow, &shadow);
    refuses("one's own by O_PATH", libc::EACCES, &path_only(&own.file), &writes);
    refuses("a proof by O_PATH", libc::EACCES, &reads, &path_only(&own.file));
    refuses("read-only", libc::EACCES, &reads, &reads);
    let appends = OpenOptions::new().read(true).append(true).open(&own.file).unwrap();
    refuses("append-only", libc::EACCES, &reads, &appends.into());
    let writer: OwnedFd = OpenOptions::new().write(true).open(&own.file).unwrap().into();
    refuses("write-only", libc::EACCES, &writer, &writes);
    let other = own.places.remote.join("other");
    fs::write(&other, "other").unwrap();
    refuses("another file's proof", libc::EACCES, &reads, &both(&other));
    let folder = read(&own.places.remote);
    refuses("a directory", libc::EINVAL, &folder, &folder);
    let fifo = own.places.remote.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let fifo: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo)
        .unwrap()
        .into();
    refuses("a fifo", libc::EINVAL, &fifo, &fifo);
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = OwnedFd::from(socket);
    refuses("a socket", libc::EINVAL, &socket, &socket);
    // Regular, his own, and written to by who opened it, not by who writes.
    let memory = both(Path::new("/proc/self/mem"));
    refuses("the kernel's own", libc::EPERM, &memory, &memory);
}

#[test]
fn connections_that_are_not_the_callers_are_refused() {
    if !helped("connections_that_are_not_the_callers_are_refused", HELPED) {
        return;
    }
    let own = Own::new();
    let asks = Asks::new();
    let root = device_of_root();
    // Its kernel's side would register anything.
    let _session = asks::greeted(&root);
    assert_eq!(fs::metadata(&own.file).unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_eq!(asks.register(&root, &own.file), Err(libc::EPERM));
    assert_eq!(asks.unregister(&root, 1), Err(libc::EPERM));
    assert_eq!(asks.register(&device(), &own.file), Err(libc::ENOTCONN));
    let null: OwnedFd = open(Path::new("/dev/null")).into();
    assert_eq!(asks.register(&null, &own.file), Err(libc::ENOTTY));
    assert_eq!(asks.register(&open(&own.file).into(), &own.file), Err(libc::ENOTTY));
    assert_eq!(asks.mount(&root, &own.places.state, 0), Err(libc::EINVAL));
    assert_eq!(asks.mount(own.fuse(), &own.places.state, 0), Err(libc::EINVAL));
    assert!(asks.register(own.fuse(), &own.file).is_ok());
}

#[test]
fn places_that_a_user_may_not_cover_are_refused() {
    if !helped("places_that_a_user_may_not_cover_are_refused", HELPED) {
        return;
    }
    let places = Places::new();
    let asks = Asks::new();
    let refuses = |at: &Path, flags: u32, errno: i32| {
        assert_eq!(asks.mount(&device(), at, flags), Err(errno), "{}", at.display());
    };
    refuses(Path::new("/usr"), 0, libc::EACCES);
    refuses(Path::new("/etc/passwd"), 0, libc::ENOTDIR);
    refuses(&boxed("sticky"), 0, libc::EPERM);
    refuses(Path::new("/proc/self/fd"), 0, libc::EACCES);
    // Others are let in only where /etc/fuse.conf says so.
    refuses(&places.at, 8, libc::EACCES);
    refuses(&places.at, 16, libc::EINVAL);
    assert!(!places.is_mounted());
    let null: OwnedFd = open(Path::new("/dev/null")).into();
    assert_eq!(asks.mount(&null, &places.at, 0), Err(libc::ENOTTY));
    drop(Nothing::at(&places.at));
}

#[test]
fn malformed_requests_get_an_error_and_nothing_else() {
    if !helped("malformed_requests_get_an_error_and_nothing_else", HELPED) {
        return;
    }
    let own = Own::new();
    let asks = Asks::new();
    let fuse = own.fuse().as_fd();
    let file = open(&own.file);
    let file = file.as_fd();
    let seven = [fuse; 7];
    let long = [vec![3, 0, 0, 0, 0, 0, 0, 0], vec![b'x'; 100_000]].concat();
    let cases: [(&str, &[u8], &[std::os::fd::BorrowedFd<'_>]); 12] = [
        ("one byte", b"x", &[]),
        ("an unknown request", &99_u32.to_ne_bytes(), &[fuse]),
        ("the greeting", &0_u32.to_ne_bytes(), &[]),
        ("no descriptors", &REGISTER.to_ne_bytes(), &[]),
        ("too few descriptors", &REGISTER.to_ne_bytes(), &[fuse, file]),
        ("too many descriptors", &REGISTER.to_ne_bytes(), &[fuse, file, file, file]),
        ("far too many descriptors", &REGISTER.to_ne_bytes(), &seven),
        ("more than asked for", &[1, 0, 0, 0, 0], &[fuse, file, file]),
        ("no number", &UNREGISTER.to_ne_bytes(), &[fuse]),
        ("half a number", &[2, 0, 0, 0, 1], &[fuse]),
        ("no source", &[3, 0, 0, 0, 0, 0, 0, 0], &[fuse, file]),
        ("too long", &long, &[fuse, file]),
    ];
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    for (what, bytes, with) in cases {
        assert_eq!(asks.raw(bytes, with), Err(libc::EINVAL), "{what}");
    }
    assert_eq!(fs::read_dir("/proc/self/fd").unwrap().count(), before);
    assert_eq!(asks.ask(&[MOUNT, 0, 0], &[file, file]), Err(libc::ENOTTY));
    assert_eq!(asks.unregister(own.fuse(), 12_345), Err(libc::ENOENT));
    assert!(asks.register(own.fuse(), &own.file).is_ok());
}

#[test]
fn a_user_has_no_more_than_the_limits() {
    let machine = Machine { helper: Some("3"), ..USUAL };
    if !helped("a_user_has_no_more_than_the_limits", machine) {
        return;
    }
    let mut own = Own::new();
    let fill = |own: &Own| {
        let asks = Asks::new();
        let ids: Vec<u32> = (0..3).map(|_| asks.register(own.fuse(), &own.file).unwrap()).collect();
        assert_eq!(asks.register(own.fuse(), &own.file), Err(libc::ENFILE));
        asks.unregister(own.fuse(), ids[1]).unwrap();
        asks.register(own.fuse(), &own.file).unwrap();
        assert_eq!(asks.register(own.fuse(), &own.file), Err(libc::ENFILE));
    };
    fill(&own);
    // Another connection to the helper is the same user.
    assert_eq!(Asks::new().register(own.fuse(), &own.file), Err(libc::ENFILE));
    // What the kernel dropped with the mount does not count.
    drop(own.mount.take());
    own.mount = Some(Nothing::at(&own.places.at));
    fill(&own);
}

#[test]
fn who_asks_too_often_or_on_too_many_lines_is_refused() {
    let machine = Machine { helper: Some("100 50"), ..USUAL };
    if !helped("who_asks_too_often_or_on_too_many_lines_is_refused", machine) {
        return;
    }
    let asks = Asks::new();
    let outcomes: Vec<_> = (0..200).map(|_| asks.raw(b"x", &[])).collect();
    assert!(outcomes[..50].iter().all(|outcome| *outcome == Err(libc::EINVAL)), "{outcomes:?}");
    assert!(outcomes.contains(&Err(libc::EAGAIN)), "{outcomes:?}");
    eventually("to be served again", || asks.raw(b"x", &[]) == Err(libc::EINVAL));

    let mut lines = vec![asks];
    let refused = loop {
        match Asks::try_new() {
            Ok(line) => lines.push(line),
            Err(errno) => break errno,
        }
        assert!(lines.len() < 100);
    };
    assert_eq!((lines.len(), refused), (32, libc::EUSERS as u32));
    lines.pop();
    eventually("a free place", || Asks::try_new().is_ok());
    // A mount of his does without.
    let places = Places::new();
    fs::write(places.remote.join("f"), "x").unwrap();
    let mount = Mounted::at(places, &ROOM);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
    (&File::create(mount.path("g")).unwrap()).write_all(b"y").unwrap();
    mount.arrives("g", b"y");
}

/// The helper's unit and what it starts are where `make install` puts them, and systemd understands them.
#[test]
fn make_installs_the_helper_and_its_units() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let built = ordinary::helper().parent().unwrap().to_owned();
    let output = std::process::Command::new("make")
        .args(["install", "CARGO=true", "PREFIX=/usr"])
        .arg(format!("DESTDIR={}", place.path().display()))
        .arg(format!("RELEASE={}", built.display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let units = place.path().join("usr/lib/systemd/system");
    let socket = fs::read_to_string(units.join("dewfs-helper.socket")).unwrap();
    assert!(socket.contains("ListenSequentialPacket=/run/dewfs-helper.sock\nSocketMode=0666"));
    let service = units.join("dewfs-helper.service");
    let text = fs::read_to_string(&service).unwrap();
    let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let program = place.path().join(start.trim_start_matches('/'));
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o7777, 0o755);
    let few = "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SETUID CAP_SETGID\n";
    assert!(text.contains(few), "{text}");
    // With a view of the tree of its own, what it mounts would be seen nowhere.
    for own in ["PrivateTmp", "PrivateMounts", "PrivateDevices", "ProtectSystem", "ProtectHome"] {
        assert!(!text.contains(own), "{own}");
    }
    fs::write(&service, text.replace(start, &program.display().to_string())).unwrap();
    match std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&service)
        .output()
    {
        Ok(output) => {
            let told = said(&output);
            let ours: Vec<_> = told.lines().filter(|line| line.contains("dewfs-helper")).collect();
            assert!(output.status.success() && ours.is_empty(), "{told}");
        }
        Err(error) => eprintln!("NOT RUN: systemd-analyze: {error}"),
    }
}
