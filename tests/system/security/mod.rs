//! What other users of the machine, and who looks at files, processes and logs, get to know of a mount: nothing.

mod secrets;

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::line::Line;
use crate::support::mount::{Mounted, Places, dewfs, eventually, said};
use crate::support::ordinary;
use crate::support::servers::{Product, Server};
use dewfs::control::{Client, Done, Note, Request, Scope, find_daemons};

/// Nobody has this number.
const STRANGER: u32 = 64_322;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("NOT RUN: becoming another user needs root");
    }
    root
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Everything at and below, that is there at the moment.
fn all(place: &Path) -> Vec<PathBuf> {
    let mut found = vec![place.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.is_dir() && !path.is_symlink() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

/// `dewfs mount` in the background by somebody whose umask hides nothing.
fn mount_openly(places: &Places) {
    let command = places.command(&["-o", "poll=500ms,write_back_delay=10ms"]);
    let mut openly = Command::new("sh");
    openly.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(command.get_program());
    let output = openly.args(command.get_args()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

fn unmount(places: &Places) {
    let output = dewfs().arg("umount").arg(&places.at).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let lock = fs::File::open(places.state.join("lock")).unwrap();
    eventually("the state is let go of", || lock.try_lock().is_ok());
}

fn closed_to_others(state: &Path) {
    for path in all(state) {
        let about = fs::symlink_metadata(&path).unwrap();
        let closed = if about.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), closed, "{}", path.display());
    }
}

/// Work after which every kind of file is in the state directory.
fn work(places: &Places) {
    fs::write(places.at.join("new"), vec![1; 3 << 20]).unwrap();
    fs::read(places.at.join("f")).unwrap();
    fs::write(places.at.join("f"), b"edited").unwrap();
    fs::File::open(places.at.join("f")).unwrap().sync_all().unwrap();
}

/// S46 "The state directory, with all content in it, is open to its owner alone, whatever the umask and whoever made it."
#[test]
fn the_state_is_closed_to_others_whatever_the_umask() {
    let mut places = Places::new();
    fs::write(places.remote.join("f"), vec![2; 100_000]).unwrap();
    // made by somebody else, empty
    fs::set_permissions(&places.state, Permissions::from_mode(0o777)).unwrap();
    mount_openly(&places);
    work(&places);
    closed_to_others(&places.state);
    unmount(&places);
    // opened by somebody since
    for name in ["catalog.db", "log", "lock", "mount.json", ""] {
        let path = places.state.join(name);
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    mount_openly(&places);
    work(&places);
    closed_to_others(&places.state);
    unmount(&places);
    // made by dewfs itself, with what is above it
    places.state = places.state.join("deeper/still");
    mount_openly(&places);
    work(&places);
    closed_to_others(places.state.parent().unwrap());
    unmount(&places);
}

#[test]
fn a_state_directory_that_others_had_a_hand_in_is_refused() {
    if !is_root() {
        return;
    }
    let refused = |places: &Places, because: &str| {
        let output = places.command(&[]).output().unwrap();
        let line = said(&output);
        assert!(!output.status.success() && line.contains(because), "{line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{line}");
        assert!(!places.is_mounted());
    };
    let places = Places::new();
    let log = places.state.join("log");
    std::os::unix::fs::symlink("/etc/motd", &log).unwrap();
    rustix::fs::chownat(
        rustix::fs::CWD,
        &log,
        Some(rustix::fs::Uid::from_raw(STRANGER)),
        None,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    fs::write(places.state.join("catalog.db"), "").unwrap();
    refused(&places, "belongs to user 64322");
    let places = Places::new();
    chown(&places.state, Some(STRANGER), None).unwrap();
    refused(&places, "belongs to user 64322");
    let places = Places::new();
    fs::write(places.state.join("letters"), "").unwrap();
    fs::set_permissions(&places.state, Permissions::from_mode(0o755)).unwrap();
    refused(&places, "open to others");
    assert_eq!(mode(&places.state), 0o755);
}

fn socket_of(mount: &Mounted) -> PathBuf {
    let daemons = find_daemons(rustix::process::geteuid().as_raw());
    let ours = daemons.into_iter().find(|found| found.note.mountpoint == mount.places.at);
    ours.expect("a note of the mount").note.socket
}

/// Asks the socket as another user: the documents as they came, and the end.
fn ask_as(uid: u32, socket: &Path, request: Request) -> Result<(Vec<String>, Done), String> {
    ask_with(uid, socket, request, false)
}

/// The same, with the progress of transfers.
fn ask_with(
    uid: u32,
    socket: &Path,
    request: Request,
    progress: bool,
) -> Result<(Vec<String>, Done), String> {
    let socket = socket.to_owned();
    let asking = move || {
        let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(uid));
        // only of this thread; the other threads stay who they are, with root's groups
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let mut client = Client::connect(&socket).map_err(|error| error.to_string())?;
        let mut lines = Vec::new();
        let done = client.ask(request, progress, |_, line| lines.push(line.to_owned()));
        done.map(|done| (lines, done)).map_err(|error| error.to_string())
    };
    std::thread::spawn(asking).join().unwrap()
}

fn every_request(path: &[u8]) -> Vec<Request> {
    let scope = || Scope::of(path);
    vec![
        Request::Status,
        Request::Item { scope: scope() },
        Request::List { scope: scope(), recursive: false, fetch: false },
        Request::List { scope: scope(), recursive: true, fetch: false },
        Request::List { scope: scope(), recursive: false, fetch: true },
        Request::Pending { scope: scope() },
        Request::Watch { scope: scope() },
        Request::Sync { scope: scope(), wait: false, timeout_ms: None },
        Request::Wait { scope: scope(), timeout_ms: Some(1) },
        Request::Hydrate { paths: vec![scope()] },
        Request::Free { paths: vec![scope()], dry_run: true },
        Request::Pin { paths: vec![scope()], wait: false },
        Request::Unpin { paths: vec![scope()] },
        Request::Why { scope: scope() },
        Request::Held,
        Request::Release { dry_run: true },
        Request::Undo { dry_run: true },
        Request::Conflicts,
        Request::AcceptRemote,
        Request::CacheStat,
        Request::CacheVerify,
        Request::CacheClear { dry_run: true },
        Request::Drain { timeout_ms: Some(0) },
        Request::Stop,
    ]
}

/// A folder for all, and one for its owner; a file of each kind in both.
fn fill(remote: &Path) {
    for (folder, bits) in [("open", 0o755), ("closed", 0o700)] {
        fs::create_dir(remote.join(folder)).unwrap();
        for (name, bits) in [("for-all", 0o644), ("private", 0o600)] {
            let path = remote.join(folder).join(name);
            fs::write(&path, "content").unwrap();
            fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
        }
        fs::set_permissions(remote.join(folder), Permissions::from_mode(bits)).unwrap();
    }
}

fn known(mount: &Mounted) {
    for folder in ["", "open", "closed"] {
        fs::read_dir(mount.path(folder)).unwrap().for_each(drop);
    }
    for (path, bits) in [("closed", 0o700), ("open/private", 0o600), ("closed/private", 0o600)] {
        fs::set_permissions(mount.path(path), Permissions::from_mode(bits)).unwrap();
    }
}

/// S47 "Nobody but its owner, the user of `uid=` and root learns of a mount's names, sizes and state, or may ask it for
/// anything; with `allow_other`, others get the state of what the kernel lets them see."
#[test]
fn a_mount_tells_strangers_nothing() {
    if !is_root() {
        return;
    }
    let mount = Mounted::with(&["-o", "noallow_other"], fill);
    known(&mount);
    let socket = socket_of(&mount);
    for path in [&b""[..], b"open", b"open/for-all", b"nothing", b"closed/private"] {
        for request in every_request(path) {
            let shown = format!("{request:?}");
            let (lines, done) = ask_as(STRANGER, &socket, request).unwrap();
            assert_eq!(lines, Vec::<String>::new(), "{shown}");
            assert_eq!(done.message.as_deref(), Some("permission denied: not your mount"));
        }
    }
    assert!(mount.places.is_mounted());
}

#[test]
fn others_who_are_let_in_learn_what_they_could_see() {
    if !is_root() {
        return;
    }
    let mount = Mounted::with(&["-o", "allow_other,dir_mode=0755,file_mode=0644"], fill);
    known(&mount);
    let way = mount.places.at.ancestors().collect::<Vec<_>>();
    assert!(way.len() > 2);
    let socket = socket_of(&mount);
    let may = |path: &str, list: bool| {
        let scope = Scope::of(path.as_bytes());
        let request = match list {
            true => Request::List { scope, recursive: false, fetch: false },
            false => Request::Item { scope },
        };
        let (lines, done) = ask_as(STRANGER, &socket, request).unwrap();
        assert_eq!(lines.is_empty(), done.exit != 0, "{lines:?} {done:?}");
        done.exit == 0
    };
    // as stat(2) and readdir(3) would
    for path in ["", "open", "open/for-all", "open/private", "closed"] {
        assert!(may(path, false), "{path:?} itself");
    }
    for path in ["closed/for-all", "closed/private", "closed/nothing", "nothing"] {
        assert!(!may(path, false), "{path:?} itself");
    }
    assert!(may("", true) && may("open", true) && !may("closed", true));
    for path in [&b""[..], b"open/for-all"] {
        let all = every_request(path).into_iter();
        let other = all.filter(|request| match request {
            Request::Status | Request::Item { .. } => false,
            Request::List { recursive, fetch, .. } => *recursive || *fetch,
            _ => true,
        });
        for request in other {
            let shown = format!("{request:?}");
            let (lines, done) = ask_as(STRANGER, &socket, request).unwrap();
            assert!(lines.is_empty() && done.exit == 1, "{shown}: {done:?}");
        }
    }
}

/// Whoever asked for progress heard the names of all that was in transfer, also of what lies in closed folders.
#[test]
fn regression_transfers_are_not_told_to_others() {
    if !is_root() {
        return;
    }
    let server = Server::start(Product::Rclone);
    let line = Line::to(server.port);
    let mount = Mounted::url(&line.url(), server.root(), &["-o", "allow_other"]);
    fs::create_dir(mount.path("closed")).unwrap();
    fs::set_permissions(mount.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    eventually("the folder to arrive", || server.root().join("closed").exists());
    line.set_rate(20_000);
    fs::write(mount.path("closed/letter"), vec![7; 3 << 20]).unwrap();
    let socket = socket_of(&mount);
    let told = |uid: u32| ask_with(uid, &socket, Request::Status, true).unwrap().0.concat();
    eventually("root to hear of the transfer", || told(0).contains("closed/letter"));
    // Between two tries nothing is in transfer: only what is asked between two that heard of it counts.
    for _ in 0..5 {
        let told_to_others = told(STRANGER);
        assert!(told_to_others.contains("\"mount\""), "{told_to_others}");
        assert!(!told_to_others.contains("letter"), "{told_to_others}");
        eventually("root to hear of it again", || told(0).contains("closed/letter"));
    }
}

/// A user's note said that root's daemon of another mount serves his, and root's commands about the one were done to the other.
#[test]
fn regression_the_note_of_another_user_leads_root_nowhere() {
    if !is_root() {
        return;
    }
    let mount = Mounted::with(&[], fill);
    let his = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = format!(
        "exec 9<>/dev/fuse; mount -i -t fuse.dewfs -o fd=9,rootmode=40000,user_id={STRANGER},group_id=0 none \"$1\""
    );
    let mounted = Command::new("sh").args(["-euc", &script, "sh"]).arg(his.path()).status();
    assert!(mounted.unwrap().success());
    let runtime = PathBuf::from(format!("/run/user/{STRANGER}"));
    fs::create_dir_all(runtime.join("dewfs")).unwrap();
    std::os::unix::fs::chown(&runtime, Some(STRANGER), None).unwrap();
    let note = Note {
        mountpoint: his.path().to_owned(),
        socket: socket_of(&mount),
        state_dir: mount.places.state.clone(),
        pid: mount.pid(),
    };
    note.write(&runtime.join("dewfs/x.json"), 0o600).unwrap();
    let output = dewfs().args(["status", "--json"]).arg(his.path()).output().unwrap();
    let paused = dewfs().arg("pause").arg(his.path()).output().unwrap();
    fs::remove_dir_all(&runtime).unwrap();
    assert!(Command::new("umount").arg("-l").arg(his.path()).status().unwrap().success());
    let told = said(&output);
    assert!(told.contains("does not answer") && output.stdout.is_empty(), "{told}");
    assert_eq!((output.status.code(), paused.status.code()), (Some(1), Some(1)), "{told}");
    let (lines, _) = ask_as(0, &socket_of(&mount), Request::Status).unwrap();
    assert!(lines.concat().contains("\"state\":\"online\""), "{lines:?}");
}

/// A mistake that is told in `status` names a file: not to others.
#[test]
fn what_went_wrong_last_is_not_told_to_others() {
    if !is_root() {
        return;
    }
    // lists no names that begin with a dot, so they cannot be sent
    let server = Server::start(Product::Nginx);
    let mount = Mounted::url(&server.url(), server.root(), &["-o", "allow_other"]);
    fs::write(mount.path(".private"), "stays here").unwrap();
    let last_error = |uid: u32| {
        let (lines, _) = ask_as(uid, &socket_of(&mount), Request::Status).unwrap();
        serde_json::from_str::<serde_json::Value>(&lines[0]).unwrap()["last_error"].clone()
    };
    eventually("an error", || {
        last_error(0)["path"].as_str().is_some_and(|p| p.contains(".private"))
    });
    assert!(last_error(STRANGER).is_null(), "{}", last_error(STRANGER));
}

/// Many strangers who say nothing do not keep the owner out, and one who never ends a line is sent away.
#[test]
fn strangers_do_not_crowd_the_socket() {
    use std::io::{Read as _, Write as _};
    if !is_root() {
        return;
    }
    let mount = Mounted::with(&["-o", "allow_other"], fill);
    let socket = socket_of(&mount);
    let there = socket.clone();
    let crowd = std::thread::spawn(move || {
        let stranger = rustix::process::Uid::from_raw(STRANGER);
        rustix::thread::set_thread_res_uid(stranger, stranger, stranger).unwrap();
        let connect = || std::os::unix::net::UnixStream::connect(&there).unwrap();
        let mut talker = connect();
        let silent: Vec<_> = (0..200).map(|_| connect()).collect();
        // what is refused is refused by a broken pipe or by an end
        let said = talker.write_all(&vec![b'x'; 1 << 20]);
        let end = talker.read_to_end(&mut Vec::new());
        assert!(said.is_err() || end.is_ok(), "{said:?} {end:?}");
        silent
    });
    let silent = crowd.join().unwrap();
    eventually("most are sent away", || {
        let gone = silent.iter().filter(|one| {
            one.set_nonblocking(true).unwrap();
            let mut one = *one;
            matches!(one.read(&mut [0; 1]), Ok(0))
        });
        gone.count() >= 100
    });
    let output = dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    drop(silent);
}

/// What nobody may dump belongs to root in `/proc`, whoever runs it.
#[test]
fn no_core_dump_is_written_and_no_debugger_let_in() {
    if !ordinary::goes_on(
        "security::no_core_dump_is_written_and_no_debugger_let_in",
        ordinary::USUAL,
    ) {
        return;
    }
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), "x").unwrap());
    let daemons = find_daemons(rustix::process::geteuid().as_raw());
    let pid =
        daemons.into_iter().find(|one| one.note.mountpoint == mount.places.at).unwrap().note.pid;
    let about = |pid: &str, file: &str| fs::metadata(format!("/proc/{pid}/{file}")).unwrap().uid();
    assert_eq!(about("self", "environ"), rustix::process::geteuid().as_raw(), "this test can fail");
    assert_eq!(about(&pid.to_string(), "environ"), 0);
    for file in ["environ", "mem", "maps"] {
        let opened = fs::File::open(format!("/proc/{pid}/{file}"));
        assert!(opened.is_err(), "{file} can be read");
    }
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
}

#[test]
fn the_socket_and_what_tells_of_it_are_the_owners() {
    let mount = Mounted::of(fill);
    let socket = socket_of(&mount);
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    let note = socket.with_extension("json");
    let root = rustix::process::geteuid().is_root();
    assert_eq!(mode(&socket), if root { 0o666 } else { 0o600 });
    assert_eq!(mode(&note), if root { 0o644 } else { 0o600 });
    let dir = socket.parent().unwrap();
    assert_eq!(mode(dir), if root { 0o755 } else { 0o700 });
    assert_eq!(fs::metadata(dir).unwrap().uid(), rustix::process::geteuid().as_raw());
}
