//! The WebDAV remote against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/servers.rs"]
mod servers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dewfs::remote::webdav::{WebDavOptions, WebDavRemote};
use dewfs::remote::{
    AttemptTag, Body, Conditional, Digest, ErrorKind, Expect, Kind, Locator, Name, Observed,
    Remote, RemotePath, Result, Upload, Version,
};
use futures_util::TryStreamExt;
use servers::{Product, Server};

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
        tag: tag(nonce),
        still_whole: None,
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
    loop {
        match remote.write(&at(path), upload(bytes, nonce), expect.clone()).await {
            Err(error) if matches!(error.kind, ErrorKind::Unsettled { .. }) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
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
    assert_eq!(error.kind, ErrorKind::VersionMismatch);
    assert_eq!(on_disk(&server, ""), ["a", "b", "folder"]);
}

async fn a_file_that_changes_while_it_is_sent_is_not_published(product: Product) {
    let server = Server::start(product);
    let remote = probed(&server).await;
    let mut body = upload(&vec![b'x'; 1 << 20], 1);
    body.still_whole = Some(std::sync::Arc::new(|| false));
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
    let seen = std::sync::Arc::new(AtomicU64::new(0));
    let told = std::sync::Arc::clone(&seen);
    body.progress = Some(std::sync::Arc::new(move |sent| told.store(sent, Ordering::Relaxed)));
    body.still_whole = Some(std::sync::Arc::new(|| true));
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

    server.put("f/unlisted", b"only here");
    let error = remote.remove(&at("f"), Expect::Folder, &tag(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotEmpty);
    assert_eq!(std::fs::read(server.root().join("f/unlisted")).unwrap(), b"only here");
    let error = remote.remove(&at("file"), Expect::Folder, &tag(2)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionMismatch);
    std::fs::remove_file(server.root().join("f/unlisted")).unwrap();
    server.put("f/.dewfs-tmp.other.1.2--x", b"its owner has it");
    remote.remove(&at("f"), Expect::Folder, &tag(3)).await.unwrap();
    let error = remote.remove(&at("f"), Expect::Folder, &tag(4)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(on_disk(&server, ""), ["file"]);
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

macro_rules! on_every_server {
    ($($name:ident),* $(,)?) => { $( mod $name {
        use super::servers::Product;
        #[tokio::test] async fn nginx() { super::$name(Product::Nginx).await; }
        #[tokio::test] async fn apache() { super::$name(Product::Apache).await; }
        #[tokio::test] async fn lighttpd() { super::$name(Product::Lighttpd).await; }
        #[tokio::test] async fn rclone() { super::$name(Product::Rclone).await; }
    } )* };
}

on_every_server!(
    lists_and_reads,
    is_probed,
    writes_under_conditions,
    a_file_that_changes_while_it_is_sent_is_not_published,
    a_large_file_is_sent_from_disk,
    folders_are_made_and_removed_only_empty,
    files_are_removed_under_their_version,
    renames_never_replace,
);
