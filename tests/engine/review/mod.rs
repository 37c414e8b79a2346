//! What a second look at the byte path found: each test is one way in which bytes, handles or room were lost.

mod cut;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::support::world::{
    ME, PATIENCE, READ, WRITE, World, name, pattern, quick_settings, same,
};
use bytes::Bytes;
use dewfs::engine::{EngineError, Invalidation, OpenMode, Returns, SetAttributes, Settings};
use dewfs::model::Ino;
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{Fault, FaultRule, Gate, MemoryOptions, Moment, Operation, Step};

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
    // What was read last is told later, and held until then.
    let is_held = || {
        let (files, fds) = (data_files(&world), std::fs::read_dir("/proc/self/fd").unwrap());
        let mut links = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.any(|link| files.contains(&link))
    };
    world.until("its descriptor is closed", async || !is_held()).await;
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

/// A remote change that comes while the old content is being fetched leaves nothing of it behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_during_a_fetch_leaves_no_stray_data_file() {
    let world = World::new().await;
    world.store.put("f", pattern(1 << 20, 1)).unwrap();
    let ino = world.ino("f").await;
    world.store.inject(FaultRule::next(Operation::Read, Fault::Truncate(600_000)));
    let (gate, mut held) =
        Gate::holding(|step| step.operation == Operation::Read && step.moment == Moment::Arrives);
    world.store.gate(Some(gate));
    let engine = world.engine.clone();
    let hydrating = tokio::spawn(async move { engine.hydrate(ino).await });
    held.recv().await.unwrap().pass();
    let second = held.recv().await.unwrap();
    world.until("the first bytes", async || data_files(&world).len() == 1).await;
    world.store.put("f", "new").unwrap();
    world.until("the change", async || world.stat("f").await.size == 3).await;
    world.store.gate(None);
    second.pass();
    drop(held);
    let _either = hydrating.await.unwrap();
    assert_eq!(&world.read("f").await.unwrap()[..], b"new");
    world.until("one data file", async || data_files(&world).len() <= 1).await;
}

/// Content that goes while it is being fetched leaves nothing behind on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn freeing_what_is_being_fetched_leaves_no_stray_data_file() {
    let world = World::new().await;
    let content = pattern(1 << 20, 1);
    world.store.put("f", content.clone()).unwrap();
    let (ino, handle) = world.open("f", READ).await;
    world.engine.read(ino, handle, 0, 100).wait().await.unwrap();
    world.engine.release(ino, handle);
    let (gate, mut held) =
        Gate::holding(|step| step.operation == Operation::Read && step.moment == Moment::Answers);
    world.store.gate(Some(gate));
    let engine = world.engine.clone();
    let hydrating = tokio::spawn(async move { engine.hydrate(ino).await });
    let one = held.recv().await.unwrap();
    world.engine.free(ino, false).await.unwrap();
    world.store.gate(None);
    one.pass();
    drop(held);
    let _either = hydrating.await.unwrap();
    same(&world.read("f").await.unwrap(), &content);
    world.until("one data file", async || data_files(&world).len() <= 1).await;
}

/// What a crash left between forgetting a content and unlinking it goes at the next start; edits never do.
#[tokio::test(flavor = "multi_thread")]
async fn forgotten_data_files_go_at_the_next_start() {
    let world = World::new().await;
    world.store.put("f", "first").unwrap();
    world.read("f").await.unwrap();
    world.in_sync().await;
    let stale = data_files(&world).pop().unwrap();
    world.engine.free(Ino::ROOT, false).await.unwrap();
    world.until("it is free", async || data_files(&world).is_empty()).await;
    std::fs::write(&stale, "first").unwrap();
    let unknown = stale.with_file_name(format!("{}.0", 0xff00 + stale_shelf(&stale)));
    std::fs::write(&unknown, "whose?").unwrap();
    let world = world.restart().await;
    world.until("they are gone", async || data_files(&world).is_empty()).await;
    let recovered: Vec<_> =
        std::fs::read_dir(world.state.path().join("state/recovered")).unwrap().flatten().collect();
    assert_eq!(recovered.len(), 1, "{recovered:?}");
    assert_eq!(std::fs::read(recovered[0].path()).unwrap(), b"whose?");
    assert_eq!(&world.read("f").await.unwrap()[..], b"first");
}

fn stale_shelf(file: &Path) -> u64 {
    let shelf = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
    u64::from_str_radix(shelf, 16).unwrap()
}

/// An empty file that is not here yet is wholly here once it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_can_be_grown_by_fallocate() {
    let world = World::new().await;
    world.store.put("empty", "").unwrap();
    let (ino, handle) = world.open("empty", WRITE).await;
    let how = dewfs::engine::Allocate::Grow;
    world.engine.allocate(ino, handle, 0, 100_000, how).wait().await.unwrap();
    let got = world.engine.read(ino, handle, 0, 131_072).wait().await.unwrap();
    assert_eq!(got, Bytes::from(vec![0; 100_000]));
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(world.content_there("empty").unwrap(), vec![0; 100_000]);
}

/// A reader gets its bytes although somebody else's cannot be had.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fetch_fails_its_own_readers_only() {
    let world = World::new().await;
    let content = pattern(1 << 20, 1);
    world.store.put("f", content.clone()).unwrap();
    let (ino, handle) = world.open("f", READ).await;
    let (gate, mut held) =
        Gate::holding(|step| step.operation == Operation::Read && step.moment == Moment::Arrives);
    world.store.gate(Some(gate));
    let engine = world.engine.clone();
    let first = tokio::spawn(async move { engine.read(ino, handle, 0, 100).wait().await });
    let slow = held.recv().await.unwrap();
    let engine = world.engine.clone();
    let other = tokio::spawn(async move { engine.read(ino, handle, 900_000, 100).wait().await });
    held.recv().await.unwrap().strike(Fault::Fail(ErrorKind::Denied));
    assert!(other.await.unwrap().is_err());
    slow.pass();
    same(&first.await.unwrap().unwrap(), &content[..100]);
    world.store.gate(None);
    world.engine.release(ino, handle);
}

/// A write that ends halfway changes no length. (On file systems with room for such an offset there is nothing to see.)
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_halfway_leaves_nothing_beyond_the_end() {
    let world = World::new().await;
    world.write("f", b"abc").await;
    let (ino, handle) = world.open("f", WRITE).await;
    let bytes = Bytes::from(vec![1; 8192]);
    let wrote = world.engine.write(ino, handle, (1 << 44) - 8192, bytes, false).wait().await;
    if wrote.is_err() {
        let file = data_files(&world).pop().unwrap();
        assert_eq!(std::fs::metadata(file).unwrap().len(), 3);
        assert_eq!(world.stat("f").await.size, 3);
        world.close(ino, handle).await;
        world.in_sync().await;
        assert_eq!(world.content_there("f").unwrap(), b"abc");
    }
}

/// Somebody else's bytes in a file end its set-user-id before they are there.
#[tokio::test(flavor = "multi_thread")]
async fn set_user_id_is_gone_when_a_write_is_answered() {
    let world = World::new().await;
    for (index, opened_with) in [WRITE, TRUNCATE].into_iter().cycle().take(20).enumerate() {
        let path = format!("program{index}");
        world.write(&path, b"#!").await;
        let set = SetAttributes { mode: Some(0o4755), ..SetAttributes::default() };
        let ino = world.ino(&path).await;
        world.engine.set_attributes(ino, None, set, ME).wait().await.unwrap();
        let (_, handle) = world.open(&path, opened_with).await;
        if !opened_with.truncate {
            let bytes = Bytes::from_static(b"x");
            world.engine.write(ino, handle, 0, bytes, true).wait().await.unwrap();
        }
        assert_eq!(world.engine.stat(ino).wait().await.unwrap().mode, 0o755);
        world.close(ino, handle).await;
    }
}

/// What went away between the list and the look at each of it made the whole answer an error.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_is_pending_is_told_while_it_goes_away() {
    let settings = Settings { guard: 0, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for index in 0..300 {
        world.write(&format!("f{index}"), b"x").await;
    }
    world.in_sync().await;
    let engine = world.engine.clone();
    let going = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let goes = going.clone();
    let asking = tokio::spawn(async move {
        let mut asked = 0;
        while goes.load(std::sync::atomic::Ordering::SeqCst) {
            engine.pending(Ino::ROOT, usize::MAX).await.unwrap();
            engine.folder_status(Ino::ROOT, false).await.unwrap();
            asked += 1;
        }
        asked
    });
    for index in 0..300 {
        world.remove(&format!("f{index}")).await.unwrap();
    }
    world.in_sync().await;
    going.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(asking.await.unwrap() > 0);
    assert!(world.engine.pending(Ino::ROOT, usize::MAX).await.unwrap().is_empty());
}

/// A large file is read while it rests; what is written after that is sent, and known for what it is: the memory remote refuses
/// what its digest does not fit.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_a_large_file_was_read_ahead_is_sent() {
    let settings = Settings { write_back_delay: Duration::from_secs(600), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    world.engine.on_crash_point(Arc::new(move |point| {
        if point == "foresee: read ahead" {
            tell.send(()).unwrap();
        }
        false
    }));
    let mut bytes = pattern(3 << 20, 1).to_vec();
    world.write("f", &bytes).await;
    tokio::time::timeout(PATIENCE, told.recv()).await.expect("it is read ahead").unwrap();
    assert_eq!(world.content_there("f"), None, "it still rests");
    let (ino, handle) = world.open("f", WRITE).await;
    world.write_at(ino, handle, 2 << 20, b"EDIT").await;
    world.close(ino, handle).await;
    world.in_sync().await;
    bytes[2 << 20..][..4].copy_from_slice(b"EDIT");
    same(&world.content_there("f").unwrap(), &bytes);
}

/// It could be chosen to be sent as soon as it was made: its row has to rest from its first commit on, whoever closes it when.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_rests_from_its_creation_on() {
    let settings = Settings { write_back_delay: Duration::from_secs(600), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let (parent, mode) = (Ino::ROOT, OpenMode { write: true, ..OpenMode::default() });
    let made = world.engine.create(parent, name("f"), 0o644, mode, ME).wait().await;
    let (stat, opened) = made.unwrap();
    let catalog = rusqlite::Connection::open(world.engine.state_dir().join("catalog.db")).unwrap();
    let sql = "SELECT not_before - since, due - since FROM outbox WHERE ino = ?1";
    let rests: (i64, i64) = catalog
        .query_row(sql, [i64::try_from(stat.ino.0).unwrap()], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(rests, (600_000_000_000, 600_000_000_000));
    world.close(stat.ino, opened.handle).await;
}

/// S153 "What a command has done is shown when it returns: `sync`, `undo` and `resolve` wait until the kernel was told." Who gave a
/// command read the old content: the kernel was told a moment after the command had ended.
#[tokio::test(flavor = "multi_thread")]
async fn regression_the_end_of_a_command_waits_for_what_the_kernel_is_told() {
    const LONGEST: Duration = Duration::from_secs(2);
    let world = World::new().await;
    let mut news = world.engine.take_invalidations().unwrap();
    let begun = std::time::Instant::now();
    // Often enough that a machine that stands still for a moment is told from who waits to the end.
    for _ in 0..6 {
        let (engine, asked) = (world.engine.clone(), std::time::Instant::now());
        let told = tokio::spawn(async move { engine.told().await });
        let is_mark = |one| if let Invalidation::Mark(mark) = one { Some(mark) } else { None };
        let mut mark = None;
        while mark.is_none() {
            mark = news.recv().await.unwrap().into_iter().find_map(is_mark);
        }
        assert!(!told.is_finished() || asked.elapsed() >= LONGEST);
        mark.unwrap().reached();
        told.await.unwrap();
    }
    assert!(begun.elapsed() < 5 * LONGEST, "{:?}", begun.elapsed());
}
