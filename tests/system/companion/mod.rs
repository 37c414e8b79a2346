//! An ordinary user's mounts with the privileged helper, and what the helper refuses.

mod misuse;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::asks::{Asks, MOUNT, Nothing, REGISTER, UNREGISTER, device, device_of_root};
use crate::support::mapping::Mapping;
use crate::support::mount::{self, Mounted, Places, bytes, dewfs, errno, eventually, said};
use crate::support::ordinary::{self, Machine, USUAL, boxed, control, goes_on};
use rustix::fs::{CWD, Mode};
use rustix::process::Signal;

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
        mount.freeze();
        let watch = scope.spawn(move || {
            let in_time = wait.recv_timeout(mount::LIMIT).is_ok();
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
    if !helped("companion::the_kernel_reads_and_writes_the_files_of_a_user_itself", HELPED) {
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
    if !helped(
        "companion::it_is_refused_where_the_kernel_does_not_say_whose_a_connection_is",
        machine,
    ) {
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
    if !helped("companion::mappings_and_many_opens_of_a_user_are_right", HELPED) {
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
    if !helped("companion::a_killed_helper_is_done_without_and_found_again", HELPED) {
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
    if !helped("companion::a_helper_that_stands_still_holds_nobody_up", HELPED) {
        return;
    }
    let mount = Mounted::with(&ROOM, |_| {});
    fs::write(mount.path("f"), b"content").unwrap();
    control("stop");
    eventually("an open through the daemon", || {
        let start = Instant::now();
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"content");
        // A second, and what a machine with much to do adds.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        status(&mount)["passthrough"] == false
    });
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"content");
    }
    // A second each would be twice as long.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    control("cont");
}

/// HAZARDS: a descriptor of the mount that anybody else holds makes a hang of a crash.
#[test]
fn a_killed_daemon_is_gone_though_the_helper_lives() {
    if !helped("companion::a_killed_daemon_is_gone_though_the_helper_lives", HELPED) {
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
    let outcome = told.recv_timeout(mount::LIMIT);
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
    if !goes_on("companion::a_user_without_the_helper_is_told_so", USUAL) {
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
    if !helped("companion::the_doctor_finds_the_helper", HELPED) {
        return;
    }
    let output = dewfs().arg("doctor").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("dewfs-helper asks the kernel for it"), "{told}");
}

#[test]
fn what_is_past_the_users_limit_goes_through_the_daemon() {
    let machine = Machine { helper: Some("2"), ..USUAL };
    if !helped("companion::what_is_past_the_users_limit_goes_through_the_daemon", machine) {
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

/// S104 "Where fusermount3 is missing, the helper mounts under the same rules, and over no other mount."
#[test]
fn the_helper_mounts_where_fusermount_is_missing() {
    let machine = Machine { fusermount: false, ..HELPED };
    if !helped("companion::the_helper_mounts_where_fusermount_is_missing", machine) {
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
    mount.mount();
    let gone = dewfs().arg("umount").arg(&mount.places.at).output().unwrap();
    assert!(gone.status.success(), "{}", said(&gone));
    assert!(!mount.places.is_mounted());
}

/// S107 "Who may gain no privileges, as under a confined unit, mounts and unmounts by the helper."
#[test]
fn who_may_gain_no_privileges_mounts_and_unmounts_by_the_helper() {
    let machine = Machine { confined: true, ..HELPED };
    if !helped("companion::who_may_gain_no_privileges_mounts_and_unmounts_by_the_helper", machine) {
        return;
    }
    let mut mount = Mounted::with(&ROOM, |remote| fs::write(remote.join("f"), "x").unwrap());
    assert_eq!(status(&mount)["passthrough_by"], "dewfs-helper");
    let file = File::open(mount.path("f")).unwrap();
    let umount = || dewfs().arg("umount").arg(&mount.places.at).output().unwrap();
    let busy = umount();
    assert_eq!(busy.status.code(), Some(1), "{}", said(&busy));
    assert!(said(&busy).contains("still mounted, in use by"), "{}", said(&busy));
    drop(file);
    let gone = umount();
    assert!(gone.status.success(), "{}", said(&gone));
    assert!(!mount.places.is_mounted());
    mount.mount();
    fs::write(mount.path("g"), "y").unwrap();
    mount.kill();
    let dead = dewfs().args(["umount", "--dead"]).arg(&mount.places.at).output().unwrap();
    assert!(dead.status.success(), "{}", said(&dead));
    assert!(!mount.places.is_mounted());
    mount.mount();
    mount.arrives("g", b"y");
    mount.unmount();
    assert!(!mount.places.is_mounted());
}

#[test]
fn who_may_gain_no_privileges_is_told_of_the_helper() {
    let machine = Machine { confined: true, ..USUAL };
    if !goes_on("companion::who_may_gain_no_privileges_is_told_of_the_helper", machine) {
        return;
    }
    let places = Places::new();
    let output = dewfs().arg("mount").args([&places.remote, &places.at]).output().unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("NoNewPrivileges") && told.contains("dewfs-helper.socket"), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "{told}");
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
