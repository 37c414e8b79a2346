//! A root that is away for a moment, just when something is to be put into one of its folders.

use dewfs::engine::SyncState;
use dewfs::model::RemotePath;
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{Fault, FaultRule};

use super::*;
use crate::support::world::name;

/// A world on a store that does not say who it is.
async fn nameless_world(guard: u32) -> World {
    let store = MemoryStore::new(MemoryOptions { page: 50, ..MemoryOptions::default() });
    store.be_nameless();
    world_on(&store, 30, guarded(guard)).await
}

/// The root is away when the next such change arrives, which finds no folder; `then` happens with the next look.
fn away_at(world: &World, change: Operation, then: impl Fn(&MemoryStore) + Send + Sync + 'static) {
    let (weak, stage) = (Arc::downgrade(&world.store), AtomicUsize::new(0));
    world.store.gate(Some(Gate(Arc::new(move |step: Step| {
        let Some(store) = weak.upgrade() else { return Box::pin(async { None }) };
        let turn = |from: usize| {
            stage.compare_exchange(from, from + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let mut fault = None;
        match step.operation {
            one if one == change && turn(0) => {
                store.take_away(true);
                fault = Some(Fault::Fail(ErrorKind::NoParent));
            }
            Operation::Stat | Operation::List if turn(1) => then(&store),
            _ => {}
        }
        Box::pin(async { fault })
    }))));
}

/// A new file, or one that was moved, found no folder because the root was away; with the root back everything in the folder went
/// here, and came again as something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_file_that_found_no_folder_for_a_moment_takes_nothing_away() {
    for change in [Operation::Write, Operation::Rename] {
        let world = nameless_world(40).await;
        let before = (world.ino("docs").await, world.ino("docs/f1").await);
        away_at(&world, change, MemoryStore::bring_back);
        match change {
            Operation::Write => drop(world.write("docs/new", b"other 1").await),
            _ => world.rename("other/f1", "docs/new").await.unwrap(),
        }
        world.in_sync().await;
        assert_eq!(world.content_there("docs/new").unwrap(), b"other 1");
        assert_eq!((world.ino("docs").await, world.ino("docs/f1").await), before, "{change:?}");
        let item = world.engine.item_status(before.1).await.unwrap();
        assert_eq!(item.content, Content::Hydrated, "{change:?}");
        assert_eq!(world.names("docs").await.len(), 31);
    }
}

/// A folder that could not be made because the root was away, or nothing could be looked at, was shown as an error of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_that_meets_an_outage_waits_for_its_end() {
    let (root, docs) = (RemotePath::root(), RemotePath(vec![name("docs")]));
    for look in [None, Some((Operation::List, root)), Some((Operation::Stat, docs))] {
        let world = nameless_world(40).await;
        let fails = look.clone();
        away_at(&world, Operation::MakeFolder, move |store| {
            if let Some((operation, path)) = fails.clone() {
                store.bring_back();
                let fault = Fault::Fail(ErrorKind::Away);
                let (operation, path) = (Some(operation), Some(path));
                store.inject(FaultRule { operation, path, ..FaultRule::always(fault) });
            }
        });
        let folder = world.mkdir("docs/new").await;
        world
            .until("it was tried", async || {
                let pending = world.engine.pending(Ino::ROOT, 20).await.unwrap();
                pending.iter().any(|one| one.error.is_some())
            })
            .await;
        let item = world.engine.item_status(folder).await.unwrap();
        assert_ne!(item.sync, SyncState::Error, "{look:?}: {:?}", item.error);
        assert_eq!(status(&world).await.errors, 0, "{look:?}");
        world.store.gate(None);
        world.store.heal();
        world.store.bring_back();
        world.in_sync().await;
        assert!(world.store.peek("docs/new").is_some());
    }
}
