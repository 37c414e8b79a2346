//! The example's remote keeps what every remote promises, and is mounted by the example's program as any other.
#![allow(unreachable_pub, dead_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "../examples/custom_remote.rs"]
mod custom_remote;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use custom_remote::KeyValue;
use dewfs::engine::{Engine, Settings};
use dewfs::model::{Ino, Pin};
use dewfs::remote::{AttemptTag, Body, Digest, Expect, Locator, Name, Remote, RemotePath, Upload};
use support::conformance::{Actor, Subject, run_all};

/// Changes the store through another hand of the same store.
struct Other(Arc<KeyValue>, tempfile::TempDir);

fn at(path: &str) -> Locator {
    let names = path.split('/').filter(|name| !name.is_empty());
    Locator::at(RemotePath(names.map(|name| Name::new(name).unwrap()).collect()))
}

fn tag() -> AttemptTag {
    AttemptTag { mount: "other".into(), item: 1, nonce: 1 }
}

fn upload(content: &[u8]) -> Upload {
    Upload {
        body: Body::Memory(content.to_vec().into()),
        digest: Digest { size: content.len() as u64, hash: *blake3::hash(content).as_bytes() },
        mtime: None,
        mode: None,
        tag: tag(),
        still_whole: None,
        progress: None,
        pace: None,
    }
}

#[async_trait]
impl Actor for Other {
    async fn put(&self, path: &str, content: &[u8]) {
        self.0.write(&at(path), upload(content), Expect::Any).await.unwrap();
    }
    async fn mkdir(&self, path: &str) {
        self.0.make_folder(&at(path)).await.unwrap();
    }
    async fn rm(&self, path: &str) {
        self.0.remove(&at(path), Expect::Any, &tag()).await.unwrap();
    }
    async fn mv(&self, from: &str, to: &str) {
        self.0.rename(&at(from), &at(to), Expect::Any, &tag()).await.unwrap();
    }
    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        use futures_util::TryStreamExt as _;
        let seen = self.0.stat(&at(path)).await.unwrap()?;
        let stream = self.0.read(&at(path), &seen.version, 0..seen.size).await.ok()?;
        let pieces: Vec<bytes::Bytes> = stream.bytes.try_collect().await.unwrap();
        Some(pieces.concat())
    }
    async fn names(&self, folder: &str) -> BTreeSet<String> {
        let folder = at(folder).path;
        let saved = std::fs::read(self.1.path().join("store")).unwrap_or(b"[]".to_vec());
        let saved: Vec<(RemotePath, serde_json::Value)> = serde_json::from_slice(&saved).unwrap();
        let inside = saved.iter().filter(|(key, _)| key.parent().as_ref() == Some(&folder));
        inside.map(|(key, _)| key.name().unwrap().lossy().into_owned()).collect()
    }
    async fn tick(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_what_every_remote_promises() {
    run_all(|| async {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(KeyValue::open(dir.path().join("store").to_str().unwrap()).unwrap());
        Subject { remote: store.clone(), actor: Box::new(Other(store, dir)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_offers_in_process_what_the_socket_offers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(KeyValue::open(dir.path().join("store").to_str().unwrap()).unwrap());
    store.write(&at("a"), upload(&[7; 50_000]), Expect::Absent).await.unwrap();
    let state = dir.path().join("state");
    let start = || Engine::start(Settings::default(), &state, store.clone());
    let engine = start().await.unwrap();
    let mut events = engine.events();
    let a = engine.resolve(b"a", true).await.unwrap();
    assert_eq!(engine.item_status(a).await.unwrap().word(), "online-only");
    assert_eq!(engine.hydrate(a).await.unwrap().bytes, 50_000);
    assert_eq!(engine.item_status(a).await.unwrap().present_bytes, 50_000);
    engine.set_pin(a, Pin::Pinned).await.unwrap();
    engine.set_custom_data(a, "icon", Some(b"red")).await.unwrap();
    assert!(engine.free(a, false).await.unwrap().bytes > 0);
    engine.sync_now(Ino::ROOT).await.unwrap();
    assert!(engine.wait_in_sync(Ino::ROOT, None).await.unwrap());
    let told = async { while events.recv().await.unwrap().event != "pin" {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), told).await.unwrap();
    engine.stop().await;
    let engine = start().await.unwrap();
    assert_eq!(engine.custom_data(a, "icon").unwrap().unwrap(), b"red");
    assert!(engine.list_xattr(a).wait().await.unwrap().is_empty(), "users do not see it");
    engine.set_custom_data(a, "icon", None).await.unwrap();
    assert_eq!(engine.custom_data(a, "icon").unwrap(), None);
    engine.stop().await;
}

/// The programs that cargo has built beside this test.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join(name)
}

#[test]
fn the_example_is_mounted_by_its_program_and_by_mount() {
    let cargo = |words: &[&str]| {
        let status = Command::new(env!("CARGO")).args(words).status().unwrap();
        assert!(status.success(), "{words:?}");
    };
    cargo(&["build", "--quiet", "--locked", "--example", "custom_remote"]);
    cargo(&["build", "--quiet", "--locked", "--package", "mount-helper"]);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = dir.path().canonicalize().unwrap();
    // What mount(8) calls finds the program beside it.
    std::fs::copy(built("examples/custom_remote"), home.join("dewfs")).unwrap();
    std::fs::copy(built("mount-dewfs"), home.join("mount.dewfs")).unwrap();
    std::fs::create_dir(home.join("mnt")).unwrap();
    let spec = format!("mystore://{}", home.join("store").display());
    let options = format!(
        "state_dir={},write_back_delay=10ms,poll=1s,min_free=0",
        home.join("state").display()
    );
    let run = |program: &str, words: &[&str]| {
        let output =
            Command::new(home.join(program)).current_dir(&home).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {words:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let tested = run("dewfs", &["remote", "test", &spec]);
    assert!(tested.contains("key-value store"), "{tested}");
    run("dewfs", &["mount", &spec, "mnt", "-o", &options]);
    std::fs::create_dir(home.join("mnt/folder")).unwrap();
    std::fs::write(home.join("mnt/folder/note"), "kept").unwrap();
    run("dewfs", &["sync", "--wait", "--timeout", "20s", "mnt"]);
    assert!(run("dewfs", &["status", "mnt"]).contains(&spec));
    run("dewfs", &["umount", "mnt"]);
    // As mount -t dewfs calls it, with a state that knows nothing yet.
    let fresh = format!("state_dir={},min_free=0", home.join("fresh").display());
    run("mount.dewfs", &[&spec, "mnt", "-o", &fresh]);
    assert_eq!(std::fs::read_to_string(home.join("mnt/folder/note")).unwrap(), "kept");
    let wrong = Command::new(home.join("dewfs"))
        .args(["mount", "mystore://a:b@c/", "mnt"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("password"), "{wrong:?}");
    run("dewfs", &["umount", "mnt"]);
}
