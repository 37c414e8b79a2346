//! The engine where trust could be lost: looks beside writers, opens that nobody waits for, attributes sent later.

mod decided;
mod disk;
mod shown;
mod state;
mod times;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::support::world::{
    ME, PATIENCE, READ, WRITE, World, name, pattern, quick_settings, ready, same,
};
use dewfs::engine::{
    Answer, EngineError, Lane, OpenMode, RenameMode, SetAttributes, SetTime, Settings,
};
use dewfs::model::{Ino, Pin};
use dewfs::remote::memory::{
    Fault, FaultRule, Gate, Held, MemoryOptions, Moment, Operation, Step, VersionKind,
};
use dewfs::remote::{
    ErrorKind, Expect, Extended, FeedKind, Locator, Metadata, Remote as _, RemotePath,
};
use tokio::sync::mpsc::UnboundedReceiver;

fn coarse() -> MemoryOptions {
    MemoryOptions { versions: VersionKind::TickAndIdentity, ..MemoryOptions::default() }
}

fn asked(world: &World, operation: Operation) -> u64 {
    world.remote.counts().get(&operation).copied().unwrap_or(0)
}

/// Notes that it was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until the remote was looked at twice more: what a look found before is applied by then.
async fn looked_at_twice(world: &World, looks: &[Operation]) {
    let count = |world: &World| looks.iter().map(|one| asked(world, *one)).sum::<u64>();
    let before = count(world);
    world.until("two looks", async || count(world) >= before + 2).await;
}

fn is_kept_twice(world: &World, theirs: &str, ours: &str) {
    let tree = world.there();
    assert_eq!(world.content_there("doc").unwrap(), theirs.as_bytes(), "{tree:?}");
    let copy = tree.iter().find(|(path, _)| path.starts_with("doc (conflict ")).expect("a copy");
    assert_eq!(copy.1.as_deref(), Some(ours.as_bytes()), "{tree:?}");
}

/// S25 "What is sent goes under the version that the writer began with, whatever the remote told while the file was open."
#[tokio::test(flavor = "multi_thread")]
async fn no_look_moves_the_version_that_a_writer_began_with() {
    let append = OpenMode { append: true, ..WRITE };
    let truncate = OpenMode { truncate: true, ..WRITE };
    // Young versions are looked at by themselves; others because the remote tells of a change.
    for (options, looks) in [
        (coarse(), &[Operation::Stat][..]),
        (MemoryOptions::default(), &[Operation::Stat, Operation::List]),
    ] {
        for (mode, wanted) in [(WRITE, "OURSn"), (append, "knownOURS"), (truncate, "OURS")] {
            let world = World::with(options.clone(), quick_settings()).await;
            world.store.put("doc", "known").unwrap();
            assert_eq!(&world.read("doc").await.unwrap()[..], b"known");
            let (ino, handle) = world.open("doc", mode).await;
            world.store.tick();
            world.store.put("doc", "theirs, behind the back").unwrap();
            looked_at_twice(&world, looks).await;
            world.write_at(ino, handle, 0, b"OURS").await;
            looked_at_twice(&world, looks).await;
            world.close(ino, handle).await;
            world.store.tick();
            world.in_sync().await;
            is_kept_twice(&world, "theirs, behind the back", wanted);
        }
    }
}

/// The same for what was written and closed, and not sent yet.
#[tokio::test(flavor = "multi_thread")]
async fn no_look_moves_the_version_of_what_waits_to_be_sent() {
    let slow = Settings { write_back_delay: Duration::from_millis(600), ..quick_settings() };
    for options in [coarse(), MemoryOptions::default()] {
        let world = World::with(options, slow.clone()).await;
        world.store.put("doc", "known").unwrap();
        assert_eq!(&world.read("doc").await.unwrap()[..], b"known");
        world.write("doc", b"ours").await;
        world.store.tick();
        world.store.put("doc", "theirs, behind the back").unwrap();
        looked_at_twice(&world, &[Operation::Stat, Operation::List, Operation::Changes]).await;
        world.store.tick();
        world.in_sync().await;
        is_kept_twice(&world, "theirs, behind the back", "ours");
    }
}

/// Whether a create was abandoned while its answer was on its way: it may also have been there at once.
async fn is_abandoned(world: &World, folder: &str) -> bool {
    // The engine may list the folder by itself: that waits as well.
    let awaited = folder.to_owned();
    let (gate, held) = Gate::holding(move |step| {
        step.operation == Operation::List && step.path.to_string().ends_with(&awaited)
    });
    world.store.gate(Some(gate));
    world.store.mkdir(folder).unwrap();
    world.until("the folder", async || world.try_ino(folder).await.is_ok()).await;
    let parent = world.ino(folder).await;
    let Answer::Pending(mut create) = world.engine.create(parent, name("new"), 0o644, WRITE, ME)
    else {
        panic!("the folder is not listed yet");
    };
    drop(held);
    // Whoever waits goes away when the answer is on its way: polled only when woken, and not once the file is there.
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut given = None;
    world
        .until("the file", async || {
            let there = matches!(world.engine.lookup(parent, &name("new")), Answer::Ready(Ok(_)));
            if !there && given.is_none() && woken.0.swap(false, Ordering::SeqCst) {
                match create.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Pending => {}
                    Poll::Ready(answer) => given = Some(answer.unwrap()),
                }
            }
            there
        })
        .await;
    let is_abandoned = given.is_none();
    if let Some((stat, opened)) = given {
        world.close(stat.ino, opened.handle).await;
    }
    is_abandoned
}

/// An open that the door gave up (its deadline passed) leaves nobody who counts as a writer.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_nobody_waits_for_leaves_no_handle_behind() {
    let world = World::new().await;
    let mut tries = 0..100;
    let folder = loop {
        let folder = format!("docs{}", tries.next().expect("one is abandoned in time"));
        if is_abandoned(&world, &folder).await {
            break folder;
        }
    };
    world.in_sync().await;
    assert_eq!(world.content_there(&format!("{folder}/new")).unwrap(), b"");
}

/// A defect in a fetch fails its readers, once: the next read fetches anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_panics_is_over() {
    let world = World::new().await;
    world.store.put("doc", pattern(100_000, 7)).unwrap();
    let once = AtomicBool::new(true);
    world.store.gate(Some(Gate(Arc::new(move |step: Step| {
        let strikes = step.operation == Operation::Read && once.swap(false, Ordering::SeqCst);
        Box::pin(async move {
            assert!(!strikes, "a defect made by the test");
            None
        })
    }))));
    let begun = Instant::now();
    assert!(world.read("doc").await.is_err());
    assert!(begun.elapsed() < world.settings.timeout, "it is told, not waited for");
    same(&world.read("doc").await.unwrap(), &pattern(100_000, 7));
}

/// No answer shows a file as it was before a write that had ended before it was asked, whoever records meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_older_than_the_question() {
    let world = World::new().await;
    world.store.mkdir("docs").unwrap();
    assert!(world.names("docs").await.is_empty());
    world.write("docs/log", b"").await;
    let docs = world.ino("docs").await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (engine, seen) = (world.engine.clone(), acknowledged.clone());
    let over = Arc::new(AtomicBool::new(false));
    let asking = over.clone();
    let asker = std::thread::spawn(move || {
        let file = name("log");
        while !asking.load(Ordering::SeqCst) {
            let before = seen.load(Ordering::SeqCst);
            let looked = ready(engine.lookup(docs, &file)).unwrap();
            assert!(looked.size >= before, "lookup: {} of {before}", looked.size);
            let stat = ready(engine.stat(looked.ino)).unwrap();
            assert!(stat.size >= before, "stat: {} of {before}", stat.size);
            let page = ready(engine.read_dir(docs, 0, 10)).unwrap();
            assert!(page[0].stat.size >= before, "readdir: {} of {before}", page[0].stat.size);
        }
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) && !asker.is_finished() {
        let (ino, handle) = world.open("docs/log", OpenMode { append: true, ..WRITE }).await;
        world.write_at(ino, handle, 0, b"x").await;
        acknowledged.fetch_add(1, Ordering::SeqCst);
        world.close(ino, handle).await;
    }
    over.store(true, Ordering::SeqCst);
    asker.join().unwrap();
}

/// All data files here.
fn data_files(world: &World) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![world.state.path().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let stem = entry.file_name().unwrap().to_string_lossy().into_owned();
            match stem.split_once('.') {
                _ if entry.is_dir() => folders.push(entry),
                Some((ino, generation))
                    if ino.parse::<u64>().is_ok() && generation.parse::<u64>().is_ok() =>
                {
                    found.push(entry);
                }
                _ => {}
            }
        }
    }
    found
}

/// A data file that is lost is fetched again, also while a mere rename of the file waits to be sent.
#[tokio::test(flavor = "multi_thread")]
async fn lost_bytes_of_a_renamed_file_are_fetched_again() {
    let world = World::new().await;
    world.store.put("doc", pattern(100_000, 3)).unwrap();
    same(&world.read("doc").await.unwrap(), &pattern(100_000, 3));
    world.in_sync().await;
    world.engine.stop().await;
    for file in data_files(&world) {
        std::fs::remove_file(file).unwrap();
    }
    let slow = Settings { write_back_delay: Duration::from_secs(60), ..quick_settings() };
    let world = World::start(world.store, world.state, slow).await;
    world.rename("doc", "moved").await.unwrap();
    assert!(world.store.peek("doc").is_some(), "the rename rests");
    same(&world.read("moved").await.unwrap(), &pattern(100_000, 3));
}

/// Nothing is made in, or moved to, a folder that is gone here: a program that still has it open is told so.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_put_into_a_folder_that_is_gone() {
    let world = World::new().await;
    world.store.mkdir("docs").unwrap();
    world.store.put("doc", "known").unwrap();
    let docs = world.ino("docs").await;
    assert!(world.names("docs").await.is_empty());
    world.store.rm("docs").unwrap();
    world.until("it is gone", async || world.try_ino("docs").await.is_err()).await;
    let created = world.engine.create(docs, name("new"), 0o644, WRITE, ME).wait().await;
    assert!(matches!(created, Err(EngineError::NotFound | EngineError::Stale)), "{created:?}");
    let mode = RenameMode::Replace;
    let moved = world.engine.rename(Ino::ROOT, &name("doc"), docs, name("doc"), mode).wait().await;
    assert!(matches!(moved, Err(EngineError::NotFound | EngineError::Stale)), "{moved:?}");
    let made = world.engine.make_folder(docs, name("sub"), 0o755, ME).wait().await;
    assert!(matches!(made, Err(EngineError::NotFound | EngineError::Stale)), "{made:?}");
    world.in_sync().await;
    assert_eq!(world.there(), [("doc".to_owned(), Some(b"known".to_vec()))]);
    assert_eq!(&world.read("doc").await.unwrap()[..], b"known");
}

/// Where the remote tells what a content is, other bytes under the same version are not kept for it.
#[tokio::test(flavor = "multi_thread")]
async fn fetched_bytes_are_what_the_remote_says_they_are() {
    let options =
        MemoryOptions { digests: true, versions: VersionKind::Tick, ..MemoryOptions::default() };
    let still = Settings { poll: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(MemoryOptions { feed: FeedKind::None, ..options }, still).await;
    world.store.put("doc", pattern(50_000, 1)).unwrap();
    assert_eq!(world.names("").await, ["doc"]);
    // The same size in the same tick: the same version.
    world.store.put("doc", pattern(50_000, 2)).unwrap();
    same(&world.read("doc").await.unwrap(), &pattern(50_000, 2));
    world
        .until("it is told", async || {
            world.engine.mount_status().await.unwrap().last_error.is_some()
        })
        .await;
    world.store.tick();
    world
        .until("what is here is what is there", async || {
            let here = world.read("doc").await.is_ok_and(|got| got == pattern(50_000, 2));
            // A file that is open while it is replaced gets a successor of the same name.
            let item = world.engine.item_status(world.ino("doc").await).await;
            here && item.is_ok_and(|item| item.word() == "local")
        })
        .await;
}

/// Pins that do not fit stop at what fits, and say so.
#[tokio::test(flavor = "multi_thread")]
async fn pins_that_do_not_fit_are_told_and_fetch_no_more() {
    let small = Settings { cache_size: 2 << 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), small).await;
    world.store.mkdir("keep").unwrap();
    for index in 0..5 {
        world.store.put(&format!("keep/{index}"), pattern(600_000, index)).unwrap();
    }
    let keep = world.ino("keep").await;
    assert_eq!(world.names("keep").await.len(), 5);
    world.engine.set_pin(keep, Pin::Pinned).await.unwrap();
    world
        .until("it is told", async || {
            let status = world.engine.mount_status().await.unwrap();
            status.state.word() == "degraded"
                && status.reason.is_some_and(|reason| reason.contains("pinned"))
        })
        .await;
    let status = world.engine.mount_status().await.unwrap();
    assert!(status.bytes_down <= 2 << 20, "{} bytes came", status.bytes_down);
    let mut told = 0;
    for index in 0..5 {
        let ino = world.ino(&format!("keep/{index}")).await;
        told += u32::from(world.engine.item_status(ino).await.unwrap().error.is_some());
    }
    assert!((2..5).contains(&told), "{told}");
    world.engine.set_pin(keep, Pin::Unspecified).await.unwrap();
    world
        .until("it is well again", async || {
            world.engine.mount_status().await.unwrap().state.word() == "online"
        })
        .await;
}

/// What was made and removed again costs no more than its requests: one to make it, one to remove it, and they go side by
/// side.
#[tokio::test(flavor = "multi_thread")]
async fn many_files_made_and_removed_are_over_soon() {
    // So many removals at once would be held.
    let unguarded = Settings { guard: 0, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), unguarded).await;
    for index in 0..300 {
        world.write(&format!("never sent {index}"), b"x").await;
        world.remove(&format!("never sent {index}")).await.unwrap();
    }
    world.in_sync().await;
    assert!(asked(&world, Operation::Write) < 300, "most were gone before they were sent");
    for index in 0..300 {
        world.write(&format!("sent {index}"), b"").await;
    }
    world.in_sync().await;
    let transfers = world.engine.mount_status().await.unwrap().requests_by.transfer;
    // The remote takes its time for each: one after the other would take half a minute.
    world.store.inject(FaultRule {
        operation: Some(Operation::Remove),
        ..FaultRule::always(Fault::Delay(Duration::from_millis(100)))
    });
    let begun = Instant::now();
    for index in 0..300 {
        world.remove(&format!("sent {index}")).await.unwrap();
    }
    world.in_sync().await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let asked = world.engine.mount_status().await.unwrap().requests_by.transfer - transfers;
    assert!(asked <= 310, "{asked} requests");
    assert_eq!(world.there(), []);
}

/// A file made anew where one was removed is not the removed
/// one, although nothing was written to it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_not_undone_by_the_empty_file_made_in_its_place() {
    let slow = Settings { write_back_delay: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), slow).await;
    world.store.mkdir("d").unwrap();
    world.store.put("d/one", b"one".to_vec()).unwrap();
    assert_eq!(world.names("d").await, ["one"]);
    world.remove("d/one").await.unwrap();
    let folder = world.ino("d").await;
    let made = world.engine.create(folder, name("one"), 0o644, WRITE, ME).wait().await.unwrap();
    world.engine.release(made.0.ino, made.1.handle);
    let world = world.restart().await;
    assert_eq!(world.read("d/one").await.unwrap(), b"".as_slice());
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.in_sync().await;
    assert_eq!(world.content_there("d/one").unwrap(), b"");
}
