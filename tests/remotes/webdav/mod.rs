//! The WebDAV remote against real servers.

mod access;
mod counts;
mod removed;
mod times;

use crate::support::wait::{LIMIT, found_soon, holds_soon};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::servers::{Product, Server};
use dewfs::remote::webdav::{Credentials, CredentialsSource, WebDavOptions, WebDavRemote};
use dewfs::remote::{
    AttemptTag, Body, Conditional, Digest, ErrorKind, Expect, Kind, Locator, Metadata, Name,
    Observed, Remote, RemotePath, Result, Upload, Version,
};
use futures_util::TryStreamExt;

fn open(server: &Server) -> WebDavRemote {
    WebDavRemote::open(&WebDavOptions::new(server.url())).unwrap()
}

fn at(path: &str) -> Locator {
    let names = path.split('/').filter(|n| !n.is_empty());
    Locator::at(RemotePath(names.map(|n| Name::new(n.as_bytes()).unwrap()).collect()))
}

async fn read_all(remote: &WebDavRemote, at: &Locator) -> Vec<u8> {
    let seen = remote.stat(at).await.unwrap().unwrap();
    let stream = remote.read(at, &seen.version, 0..seen.size).await.unwrap();
    let chunks: Vec<bytes::Bytes> = stream.bytes.try_collect().await.unwrap();
    chunks.concat()
}

async fn lists_and_reads(product: Product) {
    let server = Server::start(product);
    let remote = open(&server);
    let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    server.make_folder("sub");
    server.put("sub/big", &bytes);
    server.put("empty", b"");

    let page = remote.list(&at(""), None).await.unwrap();
    let mut names: Vec<_> = page.entries.iter().map(|e| (e.name.lossy(), e.entry.kind)).collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(names, [("empty".into(), Kind::File), ("sub".into(), Kind::Folder)]);

    let listed = remote.list(&at("sub"), None).await.unwrap().entries.remove(0).entry;
    let seen = remote.stat(&at("sub/big")).await.unwrap().unwrap();
    assert_eq!(listed, seen);
    assert_eq!(seen.size, bytes.len() as u64);
    assert_eq!(read_all(&remote, &at("sub/big")).await, bytes);
    assert_eq!(read_all(&remote, &at("empty")).await, b"");
    for range in [0..1u64, 5..4096, 399_999..400_000, 65_536..200_001] {
        let stream = remote.read(&at("sub/big"), &seen.version, range.clone()).await.unwrap();
        assert_eq!(stream.length, range.end - range.start);
        let chunks: Vec<bytes::Bytes> = stream.bytes.try_collect().await.unwrap();
        assert_eq!(chunks.concat(), bytes[range.start as usize..range.end as usize]);
    }
    server.put("sub/big", &bytes[1..]);
    let late = remote.read(&at("sub/big"), &seen.version, 0..10).await;
    assert_eq!(late.unwrap_err().kind, ErrorKind::VersionMismatch);
    assert_eq!(remote.stat(&at("nothing")).await.unwrap(), None);
    assert_eq!(remote.stat(&at("nothing/below")).await.unwrap(), None);
    for path in ["nothing", "empty"] {
        let error = remote.list(&at(path), None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    }
    let error = remote.read(&at("nothing"), &seen.version, 0..10).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

async fn probed(server: &Server) -> WebDavRemote {
    let remote = open(server);
    remote.probe().await.unwrap();
    remote
}

fn tag(nonce: u64) -> AttemptTag {
    AttemptTag { mount: "m1".into(), item: 7, nonce }
}

fn upload(bytes: &[u8], nonce: u64) -> Upload {
    Upload {
        body: Body::Memory(bytes.to_vec().into()),
        digest: Digest { size: bytes.len() as u64, hash: *blake3::hash(bytes).as_bytes() },
        mtime: None,
        mode: None,
        extended: Default::default(),
        tag: tag(nonce),
        still_whole: None,
        pace: None,
        progress: None,
    }
}

async fn write(
    remote: &WebDavRemote,
    path: &str,
    bytes: &[u8],
    expect: Expect,
) -> Result<Observed> {
    static NONCE: AtomicU64 = AtomicU64::new(1);
    let nonce = NONCE.fetch_add(1, Ordering::Relaxed);
    let look = async || match remote.write(&at(path), upload(bytes, nonce), expect.clone()).await {
        Err(error) if matches!(error.kind, ErrorKind::Unsettled { .. }) => None,
        other => Some(other),
    };
    found_soon(LIMIT, look).await.unwrap_or_else(|| panic!("{path} never settles"))
}

/// All names that are really there, hidden ones and those of half-done steps too.
fn on_disk(server: &Server, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(server.root().join(folder)).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

async fn is_probed(product: Product) {
    let server = Server::start(product);
    let remote = open(&server);
    let found = remote.probe().await.unwrap();
    let fine = found.version_tick.is_zero();
    let (level, tick, mtime) = match product {
        Product::Nginx => (Conditional::Checked, false, false),
        Product::Apache => (Conditional::Checked, true, false),
        Product::Lighttpd => (Conditional::Atomic, true, false),
        Product::Rclone => (Conditional::Checked, true, true),
    };
    assert_eq!((found.conditional, fine, found.settable_mtime), (level, tick, mtime), "{found:?}");
    assert!(found.ranges && found.writable && found.rename && !found.stable_ids);
    assert_eq!(on_disk(&server, ""), [""; 0]);
}

async fn writes_under_conditions(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let first = write(&remote, "a", b"first", Expect::Absent).await.unwrap();
    assert_eq!(remote.stat(&at("a")).await.unwrap().unwrap().version, first.version);
    let error = write(&remote, "a", b"other", Expect::Absent).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);

    let second =
        write(&remote, "a", b"second", Expect::Version(first.version.clone())).await.unwrap();
    assert_ne!(first.version, second.version);
    let error =
        write(&remote, "a", b"lost", Expect::Version(first.version.clone())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionMismatch);
    let error = write(&remote, "none", b"lost", Expect::Version(first.version)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let error = write(&remote, "none/below", b"lost", Expect::Absent).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoParent);
    assert_eq!(read_all(&remote, &at("a")).await, b"second");
    write(&remote, "a", b"", Expect::Any).await.unwrap();
    assert_eq!(read_all(&remote, &at("a")).await, b"");
    write(&remote, "b", b"new", Expect::Any).await.unwrap();
    assert_eq!(read_all(&remote, &at("b")).await, b"new");
    server.make_folder("folder");
    let error = write(&remote, "folder", b"x", Expect::Any).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    assert_eq!(on_disk(&server, ""), ["a", "b", "folder"]);
}

async fn a_file_that_changes_while_it_is_sent_is_not_published(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let mut body = upload(&vec![b'x'; 1 << 20], 1);
    body.still_whole = Some(Arc::new(|| false));
    let error = remote.write(&at("a"), body, Expect::Absent).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Other);
    assert_eq!(on_disk(&server, ""), [""; 0]);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"short").unwrap();
    let mut body = upload(b"longer than that", 2);
    body.body = Body::File(file.path().to_owned());
    let error = remote.write(&at("a"), body, Expect::Absent).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Other);
    assert_eq!(on_disk(&server, ""), [""; 0]);
}

async fn a_large_file_is_sent_from_disk(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let bytes: Vec<u8> = (0..1_500_000u32).flat_map(u32::to_le_bytes).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let mut body = upload(&bytes, 1);
    body.body = Body::File(file.path().to_owned());
    let seen = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&seen);
    body.progress = Some(Arc::new(move |sent| told.store(sent, Ordering::Relaxed)));
    body.still_whole = Some(Arc::new(|| true));
    remote.write(&at("big"), body, Expect::Absent).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), bytes.len() as u64);
    assert_eq!(std::fs::read(server.root().join("big")).unwrap(), bytes);
    assert_eq!(read_all(&remote, &at("big")).await, bytes);
}

async fn folders_are_made_and_removed_only_empty(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let made = remote.make_folder(&at("f")).await.unwrap();
    assert_eq!(made.kind, Kind::Folder);
    assert_eq!(remote.make_folder(&at("f")).await.unwrap_err().kind, ErrorKind::AlreadyExists);
    assert_eq!(remote.make_folder(&at("x/y")).await.unwrap_err().kind, ErrorKind::NoParent);
    server.put("file", b"a file");
    assert_eq!(remote.make_folder(&at("file")).await.unwrap_err().kind, ErrorKind::AlreadyExists);

    if product == Product::Nginx {
        let error = write(&remote, ".dot", b"x", Expect::Absent).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NameRejected);
    }
    server.put("f/unlisted", b"only here");
    let error = remote.remove(&at("f"), Expect::Folder, &tag(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotEmpty);
    assert_eq!(std::fs::read(server.root().join("f/unlisted")).unwrap(), b"only here");
    let error = remote.remove(&at("file"), Expect::Folder, &tag(2)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionMismatch);
    std::fs::remove_file(server.root().join("f/unlisted")).unwrap();
    server.put("f/.dewfs-tmp.other.1.2--x", b"its owner has it");
    server.put("f/.dewfs-held.other.1.2--x", b"perhaps the only copy");
    if product != Product::Nginx {
        let error = remote.remove(&at("f"), Expect::Folder, &tag(3)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotEmpty);
        std::fs::remove_file(server.root().join("f/.dewfs-held.other.1.2--x")).unwrap();
    }
    remote.remove(&at("f"), Expect::Folder, &tag(3)).await.unwrap();
    let error = remote.remove(&at("f"), Expect::Folder, &tag(4)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let kept = if product == Product::Nginx {
        vec![".dewfs-removed.m1.7.3--f", "file"]
    } else {
        vec!["file"]
    };
    assert_eq!(on_disk(&server, ""), kept);
}

async fn files_are_removed_under_their_version(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let first = write(&remote, "a", b"one", Expect::Absent).await.unwrap();
    server.put("a", b"somebody else's");
    let expect = Expect::Version(first.version);
    let error = remote.remove(&at("a"), expect.clone(), &tag(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionMismatch);
    assert_eq!(std::fs::read(server.root().join("a")).unwrap(), b"somebody else's");
    let now = remote.stat(&at("a")).await.unwrap().unwrap();
    remote.remove(&at("a"), Expect::Version(now.version), &tag(2)).await.unwrap();
    assert_eq!(on_disk(&server, ""), [""; 0]);
    let error = remote.remove(&at("a"), expect, &tag(3)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

async fn renames_never_replace(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let a = write(&remote, "a", b"A", Expect::Absent).await.unwrap();
    write(&remote, "b", b"B", Expect::Absent).await.unwrap();
    server.make_folder("f");
    server.put("f/below", b"below");
    let rename = |from: &str, to: &str, expect| {
        let (from, to, remote) = (at(from), at(to), &remote);
        async move { remote.rename(&from, &to, expect, &tag(1)).await }
    };
    let version = Expect::Version(a.version.clone());
    let error = rename("a", "b", version.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    let error = rename("a", "none/a", version.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoParent);
    let error = rename("gone", "c", Expect::Any).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let error = rename("b", "c", Expect::Version(Version("e:x".into()))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionMismatch);
    let error = rename("f", "b", Expect::Folder).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    let moved = rename("a", "f/a", version).await.unwrap();
    assert_eq!(moved.version, a.version);
    assert_eq!(rename("f", "g", Expect::Folder).await.unwrap().kind, Kind::Folder);
    assert_eq!(on_disk(&server, ""), ["b", "g"]);
    assert_eq!(on_disk(&server, "g"), ["a", "below"]);
}

async fn a_folder_of_three_thousand_is_listed_whole(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    // rclone without a directory cache reads the whole folder again for each entry of it
    let all = if product == Product::Rclone { 200 } else { 3000 };
    for count in 0..all {
        server.put(format!("file {count}"), b"x");
    }
    let page = remote.list(&at(""), None).await.unwrap();
    assert!(page.next.is_none());
    let names: std::collections::HashSet<_> = page.entries.iter().map(|e| e.name.clone()).collect();
    assert_eq!((page.entries.len(), names.len()), (all, all));
}

async fn odd_names_come_back_as_they_are(product: Product) {
    let server = Server::start_remembering(product);
    let remote = probed(&server).await;
    let long = "n".repeat(255);
    let accented = ["a\u{308}nfd", "\u{e4}nfc"];
    let mut names = vec![
        "%",
        "%41",
        "100%",
        "a?b#c",
        "a\\b",
        "a:b",
        "a;b=c",
        " lead",
        "trail ",
        "two  spaces",
        "+&'\"<>",
        "~",
        "[x]",
        "*",
        "\u{1f600} emoji",
        accented[0],
        accented[1],
        "-",
    ];
    // lighttpd refuses control characters; rclone takes a tab and then does not find it; nginx does not list `...`
    if matches!(product, Product::Nginx | Product::Apache) {
        names.extend(["new\nline", "tab\there"]);
    }
    if product != Product::Nginx {
        names.push("...");
    }
    for name in &names {
        let body = format!("in {name:?}").into_bytes();
        let error = |e| format!("{name:?} {e}");
        write(&remote, name, &body, Expect::Absent).await.map_err(error).unwrap();
        assert_eq!(std::fs::read(server.root().join(name)).unwrap(), body, "{name:?}");
        assert_eq!(read_all(&remote, &at(name)).await, body, "{name:?}");
    }
    write(&remote, &long, b"one", Expect::Absent).await.unwrap();
    let seen = remote.stat(&at(&long)).await.unwrap().unwrap();
    write(&remote, &long, b"two", Expect::Version(seen.version)).await.unwrap();
    assert_eq!(read_all(&remote, &at(&long)).await, b"two");
    names.push(&long);

    let page = remote.list(&at(""), None).await.unwrap();
    let mut listed: Vec<_> = page.entries.iter().map(|e| e.name.lossy().into_owned()).collect();
    listed.sort();
    names.sort_unstable();
    assert_eq!(listed, names);
    for name in names {
        let folder = format!("folder {}", name.chars().take(200).collect::<String>());
        remote.make_folder(&at(&folder)).await.unwrap();
        let (from, to) = (at(name), at(&format!("{folder}/{name}")));
        remote.rename(&from, &to, Expect::Any, &tag(1)).await.unwrap();
        remote.remove(&to, Expect::Any, &tag(2)).await.unwrap();
        remote.remove(&at(&folder), Expect::Folder, &tag(3)).await.unwrap();
    }
    let mut left = on_disk(&server, "");
    left.retain(|name| product != Product::Nginx || !name.starts_with(".dewfs-removed."));
    assert_eq!(left, [""; 0]);
}

/// Two writers of one version, many times: at most one of them wins, and no content that was answered for is lost unseen.
async fn of_two_writers_one_wins(product: Product) {
    let server = Server::start(product);
    let (one, two) = (probed(&server).await, probed(&server).await);
    for round in 0..8 {
        let name = format!("f{round}");
        let base = write(&one, &name, b"base", Expect::Absent).await.unwrap();
        let expect = Expect::Version(base.version);
        let place = at(&name);
        let (first, second) = (round * 2 + 1000, round * 2 + 1001);
        let (a, b) = tokio::join!(
            one.write(&place, upload(b"by one", first), expect.clone()),
            two.write(&place, upload(b"by two too", second), expect.clone())
        );
        assert!(a.is_err() || b.is_err(), "{round}: both won");
        for (answer, remote, nonce) in [(&a, &one, first), (&b, &two, second)] {
            // an answer that says nothing definite is followed by a look, as the engine does it
            if answer.as_ref().is_err_and(|error| error.kind.is_unanswered()) {
                remote.tidy(&place, &expect, &tag(nonce)).await.unwrap();
            }
        }
        let there = std::fs::read(server.root().join(&name)).unwrap();
        if let Some(won) = [(&a, "by one"), (&b, "by two too")].iter().find(|(a, _)| a.is_ok()) {
            assert_eq!(String::from_utf8(there).unwrap(), won.1);
        } else {
            assert_eq!(there, b"base");
        }
    }
    let left = on_disk(&server, "");
    assert!(!left.iter().any(|name| name.starts_with(".dewfs-")), "{left:?}");
}

/// Somebody replaces the file while it is being replaced here: nothing that nobody saw is lost.
async fn a_change_behind_the_back_survives_a_write(product: Product) {
    let server = Arc::new(Server::start(product));
    let remote = probed(&server).await;
    let base = write(&remote, "a", b"base", Expect::Absent).await.unwrap();
    let mut body = upload(b"ours, which is longer", 9);
    let theirs = Arc::clone(&server);
    body.still_whole = Some(Arc::new(move || {
        theirs.put("a", b"theirs, put there at the last moment");
        true
    }));
    let error = remote.write(&at("a"), body, Expect::Version(base.version)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionMismatch);
    assert_eq!(
        std::fs::read(server.root().join("a")).unwrap(),
        b"theirs, put there at the last moment"
    );
    assert_eq!(on_disk(&server, ""), ["a"]);
}

async fn what_an_attempt_left_is_tidied_and_nothing_unknown_removed(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let temp = ".dewfs-tmp.m1.7.4--a";
    let aside = ".dewfs-held.m1.7.4--a";
    server.put("a", b"base");
    let base = Expect::Version(remote.stat(&at("a")).await.unwrap().unwrap().version);
    // died before anything was moved
    server.put(temp, b"ours");
    let listed = remote.list(&at(""), None).await.unwrap().entries.len();
    assert_eq!(listed, 1, "a temporary is hidden");
    remote.tidy(&at("a"), &base, &tag(4)).await.unwrap();
    assert_eq!(on_disk(&server, ""), ["a"]);
    // died after the old one was moved aside
    std::fs::rename(server.root().join("a"), server.root().join(aside)).unwrap();
    server.put(temp, b"ours");
    remote.tidy(&at("a"), &base, &tag(4)).await.unwrap();
    assert_eq!(on_disk(&server, ""), ["a"]);
    assert_eq!(std::fs::read(server.root().join("a")).unwrap(), b"base");
    // died after the new one was moved in
    std::fs::rename(server.root().join("a"), server.root().join(aside)).unwrap();
    server.put("a", b"ours");
    remote.tidy(&at("a"), &base, &tag(4)).await.unwrap();
    assert_eq!(on_disk(&server, ""), ["a"]);
    assert_eq!(std::fs::read(server.root().join("a")).unwrap(), b"ours");
    // what was moved aside is somebody else's, and so is what is there now
    server.put(aside, b"unknown to us");
    remote.tidy(&at("a"), &base, &tag(4)).await.unwrap();
    assert_eq!(on_disk(&server, ""), ["a", "a (kept 7-4)"]);
    assert_eq!(std::fs::read(server.root().join("a (kept 7-4)")).unwrap(), b"unknown to us");
    remote.tidy(&at("gone/a"), &base, &tag(4)).await.unwrap();
}

async fn young_versions_settle_by_the_servers_clock(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let written = write(&remote, "a", b"young", Expect::Absent).await.unwrap();
    let is_coarse = matches!(product, Product::Nginx | Product::Apache);
    assert_eq!(written.settled, !is_coarse);
    let settles = async || {
        let seen = remote.stat(&at("a")).await.unwrap().unwrap();
        assert_eq!(seen.version, written.version);
        seen.settled
    };
    assert!(holds_soon(Duration::from_secs(10), settles).await, "it never settles");
}
