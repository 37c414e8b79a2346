//! Listing ahead, over a memory remote: what a walk asks of the remote, and what looking at one folder does not.

use crate::support::world::World;
use dewfs::remote::memory::{Gate, Held, Moment, Operation, Step};

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

/// S36 "A program that lists folder after folder finds the next ones listed; one that looks at one folder costs one listing."
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

fn reads(world: &World) -> u64 {
    world.remote.counts().get(&Operation::Read).copied().unwrap_or(0)
}

async fn small_files(count: usize) -> (World, Vec<String>) {
    let world = World::new().await;
    world.store.mkdir("d").unwrap();
    for number in 0..count {
        world.store.put(&format!("d/f{number:02}"), "twelve bytes").unwrap();
    }
    world.names("d").await;
    // In the order in which a program sees them.
    let folder = world.ino("d").await;
    let page = world.engine.read_dir(folder, 0, count).wait().await.unwrap();
    let names = page.iter().map(|entry| format!("d/{}", entry.name.lossy())).collect();
    (world, names)
}

/// S37 "A program that reads small files (up to 256 KiB) in listing order, or several of one kind, finds the next ones here; one
/// that reads a single file fetches that one. What is fetched for nothing is bounded and ends."
#[tokio::test(flavor = "multi_thread")]
async fn one_small_file_is_one_read() {
    let (world, names) = small_files(30).await;
    assert_eq!(&world.read(&names[3]).await.unwrap()[..], b"twelve bytes");
    assert_eq!(&world.read(&names[3]).await.unwrap()[..], b"twelve bytes");
    world.in_sync().await;
    assert_eq!(reads(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_read_in_order_are_fetched_ahead_and_once() {
    let (world, names) = small_files(60).await;
    world.read(&names[0]).await.unwrap();
    world.read(&names[1]).await.unwrap();
    world.until("some come by themselves", async || reads(&world) > 6).await;
    assert!(reads(&world) <= 2 + 16, "a budget bounds what may be for nothing: {}", reads(&world));
    for name in &names[2..] {
        assert_eq!(&world.read(name).await.unwrap()[..], b"twelve bytes");
    }
    assert_eq!(reads(&world), 60);
}

/// As many as may go are on their way while a run goes on, one at a time is not enough for a remote far away.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_all_lanes_full() {
    let (world, names) = small_files(60).await;
    world.read(&names[0]).await.unwrap();
    world.read(&names[1]).await.unwrap();
    world.until("the budget is used up", async || reads(&world) == 2 + 16).await;
    let arrives = |step: &Step| step.operation == Operation::Read && step.moment == Moment::Arrives;
    let (gate, mut held) = Gate::holding(arrives);
    world.store.gate(Some(gate));
    // It was guessed right: the budget grows by as much as it was.
    world.read(&names[2]).await.unwrap();
    let mut at_once = Vec::new();
    world
        .until("eight are asked for at once", async || {
            at_once.extend(held.try_recv().ok());
            at_once.len() == 8
        })
        .await;
    world.store.gate(None);
    // Where each takes long, as on a busy machine, there are more.
    drop(held);
    at_once.into_iter().for_each(Held::pass);
    for name in &names[3..] {
        assert_eq!(&world.read(name).await.unwrap()[..], b"twelve bytes");
    }
    assert_eq!(reads(&world), 60);
}

/// From the third folder on the first file of a folder is here as well, and no listing is made for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_to_the_next_folders() {
    let world = World::new().await;
    let mut names: Vec<Vec<String>> = Vec::new();
    for folder in 0..6 {
        world.store.mkdir(&format!("d{folder}")).unwrap();
        for number in 0..4 {
            world.store.put(&format!("d{folder}/f{number}"), "twelve bytes").unwrap();
        }
    }
    // As a program sees them: one folder after the other.
    for folder in world.names("").await {
        let ino = world.ino(&folder).await;
        let page = world.engine.read_dir(ino, 0, 10).wait().await.unwrap();
        names.push(page.iter().map(|entry| format!("{folder}/{}", entry.name.lossy())).collect());
    }
    let in_order = inos(&world, &names).await;
    let listings = lists(&world);
    for name in in_order.iter().take(9) {
        world.read(name).await.unwrap();
    }
    world.until("all is fetched ahead", async || reads(&world) == 24).await;
    for name in in_order {
        assert_eq!(&world.read(&name).await.unwrap()[..], b"twelve bytes");
    }
    assert_eq!(reads(&world), 24);
    assert_eq!(lists(&world), listings);
}

/// All files, folder by folder, in the order of the folders' numbers.
async fn inos(world: &World, names: &[Vec<String>]) -> Vec<String> {
    let mut folders = Vec::new();
    for folder in names {
        let (at, _) = folder[0].split_once('/').unwrap();
        folders.push((world.ino(at).await, folder));
    }
    folders.sort_by_key(|(ino, _)| *ino);
    folders.into_iter().flat_map(|(_, folder)| folder.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_guesses_end() {
    let (world, names) = small_files(60).await;
    world.read(&names[40]).await.unwrap();
    world.read(&names[41]).await.unwrap();
    world.until("some come by themselves", async || reads(&world) > 6).await;
    // All the way back: nothing that was guessed is ever asked for.
    for name in names[..40].iter().rev().step_by(5) {
        world.read(name).await.unwrap();
    }
    assert!(reads(&world) <= 2 + 16 + 8, "{}", reads(&world));
}
