//! Mounts of an ordinary user, through fusermount3.

mod theirs;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use crate::support::mount::{self, Mounted, Places, bytes, dewfs, errno, eventually, said};
use crate::support::ordinary::{Machine, USUAL, goes_on, home};

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn fusermount(places: &Places) -> Output {
    Command::new("fusermount3").arg("-u").arg(&places.at).output().unwrap()
}

fn ask(words: &[&str], path: &Path) -> Output {
    dewfs().args(words).arg(path).output().unwrap()
}

/// The daemon of a mount in the background has let go of its state.
fn let_go(state: &Path) {
    eventually("the daemon to let go", || {
        let lock = fs::File::open(state.join("lock"));
        lock.is_err() || lock.is_ok_and(|lock| lock.try_lock().is_ok())
    });
}

#[test]
fn a_user_lists_reads_and_writes() {
    if !goes_on("ordinary_user::a_user_lists_reads_and_writes", USUAL) {
        return;
    }
    let content = bytes(3 << 20, 1);
    let mount = Mounted::of(|remote| {
        fs::create_dir(remote.join("folder")).unwrap();
        fs::write(remote.join("folder/f"), &content).unwrap();
    });
    let shown = dewfs::fuse::mountinfo::at(&mount.places.at).unwrap().unwrap();
    assert_eq!((shown.kind.as_str(), shown.owner), ("fuse.dewfs", Some(me())));
    assert_eq!(mount::names(&mount.places.at), ["folder"]);
    assert_eq!(fs::read(mount.path("folder/f")).unwrap(), content);
    assert_eq!(fs::metadata(mount.path("folder/f")).unwrap().uid(), me());

    fs::write(mount.path("folder/new"), &content).unwrap();
    mount.arrives("folder/new", &content);
    fs::write(mount.path("folder/f"), "edited").unwrap();
    mount.arrives("folder/f", b"edited");
    fs::rename(mount.path("folder/f"), mount.path("g")).unwrap();
    fs::remove_file(mount.path("folder/new")).unwrap();
    mount.arrives("g", b"edited");
    eventually("the removal", || !mount.remote("folder/new").exists());
    // What only root may do stays so.
    let given = std::os::unix::fs::chown(mount.path("g"), Some(0), None);
    assert_eq!(errno(given), libc::EPERM);
    let output = ask(&["status", "--short"], &mount.path("g"));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "in-sync", "{}", said(&output));
}

#[test]
fn a_user_unmounts_by_either_command() {
    if !goes_on("ordinary_user::a_user_unmounts_by_either_command", USUAL) {
        return;
    }
    let places = Places::new();
    for turn in ["first", "second"] {
        let output = places.command(&["-o", "write_back_delay=200ms"]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        fs::write(places.at.join(turn), turn).unwrap();
        let output = match turn {
            "first" => ask(&["umount"], &places.at),
            _ => fusermount(&places),
        };
        assert!(output.status.success(), "{turn}: {}", said(&output));
        assert!(!places.is_mounted());
        let_go(&places.state);
        assert_eq!(fs::read(places.remote.join(turn)).unwrap(), turn.as_bytes());
    }
}

#[test]
fn a_busy_mount_of_a_user_stays() {
    if !goes_on("ordinary_user::a_busy_mount_of_a_user_stays", USUAL) {
        return;
    }
    let mount = Mounted::empty();
    let file = fs::File::create(mount.path("f")).unwrap();
    let output = ask(&["umount", "--timeout", "1s"], &mount.places.at);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("in use by"), "{}", said(&output));
    assert!(mount.places.is_mounted());
    drop(file);
    mount.arrives("f", b"");
}

#[test]
fn a_killed_daemon_of_a_user_is_cleared_by_the_next_mount() {
    if !goes_on("ordinary_user::a_killed_daemon_of_a_user_is_cleared_by_the_next_mount", USUAL) {
        return;
    }
    let mut mount = Mounted::with(&["-o", "write_back_delay=1h"], |_| {});
    fs::write(mount.path("f"), "closed").unwrap();
    mount.kill();
    assert_eq!(errno(fs::read_dir(&mount.places.at)), libc::ENOTCONN);
    mount.options_replaced(&[]);
    mount.mount();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"closed");
    mount.arrives("f", b"closed");
    assert!(ask(&["sync", "--wait"], &mount.places.at).status.success(), "it is known to be there");
    mount.kill();
    let output = ask(&["umount"], &mount.places.at);
    assert!(output.status.success() && said(&output).contains("the daemon was gone"));
    assert!(!mount.places.is_mounted());
}

#[test]
fn others_are_let_in_only_where_the_machine_says_so() {
    if !goes_on("ordinary_user::others_are_let_in_only_where_the_machine_says_so", USUAL) {
        return;
    }
    let places = Places::new();
    for option in ["allow_other", "allow_root"] {
        let output = places.command(&["-o", option]).output().unwrap();
        let line = said(&output);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{line}");
        assert!(line.contains("user_allow_other") && line.contains("/etc/fuse.conf"), "{line}");
        assert!(!places.is_mounted());
    }
    let_go(&places.state);
    assert!(places.command(&[]).output().unwrap().status.success(), "it is not in the way");
    assert!(fusermount(&places).status.success());
    let_go(&places.state);
}

#[test]
fn others_are_let_in_where_the_machine_says_so() {
    let open = Machine { fuse_conf: "user_allow_other", ..USUAL };
    if !goes_on("ordinary_user::others_are_let_in_where_the_machine_says_so", open) {
        return;
    }
    let mount = Mounted::with(&["-o", "allow_other"], |remote| {
        fs::write(remote.join("f"), "x").unwrap();
    });
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = mount.places.at.to_string_lossy().into_owned();
    let line = info.lines().find(|line| line.contains(&at)).unwrap();
    assert!(line.contains("allow_other") && line.contains("default_permissions"), "{line}");
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
}

/// The folder that keeps others out lets in who mounted it.
#[test]
fn who_mounts_for_himself_and_root_can_use_it() {
    let open = Machine { fuse_conf: "user_allow_other", ..USUAL };
    if !goes_on("ordinary_user::who_mounts_for_himself_and_root_can_use_it", open) {
        return;
    }
    let mount = Mounted::with(&["-o", "allow_root"], |remote| {
        fs::write(remote.join("f"), "x").unwrap();
    });
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
    fs::write(mount.path("g"), "y").unwrap();
    mount.arrives("g", b"y");
    assert_eq!(fs::metadata(&mount.places.at).unwrap().mode() & 0o7777, 0o700);
}

/// The state in the usual place, that nobody else can look into.
fn the_state_is_the_users_own() {
    let remote = Places::new();
    fs::write(remote.remote.join("f"), "x").unwrap();
    let mut command = dewfs();
    let output = command.arg("mount").arg(&remote.remote).arg(&remote.at).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let base = home().join(".local/state/dewfs");
    let state = fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().path());
    let state = state.filter(|path| path.join("catalog.db").exists()).collect::<Vec<_>>();
    let [state] = state.as_slice() else { panic!("{state:?}") };
    let about = fs::metadata(state).unwrap();
    assert_eq!((about.permissions().mode() & 0o7777, about.uid()), (0o700, me()));

    assert_eq!(fs::read(remote.at.join("f")).unwrap(), b"x");
    let output = ask(&["status", "--json"], &remote.at);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"state\":\"online\""));
    let output = ask(&["umount"], &remote.at);
    assert!(output.status.success(), "{}", said(&output));
    let_go(state);
}

#[test]
fn state_and_socket_are_in_the_users_own_places() {
    if goes_on("ordinary_user::state_and_socket_are_in_the_users_own_places", USUAL) {
        the_state_is_the_users_own();
    }
}

#[test]
fn a_user_without_a_session_has_them_at_home() {
    let bare = Machine { runtime_dir: false, ..USUAL };
    if goes_on("ordinary_user::a_user_without_a_session_has_them_at_home", bare) {
        the_state_is_the_users_own();
    }
}

#[test]
fn places_of_others_are_refused_by_name() {
    if !goes_on("ordinary_user::places_of_others_are_refused_by_name", USUAL) {
        return;
    }
    let places = Places::new();
    let mut command = dewfs();
    command.arg("mount").arg(&places.remote).arg("/usr").args(["-o", "nonempty"]);
    command.arg("-o").arg(format!("state_dir={}", places.state.display()));
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let line = said(&output);
    assert!(line.contains("/usr") && line.trim_end().lines().count() == 1, "{line}");

    let mut command = dewfs();
    command.arg("mount").arg(&places.remote).arg(&places.at).args(["-o", "state_dir=/usr/dewfs"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let line = said(&output);
    assert!(line.contains("/usr/dewfs") && line.trim_end().lines().count() == 1, "{line}");
    assert!(!places.is_mounted());
}

/// mount(8) lets go of root before it runs the helper of a line with `user`.
#[test]
fn the_manner_of_mount_works_for_a_user() {
    if !goes_on("ordinary_user::the_manner_of_mount_works_for_a_user", USUAL) {
        return;
    }
    let places = Places::new();
    fs::write(places.remote.join("f"), "x").unwrap();
    let mut command = dewfs();
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("DEWFS_TEST") || name.starts_with("LD_")
    }));
    command.arg(&places.remote).arg(&places.at);
    command.args(["-o", "rw,noexec,nosuid,nodev,user"]);
    command.arg("-o").arg(format!("state_dir={}", places.state.display()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read(places.at.join("f")).unwrap(), b"x");
    assert!(fusermount(&places).status.success());
    let_go(&places.state);
}

/// The demonstration, in a clone of the user; `path` is where programs are found.
fn demo(path: &Path) -> (Output, tempfile::TempDir) {
    let files = std::env::var_os("DEWFS_TEST_FILES").unwrap_or(env!("CARGO_TARGET_TMPDIR").into());
    let clone = tempfile::tempdir_in(&files).unwrap();
    fs::create_dir(clone.path().join("scripts")).unwrap();
    fs::create_dir(clone.path().join("places")).unwrap();
    let script = clone.path().join("scripts/demo");
    fs::write(&script, include_str!("../../../scripts/demo")).unwrap();
    // It is built already; what is shown is that build.
    fs::create_dir_all(clone.path().join("target/release")).unwrap();
    fs::copy(dewfs().get_program(), clone.path().join("target/release/dewfs")).unwrap();
    let mut command = Command::new("/bin/bash");
    command.arg(script).env("PATH", path).env("TMPDIR", clone.path().join("places"));
    command.env_remove("CARGO_TARGET_DIR").env("CARGO_HOME", clone.path().join("none"));
    (command.output().unwrap(), clone)
}

/// A directory of programs with just these.
fn only(programs: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for program in programs {
        let found = ["/usr/bin", "/bin"].map(|at| Path::new(at).join(program));
        let found = found.into_iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, dir.path().join(program)).unwrap();
    }
    dir
}

#[test]
fn the_demonstration_tells_a_user_what_to_install() {
    if !goes_on("ordinary_user::the_demonstration_tells_a_user_what_to_install", USUAL) {
        return;
    }
    let bare = only(&["id", "dirname"]);
    let (output, clone) = demo(bare.path());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = said(&output);
    let sudo: Vec<&str> = told.lines().filter(|line| line.contains("sudo")).collect();
    let [line] = sudo.as_slice() else { panic!("one line: {told}") };
    assert!(line.contains("apt-get install -y") && line.contains("gcc libc6-dev"), "{told}");
    assert!(mount::names(&clone.path().join("places")).is_empty());
}

#[test]
fn the_demonstration_runs_for_a_user() {
    if !goes_on("ordinary_user::the_demonstration_runs_for_a_user", USUAL) {
        return;
    }
    let with_cargo = tempfile::tempdir().unwrap();
    for program in ["cargo", "cc"] {
        std::os::unix::fs::symlink("/bin/true", with_cargo.path().join(program)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", with_cargo.path().display());
    let (output, clone) = demo(Path::new(&path));
    let told = [output.stdout.clone(), output.stderr.clone()].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success() && told.contains("All as told."), "{told}");
    assert!(mount::names(&clone.path().join("places")).is_empty());
}

/// What programs saved into the folder below while the mount was away kept it from ever being mounted again, and would have
/// been buried by it.
///
/// S160 "The own place of an ordinary user's saved remote, in a folder of his own, is closed to writing while nothing is mounted
/// there, and what was saved there all the same is moved to a folder beside it, and told."
#[test]
fn regression_what_is_saved_below_a_saved_remote_neither_stops_it_nor_is_lost() {
    let name =
        "ordinary_user::regression_what_is_saved_below_a_saved_remote_neither_stops_it_nor_is_lost";
    if !goes_on(name, USUAL) {
        return;
    }
    let ran = |words: &[&str]| {
        let output = dewfs().args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    };
    let (remote, at) = (home().join("nas"), home().join("Nas"));
    fs::create_dir(&remote).unwrap();
    fs::write(remote.join("theirs"), "theirs").unwrap();
    ran(&["setup", "Nas", remote.to_str().unwrap(), "--yes"]);
    fs::write(at.join("mine"), "mine").unwrap();
    ran(&["umount", "Nas:"]);
    // Who saves by path is told, instead of being lost.
    assert_eq!(errno(fs::write(at.join("stray"), "stray")), libc::EACCES);
    assert_eq!(ran(&["mount", "Nas:"]), "");
    assert_eq!(fs::read(at.join("mine")).unwrap(), b"mine");
    fs::write(at.join("again"), "again").unwrap();
    ran(&["umount", "Nas:"]);

    // It was there before the folder was closed, or somebody opened it.
    fs::set_permissions(&at, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(at.join("sub")).unwrap();
    fs::write(at.join("sub/mine"), "saved meanwhile").unwrap();
    fs::write(at.join("mine"), "saved meanwhile").unwrap();
    let told = ran(&["mount", "Nas:"]);
    let beside = fs::read_dir(home()).unwrap().map(|entry| entry.unwrap().path());
    let aside = |path: &Path| path.to_string_lossy().contains("Nas (saved while unmounted ");
    let aside = beside.into_iter().find(|path| aside(path)).unwrap();
    assert!(told.contains(aside.to_str().unwrap()), "{told}");
    for kept in ["mine", "sub/mine"] {
        assert_eq!(fs::read(aside.join(kept)).unwrap(), b"saved meanwhile");
    }
    assert_eq!(fs::read(at.join("mine")).unwrap(), b"mine");
    assert!(!at.join("sub").exists());
    ran(&["umount", "Nas:"]);
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    assert_eq!(errno(fs::write(at.join("stray"), "stray")), libc::EACCES);
    ran(&["remove", "Nas"]);
    assert!(!at.exists() && aside.join("sub/mine").exists());
}

/// What was saved in the moment in which fusermount3 needs the folder open was left below the mount: the folder was closed by then,
/// and nothing can be moved out of one that is.
#[test]
fn regression_what_is_in_a_closed_folder_is_moved_out_of_it() {
    if !goes_on("ordinary_user::regression_what_is_in_a_closed_folder_is_moved_out_of_it", USUAL) {
        return;
    }
    let place = home().join("Cloud");
    fs::create_dir(&place).unwrap();
    let bare = dewfs::fuse::Bare::at(&place).unwrap();
    fs::write(place.join("quick"), "saved").unwrap();
    bare.close();
    let (aside, failed) = bare.set_aside().unwrap();
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(fs::read(aside.unwrap().join("quick")).unwrap(), b"saved");
    assert_eq!(errno(fs::write(place.join("stray"), "stray")), libc::EACCES);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

/// Of several mounts `status --watch` showed the first, and `--wait --timeout` took its time for each.
#[test]
fn regression_status_watches_and_waits_for_all_mounts_at_once() {
    if !goes_on("ordinary_user::regression_status_watches_and_waits_for_all_mounts_at_once", USUAL)
    {
        return;
    }
    use std::io::{BufRead as _, BufReader};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};
    let mounts = [(); 2].map(|()| Mounted::with(&["-o", "write_back_delay=1h"], |_| {}));
    mounts.iter().for_each(|mount| fs::write(mount.path("f"), "pending").unwrap());
    std::env::set_current_dir(home()).unwrap();
    let begun = Instant::now();
    let output = dewfs().args(["status", "--wait", "--timeout", "6s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());

    let mut watch = dewfs();
    watch.args(["status", "--watch", "--json"]).stdout(std::process::Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let seen = Arc::new(Mutex::new(String::new()));
    let all = Arc::clone(&seen);
    let reader = std::thread::spawn(move || {
        lines.map_while(Result::ok).for_each(|line| all.lock().unwrap().push_str(&line));
    });
    let shows = |mount: &Mounted| {
        seen.lock().unwrap().contains(&format!("\"mountpoint\":\"{}\"", mount.places.at.display()))
    };
    eventually("both to be shown", || mounts.iter().all(shows));
    watch.kill().unwrap();
    watch.wait().unwrap();
    reader.join().unwrap();
}

/// Outside of a mount `sync` knew none, and `status --wait` was content with a state that is not mounted and not sent.
#[test]
fn regression_to_be_sure_that_all_is_sent_one_need_not_stand_in_a_mount() {
    let name =
        "ordinary_user::regression_to_be_sure_that_all_is_sent_one_need_not_stand_in_a_mount";
    if !goes_on(name, USUAL) {
        return;
    }
    std::env::set_current_dir(home()).unwrap();
    let ran = |status: i32, words: &[&str]| {
        let output = dewfs().args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", said(&output));
        [String::from_utf8_lossy(&output.stdout).into_owned(), said(&output)].concat()
    };
    assert!(ran(1, &["sync", "--wait"]).contains("nothing of yours is mounted"));
    let mut mounts = [(); 2].map(|()| Mounted::with(&["-o", "write_back_delay=1h"], |_| {}));
    mounts.iter().for_each(|mount| fs::write(mount.path("f"), "pending").unwrap());
    ran(2, &["sync", "--accept-remote"]);
    assert_eq!(ran(0, &["sync", "--wait"]).matches("in sync").count(), 2);
    mounts.iter().for_each(|mount| assert_eq!(fs::read(mount.remote("f")).unwrap(), b"pending"));
    ran(0, &["status", "--wait"]);

    fs::write(mounts[0].path("f"), "again").unwrap();
    mounts[0].kill();
    assert!(ask(&["umount"], &mounts[0].places.at).status.code() == Some(3));
    ran(3, &["status", "--wait"]);
    mounts[0].options_replaced(&[]);
    mounts[0].mount();
    mounts[0].arrives("f", b"again");
}
