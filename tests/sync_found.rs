//! Histories that broke something, found by the sync machine and by the crash enumeration.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use dewfs::remote::memory::{Fault, FaultRule, Operation};
use support::world::World;

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
