//! Random and known histories over the decisions alone: thousands in seconds, every one of them replayable.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod author;
mod cloud;
mod machine;
mod rules;
mod tree_rows;
mod world;

use author::{random, shrink};
use world::{PROFILES, Setup};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn explore(setup: Setup) -> usize {
    let (first, many) = match std::env::var("DEWFS_SEED") {
        Ok(seed) => (seed.parse().expect("a number"), 1),
        Err(_) => (0, number("DEWFS_MODEL_HISTORIES", 150)),
    };
    let mut failures = 0;
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for seed in first..first + many {
        let steps = 20 + usize::try_from(seed % 40).unwrap();
        let Some((history, why)) = random(setup, seed, steps, 0.03) else { continue };
        failures += 1;
        if failures <= 2 {
            println!("profile {} DEWFS_SEED={seed}: {why}", setup.name);
            for event in shrink(setup, history) {
                println!("    {event}");
            }
        }
    }
    std::panic::set_hook(loud);
    println!("profile {}: {failures} of {many} histories failed", setup.name);
    failures
}

#[test]
fn random_histories_converge_and_lose_nothing() {
    let only = std::env::var("DEWFS_PROFILE").ok();
    let chosen = |setup: &&Setup| only.as_deref().is_none_or(|name| setup.name == name);
    let failures: usize = PROFILES.iter().filter(chosen).map(|setup| explore(*setup)).sum();
    assert_eq!(failures, 0);
}
