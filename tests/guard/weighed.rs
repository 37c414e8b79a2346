//! How what the remote lost is counted, and how long a second look counts.

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
        for number in 0..30 {
            store.put(&format!("a/b/c/f{number}"), "lost").unwrap();
        }
        // A doubt lasts so long that it is seen.
        let settings = Settings { poll: Duration::from_millis(500), ..guarded(50) };
        let world = world_on(&store, 25, settings).await;
        assert_eq!(world.names("a/b/c").await.len(), 30);
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
