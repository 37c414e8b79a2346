//! Histories found by reading the code: saves that went nowhere, bytes of one content taken for those of another.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dewfs::engine::{Engine, EngineError, Handle, OpenMode, SetAttributes};
use dewfs::model::{Ino, Pin};
use dewfs::remote::memory::{
    Fault, FaultRule, Gate, MemoryOptions, Moment, Operation, Step, VersionKind,
};
use dewfs::remote::{ErrorKind, FeedKind};

use crate::support::world::{ME, READ, WRITE, World, name, pattern, quick_settings, same};

const MIB: usize = 1 << 20;
/// Opens for writing what it empties.
const EMPTIED: OpenMode = OpenMode { truncate: true, ..WRITE };

/// A place in the engine at which it is held the first time it comes there.
pub(super) struct Held {
    at: Receiver<()>,
    go: Sender<()>,
}

impl Held {
    pub(super) async fn reached(&self, world: &World) {
        world.until("it is held", async || self.at.try_recv().is_ok()).await;
    }

    pub(super) fn release(&self) {
        self.go.send(()).unwrap();
    }
}

pub(super) fn hold<const N: usize>(engine: &Engine, points: [&'static str; N]) -> [Held; N] {
    let (mut gates, mut held) = (Vec::new(), Vec::new());
    for point in points {
        let ((reached, at), (go, goes)) = (channel(), channel::<()>());
        gates.push(Mutex::new(Some((point, reached, goes))));
        held.push(Held { at, go });
    }
    engine.on_crash_point(Arc::new(move |point| {
        for gate in &gates {
            let hit = gate.lock().unwrap().take_if(|(at, ..)| *at == point);
            if let Some((_, reached, goes)) = hit {
                reached.send(()).unwrap();
                // A test that failed holds nothing any more.
                tokio::task::block_in_place(|| goes.recv().unwrap_or_default());
            }
        }
        false
    }));
    held.try_into().ok().unwrap()
}

async fn cut(world: &World, ino: Ino, size: u64) -> Result<(), EngineError> {
    let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
    world.engine.set_attributes(ino, None, set, ME).wait().await.map(drop)
}

async fn read_at(world: &World, ino: Ino, handle: Handle, at: usize, length: usize) -> Bytes {
    world.engine.read(ino, handle, at as u64, length as u32).wait().await.unwrap()
}

/// A file that a reader had open lost its name to a newer version or to a removal there; a save through what a program still
/// knew of the name went into what nobody could find any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_the_remote_took_the_name_of_is_not_opened_for_writing() {
    let world = World::new().await;
    for path in ["replaced", "removed", "ours"] {
        world.store.put(path, "first").unwrap();
    }
    let mut opened = Vec::new();
    for path in ["replaced", "removed"] {
        opened.push(world.open(path, READ).await);
    }
    world.store.put("replaced", "second").unwrap();
    world.store.rm("removed").unwrap();
    world
        .until("both names are taken", async || {
            let removed = world.try_ino("removed").await;
            world.ino("replaced").await != opened[0].0 && removed.is_err()
        })
        .await;
    for (ino, handle) in opened {
        for mode in [WRITE, EMPTIED] {
            let answer = world.engine.open(ino, mode).wait().await;
            assert!(matches!(answer, Err(EngineError::Stale)), "{answer:?}");
        }
        let answer = cut(&world, ino, 0).await;
        assert!(matches!(answer, Err(EngineError::Stale)), "{answer:?}");
        // Who only reads gets what he had.
        let again = world.engine.open(ino, READ).wait().await.unwrap();
        world.close(ino, again.handle).await;
        world.close(ino, handle).await;
    }
    // What was removed here is still that of whoever has it open.
    let (ino, handle) = world.open("ours", READ).await;
    world.remove("ours").await.unwrap();
    let written = world.engine.open(ino, WRITE).wait().await.unwrap().handle;
    world.write_at(ino, written, 0, b"third").await;
    cut(&world, ino, 3).await.unwrap();
    assert_eq!(&read_at(&world, ino, handle, 0, 5).await[..], b"thi");
    world.close(ino, written).await;
    world.close(ino, handle).await;
    world.in_sync().await;
}

/// What was copied to be sent was noted after a later edit was, as if it were that one: it counted as sent, and the remote
/// kept what was before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_recorded_while_a_copy_waits_to_be_sent_is_sent() {
    let world = World::new().await;
    let ino = world.write("a", b"first").await;
    world.in_sync().await;
    let version = async || world.engine.item_status(ino).await.unwrap().version;
    let before = version().await;
    let [held] = hold(&world.engine, ["write: snapshot taken"]);
    let (ino, handle) = world.open("a", WRITE).await;
    world.write_at(ino, handle, 0, b"second").await;
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    held.reached(&world).await;
    world.write_at(ino, handle, 0, b"the third").await;
    world.engine.sync_file(ino, handle).wait().await.unwrap();
    held.release();
    world.until("something was sent", async || version().await != before).await;
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(world.content_there("a").unwrap(), b"the third");
    assert_eq!(&world.read("a").await.unwrap()[..], b"the third");
}

/// Content was freed while what a writer had left in it was on its way to the rows: the save was gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_closed_while_its_content_is_freed_stays() {
    // The version is young: that it is to be confirmed keeps nothing here.
    let options =
        MemoryOptions { versions: VersionKind::TickAndIdentity, ..MemoryOptions::default() };
    let world = World::with(options, quick_settings()).await;
    world.store.put("a", "first").unwrap();
    world.read("a").await.unwrap();
    let ino = world.ino("a").await;
    let here = async || world.engine.item_status(ino).await.unwrap().content_word() == "local";
    world.until("it is here", here).await;
    let ino = world.ino("a").await;
    let points = ["free: before the row forgets", "free: in the row"];
    let [before, within] = hold(&world.engine, points);
    let engine = world.engine.clone();
    let freeing = tokio::spawn(async move { engine.free(ino, false).await });
    before.reached(&world).await;
    let handle = world.engine.open(ino, WRITE).wait().await.unwrap().handle;
    world.write_at(ino, handle, 0, b"second").await;
    before.release();
    within.reached(&world).await;
    world.engine.release(ino, handle);
    within.release();
    freeing.await.unwrap().unwrap();
    world.store.tick();
    world.in_sync().await;
    assert_eq!(&world.read("a").await.unwrap()[..], b"second");
    assert_eq!(world.content_there("a").unwrap(), b"second");
}

/// A file of which the first half was used again, and the other is pushed out when room is needed.
async fn half_cold() -> (World, Vec<u8>, Ino, Handle) {
    let settings = dewfs::engine::Settings { cache_size: 8 * MIB as u64, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let content = pattern(6 * MIB, 1);
    world.store.put("a", content.clone()).unwrap();
    world.store.put("other", pattern(4 * MIB, 2)).unwrap();
    let (ino, handle) = world.open("a", READ).await;
    for half in [0..6 * MIB, 0..MIB] {
        for at in half.step_by(128 << 10) {
            read_at(&world, ino, handle, at, 128 << 10).await;
        }
    }
    world.in_sync().await;
    (world, content, ino, handle)
}

async fn push_out(world: &World) {
    let (ino, handle) = world.open("other", READ).await;
    for at in (0..4 * MIB).step_by(128 << 10) {
        read_at(world, ino, handle, at, 128 << 10).await;
    }
    world.close(ino, handle).await;
}

/// What was emptied and written while parts of it were given back became holes.
async fn written_while_it_goes(point: &'static str) {
    let (world, _content, ino, handle) = half_cold().await;
    let [held] = hold(&world.engine, [point]);
    let world = Arc::new(world);
    let other = world.clone();
    let pushing = tokio::spawn(async move { push_out(&other).await });
    held.reached(&world).await;
    let saved = pattern(5 * MIB + 17, 3);
    let written = world.engine.open(ino, EMPTIED).wait().await.unwrap().handle;
    let (writer, bytes) = (world.clone(), saved.clone());
    // It may wait for the holes to be made.
    let writing = tokio::spawn(async move { writer.write_at(ino, written, 0, &bytes).await });
    let stat = async || world.engine.stat(ino).wait().await.unwrap().size;
    let begun = tokio::time::Instant::now();
    world
        .until("it is written, or waits", async || {
            stat().await == saved.len() as u64 || begun.elapsed() > Duration::from_millis(300)
        })
        .await;
    held.release();
    writing.await.unwrap();
    world.close(ino, written).await;
    world.close(ino, handle).await;
    pushing.await.unwrap();
    world.in_sync().await;
    same(&world.read("a").await.unwrap(), &saved);
    same(&world.content_there("a").unwrap(), &saved);
}

/// Holes were made where a program had written after it had emptied the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_written_before_holes_are_made_stays() {
    written_while_it_goes("shed: forgotten, before the holes").await;
}

/// What was written while the catalog was asked to forget parts counted as absent, and what was there before came over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_written_before_parts_are_forgotten_stays() {
    written_while_it_goes("shed: before parts are forgotten").await;
}

/// Cut to where what stays ends, it counted as not all here when the parts came back that were to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_cut_before_parts_are_forgotten_stays_cut() {
    let (world, content, ino, handle) = half_cold().await;
    let [held] = hold(&world.engine, ["shed: before parts are forgotten"]);
    let world = Arc::new(world);
    let other = world.clone();
    let pushing = tokio::spawn(async move { push_out(&other).await });
    held.reached(&world).await;
    let writer = world.engine.open(ino, WRITE).wait().await.unwrap().handle;
    let cutting = {
        let world = world.clone();
        tokio::spawn(async move { cut(&world, ino, MIB as u64).await })
    };
    let stat = async || world.engine.stat(ino).wait().await.unwrap().size;
    world.until("it is cut", async || stat().await == MIB as u64).await;
    let more = pattern(4 * MIB, 9);
    let (other, bytes) = (world.clone(), more.clone());
    let writing =
        tokio::spawn(async move { other.write_at(ino, writer, MIB as u64, &bytes).await });
    let begun = tokio::time::Instant::now();
    world
        .until("it is written, or waits", async || {
            stat().await == 5 * MIB as u64 || begun.elapsed() > Duration::from_millis(300)
        })
        .await;
    held.release();
    cutting.await.unwrap().unwrap();
    writing.await.unwrap();
    world.close(ino, writer).await;
    world.close(ino, handle).await;
    pushing.await.unwrap();
    world.in_sync().await;
    let wanted = [&content[..MIB], &more[..]].concat();
    same(&world.read("a").await.unwrap(), &wanted);
    same(&world.content_there("a").unwrap(), &wanted);
}

/// What one version was for certain was noted of the next, which had come before it was noted: removed, it came back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_one_version_is_says_nothing_of_the_next() {
    let options =
        MemoryOptions { versions: VersionKind::TickAndIdentity, ..MemoryOptions::default() };
    let world = World::with(options, quick_settings()).await;
    world.store.put("a", "first").unwrap();
    let [held] = hold(&world.engine, ["record: before the rows"]);
    assert_eq!(&world.read("a").await.unwrap()[..], b"first");
    held.reached(&world).await;
    world.store.tick();
    world.store.put("a", "the second").unwrap();
    world.until("the second is seen", async || world.stat("a").await.size == 10).await;
    held.release();
    world
        .until("it was recorded", async || {
            world.engine.mount_status().await.unwrap().hydrating == 0
        })
        .await;
    world.remove("a").await.unwrap();
    world.store.tick();
    world.in_sync().await;
    assert_eq!(world.there(), []);
    assert_eq!(world.names("").await, [""; 0]);
}

/// Of a file that was edited, is held open and was changed there before all of it was here, the rest was asked for without a
/// pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_the_rest_of_an_edited_file_that_changed_there_is_asked_for_with_pauses() {
    let world = World::new().await;
    world.store.put("a", pattern(4 * MIB, 1)).unwrap();
    let (ino, handle) = world.open("a", WRITE).await;
    world.store.put("a", pattern(4 * MIB, 2)).unwrap();
    world.write_at(ino, handle, 0, &pattern(128 << 10, 3)).await;
    let stats = || world.store.counts().get(&Operation::Stat).copied().unwrap_or(0);
    world.until("it is looked for", async || stats() > 0).await;
    let (begun, before) = (tokio::time::Instant::now(), stats());
    world.until("it is looked for six times more", async || stats() >= before + 6).await;
    assert!(begun.elapsed() > Duration::from_secs(3), "after {:?}", begun.elapsed());
    world.close(ino, handle).await;
}

/// A file that is written for long was sent again as soon as it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_is_written_for_long_is_sent_with_pauses() {
    let world = World::new().await;
    let slow = Fault::DelayAnswer(Duration::from_millis(400));
    world.store.inject(FaultRule { times: 99, ..FaultRule::next(Operation::Write, slow) });
    world.write("a", b"0").await;
    world.in_sync().await;
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = sent.clone();
    world.store.gate(Some(Gate(Arc::new(move |step: Step| {
        if step.operation == Operation::Write && step.moment == Moment::Arrives {
            noted.lock().unwrap().push(tokio::time::Instant::now());
        }
        Box::pin(async { None })
    }))));
    let times = || sent.lock().unwrap().clone();
    let (ino, handle) = world.open("a", WRITE).await;
    world
        .until("it is sent", async || {
            world.write_at(ino, handle, 0, &fastrand::u64(..).to_le_bytes()).await;
            world.engine.sync_file(ino, handle).wait().await.unwrap();
            // As somebody writes, not as fast as it goes.
            tokio::time::sleep(Duration::from_millis(150)).await;
            times().first().is_some_and(|first| first.elapsed() > Duration::from_millis(2500))
        })
        .await;
    let soon = |three: &[tokio::time::Instant]| three[2] - three[0] < Duration::from_millis(2500);
    assert!(!times().windows(3).any(soon), "three times in less than a pause: {:?}", times());
    world.close(ino, handle).await;
    world.in_sync().await;
}

/// What can never fit pushed out all that was here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_can_never_fit_pushes_nothing_out() {
    let settings = dewfs::engine::Settings { cache_size: 8 * MIB as u64, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let names: Vec<String> = (0..10).map(|index| format!("f{index}")).collect();
    world.store.put("giant", pattern(16 * MIB, 99)).unwrap();
    for (index, name) in names.iter().enumerate() {
        world.store.put(name, pattern(MIB / 2, index as u8)).unwrap();
    }
    for name in &names {
        world.read(name).await.unwrap();
    }
    world.in_sync().await;
    let giant = world.ino("giant").await;
    world.engine.set_pin(giant, Pin::Pinned).await.unwrap();
    world
        .until("it is told", async || {
            world.engine.mount_status().await.unwrap().reason.is_some_and(|why| why.contains("fit"))
        })
        .await;
    let ino = world.write("new", b"new").await;
    let handle = world.engine.open(ino, WRITE).wait().await.unwrap().handle;
    let grow = dewfs::engine::Allocate::Grow;
    let answer = world.engine.allocate(ino, handle, 0, 16 * MIB as u64, grow).wait().await;
    assert!(matches!(answer, Err(EngineError::NoSpace(_))), "{answer:?}");
    world.close(ino, handle).await;
    for name in names {
        let present = world.engine.item_status(world.ino(&name).await).await.unwrap().present_bytes;
        assert_eq!(present, MIB as u64 / 2, "{name}");
    }
}

/// A file that was being renamed there could not be read: nothing is at its old name any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_is_being_renamed_can_be_read() {
    let world = World::new().await;
    world.store.mkdir("d").unwrap();
    world.store.put("d/a", pattern(MIB, 1)).unwrap();
    world.store.put("b", pattern(MIB, 2)).unwrap();
    let paths = [("d", "e", "e/a", 1), ("b", "c", "c", 2)];
    for path in ["d/a", "b"] {
        world.stat(path).await;
    }
    for (from, to, path, seed) in paths {
        let slow = Fault::DelayAnswer(Duration::from_millis(700));
        world.store.inject(FaultRule::next(Operation::Rename, slow));
        world.rename(from, to).await.unwrap();
        world.until("it moves", async || world.store.peek(to).is_some()).await;
        same(&world.read(path).await.unwrap(), &pattern(MIB, seed));
        world.in_sync().await;
    }
}

/// A file was made longer than any can be kept here, and could not be opened any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_nothing_becomes_longer_than_what_can_be_kept() {
    let world = World::new().await;
    world.write("a", b"first").await;
    let ino = world.ino("a").await;
    let largest = dewfs::model::BlockSet::LARGEST;
    let answer = cut(&world, ino, largest + 1).await;
    assert!(matches!(answer, Err(EngineError::TooLarge)), "{answer:?}");
    let (ino, handle) = world.open("a", WRITE).await;
    let grow = dewfs::engine::Allocate::Grow;
    let answer = world.engine.allocate(ino, handle, largest, 1, grow).wait().await;
    assert!(matches!(answer, Err(EngineError::TooLarge)), "{answer:?}");
    let bytes = Bytes::from_static(b"x");
    let answer = world.engine.write(ino, handle, largest, bytes, false).wait().await;
    assert!(matches!(answer, Err(EngineError::TooLarge)), "{answer:?}");
    world.close(ino, handle).await;
    assert_eq!(&world.read("a").await.unwrap()[..], b"first");
}

/// What came was found not to be what the remote had told of; the kernel kept it in its pages all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_was_found_corrupt_is_not_kept_in_pages() {
    let options = MemoryOptions {
        versions: VersionKind::Tick,
        digests: true,
        feed: FeedKind::None,
        ..MemoryOptions::default()
    };
    let settings = dewfs::engine::Settings { poll: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(options, settings).await;
    world.store.put("a", "first").unwrap();
    let ino = world.ino("a").await;
    let (gate, mut held) = Gate::holding(|step: &Step| {
        (step.operation, step.moment) == (Operation::Read, Moment::Arrives)
    });
    world.store.gate(Some(gate));
    let handle = world.engine.open(ino, READ).wait().await.unwrap().handle;
    let answer = world.engine.read(ino, handle, 0, 5);
    let reading = tokio::spawn(answer.wait());
    let at_the_door = held.recv().await.unwrap();
    world.store.put("a", "other").unwrap();
    at_the_door.pass();
    drop(held);
    reading.await.unwrap().unwrap();
    world.store.put("a", "first").unwrap();
    world
        .until("it is found", async || {
            let error = world.engine.mount_status().await.unwrap().last_error;
            error.is_some_and(|error| error.message.contains("told of"))
        })
        .await;
    let again = world.engine.open(ino, READ).wait().await.unwrap();
    assert!(!again.keep_pages, "what is corrupt is served from pages");
    assert_eq!(&read_at(&world, ino, again.handle, 0, 5).await[..], b"first");
    world.close(ino, again.handle).await;
    world.close(ino, handle).await;
}

/// What a person accepted of the remote was accepted for ever where a folder could not be looked at any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_is_accepted_once_is_not_accepted_for_ever() {
    let settings =
        dewfs::engine::Settings { guard: 10, poll: Duration::from_millis(500), ..quick_settings() };
    let options = MemoryOptions { page: 50, ..MemoryOptions::default() };
    let world = World::with(options, settings).await;
    let folders = [("shut", 40), ("other", 60)];
    for (folder, files) in folders {
        world.store.mkdir(folder).unwrap();
        for index in 0..files {
            world.store.put(&format!("{folder}/f{index}"), "there").unwrap();
        }
    }
    for (folder, files) in folders {
        assert_eq!(world.names(folder).await.len(), files);
    }
    let shut = Some(dewfs::model::RemotePath(vec![name("shut")]));
    let denied = Fault::Fail(ErrorKind::Denied);
    let rule = FaultRule { path: shut, times: 1000, ..FaultRule::next(Operation::List, denied) };
    world.store.inject(rule);
    world.engine.accept_remote().await.unwrap();
    // Each is told of in a look of its own, and everything else was looked at before.
    for index in 0..3 {
        let news = format!("news{index}");
        world.store.put(&news, "news").unwrap();
        world.until("it is told of", async || world.try_ino(&news).await.is_ok()).await;
        let looks = || world.store.counts().get(&Operation::Changes).copied().unwrap_or(0);
        let before = looks();
        world.until("it was asked again", async || looks() > before + 1).await;
    }
    world.store.rm("other").unwrap();
    world
        .until("it is doubted", async || {
            let reason = world.engine.mount_status().await.unwrap().reason;
            reason.is_some_and(|why| why.contains("lost most"))
        })
        .await;
}
