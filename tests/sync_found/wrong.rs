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
