//! Random and known histories over the decisions alone: thousands in seconds, every one of them replayable.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

mod author;
mod cloud;
mod hidden;
mod machine;
mod rules;
mod tree_rows;
#[path = "../../../tests/support/tried.rs"]
mod tried;
mod unseen;
mod world;

use author::{random, shrink};
use world::{PROFILES, Setup};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs the histories of one profile; what to say of them, and how many failed and were run.
fn explore(setup: Setup) -> (String, usize, u64) {
    let (first, many) = match std::env::var("DEWFS_SEED") {
        Ok(seed) => (seed.parse().expect("a number"), 1),
        Err(_) => (number("DEWFS_FIRST", 0), number("DEWFS_MODEL_HISTORIES", 1000)),
    };
    let (mut failures, mut told) = (0, String::new());
    for seed in first..first + many {
        let steps = 20 + usize::try_from(seed % 40).unwrap();
        let Some((history, why)) = random(setup, seed, steps, 0.03) else { continue };
        failures += 1;
        if failures <= 2 {
            told += &format!("profile {} DEWFS_SEED={seed}: {why}\n", setup.name);
            for event in shrink(setup, history) {
                told += &format!("    {event}\n");
            }
        }
    }
    told += &format!("profile {}: {failures} of {many} histories failed", setup.name);
    (told, failures, many)
}

#[test]
fn random_histories_converge_and_lose_nothing() {
    let only = std::env::var("DEWFS_PROFILE").ok();
    let chosen = |setup: &&Setup| only.as_deref().is_none_or(|name| setup.name == name);
    let waiting = std::sync::Mutex::new(PROFILES.iter().filter(chosen).collect::<Vec<_>>());
    let (failures, run) = (AtomicUsize::new(0), AtomicU64::new(0));
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(setup) = waiting.lock().map(|mut left| left.pop()).unwrap() {
                    let (told, failed, many) = explore(*setup);
                    println!("{told}");
                    failures.fetch_add(failed, Ordering::Relaxed);
                    run.fetch_add(many, Ordering::Relaxed);
                }
            });
        }
    });
    std::panic::set_hook(loud);
    tried::tried(run.into_inner(), "histories of the rules");
    assert_eq!(failures.into_inner(), 0);
}
