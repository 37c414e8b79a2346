//! Items that rested for something that was over.

use dewfs::engine::{Lane, Settings};
use dewfs::model::RemotePath;

use super::*;
use crate::support::world;

/// What the catalog's own table says of a pending item: the error, and in how many seconds it may go.
fn row(world: &World, ino: Ino) -> (Option<String>, f64) {
    let catalog = rusqlite::Connection::open(world.engine.state_dir().join("catalog.db")).unwrap();
    let sql = "SELECT error, COALESCE(not_before, 0) FROM outbox WHERE ino = ?1";
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let told = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, f64>(1)? / 1e9 - now));
    catalog.query_row(sql, [i64::try_from(ino.0).unwrap()], told).unwrap_or((None, 0.0))
}

/// Three hundred times this long a file rests that somebody has open for writing.
fn slow_writers() -> Settings {
    Settings { write_back_delay: Duration::from_millis(300), ..quick_settings() }
}

fn refuse(world: &World, operation: Operation, kind: ErrorKind) {
    world.store.inject(FaultRule::next(operation, Fault::Fail(kind)));
}

/// A file that could not be sent at once was tried again while somebody had it open for writing, and put off for that; who closed it
/// woke nobody, as it had an error: what was saved was sent five minutes later, or fifty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_close_wakes_what_failed_before() {
    let world = World::with(MemoryOptions::default(), slow_writers()).await;
    refuse(&world, Operation::Write, ErrorKind::NoSpace);
    let ino = world.write("a", b"first").await;
    world.until("it failed", async || row(&world, ino).0.is_some()).await;
    let (_, handle) = world.open("a", WRITE).await;
    world.write_at(ino, handle, 0, b"saved").await;
    world.until("it rests for its writer", async || row(&world, ino).1 > 20.0).await;
    world.close(ino, handle).await;
    world
        .until("it is sent", async || world.content_there("a").is_some_and(|c| c == b"saved"))
        .await;
}

/// What led to the making of a folder that was refused rested for a quarter of an hour, and giving the folder another name woke all
/// that was in it but this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_who_led_to_a_refused_folder_goes_on_with_it() {
    let world = World::new().await;
    world.engine.pause(Lane::Uploads).await.unwrap();
    world.write("a", b"in it").await;
    let folder = world.mkdir("new").await;
    world.rename("a", "new/a").await.unwrap();
    // Due after what is in it.
    world.rename("new", "bad").await.unwrap();
    let at = RemotePath(vec![name("bad")]);
    let rule = FaultRule::next(Operation::MakeFolder, Fault::Fail(ErrorKind::NameRejected));
    world.store.inject(FaultRule { times: u32::MAX, path: Some(at), ..rule });
    world.engine.resume().await.unwrap();
    world.until("it is refused", async || row(&world, folder).0.is_some()).await;
    world.rename("bad", "good").await.unwrap();
    world
        .until("both are sent", async || {
            world.content_there("good/a").is_some_and(|there| there == b"in it")
        })
        .await;
}

/// A file that had failed by itself, and then waited for its folder, was not woken with that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_failed_goes_on_when_its_folder_does() {
    let world = World::new().await;
    let folder = world.mkdir("d").await;
    world.in_sync().await;
    refuse(&world, Operation::Write, ErrorKind::NoSpace);
    let file = world.write("d/a", b"in it").await;
    world.until("it failed", async || row(&world, file).0.is_some()).await;
    refuse(&world, Operation::Rename, ErrorKind::Locked { after: Some(Duration::from_secs(600)) });
    world.rename("d", "other").await.unwrap();
    world.until("the folder is refused", async || row(&world, folder).0.is_some()).await;
    world.until("the file waits for it", async || row(&world, file).1 > 60.0).await;
    world.rename("other", "good").await.unwrap();
    world
        .until("both are there", async || {
            world.content_there("good/a").is_some_and(|there| there == b"in it")
        })
        .await;
}

/// With the cache full of what was not sent, a file to be fetched before it is sent held the turn in sending that would have made
/// room for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_who_waits_for_room_holds_no_turn_in_sending() {
    const MIB: u64 = 1 << 20;
    let settings = Settings {
        cache_size: 8 * MIB,
        transfers: 1,
        timeout: Duration::from_secs(600),
        ..quick_settings()
    };
    let world = World::with(MemoryOptions::default(), settings).await;
    let theirs = world::pattern(usize::try_from(4 * MIB).unwrap(), 1);
    world.store.put("theirs", theirs.clone()).unwrap();
    let (ino, handle) = world.open("theirs", WRITE).await;
    let (gate, held) = Gate::holding(|step: &Step| step.operation == Operation::Read);
    world.store.gate(Some(gate));
    world.engine.pause(Lane::Uploads).await.unwrap();
    world.write_at(ino, handle, 0, &[7; 128 << 10]).await;
    world.close(ino, handle).await;
    let ours = world::pattern(usize::try_from(MIB).unwrap(), 2);
    let names: Vec<String> = (0..6).map(|number| format!("ours {number}")).collect();
    for name in &names {
        world.write(name, &ours).await;
    }
    world.store.gate(None);
    drop(held);
    world.engine.resume().await.unwrap();
    for name in &names {
        let is_there = async || world.content_there(name).is_some_and(|there| there == ours);
        world.until("ours is sent", is_there).await;
    }
    let edited = [&[7; 128 << 10][..], &theirs[128 << 10..]].concat();
    world
        .until("theirs is sent", async || {
            world.content_there("theirs").is_some_and(|c| c == edited)
        })
        .await;
}
