//! Times and modes on their way to the remote.

use super::*;

const LONG_AGO: i64 = 981_173_106_000_000_000;

async fn touch(world: &World, path: &str, mtime: i64) {
    let set = SetAttributes { mtime: Some(SetTime::At(mtime)), ..SetAttributes::default() };
    let ino = world.ino(path).await;
    world.engine.set_attributes(ino, None, set, ME).wait().await.unwrap();
}

/// Every way to name versions, each with a new one for a file whose times are set.
fn with_metadata_versions() -> [MemoryOptions; 3] {
    let plain = MemoryOptions { metadata_versions: true, ..MemoryOptions::default() };
    let ids = MemoryOptions { stable_ids: true, ..plain.clone() };
    [plain.clone(), ids, MemoryOptions { versions: VersionKind::TickAndIdentity, ..plain }]
}

/// Waits until all is in sync, letting the store's clock tick.
async fn ticks_in_sync(world: &World) {
    world.store.tick();
    world.in_sync().await;
    world.store.tick();
    world.in_sync().await;
}

/// S26 "Times and modes of files set after the content was sent reach a remote that can hold them, without the content.
/// Those of folders stay here."
#[tokio::test(flavor = "multi_thread")]
async fn times_and_mode_set_after_the_content_was_sent_arrive() {
    for options in with_metadata_versions() {
        let young = options.versions != VersionKind::Unique;
        let world = World::with(options, quick_settings()).await;
        world.store.put("old", "known").unwrap();
        world.store.put("far", pattern(100_000, 1)).unwrap();
        world.write("new", b"content").await;
        assert_eq!(&world.read("old").await.unwrap()[..], b"known");
        ticks_in_sync(&world).await;
        let (writes, reads) = (asked(&world, Operation::Write), asked(&world, Operation::Read));
        let (far, handle) = world.open("far", READ).await;
        for name in ["new", "old", "far"] {
            touch(&world, name, LONG_AGO).await;
        }
        let mode = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
        let ino = world.ino("old").await;
        world.engine.set_attributes(ino, None, mode, ME).wait().await.unwrap();
        ticks_in_sync(&world).await;
        for name in ["new", "old", "far"] {
            assert_eq!(world.store.peek(name).unwrap().mtime, Some(LONG_AGO), "{name}");
            assert_eq!(world.stat(name).await.mtime, LONG_AGO, "{name}");
        }
        assert_eq!(world.store.peek("old").unwrap().mode, Some(0o600));
        let sent = asked(&world, Operation::SetMetadata);
        world.mkdir("folder").await;
        ticks_in_sync(&world).await;
        touch(&world, "folder", LONG_AGO).await;
        ticks_in_sync(&world).await;
        assert_eq!(world.stat("folder").await.mtime, LONG_AGO);
        assert_eq!(asked(&world, Operation::SetMetadata), sent);
        world.remove("folder").await.unwrap();
        assert_eq!(asked(&world, Operation::Write), writes);
        // Nothing came back as a change of somebody else's: what was here is here, under the version it has now.
        if !young {
            assert_eq!(asked(&world, Operation::Read), reads, "only what is young is compared");
        }
        assert_eq!(&world.read("old").await.unwrap()[..], b"known");
        // An open handle goes on under the new version.
        let got = world.engine.read(far, handle, 0, 100_000).wait().await.unwrap();
        same(&got, &pattern(100_000, 1));
        world.close(far, handle).await;
        world.write("old", b"edited").await;
        ticks_in_sync(&world).await;
        assert_eq!(world.content_there("old").unwrap(), b"edited");
        assert_eq!(world.there().len(), 3);
    }
}

/// What passes through for want of room is asked for under the version that times set meanwhile gave the same content.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_goes_on_under_the_version_that_times_gave_it() {
    let [options, ..] = with_metadata_versions();
    let world = World::with(options, Settings { cache_size: 64 << 10, ..quick_settings() }).await;
    world.store.put("far", pattern(200_000, 1)).unwrap();
    let (far, handle) = world.open("far", READ).await;
    touch(&world, "far", LONG_AGO).await;
    world
        .until("the times are there", async || {
            world.store.peek("far").unwrap().mtime == Some(LONG_AGO)
        })
        .await;
    assert!(world.engine.wait_in_sync(Ino::ROOT, Some(Duration::from_secs(20))).await.unwrap());
    let got = world.engine.read(far, handle, 0, 131_072).wait().await.unwrap();
    same(&got, &pattern(200_000, 1)[..131_072]);
    world.close(far, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_whose_answer_is_lost_arrive_once_and_change_nothing_else() {
    for fault in [Fault::LoseAnswer, Fault::Fail(ErrorKind::Offline)] {
        for options in with_metadata_versions() {
            let world = World::with(options, quick_settings()).await;
            world.store.put("doc", "known").unwrap();
            assert_eq!(&world.read("doc").await.unwrap()[..], b"known");
            ticks_in_sync(&world).await;
            world.store.inject(FaultRule::next(Operation::SetMetadata, fault.clone()));
            touch(&world, "doc", LONG_AGO).await;
            ticks_in_sync(&world).await;
            assert_eq!(world.store.peek("doc").unwrap().mtime, Some(LONG_AGO));
            assert_eq!(world.stat("doc").await.mtime, LONG_AGO);
            let item = world.engine.item_status(world.ino("doc").await).await.unwrap();
            assert_eq!(item.word(), "local");
            assert_eq!(world.there(), [("doc".to_owned(), Some(b"known".to_vec()))]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_set_here_never_hide_a_content_of_somebody_elses() {
    for moment in [Moment::Arrives, Moment::Answers] {
        let options = MemoryOptions { metadata_versions: true, ..MemoryOptions::default() };
        let world = World::with(options, quick_settings()).await;
        world.store.put("doc", "known").unwrap();
        assert_eq!(&world.read("doc").await.unwrap()[..], b"known");
        world.in_sync().await;
        let wants =
            move |step: &Step| step.operation == Operation::SetMetadata && step.moment == moment;
        let (gate, mut held) = Gate::holding(wants);
        world.store.gate(Some(gate));
        touch(&world, "doc", LONG_AGO).await;
        let request = held.recv().await.unwrap();
        world.store.put("doc", "theirs").unwrap();
        request.pass();
        drop(held);
        world
            .until("theirs", async || world.read("doc").await.is_ok_and(|got| got == "theirs"))
            .await;
        world.in_sync().await;
        assert_eq!(world.there(), [("doc".to_owned(), Some(b"theirs".to_vec()))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_the_remote_cannot_hold_are_kept_here() {
    let world = World::new().await;
    world.store.put("doc", "known").unwrap();
    let unsupported = Fault::Fail(ErrorKind::Unsupported);
    world.store.inject(FaultRule::next(Operation::SetMetadata, unsupported));
    touch(&world, "doc", LONG_AGO).await;
    world.in_sync().await;
    assert_eq!(asked(&world, Operation::SetMetadata), 1);
    assert_eq!(world.stat("doc").await.mtime, LONG_AGO);
}
