//! `dewfs serve`: a directory as a WebDAV remote, to dewfs's own client, to a mount, and to whoever means no good.

mod moves;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::conformance::{Actor, Subject, run_all};
use crate::support::mount::{self, Mounted, eventually};
use async_trait::async_trait;
use dewfs::remote::webdav::{WebDavOptions, WebDavRemote};
use dewfs::remote::{Conditional, FeedKind, Remote as _};
use moves::Disk;

/// A share, served as long as this lives.
struct Served {
    child: Child,
    url: String,
    dir: PathBuf,
    _place: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        Self::with(&[], &[])
    }

    fn with(options: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start(Self::place(), |command| {
            command.args(options).envs(environment.iter().copied());
        })
    }

    /// A directory `share` to serve, in one of its own.
    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir(place.path().join("share")).unwrap();
        place
    }

    fn start(place: tempfile::TempDir, say: impl FnOnce(&mut Command)) -> Self {
        let dir = place.path().canonicalize().unwrap().join("share");
        Self::serve(&dir, place, say)
    }

    fn serve(dir: &Path, place: tempfile::TempDir, say: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dewfs"));
        command.arg("serve").arg(dir).args(["--listen", "127.0.0.1:0", "--json"]);
        command.env("XDG_CONFIG_HOME", place.path());
        say(&mut command);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: serde_json::Value =
            serde_json::from_str(&line).expect("it says where it listens");
        assert_eq!(told["type"], "serving");
        let url = told["url"].as_str().unwrap().to_owned();
        Self { child, url, dir: dir.to_owned(), _place: place }
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// The status, headers and body of one request as it is.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, verb: &str, path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let host = self.address();
        self.raw(&format!(
            "{verb} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    fn status(&self, verb: &str, path: &str, headers: &str, body: &str) -> u16 {
        let answer = self.ask(verb, path, headers, body);
        answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
    }

    /// Asks for a move or copy, and does not wait for the answer.
    fn begin(&self, verb: &str, from: &str, to: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        let host = self.address();
        let asked = format!("{verb} {from} HTTP/1.1\r\nHost: {host}\r\nDestination: {to}\r\n\r\n");
        stream.write_all(asked.as_bytes()).unwrap();
        stream
    }

    fn etag(&self, path: &str) -> String {
        let answer = self.ask("HEAD", path, "", "");
        let line = answer.lines().find_map(|line| line.strip_prefix("etag: "));
        line.unwrap_or_else(|| panic!("{answer}")).trim().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The directory behind a share's folder.
struct Behind {
    served: Arc<Served>,
    folder: String,
}

impl Behind {
    fn place(&self, path: &str) -> PathBuf {
        self.served.dir.join(&self.folder).join(path)
    }
}

#[async_trait]
impl Actor for Behind {
    async fn put(&self, path: &str, content: &[u8]) {
        let new = self.served.dir.join("../new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.place(path)).unwrap();
    }
    async fn mkdir(&self, path: &str) {
        fs::create_dir(self.place(path)).unwrap();
    }
    async fn rm(&self, path: &str) {
        let path = self.place(path);
        if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.unwrap();
    }
    async fn mv(&self, from: &str, to: &str) {
        fs::rename(self.place(from), self.place(to)).unwrap();
    }
    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.place(path)).ok()
    }
    async fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.place(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

/// S135 "`dewfs serve` is an `atomic` remote: of writers under one version exactly one wins, changes behind its back are told, and
/// nothing outside its directory is reached."
#[tokio::test]
async fn a_share_holds_what_every_remote_promises() {
    let served = Arc::new(Served::new());
    let count = AtomicU64::new(0);
    run_all(|| {
        let served = served.clone();
        let folder = format!("sentence {}", count.fetch_add(1, Ordering::Relaxed));
        async move {
            fs::create_dir(served.dir.join(&folder)).unwrap();
            let url = format!("{}{folder}/", served.url);
            let remote = WebDavRemote::open(&WebDavOptions::new(url)).unwrap();
            let found = remote.probe().await.unwrap();
            assert_eq!(found.conditional, Conditional::Atomic);
            assert_eq!(found.feed, FeedKind::Poll);
            assert!(found.identity.is_some() && found.settable_mtime && found.ranges);
            Subject { remote: Arc::new(remote), actor: Box::new(Behind { served, folder }) }
        }
    })
    .await;
}

#[test]
fn of_two_conditional_writers_exactly_one_wins() {
    let served = Served::new();
    let put = |headers: &str, body: &str| served.status("PUT", "/f", headers, body);
    for round in 0..30 {
        let made: Vec<u16> = std::thread::scope(|scope| {
            let both = ["one", "two"].map(|body| scope.spawn(|| put("If-None-Match: *\r\n", body)));
            both.map(|one| one.join().unwrap()).into()
        });
        assert_eq!(made.iter().filter(|code| **code == 201).count(), 1, "{round}: {made:?}");
        let right = format!("If-Match: {}\r\n", served.etag("/f"));
        let won: Vec<u16> = std::thread::scope(|scope| {
            let both = ["1", "2", "3"].map(|body| scope.spawn(|| put(&right, body)));
            both.map(|one| one.join().unwrap()).into()
        });
        assert_eq!(won.iter().filter(|code| **code == 204).count(), 1, "{round}: {won:?}");
        assert_eq!(won.iter().filter(|code| **code == 412).count(), 2, "{round}: {won:?}");
        assert_eq!(served.status("DELETE", "/f", &right, ""), 412);
        assert_eq!(served.status("DELETE", "/f", "", ""), 204);
    }
    assert_eq!(put("If-Match: *\r\n", "x"), 412);
    assert_eq!(fs::read_dir(&served.dir).unwrap().count(), 0);
}

#[test]
fn nothing_outside_the_directory_is_reached() {
    let served = Served::new();
    let outside = served.dir.parent().unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::create_dir(outside.join("beside")).unwrap();
    symlink("../secret", served.dir.join("link")).unwrap();
    symlink("../beside", served.dir.join("out")).unwrap();
    for path in
        ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "/link", "/out/", "/a/../../secret"]
    {
        for (verb, headers) in [("GET", ""), ("PROPFIND", "Depth: 1\r\n"), ("DELETE", "")] {
            let answer = served.ask(verb, path, headers, "");
            assert!(!answer.contains("HTTP/1.1 2"), "{verb} {path}: {answer}");
            assert!(!answer.contains("secret\n") && !answer.ends_with("secret"), "{answer}");
        }
    }
    for path in ["/out/new", "/link", "/../new"] {
        assert!(served.status("PUT", path, "", "x") >= 400, "{path}");
    }
    assert!(served.status("MKCOL", "/out/new", "", "") >= 400);
    served.status("PUT", "/f", "", "mine");
    for to in ["/../f", "/out/f", "http://h/../f", "/link", "/"] {
        let headers = format!("Destination: {to}\r\nOverwrite: T\r\n");
        assert!(served.status("MOVE", "/f", &headers, "") >= 400, "{to}");
        assert!(served.status("COPY", "/f", &headers, "") >= 400, "{to}");
    }
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(outside.join("beside")).unwrap().count(), 0);
    assert_eq!(fs::read(served.dir.join("f")).unwrap(), b"mine");
    assert!(served.dir.join("link").is_symlink());
}

#[test]
fn only_who_may_is_let_in() {
    let served = Served::new();
    let named = |host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        served.raw(&request).get(9..12).unwrap().to_owned()
    };
    // A page in a browser may have its own name lead here.
    assert_eq!(named("evil.example"), "403");
    assert_eq!(named("localhost"), "405");
    let secrets = [("DEWFS_USER", "alice"), ("DEWFS_PASSWORD", "open sesame")];
    let guarded = Served::with(&[], &secrets);
    let right = "Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n";
    let wrong = "Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWQ=\r\n";
    for headers in ["", wrong] {
        let answer = guarded.ask("PUT", "/f", headers, "x");
        assert!(answer.contains(" 401 ") && answer.contains("www-authenticate: Basic"), "{answer}");
    }
    assert_eq!(guarded.status("PUT", "/f", right, "x"), 201);
    assert_eq!(fs::read_dir(&guarded.dir).unwrap().count(), 1);
    let read_only = Served::with(&["--read-only"], &[]);
    fs::write(read_only.dir.join("f"), "there").unwrap();
    for verb in ["PUT", "DELETE", "MKCOL", "PROPPATCH"] {
        assert_eq!(read_only.status(verb, "/f", "", ""), 403, "{verb}");
    }
    assert!(read_only.ask("GET", "/f", "", "").ends_with("there"));
}

#[test]
fn it_listens_to_others_only_with_credentials() {
    let refused = |words: &[&str], secrets: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dewfs"));
        command.args(["serve", "."]).args(words).envs(secrets.iter().copied());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let everywhere = ["--listen", "0.0.0.0:0"];
    assert!(refused(&everywhere, &[]).contains("--credentials"));
    let secrets = [("DEWFS_USER", "a"), ("DEWFS_PASSWORD", "b")];
    assert!(refused(&everywhere, &secrets).contains("--insecure-http"));
}

#[test]
fn other_clients_move_copy_and_read_parts() {
    let served = Served::new();
    let there = |name: &str| fs::read(served.dir.join(name)).unwrap();
    let big: String = (0..200_000).map(|n| format!("{n:07}")).collect();
    assert_eq!(served.status("PUT", "/big", "X-OC-Mtime: 1000000000\r\n", &big), 201);
    assert_eq!(there("big"), big.as_bytes());
    let answer = served.ask("GET", "/big", "Range: bytes=7-13\r\n", "");
    assert!(answer.contains(" 206 ") && answer.ends_with("0000001"), "{answer}");
    assert!(answer.contains("content-range: bytes 7-13/1400000"), "{answer}");
    assert!(answer.contains("last-modified: Sun, 09 Sep 2001 01:46:40 GMT"), "{answer}");
    let same = format!("If-None-Match: {}\r\n", served.etag("/big"));
    assert_eq!(served.status("GET", "/big", &same, ""), 304);
    assert_eq!(served.status("MKCOL", "/d", "", ""), 201);
    assert_eq!(served.status("MKCOL", "/d", "", ""), 405);
    assert_eq!(served.status("MKCOL", "/none/d", "", ""), 409);
    assert_eq!(served.status("PUT", "/none/f", "", "x"), 409);
    assert_eq!(served.status("MOVE", "/big", "Destination: /d/small\r\n", ""), 201);
    assert_eq!(served.status("COPY", "/d", "Destination: /e\r\n", ""), 201);
    assert_eq!(there("e/small"), big.as_bytes());
    served.status("PUT", "/f", "", "f");
    assert_eq!(served.status("MOVE", "/f", "Destination: /e/small\r\nOverwrite: F\r\n", ""), 412);
    assert_eq!(served.status("MOVE", "/f", "Destination: /e/small\r\n", ""), 204);
    assert_eq!((there("e/small").as_slice(), there("d/small").len()), (&b"f"[..], big.len()));
    assert_eq!(served.status("MOVE", "/d", "Destination: /d/d\r\n", ""), 403);
    assert_eq!(served.status("DELETE", "/d", "", ""), 204);
    assert_eq!(served.status("LOCK", "/e", "", ""), 405);
    assert_eq!(served.status("PUT", "/e/small", "If: (<urn:x>)\r\n", "x"), 412);
    let listing = served.ask("PROPFIND", "/", "Depth: 1\r\n", "");
    assert!(listing.contains("<d:href>/e/</d:href>") && !listing.contains("/d/"), "{listing}");
    assert_eq!(served.status("PROPFIND", "/", "Depth: infinity\r\n", ""), 403);
}

#[test]
fn a_mount_of_a_share_sees_what_happens_in_the_directory() {
    let served = Served::new();
    fs::write(served.dir.join("a.txt"), "a").unwrap();
    fs::create_dir(served.dir.join("folder")).unwrap();
    let mount = Mounted::url(&served.url, &served.dir, &[]);
    assert_eq!(mount::names(&mount.places.at), ["a.txt", "folder"]);
    assert!(mount::names(&mount.path("folder")).is_empty());
    fs::write(mount.path("b.txt"), "from the mount").unwrap();
    mount.arrives("b.txt", b"from the mount");
    fs::write(served.dir.join("folder/c.txt"), "from beside").unwrap();
    mount.shows("folder/c.txt", b"from beside");
    fs::rename(served.dir.join("a.txt"), served.dir.join("folder/moved.txt")).unwrap();
    mount.shows("folder/moved.txt", b"a");
    eventually("the old name is gone", || !mount.path("a.txt").exists());
    fs::rename(mount.path("folder"), mount.path("renamed")).unwrap();
    mount.arrives("renamed/c.txt", b"from beside");
    fs::remove_dir_all(mount.path("renamed")).unwrap();
    eventually("gone there", || !served.dir.join("renamed").exists());
    let left = |dir: &Path| mount::names(dir);
    eventually("nothing of dewfs stays", || left(&served.dir) == ["b.txt"]);
}

/// A file that signs nobody in was taken for leave to serve everybody, who could also write.
#[test]
fn regression_credentials_that_say_nobody_serve_nobody() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = place.path().join("secret");
    let serve = |words: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dewfs"));
        command.arg("serve").arg(place.path()).args(["--listen", "127.0.0.1:0", "--json"]);
        command.args(words).env("XDG_CONFIG_HOME", place.path()).envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if !line.is_empty() {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(line.is_empty() && matches!(output.status.code(), Some(1 | 2)), "{line}{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let given = ["--credentials", file.to_str().unwrap()];
    for text in ["", "# signed out\n", "username=al\n", "password=x\n"] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let said = serve(&given, &[]);
        assert!(said.contains("password="), "{text:?}: {said}");
    }
    let said = serve(&[], &[("DEWFS_PASSWORD", "x")]);
    assert!(said.contains("DEWFS_USER"), "{said}");
}

/// Whether anybody may go through all folders above a file.
fn is_open_to_all(path: &str) -> bool {
    let above = Path::new(path).ancestors().skip(1);
    above.into_iter().all(|dir| fs::metadata(dir).unwrap().permissions().mode() & 0o1 != 0)
}

/// What came for a folder of a share whose top is somebody else's was held in memory, however much it was.
#[test]
fn regression_a_large_upload_is_never_held_in_memory() {
    const UID: u32 = 64_321;
    if !is_open_to_all(env!("CARGO_BIN_EXE_dewfs")) || !is_open_to_all(env!("CARGO_TARGET_TMPDIR"))
    {
        eprintln!("NOT RUN: the programs are where only one user can start them");
        return;
    }
    let place = Served::place();
    let share = place.path().join("share");
    let modes = [(place.path().to_owned(), 0o755), (share.clone(), 0o555)];
    fs::create_dir(share.join("docs")).unwrap();
    for (dir, mode) in modes {
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
    }
    let served = Served::start(place, |command| {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(share.join("docs"), Some(UID), Some(UID)).unwrap();
            command.uid(UID);
        }
    });
    let mut stream = TcpStream::connect(served.address()).unwrap();
    let host = served.address();
    let asked = format!("PUT /docs/f HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4000000\r\n\r\n");
    stream.write_all(asked.as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; 2_000_000]).unwrap();
    let opened = || -> Vec<PathBuf> {
        let all = fs::read_dir(format!("/proc/{}/fd", served.child.id())).unwrap();
        all.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect()
    };
    eventually("the bytes go to the disk that they are for", || {
        let opened = opened();
        assert!(
            !opened.iter().any(|file| file.to_string_lossy().starts_with("/memfd:")),
            "{opened:?}"
        );
        opened.iter().any(|file| file.starts_with(served.dir.join("docs")))
    });
    drop(stream);
    eventually("nothing stays", || {
        !opened().iter().any(|file| file.starts_with(served.dir.join("docs")))
    });
    assert_eq!(fs::read_dir(served.dir.join("docs")).unwrap().count(), 0);
    let large = "y".repeat(1_000_000);
    assert_eq!(served.status("PUT", "/docs/f", "", &large), 201);
    assert_eq!(served.status("PUT", "/f", "", &large), 403);
    assert_eq!(fs::read(served.dir.join("docs/f")).unwrap(), large.as_bytes());
    fs::set_permissions(&served.dir, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A share whose disk was away and came back as another device was away until dewfs was started again.
#[test]
fn regression_a_share_that_was_away_is_served_again() {
    let place = Served::place();
    let (dir, image) = (place.path().join("share"), place.path().join("image"));
    let again = place.path().join("again");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let made = Command::new("mkfs.ext4").arg("-q").arg(&image).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let Some(first) = Disk::at(&dir, &["-o", "loop", image.to_str().unwrap()]) else { return };
    fs::write(dir.join("f"), "there").unwrap();
    rustix::fs::syncfs(fs::File::open(&dir).unwrap()).unwrap();
    fs::copy(&image, &again).unwrap();
    let served = Served::start(place, |_| {});
    assert!(served.ask("GET", "/f", "", "").ends_with("there"));
    drop(first);
    let answer = served.ask("GET", "/f", "", "");
    assert!(answer.contains(" 503 ") && answer.contains("another directory is at"), "{answer}");
    assert_eq!(served.status("PUT", "/new", "", "x"), 503);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    let Some(_second) = Disk::at(&dir, &["-o", "loop", again.to_str().unwrap()]) else { return };
    let answer = served.ask("GET", "/f", "", "");
    assert!(answer.contains(" 503 ") && answer.contains("there again: ask again"), "{answer}");
    assert!(served.ask("GET", "/f", "", "").ends_with("there"));
    assert_eq!(served.status("PUT", "/new", "", "x"), 201);
    assert_eq!(fs::read(dir.join("new")).unwrap(), b"x");
}

/// Where a directory cannot be told from others (FUSE), the share served whatever was mounted in its place, and called that
/// another one.
#[test]
fn regression_what_nobody_can_tell_apart_is_not_served_in_its_place() {
    let first = Mounted::of(|remote| fs::write(remote.join("f"), "mine").unwrap());
    let second = Mounted::empty();
    let place = first.places.at.canonicalize().unwrap();
    let served = Served::serve(&place, Served::place(), |_| {});
    assert!(served.ask("GET", "/f", "", "").ends_with("mine"));
    let Some(_second) = Disk::at(&place, &["--bind", second.places.at.to_str().unwrap()]) else {
        return;
    };
    fs::write(second.path("theirs"), "theirs").unwrap();
    for _ in 0..2 {
        let answer = served.ask("GET", "/theirs", "", "");
        assert!(answer.contains(" 503 ") && answer.contains("start dewfs serve again"), "{answer}");
        assert!(answer.contains("nobody can tell"), "{answer}");
    }
    assert_eq!(mount::names(&second.places.at), ["theirs"]);
}
