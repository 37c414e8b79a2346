//! Times and modes on their way to the remote.

use super::*;

const LONG_AGO: i64 = 981_173_106_000_000_000;

async fn touch(world: &World, path: &str, mtime: i64) {
    let set = SetAttributes { mtime: Some(SetTime::At(mtime)), ..SetAttributes::default() };
    let ino = world.ino(path).await;
    world.engine.set_attributes(ino, None, set, ME).wait().await.unwrap();
}

/// Stops what is set besides content on its way, at this moment.
fn hold(world: &World, moment: Moment) -> UnboundedReceiver<Held> {
    let wants =
        move |step: &Step| step.operation == Operation::SetMetadata && step.moment == moment;
    let (gate, held) = Gate::holding(wants);
    world.store.gate(Some(gate));
    held
}

/// The content of somebody else is shown, and all is in sync.
async fn shows_theirs(world: &World) {
    world.until("theirs", async || world.read("doc").await.is_ok_and(|got| got == "theirs")).await;
    world.in_sync().await;
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
        let mut held = hold(&world, moment);
        touch(&world, "doc", LONG_AGO).await;
        let request = held.recv().await.unwrap();
        world.store.put("doc", "theirs").unwrap();
        request.pass();
        drop(held);
        shows_theirs(&world).await;
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

async fn set_mode(world: &World, path: &str, mode: u32) {
    let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
    let ino = world.ino(path).await;
    world.engine.set_attributes(ino, None, set, ME).wait().await.unwrap();
}

/// Somebody else sets the mode at the remote.
async fn their_mode(world: &World, path: &str, mode: u32) {
    let set = Metadata { mode: Some(mode), ..Metadata::default() };
    let at = Locator::at(RemotePath::from_bytes(path.as_bytes()).unwrap());
    world.store.remote().set_metadata(&at, &set, Expect::Any).await.unwrap();
}

/// A `touch` here gave a file back the mode that somebody had taken from it there.
///
/// S172 "Of what is set besides content only that goes which was set: what others set there meanwhile stays."
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_others_set_there_is_not_undone_by_what_is_set_here_later() {
    let world = World::new().await;
    world.write("doc", b"content").await;
    set_mode(&world, "doc", 0o644).await;
    world.in_sync().await;
    assert_eq!(world.store.peek("doc").unwrap().mode, Some(0o644));
    their_mode(&world, "doc", 0o600).await;
    touch(&world, "doc", LONG_AGO).await;
    world.in_sync().await;
    let there = world.store.peek("doc").unwrap();
    assert_eq!((there.mtime, there.mode), (Some(LONG_AGO), Some(0o600)));
    // Another content neither; its time is its own.
    world.write("doc", b"edited").await;
    world.in_sync().await;
    assert_eq!(world.content_there("doc").unwrap(), b"edited");
    assert_eq!(world.store.peek("doc").unwrap().mode, Some(0o600));
    // What is set here goes all the same.
    set_mode(&world, "doc", 0o640).await;
    world.in_sync().await;
    assert_eq!(world.store.peek("doc").unwrap().mode, Some(0o640));
}

/// A mode that was set here was forgotten if somebody wrote the file before it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_was_set_here_outlives_a_content_of_somebody_elses() {
    let world = World::new().await;
    world.store.put("doc", "known").unwrap();
    assert_eq!(&world.read("doc").await.unwrap()[..], b"known");
    world.in_sync().await;
    let mut held = hold(&world, Moment::Arrives);
    let ino = world.ino("doc").await;
    world.engine.set_xattr(ino, b"user.ours", b"kept", false, false).wait().await.unwrap();
    set_mode(&world, "doc", 0o600).await;
    let request = held.recv().await.unwrap();
    world.store.put("doc", "theirs").unwrap();
    request.pass();
    drop(held);
    shows_theirs(&world).await;
    assert_eq!(world.there(), [("doc".to_owned(), Some(b"theirs".to_vec()))]);
    assert_eq!(world.store.peek("doc").unwrap().mode, Some(0o600));
    let held = world.store.extended("doc").unwrap().attributes;
    assert_eq!(held[b"user.ours".as_slice()].as_deref(), Some(b"kept".as_slice()));
}

/// S171 "Owner, group and `user.*` attributes that are set on a file reach a remote that can hold them, alone if they are set later."
#[tokio::test(flavor = "multi_thread")]
async fn owners_and_user_attributes_arrive_and_only_those_that_were_set() {
    let faults = [None, Some(Fault::LoseAnswer), Some(Fault::Fail(ErrorKind::Offline))];
    for (fault, is_sent_before) in faults.into_iter().zip([true, false, true]) {
        let world = World::new().await;
        let set = async |name: &[u8], value: &[u8]| {
            let ino = world.ino("doc").await;
            world.engine.set_xattr(ino, name, value, false, false).wait().await.unwrap();
        };
        let there = || world.store.extended("doc").unwrap();
        world.write("doc", b"content").await;
        set(b"user.a", b"1").await;
        set(b"user.b", b"2").await;
        let ino = world.ino("doc").await;
        world.engine.set_custom_data(ino, "mine", Some(b"stays")).await.unwrap();
        world.in_sync().await;
        let told = |pairs: &[(&str, &str)]| -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
            let pair = |(name, value): &(&str, &str)| {
                (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))
            };
            pairs.iter().map(pair).collect()
        };
        assert_eq!(there().attributes, told(&[("user.a", "1"), ("user.b", "2")]));

        // What others set stays beside it; what is so already is not sent again.
        let theirs = Extended { attributes: told(&[("user.b", "theirs")]), ..Extended::default() };
        let metadata = Metadata { extended: theirs, ..Metadata::default() };
        let at = Locator::at(RemotePath::from_bytes("doc".as_bytes()).unwrap());
        world.store.remote().set_metadata(&at, &metadata, Expect::Any).await.unwrap();
        let sent = asked(&world, Operation::SetMetadata);
        set(b"user.b", b"2").await;
        world.in_sync().await;
        assert_eq!(asked(&world, Operation::SetMetadata), sent);
        let writes = asked(&world, Operation::Write);
        if let Some(fault) = fault {
            world.store.inject(FaultRule::next(Operation::SetMetadata, fault));
        }
        set(b"user.c", b"3").await;
        let ino = world.ino("doc").await;
        world.engine.remove_xattr(ino, b"user.a").wait().await.unwrap();
        let owner = SetAttributes { uid: Some(7), gid: Some(8), ..SetAttributes::default() };
        world.engine.set_attributes(ino, None, owner, ME).wait().await.unwrap();
        world.in_sync().await;
        let expected = Extended {
            uid: Some(7),
            gid: Some(8),
            attributes: told(&[("user.b", "theirs"), ("user.c", "3")]),
        };
        assert_eq!(there(), expected);
        assert_eq!(asked(&world, Operation::Write), writes, "the content did not go again");

        // A safe-save has what the new file has, and what it did not say is kept.
        world.write("new", b"edited").await;
        let new = world.ino("new").await;
        world.engine.set_xattr(new, b"user.d", b"4", false, false).wait().await.unwrap();
        if is_sent_before {
            world.in_sync().await;
        }
        set_mode(&world, "new", 0o600).await;
        if is_sent_before {
            world.in_sync().await;
        }
        world.rename("new", "doc").await.unwrap();
        world.in_sync().await;
        assert_eq!(world.store.peek("doc").unwrap().mode, Some(0o600));
        assert_eq!(world.content_there("doc").unwrap(), b"edited");
        let attributes = told(&[("user.b", "theirs"), ("user.c", "3"), ("user.d", "4")]);
        assert_eq!(there(), Extended { attributes, ..expected });
    }
}

/// Who set a mode on a file of his own got it for one of somebody else's that took its place there before it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_was_set_on_one_file_is_not_set_on_another_in_its_place() {
    let options = MemoryOptions { stable_ids: true, ..MemoryOptions::default() };
    let world = World::with(options, quick_settings()).await;
    world.store.put("secret", "theirs").unwrap();
    their_mode(&world, "secret", 0o600).await;
    world.store.put("doc", "known").unwrap();
    assert_eq!(&world.read("doc").await.unwrap()[..], b"known");
    let doc = world.ino("doc").await;
    let owner = SetAttributes { uid: Some(7), ..SetAttributes::default() };
    world.engine.set_attributes(doc, None, owner, ME).wait().await.unwrap();
    world.in_sync().await;
    let mut held = hold(&world, Moment::Arrives);
    set_mode(&world, "doc", 0o666).await;
    let request = held.recv().await.unwrap();
    world.store.mv_over("secret", "doc").unwrap();
    request.pass();
    drop(held);
    shows_theirs(&world).await;
    assert_eq!(world.store.peek("doc").unwrap().mode, Some(0o600));
    assert_eq!(world.store.extended("doc").unwrap(), Extended::default());
    assert_ne!(world.stat("doc").await.uid, 7);
}
