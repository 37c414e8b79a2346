//! The memory remote's faults, gates and weak levels: that a test can bring about what it wants to see survived.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dewfs::remote::memory::{
    Fault, FaultRule, Gate, Held, HintFaults, MemoryOptions, MemoryRemote, MemoryStore, Moment,
    Operation, RandomFaults, VersionKind, path,
};
use dewfs::remote::{
    AttemptTag, Body, Conditional, Cursor, Digest, ErrorKind, Expect, Hint, Locator, Observed,
    Remote, Result, Upload,
};
use futures_util::StreamExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

fn at(text: &str) -> Locator {
    Locator::at(path(text))
}

fn tag() -> AttemptTag {
    AttemptTag { mount: "m".into(), item: 1, nonce: 1 }
}

fn upload(content: &str) -> Upload {
    let bytes = Bytes::copy_from_slice(content.as_bytes());
    Upload {
        digest: Digest { size: bytes.len() as u64, hash: *blake3::hash(&bytes).as_bytes() },
        body: Body::Memory(bytes),
        mtime: None,
        mode: None,
        extended: Default::default(),
        tag: tag(),
        still_whole: None,
        pace: None,
        progress: None,
    }
}

fn store(conditional: Conditional) -> Arc<MemoryStore> {
    MemoryStore::new(MemoryOptions { conditional, ..MemoryOptions::default() })
}

fn tree(store: &MemoryStore) -> Vec<(String, String)> {
    let text = |bytes: Option<Bytes>| {
        bytes.map_or("/".to_owned(), |b| String::from_utf8_lossy(&b).into_owned())
    };
    store.snapshot_text().into_iter().map(|(path, bytes)| (path, text(bytes))).collect()
}

fn is(store: &MemoryStore, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect();
    assert_eq!(tree(store), expected);
}

fn version(seen: &Observed) -> Expect {
    Expect::Version(seen.version.clone())
}

fn write(remote: &MemoryRemote, content: &'static str, expect: Expect) -> Writing {
    let remote = remote.clone();
    tokio::spawn(async move { remote.write(&at("a"), upload(content), expect).await })
}

type Writing = tokio::task::JoinHandle<Result<Observed>>;

/// Lets requests pass one by one until `until` is met, which stays held.
async fn hold_at(held: &mut UnboundedReceiver<Held>, operation: Operation, moment: Moment) -> Held {
    loop {
        let one = held.recv().await.expect("a request");
        if one.step.operation == operation && one.step.moment == moment {
            return one;
        }
        one.pass();
    }
}

fn gated(store: &MemoryStore) -> UnboundedReceiver<Held> {
    let (gate, held) = Gate::holding(|_| true);
    store.gate(Some(gate));
    held
}

#[tokio::test]
async fn a_lost_request_is_not_applied_and_a_lost_answer_is() {
    let store = store(Conditional::Atomic);
    let remote = store.remote();
    let lost = Fault::Fail(ErrorKind::Offline);
    store.inject(FaultRule::next(Operation::MakeFolder, lost));
    store.inject(FaultRule::next(Operation::MakeFolder, Fault::LoseAnswer));
    assert_eq!(remote.make_folder(&at("f")).await.unwrap_err().kind, ErrorKind::Offline);
    is(&store, &[]);
    assert_eq!(remote.make_folder(&at("f")).await.unwrap_err().kind, ErrorKind::Offline);
    is(&store, &[("f", "/")]);
    assert_eq!(remote.make_folder(&at("f")).await.unwrap_err().kind, ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_late_request_arrives_when_told_under_its_old_condition() {
    let store = store(Conditional::Atomic);
    let remote = store.remote();
    for _ in 0..2 {
        store.inject(FaultRule::next(Operation::Write, Fault::DeliverLate));
        let sent = remote.write(&at("a"), upload("late"), Expect::Absent).await;
        assert_eq!(sent.unwrap_err().kind, ErrorKind::Offline);
    }
    assert!(store.deliver_late());
    is(&store, &[("a", "late")]);
    store.put("a", "newer").unwrap();
    assert!(store.deliver_late());
    is(&store, &[("a", "newer")]);
    assert!(!store.deliver_late());
}

#[tokio::test]
async fn a_gate_steps_a_request_and_a_dead_client_applies_nothing() {
    let store = store(Conditional::Atomic);
    let mut held = gated(&store);
    let (dead, other) = (store.remote(), store.remote());

    let writing = write(&dead, "one", Expect::Absent);
    let arrived = held.recv().await.unwrap();
    assert_eq!((arrived.step.moment, arrived.step.handle), (Moment::Arrives, dead.number()));
    is(&store, &[]);
    arrived.pass();
    let answers = held.recv().await.unwrap();
    assert_eq!(answers.step.moment, Moment::Answers);
    is(&store, &[("a", "one")]);
    answers.pass();
    writing.await.unwrap().unwrap();

    let writing = write(&dead, "two", Expect::Any);
    let arrived = held.recv().await.unwrap();
    dead.cut_off();
    arrived.pass();
    assert_eq!(writing.await.unwrap().unwrap_err().kind, ErrorKind::Offline);
    is(&store, &[("a", "one")]);
    store.gate(None);
    assert!(other.stat(&at("a")).await.unwrap().is_some());
    assert_eq!(dead.stat(&at("a")).await.unwrap_err().kind, ErrorKind::Offline);
}

#[tokio::test(start_paused = true)]
async fn partitions_limits_and_delays_are_as_scripted() {
    let store = store(Conditional::Atomic);
    let (one, two) = (store.remote(), store.remote());
    one.set_online(false);
    assert_eq!(one.stat(&at("a")).await.unwrap_err().kind, ErrorKind::Offline);
    assert!(two.stat(&at("a")).await.is_ok());
    one.set_online(true);
    let limited = ErrorKind::RateLimited { after: Some(Duration::from_secs(3)) };
    store.inject(FaultRule::next(Operation::Stat, Fault::Fail(limited.clone())));
    assert_eq!(one.stat(&at("a")).await.unwrap_err().kind, limited);
    assert_eq!((one.requests(), two.requests(), store.requests()), (2, 1, 3));
    let start = Instant::now();
    store.inject(FaultRule::next(Operation::Stat, Fault::Delay(Duration::from_secs(5))));
    one.stat(&at("a")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn equal_seeds_throw_equal_dice() {
    let run = |seed| async move {
        let store = MemoryStore::new(MemoryOptions { seed, ..MemoryOptions::default() });
        let faults = vec![Fault::Fail(ErrorKind::Offline), Fault::LoseAnswer];
        store.random_faults(Some(RandomFaults { per_mille: 300, faults }));
        let remote = store.remote();
        let mut outcomes = Vec::new();
        for n in 0..50 {
            outcomes.push(remote.make_folder(&at(&n.to_string())).await.is_ok());
        }
        (outcomes, tree(&store))
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}

#[tokio::test]
async fn a_listing_is_shuffled_and_paged_and_shows_each_name_once() {
    let order = |seed| async move {
        let store = MemoryStore::new(MemoryOptions { seed, ..MemoryOptions::default() });
        for n in 0..9 {
            store.put(&n.to_string(), "").unwrap();
        }
        let (remote, mut names, mut page) = (store.remote(), Vec::new(), None);
        loop {
            let listed = remote.list(&at(""), page).await.unwrap();
            assert!(listed.entries.len() <= 2);
            names.extend(listed.entries.into_iter().map(|e| e.name.to_string()));
            page = listed.next;
            if page.is_none() {
                return names;
            }
        }
    };
    let (one, two) = (order(1).await, order(2).await);
    assert_ne!(one, two);
    assert_eq!(BTreeSet::from_iter(&one).len(), 9);
    assert_eq!(one, order(1).await);
}

#[tokio::test]
async fn hints_come_twice_in_any_order_or_not_at_all() {
    let store = store(Conditional::Atomic);
    let remote = store.remote();
    let all = async |from: &Cursor| {
        let (mut cursor, mut hints) = (from.clone(), Vec::new());
        loop {
            let page = remote.changes(Some(&cursor)).await?;
            hints.extend(page.hints);
            cursor = page.cursor;
            if !page.more {
                return Ok::<_, dewfs::remote::RemoteError>((hints, cursor));
            }
        }
    };
    let start = remote.changes(None).await.unwrap().cursor;
    store.hint_faults(HintFaults { duplicate: 1000, reorder: 1000, drop: 0 });
    for n in 0..6 {
        store.put(&n.to_string(), "").unwrap();
    }
    let (hints, cursor) = all(&start).await.unwrap();
    assert_eq!(hints.len(), 12);
    let paths: BTreeSet<_> = hints.iter().map(|hint| format!("{hint:?}")).collect();
    assert_eq!(paths.len(), 6);
    store.hint_faults(HintFaults { drop: 1000, ..HintFaults::default() });
    store.put("dropped", "").unwrap();
    assert_eq!(all(&cursor).await.unwrap().0, []);
    store.heal();
    store.put("told", "").unwrap();
    assert_eq!(all(&cursor).await.unwrap().0, [Hint::Entry(path("told"))]);
    store.expire_cursors();
    assert_eq!(all(&cursor).await.unwrap_err().kind, ErrorKind::CursorExpired);
}

#[tokio::test]
async fn a_push_wakes_who_watches() {
    let store = store(Conditional::Atomic);
    let mut watch = store.remote().watch().unwrap();
    store.put("a", "").unwrap();
    watch.next().await.unwrap();
}

#[tokio::test]
async fn a_coarse_version_repeats_within_a_tick_and_says_so() {
    let store = MemoryStore::new(MemoryOptions {
        versions: VersionKind::TickAndIdentity,
        ..MemoryOptions::default()
    });
    let one = store.put("a", "one").unwrap();
    let two = store.put("a", "two").unwrap();
    assert_eq!(one.version, two.version);
    assert!(!one.settled && !two.settled);
    store.tick();
    assert!(store.peek("a").unwrap().settled);
    assert_ne!(store.put("a", "three").unwrap().version, two.version);
}

#[tokio::test]
async fn a_weak_store_loses_nothing_when_somebody_saves_before_the_move() {
    let store = store(Conditional::Checked);
    let base = store.put("a", "base").unwrap();
    let mut held = gated(&store);
    let writing = write(&store.remote(), "ours", version(&base));
    let moving = hold_at(&mut held, Operation::Rename, Moment::Arrives).await;
    store.put("a", "theirs").unwrap();
    store.gate(None);
    moving.pass();
    drop(held);
    assert_eq!(writing.await.unwrap().unwrap_err().kind, ErrorKind::VersionMismatch);
    is(&store, &[("a", "theirs")]);
}

#[tokio::test]
async fn a_weak_store_loses_nothing_when_somebody_takes_the_name_meanwhile() {
    let store = store(Conditional::Checked);
    let base = store.put("a", "base").unwrap();
    let mut held = gated(&store);
    let writing = write(&store.remote(), "ours", version(&base));
    hold_at(&mut held, Operation::Rename, Moment::Arrives).await.pass();
    let moving = hold_at(&mut held, Operation::Rename, Moment::Arrives).await;
    store.put("a", "theirs").unwrap();
    store.gate(None);
    moving.pass();
    drop(held);
    assert_eq!(writing.await.unwrap().unwrap_err().kind, ErrorKind::VersionMismatch);
    is(&store, &[("a", "theirs")]);
}

#[tokio::test]
async fn the_weakest_store_has_the_window_that_it_is_said_to_have() {
    let store = store(Conditional::None);
    let mut held = gated(&store);
    let writing = write(&store.remote(), "ours", Expect::Absent);
    let looked = hold_at(&mut held, Operation::Rename, Moment::Looked).await;
    store.put("a", "theirs").unwrap();
    store.gate(None);
    looked.pass();
    drop(held);
    writing.await.unwrap().unwrap();
    is(&store, &[("a", "ours")]);
}

#[tokio::test]
async fn whenever_a_weak_write_dies_tidying_leaves_old_or_new_and_nothing_private() {
    for conditional in [Conditional::Checked, Conditional::None] {
        for replacing in [false, true] {
            for step in 0.. {
                let store = store(conditional);
                let expect = match replacing {
                    true => version(&store.put("a", "base").unwrap()),
                    false => Expect::Absent,
                };
                let mut held = gated(&store);
                let dead = store.remote();
                let mut writing = write(&dead, "ours", expect.clone());
                let mut died = true;
                for _ in 0..step {
                    tokio::select! {
                        one = held.recv() => one.expect("the gate is there").pass(),
                        done = &mut writing => {
                            done.unwrap().unwrap();
                            died = false;
                            break;
                        }
                    }
                }
                dead.cut_off();
                store.gate(None);
                drop(held);
                if died {
                    drop(writing.await);
                }
                store.remote().tidy(&at("a"), &expect, &tag()).await.unwrap();
                let left = tree(&store);
                let whole = match left.as_slice() {
                    [] => !replacing,
                    [(name, content)] => {
                        name == "a" && (content == "ours" || replacing && content == "base")
                    }
                    _ => false,
                };
                assert!(whole, "{conditional:?} replacing {replacing}, step {step}: {left:?}");
                if !died {
                    break;
                }
                assert!(step < 100);
            }
        }
    }
}
