//! The state directory was damaged, cut short or cleaned: what was not sent is kept, and is nobody else's.

use std::path::{Path, PathBuf};

use super::*;
use dewfs::engine::{Engine, Returns};

impl World {
    fn state_dir(&self) -> PathBuf {
        self.state.path().join("state")
    }
}

fn kept(state: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(state.join("recovered")).unwrap();
    let files = files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| std::fs::read(path).unwrap()).collect()
}

fn is_kept(state: &Path, contents: &[Vec<u8>]) {
    let kept = kept(state);
    for content in contents {
        assert!(kept.contains(content), "{} bytes are not among {}", content.len(), kept.len());
    }
}

/// Three files that were never sent.
async fn unsent() -> (World, Vec<Vec<u8>>) {
    let world = World::new().await;
    world.names("").await;
    world.store.set_online(false);
    let contents = vec![pattern(40_960, 1), vec![7; 40_960], vec![9; 100]];
    for (number, content) in contents.iter().enumerate() {
        world.write(&format!("unsent {number}"), content).await;
    }
    (world, contents)
}

/// Makes files at once, before anything is looked at in the background.
async fn new_files_are_empty(world: &World) {
    for number in 0..3 {
        world.write(&format!("new {number}"), b"").await;
    }
    for number in 0..3 {
        let path = format!("new {number}");
        assert_eq!(world.read(&path).await.unwrap().len(), 0, "{path}");
    }
    world.in_sync().await;
    for number in 0..3 {
        assert_eq!(world.content_there(&format!("new {number}")).unwrap(), b"");
    }
}

/// S4, the second half: numbers begin anew, and content without a row would be taken for that of another file.
#[tokio::test(flavor = "multi_thread")]
async fn content_without_a_catalog_is_set_aside_and_is_nobody_elses() {
    let (world, contents) = unsent().await;
    world.engine.stop().await;
    let state = world.state_dir();
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        drop(std::fs::remove_file(state.join(file)));
    }
    world.store.set_online(true);
    let world = World::start(world.store, world.state, world.settings).await;
    new_files_are_empty(&world).await;
    is_kept(&state, &contents);
}

/// The catalog goes last: the next start must know that what is left belongs to no row.
#[tokio::test(flavor = "multi_thread")]
async fn setting_aside_that_was_cut_short_goes_on_at_the_next_start() {
    let (world, contents) = unsent().await;
    world.engine.stop().await;
    let state = world.state_dir();
    let mut damaged = std::fs::read(state.join("catalog.db")).unwrap();
    damaged.iter_mut().skip(100).step_by(7).for_each(|byte| *byte ^= 0x5a);
    std::fs::write(state.join("catalog.db"), damaged).unwrap();
    // What cannot be opened cannot be moved: it lies on the shelf after the first file's.
    let in_the_way = state.join("data/04/4.77");
    std::os::unix::fs::symlink("nowhere", &in_the_way).unwrap();
    world.store.set_online(true);
    let remote = Arc::new(world.store.remote());
    let failed = Engine::start(world.settings.clone(), &state, remote).await.err().unwrap();
    assert!(failed.to_string().contains("4.77"), "{failed}");
    std::fs::remove_file(in_the_way).unwrap();
    let world = World::start(world.store, world.state, world.settings).await;
    new_files_are_empty(&world).await;
    is_kept(&state, &contents);
}

fn damage_pages(catalog: &Path, from: usize) {
    let mut damaged = std::fs::read(catalog).unwrap();
    assert!(damaged.len() > (from + 1) * 4096, "{} bytes", damaged.len());
    damaged.iter_mut().skip(from * 4096).step_by(3).for_each(|byte| *byte ^= 0x5a);
    std::fs::write(catalog, damaged).unwrap();
}

/// A bad sector is anywhere in the file, and a mount that never starts again is no better than a lost one.
#[tokio::test(flavor = "multi_thread")]
async fn regression_damage_behind_the_first_pages_is_set_aside() {
    let (world, contents) = unsent().await;
    world.engine.stop().await;
    let state = world.state_dir();
    damage_pages(&state.join("catalog.db"), 2);
    world.store.set_online(true);
    let world = World::start(world.store, world.state, world.settings).await;
    new_files_are_empty(&world).await;
    is_kept(&state, &contents);
}

/// Damage in what no start reads is met by somebody who reads it; the next start knows.
#[tokio::test(flavor = "multi_thread")]
async fn regression_damage_met_while_it_runs_is_set_aside_by_the_next_start() {
    let (world, contents) = unsent().await;
    world.store.set_online(true);
    world.in_sync().await;
    world.store.mkdir("many").unwrap();
    for number in 0..2_000 {
        world.store.put(&format!("many/there {number}"), "x").unwrap();
    }
    world.until("their folder is known", async || world.try_ino("many").await.is_ok()).await;
    world.until("they are known", async || world.names("many").await.len() == 2_000).await;
    world.store.set_online(false);
    world.write("unsent 3", b"only here").await;
    world.engine.stop().await;
    let world = World::start(world.store, world.state, world.settings).await;
    let state = world.state_dir();
    // Under the mount, where its connections have not read: the rows of most names.
    let catalog = state.join("catalog.db");
    let marked = catalog.with_extension("db.damaged");
    damage_pages(&catalog, 24);
    let mut refused = 0;
    for number in 0..2_000 {
        refused += usize::from(world.try_ino(&format!("many/there {number}")).await.is_err());
    }
    assert!(refused > 0 && marked.exists(), "{refused}");
    world.engine.stop().await;
    world.store.set_online(true);
    let world = World::start(world.store, world.state, world.settings).await;
    assert!(!marked.exists());
    new_files_are_empty(&world).await;
    assert_eq!(world.names("many").await.len(), 2_000);
    is_kept(&state, &[contents, vec![b"only here".to_vec()]].concat());
}

/// A removal that was refused made the folder another one for the kernel: whoever stood in it got EIO for everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_whose_removal_was_refused_is_the_one_it_was() {
    let settings = Settings { namespace: Returns::Remote, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.mkdir("d").await;
    world.in_sync().await;
    let before = world.stat("d").await;
    world.engine.pause(Lane::All).await.unwrap();
    world.remove("d").await.unwrap_err();
    let after = world.stat("d").await;
    assert_eq!((after.ino, after.life), (before.ino, before.life));
    world.engine.resume().await.unwrap();
    world.remove("d").await.unwrap();
    world.in_sync().await;
    assert_eq!(world.there(), []);
}
