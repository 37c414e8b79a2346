//! A root that looks as if it were another one, because of what this mount does there itself.

use dewfs::remote::memory::{Held, Moment};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::*;

/// A world on a store that does not say who it is, and with what this puts there; the answers of whoever looks who it is, by
/// its root, are held.
async fn looked_at(files: &[&str]) -> (World, UnboundedReceiver<Held>) {
    let store = MemoryStore::new(MemoryOptions::default());
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
