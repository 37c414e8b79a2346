//! A remote whose answers keep being wrong.

use std::time::Duration;

use dewfs::engine::EngineError;
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{Fault, FaultRule, MemoryOptions, Operation};

use crate::support::world::{World, pattern, quick_settings, same};

/// Each read asked the remote anew for what had just come wrong, as fast as it answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_keeps_coming_wrong_is_asked_for_less_and_less() {
    let settings = dewfs::engine::Settings { poll: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("a", pattern(100_000, 1)).unwrap();
    world.stat("a").await;
    let wrong = Fault::Fail(ErrorKind::Corrupt);
    let rule = FaultRule { times: u32::MAX, ..FaultRule::next(Operation::Read, wrong) };
    world.store.inject(rule);
    let asked = || world.store.counts().get(&Operation::Read).copied().unwrap_or_default();
    for _ in 0..100 {
        let answer = world.read("a").await;
        assert!(matches!(answer, Err(EngineError::Corrupt(_))), "{answer:?}");
    }
    // Twice at once, and then once a second at most.
    assert!((3..=20).contains(&asked()), "asked {} times", asked());
    world.store.heal();
    let mut read = None;
    world
        .until("it comes right", async || {
            read = world.read("a").await.ok();
            read.is_some()
        })
        .await;
    same(&read.unwrap(), &pattern(100_000, 1));
}

/// One bad block of a large file was asked for again as fast as it failed, as long as anything else of the file was coming; and
/// what lies behind it never came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_bad_block_is_left_for_the_end_and_all_others_come() {
    let world = World::new().await;
    let content = pattern(100 << 20, 3);
    world.store.put("image", content.clone()).unwrap();
    let ino = world.ino("image").await;
    let bad = 1600 * 16_384;
    let rule = FaultRule::next(Operation::Read, Fault::BadPlace(bad));
    world.store.inject(FaultRule { times: u32::MAX, ..rule });
    let answer = world.engine.hydrate(ino).await;
    assert!(matches!(answer, Err(EngineError::Remote(_) | EngineError::Corrupt(_))), "{answer:?}");
    let here = world.engine.item_status(ino).await.unwrap().present_bytes;
    assert_eq!(here, (100 << 20) - 16_384);
    let reads = world.store.counts()[&Operation::Read];
    assert!(reads <= 12, "{reads} requests");
    world.store.heal();
    world.until("it is whole", async || world.engine.hydrate(ino).await.is_ok()).await;
    same(&world.read("image").await.unwrap(), &content);
}
