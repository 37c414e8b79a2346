//! Rates, lanes and pausing.

use std::time::{Duration, Instant};

use crate::support::world::{PATIENCE, World, pattern, quick_settings};
use dewfs::engine::{Lane, MountState, Settings};
use dewfs::model::{Ino, Pin};
use dewfs::remote::memory::{Gate, MemoryOptions, Moment, Operation};

async fn state(world: &World) -> MountState {
    world.engine.mount_status().await.unwrap().state
}

/// S64 "What is paused stands still, also over a restart, and is shown as `paused`; what a program waits for goes on."
#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_stands_still_until_it_is_resumed() {
    let world = World::new().await;
    world.store.put("there", pattern(50_000, 1)).unwrap();
    world.engine.pause(Lane::All).await.unwrap();
    world.write("new", b"new").await;
    world.engine.set_pin(world.ino("there").await, Pin::Pinned).await.unwrap();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    // Nothing goes further by itself, and nobody waits for that.
    assert!(!world.engine.wait_in_sync(Ino::ROOT, None).await.unwrap());
    assert_eq!(state(&world).await, MountState::Paused);
    assert!(world.content_there("new").is_none());
    assert_eq!(world.read("there").await.unwrap(), pattern(50_000, 1), "a program waits for it");
    let world = world.restart().await;
    assert_eq!(state(&world).await, MountState::Paused);
    assert!(world.content_there("new").is_none());
    world.engine.resume().await.unwrap();
    world.in_sync().await;
    assert_eq!(world.content_there("new").unwrap(), b"new");
    assert_eq!(state(&world).await, MountState::Online);
}

/// Of two lanes that were paused, none could be resumed alone.
#[tokio::test(flavor = "multi_thread")]
async fn regression_one_of_two_paused_lanes_goes_on_alone() {
    let world = World::new().await;
    world.store.put("pinned", pattern(50_000, 1)).unwrap();
    world.engine.pause(Lane::Bulk).await.unwrap();
    world.engine.pause(Lane::Uploads).await.unwrap();
    world.write("small", b"small").await;
    let pinned = world.ino("pinned").await;
    world.engine.set_pin(pinned, Pin::Pinned).await.unwrap();
    world.engine.resume_lane(Lane::Bulk).await.unwrap();
    world
        .until("the pin is here", async || {
            world.engine.item_status(pinned).await.unwrap().present_bytes == 50_000
        })
        .await;
    assert_eq!(state(&world).await, MountState::Paused);
    assert!(!world.engine.wait_in_sync(Ino::ROOT, None).await.unwrap());
    assert!(world.content_there("small").is_none());
    // The other way round, and over a restart.
    world.engine.pause(Lane::Bulk).await.unwrap();
    world.engine.resume_lane(Lane::Uploads).await.unwrap();
    let world = world.restart().await;
    world.until("the small one is sent", async || world.content_there("small").is_some()).await;
    assert_eq!(state(&world).await, MountState::Paused);
    world.engine.resume_lane(Lane::Uploads).await.unwrap();
    assert_eq!(state(&world).await, MountState::Paused, "that was not what is paused");
    world.engine.resume_lane(Lane::Bulk).await.unwrap();
    world.in_sync().await;
    assert_eq!(state(&world).await, MountState::Online);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_bulk_lane_lets_small_files_go() {
    let world = World::new().await;
    world.store.put("pinned", pattern(50_000, 1)).unwrap();
    world.engine.pause(Lane::Bulk).await.unwrap();
    world.write("large", &pattern(2 << 20, 1)).await;
    world.write("small", b"small").await;
    let pinned = world.ino("pinned").await;
    world.engine.set_pin(pinned, Pin::Pinned).await.unwrap();
    world.until("the small one is sent", async || world.content_there("small").is_some()).await;
    assert!(world.content_there("large").is_none());
    assert_eq!(world.engine.item_status(pinned).await.unwrap().present_bytes, 0);
    world.engine.resume().await.unwrap();
    world.until("the large one is sent", async || world.content_there("large").is_some()).await;
    world
        .until("the pin is here", async || {
            world.engine.item_status(pinned).await.unwrap().present_bytes == 50_000
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_keep_to_their_rate() {
    let settings = Settings { rate_down: 200 << 10, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("file", pattern(400 << 10, 1)).unwrap();
    let begun = Instant::now();
    assert_eq!(world.read("file").await.unwrap(), pattern(400 << 10, 1));
    // 2 s at this rate, less what may go at once after a rest. How much longer it takes is the machine's affair.
    assert!(begun.elapsed() > Duration::from_millis(1700), "{:?}", begun.elapsed());
}

/// Whether the gate holds back the upload of a file whose name begins like this.
fn uploads_of(prefix: &'static str) -> impl Fn(&dewfs::remote::memory::Step) -> bool {
    move |step| {
        step.operation == Operation::Write
            && step.moment == Moment::Arrives
            && step.path.to_string().starts_with(prefix)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_does_not_wait_for_large_ones() {
    let settings = Settings { transfers: 2, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let (gate, mut held) = Gate::holding(uploads_of("/large"));
    world.store.gate(Some(gate));
    world.engine.pause(Lane::All).await.unwrap();
    // More of them than are looked at in one go.
    for n in 0..70 {
        world.write(&format!("large{n}"), &pattern(1 + (1 << 20), n)).await;
    }
    world.engine.resume().await.unwrap();
    let first = held.recv().await.unwrap();
    world.write("small", b"small").await;
    world.until("the small one is sent", async || world.content_there("small").is_some()).await;
    assert!(held.try_recv().is_err(), "the place that is kept for small ones was taken");
    world.store.gate(None);
    drop((first, held));
    world.in_sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_go_before_large_ones() {
    let settings = Settings { transfers: 1, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let (gate, mut held) = Gate::holding(uploads_of("/"));
    world.store.gate(Some(gate));
    world.engine.pause(Lane::All).await.unwrap();
    for n in 0..3 {
        world.write(&format!("large{n}"), &pattern(2 << 20, n)).await;
    }
    world.write("small", b"small").await;
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.engine.resume().await.unwrap();
    let mut order = Vec::new();
    for _ in 0..4 {
        let one = held.recv().await.unwrap();
        order.push(one.step.path.to_string());
    }
    assert_eq!(order[0], "/small", "{order:?}");
    world.in_sync().await;
}

/// More small files than may be sent at once are made ready; no more than `transfers=` are sent, and none more once paused.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_ready_waits_for_its_turn_and_for_a_pause() {
    let settings = Settings { transfers: 2, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let (gate, mut held) = Gate::holding(uploads_of("/"));
    world.store.gate(Some(gate));
    for n in 0..20 {
        world.write(&format!("small{n}"), b"small").await;
    }
    let under_way = [held.recv().await.unwrap(), held.recv().await.unwrap()];
    let busy = async || {
        let all = world.engine.pending(Ino::ROOT, 100).await.unwrap();
        all.iter().filter(|item| item.word() == "uploading").count()
    };
    world.until("others are made ready", async || busy().await > 2).await;
    assert!(held.try_recv().is_err(), "more than two are sent at once");
    world.engine.pause(Lane::Uploads).await.unwrap();
    for one in under_way {
        one.pass();
    }
    let sent = || (0..20).filter(|n| world.content_there(&format!("small{n}")).is_some()).count();
    world.until("those under way arrive", async || sent() == 2).await;
    world.until("nothing is made ready any more", async || busy().await == 0).await;
    assert!(held.try_recv().is_err(), "what waited for its turn was sent although all is paused");
    world.engine.resume().await.unwrap();
    world.store.gate(None);
    drop(held);
    world.in_sync().await;
    assert_eq!(sent(), 20);
}

/// What was sent once is known, and is there as long as its version is: nobody has to read 20 GB to learn that.
#[tokio::test(flavor = "multi_thread")]
async fn regression_an_upload_that_was_stopped_reads_nothing_to_learn_that_nothing_happened() {
    let world = World::new().await;
    world.write("large", &pattern(2 << 20, 1)).await;
    world.in_sync().await;
    let (gate, mut held) = Gate::holding(uploads_of("/large"));
    world.store.gate(Some(gate));
    world.write("large", &pattern(2 << 20, 2)).await;
    let first = held.recv().await.unwrap();
    let stats = || world.remote.counts().get(&Operation::Stat).copied().unwrap_or(0);
    let before = stats();
    world.engine.pause(Lane::Bulk).await.unwrap();
    world.until("what became of it is looked at", async || stats() > before).await;
    world.store.gate(None);
    drop((first, held));
    world.engine.resume().await.unwrap();
    world.in_sync().await;
    assert_eq!(world.content_there("large").unwrap(), pattern(2 << 20, 2));
    assert_eq!(world.remote.counts().get(&Operation::Read), None);
}

/// S64: what must be read to learn whether it arrived waits as the upload would.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_became_of_a_large_upload_is_not_read_while_bulk_is_paused() {
    let world = World::new().await;
    world.store.put("large", pattern(2 << 20, 1)).unwrap();
    world.names("").await;
    let (gate, mut held) =
        Gate::holding(|step| step.operation == Operation::Write && step.moment == Moment::Answers);
    world.store.gate(Some(gate));
    world.write("large", &pattern(2 << 20, 2)).await;
    let first = held.recv().await.unwrap();
    world.engine.pause(Lane::Bulk).await.unwrap();
    let rows = world.state.path().join("state/catalog.db");
    let rows = rusqlite::Connection::open(rows).unwrap();
    let rests = || {
        let sql = "SELECT COUNT(*) FROM outbox
                   WHERE attempt IS NOT NULL AND not_before > (unixepoch() + 60) * 1000000000";
        rows.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() == 1
    };
    world.until("what was begun rests", async || rests()).await;
    drop(rows);
    world.store.gate(None);
    drop((first, held));
    assert_eq!(world.remote.counts().get(&Operation::Read), None);
    world.engine.resume().await.unwrap();
    world.in_sync().await;
    let writes = world.remote.counts()[&Operation::Write];
    assert_eq!(writes, 1, "it had arrived");
}

/// S64: the end of a mount is nobody's wish to send what is large over a metered line.
#[tokio::test(flavor = "multi_thread")]
async fn regression_the_end_of_a_mount_sends_nothing_large_while_bulk_is_paused() {
    let world = World::new().await;
    world.engine.pause(Lane::Bulk).await.unwrap();
    world.write("large", &pattern(2 << 20, 1)).await;
    world.write("small", b"small").await;
    // It ends by itself: what stands still is not waited for.
    assert_eq!(world.engine.drain(Duration::from_secs(3600)).await, 1);
    assert!(world.content_there("small").is_some() && world.content_there("large").is_none());
    // Who asks for it gets it.
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.until("the large one is sent", async || world.content_there("large").is_some()).await;
}

/// A world whose remote is away while something is to be sent; nobody but who asks looks for it again.
async fn away() -> World {
    let settings = Settings { poll: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.names("").await;
    world.in_sync().await;
    world.store.set_online(false);
    world.write("new", b"new").await;
    let is_offline = async || {
        world.engine.sync_now(Ino::ROOT).await.unwrap();
        world.engine.mount_status().await.unwrap().state.word() == "offline"
    };
    world.until("it is offline", is_offline).await;
    world
}

/// One connection that failed while a mount ended was the end of sending, with all the time of `drain=` left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_remote_that_is_away_for_a_moment_is_asked_again_at_the_end() {
    let world = away().await;
    let asked = || world.remote.counts().values().sum::<u64>();
    let before = asked();
    let back = async {
        world.until("it is asked again", async || asked() >= before + 2).await;
        world.store.set_online(true);
    };
    let (left, ()) = tokio::join!(world.engine.drain(Duration::from_secs(3600)), back);
    assert_eq!(left, 0);
    assert_eq!(world.content_there("new").unwrap(), b"new");
}

/// What stays away is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_that_stays_away_does_not_keep_a_mount_from_ending() {
    let world = away().await;
    let drained = world.engine.drain(Duration::from_secs(3600));
    assert_eq!(tokio::time::timeout(PATIENCE, drained).await.unwrap(), 1);
}
