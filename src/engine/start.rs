//! Start and stop: lock the state directory, open and examine what is there, recover what a crash left, start the workers.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use super::at_rest;
use super::core::{Core, Counters, InMemory, Remotes};
use super::crash::crash_here;
use super::open::OpenTable;
use super::opening::{open_cache, open_catalog, set_all_aside, state_dir_error};
use super::private::claim_state_dir;
use super::{Engine, EngineError, Hydration, Settings};
use crate::cache::{self, Examination};
use crate::catalog::{Catalog, CatalogError, Change, Durability, Origin, Tx};
use crate::model::{Exclude, Ino, Pin};
use crate::remote::{ErrorKind, Remote, RemoteError};

/// Under which key the catalog keeps the mount's identity.
const MOUNT: &str = "mount";
/// Under which key the catalog keeps where its remote is.
const PLACE: &str = "remote";
/// Under which key the catalog keeps which disk of which boot the state lies on.
const DISK: &str = "disk";
/// Under which key the catalog keeps what its data files occupied, from a daemon's end to the next one's start.
const BOOKS: &str = "books";
/// More inodes than a power cut can take back the rows of: their data files may be there, and are nobody else's.
const TAKEN_BACK: u32 = 1 << 18;
/// How often a data directory that another daemon is about to let go of is asked for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Says why an engine could not start, in one line for people.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else uses the state directory.
    #[error("{dir}: another dewfs uses this state directory (process {pid})")]
    InUse {
        /// The directory.
        dir: String,
        /// Who.
        pid: u32,
    },
    /// The state directory cannot be used.
    #[error("{0}")]
    StateDir(String),
    /// The first mount needs the remote.
    #[error("{0}")]
    Remote(String),
    /// The first mount needs the remote, and that wants somebody to sign in.
    #[error("{0}")]
    SignIn(String),
    /// The remote is another one than before.
    #[error("{0}")]
    OtherRemote(String),
    /// The catalog cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Engine {
    /// Opens the state, recovers what a crash left, asks the remote once if it is new, and starts the workers on the
    /// runtime it is called on.
    pub async fn start(
        settings: Settings,
        state_dir: &Path,
        remote: Arc<dyn Remote>,
    ) -> Result<Self, StartError> {
        Self::start_with(settings, state_dir, remote, |_| {}).await
    }

    /// The same with a hook for crash points from the first moment on; nothing of it is in release builds.
    #[cfg(debug_assertions)]
    pub async fn start_hooked(
        settings: Settings,
        state_dir: &Path,
        remote: Arc<dyn Remote>,
        hook: super::CrashHook,
    ) -> Result<Self, StartError> {
        Self::start_with(settings, state_dir, remote, |core| core.workers.crash.set(hook.clone()))
            .await
    }

    async fn start_with(
        settings: Settings,
        state_dir: &Path,
        remote: Arc<dyn Remote>,
        prepare: impl Fn(&Core),
    ) -> Result<Self, StartError> {
        claim_state_dir(state_dir)?;
        let lock = take_lock(state_dir).await?;
        // The same lock, which must not be free between two tries.
        let kept = lock.try_clone().map_err(state_dir_error)?;
        let examined = cache::examine(state_dir).map_err(state_dir_error)?;
        let first =
            Self::start_locked(&settings, state_dir, remote.clone(), lock, &examined, &prepare);
        match first.await {
            Err(StartError::Catalog(CatalogError::Corrupt { path, reason })) => {
                let cache = open_cache(state_dir, &settings)?;
                set_all_aside(state_dir, &cache, &path, &reason)?;
                Self::start_locked(&settings, state_dir, remote, kept, &examined, &prepare).await
            }
            other => other,
        }
    }

    async fn start_locked(
        settings: &Settings,
        state_dir: &Path,
        remote: Arc<dyn Remote>,
        lock: File,
        examined: &Examination,
        prepare: &impl Fn(&Core),
    ) -> Result<Self, StartError> {
        let cache = open_cache(state_dir, settings)?;
        let open = Arc::new(OpenTable::default());
        let memory = Arc::new(InMemory {
            open: open.clone(),
            exclude: Exclude::new(&settings.exclude),
            root_pin: match settings.hydration {
                Hydration::Always => Pin::Pinned,
                _ => Pin::Unspecified,
            },
            cache: cache.clone(),
        });
        let catalog = open_catalog(state_dir, &cache, &memory)?;
        let identified = identify(&catalog, settings, &remote).await?;
        let mount = mount_id(&catalog).await?;
        let disk = at_rest::mounted(state_dir);
        let disk_before = catalog.read(|rows| rows.state(DISK))?;
        let changes = catalog.take_changes();
        let (invalidations, receiver) = mpsc::unbounded_channel();
        let (remotes, link) = Remotes::layered(remote, settings);
        let core = Arc::new(Core {
            state_dir: state_dir.to_owned(),
            mount,
            catalog,
            cache,
            remotes,
            link,
            workers: super::workers::Workers::default(),
            identified: AtomicU64::new(u64::from(identified)),
            open,
            runtime: tokio::runtime::Handle::current(),
            counters: Counters::default(),
            invalidations,
            pulse: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            recorder: Notify::new(),
            outbox: Notify::new(),
            listing: Notify::new(),
            pins: Notify::new(),
            paused: Mutex::default(),
            restraint: Mutex::default(),
            rules: super::rules::Rules::default(),
            room: Notify::new(),
            negatives: Mutex::default(),
            sweep: Notify::new(),
            pinned: Mutex::default(),
            events: tokio::sync::broadcast::Sender::new(super::events::KEPT),
            forgotten: Mutex::default(),
            uses: Mutex::default(),
            space: super::evict::Space::new(examined.brake),
            passing: super::passing::Passing::readers(),
            quota: Mutex::default(),
            leases_trusted: examined.leases_trusted,
            stores_seen: examined.stores_seen,
            disk_stayed: disk.is_some() && disk == disk_before,
            through: super::through::Through::default(),
            last_error: Mutex::default(),
            stopped: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
            settings: settings.clone(),
        });
        prepare(&core);
        core.workers.probed.store(identified, Ordering::Release);
        if let Err(error) = core.take_up(changes, disk).await {
            core.stop().await;
            return Err(match error {
                EngineError::Catalog(error) => StartError::Catalog(error),
                other => state_dir_error(other),
            });
        }
        Ok(Self { core, invalidations: Arc::new(Mutex::new(Some(receiver))) })
    }
}

impl Core {
    /// Puts right what the last daemon left, and begins to serve; `disk` is what the state lies on now.
    async fn take_up(
        self: &Arc<Self>,
        changes: Option<mpsc::UnboundedReceiver<Vec<Change>>>,
        disk: Option<Vec<u8>>,
    ) -> Result<(), EngineError> {
        self.recall_paused()?;
        self.recall_books().await?;
        self.recover().await?;
        if !self.disk_stayed {
            let note = move |tx: &mut Tx| {
                if tx.state(DISK)?.is_some() {
                    tx.skip_numbers(TAKEN_BACK)?;
                }
                tx.set_state(DISK, disk.as_deref())
            };
            self.catalog.write(Durability::Soon, Origin::Engine, note).await?;
        }
        if let Some(changes) = changes {
            self.runtime.spawn(self.clone().run_changes(changes));
        }
        self.start_workers();
        Ok(())
    }

    /// Takes what is known of the data files from the last daemon, if it ended of itself: a large state is long in counting.
    /// Nothing is written to them before that is forgotten for good.
    async fn recall_books(self: &Arc<Self>) -> Result<(), EngineError> {
        let Some(told) = self.catalog.read(|rows| rows.state(BOOKS))? else { return Ok(()) };
        let forget = |tx: &mut Tx| tx.set_state(BOOKS, None);
        self.catalog.write(Durability::Synced, Origin::Engine, forget).await?;
        self.cache.trust_books(&told);
        Ok(())
    }

    /// Tells the next daemon what data files occupy, if nobody can write to them any more.
    async fn leave_books(self: &Arc<Self>) {
        if self.open.count() > 0 || !self.open.all_mapped().is_empty() {
            return;
        }
        let Some(told) = self.cache.close_books() else { return };
        let note = move |tx: &mut Tx| tx.set_state(BOOKS, Some(told.as_slice()));
        if let Err(error) = self.catalog.write(Durability::Soon, Origin::Engine, note).await {
            tracing::debug!(%error, "data files will be counted");
        }
    }

    /// What a crash may have left is put right before anybody looks.
    async fn recover(self: &Arc<Self>) -> Result<(), EngineError> {
        let attempts: Vec<(Ino, u64)> = Vec::new();
        crash_here!(self, "recover: begins");
        self.cache.clear_staging(|ino, nonce| attempts.contains(&(ino, nonce)))?;
        // Files that were removed while open: their last handle ended with the old process.
        let unnamed = self.catalog.read(|rows| rows.unnamed(100_000))?;
        if !unnamed.is_empty() {
            self.catalog
                .write(Durability::Soon, Origin::Engine, move |tx| {
                    unnamed.into_iter().try_for_each(|ino| crate::model::touch(tx, ino))
                })
                .await
                .map_err(EngineError::from)?;
        }
        // Before rows that nothing seems to need are let go: of an edit, its row may be all that is known.
        crash_here!(self, "recover: before data files are compared");
        self.recall_lossy()?;
        self.observe_pending().await?;
        crash_here!(self, "recover: data files are compared");
        self.recover_rows().await?;
        self.recall_excludes().await?;
        crash_here!(self, "recover: rows are let go");
        // What rested or was put off before the end need not any longer.
        self.catalog
            .write(Durability::Soon, Origin::Engine, |tx| tx.outbox_wake_all())
            .await
            .map_err(EngineError::from)?;
        if let Err(error) = self.cache.restore_ballast() {
            tracing::debug!(%error, "no ballast");
        }
        Ok(())
    }

    fn start_workers(self: &Arc<Self>) {
        if !self.open.all_mapped().is_empty() {
            self.watch_room();
        }
        self.runtime.spawn(self.clone().run_recorder());
        self.runtime.spawn(self.clone().run_sweeper());
        self.runtime.spawn(self.clone().run_pins());
        self.runtime.spawn(self.clone().run_rules());
        self.runtime.spawn(self.clone().run_ageing());
        self.runtime.spawn(self.clone().sweep_strays());
        self.start_sync_workers();
    }

    /// Ends the workers and closes the catalog.
    pub(crate) async fn stop(self: &Arc<Self>) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        self.stopping.send_replace(true);
        self.leave_books().await;
        let catalog = self.catalog.clone();
        if let Err(error) = self.runtime.spawn_blocking(move || catalog.close()).await {
            tracing::warn!(%error, "cannot close the catalog");
        }
        super::open::lock(&self.lock).take();
    }

    /// What is left to be done for a process that was killed: nothing is told any more, and others may have the state. Blocks.
    #[cfg(debug_assertions)]
    pub(crate) fn bury(&self) {
        self.stopped.store(true, Ordering::Release);
        self.stopping.send_replace(true);
        self.catalog.close();
        super::open::lock(&self.lock).take();
    }
}

/// Locks the state directory; one that another daemon is about to let go of is asked for again for a second.
async fn take_lock(dir: &Path) -> Result<File, StartError> {
    let mut file = open_lock(dir).await?;
    // Who took the whole state away held the lock as well: that one is nobody's any more.
    if file.metadata().is_ok_and(|about| about.nlink() == 0) {
        claim_state_dir(dir)?;
        file = open_lock(dir).await?;
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    // The number only serves messages; on a full disk the lock itself still holds.
    if let Err(error) = written {
        tracing::debug!(%error, "cannot note the process id in the lock file");
    }
    Ok(file)
}

async fn open_lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| StartError::StateDir(format!("cannot open {}: {e}", path.display())))?;
    let end = tokio::time::Instant::now() + LOCK_PATIENCE;
    while file.try_lock().is_err() {
        if tokio::time::Instant::now() >= end {
            let mut text = String::new();
            let read = file.read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0);
            return Err(StartError::InUse { dir: dir.display().to_string(), pid });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(file)
}

/// Asks the remote who it is, if that is not known yet; `false` if a later look must tell.
async fn identify(
    catalog: &Catalog,
    settings: &Settings,
    remote: &Arc<dyn Remote>,
) -> Result<bool, StartError> {
    let known = catalog.read(|rows| Ok((rows.endpoint()?.identity, rows.is_listed(Ino::ROOT)?)))?;
    let first = known.0.is_none() && !known.1;
    let moved_from = moved_from(catalog, settings)?.filter(|_| !first && !settings.adopt_remote);
    if let Some(before) = moved_from {
        let refused = |why: &str| {
            Err(StartError::OtherRemote(format!(
                "this state belongs to {before}, and {} {why}: mount it with a state_dir= of its own, or with \
                 adopt_remote if it is meant to take its place",
                settings.remote
            )))
        };
        return match remote.probe().await {
            Ok(found)
                if found
                    .identity
                    .as_deref()
                    .zip(known.0.as_deref())
                    .is_some_and(|(told, known)| remote.is_same(known, told)) =>
            {
                note_place(catalog, settings).await?;
                Ok(true)
            }
            Ok(_) => refused("is another remote"),
            Err(error) => refused(&format!("cannot be asked whether it is the same ({error})")),
        };
    }
    note_place(catalog, settings).await?;
    if !first && !settings.adopt_remote {
        // The catalog serves at once; the feed worker asks before anything is sent or believed.
        return Ok(false);
    }
    match remote.probe().await {
        Ok(found) => {
            note_identity(catalog, found.identity).await?;
            Ok(true)
        }
        Err(RemoteError { kind: ErrorKind::Offline | ErrorKind::Unavailable, .. })
            if settings.offline_ok =>
        {
            Ok(false)
        }
        Err(error) if error.kind == ErrorKind::Unauthenticated => {
            Err(StartError::SignIn(error.to_string()))
        }
        Err(error) => Err(StartError::Remote(error.to_string())),
    }
}

/// Where the remote of this state was, if it is to be elsewhere now.
fn moved_from(catalog: &Catalog, settings: &Settings) -> Result<Option<String>, StartError> {
    let before = catalog.read(|rows| rows.state(PLACE))?;
    let before = before.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(before.filter(|before| !settings.remote.is_empty() && *before != settings.remote))
}

async fn note_place(catalog: &Catalog, settings: &Settings) -> Result<(), CatalogError> {
    if settings.remote.is_empty() {
        return Ok(());
    }
    let place = settings.remote.clone();
    catalog
        .write(Durability::Synced, Origin::Engine, move |tx| {
            tx.set_state(PLACE, Some(place.as_bytes()))
        })
        .await
}

pub(crate) async fn note_identity(
    catalog: &Catalog,
    identity: Option<String>,
) -> Result<(), CatalogError> {
    catalog
        .write(Durability::Synced, Origin::Engine, move |tx| tx.set_identity(identity.as_deref()))
        .await
}

/// The mount's identity in temporary names, made once.
async fn mount_id(catalog: &Catalog) -> Result<String, StartError> {
    if let Some(bytes) = catalog.read(|rows| rows.state(MOUNT))?
        && let Ok(text) = String::from_utf8(bytes)
    {
        return Ok(text);
    }
    let fresh = format!("{:012x}", fastrand::u64(..) & 0xffff_ffff_ffff);
    let kept = fresh.clone();
    catalog
        .write(Durability::Synced, Origin::Engine, move |tx| {
            tx.set_state(MOUNT, Some(kept.as_bytes()))
        })
        .await?;
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Who waited for the lock of a state that is being taken away held one that nobody else would ever see.
    #[tokio::test]
    async fn regression_the_lock_of_a_state_that_was_taken_away_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        claim_state_dir(&state).unwrap();
        let first = take_lock(&state).await.unwrap();
        let waiting = tokio::spawn({
            let state = state.clone();
            async move { take_lock(&state).await }
        });
        // It has opened the lock, and found it taken.
        tokio::task::yield_now().await;
        crate::engine::remove_state(&state).unwrap();
        drop(first);
        let lock = waiting.await.unwrap().unwrap();
        assert_eq!(lock.metadata().unwrap().nlink(), 1);
        let other = File::open(state.join("lock")).unwrap();
        assert!(other.try_lock().is_err(), "two would use one state");
    }
}
