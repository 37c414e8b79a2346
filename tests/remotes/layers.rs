//! What each decorator adds, over the memory remote and by tokio's paused clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dewfs::remote::layers::{
    Connection, Lane, Limit, Limits, Patience, Retry, Trace, Traffic, in_background, in_lane,
};
use dewfs::remote::memory::{
    Fault, FaultRule, Gate, MemoryOptions, MemoryStore, Moment, Operation, path,
};
use dewfs::remote::{
    AttemptTag, Body, Digest, ErrorKind, Expect, Locator, Remote, Upload, Version,
};
use futures_util::StreamExt;
use tokio::time::Instant;

fn at(text: &str) -> Locator {
    Locator::at(path(text))
}

fn upload(content: &'static [u8]) -> Upload {
    Upload {
        body: Body::Memory(Bytes::from_static(content)),
        digest: Digest { size: content.len() as u64, hash: *blake3::hash(content).as_bytes() },
        mtime: None,
        mode: None,
        extended: Default::default(),
        tag: AttemptTag { mount: "m".into(), item: 1, nonce: 1 },
        still_whole: None,
        pace: None,
        progress: None,
    }
}

fn store() -> Arc<MemoryStore> {
    MemoryStore::new(MemoryOptions { piece: 4, ..MemoryOptions::default() })
}

fn retry(store: &Arc<MemoryStore>) -> Retry {
    Retry::new(Arc::new(store.remote()), Patience::default())
}

fn rule(operation: Operation, times: u32, fault: Fault) -> FaultRule {
    FaultRule { operation: Some(operation), path: None, skip: 0, times, fault }
}

async fn read(
    remote: &dyn Remote,
    name: &str,
    version: &Version,
    size: u64,
) -> Result<Bytes, ErrorKind> {
    let mut stream = remote.read(&at(name), version, 0..size).await.map_err(|e| e.kind)?;
    let mut all = Vec::new();
    while let Some(piece) = stream.bytes.next().await {
        all.extend_from_slice(&piece.map_err(|e| e.kind)?);
    }
    Ok(all.into())
}

#[tokio::test(start_paused = true)]
async fn a_read_is_asked_again_until_it_is_answered() {
    let store = store();
    store.put("a", "content").unwrap();
    store.inject(rule(Operation::Stat, 3, Fault::Fail(ErrorKind::Offline)));
    let remote = retry(&store);
    assert!(remote.stat(&at("a")).await.unwrap().is_some());
    assert_eq!(store.counts()[&Operation::Stat], 4);
    assert_eq!(*remote.connection().borrow(), Connection::Online);
}

#[tokio::test(start_paused = true)]
async fn what_changes_the_remote_is_sent_once() {
    let store = store();
    store.inject(FaultRule::always(Fault::LoseAnswer));
    let remote = retry(&store);
    let tag = upload(b"").tag;
    let offline = |kind| assert_eq!(kind, ErrorKind::Offline);
    offline(remote.write(&at("a"), upload(b"x"), Expect::Absent).await.unwrap_err().kind);
    offline(remote.make_folder(&at("f")).await.unwrap_err().kind);
    offline(remote.rename(&at("a"), &at("b"), Expect::Any, &tag).await.unwrap_err().kind);
    offline(remote.remove(&at("b"), Expect::Any, &tag).await.unwrap_err().kind);
    assert_eq!(store.requests(), 4);
    assert_eq!(store.snapshot_text().into_keys().collect::<Vec<_>>(), ["f"]);
}

#[tokio::test(start_paused = true)]
async fn patience_ends_and_is_short_when_known_offline() {
    let store = store();
    store.set_online(false);
    let remote = retry(&store);
    let start = Instant::now();
    assert_eq!(remote.stat(&at("a")).await.unwrap_err().kind, ErrorKind::Offline);
    assert!(
        start.elapsed() > Duration::from_secs(20) && start.elapsed() <= Duration::from_secs(30)
    );
    assert!(matches!(*remote.connection().borrow(), Connection::Offline { .. }));
    let again = Instant::now();
    assert_eq!(remote.stat(&at("a")).await.unwrap_err().kind, ErrorKind::Offline);
    assert!(again.elapsed() <= Duration::from_secs(2), "{:?}", again.elapsed());
    store.set_online(true);
    let mut connection = remote.connection();
    remote.stat(&at("a")).await.unwrap();
    assert_eq!(*connection.borrow_and_update(), Connection::Online);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_remote_is_given_up() {
    let store = store();
    let (gate, _frozen) = Gate::holding(|_| true);
    store.gate(Some(gate));
    let remote = retry(&store);
    let start = Instant::now();
    assert_eq!(remote.stat(&at("a")).await.unwrap_err().kind, ErrorKind::Offline);
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    let made = remote.make_folder(&at("f")).await;
    assert_eq!(made.unwrap_err().kind, ErrorKind::Offline);
    assert_eq!(start.elapsed(), Duration::from_secs(630));
}

#[tokio::test(start_paused = true)]
async fn a_time_that_the_server_names_is_kept() {
    let store = store();
    let limited = ErrorKind::RateLimited { after: Some(Duration::from_secs(7)) };
    store.inject(rule(Operation::Stat, 1, Fault::Fail(limited.clone())));
    let remote = retry(&store);
    let start = Instant::now();
    remote.stat(&at("a")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(7));
    let long = ErrorKind::RateLimited { after: Some(Duration::from_secs(70)) };
    store.inject(rule(Operation::Stat, 1, Fault::Fail(long.clone())));
    assert_eq!(remote.stat(&at("a")).await.unwrap_err().kind, long);
    assert_eq!(start.elapsed(), Duration::from_secs(7), "what is too long is not waited for");
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_goes_on_where_it_broke() {
    let store = store();
    let seen = store.put("a", "0123456789").unwrap();
    store.inject(rule(Operation::Read, 2, Fault::Truncate(4)));
    let remote = retry(&store);
    assert_eq!(read(&remote, "a", &seen.version, 10).await.unwrap(), "0123456789");
    assert_eq!(store.counts()[&Operation::Read], 3);
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_never_goes_on_in_another_version() {
    let store = store();
    let seen = store.put("a", "0123456789").unwrap();
    store.inject(rule(Operation::Read, 1, Fault::Truncate(4)));
    let remote = retry(&store);
    let mut stream = remote.read(&at("a"), &seen.version, 0..10).await.unwrap();
    assert_eq!(stream.bytes.next().await.unwrap().unwrap(), "0123");
    store.put("a", "9876543210").unwrap();
    let end = stream.bytes.next().await.unwrap().unwrap_err();
    assert_eq!(end.kind, ErrorKind::VersionMismatch);
    assert!(stream.bytes.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn being_refused_is_told_on_the_channel() {
    let store = store();
    store.inject(rule(Operation::Probe, 1, Fault::Fail(ErrorKind::Unauthenticated)));
    let remote = retry(&store);
    let mut connection = remote.connection();
    assert_eq!(remote.probe().await.unwrap_err().kind, ErrorKind::Unauthenticated);
    connection.changed().await.unwrap();
    assert_eq!(*connection.borrow_and_update(), Connection::Unauthenticated);
    remote.probe().await.unwrap();
    assert_eq!(*connection.borrow_and_update(), Connection::Online);
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_at_once_than_allowed() {
    let store = store();
    let (gate, mut held) = Gate::holding(|step| step.moment == Moment::Arrives);
    store.gate(Some(gate));
    let limits = Limits { concurrent: 3, background: 1, background_per_second: None };
    let remote = Limit::new(Arc::new(store.remote()), limits);
    let ask = |background: bool| {
        let remote = remote.clone();
        tokio::spawn(async move {
            if background {
                in_background(remote.stat(&at("b"))).await.unwrap();
            } else {
                remote.stat(&at("a")).await.unwrap();
            }
        })
    };
    let asked: Vec<_> = [true, true, true, false, false, false].map(ask).into_iter().collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut first = Vec::new();
    while let Ok(one) = held.try_recv() {
        first.push(one);
    }
    let names: Vec<_> = first.iter().map(|one| one.step.path.to_string()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "/b").count(), 1, "room for who waits");
    drop(first);
    store.gate(None);
    drop(held);
    for one in asked {
        one.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn background_requests_keep_their_pace_and_others_need_not() {
    let store = store();
    let limits = Limits { concurrent: 8, background: 8, background_per_second: Some(10) };
    let remote = Limit::new(Arc::new(store.remote()), limits);
    let start = Instant::now();
    in_background(async {
        for _ in 0..21 {
            remote.stat(&at("a")).await.unwrap();
        }
    })
    .await;
    let paced = start.elapsed();
    assert!(paced >= Duration::from_secs(2) && paced < Duration::from_millis(2100), "{paced:?}");
    for _ in 0..100 {
        remote.stat(&at("a")).await.unwrap();
    }
    assert_eq!(start.elapsed(), paced);
}

#[tokio::test]
async fn a_stream_holds_its_place_until_it_ends() {
    let store = store();
    let seen = store.put("a", "content").unwrap();
    let limits = Limits { concurrent: 1, background: 1, background_per_second: None };
    let remote = Limit::new(Arc::new(store.remote()), limits);
    let stream = remote.read(&at("a"), &seen.version, 0..7).await.unwrap();
    let ask = at("a");
    let mut other = std::pin::pin!(remote.stat(&ask));
    assert!(futures_util::poll!(&mut other).is_pending());
    drop(stream);
    assert!(other.await.unwrap().is_some());
}

#[tokio::test]
async fn requests_and_bytes_are_counted() {
    let store = store();
    let remote = Trace::new(Arc::new(store.remote()));
    let seen = remote.write(&at("a"), upload(b"content"), Expect::Absent).await.unwrap();
    assert_eq!(read(&remote, "a", &seen.version, 7).await.unwrap(), "content");
    assert!(remote.write(&at("a"), upload(b"again"), Expect::Absent).await.is_err());
    remote.stat(&at("x")).await.unwrap();
    let traffic = remote.traffic();
    assert_eq!(traffic, Traffic { requests: 4, bytes_down: 7, bytes_up: 12 });
    assert_eq!(remote.operations()["write"], 2);
}

/// One of many was told when to come again; all others were sent all the same, each to be told so.
#[tokio::test(start_paused = true)]
async fn regression_a_remote_that_wants_fewer_requests_is_left_alone() {
    let store = store();
    store.put("a", "a").unwrap();
    let inner = store.remote();
    let remote = Retry::new(Arc::new(inner.clone()), Patience::default());
    let asked = || inner.counts().values().sum::<u64>();
    let limited = ErrorKind::RateLimited { after: Some(Duration::from_secs(60)) };
    store.inject(FaultRule::next(Operation::MakeFolder, Fault::Fail(limited)));
    let make = async |index: usize| {
        let folder = at(&format!("f{index}"));
        in_lane(Lane::Bulk, remote.make_folder(&folder)).await
    };
    make(0).await.unwrap_err();
    let before = asked();
    for index in 1..200 {
        let refused = make(index).await.unwrap_err();
        let ErrorKind::RateLimited { after: Some(after) } = refused.kind else {
            panic!("{refused}")
        };
        assert!(after <= Duration::from_secs(60) && after > Duration::from_secs(50), "{after:?}");
    }
    let feed = in_background(remote.stat(&at("a"))).await;
    assert!(matches!(feed.unwrap_err().kind, ErrorKind::RateLimited { .. }));
    assert_eq!(asked(), before, "nothing was asked");
    // Who waits may try.
    assert!(remote.stat(&at("a")).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(60)).await;
    for index in 0..200 {
        make(index).await.unwrap();
    }
}

/// Where it names no time it is left alone all the same, for longer each time; it was asked on for each other item.
#[tokio::test(start_paused = true)]
async fn regression_a_remote_that_names_no_time_is_left_alone_as_well() {
    let store = store();
    let inner = store.remote();
    let remote = Retry::new(Arc::new(inner.clone()), Patience::default());
    let asked = || inner.counts().values().sum::<u64>();
    let limited = || Fault::Fail(ErrorKind::RateLimited { after: None });
    store.inject(FaultRule { times: 3, ..FaultRule::next(Operation::MakeFolder, limited()) });
    let start = Instant::now();
    let mut made = Vec::new();
    for index in 0.. {
        let (folder, before) = (at(&format!("f{index}")), asked());
        let outcome = in_lane(Lane::Bulk, remote.make_folder(&folder)).await;
        if asked() > before {
            made.push(start.elapsed().as_secs());
        }
        if outcome.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(made, [0, 1, 3, 7]);
    in_lane(Lane::Bulk, remote.make_folder(&at("g"))).await.unwrap();
}

/// What waited for its turn for as long as the remote may be silent counted as not answered, and twice that as no connection: a
/// large file on a slow line took the mount offline.
#[tokio::test(start_paused = true)]
async fn regression_waiting_for_a_turn_is_no_silence_of_the_remote() {
    let store = store();
    let seen = store.put("a", vec![7; 1 << 20]).unwrap();
    let limits = Limits { concurrent: 1, background: 1, background_per_second: None };
    let limited = Limit::new(Arc::new(store.remote()), limits);
    let remote = Arc::new(Retry::new(Arc::new(limited), Patience::default()));
    let online = remote.connection();
    let begun = Instant::now();
    let stream = remote.read(&at("a"), &seen.version, 0..1 << 20).await.unwrap();
    let has_time = tokio::spawn({
        let remote = remote.clone();
        async move { in_lane(Lane::Bulk, remote.stat(&at("a"))).await }
    });
    let sent = tokio::spawn({
        let remote = remote.clone();
        async move { in_lane(Lane::Bulk, remote.make_folder(&at("f"))).await }
    });
    // Who waits does not wait for longer than that, which tells nothing of the remote either.
    for _ in 0..3 {
        assert_eq!(remote.stat(&at("a")).await.unwrap_err().kind, ErrorKind::Unavailable);
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(90));
    assert_eq!(*online.borrow(), Connection::Online);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    drop(stream);
    has_time.await.unwrap().unwrap().unwrap();
    sent.await.unwrap().unwrap();
    assert_eq!(*online.borrow(), Connection::Online);
}

/// With all requests hanging, and others waiting for their turn, the root was asked after all of these.
#[tokio::test(start_paused = true)]
async fn regression_a_remote_that_hangs_is_known_to_be_away_however_many_wait() {
    let store = store();
    let limits = Limits { concurrent: 2, background: 2, background_per_second: None };
    let limited = Limit::new(Arc::new(store.remote()), limits);
    let remote = Arc::new(Retry::new(Arc::new(limited), Patience::default()));
    let (gate, _held) = Gate::holding(|_| true);
    store.gate(Some(gate));
    let begun = Instant::now();
    for number in 0..12 {
        let remote = remote.clone();
        tokio::spawn(async move {
            let ask = async { remote.stat(&at("f")).await };
            if number < 2 { ask.await } else { in_background(ask).await }
        });
    }
    let away = |now: &Connection| matches!(now, Connection::Offline { .. });
    remote.connection().wait_for(away).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// One path that a server cannot serve, or does not answer for, took the mount offline; one that it does not show had it wait
/// for another sign-in.
#[tokio::test(start_paused = true)]
async fn regression_one_path_tells_nothing_of_the_remote() {
    for (kind, told) in [
        (ErrorKind::Offline, ErrorKind::Offline),
        (ErrorKind::Unavailable, ErrorKind::Unavailable),
        (ErrorKind::Unauthenticated, ErrorKind::Denied),
    ] {
        let store = store();
        store.put("bad", "x").unwrap();
        store.put("good", "x").unwrap();
        let bad = FaultRule { path: Some(path("bad")), ..FaultRule::always(Fault::Fail(kind)) };
        store.inject(bad);
        let remote = retry(&store);
        let online = remote.connection();
        for _ in 0..3 {
            assert_eq!(remote.stat(&at("bad")).await.unwrap_err().kind, told);
            let sent = remote.write(&at("bad"), upload(b"y"), Expect::Any).await.unwrap_err();
            assert_eq!(sent.kind, told);
            assert_eq!(sent.to_string().contains("dewfs login"), told == ErrorKind::Denied);
            assert_eq!(*online.borrow(), Connection::Online);
        }
        assert!(!online.has_changed().unwrap(), "and never was anything else");
        assert!(remote.stat(&at("good")).await.unwrap().is_some());
    }
}

/// A root that did not answer counted as one that wants another sign-in, as the path had asked for.
#[tokio::test(start_paused = true)]
async fn regression_a_root_that_does_not_answer_asks_for_no_sign_in() {
    let store = store();
    store.put("bad", "x").unwrap();
    let fails = |place: &str, kind| FaultRule {
        path: Some(path(place)),
        ..FaultRule::always(Fault::Fail(kind))
    };
    store.inject(fails("bad", ErrorKind::Unauthenticated));
    store.inject(FaultRule {
        path: Some(dewfs::remote::RemotePath::root()),
        ..FaultRule::always(Fault::Fail(ErrorKind::Offline))
    });
    let remote = retry(&store);
    let mut online = remote.connection();
    let refused = remote.write(&at("bad"), upload(b"y"), Expect::Any).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    let told = online.wait_for(|now| *now != Connection::Online);
    let told = tokio::time::timeout(Duration::from_secs(60), told).await.map(|now| *now.unwrap());
    assert!(!matches!(told, Ok(Connection::Unauthenticated)), "{told:?}");
}

/// Programs that were not let in waited for a root that hangs one after the other.
#[tokio::test(start_paused = true)]
async fn regression_who_is_not_let_in_waits_for_the_root_once() {
    let mut took = Vec::new();
    for programs in [1, 5] {
        let store = store();
        store.inject(FaultRule {
            path: Some(path("bad")),
            ..FaultRule::always(Fault::Fail(ErrorKind::Unauthenticated))
        });
        let (gate, _held) = Gate::holding(|step| step.path == dewfs::remote::RemotePath::root());
        store.gate(Some(gate));
        let remote = retry(&store);
        let begun = Instant::now();
        let asked =
            (0..programs).map(|_| async { remote.stat(&at("bad")).await.unwrap_err().kind });
        let told = futures_util::future::join_all(asked).await;
        assert_eq!(told, vec![ErrorKind::Unavailable; programs]);
        took.push(begun.elapsed());
    }
    assert!(took[1] < took[0] + Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn regression_one_path_that_hangs_tells_nothing_of_the_remote() {
    let store = store();
    let (gate, _held) = Gate::holding(|step| step.path == path("bad"));
    store.gate(Some(gate));
    let remote = retry(&store);
    let online = remote.connection();
    for _ in 0..4 {
        assert_eq!(remote.stat(&at("bad")).await.unwrap_err().kind, ErrorKind::Offline);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*online.borrow(), Connection::Online);
    assert!(!online.has_changed().unwrap());
    assert_eq!(remote.stat(&at("good")).await.unwrap(), None);
}

/// What is not answered anywhere is known soon, with one question more; what answers that it cannot serve its root is away.
#[tokio::test(start_paused = true)]
async fn a_remote_whose_root_is_not_answered_is_away() {
    for kind in [ErrorKind::Offline, ErrorKind::Unavailable] {
        let store = store();
        store.inject(FaultRule::always(Fault::Fail(kind)));
        let remote = retry(&store);
        let mut online = remote.connection();
        let begun = Instant::now();
        for _ in 0..2 {
            remote.write(&at("a"), upload(b"x"), Expect::Any).await.unwrap_err();
        }
        let offline = |now: &Connection| matches!(now, Connection::Offline { .. });
        online.wait_for(offline).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(store.requests(), 3);
    }
    let store = store();
    store.inject(FaultRule::always(Fault::Fail(ErrorKind::Unauthenticated)));
    let remote = retry(&store);
    let refused = remote.stat(&at("a")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unauthenticated);
    assert_eq!(*remote.connection().borrow(), Connection::Unauthenticated);
}

/// A server that moved 100 GB from one disk to another before it answered was given up after ten minutes, and got them all again.
#[tokio::test(start_paused = true)]
async fn regression_what_is_large_is_waited_for_as_long_as_a_server_may_copy_it() {
    let store = store();
    let slow = Fault::DelayAnswer(Duration::from_secs(2000));
    store.inject(rule(Operation::Write, 2, slow));
    let remote = retry(&store);
    let small = remote.write(&at("small"), upload(b"small"), Expect::Absent).await;
    assert_eq!(small.unwrap_err().kind, ErrorKind::Offline);
    let mut large = upload(b"large");
    large.digest.size = 100 << 30;
    // What is sent here is not that large, and the answer says so; but it was waited for.
    let refused = remote.write(&at("large"), large, Expect::Absent).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Other, "{refused}");
}
