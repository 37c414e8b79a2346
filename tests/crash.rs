//! Crash anywhere: the process is killed at the k-th crash point, for every k, opened again (every third time killed once more
//! while it recovers), settled, and compared with what programs were told.
//!
//! Each try is a process of its own on a folder remote, so that death ends everything at once: the catalog's thread, writes
//! to data files, requests. `DEWFS_CRASH_SCENARIO` runs one scenario only.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dewfs::engine::{CrashHook, Engine, EngineError, OpenMode, RenameMode, Settings};
use dewfs::model::{Ino, Kind};
use dewfs::remote::folder::FolderRemote;
use support::world::{ME, READ, name, split};

/// Says what the child is to do: scenario, point to die at (0: none), directory, and `run` or `recover`.
const CHILD: &str = "DEWFS_CRASH_CHILD";
const PATIENCE: Duration = Duration::from_secs(20);

/// Is one thing that a program, or somebody at the remote, does.
#[derive(Clone, Copy, Debug)]
enum Op {
    Write(&'static str, &'static str),
    Append(&'static str, &'static str),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    MakeFolder(&'static str),
    Read(&'static str),
    Free(&'static str),
    /// Everything is in sync.
    Settle,
    /// The engine ends in good order and starts again.
    Restart,
    /// Somebody else writes at the remote.
    Put(&'static str, &'static str),
    /// Somebody else removes at the remote.
    Away(&'static str),
}
use Op::{Append, Away, Free, MakeFolder, Put, Read, Remove, Rename, Restart, Settle, Write};

struct Scenario {
    name: &'static str,
    before: &'static [(&'static str, &'static str)],
    ops: &'static [Op],
}

const TREE: &[(&str, &str)] =
    &[("a", "a at first"), ("d/one", "one"), ("d/two", "two"), ("d/e/deep", "deep"), ("z", "zz")];

/// A few blocks of content.
const BIG: &str = include_str!("../Cargo.lock");
/// Room for one such file and a half.
const LITTLE: u64 = BIG.len() as u64 * 3 / 2;

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "create",
        before: &[],
        ops: &[
            Write("new", "new"),
            MakeFolder("n"),
            Write("n/in", "in it"),
            Settle,
            Write("b", ""),
        ],
    },
    Scenario {
        name: "write",
        before: TREE,
        ops: &[Write("a", "second"), Settle, Append("a", " and more"), Append("d/one", " longer")],
    },
    Scenario {
        name: "rename",
        before: TREE,
        ops: &[
            Rename("a", "b"),
            Settle,
            Rename("b", "d/b"),
            Write("d/b", "edited"),
            Rename("z", "a"),
        ],
    },
    Scenario {
        name: "replace",
        before: TREE,
        ops: &[
            Write(".t", "saved once"),
            Rename(".t", "a"),
            Settle,
            Write(".t", "saved twice"),
            Settle,
            Rename(".t", "a"),
            Rename("d/one", "d/two"),
        ],
    },
    Scenario {
        name: "delete",
        before: TREE,
        ops: &[
            Remove("a"),
            Remove("d/e/deep"),
            Remove("d/e"),
            Settle,
            Write("d/one", "x"),
            Remove("d/one"),
            Write("d/one", "again"),
        ],
    },
    Scenario {
        name: "hydrate",
        before: TREE,
        ops: &[Read("a"), Read("d/e/deep"), Append("d/two", "!"), Settle, Read("d/two")],
    },
    Scenario {
        name: "evict",
        before: TREE,
        ops: &[
            Read("a"),
            Write("z", "edited"),
            Settle,
            Free("a"),
            Free("z"),
            Read("a"),
            Append("z", " anew"),
            Free("a"),
        ],
    },
    Scenario {
        name: "squeeze",
        before: &[("big", BIG), ("other", BIG), ("a", "a at first")],
        ops: &[
            Read("big"),
            Read("other"),
            Settle,
            Read("big"),
            Append("other", "!"),
            Read("a"),
            Settle,
            Read("big"),
            Read("other"),
        ],
    },
    Scenario {
        name: "conflict",
        before: TREE,
        ops: &[
            Read("a"),
            Put("a", "theirs"),
            Append("a", " ours"),
            Settle,
            Put("d/one", "theirs too"),
            Remove("d/one"),
            Away("d/two"),
            Append("d/two", " kept"),
        ],
    },
    Scenario {
        name: "listing",
        before: TREE,
        ops: &[
            Read("d/e/deep"),
            Put("d/e/more", "more"),
            Away("d/one"),
            Put("f/new", "new there"),
            Settle,
            Read("d/e/more"),
        ],
    },
    Scenario {
        name: "folder",
        before: TREE,
        ops: &[
            Rename("d", "moved"),
            Write("moved/one", "edited in it"),
            MakeFolder("d"),
            Settle,
            Rename("moved/e", "d/e"),
            Remove("moved/one"),
        ],
    },
    Scenario {
        name: "restart",
        before: TREE,
        ops: &[
            Write("a", "pending"),
            Rename("z", "y"),
            Remove("d/one"),
            Restart,
            Append("a", " still"),
            Restart,
            Write("new", "late"),
        ],
    },
];

type Tree = BTreeMap<String, Option<String>>;

fn settings() -> Settings {
    Settings {
        write_back_delay: Duration::from_millis(2),
        poll: Duration::from_millis(30),
        timeout: Duration::from_secs(5),
        requests: 100_000,
        guard: 0,
        ..Settings::default()
    }
}

/// Dies at the k-th point that is passed.
fn deadly(at: u64, passed: &Arc<AtomicU64>, dir: &Path) -> CrashHook {
    let (passed, grave) = (passed.clone(), dir.join("died"));
    Arc::new(move |place| {
        if passed.fetch_add(1, Ordering::SeqCst) + 1 == at {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&grave).unwrap();
            write!(file, " [{place}]").unwrap();
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
        false
    })
}

fn room_for(scenario: &Scenario) -> u64 {
    if scenario.name == "squeeze" { LITTLE } else { Settings::default().cache_size }
}

struct Stage {
    dir: PathBuf,
    cache_size: u64,
    hook: CrashHook,
}

impl Stage {
    async fn engine(&self) -> Engine {
        let remote = Arc::new(FolderRemote::open(&self.dir.join("remote")).unwrap());
        let state = self.dir.join("state");
        let settings = Settings { cache_size: self.cache_size, ..settings() };
        Engine::start_hooked(settings, &state, remote, self.hook.clone()).await.unwrap()
    }

    /// Notes what was acknowledged; what a killed process wrote stays.
    fn note(&self, line: &str) {
        let path = self.dir.join("told");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    fn told(&self) -> usize {
        fs::read_to_string(self.dir.join("told")).unwrap_or_default().lines().count()
    }
}

async fn ino(engine: &Engine, path: &str) -> Ino {
    engine.resolve(path.as_bytes(), true).await.unwrap()
}

async fn write(engine: &Engine, path: &str, content: &str, append: bool) {
    let (folder, last) = split(path);
    let parent = ino(engine, folder).await;
    let mode = OpenMode { read: true, write: true, truncate: !append, append, ..READ };
    let data = Bytes::copy_from_slice(content.as_bytes());
    let (stat, opened) = loop {
        let (stat, opened) = match engine.create(parent, name(last), 0o644, mode, ME).wait().await {
            // It went at the remote just now: the kernel looks the name up again.
            Err(EngineError::Stale) => continue,
            other => other.unwrap(),
        };
        if data.is_empty() {
            break (stat, opened);
        }
        match engine.write(stat.ino, opened.handle, 0, data.clone(), append).wait().await {
            // What is to be appended to went before it was here: the program is told, and tries again.
            Err(EngineError::Stale) => engine.release(stat.ino, opened.handle),
            other => {
                other.unwrap();
                break (stat, opened);
            }
        }
    };
    engine.flush(stat.ino, opened.handle).wait().await.unwrap();
    engine.release(stat.ino, opened.handle);
}

async fn read(engine: &Engine, at: Ino) -> Option<String> {
    let opened = engine.open(at, READ).wait().await.ok()?;
    let bytes = engine.read(at, opened.handle, 0, 1 << 20).wait().await;
    engine.release(at, opened.handle);
    Some(String::from_utf8_lossy(&bytes.ok()?).into_owned())
}

async fn settle(engine: &Engine) {
    let end = Instant::now() + PATIENCE;
    loop {
        engine.sync_now(Ino::ROOT).await.unwrap();
        let done = engine.wait_in_sync(Ino::ROOT, Some(Duration::from_secs(1))).await;
        if matches!(done, Ok(true)) {
            return;
        }
        assert!(Instant::now() < end, "no rest: {:#?}", engine.pending(Ino::ROOT, 9).await);
    }
}

/// Does one op; a restart gives another engine.
async fn act(stage: &Stage, mut engine: Engine, op: Op) -> Engine {
    match op {
        Write(path, content) => write(&engine, path, content, false).await,
        Append(path, content) => write(&engine, path, content, true).await,
        Rename(from, to) => {
            let ((from, old), (to, new)) = (split(from), split(to));
            let (from, to) = (ino(&engine, from).await, ino(&engine, to).await);
            let renamed = engine.rename(from, &name(old), to, name(new), RenameMode::Replace);
            renamed.wait().await.unwrap();
        }
        Remove(path) => {
            let (folder, last) = split(path);
            let parent = ino(&engine, folder).await;
            let stat = engine.lookup(parent, &name(last)).wait().await.unwrap();
            match stat.kind {
                Kind::Folder => engine.remove_folder(parent, &name(last)).wait().await.unwrap(),
                _ => engine.unlink(parent, &name(last)).wait().await.unwrap(),
            }
        }
        MakeFolder(path) => {
            let (folder, last) = split(path);
            let parent = ino(&engine, folder).await;
            engine.make_folder(parent, name(last), 0o755, ME).wait().await.unwrap();
        }
        Read(path) => {
            let at = ino(&engine, path).await;
            assert!(read(&engine, at).await.is_some(), "cannot read {path}");
        }
        Free(path) => drop(engine.free(ino(&engine, path).await, false).await.unwrap()),
        Settle => settle(&engine).await,
        Restart => {
            engine.stop().await;
            engine = stage.engine().await;
        }
        Put(path, content) => {
            let at = stage.dir.join("remote").join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            let temp = stage.dir.join("put");
            fs::write(&temp, content).unwrap();
            fs::rename(temp, at).unwrap();
        }
        Away(path) => fs::remove_file(stage.dir.join("remote").join(path)).unwrap(),
    }
    engine
}

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
        .args(["--exact", "child", "--nocapture"])
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

/// The tree after the first ops, as if nobody else was there.
fn after(scenario: &Scenario, ops: usize) -> Tree {
    let mut tree = Tree::new();
    let put = |tree: &mut Tree, path: &str, content: Option<String>| {
        let mut above = path;
        while let Some((folder, _)) = above.rsplit_once('/') {
            tree.entry(folder.to_owned()).or_insert(None);
            above = folder;
        }
        tree.insert(path.to_owned(), content);
    };
    for (path, content) in scenario.before {
        put(&mut tree, path, Some((*content).to_owned()));
    }
    for op in scenario.ops.iter().take(ops) {
        match *op {
            Write(path, content) | Put(path, content) => {
                put(&mut tree, path, Some(content.to_owned()));
            }
            Append(path, content) => {
                let old = tree.get(path).cloned().flatten().unwrap_or_default();
                put(&mut tree, path, Some(old + content));
            }
            MakeFolder(path) => put(&mut tree, path, None),
            Remove(path) | Away(path) => drop(tree.remove(path)),
            Rename(from, to) => {
                let below = format!("{from}/");
                let moved: Vec<String> =
                    tree.keys().filter(|p| *p == from || p.starts_with(&below)).cloned().collect();
                for path in moved {
                    let content = tree.remove(&path).unwrap();
                    tree.insert(path.replacen(from, to, 1), content);
                }
            }
            Read(_) | Free(_) | Settle | Restart => {}
        }
    }
    tree
}

fn remote_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Who is killed while it tries out the file system leaves that file; it is hidden, and goes after a minute.
            if path.to_string_lossy().contains("/.dewfs-tmp.probe.") {
                continue;
            }
            let text = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
                tree.insert(text, None);
            } else {
                tree.insert(text, Some(fs::read_to_string(&path).unwrap()));
            }
        }
    }
    tree
}

async fn local_tree(engine: &Engine) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![Ino::ROOT];
    while let Some(folder) = folders.pop() {
        // What goes while it is looked at is not there: whoever compares looks again.
        for item in engine.folder_status(folder, true).await.unwrap_or_default() {
            let path = String::from_utf8(item.path.clone()).unwrap();
            let Ok(at) = engine.resolve(&item.path, false).await else { continue };
            if item.kind == Kind::Folder {
                folders.push(at);
                tree.insert(path, None);
            } else {
                tree.insert(path, Some(read(engine, at).await.unwrap_or("unreadable".into())));
            }
        }
    }
    tree
}

/// Whether this tree may be, if `told` ops were acknowledged and the next one was perhaps begun.
fn may_be(scenario: &Scenario, tree: &Tree, told: usize) -> bool {
    if [told, told + 1].iter().any(|ops| after(scenario, *ops) == *tree) {
        return true;
    }
    // A write that was not acknowledged may have left the old, an empty, a part of the new, or no file.
    let Some(Write(path, content) | Append(path, content)) = scenario.ops.get(told) else {
        return false;
    };
    let (mut without, mut expected) = (tree.clone(), after(scenario, told));
    let (found, before) = (without.remove(*path).flatten(), expected.remove(*path).flatten());
    let whole = before.clone().unwrap_or_default() + content;
    let part =
        |found: &String| content.starts_with(found.as_str()) || whole.starts_with(found.as_str());
    without == expected
        && (found.is_none() == before.is_none() || found.is_some())
        && found.iter().all(part)
}

/// What somebody was told is safe, by whom it was written, and nobody replaced or removed since.
fn must_be_there(scenario: &Scenario, told: usize) -> BTreeSet<&'static str> {
    let mut safe: Vec<(&str, &str)> = scenario.before.to_vec();
    for (number, op) in scenario.ops.iter().take(told + 1).enumerate() {
        let is_told = number < told;
        match *op {
            Write(path, content) => {
                safe.retain(|(at, _)| *at != path);
                safe.extend(is_told.then_some((path, content)));
            }
            Put(path, content) => {
                safe.retain(|(at, _)| *at != path);
                safe.extend(is_told.then_some((path, content)));
            }
            Append(path, content) => safe.extend(is_told.then_some((path, content))),
            Remove(path) | Away(path) => safe.retain(|(at, _)| *at != path),
            _ => {}
        }
    }
    safe.into_iter().map(|(_, content)| content).collect()
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
        let end = Instant::now() + PATIENCE;
        let (mut here, mut there);
        loop {
            settle(&engine).await;
            (here, there) = (local_tree(&engine).await, remote_tree(&root));
            if here == there || Instant::now() > end {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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
    support::tried::tried(died, "crash points");
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
