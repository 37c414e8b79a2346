//! The WebDAV remote against the sentences that every remote holds, on real servers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::conformance::{Actor, Subject, run_all};
use crate::support::servers::{Product, Server};
use async_trait::async_trait;
use dewfs::remote::Remote;
use dewfs::remote::webdav::{WebDavOptions, WebDavRemote};

/// A folder of a server, and a clock of its own.
struct Disk {
    server: Arc<Server>,
    folder: String,
    /// Each content put here is of another second, long ago: servers whose versions are coarse are sure of it at once.
    second: AtomicU64,
}

impl Disk {
    fn place(&self, path: &str) -> PathBuf {
        self.server.root().join(&self.folder).join(path)
    }
}

#[async_trait]
impl Actor for Disk {
    async fn put(&self, path: &str, content: &[u8]) {
        // as servers do it: whoever is reading goes on reading what was there
        self.server.put("../new content", content);
        let second = self.second.fetch_add(1, Ordering::Relaxed);
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000 + second);
        let new = self.server.root().join("../new content");
        std::fs::File::options().write(true).open(&new).unwrap().set_modified(then).unwrap();
        std::fs::rename(new, self.place(path)).unwrap();
    }
    async fn mkdir(&self, path: &str) {
        self.server.make_folder(format!("{}/{path}", self.folder));
    }
    async fn rm(&self, path: &str) {
        let path = self.place(path);
        if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) }.unwrap();
    }
    async fn mv(&self, from: &str, to: &str) {
        std::fs::rename(self.place(from), self.place(to)).unwrap();
    }
    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.place(path)).ok()
    }
    async fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.place(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

async fn conforms(product: Product) {
    let shared = Arc::new(Server::start(product));
    let count = AtomicU64::new(0);
    run_all(|| {
        // without a directory cache rclone reads everything again for each step below its root
        let server = match product {
            Product::Rclone => Arc::new(Server::start(product)),
            _ => Arc::clone(&shared),
        };
        let is_shared = Arc::ptr_eq(&server, &shared);
        let count = count.fetch_add(1, Ordering::Relaxed);
        let folder = if is_shared { format!("sentence {count}") } else { ".".to_owned() };
        async move {
            if is_shared {
                server.make_folder(&folder);
            }
            let url = format!("{}{folder}/", server.url());
            let remote = WebDavRemote::open(&WebDavOptions::new(url)).unwrap();
            remote.probe().await.unwrap();
            let second = AtomicU64::new(0);
            Subject { remote: Arc::new(remote), actor: Box::new(Disk { server, folder, second }) }
        }
    })
    .await;
}

#[tokio::test]
async fn nginx() {
    conforms(Product::Nginx).await;
}

#[tokio::test]
async fn apache() {
    conforms(Product::Apache).await;
}

#[tokio::test]
async fn lighttpd() {
    conforms(Product::Lighttpd).await;
}

#[tokio::test]
async fn rclone() {
    conforms(Product::Rclone).await;
}
