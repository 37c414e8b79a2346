//! The WebDAV remote against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/servers.rs"]
mod servers;

use dewfs::remote::webdav::{WebDavOptions, WebDavRemote};
use dewfs::remote::{ErrorKind, Kind, Locator, Name, Remote, RemotePath};
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

macro_rules! on_every_server {
    ($($name:ident),* $(,)?) => { $( mod $name {
        use super::servers::Product;
        #[tokio::test] async fn nginx() { super::$name(Product::Nginx).await; }
        #[tokio::test] async fn apache() { super::$name(Product::Apache).await; }
        #[tokio::test] async fn lighttpd() { super::$name(Product::Lighttpd).await; }
        #[tokio::test] async fn rclone() { super::$name(Product::Rclone).await; }
    } )* };
}

on_every_server!(lists_and_reads);
