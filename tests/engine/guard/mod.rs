//! Very many removals or overwrites at once, here and at the remote.

mod gone;
mod moment;
mod own;
mod root;
mod weighed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::world::{PATIENCE, READ, World, quick_settings};
use dewfs::engine::{Lane, MountStatus, Settings};
use dewfs::model::{Content, Ino};
use dewfs::remote::memory::{Gate, MemoryOptions, MemoryStore, Operation, Step};

fn guarded(limit: u32) -> Settings {
    Settings { guard: limit, write_back_delay: Duration::from_millis(5), ..quick_settings() }
}

/// A world in which `docs` holds `files` and `other` three times as many; everything is known here, `docs` is hydrated.
async fn world_of(files: usize, settings: Settings) -> World {
    let store = MemoryStore::new(MemoryOptions { page: 50, ..MemoryOptions::default() });
    world_on(&store, files, settings).await
}

async fn world_on(store: &Arc<MemoryStore>, files: usize, settings: Settings) -> World {
    for folder in ["docs", "other"] {
        store.mkdir(folder).unwrap();
        let files = if folder == "docs" { files } else { 3 * files };
        for number in 0..files {
            store.put(&format!("{folder}/f{number}"), format!("{folder} {number}")).unwrap();
        }
    }
    let state = Arc::new(tempfile::tempdir().unwrap());
    let world = World::start(store.clone(), state, settings).await;
    for folder in ["docs", "other"] {
        world.names(folder).await;
    }
    world.engine.hydrate(world.ino("docs").await).await.unwrap();
    world.in_sync().await;
    world
}

async fn status(world: &World) -> MountStatus {
    world.engine.mount_status().await.unwrap()
}

async fn held(world: &World, count: u64) {
    world.until(&format!("{count} held"), async || status(world).await.held == count).await;
}

fn files_there(world: &World, folder: &str) -> usize {
    world.there().iter().filter(|(path, _)| path.starts_with(&format!("{folder}/"))).count()
}

/// Does it while nothing is sent or begun, so that how much is held does not hang on how fast anybody is: as many as `guard=`
/// may go before there are more of them.
async fn at_once(world: &World, act: impl AsyncFnOnce()) {
    world.engine.pause(Lane::All).await.unwrap();
    act().await;
    world.engine.resume().await.unwrap();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
}

async fn empty(world: &World, folder: &str) {
    for name in world.names(folder).await {
        world.remove(&format!("{folder}/{name}")).await.unwrap();
    }
}

/// S31 "More than `guard=` deletions or overwrites within a minute that are also more than half of a folder tree are held, not
/// sent, until a person looked (`dewfs held`, `release`, `undo`); other changes go on."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_removals_of_a_folder_tree_are_held_and_others_go_on() {
    let world = world_of(30, guarded(10)).await;
    at_once(&world, async || {
        empty(&world, "docs").await;
        world.remove("docs").await.unwrap();
    })
    .await;
    held(&world, 30).await;
    world.write("other/f1", b"edited").await;
    world.write("new", b"new").await;
    world.remove("other/f2").await.unwrap();
    let sent = async || {
        world.content_there("other/f1").as_deref() == Some(b"edited")
            && world.content_there("new").is_some()
            && world.content_there("other/f2").is_none()
    };
    world.until("the others are sent", sent).await;
    assert_eq!(files_there(&world, "docs"), 30);
    let now = status(&world).await;
    assert_eq!((now.state.word(), now.held), ("degraded", 30));
    assert!(now.reason.unwrap().contains("dewfs held"));
    let waited = world.engine.wait_in_sync(Ino::ROOT, Some(PATIENCE)).await.unwrap();
    assert!(!waited, "what is held waits for a person");
    let list = world.engine.held().await.unwrap();
    assert_eq!(list.len(), 30);
    assert!(list.iter().all(|one| one.what == "delete" && one.path.starts_with(b"docs/f")));
    // Also after a restart.
    let world = world.restart().await;
    world.until("online", async || status(&world).await.state.word() == "degraded").await;
    assert_eq!((files_there(&world, "docs"), status(&world).await.held), (30, 30));
    assert_eq!(world.engine.release_held().await.unwrap(), 30);
    world.in_sync().await;
    assert!(world.there().iter().all(|(path, _)| !path.starts_with("docs")));
}

/// S33 "`dewfs undo` brings everything back: deleted entries under their names, overwritten files with the remote's content,
/// and what was written over them in `recovered/`."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undo_brings_removed_folders_back_with_what_was_here() {
    let world = world_of(20, guarded(10)).await;
    at_once(&world, async || {
        empty(&world, "docs").await;
        world.remove("docs").await.unwrap();
        empty(&world, "other").await;
    })
    .await;
    held(&world, 80).await;
    let undone = world.engine.undo_held().await.unwrap();
    assert_eq!(undone.len(), 80);
    assert!(undone.iter().all(|one| one.what == "back" && one.kept.is_none()), "{undone:?}");
    world.in_sync().await;
    assert_eq!((world.names("docs").await.len(), world.names("other").await.len()), (20, 60));
    for number in 0..20 {
        let item = world.engine.item_status(world.ino(&format!("docs/f{number}")).await).await;
        assert_eq!(item.unwrap().content, Content::Hydrated, "docs was here");
        for folder in ["docs", "other"] {
            let path = format!("{folder}/f{number}");
            assert_eq!(
                &world.read(&path).await.unwrap()[..],
                format!("{folder} {number}").as_bytes()
            );
        }
    }
    assert_eq!(status(&world).await.held, 0);
}

fn with_scratch() -> Settings {
    let mut settings = guarded(10);
    settings.exclude.push("scratch/".into());
    settings
}

/// Where names are kept here only, all of a folder tree was deleted at the remote by moving its files there, and nobody was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_files_moved_to_where_they_are_kept_here_only_are_held() {
    for lets_go in [true, false] {
        let world = world_of(20, with_scratch()).await;
        world.mkdir("scratch").await;
        at_once(&world, async || {
            for number in 0..20 {
                let (from, to) = (format!("docs/f{number}"), format!("scratch/f{number}"));
                world.rename(&from, &to).await.unwrap();
            }
        })
        .await;
        held(&world, 20).await;
        let list = world.engine.held().await.unwrap();
        let is_told = |what, path: &[u8]| what == "delete" && path.starts_with(b"docs/f");
        assert!(list.iter().all(|one| is_told(one.what, &one.path)), "{list:?}");
        assert_eq!(files_there(&world, "docs"), 20);
        if lets_go {
            assert_eq!(world.engine.release_held().await.unwrap(), 20);
            world.in_sync().await;
            assert_eq!(files_there(&world, "docs"), 0);
            continue;
        }
        let undone = world.engine.undo_held().await.unwrap();
        assert_eq!(undone.len(), 20);
        let is_back = |what, path: &[u8]| what == "back" && path.starts_with(b"docs/f");
        assert!(undone.iter().all(|one| is_back(one.what, &one.path)), "{undone:?}");
        world.in_sync().await;
        assert_eq!((files_there(&world, "docs"), status(&world).await.held), (20, 0));
        world.until("they are shown", async || world.names("docs").await.len() == 20).await;
        assert_eq!(&world.read("docs/f7").await.unwrap()[..], b"docs 7");
        assert_eq!(&world.read("scratch/f7").await.unwrap()[..], b"docs 7");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undo_gives_overwritten_files_the_remotes_content_and_keeps_ours() {
    let world = world_of(20, guarded(10)).await;
    at_once(&world, async || {
        for number in 0..20 {
            world.write(&format!("docs/f{number}"), format!("scrambled {number}").as_bytes()).await;
        }
    })
    .await;
    held(&world, 20).await;
    assert!(world.engine.held().await.unwrap().iter().all(|one| one.what == "overwrite"));
    let undone = world.engine.undo_held().await.unwrap();
    assert_eq!(undone.len(), 20);
    for one in &undone {
        assert_eq!(one.what, "reverted");
        let kept = one.kept.as_ref().expect("a place in recovered/");
        let number = String::from_utf8_lossy(&one.path).trim_start_matches("docs/f").to_owned();
        assert_eq!(std::fs::read_to_string(kept).unwrap(), format!("scrambled {number}"));
    }
    world.in_sync().await;
    for number in 0..20 {
        let read = world.read(&format!("docs/f{number}")).await.unwrap();
        assert_eq!(&read[..], format!("docs {number}").as_bytes());
    }
    assert_eq!(files_there(&world, "docs"), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_by_rename_is_held_as_an_overwrite() {
    let world = world_of(20, guarded(10)).await;
    at_once(&world, async || {
        for number in 0..20 {
            world.write("temporary", format!("saved {number}").as_bytes()).await;
            world.rename("temporary", &format!("docs/f{number}")).await.unwrap();
        }
    })
    .await;
    held(&world, 20).await;
    assert_eq!(world.content_there("docs/f3").unwrap(), b"docs 3");
    let undone = world.engine.undo_held().await.unwrap();
    let kept = undone.iter().filter(|one| one.kept.is_some()).count();
    let others: Vec<_> = undone.iter().filter(|one| one.kept.is_none()).collect();
    assert_eq!(kept, 20, "{others:?}");
    world.in_sync().await;
    assert_eq!(&world.read("docs/f3").await.unwrap()[..], b"docs 3");
}

/// What had been sent as a temporary counted as sent for good: once it had taken another file's place, `undo` destroyed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_undo_keeps_what_was_sent_before_it_took_its_place() {
    let world = world_of(20, guarded(10)).await;
    for number in 0..20 {
        world.write(&format!("temporary {number}"), format!("saved {number}").as_bytes()).await;
    }
    world.in_sync().await;
    at_once(&world, async || {
        for number in 0..20 {
            let file = format!("docs/f{number}");
            world.rename(&format!("temporary {number}"), &file).await.unwrap();
        }
    })
    .await;
    let enough = async || status(&world).await.held >= 20;
    world.until("they are held", enough).await;
    let undone = world.engine.undo_held().await.unwrap();
    let kept: Vec<String> = undone
        .iter()
        .filter_map(|one| one.kept.as_ref())
        .map(|kept| std::fs::read_to_string(kept).unwrap())
        .collect();
    assert!(kept.len() >= 10 && kept.iter().all(|one| one.starts_with("saved ")), "{kept:?}");
    world.in_sync().await;
    for number in 0..20 {
        // One that was not held yet is sent.
        let saved = format!("saved {number}");
        let now = world.content_there(&format!("docs/f{number}")).unwrap();
        let is_back = now == format!("docs {number}").as_bytes();
        assert_eq!(kept.contains(&saved), is_back, "{number}: {kept:?}");
        assert!(is_back || now == saved.as_bytes());
    }
}

/// S32 "What was created here and never sent, moves, freed space and evictions never count."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_files_moves_and_freed_space_do_not_count() {
    let world = world_of(30, guarded(10)).await;
    world.store.set_online(false);
    world.mkdir("new").await;
    for number in 0..30 {
        world.write(&format!("new/n{number}"), b"never sent").await;
    }
    empty(&world, "new").await;
    world.store.set_online(true);
    world.in_sync().await;
    world.mkdir("moved").await;
    for number in 0..30 {
        world.rename(&format!("docs/f{number}"), &format!("moved/f{number}")).await.unwrap();
    }
    world.in_sync().await;
    assert_eq!(files_there(&world, "moved"), 30);
    let freed = world.engine.free(world.ino("moved").await, false).await.unwrap();
    assert!(freed.bytes > 0);
    world.in_sync().await;
    assert_eq!((status(&world).await.held, files_there(&world, "moved")), (0, 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn less_than_half_of_a_folder_tree_is_sent() {
    let world = world_of(40, guarded(10)).await;
    for number in 0..15 {
        world.remove(&format!("docs/f{number}")).await.unwrap();
    }
    world.in_sync().await;
    assert_eq!((status(&world).await.held, files_there(&world, "docs")), (0, 25));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_the_guard_allows_goes_before_the_rest_is_held() {
    let world = world_of(60, guarded(10)).await;
    empty(&world, "docs").await;
    let all_held = async || {
        let held = usize::try_from(status(&world).await.held).unwrap();
        held > 0
            && held == files_there(&world, "docs")
            && status(&world).await.pending == held as u64
    };
    world.until("the rest is held", all_held).await;
    let there = files_there(&world, "docs");
    assert!(there >= 50, "{there} of 60 are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_guard_nothing_is_held() {
    let world = world_of(30, guarded(0)).await;
    empty(&world, "docs").await;
    world.in_sync().await;
    assert_eq!(files_there(&world, "docs"), 0);
}
