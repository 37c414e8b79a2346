//! Crash anywhere: the process is killed at the k-th crash point, for every k, opened again (every third time killed once more
//! while it recovers), settled, and compared with what programs were told.
//!
//! Each try is a process of its own on a folder remote, so that death ends everything at once: the catalog's thread, writes
//! to data files, requests. `DEWFS_CRASH_SCENARIO` runs one scenario only.
#![cfg(debug_assertions)]

mod judge;
mod scenarios;
mod stage;

use crate::support::wait::{found_soon, holds_soon};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::tried;
use crate::support::world::{ME, READ, name, split};
use bytes::Bytes;
use dewfs::engine::{CrashHook, Engine, EngineError, OpenMode, RenameMode, Settings};
use dewfs::model::{Ino, Kind};
use dewfs::remote::folder::FolderRemote;
use judge::*;
use scenarios::*;
use stage::*;

/// Says what the child is to do: scenario, point to die at (0: none), directory, and `run` or `recover`.
const CHILD: &str = "DEWFS_CRASH_CHILD";
const PATIENCE: Duration = Duration::from_secs(20);

/// The process that dies. Without its variable it is no test at all.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    if std::env::var("DEWFS_LOG").is_ok() {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
        log.with_target(false).with_writer(std::io::stdout).with_ansi(false).init();
    }
    let words: Vec<&str> = order.splitn(4, ':').collect();
    let scenario = SCENARIOS.iter().find(|one| one.name == words[0]).unwrap();
    let passed = Arc::new(AtomicU64::new(0));
    let hook = deadly(words[1].parse().unwrap(), &passed, Path::new(words[3]));
    let stage = Stage { dir: words[3].into(), cache_size: room_for(scenario), hook };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let mut engine = stage.engine().await;
        if words[2] == "run" {
            for (number, op) in scenario.ops.iter().enumerate() {
                engine = act(&stage, engine, *op).await;
                stage.note(&format!("{number} {op:?}"));
            }
        }
        settle(&engine).await;
        engine.stop().await;
    });
    fs::write(stage.dir.join("passed"), passed.load(Ordering::SeqCst).to_string()).unwrap();
}

/// Runs the child; whether it died.
fn run_child(scenario: &str, at: u64, what: &str, dir: &Path) -> bool {
    let order = format!("{scenario}:{at}:{what}:{}", dir.display());
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture"])
        .env(CHILD, order)
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .status()
        .unwrap();
    let died = status.signal() == Some(9);
    let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
    assert!(died || status.success(), "{scenario} at {at}, {what}: {status}\n{}", log());
    died
}

fn one_try(scenario: &Scenario, at: u64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("remote");
    fs::create_dir(&root).unwrap();
    for (path, content) in scenario.before {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    let is_dead = run_child(scenario.name, at, "run", dir.path());
    if is_dead && at.is_multiple_of(3) {
        // Once more, while it recovers: at another point each time.
        run_child(scenario.name, at * 7 % 43 + 1, "recover", dir.path());
    }
    let quiet: CrashHook = Arc::new(|_| false);
    let stage = Stage { dir: dir.path().to_owned(), cache_size: room_for(scenario), hook: quiet };
    let told = stage.told();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let (here, there, wrong) = runtime.unwrap().block_on(async {
        let engine = stage.engine().await;
        let (mut here, mut there) = Default::default();
        // Who it was not is told by the judge.
        let _alike = holds_soon(PATIENCE, async || {
            settle(&engine).await;
            (here, there) = (local_tree(&engine).await, remote_tree(&root));
            here == there
        })
        .await;
        let wrong = engine.verify_cache().await.unwrap();
        engine.stop().await;
        (here, there, wrong)
    });
    let died = fs::read_to_string(dir.path().join("died")).unwrap_or_default();
    let what = format!("{} killed at {at}{died}, told {told}", scenario.name);
    assert_eq!(here, there, "{what}: here and there differ");
    assert!(wrong.is_empty(), "{what}: {wrong:?}");
    let own: Vec<_> = there.keys().filter(|path| path.contains(".dewfs-")).collect();
    assert!(own.is_empty(), "{what}: private names are left: {own:?}");
    let catalog = rusqlite::Connection::open(dir.path().join("state/catalog.db")).unwrap();
    let sound: String = catalog.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok", "{what}");
    if scenario.ops.iter().any(|op| matches!(op, Put(..) | Away(_))) {
        let contents: BTreeSet<String> = here.values().flatten().cloned().collect();
        for content in must_be_there(scenario, told) {
            let kept = contents.iter().any(|found| found.contains(content));
            assert!(kept, "{what}: {content:?} is lost, there is {here:#?}");
        }
    } else {
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(
            may_be(scenario, &here, told),
            "{what}: {here:?}, expected {:?}\n{log}",
            after(scenario, told),
        );
    }
    is_dead
}

/// How many points a run of the scenario passes.
fn points(scenario: &Scenario) -> u64 {
    let first = std::env::var("DEWFS_CRASH_FIRST").ok().and_then(|text| text.parse().ok());
    let mut at = first.unwrap_or(1);
    let mut most = 0;
    while one_try(scenario, at) {
        most = at;
        at += 1;
    }
    most
}

fn enumerate(name: &str) {
    if std::env::var("DEWFS_CRASH_SCENARIO").is_ok_and(|only| only != name) {
        return;
    }
    let scenario = SCENARIOS.iter().find(|one| one.name == name).unwrap();
    let died = points(scenario);
    println!("{name}: killed at {died} crash points, and once more at every third recovery");
    tried::tried(died, "crash points");
    assert!(died >= 20, "{name}: only {died} points");
}

macro_rules! enumerated {
    ($($test:ident $name:literal,)*) => {
        $(#[test]
        fn $test() {
            enumerate($name);
        })*

        #[test]
        fn every_scenario_is_enumerated() {
            let all: BTreeSet<&str> = SCENARIOS.iter().map(|one| one.name).collect();
            assert_eq!(all, BTreeSet::from([$($name),*]));
        }
    };
}

enumerated! {
    a_crash_anywhere_while_files_are_made "create",
    a_crash_anywhere_while_files_are_written "write",
    a_crash_anywhere_while_names_change "rename",
    a_crash_anywhere_while_files_are_replaced "replace",
    a_crash_anywhere_while_things_are_deleted "delete",
    a_crash_anywhere_while_content_comes "hydrate",
    a_crash_anywhere_while_content_goes "evict",
    a_crash_anywhere_while_parts_go_for_room "squeeze",
    a_crash_anywhere_in_a_conflict "conflict",
    a_crash_anywhere_while_folders_are_listed "listing",
    a_crash_anywhere_while_a_folder_moves "folder",
    a_crash_anywhere_over_restarts "restart",
}
