//! The examples' remotes keep what every remote promises, and are mounted by the examples' programs as any other.
#![allow(unreachable_pub, dead_code)]

#[path = "../../examples/custom_remote.rs"]
mod custom_remote;
#[path = "../../examples/read_only_remote.rs"]
mod read_only_remote;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::support::conformance::reading::run_reading;
use crate::support::conformance::{Actor, Subject, run_all};
use async_trait::async_trait;
use custom_remote::KeyValue;
use dewfs::engine::{Engine, Settings};
use dewfs::model::{Ino, Pin};
use dewfs::remote::{AttemptTag, Body, Digest, Expect, Locator, Name, Remote, RemotePath, Upload};
use read_only_remote::Archive;

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
        extended: Default::default(),
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
async fn a_store_of_four_methods_keeps_what_is_promised_about_reading() {
    run_reading(|| async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        std::fs::write(&file, "[[[],[0,null]]]").unwrap();
        let store = Arc::new(KeyValue::open(file.to_str().unwrap()).unwrap());
        Subject { remote: Arc::new(Archive { file }), actor: Box::new(Other(store, dir)) }
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

fn cargo(words: &[&str]) {
    let status = Command::new(env!("CARGO")).args(words).status().unwrap();
    assert!(status.success(), "{words:?}");
}

/// A place with a folder `mnt` and this example as `dewfs`.
fn with_program(example: &str) -> (tempfile::TempDir, PathBuf) {
    cargo(&["build", "--quiet", "--locked", "--example", example]);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = dir.path().canonicalize().unwrap();
    std::fs::copy(built("examples").join(example), home.join("dewfs")).unwrap();
    std::fs::create_dir(home.join("mnt")).unwrap();
    (dir, home)
}

/// Runs one of its programs, wants this exit status, and answers both outputs.
fn ran(home: &Path, status: i32, program: &str, words: &[&str]) -> (String, String) {
    let mut command = Command::new(home.join(program));
    command.current_dir(home).env("XDG_CONFIG_HOME", home.join("config"));
    let output = command.args(words).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{program} {words:?}: {out}{err}");
    (out, err)
}

#[test]
fn the_example_is_mounted_by_its_program_and_by_mount() {
    let (_dir, home) = with_program("custom_remote");
    cargo(&["build", "--quiet", "--locked", "--package", "mount-helper"]);
    // What mount(8) calls finds the program beside it.
    std::fs::copy(built("mount-dewfs"), home.join("mount.dewfs")).unwrap();
    let spec = format!("mystore://{}", home.join("store").display());
    let options = format!(
        "state_dir={},write_back_delay=10ms,poll=1s,min_free=0",
        home.join("state").display()
    );
    let run = |program: &str, words: &[&str]| ran(&home, 0, program, words).0;
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

/// docs/remotes.md "A store that is only read implements four methods, and mounts read-only".
#[test]
fn a_store_of_four_methods_is_mounted_read_only() {
    let (_dir, home) = with_program("read_only_remote");
    let store = home.join("store");
    let writer = KeyValue::open(store.to_str().unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(writer.make_folder(&at("folder"))).unwrap();
    runtime.block_on(writer.write(&at("folder/note"), upload(b"k"), Expect::Absent)).unwrap();
    let spec = format!("archive://{}", store.display());
    let options = format!("state_dir={},poll=1s,min_free=0", home.join("state").display());
    let run = |words: &[&str]| ran(&home, 0, "dewfs", words).0;
    assert!(run(&["remote", "test", &spec]).contains("read-only"));
    run(&["mount", &spec, "mnt", "-o", &options]);
    assert!(run(&["ls", "mnt/folder"]).contains("note"));
    let note = home.join("mnt/folder/note");
    assert_eq!(std::fs::read(&note).unwrap(), b"k");
    let refused = |done: std::io::Result<()>| {
        assert_eq!(done.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    };
    refused(std::fs::write(&note, "mine"));
    refused(std::fs::File::options().append(true).open(&note).map(drop));
    refused(std::fs::write(home.join("mnt/new"), "mine"));
    refused(std::fs::create_dir(home.join("mnt/made")));
    refused(std::fs::rename(&note, home.join("mnt/moved")));
    refused(std::fs::remove_file(&note));
    refused(std::fs::remove_dir(home.join("mnt/folder")));
    assert!(run(&["status", "mnt"]).contains("read-only"));
    assert!(run(&["status", "mnt", "--json"]).contains("\"read_only\":true"));
    assert_eq!(std::fs::read(&note).unwrap(), b"k");
    run(&["umount", "mnt"]);
}

/// `dewfs login` took a store of one's own for a folder, and `dewfs setup --keyring` lost what it should keep.
#[test]
fn regression_a_store_that_signs_in_by_itself_is_no_folder() {
    let (_dir, home) = with_program("custom_remote");
    let spec = format!("mystore://{}", home.join("store").display());
    let remotes = home.join("config/dewfs/remotes");
    std::fs::create_dir_all(&remotes).unwrap();
    let save = |options: &str| {
        let text = format!("spec = '{spec}'\nmountpoint = '{}'\n", home.join("mnt").display());
        std::fs::write(remotes.join("Notes.toml"), text + options).unwrap();
    };
    let login = || ran(&home, 2, "dewfs", &["login", "Notes", "--password-stdin"]).1;
    save("");
    let said = login();
    assert!(said.contains("mystore://") && said.contains("credentials="), "{said}");
    save("[mount]\ncredentials = '/srv/the-secret'\n");
    let said = login();
    assert!(said.contains("/srv/the-secret") && !said.contains("folder"), "{said}");
    let words = ["setup", "Other", &spec, "--yes", "--keyring"];
    let said = ran(&home, 2, "dewfs", &words).1;
    assert!(said.contains("leave --keyring out"), "{said}");
}
