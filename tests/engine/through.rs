//! Files that the kernel reads and writes past the engine, over a registrar that only counts: who may go past, and what of it
//! is seen.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::world::{self, READ, WRITE, World, pattern, quick_settings, same};
use dewfs::engine::{Backings, OpenMode, Settings};
use dewfs::model::Ino;
use dewfs::remote::memory::MemoryOptions;

/// Registers everything, and knows what is registered.
#[derive(Default)]
struct Counting {
    last: AtomicU32,
    registered: Mutex<HashSet<u32>>,
}

impl Backings for Counting {
    fn register(&self, _file: BorrowedFd<'_>) -> io::Result<u32> {
        let id = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        self.registered.lock().unwrap().insert(id);
        Ok(id)
    }

    fn unregister(&self, id: u32) {
        assert!(self.registered.lock().unwrap().remove(&id), "{id} ends twice");
    }
}

/// A world whose kernel can go past the engine; `None` where this machine's file times or leases do not allow it.
async fn world(settings: Settings) -> Option<(World, Arc<Counting>)> {
    let world = World::with(MemoryOptions::default(), settings).await;
    let registrar = Arc::new(Counting::default());
    match world.engine.use_backings(registrar.clone()) {
        Ok(()) => Some((world, registrar)),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// What a program would do past us: the data file of an inode.
fn data_file(world: &World, ino: Ino) -> std::path::PathBuf {
    let mut folders = vec![world.state.path().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let stem = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() {
                folders.push(entry);
            } else if stem.split_once('.').is_some_and(|(at, _)| at == ino.0.to_string()) {
                return entry;
            }
        }
    }
    panic!("no data file")
}

/// A writer that empties the file asks for no room either: where there is little, it does not go past us.
#[tokio::test(flavor = "multi_thread")]
async fn who_empties_a_file_goes_past_only_where_there_is_room() {
    let small = Settings { cache_size: 8 << 20, ..quick_settings() };
    let Some((world, registrar)) = world(small).await else { return };
    let ino = world.write("doc", &pattern(100_000, 1)).await;
    world.in_sync().await;
    for mode in [WRITE, OpenMode { truncate: true, ..WRITE }, READ] {
        let opened = world.engine.open(ino, mode).wait().await.unwrap();
        assert_eq!(opened.passthrough, None, "{mode:?}");
        world.close(ino, opened.handle).await;
    }
    assert!(registrar.registered.lock().unwrap().is_empty());
}

/// Opening again while the last handle is being let go of leaves nothing written past us unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_past_us_is_seen_however_fast_it_is_opened_again() {
    let slow = Settings { write_back_delay: Duration::from_secs(60), ..quick_settings() };
    let Some((world, registrar)) = world(slow).await else { return };
    let ino = world.write("doc", &pattern(100, 1)).await;
    let path = data_file(&world, ino);
    let mut size = 100;
    for round in 0..400 {
        let first = world.engine.open(ino, READ).wait().await.unwrap();
        let engine = world.engine.clone();
        let closes = std::thread::spawn(move || engine.release(ino, first.handle));
        let second = loop {
            // The very moment in which the other one goes.
            let opened = world.engine.open(ino, WRITE).wait().await.unwrap();
            if round % 2 == 0 || opened.passthrough.is_some() {
                break opened;
            }
            world.close(ino, opened.handle).await;
        };
        closes.join().unwrap();
        if second.passthrough.is_some() {
            size += 1;
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
        }
        assert_eq!(world.engine.stat(ino).wait().await.unwrap().size, size, "round {round}");
        world.close(ino, second.handle).await;
    }
    assert_eq!(world.stat("doc").await.size, size);
    world.in_sync().await;
    assert_eq!(world.content_there("doc").unwrap().len() as u64, size);
    assert!(registrar.registered.lock().unwrap().is_empty());
}

/// An empty file that was never written is no lost one: after a restart it is as empty as it was saved.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_saved_over_another_stays_empty_over_a_restart() {
    let slow = Settings { write_back_delay: Duration::from_secs(60), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), slow).await;
    world.store.put("doc", "known").unwrap();
    same(&world.read("doc").await.unwrap(), b"known");
    let (stat, opened) = world
        .engine
        .create(Ino::ROOT, world::name("new"), 0o644, WRITE, world::ME)
        .wait()
        .await
        .unwrap();
    world.close(stat.ino, opened.handle).await;
    world.rename("new", "doc").await.unwrap();
    assert_eq!(world.stat("doc").await.size, 0);
    let world = world.restart().await;
    assert_eq!(world.stat("doc").await.size, 0);
    assert!(world.read("doc").await.unwrap().is_empty());
    world.in_sync().await;
    assert_eq!(world.content_there("doc").unwrap(), b"");
}
