//! The mount command: what it refuses and how it says so, the background, the end.

use crate::support::wait::found_within;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crate::support::mount::{LIMIT, Mounted, Places, dewfs, eventually, said};
use dewfs::control::Note;

/// Runs a mount in the background to the end of the command.
fn mount(places: &Places, options: &[&str]) -> Output {
    places.command(options).output().unwrap()
}

/// The one line of a refused mount that leaves nothing mounted.
fn refused(places: &Places, options: &[&str]) -> String {
    let output = mount(places, options);
    let line = said(&output);
    assert!(!output.status.success(), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "one line: {line}");
    assert!(!places.is_mounted());
    line
}

/// The daemon of a mount in the background ends by itself after this.
fn unmount(places: &Places) {
    places.detach();
    eventually("the daemon to let go", || {
        let lock = fs::File::open(places.state.join("lock"));
        lock.is_err() || lock.is_ok_and(|lock| lock.try_lock().is_ok())
    });
}

#[test]
fn it_returns_when_the_mount_can_be_used() {
    let places = Places::new();
    fs::write(places.remote.join("f"), "content").unwrap();
    let output = mount(&places, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!((output.stdout.as_slice(), said(&output).as_str()), (b"".as_slice(), ""));
    assert_eq!(fs::read(places.at.join("f")).unwrap(), b"content");
    let shown = dewfs::fuse::mountinfo::at(&places.at).unwrap().unwrap();
    assert_eq!((shown.kind.as_str(), shown.source), ("fuse.dewfs", places.remote.clone().into()));
    assert!(places.state.join("log").exists());
    unmount(&places);
}

#[test]
fn a_shell_that_reads_its_output_does_not_wait_for_the_daemon() {
    let places = Places::new();
    let script = r#"exec 9>"$4"; flock 9; x=$("$1" mount "$2" "$3" -o "state_dir=$5" 2>&1)
                    exec 9>&-; test -z "$x" && flock -n "$4" true"#;
    let mut shell = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_dewfs")])
        .args([&places.remote, &places.at, &places.state.with_extension("lock"), &places.state])
        .spawn()
        .unwrap();
    let ended = found_within(LIMIT, || shell.try_wait().unwrap());
    let status = ended.expect("the shell waits for the daemon");
    assert!(status.success());
    assert!(places.is_mounted());
    unmount(&places);
}

#[test]
fn places_that_will_not_do_are_named() {
    let places = Places::new();
    fs::write(places.at.join("x"), "").unwrap();
    assert!(refused(&places, &[]).contains("not empty"));
    fs::remove_file(places.at.join("x")).unwrap();
    fs::remove_dir(&places.at).unwrap();
    assert!(refused(&places, &[]).contains("no such folder"));
    fs::write(&places.at, "").unwrap();
    assert!(refused(&places, &[]).contains("not a folder"));
}

#[test]
fn a_folder_that_is_not_empty_is_covered_when_asked() {
    let places = Places::new();
    fs::write(places.at.join("below"), "").unwrap();
    let output = mount(&places, &["-o", "nonempty"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!places.at.join("below").exists());
    unmount(&places);
    assert!(places.at.join("below").exists());
}

#[test]
fn a_place_in_use_is_refused_and_stays_in_use() {
    let mounted = Mounted::of(|remote| fs::write(remote.join("f"), "x").unwrap());
    let line = said(&mount(&mounted.places, &[]));
    let source = mounted.places.remote.display().to_string();
    assert!(line.contains("in use") && line.contains(&source), "{line}");
    assert!(
        line.contains(&format!("dewfs umount {} ends that", mounted.places.at.display())),
        "{line}"
    );
    assert_eq!(fs::read(mounted.path("f")).unwrap(), b"x");
}

#[test]
fn a_state_directory_in_use_is_refused() {
    let mounted = Mounted::empty();
    let other = Places::new();
    let output = dewfs()
        .arg("mount")
        .args([&mounted.places.remote, &other.at])
        .arg("-o")
        .arg(format!("state_dir={}", mounted.places.state.display()))
        .output()
        .unwrap();
    let line = said(&output);
    assert_eq!(line.trim_end().lines().count(), 1, "one line: {line}");
    assert!(line.contains("another dewfs uses this state directory"), "{line}");
    assert!(line.contains("give each a state_dir= of its own"), "{line}");
    assert_eq!(output.status.code(), Some(1));
    assert!(!other.is_mounted());
}

#[test]
fn wrong_words_are_named_with_what_was_meant() {
    let places = Places::new();
    assert!(refused(&places, &["-o", "cache-size=1G"]).contains("cache_size"));
    assert!(refused(&places, &["-o", "poll=often"]).contains("poll"));
    assert!(refused(&places, &["-o", "remount"]).contains("remount"));
    assert!(refused(&places, &["-o", "verify=off"]).contains("not available"));
}

#[test]
fn places_inside_each_other_are_refused() {
    let places = Places::new();
    let inside = places.at.join("state");
    let line = refused(&places, &["-o", &format!("state_dir={}", inside.display())]);
    assert!(line.contains("the state directory"), "{line}");
    let output = dewfs().arg("mount").args([&places.at, &places.at]).output().unwrap();
    assert!(said(&output).contains("lies in the other"), "{}", said(&output));
}

#[test]
fn places_inside_each_other_are_refused_the_other_way_round() {
    let refused = |remote: &std::path::Path, at: &std::path::Path, state: &std::path::Path| {
        for place in [remote, at] {
            fs::create_dir_all(place).unwrap();
        }
        let mut command = dewfs();
        command.arg("mount").args([remote, at]).args(["-o", "nonempty"]);
        command.arg("-o").arg(format!("state_dir={}", state.display()));
        let output = command.output().unwrap();
        let line = said(&output);
        assert!(!output.status.success(), "{line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{line}");
        assert!(line.contains("one lies in the other"), "{line}");
        assert!(dewfs::fuse::mountinfo::at(at).unwrap().is_none());
    };
    let places = Places::new();
    let root = places.at.parent().unwrap().to_owned();
    let at = |name: &str| root.join(name);
    refused(&at("a"), &at("a/mnt"), &at("state"));
    refused(&at("b/remote"), &at("b"), &at("state"));
    refused(&at("c"), &at("d/mnt"), &at("d"));
    refused(&at("e"), &at("f"), &at("e/state"));
    refused(&at("g/remote"), &at("h"), &at("g"));
    // What is inside by the way of a link is inside.
    let link = |name: &str, to: &str| {
        fs::create_dir_all(at(to)).unwrap();
        std::os::unix::fs::symlink(at(to), at(name)).unwrap();
    };
    link("to i", "i");
    refused(&at("to i"), &at("i/mnt"), &at("state"));
    link("to j", "j/mnt");
    refused(&at("k"), &at("j/mnt"), &at("to j/state"));
    refused(&at("l"), &at("j/mnt/below"), &at("to j"));
}

#[test]
fn a_damaged_catalog_is_said_and_kept() {
    let places = Places::new();
    fs::write(places.remote.join("f"), "content").unwrap();
    assert!(mount(&places, &["-o", "write_back_delay=1h,drain=0s"]).status.success());
    assert_eq!(fs::read(places.at.join("f")).unwrap(), b"content");
    fs::write(places.at.join("unsent"), "only here").unwrap();
    unmount(&places);
    let catalog = places.state.join("catalog.db");
    let mut damaged = fs::read(&catalog).unwrap();
    damaged.iter_mut().skip(100).step_by(7).for_each(|byte| *byte ^= 0x5a);
    fs::write(&catalog, damaged).unwrap();
    let output = mount(&places, &[]);
    let line = said(&output);
    assert!(output.status.success(), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    let kept = places.state.join("recovered");
    assert!(line.contains("damaged") && line.contains(&*kept.to_string_lossy()), "{line}");
    assert_eq!(fs::read(places.at.join("f")).unwrap(), b"content");
    let kept = fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path());
    let mut kept = kept.filter(|path| path.is_file());
    assert!(kept.any(|path| fs::read(path).is_ok_and(|content| content == b"only here")));
    unmount(&places);
}

#[test]
fn a_remote_that_is_not_there_is_named() {
    let places = Places::new();
    fs::remove_dir(&places.remote).unwrap();
    let line = refused(&places, &[]);
    assert!(line.contains(&places.remote.display().to_string()), "{line}");
}

#[test]
fn a_file_system_that_deceives_is_refused_as_state() {
    // The mount itself is the nearest file system that cannot hold a state.
    let mounted = Mounted::empty();
    let places = Places::new();
    let inside = mounted.path("inside");
    let option = format!("state_dir={}", inside.display());
    let line = refused(&places, &["-o", &option]);
    assert!(line.contains("it lies on a network or FUSE file system (FUSE)"), "{line}");
    assert!(line.contains(&*inside.to_string_lossy()), "{line}");
    assert_eq!(mount(&places, &["-o", &option]).status.code(), Some(1));
}

#[test]
fn mount_8_has_its_own_exit_codes() {
    let places = Places::new();
    let bare = |options: &str| {
        let mut command = dewfs();
        command.args([&places.remote, &places.at]);
        command.arg("-o").arg(format!("state_dir={},{options}", places.state.display()));
        command.stderr(Stdio::null()).status().unwrap().code()
    };
    assert_eq!(bare("nonsense=1"), Some(1));
    assert_eq!(bare("remount"), Some(32));
    fs::write(places.at.join("x"), "").unwrap();
    assert_eq!(bare("rw"), Some(32));
    fs::remove_file(places.at.join("x")).unwrap();
    assert_eq!(bare("rw,_netdev,nofail,x-systemd.automount,user,uhelper=x"), Some(0));
    unmount(&places);
}

#[test]
fn it_needs_neither_home_nor_path() {
    let places = Places::new();
    let output = places.command(&[]).env_clear().output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    unmount(&places);
}

#[test]
fn a_new_mount_takes_over_from_one_that_only_goes_on_sending() {
    let places = Places::new();
    // What is to be sent later than anybody waits keeps the old daemon draining.
    let output = mount(&places, &["-o", "drain=1h,write_back_delay=1h"]);
    assert!(output.status.success(), "{}", said(&output));
    fs::write(places.at.join("f"), "content").unwrap();
    fs::remove_dir_all(&places.remote).unwrap();
    places.detach();
    let start = Instant::now();
    let output = mount(&places, &["-o", "offline_ok"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(start.elapsed() < LIMIT);
    assert_eq!(fs::read(places.at.join("f")).unwrap(), b"content");
    unmount_at_once(&places);
}

/// A daemon between its last item and its end answers nobody: who mounted then was told that the state is in use.
#[test]
fn regression_a_daemon_that_is_about_to_end_is_waited_for() {
    let places = Places::new();
    fs::create_dir_all(&places.state).unwrap();
    let held = fs::File::create(places.state.join("lock")).unwrap();
    held.lock().unwrap();
    writeln!(&held, "{}", std::process::id()).unwrap();
    // It is asked to let go, and ends without an answer.
    let socket = places.state.join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (mountpoint, state_dir) = (places.at.clone(), places.state.clone());
    let note = Note { mountpoint, socket, state_dir, pid: std::process::id() };
    note.write(&places.state.join(Note::IN_STATE), 0o600).unwrap();
    std::thread::scope(|scope| {
        let mounting = scope.spawn(|| mount(&places, &[]));
        eventually("it is asked", || listener.accept().is_ok());
        drop((listener, held));
        let output = mounting.join().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    });
    places.detach();
}

/// Ends a daemon that has something it cannot send.
fn unmount_at_once(places: &Places) {
    places.detach();
    eventually("the daemon to let go", || {
        let lock = fs::File::open(places.state.join("lock"));
        let free = lock.is_err() || lock.is_ok_and(|lock| lock.try_lock().is_ok());
        if !free {
            let sockets = fs::read_dir("/run/dewfs").into_iter().flatten().flatten();
            let ours = sockets.map(|entry| entry.path()).filter(|path| {
                dewfs::control::Note::read(path).is_some_and(|note| note.state_dir == places.state)
            });
            for note in ours.filter_map(|path| dewfs::control::Note::read(&path)) {
                if let Ok(mut daemon) = dewfs::control::Client::connect(&note.socket) {
                    drop(daemon.ask(dewfs::control::Request::Stop, false, |_, _| {}));
                }
            }
        }
        free
    });
}
