//! A root that looks as if it were another one, because of what this mount does there itself.

use dewfs::model::RemotePath;
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{Fault, FaultRule, Held, HintFaults, Moment};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::*;

/// A world on a store that does not say who it is, and with what this puts there; the answers of whoever looks who it is, by
/// its root, are held.
async fn looked_at(files: &[&str]) -> (World, UnboundedReceiver<Held>) {
    let options = MemoryOptions { stable_ids: false, ..MemoryOptions::default() };
    let store = MemoryStore::new(options);
    store.be_nameless();
    for file in files {
        store.put(file, "before").unwrap();
    }
    let state = Arc::new(tempfile::tempdir().unwrap());
    let world = World::start(store, state, guarded(10)).await;
    world.names("").await;
    world.in_sync().await;
    let (gate, looks) = Gate::holding(|step: &Step| {
        step.operation == Operation::List && step.path.is_root() && step.moment == Moment::Answers
    });
    world.store.gate(Some(gate));
    (world, looks)
}

/// The answer of the next look at the root.
async fn look(world: &World, looks: &mut UnboundedReceiver<Held>) -> Held {
    world.store.expire_cursors();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    timeout(PATIENCE, looks.recv()).await.unwrap().unwrap()
}

/// Lets an answer come, and looks that nobody doubts who the remote is when the root is looked at the next time.
async fn nothing_is_doubted(world: &World, mut looks: UnboundedReceiver<Held>, held: Held) {
    held.pass();
    let next = look(world, &mut looks).await;
    assert_eq!(status(world).await.reason, None);
    next.pass();
    drop(looks);
    world.in_sync().await;
}

async fn is_sent(world: &World) {
    world.until("it is sent", async || status(world).await.pending == 0).await;
}

/// A root that was empty when it was asked, and held what was sent before its answer came, was taken for an emptied one: the
/// mount was `remote-missing`, and one that was being unmounted sent nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_is_sent_while_an_empty_root_is_listed_was_not_lost() {
    let (world, mut looks) = looked_at(&[]).await;
    let held = look(&world, &mut looks).await;
    world.write("new", b"new").await;
    is_sent(&world).await;
    nothing_is_doubted(&world, looks, held).await;
    assert_eq!(world.content_there("new").unwrap(), b"new");
}

/// The same with a root that had something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_is_sent_while_a_root_is_listed_is_none_of_the_known() {
    let (world, mut looks) = looked_at(&[]).await;
    world.store.put("theirs", "theirs").unwrap();
    let held = look(&world, &mut looks).await;
    for name in ["a", "b", "c", "d"] {
        world.write(name, b"new").await;
    }
    is_sent(&world).await;
    nothing_is_doubted(&world, looks, held).await;
    let all = ["a", "b", "c", "d", "theirs"];
    world.until("all of it", async || world.names("").await == all).await;
}

/// A root whose last entry this mount had just removed was taken for an emptied one while that removal was not answered yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_root_without_what_is_being_removed_is_the_known_one() {
    let (world, mut looks) = looked_at(&["only"]).await;
    let (gate, mut held) = Gate::holding(|step: &Step| {
        step.moment == Moment::Answers
            && (step.operation == Operation::Remove
                || (step.operation == Operation::List && step.path.is_root()))
    });
    world.store.gate(Some(gate));
    std::mem::swap(&mut looks, &mut held);
    drop(held);
    world.remove("only").await.unwrap();
    let removal = timeout(PATIENCE, looks.recv()).await.unwrap().unwrap();
    assert_eq!(removal.step.operation, Operation::Remove);
    let listing = look(&world, &mut looks).await;
    listing.pass();
    let next = look(&world, &mut looks).await;
    assert_eq!(status(&world).await.reason, None);
    removal.pass();
    nothing_is_doubted(&world, looks, next).await;
    assert!(world.there().is_empty());
}

/// A root that was emptied was taken for the known one while its only entry was being sent: the edit went into what was in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_is_being_sent_says_nothing_for_an_emptied_root() {
    for is_moved in [false, true] {
        let (world, looks) = looked_at(&["only"]).await;
        world.store.gate(None);
        drop(looks);
        world.store.hint_faults(HintFaults { drop: 1000, ..HintFaults::default() });
        world.store.take_away(true);
        match is_moved {
            true => world.rename("only", "moved").await.unwrap(),
            false => drop(world.write("only", b"edit").await),
        }
        world
            .until("it is missed", async || status(&world).await.state.word() == "remote-missing")
            .await;
        assert!(world.there().is_empty(), "{:?}", world.there());
        world.store.bring_back();
        world.in_sync().await;
        let (name, content) = if is_moved { ("moved", "before") } else { ("only", "edit") };
        assert_eq!(world.content_there(name).unwrap(), content.as_bytes());
    }
}

/// A world whose remote says neither who it is nor what changes; only who has a reason looks at it.
async fn quiet(poll: Duration) -> World {
    let options = MemoryOptions { page: 50, stable_ids: false, ..MemoryOptions::default() };
    let store = MemoryStore::new(options);
    store.be_nameless();
    let world = world_on(&store, 20, Settings { poll, ..guarded(10) }).await;
    world.store.hint_faults(HintFaults { drop: 1000, ..HintFaults::default() });
    world
}

const HOUR: Duration = Duration::from_secs(3600);

/// One answer that said nothing of the root, asked because a file was not found, kept everything from being sent until `poll=`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_who_could_not_be_known_for_a_moment_is_asked_again_soon() {
    let world = quiet(HOUR).await;
    world.store.rm("docs/f1").unwrap();
    let garbled = Fault::Fail(ErrorKind::Corrupt);
    world.store.inject(FaultRule {
        path: Some(RemotePath::root()),
        ..FaultRule::next(Operation::List, garbled)
    });
    world.remove("docs/f1").await.unwrap();
    world.write("docs/new", b"new").await;
    world.until("it is sent", async || world.content_there("docs/new").is_some()).await;
    is_sent(&world).await;
}

/// A root that was away for a moment does not keep the mount `remote-missing` until `poll=`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_was_away_for_a_moment_is_asked_for_again_soon() {
    let world = quiet(HOUR).await;
    world.store.hint_faults(HintFaults::default());
    world.store.mkdir("docs/unseen").unwrap();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.until("it is told", async || world.names("docs").await.contains(&"unseen".into())).await;
    world.store.hint_faults(HintFaults { drop: 1000, ..HintFaults::default() });
    world.store.take_away(true);
    let missing = async || status(&world).await.state.word() == "remote-missing";
    let unseen = world.ino("docs/unseen").await;
    assert!(world.engine.read_dir(unseen, 0, 3).wait().await.is_err());
    world.until("it is missed", missing).await;
    world.store.bring_back();
    world.until("it is found", async || !missing().await).await;
}

/// A mount that ended in a doubt gave it up, with all the time of `drain=` left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_doubt_is_answered_before_a_mount_ends() {
    let world = quiet(Duration::from_secs(5)).await;
    world.store.rm("other").unwrap();
    world.write("other/new", b"new").await;
    world
        .until("it is doubted", async || {
            status(&world).await.reason.is_some_and(|why| why.contains("lost most"))
        })
        .await;
    world.write("docs/new", b"new").await;
    assert_eq!(world.engine.drain(HOUR).await, 0);
    assert_eq!(world.content_there("docs/new").unwrap(), b"new");
}

/// What is being moved while it is listed was weighed as lost, and who opened it was told that it is stale.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_that_moves_while_it_is_listed_is_listed_where_it_is() {
    let world = quiet(HOUR).await;
    world.store.hint_faults(HintFaults::default());
    world.store.mkdir("big").unwrap();
    for number in 0..100 {
        world.store.put(&format!("big/f{number}"), "big").unwrap();
    }
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.until("it is seen", async || world.names("").await.contains(&"big".into())).await;
    assert_eq!(world.names("big").await.len(), 100);
    let (gate, mut looks) = Gate::holding(|step: &Step| {
        let path = step.path.to_string();
        step.operation == Operation::List && path == "/big" && step.moment == Moment::Arrives
    });
    world.store.gate(Some(gate));
    let held = look(&world, &mut looks).await;
    world.rename("big", "moved").await.unwrap();
    is_sent(&world).await;
    let (gate, mut there) = Gate::holding(|step: &Step| {
        step.operation == Operation::List && step.path.to_string() == "/moved"
    });
    world.store.gate(Some(gate));
    held.pass();
    world
        .until("it is listed where it is", async || {
            assert_eq!(status(&world).await.reason, None);
            there.try_recv().is_ok()
        })
        .await;
    drop((looks, there));
    world.in_sync().await;
    assert_eq!(world.names("moved").await.len(), 100);
}

/// Who was asked before something was missed does not vouch for the root after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_an_answer_of_before_does_not_vouch_for_a_root_that_was_missed_since() {
    let world = quiet(HOUR).await;
    for gone in ["docs/f1", "docs/f2"] {
        world.store.rm(gone).unwrap();
    }
    let (gate, mut looks) = Gate::holding(|step: &Step| {
        let is_wanted = match step.operation {
            Operation::List => step.path.is_root(),
            Operation::Stat => step.path.to_string() == "/docs/f2",
            _ => false,
        };
        is_wanted && step.moment == Moment::Answers
    });
    world.store.gate(Some(gate));
    world.remove("docs/f2").await.unwrap();
    let missed = timeout(PATIENCE, looks.recv()).await.unwrap().unwrap();
    world.remove("docs/f1").await.unwrap();
    let vouched = timeout(PATIENCE, looks.recv()).await.unwrap().unwrap();
    assert_eq!((missed.step.operation, vouched.step.operation), (Operation::Stat, Operation::List));
    world.store.take_away(true);
    missed.pass();
    vouched.pass();
    drop(looks);
    world
        .until("it is missed", async || status(&world).await.state.word() == "remote-missing")
        .await;
    world.store.bring_back();
    world.in_sync().await;
    assert_eq!((files_there(&world, "docs"), files_there(&world, "other")), (18, 60));
    assert_eq!(world.names("docs").await.len(), 18);
}
