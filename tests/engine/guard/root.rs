//! A remote that is gone, empty, or another one.

use crate::support::world::name;
use dewfs::model::RemotePath;
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{Fault, FaultRule};

use super::*;

/// Nothing is removed here, what is here reads, edits wait; with the remote back they go.
async fn missing(world: &World, reason: &str) {
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world
        .until("the remote is missing", async || {
            world.engine.sync_now(Ino::ROOT).await.unwrap();
            status(world).await.state.word() == "remote-missing"
        })
        .await;
    let why = status(world).await.reason.unwrap();
    assert!(why.contains(reason), "{why}");
    assert_eq!(&world.read("docs/f1").await.unwrap()[..], b"docs 1");
    assert_eq!(world.names("docs").await.len(), 30);
    assert_eq!(world.names("other").await.len(), 90);
    world.write("docs/f1", b"edited meanwhile").await;
    world.write("fresh", b"fresh").await;
    world.remove("other/f5").await.unwrap();
    let waited = world.engine.wait_in_sync(Ino::ROOT, Some(PATIENCE)).await.unwrap();
    assert!(!waited);
}

async fn back(world: &World) {
    world.in_sync().await;
    assert_eq!(world.content_there("docs/f1").unwrap(), b"edited meanwhile");
    assert_eq!(world.content_there("fresh").unwrap(), b"fresh");
    assert_eq!((files_there(world, "docs"), files_there(world, "other")), (30, 89));
    assert!(
        world.there().iter().all(|(path, _)| !path.contains("conflict")),
        "{:?}",
        world.there()
    );
}

/// S34 "A remote whose root is gone, is empty where it had entries, or is another one than before deletes nothing here and gets
/// nothing: the state is `remote-missing`, what is here stays readable, and what is pending waits."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_gone_deletes_nothing_here() {
    let world = world_of(30, guarded(10)).await;
    world.store.take_away(false);
    world.store.expire_cursors();
    missing(&world, "not there").await;
    assert!(world.there().is_empty(), "{:?}", world.there());
    world.store.bring_back();
    back(&world).await;
}

/// What was not found while the root was away is not taken for gone because the root is back when it is asked who it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_comes_back_between_two_questions_has_lost_nothing() {
    let store = MemoryStore::new(MemoryOptions { page: 50, ..MemoryOptions::default() });
    store.be_nameless();
    let world = world_on(&store, 30, guarded(10)).await;
    let before = world.ino("docs/f1").await;
    world.store.take_away(true);
    let (weak, once) = (Arc::downgrade(&store), Arc::new(AtomicBool::new(true)));
    world.store.gate(Some(Gate(Arc::new(move |step: Step| {
        let asked = step.operation == Operation::List && step.path.is_root();
        if asked
            && once.swap(false, Ordering::SeqCst)
            && let Some(store) = weak.upgrade()
        {
            store.bring_back();
        }
        Box::pin(async { None })
    }))));
    world.write("docs/f1", b"edited meanwhile").await;
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.in_sync().await;
    assert_eq!(world.content_there("docs/f1").unwrap(), b"edited meanwhile");
    assert_eq!(world.ino("docs/f1").await, before);
    assert_eq!(world.names("docs").await.len(), 30);
    assert!(world.there().iter().all(|(path, _)| !path.contains("conflict")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_empty_deletes_nothing_here() {
    let store = MemoryStore::new(MemoryOptions { page: 50, ..MemoryOptions::default() });
    store.be_nameless();
    let world = world_on(&store, 30, guarded(10)).await;
    world.store.take_away(true);
    world.store.expire_cursors();
    missing(&world, "empty").await;
    assert!(world.there().is_empty(), "{:?}", world.there());
    world.store.bring_back();
    back(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_remote_in_its_place_gets_nothing_and_deletes_nothing() {
    let world = world_of(30, guarded(10)).await;
    world.store.set_online(false);
    world
        .until("offline", async || {
            world.engine.sync_now(Ino::ROOT).await.unwrap();
            status(&world).await.state.word() == "offline"
        })
        .await;
    world.store.become_another(77);
    world.store.take_away(true);
    world.store.set_online(true);
    missing(&world, "another one").await;
    assert!(world.there().is_empty(), "{:?}", world.there());
    world.store.become_another(0);
    world.store.bring_back();
    back(&world).await;
}

/// S35 "The same root that loses more than `guard=` entries and half of what is known at once is believed only when a second
/// whole listing says so too."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_that_loses_most_for_a_moment_deletes_nothing_here() {
    let world = world_of(30, Settings { poll: Duration::from_secs(2), ..guarded(10) }).await;
    world.store.take_away(true);
    world.store.expire_cursors();
    missing(&world, "lost most").await;
    world.store.bring_back();
    back(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_that_lost_most_for_good_is_believed_the_second_time() {
    let world = world_of(30, guarded(10)).await;
    world.write("docs/f1", b"edited").await;
    world.in_sync().await;
    let lists = world.store.counts()[&Operation::List];
    world.store.rm("other").unwrap();
    world.until("other is gone here", async || world.names("").await == ["docs"]).await;
    world.in_sync().await;
    assert_eq!(world.names("docs").await.len(), 30);
    let after = world.store.counts()[&Operation::List];
    assert!(after > lists, "believed without a second listing");
}

/// After very many losses one folder that could not be looked into any more, a disk that was taken out below a directory above all,
/// kept the whole remote from being followed and sent to until the mount's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_that_cannot_be_looked_into_again_keeps_nobody_else_waiting() {
    let world = world_of(30, guarded(10)).await;
    world.store.set_online(false);
    for index in 0..90 {
        world.store.rm(&format!("other/f{index}")).unwrap();
    }
    let path = Some(RemotePath(vec![name("other")]));
    // The first look finds them gone, and no other one is answered.
    world.store.inject(FaultRule {
        operation: Some(Operation::List),
        path,
        skip: 1,
        ..FaultRule::always(Fault::Fail(ErrorKind::Away))
    });
    world.store.set_online(true);
    world
        .until("it is doubted", async || {
            status(&world).await.reason.is_some_and(|why| why.contains("lost most"))
        })
        .await;
    world
        .until("the rest goes on", async || status(&world).await.state.word() != "remote-missing")
        .await;
    let left = world.names("other").await.len();
    assert!(left > 20, "no more than half of all is believed: {left}");
    world.write("docs/f1", b"edited").await;
    world
        .until("it is sent", async || world.content_there("docs/f1").as_deref() == Some(b"edited"))
        .await;
    world.store.heal();
    world
        .until("it can be looked into again", async || world.names("other").await.is_empty())
        .await;
}

/// What was believed once says nothing about the next time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_a_second_time_is_doubted_again() {
    let world = world_of(30, Settings { poll: Duration::from_secs(2), ..guarded(10) }).await;
    world.store.rm("other").unwrap();
    world.until("other is gone here", async || world.names("").await == ["docs"]).await;
    world.store.mkdir("other").unwrap();
    for index in 0..90 {
        world.store.put(&format!("other/f{index}"), format!("again {index}")).unwrap();
    }
    world.until("it is back", async || world.names("").await == ["docs", "other"]).await;
    world.until("all of it", async || world.names("other").await.len() == 90).await;
    world.in_sync().await;
    world.store.rm("other").unwrap();
    world
        .until("it is doubted", async || {
            world.engine.sync_now(Ino::ROOT).await.unwrap();
            status(&world).await.reason.is_some_and(|why| why.contains("lost most"))
        })
        .await;
    // A few are believed before it is known how many they are.
    assert!(world.names("other").await.len() > 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_may_accept_what_the_remote_is_now() {
    let world = world_of(30, guarded(10)).await;
    world.store.set_online(false);
    world
        .until("offline", async || {
            world.engine.sync_now(Ino::ROOT).await.unwrap();
            status(&world).await.state.word() == "offline"
        })
        .await;
    world.write("fresh", b"fresh").await;
    world.store.become_another(77);
    world.store.take_away(true);
    world.store.set_online(true);
    world
        .until("missing", async || {
            world.engine.sync_now(Ino::ROOT).await.unwrap();
            status(&world).await.state.word() == "remote-missing"
        })
        .await;
    world.engine.accept_remote().await.unwrap();
    world.until("what the other one has", async || world.names("").await == ["fresh"]).await;
    world.in_sync().await;
    assert_eq!(world.there().len(), 1);
    let (ino, handle) = world.open("fresh", READ).await;
    world.close(ino, handle).await;
}

/// A remote that does not say who it is takes whatever it is sent: before something new is put into its root, something
/// known is looked for there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_was_just_emptied_gets_nothing_new() {
    let store = MemoryStore::new(MemoryOptions { page: 50, ..MemoryOptions::default() });
    store.be_nameless();
    let settings = Settings { poll: Duration::from_secs(3600), ..guarded(10) };
    let world = world_on(&store, 30, settings).await;
    world.store.take_away(true);
    world.write("fresh", b"fresh").await;
    world.mkdir("folder").await;
    let missing = async || status(&world).await.state.word() == "remote-missing";
    world.until("it is missed before anything is sent", missing).await;
    assert!(world.there().is_empty(), "{:?}", world.there());
    world.store.bring_back();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.in_sync().await;
    assert_eq!(world.content_there("fresh").unwrap(), b"fresh");
    assert!(world.store.peek("folder").is_some());
    assert_eq!((files_there(&world, "docs"), files_there(&world, "other")), (30, 90));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_not_looked_for_with_every_new_file() {
    let store = MemoryStore::new(MemoryOptions { page: 50, ..MemoryOptions::default() });
    store.be_nameless();
    let world = world_on(&store, 5, guarded(10)).await;
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    world.store.gate(Some(Gate(Arc::new(move |step: Step| {
        let is_known = ["/docs", "/other"].contains(&step.path.to_string().as_str());
        if step.operation == Operation::Stat && is_known {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Box::pin(async { None })
    }))));
    let start = std::time::Instant::now();
    for number in 0..60 {
        world.write(&format!("new {number}"), b"new").await;
    }
    world.in_sync().await;
    // one before the first, one with each five seconds, and one that others may want
    let most = 2 + start.elapsed().as_secs() / 5;
    let looks = looks.load(Ordering::SeqCst) as u64;
    assert!((1..=most).contains(&looks), "{looks} looks for 60 files");
}

/// What was not there for a new folder because the root was away is not taken for gone because it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_found_no_place_while_the_root_was_away_goes_where_it_was_meant() {
    let store = MemoryStore::new(MemoryOptions { page: 50, ..MemoryOptions::default() });
    store.be_nameless();
    let world = world_on(&store, 30, guarded(10)).await;
    let before = (world.ino("docs").await, world.ino("docs/f1").await);
    let (weak, stage) = (Arc::downgrade(&store), Arc::new(AtomicUsize::new(0)));
    world.store.gate(Some(Gate(Arc::new(move |step: Step| {
        let Some(store) = weak.upgrade() else { return Box::pin(async { None }) };
        let turn = |from: usize| {
            stage.compare_exchange(from, from + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        match step.operation {
            Operation::MakeFolder if turn(0) => store.take_away(true),
            // who it is is asked next: now it is back
            Operation::Stat | Operation::List if turn(1) => store.bring_back(),
            _ => {}
        }
        Box::pin(async { None })
    }))));
    world.mkdir("docs/new").await;
    world.write("docs/new/inside", b"inside").await;
    world.in_sync().await;
    assert_eq!(world.content_there("docs/new/inside").unwrap(), b"inside");
    assert_eq!((world.ino("docs").await, world.ino("docs/f1").await), before);
    assert_eq!(world.names("docs").await.len(), 31);
    assert_eq!((files_there(&world, "docs"), files_there(&world, "other")), (32, 90));
}

/// Another disk in its place, of a server that does not say who it is: what was known was dropped, and what waited was sent to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_root_with_none_of_the_known_entries_is_another_one() {
    let options = MemoryOptions { page: 50, stable_ids: false, ..MemoryOptions::default() };
    let store = MemoryStore::new(options);
    store.be_nameless();
    store.put("third", "third").unwrap();
    let settings = Settings { guard: 1000, ..guarded(10) };
    let world = world_on(&store, 30, settings).await;
    world.store.set_online(false);
    world.write("docs/f1", b"edited meanwhile").await;
    world.write("fresh", b"fresh").await;
    for gone in ["docs", "other", "third"] {
        world.store.rm(gone).unwrap();
    }
    for index in 0..60 {
        world.store.put(&format!("another {index}"), "theirs").unwrap();
    }
    let before = world.there();
    world.store.set_online(true);
    world
        .until("it is another one", async || {
            world.engine.sync_now(Ino::ROOT).await.unwrap();
            status(&world).await.reason.is_some_and(|why| why.contains("another one"))
        })
        .await;
    assert_eq!(status(&world).await.state.word(), "remote-missing");
    assert!(!world.engine.wait_in_sync(Ino::ROOT, Some(Duration::from_secs(2))).await.unwrap());
    assert_eq!(world.there(), before);
    assert_eq!(&world.read("docs/f2").await.unwrap()[..], b"docs 2");
    assert_eq!(world.names("other").await.len(), 90);
    world.engine.accept_remote().await.unwrap();
    world.until("what it has", async || world.names("").await.len() > 60).await;
    world.in_sync().await;
    assert_eq!(world.content_there("fresh").unwrap(), b"fresh");
    assert_eq!(world.content_there("docs/f1").unwrap(), b"edited meanwhile");
}

/// A removal that found nothing because the root was away for a moment was taken for done: the file came back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_removal_that_met_no_root_is_made_later() {
    let store = MemoryStore::new(MemoryOptions { stable_ids: false, ..MemoryOptions::default() });
    store.be_nameless();
    let world = world_on(&store, 30, Settings { guard: 0, ..guarded(10) }).await;
    world.store.gate(Some(Gate(Arc::new({
        let (weak, once) = (Arc::downgrade(&store), AtomicBool::new(true));
        move |step: Step| {
            if step.operation == Operation::Remove
                && once.swap(false, Ordering::SeqCst)
                && let Some(store) = weak.upgrade()
            {
                store.take_away(true);
            }
            Box::pin(async { None })
        }
    }))));
    world.remove("docs/f1").await.unwrap();
    let missing = async || status(&world).await.state.word() == "remote-missing";
    world.until("it is missed", missing).await;
    world.store.gate(None);
    world.store.bring_back();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.in_sync().await;
    assert_eq!(world.content_there("docs/f1"), None);
    assert_eq!(world.names("docs").await.len(), 29);
}
