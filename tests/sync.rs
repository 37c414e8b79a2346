//! The sync machine: users, somebody else at the remote, lost requests and answers, crashes, over the real engine. At rest
//! every tree is the same and every acknowledged content is there, or was replaced or removed by somebody who saw it.
//!
//! `DEWFS_SEED` replays one history, `DEWFS_HISTORIES` says how many are run of each profile, `DEWFS_PROFILE` which one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::needless_pass_by_value)]

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dewfs::engine::{EngineError, RenameMode, SetAttributes, Settings};
use dewfs::model::{Content, Ino, Kind};
use dewfs::remote::Conditional;
use dewfs::remote::ErrorKind;
use dewfs::remote::memory::{
    Fault, Gate, HintFaults, MemoryOptions, MemoryStore, Moment, Operation, RandomFaults,
    VersionKind,
};
use fastrand::Rng;
use futures_util::FutureExt as _;
use support::world::{ME, READ, WRITE, World, name, split};

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
}

const PLAIN: Profile = Profile {
    name: "plain",
    engines: 1,
    actor: 0.3,
    faults: 0,
    crashes: 0.0,
    ids: false,
    versions: VersionKind::Unique,
    conditional: Conditional::Atomic,
    saves: false,
    hints: HintFaults { duplicate: 0, reorder: 0, drop: 0 },
    expire: false,
};

const PROFILES: &[Profile] = &[
    PLAIN,
    Profile { name: "quiet", actor: 0.0, faults: 60, ..PLAIN },
    Profile { name: "quietcrash", actor: 0.0, faults: 30, crashes: 0.06, ..PLAIN },
    Profile { name: "saves", actor: 0.0, saves: true, faults: 40, ..PLAIN },
    Profile { name: "faults", faults: 80, ..PLAIN },
    Profile { name: "crash", faults: 30, crashes: 0.08, ..PLAIN },
    Profile { name: "ids", ids: true, faults: 20, ..PLAIN },
    Profile { name: "idscrash", ids: true, faults: 30, crashes: 0.06, ..PLAIN },
    Profile {
        name: "hints",
        hints: HintFaults { duplicate: 200, reorder: 300, drop: 0 },
        expire: true,
        ..PLAIN
    },
    Profile { name: "coarse", versions: VersionKind::TickAndIdentity, ..PLAIN },
    Profile { name: "weak", conditional: Conditional::Checked, ..PLAIN },
    Profile { name: "two", engines: 2, actor: 0.1, faults: 20, ..PLAIN },
    Profile { name: "twoids", engines: 2, actor: 0.1, ids: true, crashes: 0.04, ..PLAIN },
];

/// Who wrote which content over which, and what was destroyed by somebody who saw it.
#[derive(Default)]
struct Ledger {
    children: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    gone: HashSet<Vec<u8>>,
    acknowledged: Vec<Vec<u8>>,
    /// Versions overwritten (by this content) or removed unread: whatever they stand for.
    blind: Vec<(String, Option<Vec<u8>>)>,
}

impl Ledger {
    fn wrote(&mut self, content: &[u8], over: impl IntoIterator<Item = Vec<u8>>) {
        self.acknowledged.push(content.to_vec());
        for over in over {
            self.children.entry(over).or_default().push(content.to_vec());
        }
    }

    fn lost(&self, present: &HashSet<Vec<u8>>) -> Vec<String> {
        let mut alive: HashSet<&Vec<u8>> = present.union(&self.gone).collect();
        loop {
            let before = alive.len();
            for (parent, children) in &self.children {
                if children.iter().any(|child| alive.contains(child)) {
                    alive.insert(parent);
                }
            }
            if alive.len() == before {
                break;
            }
        }
        let lost = self.acknowledged.iter().filter(|content| !alive.contains(content));
        lost.map(|content| label(content)).collect()
    }
}

/// The word that a content begins with.
fn label(content: &[u8]) -> String {
    String::from_utf8_lossy(content.split(|b| *b == b' ').next().unwrap_or_default()).into_owned()
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
}

fn settings() -> Settings {
    Settings {
        write_back_delay: Duration::from_millis(3),
        poll: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        requests: 100_000,
        guard: 0,
        ..Settings::default()
    }
}

/// Notes the content of each version as it comes into being.
fn note_version(store: &MemoryStore, versions: &Mutex<HashMap<String, Vec<Vec<u8>>>>, path: &str) {
    loop {
        let Some(seen) = store.peek(path).filter(|seen| seen.kind == Kind::File) else { return };
        let Some(content) = store.content(path) else { return };
        if store.peek(path).is_some_and(|again| again.version == seen.version) {
            let mut versions = versions.lock().unwrap();
            let known = versions.entry(seen.version.0).or_default();
            if !known.contains(&content.to_vec()) {
                known.push(content.to_vec());
            }
            return;
        }
    }
}

impl Machine {
    async fn new(profile: Profile, seed: u64) -> Self {
        let options = MemoryOptions {
            seed,
            stable_ids: profile.ids,
            versions: profile.versions,
            conditional: profile.conditional,
            ..MemoryOptions::default()
        };
        let store = MemoryStore::new(options);
        let versions: Arc<Mutex<HashMap<String, Vec<Vec<u8>>>>> = Arc::default();
        let (kept, noted) = (Arc::downgrade(&store), versions.clone());
        store.gate(Some(Gate(Arc::new(move |step| {
            if step.moment == Moment::Answers
                && step.operation == Operation::Write
                && let Some(store) = kept.upgrade()
            {
                note_version(&store, &noted, step.path.to_string().trim_start_matches('/'));
            }
            std::future::ready(None).boxed()
        }))));
        let mut worlds = Vec::new();
        for _ in 0..profile.engines {
            let state = Arc::new(tempfile::tempdir().unwrap());
            worlds.push(Some(World::start(store.clone(), state, settings()).await));
        }
        store.hint_faults(profile.hints);
        Self {
            profile,
            rng: Rng::with_seed(seed),
            store,
            worlds,
            ledger: Ledger::default(),
            versions,
            contents: 0,
            history: Vec::new(),
            dying: Arc::default(),
            unsure: false,
        }
    }

    fn faults(&self, on: bool) {
        let faults = vec![
            Fault::Fail(ErrorKind::Offline),
            Fault::LoseAnswer,
            Fault::LoseAnswer,
            Fault::Delay(Duration::from_millis(3)),
            Fault::DelayAnswer(Duration::from_millis(3)),
        ];
        let per_mille = self.profile.faults;
        let random = (on && per_mille > 0).then_some(RandomFaults { per_mille, faults });
        self.store.random_faults(random);
    }

    fn content(&mut self, who: &str) -> Vec<u8> {
        self.contents += 1;
        let mut content = format!("{who}{} ", self.contents).into_bytes();
        let length = match self.rng.u32(..20) {
            0 => 1_200_000,
            1..4 => 40_000,
            _ => 10,
        };
        let fill = self.rng.u8(..);
        content.resize(content.len() + length, fill);
        content
    }

    fn world(&self, who: usize) -> &World {
        self.worlds[who].as_ref().unwrap()
    }

    fn say(&mut self, event: String) {
        self.history.push(event);
    }

    /// Answers may be lost, so versions are also noted by looking.
    fn note_all(&self) {
        for (path, content) in self.store.snapshot_text() {
            if content.is_some() {
                note_version(&self.store, &self.versions, &path);
            }
        }
    }

    async fn event(&mut self) {
        self.note_all();
        let dice = self.rng.f64();
        let who = self.rng.usize(..self.worlds.len());
        if dice < self.profile.crashes {
            return self.crash(who).await;
        }
        if self.profile.versions != VersionKind::Unique && self.rng.u32(..6) == 0 {
            self.store.tick();
        }
        if self.profile.expire && self.rng.u32(..20) == 0 {
            self.say("expire".into());
            self.store.expire_cursors();
        }
        if self.rng.f64() < self.profile.actor {
            return self.actor();
        }
        let verbs = ["create", "create", "write", "write", "mkdir", "remove", "rename", "rename"];
        let rest = ["save", "read", "list", "pause", "pause"];
        let all: Vec<&str> = verbs.into_iter().chain(rest).collect();
        let verb = if self.profile.saves && self.rng.bool() {
            "save"
        } else {
            self.rng.choice(all).unwrap()
        };
        self.user(who, verb).await;
    }

    /// A path known here, with its kind.
    async fn known(&mut self, who: usize, kinds: &[Kind]) -> Option<String> {
        let mut folders = vec![String::new()];
        let mut found = Vec::new();
        let engine = self.world(who).engine.clone();
        while let Some(folder) = folders.pop() {
            let Ok(ino) = engine.resolve(folder.as_bytes(), false).await else { continue };
            let Ok(items) = engine.folder_status(ino, false).await else { continue };
            for item in items {
                let path = String::from_utf8_lossy(&item.path).into_owned();
                if item.kind == Kind::Folder {
                    folders.push(path.clone());
                }
                if kinds.contains(&item.kind) {
                    found.push(path);
                }
            }
        }
        found.sort();
        self.rng.choice(found)
    }

    async fn fresh(&mut self, who: usize) -> String {
        let deep = self.rng.f64() < 0.5;
        let folder = if deep { self.known(who, &[Kind::Folder]).await } else { None };
        let last = self.rng.choice(["a", "b", "c"]).unwrap();
        folder.map_or(last.to_owned(), |folder| format!("{folder}/{last}"))
    }

    async fn user(&mut self, who: usize, verb: &str) {
        match verb {
            "pause" => tokio::time::sleep(Duration::from_millis(self.rng.u64(1..25))).await,
            "create" => {
                let path = self.fresh(who).await;
                self.write(who, &path).await;
            }
            "write" => {
                if let Some(path) = self.known(who, &[Kind::File]).await {
                    self.write(who, &path).await;
                }
            }
            "save" => {
                let path = match self.known(who, &[Kind::File]).await {
                    Some(path) => path,
                    None => self.fresh(who).await,
                };
                let (folder, _) = split(&path);
                let temp = if folder.is_empty() { "t".to_owned() } else { format!("{folder}/t") };
                if self.write(who, &temp).await {
                    if self.rng.u32(..4) == 0 {
                        tokio::time::sleep(Duration::from_millis(8)).await;
                    }
                    self.rename(who, &temp, &path).await;
                }
            }
            "mkdir" => {
                let path = self.fresh(who).await;
                self.say(format!("user {who} mkdir {path}"));
                let (folder, last) = split(&path);
                let engine = self.world(who).engine.clone();
                if let Ok(parent) = engine.resolve(folder.as_bytes(), true).await {
                    let made = engine.make_folder(parent, name(last), 0o755, ME).wait().await;
                    self.allow(made.err());
                }
            }
            "remove" => {
                if let Some(path) = self.known(who, &[Kind::File, Kind::Folder]).await {
                    self.remove(who, &path).await;
                }
            }
            "rename" => {
                if let Some(path) = self.known(who, &[Kind::File, Kind::Folder]).await {
                    let to = self.fresh(who).await;
                    self.rename(who, &path, &to).await;
                }
            }
            "read" => {
                if let Some(path) = self.known(who, &[Kind::File]).await {
                    self.say(format!("user {who} read {path}"));
                    let engine = self.world(who).engine.clone();
                    if let Ok(ino) = engine.resolve(path.as_bytes(), false).await {
                        drop(engine.hydrate(ino).await);
                    }
                }
            }
            _ => {
                let path = self.known(who, &[Kind::Folder]).await.unwrap_or_default();
                self.say(format!("user {who} list {path}"));
                let engine = self.world(who).engine.clone();
                if let Ok(ino) = engine.resolve(path.as_bytes(), false).await {
                    drop(engine.read_dir(ino, 0, 100).wait().await);
                }
            }
        }
    }

    /// Verbs may be refused for what a user can understand, and for want of the remote; never for anything else.
    fn allow(&self, error: Option<EngineError>) {
        let fine = error.as_ref().is_none_or(|error| {
            matches!(
                error,
                EngineError::NotFound
                    | EngineError::Exists
                    | EngineError::NotFolder
                    | EngineError::IsFolder
                    | EngineError::NotEmpty
                    | EngineError::IntoItself
                    | EngineError::Stale
                    | EngineError::Offline
                    | EngineError::TimedOut
                    | EngineError::Invalid(_)
                    | EngineError::Remote(_)
                    | EngineError::Corrupt(_)
                    | EngineError::Stopped
            )
        });
        assert!(fine, "a verb failed with {error:?}");
    }

    /// What a user sees in an open file; of one never read, whatever its version may stand for.
    async fn seen(
        &self,
        who: usize,
        ino: Ino,
        content: Content,
        version: Option<String>,
    ) -> Vec<Vec<u8>> {
        if content == Content::Hydrated {
            return self.bytes(who, ino).await.into_iter().collect();
        }
        self.note_all();
        self.versions.lock().unwrap().get(&version.unwrap_or_default()).cloned().unwrap_or_default()
    }

    async fn bytes(&self, who: usize, ino: Ino) -> Option<Vec<u8>> {
        let engine = &self.world(who).engine;
        let opened = engine.open(ino, READ).wait().await.ok()?;
        let mut all = Vec::new();
        loop {
            match engine.read(ino, opened.handle, all.len() as u64, 131_072).wait().await {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => all.extend_from_slice(&piece),
                Err(_) => {
                    engine.release(ino, opened.handle);
                    return None;
                }
            }
        }
        engine.release(ino, opened.handle);
        Some(all)
    }

    /// Writes a whole new content, as a careful user does: opens, sees what is there, replaces it, closes.
    async fn write(&mut self, who: usize, path: &str) -> bool {
        let content = self.content("L");
        self.say(format!("user {who} write {path} {}", label(&content)));
        let (folder, last) = split(path);
        let engine = self.world(who).engine.clone();
        let Ok(parent) = engine.resolve(folder.as_bytes(), true).await else { return false };
        let (ino, handle) = match engine.create(parent, name(last), 0o644, WRITE, ME).wait().await {
            Ok((stat, opened)) => (stat.ino, opened.handle),
            Err(error) => {
                self.allow(Some(error));
                return false;
            }
        };
        let over = match engine.item_status(ino).await {
            Ok(item) if item.version.is_some() || item.size > 0 => {
                if item.content != Content::Hydrated {
                    let version = item.version.clone().unwrap_or_default();
                    self.ledger.blind.push((version, Some(content.clone())));
                }
                self.seen(who, ino, item.content, item.version).await
            }
            _ => Vec::new(),
        };
        let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
        if let Err(error) = engine.set_attributes(ino, Some(handle), cut, ME).wait().await {
            self.allow(Some(error));
            engine.release(ino, handle);
            return false;
        }
        for (index, piece) in content.chunks(131_072).enumerate() {
            let at = index as u64 * 131_072;
            let data = bytes::Bytes::copy_from_slice(piece);
            let wrote = engine.write(ino, handle, at, data, false).wait().await;
            assert_eq!(wrote.unwrap() as usize, piece.len());
        }
        engine.flush(ino, handle).wait().await.unwrap();
        engine.release(ino, handle);
        let what = over.iter().map(|over| label(over)).collect::<Vec<_>>().join(" ");
        self.say(format!("    over {what}"));
        self.ledger.wrote(&content, over);
        true
    }

    async fn remove(&mut self, who: usize, path: &str) {
        self.say(format!("user {who} remove {path}"));
        let engine = self.world(who).engine.clone();
        let (folder, last) = split(path);
        let Ok(parent) = engine.resolve(folder.as_bytes(), false).await else { return };
        let Ok(stat) = engine.lookup(parent, &name(last)).wait().await else { return };
        if stat.kind == Kind::Folder {
            return self.allow(engine.remove_folder(parent, &name(last)).wait().await.err());
        }
        let Some((over, version, unread)) = self.victim(who, stat.ino).await else { return };
        if engine.unlink(parent, &name(last)).wait().await.is_ok() {
            self.blindly(unread, version.as_ref());
            self.destroyed(who, stat.ino, over, version).await;
        }
    }

    async fn victim(&self, who: usize, ino: Ino) -> Option<(Vec<Vec<u8>>, Option<String>, bool)> {
        let item = self.world(who).engine.item_status(ino).await.ok()?;
        let over = self.seen(who, ino, item.content, item.version.clone()).await;
        let unread = item.content != Content::Hydrated;
        Some((over, item.version, unread))
    }

    fn blindly(&mut self, unread: bool, version: Option<&String>) {
        let version = version.filter(|_| unread).cloned();
        self.ledger.blind.extend(version.map(|version| (version, None)));
    }

    /// A user removed what they saw; if the version changed in that very moment, what it is now as well.
    async fn destroyed(
        &mut self,
        who: usize,
        ino: Ino,
        over: Vec<Vec<u8>>,
        version: Option<String>,
    ) {
        let what = over.iter().map(|over| label(over)).collect::<Vec<_>>().join(" ");
        let engine = self.world(who).engine.clone();
        if engine.stat(ino).wait().await.is_ok_and(|stat| stat.links > 0) {
            // The name meant another file when it was removed than when it was looked at.
            self.unsure = true;
            return self.say("    destroyed something else".into());
        }
        self.say(format!("    destroyed {what}"));
        self.ledger.gone.extend(over);
        let now = self.world(who).engine.item_status(ino).await.ok().and_then(|item| item.version);
        if let Some(now) = now.filter(|now| Some(now) != version.as_ref()) {
            let content = self.versions.lock().unwrap().get(&now).cloned();
            self.ledger.gone.extend(content.unwrap_or_default());
        }
    }

    async fn rename(&mut self, who: usize, from: &str, to: &str) {
        self.say(format!("user {who} rename {from} {to}"));
        let engine = self.world(who).engine.clone();
        let ((folder, last), (to_folder, to_last)) = (split(from), split(to));
        let Ok(parent) = engine.resolve(folder.as_bytes(), false).await else { return };
        let Ok(to_parent) = engine.resolve(to_folder.as_bytes(), true).await else { return };
        let Ok(source) = engine.lookup(parent, &name(last)).wait().await else { return };
        let victim = match engine.lookup(to_parent, &name(to_last)).wait().await {
            Ok(stat) if stat.ino == source.ino => return,
            Ok(stat) if stat.kind == Kind::File => {
                self.victim(who, stat.ino).await.map(|victim| (stat.ino, victim))
            }
            _ => None,
        };
        let mode = RenameMode::Replace;
        let outcome =
            engine.rename(parent, &name(last), to_parent, name(to_last), mode).wait().await;
        match (outcome, victim) {
            (Ok(()), Some((ino, (over, version, unread)))) => {
                self.blindly(unread, version.as_ref());
                self.destroyed(who, ino, over, version).await;
            }
            (outcome, _) => self.allow(outcome.err()),
        }
    }

    fn actor(&mut self) {
        let tree = self.store.snapshot_text();
        let visible = |path: &&String| !path.contains(".dewfs") && !path.contains(".aside");
        let all: Vec<String> = tree.keys().filter(visible).cloned().collect();
        let files: Vec<String> = all.iter().filter(|path| tree[*path].is_some()).cloned().collect();
        let mut folders: Vec<String> =
            all.iter().filter(|path| tree[*path].is_none()).cloned().collect();
        folders.push(String::new());
        let folder = self.rng.choice(folders).unwrap();
        let last = self.rng.choice(["a", "b", "c"]).unwrap();
        let new = if folder.is_empty() { last.to_owned() } else { format!("{folder}/{last}") };
        let verb = self.rng.choice(["put", "put", "put", "mkdir", "rm", "mv", "mv"]).unwrap();
        match verb {
            "put" => {
                let path =
                    if self.rng.bool() { self.rng.choice(files).unwrap_or(new) } else { new };
                let content = self.content("R");
                self.say(format!("remote put {path} {}", label(&content)));
                self.actor_put(&path, &content);
            }
            "mkdir" => {
                self.say(format!("remote mkdir {new}"));
                drop(self.store.mkdir(&new));
            }
            "rm" => {
                let Some(path) = self.rng.choice(all) else { return };
                let has_more = tree.keys().any(|other| other.starts_with(&format!("{path}/")));
                if has_more {
                    return;
                }
                self.say(format!("remote rm {path}"));
                self.actor_rm(&path);
            }
            _ => {
                let Some(path) = self.rng.choice(all) else { return };
                if format!("{new}/").starts_with(&format!("{path}/")) {
                    return;
                }
                self.say(format!("remote mv {path} {new}"));
                drop(self.store.mv(&path, &new));
            }
        }
    }

    /// Somebody else writes: over what they saw. If an engine came in between, they did not see that.
    fn actor_put(&mut self, path: &str, content: &[u8]) {
        let before = self.store.peek(path).map(|seen| seen.version);
        let over = self.store.content(path).map(|content| content.to_vec());
        if self.store.peek(path).map(|seen| seen.version) != before {
            return;
        }
        // An engine may still come in between; then what it wrote is overwritten unseen, which is nobody's fault here.
        if self.store.put(path, content.to_vec()).is_ok() {
            note_version(&self.store, &self.versions, path);
            let was_file = before.is_some() && over.is_some();
            self.ledger.wrote(content, over.filter(|_| was_file));
        }
    }

    fn actor_rm(&mut self, path: &str) {
        let over = self.store.content(path).map(|content| content.to_vec());
        if self.store.rm(path).is_ok() {
            self.ledger.gone.extend(over);
        }
    }

    /// The process dies: at once, or at a crash point.
    async fn crash(&mut self, who: usize) {
        self.say(format!("crash {who}"));
        let world = self.worlds[who].take().unwrap();
        if self.rng.bool() {
            let left = AtomicU64::new(self.rng.u64(0..6));
            let dying = self.dying.clone();
            dying.store(false, Ordering::SeqCst);
            let remote = world.remote.clone();
            let hit = dying.clone();
            world.engine.on_crash_point(Arc::new(move |_| {
                if hit.load(Ordering::SeqCst) {
                    return true;
                }
                if left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_err()
                {
                    hit.store(true, Ordering::SeqCst);
                    remote.cut_off();
                    return true;
                }
                false
            }));
            for _ in 0..40 {
                if dying.load(Ordering::SeqCst) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        world.remote.cut_off();
        world.engine.stop().await;
        self.worlds[who] = Some(World::start(self.store.clone(), world.state, settings()).await);
    }

    async fn finish(&mut self) {
        self.store.random_faults(None);
        self.store.hint_faults(HintFaults::default());
        if self.profile.hints.drop > 0 {
            self.store.expire_cursors();
        }
        while self.store.deliver_late() {}
        let end = tokio::time::Instant::now() + REST;
        loop {
            self.store.tick();
            match self.differences().await {
                None => break,
                Some(why) if tokio::time::Instant::now() > end => {
                    panic!("no rest: {why}\n{}", self.pending().await);
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(15)).await,
            }
        }
        let tree = self.store.snapshot_text();
        let present = tree.values().flatten().map(|content| content.to_vec()).collect();
        for (version, child) in std::mem::take(&mut self.ledger.blind) {
            let unread = self.versions.lock().unwrap().get(&version).cloned().unwrap_or_default();
            match child {
                Some(child) => unread.into_iter().for_each(|one| {
                    self.ledger.children.entry(one).or_default().push(child.clone());
                }),
                None => self.ledger.gone.extend(unread),
            }
        }
        let lost = self.ledger.lost(&present);
        assert!(
            lost.is_empty() || self.unsure,
            "lost {lost:?}, there is {:?}\n{}",
            self.labels(),
            self.pending().await
        );
        let own: Vec<_> = tree.keys().filter(|path| path.contains(".dewfs-")).collect();
        assert!(own.is_empty(), "private names left: {own:?}");
        let copies = tree.keys().filter(|path| path.contains("(conflict ")).count();
        if self.profile.actor == 0.0 && self.profile.engines == 1 {
            assert_eq!(copies, 0, "conflict copies with nobody to conflict with: {tree:?}");
        }
    }

    fn labels(&self) -> BTreeMap<String, Option<String>> {
        let tree = self.store.snapshot_text().into_iter();
        tree.map(|(path, content)| (path, content.map(|content| label(&content)))).collect()
    }

    async fn pending(&self) -> String {
        let mut text = String::new();
        for who in 0..self.worlds.len() {
            let engine = &self.world(who).engine;
            let pending = engine.pending(Ino::ROOT, 5).await;
            let status = engine.mount_status().await.unwrap();
            text += &format!("{who}: {:?} {:?} {pending:#?}\n", status.state, status.last_error);
            text += &dump(self.world(who));
        }
        text
    }

    /// What still differs between an engine and the remote, if anything.
    async fn differences(&self) -> Option<String> {
        let there = self.labels();
        for who in 0..self.worlds.len() {
            let engine = &self.world(who).engine;
            engine.sync_now(Ino::ROOT).await.unwrap();
            let here = match self.tree_here(who).await {
                Ok(here) => here,
                Err(error) => return Some(format!("engine {who}: {error}")),
            };
            let left = engine.mount_status().await.map_or(1, |status| status.pending);
            if left > 0 {
                return Some(format!(
                    "engine {who} has {left} pending; {here:?} against {there:?}"
                ));
            }
            if here != there {
                return Some(format!("engine {who}: {here:?} against {there:?}"));
            }
        }
        None
    }

    async fn tree_here(&self, who: usize) -> Result<BTreeMap<String, Option<String>>, EngineError> {
        let engine = &self.world(who).engine;
        let mut folders = vec![Ino::ROOT];
        let mut here = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for item in engine.folder_status(folder, true).await? {
                let path = String::from_utf8_lossy(&item.path).into_owned();
                let ino = engine.resolve(&item.path, false).await?;
                if item.kind == Kind::Folder {
                    folders.push(ino);
                    here.insert(path, None);
                } else {
                    let bytes = self.bytes(who, ino).await.ok_or(EngineError::Stale)?;
                    here.insert(path, Some(label(&bytes)));
                }
            }
        }
        Ok(here)
    }
}

/// The catalog's rows that syncing is about, for people.
fn dump(world: &World) -> String {
    let file = world.state.path().join("state/catalog.db");
    let catalog = rusqlite::Connection::open(file).unwrap();
    let mut text = String::new();
    for table in ["inode", "base", "outbox", "look_again", "missing"] {
        let Ok(mut rows) = catalog.prepare(&format!("SELECT * FROM {table}")) else { continue };
        let names: Vec<String> = rows.column_names().map(str::to_owned).collect();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            text += table;
            for (at, name) in names.iter().enumerate() {
                text += &match row.get_ref(at).unwrap() {
                    rusqlite::types::ValueRef::Null => continue,
                    rusqlite::types::ValueRef::Integer(number) => format!(" {name}={number}"),
                    other => format!(
                        " {name}={}",
                        String::from_utf8_lossy(other.as_bytes().unwrap_or_default())
                    ),
                };
            }
            text += "\n";
        }
    }
    text
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
    let mut bad: BTreeMap<&str, u64> = PROFILES.iter().map(|profile| (profile.name, 0)).collect();
    for (profile, run) in runs {
        if let Err(why) = run.await.unwrap() {
            *bad.get_mut(profile).unwrap() += 1;
            failures.push(why);
        }
    }
    println!("failed of {many} histories each: {bad:?}");
    assert!(
        failures.is_empty(),
        "{}",
        failures.iter().take(4).cloned().collect::<Vec<_>>().join("\n\n")
    );
}
