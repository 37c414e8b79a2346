//! `dewfs setup` and its way back where no systemd runs, as an ordinary user: by the browser, by a file, and what refuses.

mod sign_in;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::cloud::{CloudServer, LOGIN, Options, PASSWORD, Product};
use crate::support::mount::{dewfs, eventually};
use crate::support::ordinary::{USUAL, goes_on, home};
use dewfs::control::find_daemons;

fn run(words: &[&str]) -> Output {
    dewfs().args(words).output().unwrap()
}

/// Runs it, wants this exit status, and answers what was said.
fn said(status: i32, words: &[&str]) -> String {
    let output = run(words);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    said
}

fn files_below(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let below = |path: &Path| if path.is_dir() { files_below(path) } else { 1 };
    entries.map(|entry| below(&entry.unwrap().path())).sum()
}

#[test]
fn a_cloud_is_set_up_by_its_address_and_the_browser() {
    if !goes_on("setup::a_cloud_is_set_up_by_its_address_and_the_browser", USUAL) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(CloudServer::start(Options::nextcloud()));
    server.put("notes.txt", b"theirs");
    server.make_folder("Photos");
    server.put("Photos/a.jpg", b"a picture");
    let mut setup = dewfs()
        .args(["setup", "Cloud", &server.url(), "--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(setup.stderr.take().unwrap()).lines();
    let link = lines.find(|line| line.as_ref().unwrap().contains("/login/v2/flow/")).unwrap();
    assert!(link.unwrap().contains(&format!("http://127.0.0.1:{}/", server.port)));
    assert!(!home().join("Cloud").exists());
    server.grant();
    assert!(setup.wait().unwrap().success(), "{:?}", lines.collect::<Vec<_>>());

    assert_eq!(fs::read(home().join("Cloud/notes.txt")).unwrap(), b"theirs");
    let secret = home().join(".config/dewfs/secrets/Cloud");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&secret).unwrap();
    assert_eq!(written, format!("username={LOGIN}\npassword={PASSWORD}\n"));
    fs::write(home().join("Cloud/mine.txt"), "mine").unwrap();
    // A folder of it, although the address is that of a page.
    let photos = home().join("Pictures");
    fs::create_dir(&photos).unwrap();
    let state = format!("state_dir={}", home().join("photos-state").display());
    said(0, &["mount", "Cloud:Photos", photos.to_str().unwrap(), "-o", &state]);
    let names: Vec<_> = fs::read_dir(&photos).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["a.jpg"]);
    said(0, &["umount", photos.to_str().unwrap()]);
    fs::remove_dir(photos).unwrap();

    let would = said(0, &["remove", "Cloud", "--dry-run"]);
    assert!(would.contains("would be unmounted") && would.contains("would be deleted"), "{would}");
    assert!(home().join("Cloud/mine.txt").exists() && secret.exists());
    said(0, &["remove", "Cloud"]);
    assert_eq!(server.content("mine.txt"), Some(b"mine".to_vec()), "sent before it went");
    assert!(!home().join("Cloud").exists());
    assert_eq!(files_below(&home().join(".config")) + files_below(&home().join(".local")), 0);
}

#[test]
fn what_is_not_sent_is_not_removed() {
    if !goes_on("setup::what_is_not_sent_is_not_removed", USUAL) {
        return;
    }
    let remote = home().join("nas");
    fs::create_dir(&remote).unwrap();
    fs::write(remote.join("old"), "theirs").unwrap();
    let nas = remote.to_str().unwrap();
    assert!(said(2, &["setup", "no/name", nas, "--yes"]).contains("no/name"));
    assert!(said(1, &["setup", "Nas", "/not/there", "--yes"]).contains("/not/there"));
    assert!(said(2, &["setup", "Nas", nas, "--yes", "-o", "pol=3"]).contains("poll"));
    assert_eq!(files_below(&home().join(".config")), 0, "what was refused left nothing");

    said(0, &["setup", "Nas", nas, "--yes", "-o", "drain=0"]);
    assert!(said(1, &["setup", "Nas", nas, "--yes"]).contains("dewfs remove Nas"));
    let at = home().join("Nas");
    assert_eq!(fs::read_to_string(at.join("old")).unwrap(), "theirs");
    // The remote goes away, and something is written that cannot be sent.
    fs::rename(&remote, home().join("away")).unwrap();
    fs::write(at.join("new"), "mine alone").unwrap();
    let refused = said(3, &["remove", "Nas"]);
    assert!(refused.contains("1 item is not sent") && refused.contains("--export"), "{refused}");
    assert!(said(3, &["remove", "Nas", "-n"]).contains("1 item is not sent"));
    assert_eq!(fs::read_to_string(at.join("new")).unwrap(), "mine alone", "still mounted");
    // Unmounted it is not forgotten either.
    said(3, &["umount", "Nas:", "--no-wait"]);
    eventually("the daemon to let go", || run(&["remove", "Nas"]).status.code() == Some(3));
    said(0, &["mount", "Nas:"]);
    let kept = home().join("kept");
    said(0, &["remove", "Nas", "--export", kept.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(kept.join("new")).unwrap(), "mine alone");
    assert!(!at.exists());
    assert_eq!(files_below(&home().join(".local")), 0);
    assert_eq!(fs::read_to_string(home().join("away/old")).unwrap(), "theirs");

    // Saved without being mounted.
    fs::create_dir(home().join("plain")).unwrap();
    let plain = home().join("plain");
    said(0, &["remote", "add", "Plain", plain.to_str().unwrap(), "-o", "ro"]);
    let listed = said(0, &["remote", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["type"], "saved");
    assert_eq!(listed["mountpoint"], home().join("Plain").to_str().unwrap());
    said(0, &["mount", "Plain:"]);
    assert!(said(1, &["remote", "forget", "Plain"]).contains("dewfs remove Plain"));
    said(0, &["remove", "Plain"]);
    assert_eq!(said(0, &["remote", "list"]), "");

    // And a person may say that it is not worth it.
    fs::rename(home().join("away"), &remote).unwrap();
    said(0, &["setup", "Nas", nas, "--yes", "-o", "drain=0"]);
    assert_eq!(fs::read_to_string(at.join("old")).unwrap(), "theirs");
    fs::rename(&remote, home().join("away")).unwrap();
    fs::write(at.join("worthless"), "x").unwrap();
    said(0, &["remove", "Nas", "--discard"]);
    assert_eq!(files_below(&home().join(".local")), 0);
}

/// Sets up a folder remote as `Nas`, and answers the remote folder and the mountpoint.
fn nas(words: &[&str]) -> (PathBuf, PathBuf) {
    let remote = home().join("nas");
    fs::create_dir(&remote).unwrap();
    let set_up = ["setup", "Nas", remote.to_str().unwrap(), "--yes"];
    said(0, &[&set_up[..], words].concat());
    (remote, home().join("Nas"))
}

/// The state of the only mount there is.
fn only_state() -> PathBuf {
    let states = home().join(".local/state/dewfs");
    let mut found = fs::read_dir(&states).unwrap().map(|entry| entry.unwrap().path());
    found.find(|dir| dir.join("catalog.db").exists()).unwrap()
}

/// S150 "`dewfs remove` takes nothing away that is on this machine only, sent later or never, unless it was copied with
/// `--export` or given up with `--discard`; a catalog that cannot be read counts as such. Other files in a state directory
/// stay."
#[test]
fn other_files_in_the_state_directory_are_not_removed() {
    if !goes_on("setup::other_files_in_the_state_directory_are_not_removed", USUAL) {
        return;
    }
    let state = home().join("disk");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let option = format!("state_dir={}", state.display());
    let (remote, at) = nas(&["-o", &option]);
    fs::write(at.join("sent"), "sent").unwrap();
    fs::create_dir_all(state.join("Videos/data")).unwrap();
    fs::write(state.join("Videos/data/mine"), "mine").unwrap();
    fs::write(state.join("mine.txt"), "mine").unwrap();
    said(0, &["remove", "Nas"]);
    assert_eq!(fs::read_to_string(remote.join("sent")).unwrap(), "sent");
    assert_eq!(fs::read_to_string(state.join("mine.txt")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(state.join("Videos/data/mine")).unwrap(), "mine");
    let mut left: Vec<_> = fs::read_dir(&state).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["Videos", "mine.txt"], "nothing of dewfs's own stays");

    // Nor does anything begin in a directory that is somebody's already.
    let refused = said(1, &["setup", "Nas", remote.to_str().unwrap(), "--yes", "-o", &option]);
    assert!(refused.contains("holds other files"), "{refused}");
}

#[test]
fn a_catalog_that_cannot_be_read_is_not_taken_for_one_that_is_sent() {
    if !goes_on("setup::a_catalog_that_cannot_be_read_is_not_taken_for_one_that_is_sent", USUAL) {
        return;
    }
    let (remote, at) = nas(&["-o", "drain=0"]);
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    fs::rename(&remote, home().join("away")).unwrap();
    fs::write(at.join("new"), "mine alone").unwrap();
    said(3, &["umount", "Nas:", "--no-wait"]);
    eventually("the daemon to let go", || run(&["remove", "Nas"]).status.code() == Some(3));
    let state = only_state();
    let catalog = state.join("catalog.db");
    let good = fs::read(&catalog).unwrap();
    let holds = || files_below(&state.join("data"));
    assert_eq!(holds(), 1);
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    let mut damaged = good.clone();
    damaged[..100].fill(0);
    for bad in [newer, damaged] {
        fs::write(&catalog, bad).unwrap();
        let refused = said(1, &["remove", "Nas"]);
        assert!(refused.contains("cannot be told") && refused.contains("--discard"), "{refused}");
        let refused =
            said(1, &["remove", "Nas", "--export", home().join("kept").to_str().unwrap()]);
        assert!(refused.contains("cannot be told"), "{refused}");
        assert_eq!(holds(), 1, "the only copy");
    }
    said(0, &["remove", "Nas", "--discard"]);
    assert!(!state.exists());
}

#[test]
fn what_is_kept_on_this_machine_only_is_not_removed_unasked() {
    if !goes_on("setup::what_is_kept_on_this_machine_only_is_not_removed_unasked", USUAL) {
        return;
    }
    let (remote, at) = nas(&["-o", "exclude=*.o,exclude=build"]);
    fs::create_dir_all(at.join("project/build/deep")).unwrap();
    fs::write(at.join("project/a.o"), "object").unwrap();
    fs::write(at.join("project/a.c"), "source").unwrap();
    fs::write(at.join("project/build/deep/a"), "binary").unwrap();
    std::os::unix::fs::symlink("a.c", at.join("project/link")).unwrap();
    // Nobody misses these.
    fs::write(at.join("project/.~lock.a.odt#"), "me").unwrap();
    fs::write(at.join("project/empty.o"), "").unwrap();
    said(0, &["sync", at.to_str().unwrap(), "--wait"]);
    assert!(remote.join("project/a.c").exists() && !remote.join("project/a.o").exists());
    let refused = said(3, &["remove", "Nas"]);
    assert!(refused.contains("3 items are kept on this machine only"), "{refused}");
    assert!(refused.contains("project/") && refused.contains("--export"), "{refused}");
    assert_eq!(fs::read_to_string(at.join("project/a.o")).unwrap(), "object", "still mounted");

    // What is copied to where it goes away with the rest is not saved.
    for place in [at.join("kept"), at.clone(), only_state().join("kept")] {
        let refused = said(2, &["remove", "Nas", "--export", place.to_str().unwrap()]);
        assert!(refused.contains("goes away"), "{refused}");
    }
    assert!(!at.join("kept").exists());
    let inside = dewfs().current_dir(&at).args(["remove", "Nas", "--export", "kept"]).output();
    assert_eq!(inside.unwrap().status.code(), Some(2));

    let kept = home().join("kept");
    said(0, &["remove", "Nas", "--export", kept.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(kept.join("project/a.o")).unwrap(), "object");
    assert_eq!(fs::read_to_string(kept.join("project/build/deep/a")).unwrap(), "binary");
    assert_eq!(fs::read_link(kept.join("project/link")).unwrap(), Path::new("a.c"));
    assert!(!kept.join("project/a.c").exists(), "the remote has it");
    assert!(!at.exists());
    assert_eq!(files_below(&home().join(".local")), 0);
}

#[test]
fn what_is_written_while_it_is_exported_is_not_lost() {
    if !goes_on("setup::what_is_written_while_it_is_exported_is_not_lost", USUAL) {
        return;
    }
    let (remote, at) = nas(&["-o", "drain=0"]);
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    fs::rename(&remote, home().join("away")).unwrap();
    // More than a pipe holds: the copy stands still until somebody reads it.
    fs::write(at.join("first"), vec![b'x'; 1 << 20]).unwrap();
    let kept = home().join("kept");
    fs::create_dir(&kept).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, kept.join("first"), 0o600.into()).unwrap();
    let removal = dewfs()
        .args(["remove", "Nas", "--export", kept.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = fs::File::open(kept.join("first")).unwrap();
    fs::write(at.join("second"), "mine alone").unwrap();
    std::io::copy(&mut pipe, &mut std::io::sink()).unwrap();
    let output = removal.wait_with_output().unwrap();
    let refused = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{refused}");
    assert!(refused.contains("1 item changed while it was copied"), "{refused}");
    fs::remove_file(kept.join("first")).unwrap();
    said(0, &["mount", "Nas:"]);
    assert_eq!(fs::read_to_string(at.join("second")).unwrap(), "mine alone");
    said(0, &["remove", "Nas", "--export", kept.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(kept.join("second")).unwrap(), "mine alone");
    assert_eq!(fs::metadata(kept.join("first")).unwrap().len(), 1 << 20);
}

/// The process behind a mount.
fn daemon_of(at: &Path) -> rustix::process::Pid {
    let daemons = find_daemons(rustix::process::geteuid().as_raw());
    let ours = daemons.into_iter().find(|found| found.note.mountpoint == at).unwrap();
    rustix::process::Pid::from_raw(ours.note.pid.try_into().unwrap()).unwrap()
}

#[test]
fn a_daemon_that_is_stuck_hides_no_other_and_holds_nobody_up() {
    if !goes_on("setup::a_daemon_that_is_stuck_hides_no_other_and_holds_nobody_up", USUAL) {
        return;
    }
    let (_remote, at) = nas(&[]);
    for name in ["other", "there"] {
        fs::create_dir(home().join(name)).unwrap();
    }
    let (other, there) = (home().join("other"), home().join("there"));
    said(0, &["mount", other.to_str().unwrap(), there.to_str().unwrap()]);
    let stuck = daemon_of(&at);
    rustix::process::kill_process(stuck, rustix::process::Signal::STOP).unwrap();
    let begun = Instant::now();
    let shown = said(1, &["status"]);
    assert!(shown.contains(there.to_str().unwrap()) && shown.contains("online"), "{shown}");
    assert!(shown.contains("is stuck") && shown.contains("--no-wait"), "{shown}");
    said(1, &["status", "--check"]);
    assert!(said(1, &["umount", at.to_str().unwrap()]).contains("is stuck"));
    let told = said(3, &["umount", "--no-wait", at.to_str().unwrap()]);
    assert!(told.contains("at the next mount"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0, "unmounted");
    rustix::process::kill_process(stuck, rustix::process::Signal::CONT).unwrap();
    said(0, &["status", "--check"]);
    said(0, &["umount", there.to_str().unwrap()]);
    eventually("the daemon to let go", || run(&["remove", "Nas"]).status.success());
}

#[test]
fn a_path_in_a_saved_remote_means_the_same_everywhere() {
    if !goes_on("setup::a_path_in_a_saved_remote_means_the_same_everywhere", USUAL) {
        return;
    }
    let (data, elsewhere) = (home().join("data"), home().join("elsewhere"));
    for dir in [&data, &elsewhere, &home().join("nas")] {
        fs::create_dir(dir).unwrap();
    }
    let nas = home().join("nas");
    let in_dir = |dir: &Path, words: &[&str]| {
        let output = dewfs().current_dir(dir).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    let words = ["setup", "Nas", nas.to_str().unwrap(), "--yes", "-o", "state_dir=./x/../state"];
    in_dir(&data, &words);
    let saved = home().join(".config/dewfs/remotes/Nas.toml");
    let text = fs::read_to_string(&saved).unwrap();
    assert!(text.contains(&format!("\"{}\"", data.join("state").display())), "{text}");
    assert!(data.join("state/catalog.db").exists());
    in_dir(&elsewhere, &["remove", "Nas"]);
    assert!(!data.join("state").exists());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

/// Every start of a read-only mount made and removed a folder at the server, and its listings removed what others had left.
#[test]
fn regression_a_read_only_mount_changes_nothing_there() {
    if !goes_on("setup::regression_a_read_only_mount_changes_nothing_there", USUAL) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(CloudServer::start(Options::nextcloud()));
    server.put("notes.txt", b"theirs");
    server.make_folder(".dewfs-probe-1");
    let secret = home().join("secret");
    fs::write(&secret, format!("username={LOGIN}\npassword={PASSWORD}\n")).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let at = home().join("there");
    fs::create_dir(&at).unwrap();
    let option = format!("ro,credentials={}", secret.display());
    said(0, &["mount", &server.url(), at.to_str().unwrap(), "-o", &option]);
    assert_eq!(fs::read(at.join("notes.txt")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(&at).unwrap().count(), 1);
    said(0, &["umount", at.to_str().unwrap()]);
    let looks = ["PROPFIND", "GET", "HEAD", "OPTIONS", "REPORT"];
    let others = server.asked().into_iter().filter(|one| !looks.contains(&one.method.as_str()));
    assert_eq!(others.map(|one| format!("{one:?}")).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(server.names(""), [".dewfs-probe-1", "notes.txt"]);
}

/// What had the name of something unsent in the directory of `--export` was overwritten without a word.
#[test]
fn regression_an_export_overwrites_nothing() {
    if !goes_on("setup::regression_an_export_overwrites_nothing", USUAL) {
        return;
    }
    let (remote, at) = nas(&["-o", "drain=0"]);
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    fs::rename(&remote, home().join("away")).unwrap();
    fs::create_dir(at.join("papers")).unwrap();
    fs::write(at.join("papers/notes.txt"), "mine").unwrap();
    let to = home().join("kept");
    let export = ["remove", "Nas", "--export", to.to_str().unwrap()];
    fs::create_dir_all(to.join("papers")).unwrap();
    fs::write(to.join("papers/notes.txt"), "another's").unwrap();
    let refused = said(1, &export);
    assert!(refused.contains("kept/papers/notes.txt") && refused.contains("already"), "{refused}");
    assert_eq!(fs::read_to_string(to.join("papers/notes.txt")).unwrap(), "another's");
    // Nor is anything written to where a link points.
    fs::remove_file(to.join("papers/notes.txt")).unwrap();
    fs::write(home().join("elsewhere"), "elsewhere").unwrap();
    std::os::unix::fs::symlink(home().join("elsewhere"), to.join("papers/notes.txt")).unwrap();
    said(1, &export);
    assert_eq!(fs::read_to_string(home().join("elsewhere")).unwrap(), "elsewhere");
    assert_eq!(fs::read_to_string(at.join("papers/notes.txt")).unwrap(), "mine", "still set up");
    // What an earlier try has copied is no other file.
    fs::remove_file(to.join("papers/notes.txt")).unwrap();
    fs::write(to.join("papers/notes.txt"), "mine").unwrap();
    said(0, &export);
    assert_eq!(fs::read_to_string(to.join("papers/notes.txt")).unwrap(), "mine");
}

/// A saved remote with a mistake in its file counted as not there, and was replaced, or removed with its secret.
#[test]
fn regression_a_saved_remote_with_a_mistake_is_not_replaced() {
    if !goes_on("setup::regression_a_saved_remote_with_a_mistake_is_not_replaced", USUAL) {
        return;
    }
    let (saved, secrets) =
        (home().join(".config/dewfs/remotes"), home().join(".config/dewfs/secrets"));
    for dir in [&saved, &secrets, &home().join("nas"), &home().join("taken")] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(home().join("taken/file"), "x").unwrap();
    let nas = home().join("nas");
    let set_up = ["setup", "Nas", nas.to_str().unwrap(), "--yes"];
    for text in ["spec = \"/srv/x\"\n[mount]\ncache_sise = \"20G\"\n", "spec = \n", ""] {
        fs::write(saved.join("Nas.toml"), text).unwrap();
        fs::write(secrets.join("Nas"), "password=old\n").unwrap();
        let refused = said(1, &set_up);
        assert!(refused.contains("Nas.toml"), "{refused}");
        assert_eq!(fs::read_to_string(saved.join("Nas.toml")).unwrap(), text);
        assert_eq!(fs::read_to_string(secrets.join("Nas")).unwrap(), "password=old\n");
        assert!(!home().join("Nas").exists());
    }
    fs::remove_file(saved.join("Nas.toml")).unwrap();
    said(0, &set_up);
    said(0, &["remove", "Nas"]);
}

/// `--mountpoint=~/x`, which no shell writes out, made a folder that is called `~`.
#[test]
fn regression_a_tilde_is_the_home_directory() {
    if !goes_on("setup::regression_a_tilde_is_the_home_directory", USUAL) {
        return;
    }
    let here = home().join("here");
    fs::create_dir(&here).unwrap();
    std::env::set_current_dir(&here).unwrap();
    let (_, own) = nas(&["--mountpoint=~/Files", "-o", "state_dir=~/state"]);
    assert!(home().join("state/catalog.db").exists());
    fs::write(home().join("Files/new"), "new").unwrap();
    assert!(!own.exists() && fs::read_dir(&here).unwrap().next().is_none());
    said(0, &["remove", "Nas"]);
}
