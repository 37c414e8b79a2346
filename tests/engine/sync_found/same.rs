//! Histories found by random ones: what looked like the same version, name or wish and was another one.

use std::sync::atomic::AtomicU64;

use dewfs::engine::Lane;
use dewfs::model::RemotePath;
use dewfs::remote::memory::HintFaults;

use super::trust::hold;
use super::*;
use crate::support::world::pattern;

/// A look that was put off for an item in the way was noted after that item was out of it: nobody woke it, and the longest wait
/// is an hour. What was new at the remote stayed unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_look_does_not_wait_for_what_is_out_of_the_way() {
    let world = World::new().await;
    world.store.put("known", "known").unwrap();
    world.until("it is listed", async || world.names("").await == ["known"]).await;
    let (gate, mut held) = Gate::holding(|step: &Step| {
        (step.operation, step.moment) == (Operation::Write, Moment::Answers)
    });
    world.store.gate(Some(gate));
    world.write("ours", b"ours").await;
    let answer = held.recv().await.unwrap();
    let [ended] = hold(&world.engine, ["listing: ended"]);
    world.store.expire_cursors();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    ended.reached(&world).await;
    answer.pass();
    drop(held);
    world.in_sync().await;
    ended.release();
    let catalog = rusqlite::Connection::open(world.engine.state_dir().join("catalog.db")).unwrap();
    let count = |what: &str| -> u32 {
        let sql = format!("SELECT count(*) FROM look_again {what}");
        catalog.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    world
        .until("nothing is to be looked at", async || {
            let orphans =
                count("WHERE cause IS NOT NULL AND cause NOT IN (SELECT ino FROM outbox)");
            assert_eq!(orphans, 0, "a look waits for what is in sync");
            count("") == 0
        })
        .await;
}

/// A young version was the same for a content of another size: what was read were the first bytes of the new one, as long as the
/// old one, and an edit of it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_content_of_another_size_is_not_read_under_the_same_version() {
    let options =
        MemoryOptions { versions: VersionKind::TickAndIdentity, ..MemoryOptions::default() };
    let settings = dewfs::engine::Settings { poll: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(options, settings).await;
    world.store.put("a", pattern(40_000, 0)).unwrap();
    let ino = world.ino("a").await;
    let opened = world.engine.open(ino, READ).wait().await.unwrap();
    world.store.hint_faults(HintFaults { drop: 100, ..HintFaults::default() });
    let other = pattern(200_000, 1);
    world.store.put("a", other.clone()).unwrap();
    let read = world.engine.read(ino, opened.handle, 0, 10).wait().await;
    assert!(read.is_err(), "read {read:?}");
    world.close(ino, opened.handle).await;
    world.store.tick();
    let is_known = async || world.read("a").await.is_ok_and(|read| read == other);
    world.until("the other one is known", is_known).await;
}

/// Who once asked for all to be sent now had it sent in part whenever it was written later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_was_wanted_sent_once_is_not_sent_in_part_later() {
    let settings = dewfs::engine::Settings {
        write_back_delay: Duration::from_millis(100),
        ..quick_settings()
    };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("a", "first").unwrap();
    world.read("a").await.unwrap();
    world.rename("a", "b").await.unwrap();
    world.in_sync().await;
    let (ino, handle) = world.open("b", WRITE).await;
    world.write_at(ino, handle, 0, b"part").await;
    world.engine.sync_file(ino, handle).wait().await.unwrap();
    for other in ["one", "two", "three"] {
        world.write(other, b"other").await;
        world.until("another one is sent", async || world.content_there(other).is_some()).await;
    }
    assert_eq!(world.content_there("b").unwrap(), b"first");
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(world.content_there("b").unwrap(), b"partt");
}

/// A name that was refused while the file got another one kept the file from ever being sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_refused_name_that_is_gone_keeps_nothing_from_going() {
    let world = World::new().await;
    let (gate, mut held) = Gate::holding(|step: &Step| {
        (step.operation, step.moment) == (Operation::Write, Moment::Arrives)
    });
    world.store.gate(Some(gate));
    world.write(".part", b"whole").await;
    let at_the_door = held.recv().await.unwrap();
    world.rename(".part", "whole").await.unwrap();
    at_the_door.strike(Fault::Fail(ErrorKind::NameRejected));
    drop(held);
    world.until("it is sent", async || world.content_there("whole").is_some()).await;
    world.in_sync().await;
    assert_eq!(world.there().len(), 1);
}

/// Times were set again and again on a content of another size that had the version we knew: nothing told the two apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_times_set_on_another_content_of_the_same_version_end() {
    let options =
        MemoryOptions { versions: VersionKind::TickAndIdentity, ..MemoryOptions::default() };
    let settings = dewfs::engine::Settings { poll: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(options, settings).await;
    world.store.put("a", "first").unwrap();
    world.read("a").await.unwrap();
    let ino = world.ino("a").await;
    world.store.hint_faults(HintFaults { drop: 100, ..HintFaults::default() });
    world.store.put("a", "the second").unwrap();
    let time = dewfs::engine::SetTime::At(1_000_000_000_000_000_000);
    let set = SetAttributes { mtime: Some(time), ..SetAttributes::default() };
    world.engine.set_attributes(ino, None, set, ME).wait().await.unwrap();
    world.store.tick();
    world.in_sync().await;
    world
        .until("the other content is shown", async || {
            world.read("a").await.is_ok_and(|read| &read[..] == b"the second")
        })
        .await;
}

/// Edits of a file that was not all here were unlinked when the remote replaced it while anybody had it open to read: the inode
/// that took over had none, and they were looked for there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_edits_of_what_was_not_all_here_are_kept_while_it_is_open() {
    let world = World::new().await;
    world.store.put("a", pattern(4 << 20, 1)).unwrap();
    let (ino, reader) = world.open("a", READ).await;
    let (gate, held) = Gate::holding(|step: &Step| step.operation == Operation::Read);
    world.store.gate(Some(gate));
    let edit = pattern(128 << 10, 2);
    let (_, writer) = world.open("a", WRITE).await;
    world.write_at(ino, writer, 0, &edit).await;
    world.close(ino, writer).await;
    world.store.tick();
    world.store.put("a", "the second").unwrap();
    let recovered = world.engine.state_dir().join("recovered");
    let kept = || -> Vec<_> {
        let kept = std::fs::read_dir(&recovered).into_iter().flatten().flatten();
        kept.map(|entry| std::fs::read(entry.path()).unwrap()).collect()
    };
    world.until("another one is shown", async || world.stat("a").await.size == 10).await;
    world.until("the edit is kept", async || kept().iter().any(|one| one.starts_with(&edit))).await;
    world.close(ino, reader).await;
    world.store.gate(None);
    drop(held);
    world.in_sync().await;
    assert_eq!(world.read("a").await.unwrap(), "the second");
    assert!(kept().iter().any(|one| one.starts_with(&edit)));
}

fn path(names: &[&str]) -> RemotePath {
    RemotePath(names.iter().map(|one| name(one)).collect())
}

/// One path that could not be looked at kept everything that anybody did from being seen, for as long as it could not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_path_that_cannot_be_looked_at_hides_nothing_else() {
    hides_nothing_else(ErrorKind::Denied).await;
    hides_nothing_else(ErrorKind::Unavailable).await;
}

async fn hides_nothing_else(kind: ErrorKind) {
    let world = World::new().await;
    world.store.mkdir("d").unwrap();
    world.store.put("d/x", "x").unwrap();
    assert_eq!(world.names("d").await, ["x"]);
    world
        .until("the feed is followed", async || {
            world.store.counts().contains_key(&Operation::Changes)
        })
        .await;
    for (operation, at) in [(Operation::Stat, path(&["d", "x"])), (Operation::List, path(&["d"]))] {
        let rule = FaultRule::next(operation, Fault::Fail(kind.clone()));
        world.store.inject(FaultRule { times: u32::MAX, path: Some(at), ..rule });
    }
    world.store.put("d/x", "xx").unwrap();
    world.store.put("e", "e").unwrap();
    world.until("another one's news are here", async || world.names("").await == ["d", "e"]).await;
}

/// The next folders were listed when all of the last ones had been: one that hung held up all others, again with each try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_that_hangs_holds_up_no_other() {
    let settings =
        dewfs::engine::Settings { timeout: Duration::from_secs(600), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for folder in ["bad", "good"] {
        world.store.mkdir(folder).unwrap();
    }
    for folder in ["bad", "good"] {
        assert_eq!(world.names(folder).await, [""; 0]);
    }
    let (gate, mut held) = Gate::holding(|step: &Step| {
        (step.operation, &step.path) == (Operation::List, &path(&["bad"]))
    });
    world.store.gate(Some(gate));
    world.store.expire_cursors();
    let _hangs = held.recv().await.unwrap();
    world.store.put("good/new", "new").unwrap();
    world.store.expire_cursors();
    world.until("the other one is listed", async || world.names("good").await == ["new"]).await;
}

/// What many others removed was looked for one by one, twice, at the pace of what nobody waits for: thousands took half an hour,
/// in which no other news were seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_many_things_missed_in_one_folder_are_one_look() {
    let options = MemoryOptions { stable_ids: true, ..MemoryOptions::default() };
    let world = World::with(options, quick_settings()).await;
    world.store.mkdir("d").unwrap();
    for number in 0..300 {
        world.store.put(&format!("d/f{number}"), "x").unwrap();
    }
    assert_eq!(world.names("d").await.len(), 300);
    world.store.hint_faults(HintFaults { drop: 1000, ..HintFaults::default() });
    for number in 0..300 {
        world.store.rm(&format!("d/f{number}")).unwrap();
    }
    let looks = || world.store.counts().get(&Operation::Stat).copied().unwrap_or(0);
    let before = looks();
    world.store.expire_cursors();
    world.until("they are gone", async || world.names("d").await == [""; 0]).await;
    assert!(looks() - before < 30, "{} looks", looks() - before);
}

/// A file was saved by renaming over another one, and then its folder was renamed. That the save takes over the version of the
/// file it replaced was decided for the replaced one, and thrown away as it was not what is next for the save, which is the
/// folder's renaming; that waited for the save, which was under way again at once: for ever, as fast as the machine could.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_a_save_takes_over_a_version_before_its_folder_moves() {
    let world = World::new().await;
    world.store.mkdir("a").unwrap();
    for path in ["a/c", "a/t"] {
        world.store.put(path, "first").unwrap();
    }
    for path in ["a/c", "a/t"] {
        world.read(path).await.unwrap();
    }
    world.in_sync().await;
    world.engine.pause(Lane::Uploads).await.unwrap();
    world.write("a/t", b"saved").await;
    world.rename("a/t", "a/c").await.unwrap();
    world.rename("a", "moved").await.unwrap();
    let decided = Arc::new(AtomicU64::new(0));
    let count = decided.clone();
    world.engine.on_crash_point(Arc::new(move |point| {
        let is_it = point == "step: before names change here";
        count.fetch_add(u64::from(is_it), Ordering::Relaxed);
        false
    }));
    world.engine.resume().await.unwrap();
    world.in_sync().await;
    assert_eq!(world.content_there("moved/c").unwrap(), b"saved");
    let names: Vec<String> = world.there().into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, ["moved", "moved/c"]);
    assert_eq!(decided.load(Ordering::Relaxed), 1, "what was decided was not done");
}
