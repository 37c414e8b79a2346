//! The events of a history.

use super::*;

impl Machine {
    pub(super) async fn new(profile: Profile, seed: u64) -> Self {
        let options = MemoryOptions {
            seed,
            stable_ids: profile.ids,
            versions: profile.versions,
            conditional: profile.conditional,
            feed: profile.feed,
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
            held: Vec::new(),
        }
    }

    pub(super) fn faults(&self, on: bool) {
        let faults = vec![
            Fault::Fail(ErrorKind::Offline),
            Fault::LoseAnswer,
            Fault::LoseAnswer,
            Fault::Fail(ErrorKind::RateLimited { after: Some(Duration::from_millis(2)) }),
            Fault::Truncate(5),
            Fault::Delay(Duration::from_millis(3)),
            Fault::DelayAnswer(Duration::from_millis(3)),
        ];
        let per_mille = self.profile.faults;
        let random = (on && per_mille > 0).then_some(RandomFaults { per_mille, faults });
        self.store.random_faults(random);
    }

    pub(super) fn content(&mut self, who: &str) -> Vec<u8> {
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

    pub(super) fn world(&self, who: usize) -> &World {
        self.worlds[who].as_ref().unwrap()
    }

    pub(super) fn say(&mut self, event: String) {
        self.history.push(event);
    }

    /// Answers may be lost, so versions are also noted by looking.
    pub(super) fn note_all(&self) {
        for (path, content) in self.store.snapshot_text() {
            if content.is_some() {
                note_version(&self.store, &self.versions, &path);
            }
        }
    }

    pub(super) async fn event(&mut self) {
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
        if self.profile.handles && self.rng.u32(..4) == 0 {
            return self.handle(who).await;
        }
        if self.profile.editors && self.rng.u32(..5) == 0 {
            return if self.rng.bool() { self.exchange(who).await } else { self.patch(who).await };
        }
        let verb = if self.profile.saves && self.rng.bool() {
            "save"
        } else {
            self.rng.choice(all).unwrap()
        };
        self.user(who, verb).await;
    }

    /// A path known here, with its kind.
    pub(super) async fn known(&mut self, who: usize, kinds: &[Kind]) -> Option<String> {
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

    pub(super) async fn fresh(&mut self, who: usize) -> String {
        let deep = self.rng.f64() < 0.5;
        let folder = if deep { self.known(who, &[Kind::Folder]).await } else { None };
        let last = self.rng.choice(["a", "b", "c"]).unwrap();
        let last = if self.profile.excludes && self.rng.u32(..5) == 0 { "x~" } else { last };
        folder.map_or(last.to_owned(), |folder| format!("{folder}/{last}"))
    }

    pub(super) async fn user(&mut self, who: usize, verb: &str) {
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
    pub(super) fn allow(&self, error: Option<EngineError>) {
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
                    | EngineError::CrossDevice
                    | EngineError::Stopped
            )
        });
        assert!(fine, "a verb failed with {error:?}");
    }
}
