//! Secrets are nowhere but where they belong.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use dewfs::control::find_daemons;

use super::all;
use crate::support::mount::{Mounted, Places, dewfs, eventually, said};
use crate::support::servers::Server;

/// Whether the password, or what is sent in its place, is in these bytes.
fn gives_away(bytes: &[u8]) -> bool {
    let encoded = base64::engine::general_purpose::STANDARD.encode("alice:hunter2-secret");
    let has = |what: &str| bytes.windows(what.len()).any(|window| window == what.as_bytes());
    has("hunter2-secret") || has(&encoded) || has(encoded.trim_end_matches('='))
}

/// S48 "Secrets are in no log (also with `log=trace`), argument, environment, status, state or core dump."
#[test]
fn a_password_is_nowhere_to_be_seen() {
    let server = Server::start_guarded("alice", "hunter2-secret");
    server.put("f", b"content");
    let mut places = Places::new();
    let credentials = places.state.with_file_name("credentials");
    fs::write(&credentials, "username=alice\npassword=hunter2-secret\n").unwrap();
    fs::set_permissions(&credentials, Permissions::from_mode(0o600)).unwrap();
    places.spec = server.url().into();
    places.remote = server.root().to_owned();
    let options = format!(
        "log=trace,timeout=1s,ca_file={},credentials={}",
        server.ca_file().display(),
        credentials.display()
    );
    let mount = Mounted::at(places, &["-o", &options]);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"content");
    fs::write(mount.path("new"), b"new").unwrap();
    mount.arrives("new", b"new");
    // refused, and still written down nowhere
    server.set_password("alice", "another");
    fs::write(mount.path("waits"), b"waits").unwrap();
    eventually("a sign-in is needed", || mount.log().contains("Unauthenticated"));
    let ask = |words: &[&str]| {
        let output = dewfs().args(words).arg(&mount.places.at).output().unwrap();
        [output.stdout, output.stderr].concat()
    };
    for words in [&["status", "--json"][..], &["status", "--pending"], &["why"], &["ls", "-R"]] {
        assert!(!gives_away(&ask(words)), "{words:?}");
    }
    server.set_password("alice", "hunter2-secret");
    mount.arrives("waits", b"waits");
    let log = mount.log();
    assert!(log.contains("TRACE"), "nothing was traced");
    assert!(!gives_away(log.as_bytes()), "the log");
    for path in all(&mount.places.state).into_iter().filter(|path| path.is_file()) {
        assert!(!gives_away(&fs::read(&path).unwrap_or_default()), "{}", path.display());
    }
    let pid = find_daemons(rustix::process::geteuid().as_raw())
        .into_iter()
        .find(|found| found.note.mountpoint == mount.places.at)
        .unwrap()
        .note
        .pid;
    let process = PathBuf::from(format!("/proc/{pid}"));
    for file in ["cmdline", "environ", "status", "mountinfo"] {
        // what cannot be read by its own user is not seen by others either
        assert!(!gives_away(&fs::read(process.join(file)).unwrap_or_default()), "{file}");
    }
    assert!(gives_away(&fs::read(&credentials).unwrap()), "this test can fail");
}

#[test]
fn a_password_in_an_option_is_refused_and_not_repeated() {
    let places = Places::new();
    for option in [
        "proxy=http://me:hunter2-secret@proxy:3128",
        "proxy=me:hunter2-secret@proxy:3128",
        "password=hunter2-secret",
        "pass=hunter2-secret",
        "token=hunter2-secret",
    ] {
        let output = places.command(&["-o", option]).output().unwrap();
        let line = said(&output);
        assert!(!output.status.success() && !places.is_mounted(), "{option}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}
