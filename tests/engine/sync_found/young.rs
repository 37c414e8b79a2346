//! Content that comes under a version which is too young to be told from a later one.

use super::trust::hold;
use super::*;
use crate::support::world::pattern;

fn asked(world: &World, operation: Operation) -> u64 {
    world.store.counts().get(&operation).copied().unwrap_or(0)
}

/// A file was read under a young version, the version was confirmed before that was recorded, when nothing was here to compare
/// with, and what came before a second change in the same tick was believed for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_came_before_its_version_was_confirmed_is_compared() {
    for length in [5, 300_000] {
        let options =
            MemoryOptions { versions: VersionKind::TickAndIdentity, ..MemoryOptions::default() };
        let world = World::with(options, quick_settings()).await;
        let [first, other] = [1, 2].map(|seed| pattern(length, seed));
        world.store.put("a", first.clone()).unwrap();
        let [held] = hold(&world.engine, ["record: before the content that came is known"]);
        let (ino, handle) = world.open("a", READ).await;
        let part = world.engine.read(ino, handle, 0, 5).wait().await.unwrap();
        assert_eq!(part, first[..5]);
        held.reached(&world).await;
        world.store.put("a", other.clone()).unwrap();
        // What the remote tells of it is old by then.
        let looks = || {
            [Operation::Changes, Operation::List].map(|one| asked(&world, one)).iter().sum::<u64>()
        };
        let before = looks();
        world.until("two looks", async || looks() >= before + 2).await;
        world.store.tick();
        let rows = rusqlite::Connection::open(world.engine.state_dir().join("catalog.db")).unwrap();
        let young = || -> bool {
            let sql = "SELECT young FROM base WHERE ino = ?1";
            rows.query_row(sql, [i64::try_from(ino.0).unwrap()], |row| row.get(0)).unwrap()
        };
        // It does not wait for what is being recorded: that may take long.
        world.until("the version is confirmed", async || !young()).await;
        held.release();
        world.close(ino, handle).await;
        world
            .until("the other one is read", async || world.read("a").await.unwrap() == other)
            .await;
    }
}
