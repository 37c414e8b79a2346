//! What a second look at the byte path found: each test is one way in which bytes, handles or room were lost.
#![allow(clippy::unwrap_used, clippy::expect_used, unused_imports, dead_code)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dewfs::engine::{EngineError, OpenMode, Returns, SetAttributes, Settings};
use dewfs::model::Ino;
use dewfs::remote::memory::{Fault, FaultRule, Gate, MemoryOptions, Moment, Operation};
use support::world::{ME, READ, WRITE, World, name, pattern, quick_settings, same};

const TRUNCATE: OpenMode = OpenMode { truncate: true, ..WRITE };

/// The world as it is when the daemon is killed now: what is on the disk, and nothing of its memory.
async fn killed(world: &World) -> World {
    world.remote.cut_off();
    let state = Arc::new(tempfile::tempdir().unwrap());
    copy(&world.state.path().join("state"), &state.path().join("state"));
    World::start(world.store.clone(), state, world.settings.clone()).await
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else if entry.file_name() != "lock" {
            std::fs::copy(path, target).unwrap();
        }
    }
}

/// All data files on the disk.
fn data_files(world: &World) -> Vec<PathBuf> {
    let shelves = std::fs::read_dir(world.state.path().join("state/data")).unwrap().flatten();
    let files = shelves.flat_map(|shelf| std::fs::read_dir(shelf.path()).unwrap().flatten());
    files.map(|file| file.path()).collect()
}

/// S1: the row of an edit is there before its bytes, and the bytes are looked at before the row goes.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_in_place_is_sent_after_a_killed_daemon() {
    let world = World::new().await;
    world.store.put("f", "first").unwrap();
    world.read("f").await.unwrap();
    world.in_sync().await;
    let (ino, handle) = world.open("f", WRITE).await;
    world.write_at(ino, handle, 0, b"EDIT!").await;
    world.engine.flush(ino, handle).wait().await.unwrap();
    let world = killed(&world).await;
    world.in_sync().await;
    assert_eq!(world.content_there("f").unwrap(), b"EDIT!");
}

/// S1: a file that was not here, emptied, written and closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_placeholder_survives_a_killed_daemon_once_it_is_closed() {
    let world = World::new().await;
    world.store.put("f", pattern(100_000, 1)).unwrap();
    let (ino, handle) = world.open("f", TRUNCATE).await;
    world.write_at(ino, handle, 0, b"short").await;
    world.engine.flush(ino, handle).wait().await.unwrap();
    let world = killed(&world).await;
    same(&world.read("f").await.unwrap(), b"short");
    world.in_sync().await;
    assert_eq!(world.content_there("f").unwrap(), b"short");
}

/// `close=remote` means it, also when something else has recorded the edit before.
#[tokio::test(flavor = "multi_thread")]
async fn close_waits_for_the_remote_also_after_an_fsync() {
    let settings = Settings { close: Returns::Remote, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let (stat, opened) = {
        let answer = world.engine.create(Ino::ROOT, name("f"), 0o644, WRITE, ME);
        answer.wait().await.unwrap()
    };
    world.write_at(stat.ino, opened.handle, 0, b"content").await;
    world.engine.sync_file(stat.ino, opened.handle).wait().await.unwrap();
    world.store.inject(FaultRule::next(Operation::Write, Fault::Delay(Duration::from_millis(300))));
    world.engine.flush(stat.ino, opened.handle).wait().await.unwrap();
    assert_eq!(world.content_there("f").as_deref(), Some(&b"content"[..]));
    world.engine.release(stat.ino, opened.handle);
}

/// A create that fails takes back its own count only: the other handle still keeps the version it opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_fails_leaves_other_handles_counted() {
    let world = World::new().await;
    world.store.put("f", "first").unwrap();
    world.read("f").await.unwrap();
    world.in_sync().await;
    let (ino, handle) = world.open("f", READ).await;
    data_files(&world).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let failed = world.engine.create(Ino::ROOT, name("f"), 0o644, TRUNCATE, ME).wait().await;
    assert!(matches!(failed, Err(EngineError::Disk(_))), "{failed:?}");
    world.in_sync().await;
    world.store.put("f", "the second").unwrap();
    world.until("the change", async || world.stat("f").await.size == 10).await;
    assert_ne!(world.ino("f").await, ino, "the open inode was given other content");
    world.engine.release(ino, handle);
}

/// A create that empties a file that is there answers with its new length.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_over_a_file_shows_it_emptied() {
    let world = World::new().await;
    world.store.put("f", "content").unwrap();
    world.names("").await;
    let answer = world.engine.create(Ino::ROOT, name("f"), 0o644, TRUNCATE, ME);
    let (stat, opened) = answer.wait().await.unwrap();
    assert_eq!((stat.size, stat.believe), (0, Duration::ZERO));
    world.close(stat.ino, opened.handle).await;
}

/// A change of size that its caller no longer waits for is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_nobody_waits_for_leaves_no_writer_behind() {
    let world = World::new().await;
    world.store.put("f", pattern(100_000, 1)).unwrap();
    let ino = world.ino("f").await;
    let (gate, mut held) =
        Gate::holding(|step| step.operation == Operation::Read && step.moment == Moment::Arrives);
    world.store.gate(Some(gate));
    let set = SetAttributes { size: Some(50_001), ..SetAttributes::default() };
    let cut = world.engine.set_attributes(ino, None, set, ME).wait();
    let given_up = tokio::time::timeout(Duration::from_millis(300), cut).await;
    assert!(given_up.is_err());
    world.store.gate(None);
    held.close();
    while let Ok(one) = held.try_recv() {
        one.pass();
    }
    world.in_sync().await;
    let freed = world.engine.free(ino, false).await.unwrap();
    assert!(freed.kept.is_empty(), "{freed:?}");
}

/// Content that cannot go now does not keep from sight what can.
#[tokio::test(flavor = "multi_thread")]
async fn room_is_made_however_many_files_are_in_use() {
    let settings = Settings { cache_size: 6 << 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let mut open = Vec::new();
    for index in 0..70 {
        world.store.put(&format!("small{index}"), "x").unwrap();
    }
    world.store.put("big", pattern(4 << 20, 1)).unwrap();
    for index in 0..70 {
        world.read(&format!("small{index}")).await.unwrap();
        open.push(world.open(&format!("small{index}"), READ).await);
    }
    world.read("big").await.unwrap();
    world.in_sync().await;
    world.write("new", &pattern(4 << 20, 2)).await;
    for (ino, handle) in open {
        world.engine.release(ino, handle);
    }
}
