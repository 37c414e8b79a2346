//! What a person decides about takes no content that nobody else has.

use dewfs::engine::Keep;

use super::*;

/// A temporary that was sent took the place of a file, which somebody else had changed: the conflict copy's bytes counted as sent
/// although only this machine had them, and `theirs` destroyed them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_theirs_keeps_what_was_sent_before_it_took_its_place() {
    let world = World::new().await;
    world.write("doc", b"first").await;
    world.write("doc.new", b"saved slowly").await;
    world.in_sync().await;
    let (gate, mut held) =
        Gate::holding(|step| step.operation == Operation::Write && step.moment == Moment::Arrives);
    world.store.gate(Some(gate));
    world.rename("doc.new", "doc").await.unwrap();
    let write = held.recv().await.unwrap();
    world.store.put("doc", "theirs").unwrap();
    let full = Fault::Fail(ErrorKind::NoSpace);
    let rule = FaultRule { operation: Some(Operation::Write), ..FaultRule::always(full) };
    world.store.inject(FaultRule { skip: 1, ..rule });
    drop(held);
    write.pass();
    let copy = async |world: &World| {
        world.names("").await.into_iter().find(|name| name.contains("(conflict "))
    };
    world.until("a conflict copy", async || copy(&world).await.is_some()).await;
    let copy = copy(&world).await.unwrap();
    let ino = world.ino(&copy).await;
    let decided = world.engine.resolve_conflict(ino, Keep::Theirs, false).await.unwrap();
    let kept = decided[0].kept.as_ref().expect("a place in recovered/");
    assert_eq!(std::fs::read(kept).unwrap(), b"saved slowly");
    assert_eq!(&world.read("doc").await.unwrap()[..], b"theirs");
}

/// What an edited file still lacks could not be fetched for want of a network: that was shown as an error of this machine, and the
/// file waited long after the network was back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_fetch_that_met_an_outage_is_pending() {
    let settings = Settings { poll: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("doc", pattern(1 << 20, 1)).unwrap();
    let away = FaultRule {
        operation: Some(Operation::Read),
        ..FaultRule::always(Fault::Fail(ErrorKind::Offline))
    };
    world.store.inject(away);
    let (ino, handle) = world.open("doc", WRITE).await;
    world.write_at(ino, handle, 0, &[7; 16_384]).await;
    world.close(ino, handle).await;
    let told = async || world.engine.item_status(ino).await.unwrap().error;
    world.until("it is tried", async || told().await.is_some()).await;
    let state = world.engine.item_status(ino).await.unwrap().sync;
    assert_eq!(state.word(), "pending", "{:?}", told().await);
    world.store.heal();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.in_sync().await;
    let mut whole = pattern(1 << 20, 1);
    whole[..16_384].fill(7);
    same(&world.content_there("doc").unwrap(), &whole);
}
