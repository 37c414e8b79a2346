//! Runs histories side by side, and shrinks those that fail.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use tokio::sync::Semaphore;

use super::*;

/// Histories side by side: most of one is waiting for the real clock.
const AT_ONCE: usize = 64;
/// How long a history may take to come to rest, when many run and while one is shrunk.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(8);
/// Steps for one inode in one life of an engine, at most: a dozen or so is usual. What goes round and round until chance ends it
/// makes hundreds in a moment.
const MOST_STEPS: u32 = 60;
/// How many of those that fail are shrunk and shown.
const SHOWN: usize = 2;
/// How often a shorter history is tried before it counts as one that does not fail: threads interleave anew each time.
const TRIES: usize = 4;

/// In how many a user met another file than they had looked at, so that nobody can tell whether anything was lost.
pub(super) static UNSURE: AtomicU64 = AtomicU64::new(0);

/// Where remotes and state directories are: in memory, if there is room, since nothing here is about disks.
pub(super) fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let room = rustix::fs::statvfs(&memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if room > 1 << 30 { memory } else { std::env::temp_dir() }
}

/// Runs these events; why they failed, and what happened until then.
async fn events(
    profile: Profile,
    seed: u64,
    script: &[Event],
    patience: Duration,
) -> Result<(), String> {
    let mut machine = Machine::new(profile, seed, script, patience).await;
    let outcome = AssertUnwindSafe(async {
        for event in script {
            machine.say(event.to_string());
            machine.event(event).await;
        }
        machine.finish().await;
    })
    .catch_unwind()
    .await;
    let mut most = 0;
    for desk in machine.desks.iter().flatten() {
        most = most.max(desk.engine.most_steps());
        desk.engine.stop().await;
    }
    let goes_round = format!("something goes round and round: {most} steps for one inode");
    let outcome = match outcome {
        Ok(()) if most > MOST_STEPS => Err(Box::new(goes_round) as Box<dyn Any + Send>),
        other => other,
    };
    let Err(error) = outcome else { return Ok(()) };
    let text = error.downcast_ref::<String>().cloned();
    let text = text.or_else(|| error.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Err(format!(
        "    {}\n{}",
        machine.history.lock().unwrap().join("\n    "),
        text.unwrap_or_default()
    ))
}

/// One of the events numbered so, as long as some part of them still fails.
async fn shrink(profile: Profile, seed: u64, first: String) -> (Vec<usize>, String) {
    let script = Author::script(profile, seed);
    let mut keep: Vec<usize> = (0..script.len()).collect();
    let mut why = first;
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut size = keep.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < keep.len() && tokio::time::Instant::now() < end {
            let mut fewer = keep.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            let part: Vec<Event> = fewer.iter().map(|number| script[*number].clone()).collect();
            let tries = (0..TRIES).map(|_| events(profile, seed, &part, SHORT));
            let failed =
                futures_util::future::join_all(tries).await.into_iter().find_map(Result::err);
            match failed {
                Some(failure) => (keep, why) = (fewer, failure),
                None => at += size,
            }
        }
        size /= 2;
    }
    (keep, why)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// What is to be run: profile and seed.
fn chosen() -> Vec<(Profile, u64)> {
    let only = std::env::var("DEWFS_PROFILE").ok();
    let is_chosen = |p: &&Profile| match only.as_deref() {
        Some(only) => only == p.name,
        None => p.share > 0,
    };
    let profiles: Vec<&Profile> = PROFILES.iter().filter(is_chosen).collect();
    let first = number("DEWFS_SEED").or(number("DEWFS_FIRST")).unwrap_or(0);
    if number("DEWFS_SEED").is_some() {
        let repeat = number("DEWFS_REPEAT").unwrap_or(1);
        let again =
            |profile: &&Profile| (0..repeat).map(|_| (**profile, first)).collect::<Vec<_>>();
        return profiles.iter().flat_map(again).collect();
    }
    let many = number("DEWFS_HISTORIES").unwrap_or(1000);
    let shares: u64 = profiles.iter().map(|profile| profile.share.max(1)).sum();
    let mut all = Vec::new();
    for profile in profiles {
        let count = (many * profile.share.max(1)).div_ceil(shares);
        all.extend((first..first + count).map(|seed| (*profile, seed)));
    }
    // Long ones are spread, and a run that is cut short has something of everything.
    all.sort_by_key(|(_, seed)| *seed);
    all
}

fn script(profile: Profile, seed: u64) -> Vec<Event> {
    let script = Author::script(profile, seed);
    let Ok(keep) = std::env::var("DEWFS_KEEP") else { return script };
    let keep = keep.split(',').filter_map(|number| number.parse::<usize>().ok());
    keep.filter_map(|number| script.get(number).cloned()).collect()
}

/// S8 "Equal content is no conflict, and with no other writer there is never a conflict copy."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_come_to_rest_with_nothing_lost() {
    if std::env::var("DEWFS_LOG").is_ok() {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
        log.with_target(false).with_writer(std::io::stdout).with_ansi(false).init();
    }
    let all = chosen();
    let mut bad: BTreeMap<&str, u64> = all.iter().map(|(profile, _)| (profile.name, 0)).collect();
    let (count, room) = (
        all.len(),
        Arc::new(Semaphore::new(number("DEWFS_AT_ONCE").map_or(AT_ONCE, |n| n as usize))),
    );
    let begun = std::time::Instant::now();
    let mut failures = Vec::new();
    let mut runs = tokio::task::JoinSet::new();
    for (profile, seed) in all {
        let room = room.clone().acquire_owned().await;
        runs.spawn(async move {
            let _room = room;
            (profile, seed, events(profile, seed, &script(profile, seed), LONG).await)
        });
        while let Some(done) = runs.try_join_next() {
            failures.extend(failed(done.unwrap()));
        }
    }
    while let Some(done) = runs.join_next().await {
        failures.extend(failed(done.unwrap()));
    }
    failures.iter().for_each(|(profile, _, _)| *bad.get_mut(profile.name).unwrap() += 1);
    let seconds = begun.elapsed().as_secs();
    let unsure = UNSURE.load(Ordering::Relaxed);
    println!("{count} histories in {seconds} s, {unsure} unsure; failed of each profile: {bad:?}");
    support::tried::tried(count as u64, "histories of syncing");
    let mut told = Vec::new();
    for (profile, seed, why) in failures.iter().take(SHOWN).cloned() {
        let (keep, why) = match number("DEWFS_SEED") {
            Some(_) => (Vec::new(), why),
            None => shrink(profile, seed, why).await,
        };
        let keep: Vec<String> = keep.iter().map(usize::to_string).collect();
        let (name, keep) = (profile.name, keep.join(","));
        told.push(format!("DEWFS_PROFILE={name} DEWFS_SEED={seed} DEWFS_KEEP={keep}\n{why}"));
    }
    let seeds: Vec<_> = failures.iter().map(|(profile, seed, _)| (profile.name, *seed)).collect();
    // The seeds first and last: of long outputs often only an end is kept.
    assert!(failures.is_empty(), "{seeds:?}\n{}\n\n{seeds:?}", told.join("\n\n"));
}

/// Says at once which seed failed: who has not the patience for the rest can replay it.
fn failed(
    (profile, seed, outcome): (Profile, u64, Result<(), String>),
) -> Option<(Profile, u64, String)> {
    let why = outcome.err()?;
    println!("failed: DEWFS_PROFILE={} DEWFS_SEED={seed}", profile.name);
    Some((profile, seed, why))
}
