//! The events of a history.

use std::os::unix::fs::DirBuilderExt as _;

use super::*;

impl Machine {
    pub(super) async fn new(
        profile: Profile,
        seed: u64,
        script: &[Event],
        patience: Duration,
    ) -> Self {
        let scratch = run::scratch();
        let there = There::new(profile, seed, &scratch);
        let versions: Arc<Versions> = Arc::default();
        let history: Arc<Mutex<Vec<String>>> = Arc::default();
        if let Some(store) = there.store() {
            let (kept, noted, told) = (Arc::downgrade(store), versions.clone(), history.clone());
            store.gate(Some(Gate(Arc::new(move |step| {
                if !matches!(step.operation, Operation::Changes | Operation::Space) {
                    let (who, path) = (step.handle, step.path.to_string());
                    let line =
                        format!("        {who} {:?} {path} {:?}", step.operation, step.moment);
                    told.lock().unwrap().push(line);
                }
                if step.moment == Moment::Answers
                    && matches!(step.operation, Operation::Write | Operation::SetMetadata)
                    && let Some(store) = kept.upgrade()
                {
                    note_version(&store, &noted, step.path.to_string().trim_start_matches('/'));
                }
                std::future::ready(None).boxed()
            }))));
        }
        let mut machine = Self {
            profile,
            there,
            desks: Vec::new(),
            ledger: Ledger::default(),
            versions,
            whole: HashMap::new(),
            also: HashMap::new(),
            steps: HashMap::new(),
            doubtful: HashSet::new(),
            history,
            unsure: false,
            held: Vec::new(),
            patience,
            ahead: script.iter().cloned().collect(),
            counts: seed.is_multiple_of(2),
        };
        for who in 0..profile.engines {
            let state = tempfile::tempdir_in(&scratch).unwrap();
            let dir = state.path().join("state");
            std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
            // The room kept for a full disk is not what histories are about: it is there, and small.
            std::fs::write(dir.join("ballast"), [1; 4096]).unwrap();
            // By this it is known for a state: of what is nobody's, none is taken that holds other files.
            std::fs::write(dir.join("lock"), b"").unwrap();
            let desk = machine.start(who, Arc::new(state)).await;
            machine.desks.push(Some(desk));
        }
        if let Some(store) = machine.there.store() {
            store.hint_faults(profile.hints);
        }
        machine.there.faults(profile.faults, profile.late);
        machine
    }

    pub(super) async fn start(&self, who: usize, state: Arc<tempfile::TempDir>) -> Desk {
        let line = self.there.line();
        let dir = state.path().join("state");
        let mut ends = self.ahead.iter().filter_map(|event| match event {
            Event::Crash(whose, _) if *whose == who => Some(true),
            Event::Restart(whose) if *whose == who => Some(false),
            _ => None,
        });
        let process = Process::new(ends.next().unwrap_or_default());
        let engine = process.start(self.profile.settings(), dir, line.remote()).await;
        if self.counts {
            drop(engine.item_status(Ino::ROOT).await);
        }
        Desk { engine, line, state, process }
    }

    pub(super) fn desk(&self, who: usize) -> &Desk {
        self.desks[who].as_ref().unwrap()
    }

    pub(super) fn engine(&self, who: usize) -> Engine {
        self.desk(who).engine.clone()
    }

    pub(super) fn say(&self, event: String) {
        self.history.lock().unwrap().push(event);
    }

    pub(super) async fn event(&mut self, event: &Event) {
        self.ahead.pop_front();
        self.note_all();
        match event {
            Event::User(who, verb) => self.user(*who, verb).await,
            Event::Other(act) => self.act(act),
            Event::Crash(who, points) => self.crash(*who, *points).await,
            Event::Restart(who) => self.restart(*who).await,
            Event::Line(who, online) => self.desk(*who).line.set_online(*online),
            Event::Pause(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Event::Tick => self.with_store(|store| store.tick()),
            Event::Expire => self.with_store(|store| store.expire_cursors()),
            Event::Late => self.with_store(|store| {
                store.deliver_late();
            }),
        }
    }

    pub(super) fn with_store(&self, act: impl FnOnce(&MemoryStore)) {
        if let Some(store) = self.there.store() {
            act(store);
        }
    }

    async fn user(&mut self, who: usize, verb: &Verb) {
        match verb {
            Verb::Write(path, fill) => drop(self.write(who, path, *fill).await),
            Verb::Patch(path, fill, cut) => self.patch(who, path, *fill, *cut).await,
            Verb::Save(path, fill, rests) => self.save(who, path, *fill, *rests).await,
            Verb::MakeFolder(path) => self.make_folder(who, path).await,
            Verb::Remove(path) => self.remove(who, path).await,
            Verb::Rename(path, to) => self.rename(who, path, to).await,
            Verb::Exchange(one, other) => self.exchange(who, one, other).await,
            Verb::Read(path) => self.read(who, path).await,
            Verb::ReadPart(path, offset) => self.read_part(who, path, *offset).await,
            Verb::List(path) => self.list(who, path).await,
            Verb::Free(path) => self.free(who, path).await,
            Verb::Touch(path, mtime) => self.set_time(who, path, *mtime).await,
            Verb::Open(path, writer) => self.hold(who, path, *writer).await,
            Verb::GoOn(index, fill) => {
                if !self.held.is_empty() {
                    let held = self.held.swap_remove(index % self.held.len());
                    self.go_on(held, *fill).await;
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
        let full =
            matches!(error, Some(EngineError::NoSpace(_))) && self.profile.cache_size < 1 << 30;
        assert!(fine || full, "a verb failed with {error:?}");
    }
}
