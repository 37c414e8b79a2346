//! `dewfs setup` and its way back where no systemd runs, as an ordinary user: by the browser, by a file, and what refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/cloud.rs"]
#[allow(dead_code, unreachable_pub)]
mod cloud;
#[path = "support/ordinary.rs"]
mod ordinary;
#[path = "support/mount.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use cloud::{CloudServer, LOGIN, Options, PASSWORD};
use ordinary::{USUAL, goes_on, home};
use support::{dewfs, eventually};

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
    if !goes_on("a_cloud_is_set_up_by_its_address_and_the_browser", USUAL) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(CloudServer::start(Options::nextcloud()));
    server.put("notes.txt", b"theirs");
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
    if !goes_on("what_is_not_sent_is_not_removed", USUAL) {
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
