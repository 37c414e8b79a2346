//! Listing ahead, over a memory remote: what a walk asks of the remote, and what looking at one folder does not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use dewfs::remote::memory::Operation;
use support::world::World;

async fn folders(count: usize) -> World {
    let world = World::new().await;
    for number in 0..count {
        world.store.mkdir(&format!("d{number:02}")).unwrap();
        world.store.put(&format!("d{number:02}/file"), "x").unwrap();
    }
    assert_eq!(world.names("").await.len(), count);
    world
}

fn lists(world: &World) -> u64 {
    world.remote.counts().get(&Operation::List).copied().unwrap_or(0)
}

/// S21 "A program that lists folder after folder finds the next ones listed already; one that looks at one folder costs that one."
#[tokio::test(flavor = "multi_thread")]
async fn one_folder_costs_one_listing() {
    let world = folders(40).await;
    let before = lists(&world);
    assert_eq!(world.names("d07").await, ["file"]);
    assert_eq!(world.names("d07").await, ["file"]);
    assert_eq!(world.stat("d07/file").await.size, 1);
    world.in_sync().await;
    assert_eq!(lists(&world), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_finds_the_coming_folders_listed() {
    let world = folders(40).await;
    let before = lists(&world);
    world.names("d00").await;
    world.names("d01").await;
    // Two in a row: some of the next ones come although nobody asked, but not all of them.
    world.until("some are listed ahead", async || lists(&world) == before + 6).await;
    world.stat("d00/file").await;
    assert_eq!(lists(&world), before + 6);
    // What came is not asked for again, and each is asked for once.
    for number in 2..40 {
        assert_eq!(world.names(&format!("d{number:02}")).await, ["file"]);
    }
    assert_eq!(lists(&world), before + 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_is_followed_down() {
    let world = World::new().await;
    for top in 0..4 {
        world.store.mkdir(&format!("t{top}")).unwrap();
        for below in 0..3 {
            world.store.mkdir(&format!("t{top}/b{below}")).unwrap();
        }
    }
    for top in 0..2 {
        world.names(&format!("t{top}")).await;
        for below in 0..3 {
            world.names(&format!("t{top}/b{below}")).await;
        }
    }
    world.names("").await;
    let before = lists(&world);
    world.names("t2").await;
    world.until("what is below comes by itself", async || lists(&world) >= before + 3).await;
}
