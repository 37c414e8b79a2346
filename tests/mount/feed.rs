//! What others do to a remote shows in a real mount by itself, whatever kind of feed the remote has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use crate::support::cloud::{CloudServer, LOGIN, Options, PASSWORD};
use crate::support::mount::{Mounted, dewfs, errno, eventually, ino, names, said};
use crate::support::servers::{Product, Server};
use notify::{EventKind, RecursiveMode, Watcher};
use serde_json::Value;

/// Somebody else at the remote.
trait Other {
    fn put(&self, path: &str, content: &[u8]);
    fn make_folder(&self, path: &str);
    fn remove(&self, path: &str);
    fn rename(&self, from: &str, to: &str);
}

impl Other for CloudServer {
    fn put(&self, path: &str, content: &[u8]) {
        self.put(path, content);
    }
    fn make_folder(&self, path: &str) {
        self.make_folder(path);
    }
    fn remove(&self, path: &str) {
        self.remove(path);
    }
    fn rename(&self, from: &str, to: &str) {
        self.rename(from, to);
    }
}

impl Other for Server {
    fn put(&self, path: &str, content: &[u8]) {
        self.put(path, content);
    }
    fn make_folder(&self, path: &str) {
        self.make_folder(path);
    }
    fn remove(&self, path: &str) {
        fs::remove_file(self.root().join(path)).unwrap();
    }
    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.root().join(from), self.root().join(to)).unwrap();
    }
}

fn plant(other: &impl Other) {
    for folder in ["a", "a/deep", "b"] {
        other.make_folder(folder);
        other.put(&format!("{folder}/file"), b"first");
    }
    other.put("a/goes", b"goes");
}

/// The kernel is told of everything: of names it has been told are missing, of sizes and pages it keeps, of folders that are
/// open, of watched names that go.
fn the_kernel_sees_what_others_do(mount: &Mounted, other: &impl Other) {
    let at = |path: &str| mount.path(path);
    for folder in ["", "a", "a/deep", "b"] {
        names(&at(folder));
    }
    assert_eq!(fs::read(at("a/file")).unwrap(), b"first");
    assert_eq!(errno(fs::metadata(at("b/new"))), libc::ENOENT);
    let time_of = |folder: &str| fs::metadata(at(folder)).unwrap().modified().unwrap();
    let before = time_of("b");
    other.put("b/new", b"new");
    eventually("a name that was missing", || fs::metadata(at("b/new")).is_ok());
    eventually("the time of its folder", || time_of("b") != before);
    assert_eq!(fs::read(at("b/new")).unwrap(), b"new");
    other.put("a/file", b"the second, longer");
    eventually("new content", || {
        fs::metadata(at("a/file")).is_ok_and(|found| found.len() == 18)
            && fs::read(at("a/file")).is_ok_and(|found| found == b"the second, longer")
    });
    let open = rustix::fs::open(at("a"), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty());
    let open = open.unwrap();
    let (told, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event| drop(told.send(event))).unwrap();
    watcher.watch(&at("a/goes"), RecursiveMode::NonRecursive).unwrap();
    let before = time_of("a");
    other.remove("a/goes");
    eventually("an event about the removal", || {
        events.try_iter().any(|event| matches!(event.unwrap().kind, EventKind::Remove(_)))
    });
    assert_eq!(errno_of(&at("a/goes")), Some(libc::ENOENT));
    eventually("the time of its folder", || time_of("a") != before);
    other.make_folder("a/fresh");
    other.put("a/fresh/f", b"fresh");
    eventually("a new folder in an open one", || {
        let inside = rustix::fs::Dir::read_from(&open).unwrap();
        inside.flatten().any(|entry| entry.file_name().to_bytes() == b"fresh")
    });
    assert_eq!(fs::read(at("a/fresh/f")).unwrap(), b"fresh");
    other.rename("a/deep", "b/moved");
    eventually("a moved folder", || {
        !at("a/deep").exists() && fs::read(at("b/moved/file")).is_ok_and(|found| found == b"first")
    });
}

fn errno_of(path: &Path) -> Option<i32> {
    fs::symlink_metadata(path).err().and_then(|error| error.raw_os_error())
}

/// A mount of a server in this process.
fn mounted(server: &CloudServer, options: &[&str]) -> (Mounted, tempfile::TempDir) {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = credentials(home.path());
    let credentials = format!("credentials={}", file.display());
    let options = [&["-o", &credentials], options].concat();
    (Mounted::url(&server.url(), home.path(), &options), home)
}

fn credentials(home: &Path) -> PathBuf {
    let file = home.join("credentials");
    fs::write(&file, format!("username={LOGIN}\npassword={PASSWORD}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn status(mount: &Mounted) -> Value {
    let output = dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

/// S53 "An address of a Nextcloud, ownCloud or OpenCloud as the browser shows it is enough: the mount is the user's files, a
/// saved file keeps its id there, and what may only be read is shown so."
#[tokio::test(flavor = "multi_thread")]
async fn in_a_mount_of_a_nextcloud_what_others_do_shows() {
    let server = CloudServer::start(Options::nextcloud()).await;
    plant(&server);
    let (mount, _home) = mounted(&server, &[]);
    let before = ino(&mount.path("a/deep"));
    the_kernel_sees_what_others_do(&mount, &server);
    assert_eq!(ino(&mount.path("b/moved")), before, "followed by its id");
    let status = status(&mount);
    assert_eq!(
        (&status["feed"], &status["feed_detail"]),
        (&"walk".into(), &"folder-versions".into())
    );
    let text = dewfs().arg("status").arg(&mount.places.at).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("by a walk of changed folders, oldest look "), "{text}");
    fs::write(mount.path("b/ours"), b"ours").unwrap();
    eventually("what was written", || server.content("b/ours").is_some_and(|c| c == b"ours"));
    let (id, here) = (server.id("b/ours"), ino(&mount.path("b/ours")));
    fs::write(mount.path("b/.saved"), b"saved").unwrap();
    fs::rename(mount.path("b/.saved"), mount.path("b/ours")).unwrap();
    eventually("what was saved", || server.content("b/ours").is_some_and(|c| c == b"saved"));
    assert_eq!(server.id("b/ours"), id, "saved as editors do, it keeps its id");
    assert_ne!(ino(&mount.path("b/ours")), here);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_mount_of_a_server_with_tokens_what_others_do_shows() {
    let server = CloudServer::start(Options::sync()).await;
    plant(&server);
    let (mount, _home) = mounted(&server, &[]);
    the_kernel_sees_what_others_do(&mount, &server);
    assert_eq!(status(&mount)["feed"], "poll");
}

/// CONTRACT, Sizes: "`df` shows the remote's quota where it tells one, else the state disk's numbers."
#[tokio::test(flavor = "multi_thread")]
async fn the_room_is_what_the_server_tells() {
    let server = CloudServer::start(Options::nextcloud()).await;
    server.put("large", &vec![1; 3_000_000]);
    let (mount, _home) = mounted(&server, &[]);
    // What the server answers: this is available, besides what is used.
    let (used, available) = (3_000_000_u64, 1_000_000_000);
    let mut seen = (0, 0);
    eventually("the quota", || {
        let room = rustix::fs::statvfs(&mount.places.at).unwrap();
        seen = (room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize);
        seen.0.abs_diff(used + available) < 8192 && seen.1.abs_diff(available) < 8192
    });
    let quota = &status(&mount)["quota"];
    assert_eq!(
        (quota["used_bytes"].as_u64(), quota["limit_bytes"].as_u64()),
        (Some(used), Some(used + available)),
        "{seen:?}"
    );
}

/// CONTRACT, Extended attributes: "the remote's stable id; its ETag, generation or version; last error, absent when none".
#[tokio::test(flavor = "multi_thread")]
async fn the_attributes_tell_id_version_and_error() {
    let server = CloudServer::start(Options::nextcloud()).await;
    plant(&server);
    server.set_permissions("b", "SRG");
    let (mount, _home) = mounted(&server, &[]);
    let told = |path: &str, what: &str| {
        let mut value = [0; 4096];
        let name = format!("user.dewfs.{what}");
        match rustix::fs::getxattr(mount.path(path), name, &mut value) {
            Ok(length) => Ok(String::from_utf8(value[..length].to_vec()).unwrap()),
            Err(errno) => Err(errno),
        }
    };
    let none = Err(rustix::io::Errno::NODATA);
    let id = told("a/file", "id").unwrap();
    assert_eq!(id, server.id("a/file").unwrap().to_string());
    let version = told("a/file", "version").unwrap();
    assert_eq!(told("a/file", "error"), none);
    server.rename("a/file", "a/moved");
    eventually("the new name", || told("a/moved", "id").is_ok());
    assert_eq!(
        (told("a/moved", "id"), told("a/moved", "version")),
        (Ok(id.clone()), Ok(version.clone()))
    );
    server.put("a/moved", b"another content");
    eventually("another version", || told("a/moved", "version").is_ok_and(|now| now != version));
    assert_eq!(told("a/moved", "id"), Ok(id));

    fs::write(mount.path("b/refused"), b"x").unwrap();
    assert_eq!(told("b/refused", "id"), none);
    assert_eq!(told("b/refused", "version"), none);
    eventually("the error", || told("b/refused", "error").is_ok_and(|why| why.contains("403")));
    server.set_permissions("b", "RGDNVCK");
    eventually("no error any more", || told("b/refused", "error") == none);
}

fn of_a_real_server(product: Product) {
    let server = Server::start(product);
    plant(&server);
    let mount = Mounted::url(&server.url(), server.root(), &[]);
    the_kernel_sees_what_others_do(&mount, &server);
    let status = status(&mount);
    // Their folders' ETags tell nothing of what is below: they are never relied on.
    assert_eq!((&status["feed"], &status["feed_detail"]), (&"walk".into(), &"listing".into()));
    let oldest: jiff::Timestamp = status["oldest_look"].as_str().unwrap().parse().unwrap();
    let age = jiff::Timestamp::now().duration_since(oldest);
    assert!(age.as_secs() < 10, "looked at {age:?} ago: {status}");
}

#[test]
fn in_a_mount_of_nginx_what_others_do_shows() {
    of_a_real_server(Product::Nginx);
}

#[test]
fn in_a_mount_of_apache_what_others_do_shows() {
    of_a_real_server(Product::Apache);
}

#[test]
fn in_a_mount_of_lighttpd_what_others_do_shows() {
    of_a_real_server(Product::Lighttpd);
}

#[test]
fn in_a_mount_of_rclone_what_others_do_shows() {
    of_a_real_server(Product::Rclone);
}

/// Somebody who may only read a shared folder is told so when writing, not when it is too late.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_for_reading_cannot_be_written() {
    let server = CloudServer::start(Options::nextcloud()).await;
    plant(&server);
    server.set_permissions("a/file", "SRGD");
    server.set_permissions("b", "SRG");
    let (mount, _home) = mounted(&server, &["-o", "allow_other"]);
    let mode = |path: &str| fs::metadata(mount.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a/file"), mode("b"), mode("a/goes")), (0o444, 0o555, 0o644));
    assert_eq!(fs::read(mount.path("a/file")).unwrap(), b"first");
    // Root may always try: then the item says what the server said.
    fs::write(mount.path("b/refused"), b"x").unwrap();
    eventually("an error that names it", || {
        let output =
            dewfs().args(["status", "--json"]).arg(mount.path("b/refused")).output().unwrap();
        let item: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        item["sync"] == "error" && item["error"].as_str().is_some_and(|why| why.contains("403"))
    });
    assert_eq!(server.names("b"), ["file"]);
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"])
        .arg("echo x >\"$0\"")
        .arg(mount.path("a/file"))
        .output()
        .unwrap();
    assert!(!output.status.success() && said(&output).contains("Permission denied"), "{output:?}");
}
