//! A world for engine tests: the real engine on a temporary state directory, over a memory remote.
#![allow(dead_code)]

use super::wait::holds_soon;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dewfs::engine::{
    Answer, Caller, Engine, EngineError, Handle, OpenMode, PageEntry, RenameMode, SetAttributes,
    Settings, Stat,
};
use dewfs::model::{Ino, Kind, Name};
use dewfs::remote::memory::{MemoryOptions, MemoryRemote, MemoryStore};

/// How long a condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Is an engine, its remote and its state directory.
pub struct World {
    pub store: Arc<MemoryStore>,
    pub remote: MemoryRemote,
    pub engine: Engine,
    pub state: Arc<tempfile::TempDir>,
    pub settings: Settings,
}

/// Who the tests are.
pub const ME: Caller = Caller { uid: 0, gid: 0, pid: 1 };

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn quick_settings() -> Settings {
    Settings {
        write_back_delay: Duration::from_millis(10),
        poll: Duration::from_millis(50),
        // Nobody waits as long where all goes well, also while the machine stands still for a moment.
        timeout: Duration::from_secs(10),
        ..Settings::default()
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(MemoryOptions::default(), quick_settings()).await
    }

    pub async fn with(options: MemoryOptions, settings: Settings) -> Self {
        let store = MemoryStore::new(options);
        let state = Arc::new(tempfile::tempdir().unwrap());
        Self::start(store, state, settings).await
    }

    pub async fn start(
        store: Arc<MemoryStore>,
        state: Arc<tempfile::TempDir>,
        settings: Settings,
    ) -> Self {
        let remote = store.remote();
        let engine =
            Engine::start(settings.clone(), &state.path().join("state"), Arc::new(remote.clone()))
                .await
                .unwrap();
        Self { store, remote, engine, state, settings }
    }

    /// Stops the engine and starts another on the same state.
    pub async fn restart(self) -> Self {
        self.engine.stop().await;
        Self::start(self.store, self.state, self.settings).await
    }

    pub async fn ino(&self, path: &str) -> Ino {
        self.engine.resolve(path.as_bytes(), true).await.unwrap()
    }

    pub async fn try_ino(&self, path: &str) -> Result<Ino, EngineError> {
        self.engine.resolve(path.as_bytes(), true).await
    }

    pub async fn stat(&self, path: &str) -> Stat {
        let ino = self.ino(path).await;
        self.engine.stat(ino).wait().await.unwrap()
    }

    pub async fn names(&self, path: &str) -> Vec<String> {
        let folder = self.ino(path).await;
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let page: Vec<PageEntry> =
                self.engine.read_dir(folder, cookie, 3).wait().await.unwrap();
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            names.extend(page.iter().map(|entry| entry.name.lossy().into_owned()));
        }
        names.sort();
        names
    }

    pub async fn open(&self, path: &str, mode: OpenMode) -> (Ino, Handle) {
        let ino = self.ino(path).await;
        (ino, self.engine.open(ino, mode).wait().await.unwrap().handle)
    }

    pub async fn read(&self, path: &str) -> Result<Bytes, EngineError> {
        let ino = self.ino(path).await;
        let size = self.engine.stat(ino).wait().await?.size;
        let opened = self.engine.open(ino, READ).wait().await?;
        let mut all = Vec::new();
        let outcome = loop {
            if all.len() as u64 >= size {
                break Ok(());
            }
            match self.engine.read(ino, opened.handle, all.len() as u64, 131_072).wait().await {
                Ok(piece) if piece.is_empty() => break Ok(()),
                Ok(piece) => all.extend_from_slice(&piece),
                Err(error) => break Err(error),
            }
        };
        self.engine.release(ino, opened.handle);
        outcome.map(|()| all.into())
    }

    /// Creates or overwrites a file, as `open(O_CREAT|O_TRUNC)`, `write`, `close` do.
    pub async fn write(&self, path: &str, content: &[u8]) -> Ino {
        let (folder, last) = split(path);
        let parent = self.ino(folder).await;
        let mode = OpenMode { read: true, write: true, truncate: true, ..OpenMode::default() };
        let (stat, opened) =
            self.engine.create(parent, name(last), 0o644, mode, ME).wait().await.unwrap();
        self.write_at(stat.ino, opened.handle, 0, content).await;
        self.close(stat.ino, opened.handle).await;
        stat.ino
    }

    pub async fn write_at(&self, ino: Ino, handle: Handle, offset: u64, content: &[u8]) {
        for (index, piece) in content.chunks(131_072).enumerate() {
            let at = offset + index as u64 * 131_072;
            let data = Bytes::copy_from_slice(piece);
            let wrote = self.engine.write(ino, handle, at, data, false).wait().await.unwrap();
            assert_eq!(wrote as usize, piece.len());
        }
    }

    pub async fn close(&self, ino: Ino, handle: Handle) {
        self.engine.flush(ino, handle).wait().await.unwrap();
        self.engine.release(ino, handle);
    }

    pub async fn mkdir(&self, path: &str) -> Ino {
        let (folder, last) = split(path);
        let parent = self.ino(folder).await;
        self.engine.make_folder(parent, name(last), 0o755, ME).wait().await.unwrap().ino
    }

    pub async fn remove(&self, path: &str) -> Result<(), EngineError> {
        let (folder, last) = split(path);
        let parent = self.ino(folder).await;
        let kind = self.engine.lookup(parent, &name(last)).wait().await?.kind;
        match kind {
            Kind::Folder => self.engine.remove_folder(parent, &name(last)).wait().await,
            _ => self.engine.unlink(parent, &name(last)).wait().await,
        }
    }

    pub async fn rename(&self, from: &str, to: &str) -> Result<(), EngineError> {
        let ((folder, last), (to_folder, to_last)) = (split(from), split(to));
        let (parent, to_parent) = (self.ino(folder).await, self.ino(to_folder).await);
        let mode = RenameMode::Replace;
        self.engine.rename(parent, &name(last), to_parent, name(to_last), mode).wait().await
    }

    pub async fn truncate(&self, path: &str, size: u64) -> Stat {
        let ino = self.ino(path).await;
        let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
        self.engine.set_attributes(ino, None, set, ME).wait().await.unwrap()
    }

    /// Waits until everything here is in sync with the remote.
    pub async fn in_sync(&self) {
        self.engine.sync_now(Ino::ROOT).await.unwrap();
        // What a person is to decide, a conflict copy, keeps nothing from being sent.
        self.until("the mount is online", async || {
            let state = self.engine.mount_status().await.unwrap().state;
            matches!(state.word(), "online" | "degraded")
        })
        .await;
        let all = self.engine.wait_in_sync(Ino::ROOT, Some(PATIENCE)).await;
        if !matches!(all, Ok(true)) {
            let left = self.engine.pending(Ino::ROOT, 20).await;
            panic!("not in sync: {all:?}, left {left:#?}");
        }
    }

    /// Waits for a condition, looking at it whenever something may have changed.
    pub async fn until(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        assert!(holds_soon(PATIENCE, holds).await, "never came: {what}");
    }

    /// The remote's files and folders as text; `None` for folders.
    pub fn there(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let tree = self.store.snapshot_text();
        tree.into_iter().map(|(path, content)| (path, content.map(|c| c.to_vec()))).collect()
    }

    pub fn content_there(&self, path: &str) -> Option<Vec<u8>> {
        self.store.content(path).map(|content| content.to_vec())
    }
}

pub const READ: OpenMode =
    OpenMode { read: true, write: false, append: false, truncate: false, exclusive: false };
pub const WRITE: OpenMode =
    OpenMode { read: true, write: true, append: false, truncate: false, exclusive: false };

pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Bytes that differ everywhere, so that a shifted or mixed read shows.
pub fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| ((i / 251) as u8).wrapping_mul(31) ^ (i % 251) as u8 ^ seed).collect()
}

/// Compares contents without printing them.
#[track_caller]
pub fn same(got: &[u8], wanted: &[u8]) {
    let first = got.iter().zip(wanted).position(|(one, other)| one != other);
    assert!(
        got.len() == wanted.len() && first.is_none(),
        "{} bytes, {} wanted; the first difference is at {first:?}",
        got.len(),
        wanted.len()
    );
}

/// Answers that must be given at once.
pub fn ready<T: Send + 'static>(answer: Answer<T>) -> Result<T, EngineError> {
    match answer {
        Answer::Ready(outcome) => outcome,
        _ => panic!("not answered at once"),
    }
}
