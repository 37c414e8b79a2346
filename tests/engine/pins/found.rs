//! What pins and rules did wrong, found by reading.

use std::sync::atomic::{AtomicBool, Ordering};

use dewfs::engine::{EngineError, Hydration, Lane, MountState, Population, Settings};
use dewfs::model::{Ino, RemotePath};
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{Fault, FaultRule, Gate, MemoryOptions, Moment, Operation};

use super::{F, P, U, pin_of, present, rule_files, set};
use crate::support::world::{READ, World, name, pattern, quick_settings};

fn place(path: &str) -> RemotePath {
    RemotePath(path.split('/').map(name).collect())
}

/// Fails each such request about this path until the store is healed.
fn refuse(world: &World, operation: Operation, path: &str, kind: ErrorKind) {
    let rule = FaultRule::next(operation, Fault::Fail(kind));
    world.store.inject(FaultRule { path: Some(place(path)), times: u32::MAX, ..rule });
}

async fn kept(world: &World, path: &str, dry_run: bool) -> Vec<(String, String)> {
    let freed = world.engine.free(world.ino(path).await, dry_run).await.unwrap();
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    freed.kept.iter().map(|(path, why)| (text(path), why.clone())).collect()
}

/// S169 "`dewfs free` of a folder keeps what is pinned below it, and names it; a pinned file that is named itself is freed."
///
/// B44, C15: `free` of a folder took the bytes of what is pinned below it, and they came again at once.
#[tokio::test(flavor = "multi_thread")]
async fn regression_free_of_a_folder_keeps_what_is_pinned_below_it() {
    let world = World::new().await;
    for folder in ["docs", "docs/deep"] {
        world.store.mkdir(folder).unwrap();
    }
    let files = ["docs/plain", "docs/own", "docs/deep/inner", "docs/deep/let", "docs/rule.pdf"];
    for path in files {
        world.store.put(path, pattern(50_000, 1)).unwrap();
    }
    world.store.put("docs/empty", "").unwrap();
    world.engine.add_pin_rule(Some("papers"), "docs/*.pdf", None).await.unwrap();
    for (path, pin) in
        [("docs", P), ("docs/own", P), ("docs/deep", P), ("docs/deep/let", F), ("docs/empty", P)]
    {
        set(&world, path, pin).await;
    }
    for path in files {
        world.engine.hydrate(world.ino(path).await).await.unwrap();
    }
    let ruled = world.ino("docs/rule.pdf").await;
    let rule = async || world.engine.item_status(ruled).await.unwrap().pin_rule;
    world.until("the rule pins it", async || rule().await.is_some()).await;
    world.in_sync().await;
    let all = [
        ("docs/deep", "pinned: dewfs unpin it, then free it again"),
        ("docs/own", "pinned: dewfs unpin it, then free it again"),
        ("docs/rule.pdf", "pinned by the rule papers: free it by its own name"),
    ];
    for dry_run in [true, false] {
        let mut kept = kept(&world, "docs", dry_run).await;
        kept.sort();
        assert_eq!(kept.len(), all.len(), "{kept:?}");
        for ((path, why), (wanted, begin)) in kept.iter().zip(all) {
            assert!(path == wanted && why.starts_with(begin), "{kept:?}");
        }
    }
    for (path, size) in [
        ("docs/plain", 0),
        ("docs/own", 50_000),
        ("docs/deep/inner", 50_000),
        ("docs/deep/let", 0),
        ("docs/rule.pdf", 50_000),
    ] {
        assert_eq!(present(&world, path).await, size, "{path}");
    }
    assert_eq!(pin_of(&world, "docs/plain").await, U);
    // A file that is named itself goes, whatever pinned it.
    for path in ["docs/own", "docs/deep/inner", "docs/rule.pdf"] {
        assert_eq!(kept(&world, path, false).await, []);
        assert_eq!((pin_of(&world, path).await, present(&world, path).await), (F, 0), "{path}");
    }
}

/// A rule about a folder below one that nobody had looked into never did anything.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_rule_finds_its_folder_below_what_is_not_listed() {
    let world = World::new().await;
    for folder in ["docs", "docs/2024", "docs/2024/deep", "docs/other", "music"] {
        world.store.mkdir(folder).unwrap();
    }
    for path in ["docs/2024/a.pdf", "docs/2024/deep/b.pdf", "docs/other/c.pdf", "music/d.pdf"] {
        world.store.put(path, pattern(20_000, 1)).unwrap();
    }
    world.names("").await;
    let rule = world.engine.add_pin_rule(None, "docs/2024/**", None).await.unwrap();
    world.until("the rule finds both", async || rule_files(&world, &rule).await.0 == 2).await;
    for path in ["docs/2024/a.pdf", "docs/2024/deep/b.pdf"] {
        world.until("it comes", async || present(&world, path).await == 20_000).await;
    }
    // What lies beside the way is nobody's business.
    for path in ["docs/other", "music"] {
        let folder = world.engine.resolve(path.as_bytes(), false).await.unwrap();
        assert!(!world.engine.item_status(folder).await.unwrap().listed, "{path}");
    }
    // What is not there is not looked for again and again.
    world.engine.add_pin_rule(None, "docs/none/deep/**", None).await.unwrap();
    world.engine.add_pin_rule(None, "docs/2024/a.pdf/**/x", None).await.unwrap();
    let lists = world.remote.counts()[&Operation::List];
    world.store.put("docs/2024/e.pdf", pattern(10_000, 1)).unwrap();
    world.until("it comes", async || present(&world, "docs/2024/e.pdf").await == 10_000).await;
    let more = world.remote.counts()[&Operation::List] - lists;
    assert!(more < 10, "{more} listings");
}

/// The first pinned file that did not fit kept all after it from coming.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_pinned_file_that_does_not_fit_keeps_no_other_from_coming() {
    let settings = Settings { cache_size: 4 << 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for (name, size) in [("a", 6 << 20), ("b", 50_000), ("c", 8 << 20), ("d", 60_000)] {
        world.store.put(name, pattern(size, 1)).unwrap();
    }
    for name in ["a", "b", "c", "d"] {
        set(&world, name, P).await;
    }
    for (name, size) in [("b", 50_000), ("d", 60_000)] {
        world.until("what fits comes", async || present(&world, name).await == size).await;
    }
    let degraded =
        async || world.engine.mount_status().await.unwrap().state == MountState::Degraded;
    world.until("it is told", degraded).await;
    assert_eq!((present(&world, "a").await, present(&world, "c").await), (0, 0));
    for name in ["a", "c"] {
        set(&world, name, U).await;
    }
    world.until("all is well", async || !degraded().await).await;
}

/// A file, or a folder, below a disk that was taken out kept all that is pinned after it from coming.
#[tokio::test(flavor = "multi_thread")]
async fn regression_one_pinned_item_that_is_away_keeps_no_other_from_coming() {
    let world = World::new().await;
    for folder in ["docs", "docs/away", "docs/more"] {
        world.store.mkdir(folder).unwrap();
    }
    for path in ["docs/a", "docs/b", "docs/away/c", "docs/more/d"] {
        world.store.put(path, pattern(20_000, 1)).unwrap();
    }
    world.names("docs").await;
    refuse(&world, Operation::Read, "docs/a", ErrorKind::Away);
    refuse(&world, Operation::List, "docs/away", ErrorKind::Away);
    set(&world, "docs", P).await;
    let here =
        async |path: &str, size: u64| match world.engine.resolve(path.as_bytes(), false).await {
            Ok(ino) => world.engine.item_status(ino).await.unwrap().present_bytes == size,
            Err(_) => false,
        };
    for path in ["docs/b", "docs/more/d"] {
        world.until("the others come", async || here(path, 20_000).await).await;
    }
    assert!(here("docs/a", 0).await);
    // A new version is no reason to wait; the folder is asked for again after a while.
    world.store.heal();
    world.store.put("docs/a", pattern(30_000, 1)).unwrap();
    world.until("it is there again", async || here("docs/a", 30_000).await).await;
    world.until("the folder too", async || here("docs/away/c", 20_000).await).await;
}

/// Of a folder the first file that did not come, or folder that could not be listed, was the last that was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn regression_hydrate_of_a_folder_goes_on_and_names_what_did_not_come() {
    let world = World::new().await;
    for folder in ["docs", "docs/away", "docs/more"] {
        world.store.mkdir(folder).unwrap();
    }
    for path in ["docs/a", "docs/b", "docs/away/c", "docs/more/d"] {
        world.store.put(path, pattern(20_000, 1)).unwrap();
    }
    let docs = world.ino("docs").await;
    refuse(&world, Operation::Read, "docs/a", ErrorKind::Denied);
    refuse(&world, Operation::List, "docs/away", ErrorKind::Away);
    let hydrated = world.engine.hydrate(docs).await.unwrap();
    assert_eq!(hydrated.bytes, 40_000);
    let failed: Vec<_> = hydrated.failed.iter().map(|(path, error)| (&path[..], error)).collect();
    assert!(
        matches!(
            failed[..],
            [(b"docs/away", EngineError::Offline), (b"docs/a", EngineError::Denied(_))]
        ),
        "{failed:?}"
    );
    // Of what was named itself there is nothing else to tell.
    let alone = world.engine.hydrate(world.ino("docs/a").await).await;
    assert!(matches!(alone, Err(EngineError::Denied(_))), "{alone:?}");
    // Where nobody is let in, or nothing can be reached, no more is asked for.
    world.store.heal();
    world.store.put("docs/b", pattern(30_000, 2)).unwrap();
    world.until("the change", async || world.stat("docs/b").await.size == 30_000).await;
    world.store.set_online(false);
    let away = world.engine.hydrate(docs).await;
    assert!(matches!(away, Err(EngineError::Offline | EngineError::TimedOut)), "{away:?}");
}

/// Of rules that were added at the same time only some were kept, and each was confirmed; so with lanes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_rules_and_pauses_at_the_same_time_are_all_kept() {
    let world = World::new().await;
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let engine = world.engine.clone();
            tokio::spawn(async move { engine.add_pin_rule(None, &format!("*.{n}"), None).await })
        })
        .collect();
    let mut names = Vec::new();
    for task in tasks {
        names.push(task.await.unwrap().unwrap());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20, "each has a name of its own");
    assert_eq!(world.engine.pin_rules().await.unwrap().len(), 20);
    let tasks: Vec<_> = names
        .into_iter()
        .map(|name| {
            let engine = world.engine.clone();
            tokio::spawn(async move { engine.remove_pin_rule(&name).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(world.engine.pin_rules().await.unwrap().len(), 0);
    assert!(matches!(world.engine.remove_pin_rule("rule-1").await, Err(EngineError::NotFound)));

    let mut world = world;
    for _ in 0..5 {
        let tasks = [Lane::Bulk, Lane::Uploads].map(|lane| {
            let engine = world.engine.clone();
            tokio::spawn(async move { engine.pause(lane).await })
        });
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        world = world.restart().await;
        world.engine.resume_lane(Lane::Bulk).await.unwrap();
        let state = world.engine.mount_status().await.unwrap().state;
        assert_eq!(state, MountState::Paused, "sending is still paused");
        world.engine.resume_lane(Lane::Uploads).await.unwrap();
        let state = world.engine.mount_status().await.unwrap().state;
        assert_ne!(state, MountState::Paused);
    }
}

/// S64, S120: what goes on while a file is open did not stand still.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_a_progressive_mount_fetches_ahead_stands_still_while_paused() {
    let settings = Settings { hydration: Hydration::Progressive, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("big", pattern(20 << 20, 5)).unwrap();
    world.engine.pause(Lane::Bulk).await.unwrap();
    let (big, handle) = world.open("big", READ).await;
    let piece = world.engine.read(big, handle, 15 << 20, 10).wait().await.unwrap();
    assert_eq!(piece, pattern(20 << 20, 5)[15 << 20..][..10], "a program waits for it");
    // What was read is there; the rest would begin at once.
    for at in [1 << 20, 6 << 20, 11 << 20] {
        world.engine.read(big, handle, at, 10).wait().await.unwrap();
    }
    assert!(present(&world, "big").await < 20 << 20);
    world.engine.resume().await.unwrap();
    world.until("the rest came", async || present(&world, "big").await == 20 << 20).await;
    world.engine.release(big, handle);
}

/// S64: folders went on being listed that nobody asked for.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_is_listed_ahead_stands_still_while_paused() {
    // What is listed ahead is asked for as fast as it can be.
    let settings = Settings { population: Population::Full, requests: 10_000, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    let is_first = AtomicBool::new(true);
    let (gate, mut held) = Gate::holding(move |step| {
        step.operation == Operation::List
            && step.moment == Moment::Arrives
            && (is_first.swap(false, Ordering::Relaxed) || step.path.to_string().len() > 1)
    });
    world.store.gate(Some(gate));
    let first = held.recv().await.unwrap();
    for n in 0..5 {
        world.store.mkdir(&format!("folder{n}")).unwrap();
    }
    world.engine.pause(Lane::Bulk).await.unwrap();
    first.pass();
    let listed = async |ino| world.engine.item_status(ino).await.unwrap().listed;
    world.until("the root is listed", async || listed(Ino::ROOT).await).await;
    // That takes longer than it takes to begin with the next.
    world.write("small", b"small").await;
    world.until("it is sent", async || world.content_there("small").is_some()).await;
    assert!(held.try_recv().is_err(), "nobody asked for it");
    world.engine.resume().await.unwrap();
    world.store.gate(None);
    drop(held);
    for n in 0..5 {
        let path = format!("folder{n}");
        let folder = world.engine.resolve(path.as_bytes(), false).await.unwrap();
        world.until("they are listed", async || listed(folder).await).await;
    }
}

const UNFIT: &str =
    "what is pinned does not fit in the cache: raise cache_size, or unpin something";

async fn said(world: &World, path: &str) -> Option<String> {
    world.engine.item_status(world.ino(path).await).await.unwrap().error
}

/// A cache of 4 MiB with a pinned file of 3 MiB to come.
async fn world_of_one() -> World {
    let settings = Settings { cache_size: 4 << 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("big", pattern(3 << 20, 1)).unwrap();
    world.ino("big").await;
    world.engine.pause(Lane::Uploads).await.unwrap();
    world
}

/// What did not fit because of unsent content came no more when that was sent: nothing was freed for it.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_pinned_file_comes_when_what_was_unsent_may_go() {
    let world = world_of_one().await;
    world.write("own", &pattern(3 << 20, 2)).await;
    set(&world, "big", P).await;
    world.until("it does not fit", async || said(&world, "big").await.is_some()).await;
    assert_eq!(
        (said(&world, "big").await.as_deref(), present(&world, "big").await),
        (Some(UNFIT), 0)
    );
    world.engine.resume_lane(Lane::Uploads).await.unwrap();
    world.until("it comes", async || present(&world, "big").await == 3 << 20).await;
    world.until("all is told", async || said(&world, "big").await.is_none()).await;
}

/// What nothing is here of, a large file that was renamed and cannot be sent, was counted as if it stood in the way.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_is_unsent_without_content_takes_no_room_from_pins() {
    let world = world_of_one().await;
    world.store.put("huge", pattern(8 << 20, 3)).unwrap();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.until("it is seen", async || world.names("").await.contains(&"huge".into())).await;
    for name in ["huge", "renamed"] {
        refuse(&world, Operation::Rename, name, ErrorKind::Denied);
    }
    world.rename("huge", "renamed").await.unwrap();
    world.write("own", &pattern(3 << 20, 2)).await;
    set(&world, "big", P).await;
    world.until("it does not fit", async || said(&world, "big").await.is_some()).await;
    world.engine.resume_lane(Lane::Uploads).await.unwrap();
    world.until("it comes", async || present(&world, "big").await == 3 << 20).await;
    assert!(world.store.peek("huge").is_some(), "it stays where it was");
}

/// Room may come without anything being sent: what was pinned is so no more where others moved it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_file_comes_when_what_others_moved_may_go() {
    let world = world_of_one().await;
    world.store.mkdir("docs").unwrap();
    world.store.put("docs/a", pattern(3 << 20, 2)).unwrap();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.until("it is seen", async || world.names("").await.contains(&"docs".into())).await;
    set(&world, "docs", P).await;
    world.names("docs").await;
    world.until("it is here", async || present(&world, "docs/a").await == 3 << 20).await;
    set(&world, "big", P).await;
    world.until("it does not fit", async || said(&world, "big").await.is_some()).await;
    world.store.mv("docs/a", "a").unwrap();
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.until("it comes", async || present(&world, "big").await == 3 << 20).await;
}

/// A pinned file whose room others took while it was on its way was neither told as one that does not fit nor tried again.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_pinned_file_whose_room_was_taken_does_not_fit() {
    let world = world_of_one().await;
    let (gate, mut held) =
        Gate::holding(|step| step.operation == Operation::Read && step.moment == Moment::Arrives);
    world.store.gate(Some(gate));
    set(&world, "big", P).await;
    let first = held.recv().await.unwrap();
    world.write("own", &pattern(3 << 20, 2)).await;
    world.store.gate(None);
    first.pass();
    world.until("it does not fit", async || said(&world, "big").await.is_some()).await;
    assert_eq!(said(&world, "big").await.as_deref(), Some(UNFIT));
    world.engine.resume_lane(Lane::Uploads).await.unwrap();
    world.until("it comes", async || present(&world, "big").await == 3 << 20).await;
}

/// Of every pinned file that was still to come it was said that it does not fit while one did not.
#[tokio::test(flavor = "multi_thread")]
async fn regression_only_what_does_not_fit_is_told_not_to_fit() {
    let settings = Settings { cache_size: 4 << 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("a", pattern(6 << 20, 1)).unwrap();
    world.store.put("b", pattern(50_000, 1)).unwrap();
    let (gate, mut held) =
        Gate::holding(|step| step.operation == Operation::Read && step.moment == Moment::Arrives);
    world.store.gate(Some(gate));
    for name in ["a", "b"] {
        set(&world, name, P).await;
    }
    let first = held.recv().await.unwrap();
    world.until("a does not fit", async || said(&world, "a").await.is_some()).await;
    assert_eq!((said(&world, "b").await, present(&world, "b").await), (None, 0));
    world.store.gate(None);
    first.pass();
    world.until("b comes", async || present(&world, "b").await == 50_000).await;
    assert_eq!(said(&world, "a").await.as_deref(), Some(UNFIT));
}
