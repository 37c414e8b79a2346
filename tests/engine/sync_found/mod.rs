//! Histories that broke something, found by the sync machine and by the crash enumeration.

#[cfg(debug_assertions)]
mod rests;
#[cfg(debug_assertions)]
mod same;
mod told;
#[cfg(debug_assertions)]
mod trust;
mod wrong;
#[cfg(debug_assertions)]
mod young;

use crate::support::wait::{LIMIT, holds_soon};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::world::{ME, READ, WRITE, World, name, quick_settings};
use dewfs::engine::{Engine, SetAttributes, SetTime};
use dewfs::model::{Ino, Kind};
use dewfs::remote::folder::FolderRemote;
use dewfs::remote::memory::{
    Fault, FaultRule, Gate, MemoryOptions, Moment, Operation, Step, VersionKind,
};
use dewfs::remote::{ErrorKind, FeedKind};
use futures_util::FutureExt as _;

/// The page of a first listing was passed over while the folder's own move was on its way, yet the folder counted as listed:
/// it looked empty, and a file saved in it became a conflict copy with nobody to conflict with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_listed_while_it_moves_is_not_empty() {
    let world = World::new().await;
    world.store.mkdir("d").unwrap();
    world.store.put("d/one", "one").unwrap();
    world.until("d is known", async || world.names("").await == ["d"]).await;
    let slow = Fault::DelayAnswer(Duration::from_millis(400));
    world.store.inject(FaultRule::next(Operation::Rename, slow));
    world.rename("d", "moved").await.unwrap();
    world.until("it moves", async || world.store.peek("moved").is_some()).await;
    assert_eq!(world.names("moved").await, ["one"]);
    world.write("moved/one", b"edited").await;
    world.in_sync().await;
    let names: Vec<String> = world.there().into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, ["moved", "moved/one"]);
    assert_eq!(world.content_there("moved/one").unwrap(), b"edited");
}

/// A write that was refused although the version there is the known one was tried four times a second for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_write_refused_beside_an_unmoved_version_waits_longer_each_time() {
    let world = World::new().await;
    world.store.put("a", "first").unwrap();
    world.read("a").await.unwrap();
    world.in_sync().await;
    let refused = Fault::Fail(ErrorKind::NotFound);
    let rule = FaultRule { times: 5, ..FaultRule::next(Operation::Write, refused) };
    world.store.inject(rule);
    let tried = || world.store.counts().get(&Operation::Write).copied().unwrap_or(0);
    world.write("a", b"second").await;
    world.until("it is tried", async || tried() >= 1).await;
    let begun = tokio::time::Instant::now();
    world.until("it is tried for the fifth time", async || tried() >= 5).await;
    assert!(begun.elapsed() > Duration::from_secs(3), "after {:?}", begun.elapsed());
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world
        .until("it arrives", async || world.content_there("a").is_some_and(|c| c == b"second"))
        .await;
}

/// A folder made here counts as listed, and its directory was not watched: what others put into it was never seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_others_put_into_a_folder_made_here_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("remote");
    std::fs::create_dir(&root).unwrap();
    let remote = Arc::new(FolderRemote::open(&root).unwrap());
    let engine = Engine::start(quick_settings(), &dir.path().join("state"), remote).await.unwrap();
    let made = engine.make_folder(Ino::ROOT, name("d"), 0o755, ME).wait().await.unwrap().ino;
    engine.sync_now(Ino::ROOT).await.unwrap();
    assert!(engine.wait_in_sync(Ino::ROOT, Some(Duration::from_secs(20))).await.unwrap());
    std::fs::write(root.join("d/theirs"), "theirs").unwrap();
    let seen = async || !engine.read_dir(made, 0, 10).wait().await.unwrap().is_empty();
    assert!(holds_soon(LIMIT, seen).await, "never seen");
    engine.stop().await;
}

/// A save was planned to take over the version of the file it replaced; before it did, it was renamed over another file
/// whose write was under way, took over that one's version instead, and became a conflict copy of what was written there.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_renamed_before_it_takes_over_a_version_takes_over_none_in_flight() {
    let world = World::new().await;
    for path in ["a", "c"] {
        world.store.put(path, "first").unwrap();
    }
    for path in ["a", "c"] {
        world.read(path).await.unwrap();
    }
    world.in_sync().await;
    let (reached, at) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some((reached, goes)));
    world.engine.on_crash_point(Arc::new(move |point| {
        let hit = point == "step: before names change here";
        if let Some((reached, goes)) = hit.then(|| gate.lock().unwrap().take()).flatten() {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| goes.recv().unwrap());
        }
        false
    }));
    let slow = Fault::DelayAnswer(Duration::from_secs(1));
    world.store.inject(FaultRule::next(Operation::Write, slow));
    world.write("c", b"second").await;
    world
        .until("the write is under way", async || {
            world.content_there("c").is_some_and(|there| there == b"second")
        })
        .await;
    world.write("t", b"saved").await;
    world.rename("t", "a").await.unwrap();
    world.until("the version is about to be taken over", async || at.try_recv().is_ok()).await;
    world.rename("a", "c").await.unwrap();
    go.send(()).unwrap();
    world.in_sync().await;
    let names: Vec<String> = world.there().into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, ["c"]);
    assert_eq!(world.content_there("c").unwrap(), b"saved");
}

/// What a file was emptied to while the content that had come was being read counted as what the remote has: removed, it came
/// back, and what was saved under its name became a conflict copy with nobody to conflict with.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_written_while_what_came_is_told_is_not_what_the_remote_has() {
    let options =
        MemoryOptions { versions: VersionKind::TickAndIdentity, ..MemoryOptions::default() };
    let world = World::with(options, quick_settings()).await;
    world.store.put("a", "first").unwrap();
    let (reached, at) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some((reached, goes)));
    world.engine.on_crash_point(Arc::new(move |point| {
        let hit = point == "record: before the content that came is known";
        if let Some((reached, goes)) = hit.then(|| gate.lock().unwrap().take()).flatten() {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| goes.recv().unwrap());
        }
        false
    }));
    let (ino, handle) = world.open("a", READ).await;
    world.engine.read(ino, handle, 0, 5).wait().await.unwrap();
    world.until("its content is about to be known", async || at.try_recv().is_ok()).await;
    let emptied = SetAttributes { size: Some(0), ..SetAttributes::default() };
    let answer = world.engine.set_attributes(ino, None, emptied, ME);
    let emptied = tokio::spawn(answer.wait());
    world.until("it is emptied", async || world.stat("a").await.size == 0).await;
    go.send(()).unwrap();
    emptied.await.unwrap().unwrap();
    world.close(ino, handle).await;
    world.remove("a").await.unwrap();
    world.store.tick();
    world.in_sync().await;
    assert_eq!(world.there(), []);
    assert_eq!(world.names("").await, [""; 0]);
}

fn is_setting(step: &Step) -> bool {
    step.operation == Operation::SetMetadata && step.moment == Moment::Arrives
}

async fn set_time(world: &World, path: &str) {
    let mtime = Some(SetTime::At(1_000_000_000_000_000_000));
    let set = SetAttributes { mtime, ..SetAttributes::default() };
    let ino = world.ino(path).await;
    world.engine.set_attributes(ino, None, set, ME).wait().await.unwrap();
}

/// The time of a file was being set when its content was replaced there and it was replaced here: refused, the setting took
/// the new version for the one that was to go, and the save was made over a content that nobody had seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_came_while_a_time_was_set_is_not_replaced_unseen() {
    let world = World::new().await;
    world.store.put("a", "first").unwrap();
    world.read("a").await.unwrap();
    world.in_sync().await;
    let at_the_door =
        |step: &Step| step.operation == Operation::SetMetadata && step.moment == Moment::Arrives;
    let (gate, mut held) = Gate::holding(at_the_door);
    world.store.gate(Some(gate));
    let mtime = Some(SetTime::At(1_000_000_000_000_000_000));
    let set = SetAttributes { mtime, ..SetAttributes::default() };
    let ino = world.ino("a").await;
    world.engine.set_attributes(ino, None, set, ME).wait().await.unwrap();
    let setting = held.recv().await.unwrap();
    world.store.put("a", "theirs").unwrap();
    world.write("t", b"saved").await;
    world.rename("t", "a").await.unwrap();
    setting.pass();
    drop(held);
    world.in_sync().await;
    let mut there: Vec<_> = world.there().into_iter().filter_map(|(_, content)| content).collect();
    there.sort();
    assert_eq!(there, [b"saved".to_vec(), b"theirs".to_vec()]);
}

/// The time of a file was to be set where somebody had put a folder in its place: it was tried again and again for ever, and
/// the file was shown for as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_that_took_the_place_of_a_file_whose_time_is_set_is_shown() {
    let world = World::new().await;
    world.store.put("a", "first").unwrap();
    world.read("a").await.unwrap();
    world.in_sync().await;
    let (gate, mut held) = Gate::holding(is_setting);
    world.store.gate(Some(gate));
    set_time(&world, "a").await;
    let setting = held.recv().await.unwrap();
    world.store.rm("a").unwrap();
    world.store.mkdir("a").unwrap();
    setting.pass();
    drop(held);
    let is_folder = async || {
        let shown = world.engine.lookup(Ino::ROOT, &name("a")).wait().await;
        shown.is_ok_and(|stat| stat.kind == Kind::Folder)
    };
    world.until("the folder is shown", is_folder).await;
    world.in_sync().await;
}

/// Where folders are listed in turn, what was missed was given up between two rounds; a round that always had something to
/// list, because there is much or because somebody asks again and again, never ended: the file was shown for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_was_removed_goes_though_something_is_always_due() {
    let options =
        MemoryOptions { feed: FeedKind::None, stable_ids: true, ..MemoryOptions::default() };
    let world = World::with(options, quick_settings()).await;
    world.store.put("a", "a").unwrap();
    world.store.put("b", "b").unwrap();
    assert_eq!(world.names("").await, ["a", "b"]);
    let engine = world.engine.clone();
    let asking = tokio::spawn(async move {
        loop {
            engine.sync_now(Ino::ROOT).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    world.store.rm("a").unwrap();
    world.until("it is gone", async || world.names("").await == ["b"]).await;
    asking.abort();
}

/// Where changes are told, what was missed was given up after a moment in which nothing was told: beside a file that is
/// written all the time there was none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_was_removed_goes_though_something_always_changes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("remote");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("gone"), "gone").unwrap();
    let remote = Arc::new(FolderRemote::open(&root).unwrap());
    let engine = Engine::start(quick_settings(), &dir.path().join("state"), remote).await.unwrap();
    let shown = async |name: &str| {
        let all = engine.read_dir(Ino::ROOT, 0, 10).wait().await.unwrap();
        all.iter().any(|entry| entry.name.lossy() == name)
    };
    assert!(shown("gone").await);
    let stop = Arc::new(AtomicBool::new(false));
    let (stops, log) = (stop.clone(), root.join("log"));
    let writer = std::thread::spawn(move || {
        for line in 0.. {
            std::fs::write(&log, format!("{line}")).unwrap();
            if stops.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    assert!(holds_soon(LIMIT, async || shown("log").await).await, "what is made is never seen");
    std::fs::remove_file(root.join("gone")).unwrap();
    let is_gone = async || !shown("gone").await;
    assert!(holds_soon(LIMIT, is_gone).await, "what is removed is shown for ever");
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    engine.stop().await;
}

/// A file was opened and written between the choice to send it and the copy that was sent: others saw a part of what was
/// written.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_opened_just_before_it_is_sent_is_not_sent_in_part() {
    let world = World::new().await;
    let (reached, at) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some((reached, goes)));
    let copied = Arc::new(AtomicBool::new(false));
    let has_copied = copied.clone();
    world.engine.on_crash_point(Arc::new(move |point| {
        let hit = point == "write: before it is copied";
        if let Some((reached, goes)) = hit.then(|| gate.lock().unwrap().take()).flatten() {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| goes.recv().unwrap());
        }
        has_copied.fetch_or(point == "write: snapshot taken", Ordering::SeqCst);
        false
    }));
    let (seen, store) = (Arc::new(std::sync::Mutex::new(Vec::new())), world.store.clone());
    let notes = (seen.clone(), Arc::downgrade(&store));
    store.gate(Some(Gate(Arc::new(move |step: Step| {
        if (step.operation, step.moment) == (Operation::Write, Moment::Answers) {
            let content = notes.1.upgrade().and_then(|store| store.content("a"));
            notes.0.lock().unwrap().extend(content.map(|bytes| bytes.to_vec()));
        }
        std::future::ready(None).boxed()
    }))));
    world.write("a", b"first").await;
    world.until("it is about to be copied", async || at.try_recv().is_ok()).await;
    let (ino, handle) = world.open("a", WRITE).await;
    world.write_at(ino, handle, 0, b"other").await;
    go.send(()).unwrap();
    world.until("it is copied", async || copied.load(Ordering::SeqCst)).await;
    world.write_at(ino, handle, 5, b" and the rest").await;
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(*seen.lock().unwrap(), [b"other and the rest".to_vec()]);
}

/// A world whose remote is a directory.
async fn on_folder(root: &std::path::Path) -> World {
    let world = World::new().await;
    world.engine.stop().await;
    let remote = Arc::new(FolderRemote::open(root).unwrap());
    let state = world.state.path().join("on folder");
    let engine = Engine::start(quick_settings(), &state, remote).await.unwrap();
    World { engine, ..world }
}

/// Two names of one file at a folder remote were one entry that moved to and fro: only one of them was shown, and what was
/// done here to one befell the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_two_names_of_one_file_at_the_remote_are_two_files() {
    let root = tempfile::tempdir().unwrap();
    let there = |name: &str| root.path().join(name);
    std::fs::create_dir(there("d")).unwrap();
    std::fs::write(there("a"), "one").unwrap();
    for other in ["b", "d/c"] {
        std::fs::hard_link(there("a"), there(other)).unwrap();
    }
    std::fs::write(there("alone"), "alone").unwrap();
    let world = on_folder(root.path()).await;
    assert_eq!(world.names("").await, ["a", "alone", "b", "d"]);
    assert_eq!(world.names("d").await, ["c"]);
    world.remove("b").await.unwrap();
    world.write("d/c", b"edited").await;
    // One that is alone gets a second name, and loses the first, while an edit of it waits.
    let (ino, handle) = world.open("alone", WRITE).await;
    world.write_at(ino, handle, 5, b" no more").await;
    std::fs::hard_link(there("alone"), there("copy")).unwrap();
    world.until("the copy is seen", async || world.names("").await.len() == 4).await;
    world.close(ino, handle).await;
    world.in_sync().await;
    let read = |name: &str| std::fs::read_to_string(there(name)).unwrap();
    assert_eq!(
        ["a", "d/c", "alone", "copy"].map(read),
        ["one", "edited", "alone no more", "alone"]
    );
    assert_eq!(world.names("").await, ["a", "alone", "copy", "d"]);
    std::fs::remove_file(there("copy")).unwrap();
    world.until("one name is left", async || world.names("").await == ["a", "alone", "d"]).await;
    assert_eq!(&world.read("alone").await.unwrap()[..], b"alone no more");
    assert_eq!(&world.read("a").await.unwrap()[..], b"one");
    world.engine.stop().await;
}

/// A task of every engine that was stopped went on waiting, and kept all that the engine had in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_nothing_of_a_stopped_engine_stays() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let world = World::new().await;
    world.store.put("a", "first").unwrap();
    world.write("b", b"second").await;
    world.in_sync().await;
    world.engine.stop().await;
    world.until("all tasks end", async || tasks() == before).await;
}
