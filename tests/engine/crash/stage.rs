//! An engine on a folder remote that may die, and what programs do with it.

use super::*;

pub(super) type Tree = BTreeMap<String, Option<String>>;

pub(super) fn settings() -> Settings {
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
pub(super) fn deadly(at: u64, passed: &Arc<AtomicU64>, dir: &Path) -> CrashHook {
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

pub(super) fn room_for(scenario: &Scenario) -> u64 {
    if scenario.name == "squeeze" { LITTLE } else { Settings::default().cache_size }
}

pub(super) struct Stage {
    pub(super) dir: PathBuf,
    pub(super) cache_size: u64,
    pub(super) hook: CrashHook,
}

impl Stage {
    pub(super) async fn engine(&self) -> Engine {
        let remote = Arc::new(FolderRemote::open(&self.dir.join("remote")).unwrap());
        let state = self.dir.join("state");
        let settings = Settings { cache_size: self.cache_size, ..settings() };
        Engine::start_hooked(settings, &state, remote, self.hook.clone()).await.unwrap()
    }

    /// Notes what was acknowledged; what a killed process wrote stays.
    pub(super) fn note(&self, line: &str) {
        let path = self.dir.join("told");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    pub(super) fn told(&self) -> usize {
        fs::read_to_string(self.dir.join("told")).unwrap_or_default().lines().count()
    }
}

pub(super) async fn ino(engine: &Engine, path: &str) -> Ino {
    engine.resolve(path.as_bytes(), true).await.unwrap()
}

/// The same, as soon as it is shown: what others did is told a moment later, and rest does not wait for what was not told yet.
async fn shown(engine: &Engine, path: &str) -> Ino {
    let look = async || match engine.resolve(path.as_bytes(), true).await {
        Err(EngineError::NotFound) => None,
        found => Some(found.unwrap()),
    };
    found_soon(PATIENCE, look).await.unwrap_or_else(|| panic!("{path} is not shown"))
}

pub(super) async fn write(engine: &Engine, path: &str, content: &str, append: bool) {
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

pub(super) async fn read(engine: &Engine, at: Ino) -> Option<String> {
    let opened = engine.open(at, READ).wait().await.ok()?;
    let bytes = engine.read(at, opened.handle, 0, 1 << 20).wait().await;
    engine.release(at, opened.handle);
    Some(String::from_utf8_lossy(&bytes.ok()?).into_owned())
}

pub(super) async fn settle(engine: &Engine) {
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
pub(super) async fn act(stage: &Stage, mut engine: Engine, op: Op) -> Engine {
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
            let at = shown(&engine, path).await;
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
