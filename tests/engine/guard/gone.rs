//! A folder that is gone at the remote, found by a read or by a step rather than by a listing or by the feed.

use super::*;
use dewfs::remote::memory::HintFaults;

/// A world whose remote tells no identities and of no changes; `other` is most of what is known, and is gone there.
async fn world_without_other() -> World {
    let options = MemoryOptions { page: 50, stable_ids: false, ..MemoryOptions::default() };
    let store = MemoryStore::new(options);
    let settings = Settings { poll: Duration::from_secs(3600), ..guarded(10) };
    let world = world_on(&store, 20, settings).await;
    world.store.hint_faults(HintFaults { drop: 1000, ..HintFaults::default() });
    world.store.rm("other").unwrap();
    world
}

async fn is_doubted(world: &World) {
    world
        .until("it is doubted", async || {
            status(world).await.reason.is_some_and(|why| why.contains("lost most"))
        })
        .await;
    assert_eq!(status(world).await.state.word(), "remote-missing");
}

/// A program saved one file: everything in the folder went here, and the folder was made anew there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_write_that_finds_no_folder_takes_nothing_away_unseen() {
    let world = world_without_other().await;
    world.write("other/new", b"new").await;
    is_doubted(&world).await;
    assert_eq!(world.names("other").await.len(), 61);
    assert!(world.store.peek("other").is_none(), "{:?}", world.there());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_move_or_a_folder_that_finds_no_folder_takes_nothing_away_unseen() {
    let world = world_without_other().await;
    world.rename("docs/f1", "other/moved").await.unwrap();
    is_doubted(&world).await;
    assert_eq!(world.names("other").await.len(), 61);
    assert!(world.store.peek("other").is_none(), "{:?}", world.there());
    let world = world_without_other().await;
    world.rename("other", "renamed").await.unwrap();
    is_doubted(&world).await;
    assert_eq!(world.names("renamed").await.len(), 60);
    assert!(world.store.peek("renamed").is_none(), "{:?}", world.there());
}

/// Files that were read one after the other went one after the other, and were never taken together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_reads_that_find_nothing_are_weighed_together() {
    let world = world_without_other().await;
    for index in 0..60 {
        if let Ok(file) = world.try_ino(&format!("other/f{index}")).await {
            world.read(&format!("other/f{index}")).await.unwrap_err();
            assert!(file != Ino::ROOT);
        }
    }
    is_doubted(&world).await;
    let left = world.names("other").await.len();
    assert!((15..60).contains(&left), "{left}");
}
