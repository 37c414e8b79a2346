//! Rules of `docs/RULES.md` that are about what the real engine and its stores do, each with the history that breaks without
//! it.

use dewfs::remote::memory::{Held, MemoryOptions};
use dewfs::remote::names::is_hidden;
use support::world::{World, quick_settings};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;

/// Holds the next request of this kind as it arrives.
fn hold(world: &World, operation: Operation) -> UnboundedReceiver<Held> {
    let at_the_door =
        move |step: &Step| step.operation == operation && step.moment == Moment::Arrives;
    let (gate, held) = Gate::holding(at_the_door);
    world.store.gate(Some(gate));
    held
}

async fn weak() -> World {
    let options = MemoryOptions { conditional: Conditional::Checked, ..MemoryOptions::default() };
    World::with(options, quick_settings()).await
}

fn contents(world: &World) -> Vec<String> {
    let there = world.there().into_iter().filter_map(|(_, content)| content);
    let mut all: Vec<_> = there.map(|one| String::from_utf8(one).unwrap()).collect();
    all.sort();
    all
}

/// A failed write is compared with what we sent or last had in sync: equal content is no conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_compare_sent() {
    let world = World::new().await;
    let mut held = hold(&world, Operation::Write);
    world.write("a", b"the same").await;
    let writing = held.recv().await.unwrap();
    world.store.put("a", "the same").unwrap();
    drop(held);
    writing.pass();
    world.in_sync().await;
    assert_eq!(world.names("").await, ["a"]);
    assert_eq!(contents(&world), ["the same"]);
}

/// An unlisted folder is listed before it counts as empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_list_before_rmdir() {
    let world = World::new().await;
    world.store.mkdir("d").unwrap();
    world.store.put("d/one", "one").unwrap();
    assert_eq!(world.names("").await, ["d"]);
    assert!(matches!(world.remove("d").await, Err(EngineError::NotEmpty)));
    world.in_sync().await;
    assert_eq!(world.store.counts().get(&Operation::Remove), None);
    assert_eq!(contents(&world), ["one"]);
}

/// On a weak server, what is replaced is first moved to a fresh name and looked at there: what came between the look and the
/// move is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_move_aside() {
    let world = weak().await;
    world.store.put("a", "first").unwrap();
    world.read("a").await.unwrap();
    world.in_sync().await;
    let mut held = hold(&world, Operation::Rename);
    world.write("a", b"ours").await;
    let moving = held.recv().await.unwrap();
    world.store.put("a", "theirs").unwrap();
    drop(held);
    moving.pass();
    world.in_sync().await;
    assert_eq!(contents(&world), ["ours", "theirs"]);
    assert_eq!(world.content_there("a").unwrap(), b"theirs");
}

/// What a machine that never came back had moved aside is under a name that everybody sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_aside_visible() {
    let world = weak().await;
    world.store.put("a", "first").unwrap();
    world.read("a").await.unwrap();
    world.in_sync().await;
    let (gate, mut held) = Gate::holding(|step: &Step| {
        step.operation == Operation::Rename && step.moment == Moment::Answers
    });
    world.store.gate(Some(gate));
    world.write("a", b"ours").await;
    let _moved = held.recv().await.unwrap();
    world.remote.cut_off();
    world.engine.stop().await;
    let there = world.there().into_iter();
    let first: Vec<_> = there.filter(|(_, content)| content.as_deref() == Some(b"first")).collect();
    let [(path, _)] = &first[..] else { panic!("it is nowhere: {first:?}") };
    assert!(path != "a" && !is_hidden(Name::new(path.as_str()).unwrap().as_bytes()), "{path}");
}
