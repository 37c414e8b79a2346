//! Every remote that needs no server, and every decorator, against the sentences of the contract.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::support::conformance::{Actor, Subject, run_all};
use async_trait::async_trait;
use dewfs::remote::folder::FolderRemote;
use dewfs::remote::layers::{Limit, Limits, Patience, Retry, Trace};
use dewfs::remote::memory::{MemoryOptions, MemoryStore, VersionKind};
use dewfs::remote::{Conditional, Remote};

struct MemoryActor(Arc<MemoryStore>);

#[async_trait]
impl Actor for MemoryActor {
    async fn put(&self, path: &str, content: &[u8]) {
        self.0.put(path, content.to_vec()).unwrap();
    }
    async fn mkdir(&self, path: &str) {
        self.0.mkdir(path).unwrap();
    }
    async fn rm(&self, path: &str) {
        self.0.rm(path).unwrap();
    }
    async fn mv(&self, from: &str, to: &str) {
        self.0.mv(from, to).unwrap();
    }
    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.0.content(path).map(|bytes| bytes.to_vec())
    }
    async fn names(&self, folder: &str) -> BTreeSet<String> {
        let folder = dewfs::remote::memory::path(folder);
        let below = self.0.snapshot().into_keys().filter(|p| p.parent().as_ref() == Some(&folder));
        below.map(|path| path.name().unwrap().lossy().into_owned()).collect()
    }
    async fn tick(&self) {
        self.0.tick();
    }
}

struct FolderActor(tempfile::TempDir);

impl FolderActor {
    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

#[async_trait]
impl Actor for FolderActor {
    async fn put(&self, path: &str, content: &[u8]) {
        std::fs::write(self.at(path), content).unwrap();
    }
    async fn mkdir(&self, path: &str) {
        std::fs::create_dir(self.at(path)).unwrap();
    }
    async fn rm(&self, path: &str) {
        let path = self.at(path);
        if path.is_dir() {
            std::fs::remove_dir(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    async fn mv(&self, from: &str, to: &str) {
        std::fs::rename(self.at(from), self.at(to)).unwrap();
    }
    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.at(path)).ok()
    }
    async fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.at(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
    async fn tick(&self) {}
}

fn memory(options: &MemoryOptions) -> Subject {
    let store = MemoryStore::new(options.clone());
    Subject { remote: Arc::new(store.remote()), actor: Box::new(MemoryActor(store)) }
}

fn folder() -> Subject {
    let root = tempfile::tempdir().unwrap();
    let remote: Arc<dyn Remote> = Arc::new(FolderRemote::open(root.path()).unwrap());
    Subject { remote, actor: Box::new(FolderActor(root)) }
}

async fn memory_keeps_the_contract(options: MemoryOptions) {
    run_all(async || memory(&options)).await;
}

#[tokio::test]
async fn memory_with_atomic_conditions() {
    memory_keeps_the_contract(MemoryOptions { stable_ids: true, ..MemoryOptions::default() }).await;
}

#[tokio::test]
async fn memory_that_checks_then_acts() {
    for conditional in [Conditional::Checked, Conditional::None] {
        memory_keeps_the_contract(MemoryOptions { conditional, ..MemoryOptions::default() }).await;
    }
}

#[tokio::test]
async fn memory_with_coarse_versions() {
    for versions in [VersionKind::TickAndIdentity, VersionKind::Tick] {
        memory_keeps_the_contract(MemoryOptions { versions, ..MemoryOptions::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory() {
    run_all(async || folder()).await;
}

fn dressed(subject: Subject, dress: impl Fn(Arc<dyn Remote>) -> Arc<dyn Remote>) -> Subject {
    Subject { remote: dress(subject.remote), actor: subject.actor }
}

fn limited(remote: Arc<dyn Remote>) -> Arc<dyn Remote> {
    let limits = Limits { concurrent: 1, background: 1, background_per_second: None };
    Arc::new(Limit::new(remote, limits))
}

fn retried(remote: Arc<dyn Remote>) -> Arc<dyn Remote> {
    Arc::new(Retry::new(remote, Patience::default()))
}

fn traced(remote: Arc<dyn Remote>) -> Arc<dyn Remote> {
    Arc::new(Trace::new(remote))
}

#[tokio::test]
async fn every_decorator_is_transparent() {
    for dress in [limited, retried, traced] {
        run_all(async || dressed(memory(&MemoryOptions::default()), dress)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_decorators_at_once_over_a_directory() {
    run_all(async || dressed(folder(), |remote| traced(retried(limited(remote))))).await;
}
