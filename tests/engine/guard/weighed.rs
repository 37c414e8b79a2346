//! How what the remote lost is counted, and how long a second look counts.

use dewfs::remote::memory::Moment;
use tokio::time::timeout;

use super::*;

/// A folder that was lost with all in it was counted once for each level above a file: the remote was missing for a moment because
/// of fewer losses than `guard=`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_is_lost_with_its_folder_is_counted_once() {
    for stable_ids in [false, true] {
        let options =
            MemoryOptions { page: 200, hint_page: 1000, stable_ids, ..MemoryOptions::default() };
        let store = MemoryStore::new(options);
        for folder in ["a", "a/b", "a/b/c"] {
            store.mkdir(folder).unwrap();
        }
        for number in 0..8 {
            store.put(&format!("a/b/c/f{number}"), "lost").unwrap();
        }
        // A doubt lasts so long that it is seen.
        let settings = Settings { poll: Duration::from_millis(500), ..guarded(15) };
        let world = world_on(&store, 4, settings).await;
        assert_eq!(world.names("a/b/c").await.len(), 8);
        world.in_sync().await;
        store.rm("a").unwrap();
        world
            .until("it is gone here", async || {
                let now = status(&world).await;
                assert_ne!(now.state.word(), "remote-missing", "{stable_ids}: {:?}", now.reason);
                world.names("").await == ["docs", "other"]
            })
            .await;
    }
}

async fn is_doubted(world: &World) -> bool {
    status(world).await.reason.is_some_and(|why| why.contains("lost most"))
}

/// What is lost is back as soon as the second look at these folders is over.
async fn is_back_after_the_second_look(world: &World, folders: &[&str], back: impl FnOnce()) {
    world.until("it is doubted", async || is_doubted(world).await).await;
    let (gate, mut asked) = Gate::holding(|step: &Step| step.moment == Moment::Arrives);
    world.store.gate(Some(gate));
    let mut left: Vec<&str> = folders.to_vec();
    loop {
        let held = timeout(PATIENCE, asked.recv()).await.unwrap().unwrap();
        let (operation, path) = (held.step.operation, held.step.path.to_string());
        if left.is_empty() && operation != Operation::List {
            break back();
        }
        left.retain(|folder| operation != Operation::List || *folder != path);
        held.pass();
    }
    world.store.gate(None);
    drop(asked);
    world.in_sync().await;
    let asked = || world.store.counts()[&Operation::Changes];
    let before = asked();
    let catalog = rusqlite::Connection::open(world.engine.state_dir().join("catalog.db")).unwrap();
    let left = || -> u32 {
        catalog.query_row("SELECT count(*) FROM look_again", [], |row| row.get(0)).unwrap()
    };
    world.until("it is seen", async || asked() > before + 2 && left() == 0).await;
    assert_eq!((world.names("docs").await.len(), world.names("other").await.len()), (6, 18));
}

/// What a second look had told counted for ever: what was back when it was looked for, and was lost again days later, went at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_was_seen_after_the_second_look_is_doubted_again() {
    for is_told in [false, true] {
        let options = MemoryOptions { page: 200, hint_page: 1000, ..MemoryOptions::default() };
        let store = MemoryStore::new(options);
        let settings = Settings { poll: Duration::from_millis(500), ..guarded(10) };
        let world = world_on(&store, 6, settings).await;
        let lose = || match is_told {
            true => store.rm("other").unwrap(),
            false => {
                store.take_away(true);
                store.expire_cursors();
            }
        };
        let fill = || {
            store.mkdir("other").unwrap();
            for number in 0..18 {
                store.put(&format!("other/f{number}"), format!("again {number}")).unwrap();
            }
        };
        lose();
        match is_told {
            true => is_back_after_the_second_look(&world, &["/", "/other"], fill).await,
            false => is_back_after_the_second_look(&world, &["/"], || store.bring_back()).await,
        }
        lose();
        world
            .until("it is doubted again", async || {
                let left = world.names("").await;
                assert_eq!(left, ["docs", "other"], "{is_told}: believed at once");
                is_doubted(&world).await
            })
            .await;
        assert_eq!(world.names("other").await.len(), 18);
    }
}
