//! The sync machine: users, somebody else at the remote, lost requests and answers, crashes, over the real engine. At rest
//! every tree is the same and every acknowledged content is there, or was replaced or removed by somebody who saw it.
//!
//! `DEWFS_SEED` replays one history, `DEWFS_HISTORIES` says how many are run of each profile, `DEWFS_PROFILE` which one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::needless_pass_by_value)]

#[path = "../support/mod.rs"]
mod support;

mod ledger;
mod machine;
mod others;
mod profile;
mod rest;
mod verbs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dewfs::engine::{EngineError, Handle, RenameMode, SetAttributes, Settings, SyncState};
use dewfs::model::{Content, Ino, Kind};
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{
    Fault, Gate, HintFaults, MemoryOptions, MemoryStore, Moment, Operation, RandomFaults,
    VersionKind,
};
use dewfs::remote::{Conditional, FeedKind};
use fastrand::Rng;
use futures_util::FutureExt as _;
use support::world::{ME, READ, WRITE, World, name, split};

use ledger::{label, note_version};
use profile::{PROFILES, settings};

/// How long a history may take to come to rest.
const REST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Profile {
    name: &'static str,
    engines: usize,
    actor: f64,
    faults: u32,
    crashes: f64,
    ids: bool,
    versions: VersionKind,
    conditional: Conditional,
    saves: bool,
    hints: HintFaults,
    expire: bool,
    feed: FeedKind,
    /// Some names are kept local only.
    excludes: bool,
    /// Files are held open over several steps.
    handles: bool,
    /// Names are exchanged, and files that are not here are written in part.
    editors: bool,
}

/// Is a file held open over several steps.
struct Held {
    who: usize,
    ino: Ino,
    handle: Handle,
    writer: bool,
    /// What was in it when it was opened to be read.
    content: Option<Vec<u8>>,
}

/// Who wrote which content over which, and what was destroyed by somebody who saw it.
#[derive(Default)]
struct Ledger {
    children: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    gone: HashSet<Vec<u8>>,
    acknowledged: Vec<Vec<u8>>,
    /// Versions overwritten (by this content) or removed unread: whatever they stand for.
    blind: Vec<(String, Option<Vec<u8>>)>,
}

struct Machine {
    profile: Profile,
    rng: Rng,
    store: Arc<MemoryStore>,
    worlds: Vec<Option<World>>,
    ledger: Ledger,
    /// Which content each version at the remote is.
    versions: Arc<Mutex<HashMap<String, Vec<Vec<u8>>>>>,
    contents: u64,
    history: Vec<String>,
    dying: Arc<AtomicBool>,
    /// A user hit something else than they looked at: nobody can tell what they meant to destroy.
    unsure: bool,
    held: Vec<Held>,
}

/// Runs one history; why it failed, if it did.
async fn run(profile: Profile, seed: u64) -> Result<(), String> {
    let mut machine = Machine::new(profile, seed).await;
    let outcome = std::panic::AssertUnwindSafe(async {
        let steps = 10 + seed % 25;
        machine.faults(true);
        for _ in 0..steps {
            machine.event().await;
        }
        machine.finish().await;
    })
    .catch_unwind()
    .await;
    for world in machine.worlds.iter().flatten() {
        world.engine.stop().await;
    }
    let Err(error) = outcome else { return Ok(()) };
    let text = error.downcast_ref::<String>().cloned();
    let text = text.or_else(|| error.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let history = machine.history.join("\n    ");
    Err(format!(
        "profile {} DEWFS_SEED={seed}\n    {history}\n{}",
        profile.name,
        text.unwrap_or_default()
    ))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// S8 "Equal content is no conflict, and with no other writer there is never a conflict copy."
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn random_histories_come_to_rest_with_nothing_lost() {
    let only = std::env::var("DEWFS_PROFILE").ok();
    if std::env::var("DEWFS_LOG").is_ok() {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
        log.with_target(false).with_writer(std::io::stdout).with_ansi(false).init();
    }
    let replayed = number("DEWFS_SEED").is_some();
    let first = number("DEWFS_SEED").or(number("DEWFS_FIRST")).unwrap_or(0);
    let repeat = number("DEWFS_REPEAT").unwrap_or(1);
    let many = if replayed { repeat } else { number("DEWFS_HISTORIES").unwrap_or(4) };
    // Most of a history is waiting for the real clock: many run side by side.
    let room = Arc::new(tokio::sync::Semaphore::new(24));
    let mut runs = Vec::new();
    for profile in PROFILES.iter().filter(|p| only.as_deref().is_none_or(|only| only == p.name)) {
        for number in 0..many {
            let seed = if replayed { first } else { first + number };
            let room = room.clone();
            let run = async move {
                let _room = room.acquire_owned().await;
                run(*profile, seed).await
            };
            runs.push((profile.name, tokio::spawn(run)));
        }
    }
    let mut failures = Vec::new();
    let mut bad: BTreeMap<&str, u64> = runs.iter().map(|(name, _)| (*name, 0)).collect();
    for (profile, run) in runs {
        if let Err(why) = run.await.unwrap() {
            *bad.get_mut(profile).unwrap() += 1;
            failures.push(why);
        }
    }
    let count = many * bad.len() as u64;
    println!("{count} histories from seed {first} on; failed of each profile: {bad:?}");
    assert!(
        failures.is_empty(),
        "{}",
        failures.iter().take(4).cloned().collect::<Vec<_>>().join("\n\n")
    );
}
