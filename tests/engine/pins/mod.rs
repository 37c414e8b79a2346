//! Pins: the table of parents and children, moves included; rules; policies of content and names; freeing by age.

mod found;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::world::{READ, World, name, pattern, quick_settings};
use dewfs::engine::{Hydration, Population, Settings};
use dewfs::model::{Content, Ino, Pin, RemotePath};
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{Fault, FaultRule, MemoryOptions, Operation};

use Pin::{Excluded as X, Pinned as P, Unpinned as F, Unspecified as U};

async fn pin_of(world: &World, path: &str) -> Pin {
    world.engine.item_status(world.ino(path).await).await.unwrap().pin
}

async fn present(world: &World, path: &str) -> u64 {
    match world.try_ino(path).await {
        Ok(ino) => world.engine.item_status(ino).await.unwrap().present_bytes,
        // Its name is still to come.
        Err(_) => 0,
    }
}

async fn set(world: &World, path: &str, pin: Pin) {
    world.engine.set_pin(world.ino(path).await, pin).await.unwrap();
}

/// The folders of a test, one for each state of a parent; the last has a name that is kept here only.
const PARENTS: [(&str, Pin); 4] = [("plain", U), ("pinned", P), ("unpinned", F), ("kept~", X)];

async fn parents() -> World {
    let mut settings = quick_settings();
    settings.exclude.push("kept~".into());
    let world = World::with(MemoryOptions::default(), settings).await;
    for (name, pin) in PARENTS {
        world.mkdir(name).await;
        if pin != X {
            set(&world, name, pin).await;
        }
    }
    world
}

/// What a child has itself, and what holds for it below a parent that is unspecified, pinned, unpinned, excluded.
const FILES: [(Pin, [Pin; 4]); 3] = [(U, [U, P, U, X]), (P, [P, P, P, X]), (F, [F, F, F, X])];
const FOLDERS: [(Pin, [Pin; 4]); 3] = [(U, [U, P, F, X]), (P, [P, P, P, X]), (F, [F, F, F, X])];

/// S43 "A pin is inherited by what is in a folder and by what comes or is moved into it, as the table says; a pin of one's own
/// goes along with the item."
#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_or_moved_gets_what_the_table_says() {
    let world = parents().await;
    for (is_folder, table) in [(false, FILES), (true, FOLDERS)] {
        for (own, expected) in table {
            let child = format!("child-{is_folder}-{own:?}");
            let made = |path: String| {
                let world = &world;
                async move {
                    if is_folder {
                        world.mkdir(&path).await;
                    } else {
                        world.write(&path, b"x").await;
                    }
                    set(world, &path, own).await;
                }
            };
            for ((parent, _), result) in PARENTS.iter().zip(expected) {
                made(format!("{parent}/{child}")).await;
                let found = pin_of(&world, &format!("{parent}/{child}")).await;
                assert_eq!(found, result, "new: {own:?} in {parent}, folder {is_folder}");
            }
            for ((from, _), before) in PARENTS.iter().zip(expected) {
                for ((to, _), result) in PARENTS.iter().zip(expected) {
                    // A folder is never wholly here as far as names that are kept here go: it is copied instead.
                    if from == to || is_folder && *to == "kept~" {
                        continue;
                    }
                    let (moved, named) = (format!("{from}/moves"), format!("{to}/moves"));
                    made(moved.clone()).await;
                    assert_eq!(pin_of(&world, &moved).await, before);
                    world.rename(&moved, &named).await.unwrap();
                    let found = pin_of(&world, &named).await;
                    assert_eq!(found, result, "{own:?} from {from} to {to}, folder {is_folder}");
                    world.remove(&named).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_at_the_remote_in_a_pinned_folder_comes_by_itself() {
    let world = World::new().await;
    world.store.mkdir("docs").unwrap();
    world.store.put("docs/old", pattern(50_000, 1)).unwrap();
    set(&world, "docs", P).await;
    world
        .until("what was there is here", async || present(&world, "docs/old").await == 50_000)
        .await;
    world.store.mkdir("docs/deep").unwrap();
    world.store.put("docs/deep/new", pattern(60_000, 2)).unwrap();
    world
        .until("the new one came", async || present(&world, "docs/deep/new").await == 60_000)
        .await;
    world.store.put("docs/old", pattern(70_000, 3)).unwrap();
    world.until("the new version came", async || present(&world, "docs/old").await == 70_000).await;
    assert_eq!(pin_of(&world, "docs/deep/new").await, P);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_survives_a_save_that_replaces_the_file() {
    let world = World::new().await;
    world.write("doc", b"one").await;
    set(&world, "doc", P).await;
    world.write(".doc.new", b"two").await;
    world.rename(".doc.new", "doc").await.unwrap();
    assert_eq!(pin_of(&world, "doc").await, P);
}

/// S44 "A pin is durable: what it still lacks after a restart comes by itself."
#[tokio::test(flavor = "multi_thread")]
async fn what_a_pin_lacks_comes_after_a_restart() {
    let world = World::new().await;
    for number in 0..5 {
        world.store.put(&format!("docs/{number}"), pattern(50_000, number)).unwrap_or_else(|_| {
            world.store.mkdir("docs").unwrap();
            world.store.put(&format!("docs/{number}"), pattern(50_000, number)).unwrap()
        });
    }
    world.names("docs").await;
    world.store.set_online(false);
    set(&world, "docs", P).await;
    assert_eq!(present(&world, "docs/3").await, 0);
    let World { store, state, settings, engine, .. } = world;
    engine.stop().await;
    store.set_online(true);
    let world = World::start(store, state, settings).await;
    for number in 0..5 {
        let path = format!("docs/{number}");
        world.until("all of it is here", async || present(&world, &path).await == 50_000).await;
    }
}

async fn rule_files(world: &World, name: &str) -> (u64, u64, u64) {
    let rules = world.engine.pin_rules().await.unwrap();
    let rule = rules.iter().find(|rule| rule.name == name).unwrap();
    (rule.files, rule.size, rule.left_out)
}

/// S45 "A pin rule keeps here what fits it, the files changed last first and no more than its budget; what fits no longer may be
/// freed again."
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_pins_what_fits_as_far_as_its_budget_goes() {
    let world = World::new().await;
    for folder in ["docs", "docs/deep", "other"] {
        world.store.mkdir(folder).unwrap();
    }
    for (path, size) in [("docs/a.pdf", 40_000), ("docs/deep/b.pdf", 30_000), ("other/c.pdf", 9)] {
        world.store.put(path, pattern(size, 1)).unwrap();
    }
    world.store.put("docs/large.pdf", vec![1; 2 << 20]).unwrap();
    world.names("").await;
    let name =
        world.engine.add_pin_rule(None, "docs/**/*.pdf size<1M", Some(100_000)).await.unwrap();
    // Folders that the rule is about are listed although nobody looked into them.
    world.until("the rule knows both", async || rule_files(&world, &name).await.0 == 2).await;
    world.engine.add_pin_rule(Some(&name), "docs/**/*.pdf size<1M", Some(100_000)).await.unwrap();
    for (path, size) in [("docs/a.pdf", 40_000), ("docs/deep/b.pdf", 30_000)] {
        world.until("what fits is here", async || present(&world, path).await == size).await;
        assert_eq!(pin_of(&world, path).await, P);
    }
    assert_eq!(
        (present(&world, "docs/large.pdf").await, present(&world, "other/c.pdf").await),
        (0, 0)
    );
    let kept = world.engine.free(world.ino("docs/a.pdf").await, true).await;
    assert!(kept.is_ok());
    // A smaller budget lets go of one, and what people say counts for more.
    world.engine.add_pin_rule(Some(&name), "docs/**/*.pdf size<1M", Some(45_000)).await.unwrap();
    assert_eq!(rule_files(&world, &name).await.2, 1);
    let pins = [pin_of(&world, "docs/a.pdf").await, pin_of(&world, "docs/deep/b.pdf").await];
    assert!(pins == [P, U] || pins == [U, P], "{pins:?}");
    let world = world.restart().await;
    assert_eq!(world.engine.pin_rules().await.unwrap().len(), 1);
    world.engine.remove_pin_rule(&name).await.unwrap();
    for path in ["docs/a.pdf", "docs/deep/b.pdf"] {
        assert_eq!(pin_of(&world, path).await, U);
    }
    assert!(world.engine.add_pin_rule(None, "docs/** size<x", None).await.is_err());
}

/// A rule was said to pin files that were not pinned for half a minute more, and nothing said which rule pins a file.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_rule_pins_what_it_is_said_to_pin_and_the_file_names_the_rule() {
    let world = World::new().await;
    for path in ["a.txt", "b.pdf"] {
        world.store.put(path, pattern(6, 1)).unwrap();
    }
    // Nothing is listed yet, so nothing fits.
    world.engine.add_pin_rule(Some("few"), "*.txt", Some(100)).await.unwrap();
    world.engine.add_pin_rule(Some("texts"), "*.txt", None).await.unwrap();
    world.names("").await;
    world
        .until("the rule pins it", async || {
            let told = rule_files(&world, "texts").await.0;
            let pin = pin_of(&world, "a.txt").await;
            assert!(told == 0 || pin == P, "it is said, and not so");
            pin == P
        })
        .await;
    assert_eq!(rule_files(&world, "texts").await, (1, 6, 0));
    let rule =
        async |path: &str| world.engine.item_status(world.ino(path).await).await.unwrap().pin_rule;
    assert_eq!(rule("a.txt").await.as_deref(), Some("texts"), "not the one with a budget");
    assert_eq!(rule("b.pdf").await, None);
    world.engine.remove_pin_rule("texts").await.unwrap();
    assert_eq!(rule("a.txt").await.as_deref(), Some("few"));
    // What a person says of it counts, and no rule any more.
    set(&world, "a.txt", P).await;
    assert_eq!((rule("a.txt").await, pin_of(&world, "a.txt").await), (None, P));
}

/// Of two rules with a budget that both fit a file the first was named, also where its budget had left the file out.
#[tokio::test(flavor = "multi_thread")]
async fn regression_of_two_rules_with_budgets_the_one_is_named_that_pins_the_file() {
    let world = World::new().await;
    for path in ["a.txt", "b.txt", "large.txt"] {
        world.store.put(path, pattern(if path == "large.txt" { 5_000 } else { 600 }, 1)).unwrap();
    }
    world.names("").await;
    world.engine.add_pin_rule(Some("few"), "?.txt", Some(1_000)).await.unwrap();
    let rule =
        async |path: &str| world.engine.item_status(world.ino(path).await).await.unwrap().pin_rule;
    let (few, more) = (Some("few".to_owned()), Some("more".to_owned()));
    let is_a = pin_of(&world, "a.txt").await == P;
    let (within, left_out) = if is_a { ("a.txt", "b.txt") } else { ("b.txt", "a.txt") };
    assert_eq!((rule(within).await, rule(left_out).await), (few.clone(), None));
    world.engine.add_pin_rule(Some("more"), "*.txt", Some(10_000)).await.unwrap();
    assert_eq!((rule(within).await, rule(left_out).await), (few, more.clone()));
    assert_eq!(rule("large.txt").await, more, "its size alone is beyond the other's budget");
    // After a start that is found again.
    let world = world.restart().await;
    let named = async |path: &str| {
        let item = world.engine.item_status(world.ino(path).await).await.unwrap();
        item.pin_rule.as_deref() == Some("more")
    };
    world.until("it is named again", async || named(left_out).await).await;
    world.engine.remove_pin_rule("few").await.unwrap();
    assert!(named(within).await);
}

async fn hydrating(policy: Hydration) -> World {
    let settings = Settings { hydration: policy, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("big", pattern(9 << 20, 5)).unwrap();
    world.store.put("other", pattern(100_000, 6)).unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mount_brings_the_whole_file_before_the_first_read_returns() {
    let world = hydrating(Hydration::Full).await;
    let (big, handle) = world.open("big", READ).await;
    assert_eq!(present(&world, "big").await, 0, "opening fetches nothing");
    let piece = world.engine.read(big, handle, 5 << 20, 10).wait().await.unwrap();
    assert_eq!(piece, pattern(9 << 20, 5)[5 << 20..][..10]);
    assert_eq!(present(&world, "big").await, 9 << 20);
    world.engine.release(big, handle);
    assert_eq!(present(&world, "other").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progressive_mount_goes_on_while_the_file_is_open() {
    let world = hydrating(Hydration::Progressive).await;
    let (big, handle) = world.open("big", READ).await;
    world.engine.read(big, handle, 5 << 20, 10).wait().await.unwrap();
    world.until("the rest came", async || present(&world, "big").await == 9 << 20).await;
    world.engine.release(big, handle);
    assert_eq!(present(&world, "other").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_always_mount_brings_everything() {
    let world = hydrating(Hydration::Always).await;
    world.store.mkdir("folder").unwrap();
    world.store.put("folder/deep", pattern(50_000, 7)).unwrap();
    for (path, size) in [("big", 9 << 20), ("other", 100_000), ("folder/deep", 50_000)] {
        world.until("all is here", async || present(&world, path).await == size).await;
    }
    assert_eq!(pin_of(&world, "folder/deep").await, P);
    // What people say of an item counts for more.
    world.engine.free(world.ino("big").await, false).await.unwrap();
    assert_eq!((pin_of(&world, "big").await, present(&world, "big").await), (F, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_population_lists_everything_and_fetches_nothing() {
    let settings = Settings { population: Population::Full, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for folder in ["a", "a/b", "a/b/c"] {
        world.store.mkdir(folder).unwrap();
    }
    world.store.put("a/b/c/file", vec![1; 100_000]).unwrap();
    let listed = async |path: &[u8]| world.engine.resolve(path, false).await.is_ok();
    world.until("all names are here", async || listed(b"a/b/c/file").await).await;
    world.store.mkdir("a/new").unwrap();
    world.store.put("a/new/file", "x").unwrap();
    world.until("also what comes", async || listed(b"a/new/file").await).await;
    assert_eq!(world.engine.mount_status().await.unwrap().bytes_down, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_used_for_long_is_freed_and_what_is_pinned_is_not() {
    let settings = Settings { free_after: Some(Duration::from_secs(1)), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for name in ["read", "pinned"] {
        world.store.put(name, pattern(50_000, 1)).unwrap();
    }
    set(&world, "pinned", P).await;
    world.read("read").await.unwrap();
    world.write("written", b"not sent before it is freed").await;
    world.in_sync().await;
    world.until("the pin is here", async || present(&world, "pinned").await == 50_000).await;
    world
        .until("the other one is freed", async || {
            let item = world.engine.item_status(world.ino("read").await).await.unwrap();
            item.content == Content::Placeholder
        })
        .await;
    assert_eq!(present(&world, "pinned").await, 50_000);
    assert_eq!(world.content_there("read").unwrap().len(), 50_000);
    assert_ne!(world.ino("written").await, Ino::ROOT);
}

/// Many files that the remote does not give are not asked for all the time, and hold up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn regression_pinned_files_that_cannot_be_fetched_are_seldom_asked_for() {
    let world = World::new().await;
    world.store.mkdir("docs").unwrap();
    let path = |number: u8| format!("docs/{number}");
    for number in 0..20 {
        world.store.put(&path(number), pattern(20_000, number)).unwrap();
        let refused = Fault::Fail(ErrorKind::Denied);
        let rule = FaultRule::next(Operation::Read, refused);
        let path = RemotePath(vec![name("docs"), name(&number.to_string())]);
        world.store.inject(FaultRule { path: Some(path), times: u32::MAX, ..rule });
    }
    set(&world, "docs", P).await;
    let reads = || world.remote.counts().get(&Operation::Read).copied().unwrap_or(0);
    for round in 20..25 {
        world.store.put(&path(round), pattern(20_000, round)).unwrap();
        world
            .until("another one comes", async || present(&world, &path(round)).await == 20_000)
            .await;
    }
    assert!(reads() <= 5 + 2 * 20, "{} reads", reads());
    // A new version is no reason to wait, and when the remote gives them all come.
    world.store.put(&path(20), pattern(30_000, 1)).unwrap();
    world.until("the new version comes", async || present(&world, &path(20)).await == 30_000).await;
    world.store.heal();
    for number in 0..20 {
        let path = path(number);
        world.until("it comes", async || present(&world, &path).await == 20_000).await;
    }
}

/// What had been pinned a moment ago refused what takes its place, where counting takes long.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_is_unpinned_makes_room_for_what_is_pinned_next() {
    let settings = Settings { cache_size: 4 << 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for (name, seed) in [("big", 1), ("other", 2)] {
        world.store.put(name, pattern(3 << 20, seed)).unwrap();
    }
    set(&world, "big", P).await;
    world.until("it is here", async || present(&world, "big").await == 3 << 20).await;
    world.in_sync().await;
    // Counting so slowly, what it found is believed for ten seconds.
    let counts = std::sync::Arc::new(AtomicU64::new(0));
    let counting = counts.clone();
    let slow = move |place: &'static str| {
        if place == "pins: counting" {
            counting.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(1));
        }
        false
    };
    world.engine.on_crash_point(std::sync::Arc::new(slow));
    assert_eq!(world.engine.mount_status().await.unwrap().cache_pinned, 3 << 20);
    // Each reading of a large file asked, and counted anew. What is told late of what came is a change.
    let count = || counts.load(Ordering::Relaxed);
    world
        .until("nothing is counted while nothing changes", async || {
            let before = count();
            for _ in 0..3 {
                assert!(!world.engine.fits_beside_pinned(3 << 20).await.unwrap());
            }
            count() == before
        })
        .await;
    set(&world, "big", U).await;
    assert!(world.engine.fits_beside_pinned(3 << 20).await.unwrap());
    set(&world, "other", P).await;
    world.until("it comes", async || present(&world, "other").await == 3 << 20).await;
}
