//! The disk is not filled: what files occupy here stays within `cache_size` at every instant, parts of files go that were
//! not used for long, and whoever writes waits while uploads make room.

mod passing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::space::{Room, Sampler};
use crate::support::world::{READ, WRITE, World, pattern, quick_settings, ready, same};
use bytes::Bytes;
use dewfs::engine::{EngineError, Handle, Settings};
use dewfs::model::{Ino, Pin};
use dewfs::remote::memory::{Fault, FaultRule, MemoryOptions, MemoryStore, Operation, VersionKind};

const MIB: usize = 1 << 20;

fn limited(cache_size: usize) -> Settings {
    Settings { cache_size: cache_size as u64, ..quick_settings() }
}

async fn world_in(room: &Room, settings: &Settings) -> World {
    let state = Arc::new(tempfile::tempdir_in(room.path()).unwrap());
    let store = MemoryStore::new(MemoryOptions::default());
    World::start(store, state, settings.clone()).await
}

async fn world(settings: Settings) -> (World, Sampler) {
    let room = Arc::new(Room::new());
    let world = world_in(&room, &settings).await;
    let state = world.state.clone();
    let sampler = Sampler::start(room, state.path().join("state"), settings.cache_size);
    (world, sampler)
}

async fn read_at(world: &World, ino: Ino, handle: Handle, at: usize, length: usize) -> Bytes {
    world.engine.read(ino, handle, at as u64, length as u32).wait().await.unwrap()
}

/// Reads a range in pieces, as the kernel asks for it, and compares it.
async fn read_through(world: &World, ino: Ino, handle: Handle, at: usize, wanted: &[u8]) {
    let mut done = 0;
    while done < wanted.len() {
        let length = (wanted.len() - done).min(128 << 10);
        let got = read_at(world, ino, handle, at + done, length).await;
        same(&got, &wanted[done..done + length]);
        done += length;
    }
}

/// How many bytes of a file are here, as `st_blocks` says.
async fn here(world: &World, path: &str) -> u64 {
    world.stat(path).await.blocks * 512
}

/// The same of `min_free`, to which the reserve for the catalog counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_and_writers_leave_the_disk_what_must_stay_free() {
    let room = Arc::new(Room::of(c"size=64M,mode=0700"));
    let min_free = 44 * MIB as u64;
    let settings = Settings { min_free, ..quick_settings() };
    let world = world_in(&room, &settings).await;
    let state = world.state.path().join("state");
    let sampler = Sampler::of_free(room, state, min_free, 3 * MIB as u64);
    let world = Arc::new(world);
    for index in 0..3u8 {
        world.store.put(&format!("big{index}"), pattern(12 * MIB, index)).unwrap();
    }
    let mut readers = Vec::new();
    for index in 0..3u8 {
        let world = world.clone();
        readers.push(tokio::spawn(async move {
            same(&world.read(&format!("big{index}")).await.unwrap(), &pattern(12 * MIB, index));
        }));
    }
    for index in 0..12u8 {
        world.write(&format!("written{index}"), &pattern(3 * MIB, index)).await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
    world.in_sync().await;
    sampler.end(0);
}

/// S60 "What content occupies here stays within `cache_size` at every instant, whoever reads or writes at once."
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_files_larger_than_the_cache_stay_within_it() {
    let (world, sampler) = world(limited(8 * MIB)).await;
    let world = Arc::new(world);
    let mut readers = Vec::new();
    for index in 0..4u8 {
        world.store.put(&format!("big{index}"), pattern(12 * MIB, index)).unwrap();
    }
    for index in 0..4u8 {
        let world = world.clone();
        readers.push(tokio::spawn(async move {
            let wanted = pattern(12 * MIB, index);
            let (ino, handle) = world.open(&format!("big{index}"), READ).await;
            for _ in 0..2 {
                read_through(&world, ino, handle, 0, &wanted).await;
            }
            world.close(ino, handle).await;
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    sampler.end(6 * MIB as u64);
}

/// S61 "What was used longest ago goes first, also of one file: a file that is partly used gives back its cold parts."
#[tokio::test(flavor = "multi_thread")]
async fn the_cold_part_of_an_open_file_goes_first() {
    let (world, sampler) = world(limited(8 * MIB)).await;
    let content = pattern(6 * MIB, 1);
    world.store.put("partly", content.clone()).unwrap();
    world.store.put("other", pattern(4 * MIB, 2)).unwrap();
    let (ino, handle) = world.open("partly", READ).await;
    read_through(&world, ino, handle, 0, &content).await;
    assert_eq!(here(&world, "partly").await, 6 * MIB as u64);
    // Its beginning is used again and again.
    read_through(&world, ino, handle, 0, &content[..MIB]).await;
    world.in_sync().await;
    let (other, second) = world.open("other", READ).await;
    read_through(&world, other, second, 0, &pattern(4 * MIB, 2)).await;
    let left = here(&world, "partly").await;
    assert!(left >= MIB as u64 && left <= 4 * MIB as u64 + (64 << 10), "{left} of it are here");
    let stayed = ready(world.engine.read(ino, handle, 0, MIB as u32)).unwrap();
    same(&stayed, &content[..MIB]);
    // What went comes again, the same bytes.
    read_through(&world, ino, handle, 0, &content).await;
    world.close(ino, handle).await;
    world.close(other, second).await;
    sampler.end(0);
}

/// A file that is closed gives back parts, too, and what is left of it outlives a restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_file_is_known_after_a_restart() {
    let (world, sampler) = world(limited(16 * MIB)).await;
    let content = pattern(14 * MIB, 1);
    world.store.put("large", content.clone()).unwrap();
    same(&world.read("large").await.unwrap(), &content);
    world.in_sync().await;
    world.write("new", &pattern(3 * MIB, 2)).await;
    let left = here(&world, "large").await;
    assert!(left > 10 * MIB as u64 && left < 14 * MIB as u64, "{left} of it are here");
    world.in_sync().await;
    let world = world.restart().await;
    assert_eq!(here(&world, "large").await, left, "st_blocks");
    let ino = world.ino("large").await;
    assert_eq!(world.engine.item_status(ino).await.unwrap().present_bytes, left);
    let down = world.engine.mount_status().await.unwrap().bytes_down;
    same(&world.read("large").await.unwrap(), &content);
    let came = world.engine.mount_status().await.unwrap().bytes_down - down;
    assert!(came >= 14 * MIB as u64 - left && came <= 8 * MIB as u64, "{came} bytes came");
    sampler.end(0);
}

/// S3 "Content that is not in sync is never freed or evicted."
#[tokio::test(flavor = "multi_thread")]
async fn what_is_unsent_or_pinned_keeps_all_its_parts() {
    let (world, sampler) = world(limited(8 * MIB)).await;
    let (pinned, edited) = (pattern(2 * MIB, 1), pattern(2 * MIB, 2));
    world.store.put("pinned", pinned.clone()).unwrap();
    world.store.put("edited", edited.clone()).unwrap();
    world.store.put("stream", pattern(20 * MIB, 3)).unwrap();
    let ino = world.ino("pinned").await;
    world.engine.set_pin(ino, Pin::Pinned).await.unwrap();
    same(&world.read("pinned").await.unwrap(), &pinned);
    same(&world.read("edited").await.unwrap(), &edited);
    world.in_sync().await;
    world.store.inject(FaultRule {
        operation: Some(Operation::Write),
        ..FaultRule::always(Fault::Delay(Duration::from_secs(3600)))
    });
    let (ino, handle) = world.open("edited", WRITE).await;
    world.write_at(ino, handle, 0, b"mine").await;
    let (stream, reading) = world.open("stream", READ).await;
    read_through(&world, stream, reading, 0, &pattern(20 * MIB, 3)).await;
    assert_eq!(here(&world, "pinned").await, 2 * MIB as u64);
    assert_eq!(here(&world, "edited").await, 2 * MIB as u64);
    same(&read_at(&world, ino, handle, 0, 4).await, b"mine");
    same(&read_at(&world, ino, handle, MIB, MIB).await, &edited[MIB..]);
    sampler.end(0);
}

/// S62 "A program that writes waits while uploads make room, as long as these go on."
#[tokio::test(flavor = "multi_thread")]
async fn three_times_the_cache_is_written_on_a_slow_remote() {
    let (world, sampler) = world(limited(8 * MIB)).await;
    world.store.inject(FaultRule {
        operation: Some(Operation::Write),
        ..FaultRule::always(Fault::Delay(Duration::from_millis(700)))
    });
    for index in 0..12u8 {
        world.write(&format!("f{index}"), &pattern(2 * MIB, index)).await;
    }
    world.in_sync().await;
    for index in 0..12u8 {
        same(&world.content_there(&format!("f{index}")).unwrap(), &pattern(2 * MIB, index));
    }
    sampler.end(4 * MIB as u64);
}

/// The rest of edited files is fetched while the cache is full of what is to be sent: each fetch waited for room with its stream
/// open, and together they had all turns that the upload needed which would have made the room.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_waits_for_room_leaves_the_line_to_what_makes_it() {
    const PART: usize = 3 * MIB / 2;
    let settings = Settings {
        // Due as soon as all streams are open.
        write_back_delay: Duration::from_secs(1),
        // Longer than this test has: who waits for each other until then is seen.
        timeout: Duration::from_secs(300),
        ..limited(16 * MIB)
    };
    let (world, sampler) = world(settings).await;
    let names: Vec<String> = (0..9).map(|index| format!("part{index}")).collect();
    for name in &names {
        world.store.put(name, pattern(PART, 1)).unwrap();
    }
    world.names("").await;
    world.write("large", &pattern(12 * MIB, 2)).await;
    let mut open = Vec::new();
    for name in &names {
        let (ino, handle) = world.open(name, WRITE).await;
        let edit = Bytes::from_static(b"mine");
        world.engine.write(ino, handle, 5, edit, false).wait().await.unwrap();
        open.push((ino, handle));
    }
    for (ino, handle) in open {
        world.close(ino, handle).await;
    }
    world.in_sync().await;
    same(&world.content_there("large").unwrap(), &pattern(12 * MIB, 2));
    let mut edited = pattern(PART, 1);
    edited[5..9].copy_from_slice(b"mine");
    for name in &names {
        same(&world.content_there(name).unwrap(), &edited);
    }
    sampler.end(0);
}

async fn write_until_refused(world: &World, name: &str) -> (usize, EngineError, Duration) {
    let ino = world.write(name, b"").await;
    let opened = world.engine.open(ino, WRITE).wait().await.unwrap();
    let mut at = 0;
    let error = loop {
        let begun = Instant::now();
        let piece = Bytes::from(pattern(128 << 10, 7));
        let wrote = world.engine.write(ino, opened.handle, at as u64, piece, false).wait().await;
        match wrote {
            Ok(wrote) => at += wrote as usize,
            Err(error) => break (at, error, begun.elapsed()),
        }
    };
    world.close(ino, opened.handle).await;
    error
}

/// Where nothing can be freed, nobody waits for it; what is not here is read all the same.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_freed_there_is_no_room_at_once() {
    let (world, sampler) = world(limited(4 * MIB)).await;
    world.store.put("far", pattern(2 * MIB, 1)).unwrap();
    world.names("").await;
    // One open file that is larger than the limit.
    let (taken, error, waited) = write_until_refused(&world, "larger").await;
    assert!(matches!(error, EngineError::NoSpace(_)), "{error}");
    assert!((3 * MIB..=4 * MIB).contains(&taken), "{taken}");
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    // The remote is full: that is no hope either.
    world.remove("larger").await.unwrap();
    world.store.inject(FaultRule {
        operation: Some(Operation::Write),
        ..FaultRule::always(Fault::Fail(dewfs::remote::ErrorKind::NoSpace))
    });
    world.write("unsent", &pattern(3 * MIB, 2)).await;
    let (_, error, waited) = write_until_refused(&world, "more").await;
    assert!(matches!(error, EngineError::NoSpace(_)), "{error}");
    assert!(waited < world.settings.timeout + Duration::from_secs(5), "{waited:?}");
    same(&world.read("far").await.unwrap(), &pattern(2 * MIB, 1));
    // And offline.
    world.store.set_online(false);
    world
        .until("it is known to be away", async || {
            world.engine.mount_status().await.unwrap().state.word() == "offline"
        })
        .await;
    let (_, error, waited) = write_until_refused(&world, "yet more").await;
    assert!(matches!(error, EngineError::NoSpace(_)), "{error}");
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    sampler.end(0);
}

/// What came and was read makes room for what comes next, also while a program reads file after file: nothing is asked for
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_small_files_goes_through_a_small_cache() {
    const FILES: usize = 200;
    let (world, sampler) = world(limited(12 * MIB)).await;
    world.store.mkdir("d").unwrap();
    let content = |number: usize| pattern(100 << 10, number as u8);
    for number in 0..FILES {
        world.store.put(&format!("d/f{number:03}"), content(number)).unwrap();
    }
    world.names("d").await;
    let folder = world.ino("d").await;
    let page = world.engine.read_dir(folder, 0, FILES).wait().await.unwrap();
    assert_eq!(page.len(), FILES);
    for entry in &page {
        let name = entry.name.lossy();
        let number = name[1..].parse().unwrap();
        same(&world.read(&format!("d/{name}")).await.unwrap(), &content(number));
    }
    let reads = world.remote.counts().get(&Operation::Read).copied().unwrap_or(0);
    assert!(reads <= FILES as u64 + 2, "{reads} requests for {FILES} files");
    sampler.end(0);
}

/// Whoever reads a data file past us, as through a mapping that outlived its handle, finds no holes in it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cut_under_somebody_who_reads_past_us() {
    use std::os::unix::fs::FileExt as _;
    let (world, sampler) = world(limited(8 * MIB)).await;
    let content = pattern(6 * MIB, 1);
    world.store.put("held", content.clone()).unwrap();
    world.store.put("other", pattern(8 * MIB, 2)).unwrap();
    let (ino, handle) = world.open("held", READ).await;
    read_through(&world, ino, handle, 0, &content).await;
    world.in_sync().await;
    let file = format!("data/{:02x}/{ino}.1", ino.0 & 0xff);
    let state = world.state.path().join("state");
    let held = [".0", ".1"].map(|end| state.join(file.replace(".1", end)));
    let held = held.iter().find_map(|path| std::fs::File::open(path).ok()).unwrap();
    let (other, second) = world.open("other", READ).await;
    read_through(&world, other, second, 0, &pattern(8 * MIB, 2)).await;
    let mut found = vec![0; 6 * MIB];
    held.read_exact_at(&mut found, 0).unwrap();
    same(&found, &content);
    drop(held);
    read_through(&world, other, second, 0, &pattern(8 * MIB, 2)).await;
    assert!(here(&world, "held").await < 6 * MIB as u64, "now it goes");
    sampler.end(0);
}

/// Readers, writers and removers at once never get other bytes than those of their file, and the limit holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parts_that_go_and_come_are_never_mixed_up() {
    let (world, sampler) = world(limited(6 * MIB)).await;
    let world = Arc::new(world);
    for index in 0..3u8 {
        world.store.put(&format!("f{index}"), pattern(4 * MIB, index)).unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for index in 0..6u64 {
        let (world, over, reads) = (world.clone(), over.clone(), reads.clone());
        readers.push(tokio::spawn(async move {
            let seed = (index % 3) as u8;
            let wanted = pattern(4 * MIB, seed);
            let (ino, handle) = world.open(&format!("f{seed}"), READ).await;
            let mut dice = index * 7919 + 1;
            while !over.load(Ordering::Relaxed) {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (dice >> 33) as usize % (4 * MIB - (128 << 10));
                let got = read_at(&world, ino, handle, at, 128 << 10).await;
                same(&got, &wanted[at..at + (128 << 10)]);
                reads.fetch_add(1, Ordering::Relaxed);
            }
            world.close(ino, handle).await;
        }));
    }
    world.until("many reads", async || reads.load(Ordering::Relaxed) > 500).await;
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    sampler.end(0);
}

#[test]
fn the_sampler_sees_what_is_too_much() {
    let room = Arc::new(Room::new());
    let data = room.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("7.1"), vec![1; 100_000]).unwrap();
    let Some(seen) = room.content(room.path()) else { return };
    assert!((100_000..120_000).contains(&seen), "{seen}");
    let sampler = Sampler::start(room.clone(), room.path().to_owned(), 50_000);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sampler.end(0)));
    assert!(ended.is_err());
}
