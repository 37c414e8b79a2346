//! The WebDAV remote against the sentences that every remote holds, on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[path = "support/servers.rs"]
#[allow(dead_code, unreachable_pub)]
mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dewfs::remote::Remote;
use dewfs::remote::webdav::{WebDavOptions, WebDavRemote};
use servers::{Product, Server};
use support::conformance::{Actor, Subject, run_all};

struct Disk(Server);

#[async_trait]
impl Actor for Disk {
    async fn put(&self, path: &str, content: &[u8]) {
        self.0.put(path, content);
    }
    async fn mkdir(&self, path: &str) {
        self.0.make_folder(path);
    }
    async fn rm(&self, path: &str) {
        let path = self.0.root().join(path);
        if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) }.unwrap();
    }
    async fn mv(&self, from: &str, to: &str) {
        std::fs::rename(self.0.root().join(from), self.0.root().join(to)).unwrap();
    }
    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.root().join(path)).ok()
    }
    async fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.0.root().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
    async fn tick(&self) {
        // the servers tell their clock in whole seconds
        tokio::time::sleep(Duration::from_millis(2100)).await;
    }
}

async fn conforms(product: Product) {
    run_all(|| async move {
        let server = Server::start(product);
        let remote = WebDavRemote::open(&WebDavOptions::new(server.url())).unwrap();
        remote.probe().await.unwrap();
        Subject { remote: Arc::new(remote), actor: Box::new(Disk(server)) }
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
