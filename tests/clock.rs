//! The machine's clock jumps: what is put off comes when its time is over all the same.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use dewfs::catalog::shift_clock;
use dewfs::engine::{OpenMode, Settings};
use dewfs::model::{Ino, Pin};
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{Fault, FaultRule, MemoryOptions, Operation};
use support::world::{WRITE, World, pattern, quick_settings, same};

const TEN_MINUTES: i64 = 600_000_000_000;

/// Writes, is refused for a while, and is told of changes, while the clock jumps in between.
async fn goes_on_over(jump: i64) {
    let settings = Settings { write_back_delay: Duration::from_secs(1), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("there", "first").unwrap();
    assert_eq!(&world.read("there").await.unwrap()[..], b"first");
    world.in_sync().await;
    let begun = Instant::now();
    // Rests at the moment of the jump.
    world.write("rests", b"rests").await;
    shift_clock(jump);
    world.until("what rested is sent", async || world.content_there("rests").is_some()).await;
    // Waits for its next try at that moment.
    let refused = Fault::Fail(ErrorKind::RateLimited { after: Some(Duration::from_secs(1)) });
    world.store.inject(FaultRule { times: 2, ..FaultRule::next(Operation::Write, refused) });
    world.write("refused", b"refused").await;
    world
        .until("it is refused", async || {
            let ino = world.ino("refused").await;
            world.engine.item_status(ino).await.unwrap().error.is_some()
        })
        .await;
    shift_clock(jump);
    world.until("it is tried again", async || world.content_there("refused").is_some()).await;
    // Changes at the remote are seen, also of what must be looked at again.
    world.store.put("there", "second").unwrap();
    shift_clock(jump);
    world.until("the change", async || world.stat("there").await.size == 6).await;
    world.store.put("pinned", pattern(100_000, 1)).unwrap();
    world.until("the new file", async || world.try_ino("pinned").await.is_ok()).await;
    let ino = world.ino("pinned").await;
    world.engine.set_pin(ino, Pin::Pinned).await.unwrap();
    shift_clock(jump);
    same(&world.read("pinned").await.unwrap(), &pattern(100_000, 1));
    world.in_sync().await;
    println!("with jumps of {} s all took {:?}", jump / 1_000_000_000, begun.elapsed());
    world.engine.stop().await;
}

/// S54 "A clock that is set back or forward, a suspended machine and another network delay nothing by more than the deadline
/// of who waits; what is local goes on, and being back online is noticed without being told."
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ten_minutes_delays_nothing() {
    goes_on_over(-TEN_MINUTES).await;
    goes_on_over(TEN_MINUTES).await;
}

/// A clock that was set back made what was pending look as old as the jump: a file was sent while it was being written.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_clock_set_back_sends_no_part() {
    let settings = Settings { write_back_delay: Duration::from_millis(100), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    shift_clock(-TEN_MINUTES);
    let ino = world.write("whole", b"").await;
    world.in_sync().await;
    let handle = world.engine.open(ino, WRITE).wait().await.unwrap().handle;
    world.write_at(ino, handle, 0, b"first").await;
    world.engine.sync_file(ino, handle).wait().await.unwrap();
    // Whatever is due by then has gone.
    for other in ["one", "two", "three"] {
        world.write(other, b"other").await;
        world.until("another one is sent", async || world.content_there(other).is_some()).await;
    }
    assert_eq!(world.content_there("whole").unwrap(), b"");
    world.write_at(ino, handle, 5, b" and second").await;
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(world.content_there("whole").unwrap(), b"first and second");
    world.engine.stop().await;
}

/// What a clock that was set back made look old was not counted: removals without end passed the guard.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_clock_set_back_does_not_open_the_guard() {
    let settings = Settings { guard: 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for number in 0..60 {
        world.store.put(&format!("f{number}"), "there").unwrap();
    }
    world.until("all are listed", async || world.names("").await.len() == 60).await;
    world.in_sync().await;
    shift_clock(-TEN_MINUTES);
    let is_held = async || !world.engine.held().await.unwrap().is_empty();
    for number in 0..60 {
        let name = format!("f{number}");
        world.remove(&name).await.unwrap();
        let is_judged = async || world.content_there(&name).is_none() || is_held().await;
        world.until("it is removed or held", is_judged).await;
        if is_held().await {
            assert!(number < 50, "{number} went before the guard held one");
            world.engine.stop().await;
            return;
        }
    }
    panic!("the guard held nothing");
}

/// A file that could not be sent for long is opened anew: its row is old, and the first half of what is written now was sent.
#[tokio::test(flavor = "multi_thread")]
async fn regression_an_old_row_sends_no_part_of_what_is_written_now() {
    let settings = Settings { write_back_delay: Duration::from_millis(100), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.names("").await;
    world.store.set_online(false);
    let ino = world.write("whole", b"before").await;
    shift_clock(TEN_MINUTES);
    let truncate = OpenMode { truncate: true, ..WRITE };
    let handle = world.engine.open(ino, truncate).wait().await.unwrap().handle;
    world.write_at(ino, handle, 0, b"first").await;
    world.store.set_online(true);
    for other in ["one", "two", "three"] {
        world.write(other, b"other").await;
        world.until("another one is sent", async || world.content_there(other).is_some()).await;
    }
    assert_eq!(world.content_there("whole"), None);
    world.write_at(ino, handle, 5, b" and second").await;
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(world.content_there("whole").unwrap(), b"first and second");
    world.engine.stop().await;
}

/// Files edited over hours and not sent: removed together, they counted as removed over hours.
#[tokio::test(flavor = "multi_thread")]
async fn regression_removals_are_many_however_old_the_edits_before_them() {
    let settings = Settings { guard: 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for number in 0..60 {
        world.store.put(&format!("f{number}"), "there").unwrap();
    }
    world.until("all are listed", async || world.names("").await.len() == 60).await;
    world.in_sync().await;
    world.store.set_online(false);
    for number in 0..60 {
        world.write(&format!("f{number}"), b"edited").await;
        if number % 10 == 9 {
            shift_clock(TEN_MINUTES);
        }
    }
    for number in 0..60 {
        world.remove(&format!("f{number}")).await.unwrap();
    }
    world.store.set_online(true);
    world
        .until("the guard holds them", async || {
            assert_eq!(world.there().len(), 60, "some went");
            world.engine.sync_now(Ino::ROOT).await.unwrap();
            world.engine.held().await.unwrap().len() == 60
        })
        .await;
    world.engine.stop().await;
}

/// What a proxy refuses in a bad hour looks like a name that cannot be held: it was tried again by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_refused_name_is_tried_again_the_next_day() {
    let world = World::with(MemoryOptions::default(), quick_settings()).await;
    let refused = Fault::Fail(ErrorKind::NameRejected);
    world.store.inject(FaultRule::next(Operation::Write, refused));
    let ino = world.write("refused", b"refused").await;
    let failed = async || world.engine.item_status(ino).await.unwrap().error.is_some();
    world.until("it is refused", failed).await;
    shift_clock(60 * TEN_MINUTES);
    world.write("other", b"other").await;
    world.until("another one is sent", async || world.content_there("other").is_some()).await;
    assert_eq!(world.content_there("refused"), None, "not before");
    shift_clock(90 * TEN_MINUTES);
    world.write("third", b"third").await;
    world.until("it is tried again", async || world.content_there("refused").is_some()).await;
    world.engine.stop().await;
}
