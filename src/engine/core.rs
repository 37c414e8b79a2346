//! What the verbs and the workers share.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle as Runtime;
use tokio::sync::{Notify, mpsc, watch};

use super::EngineError;
use super::evict::Refused;
use super::link::Link;
use super::open::{OpenTable, lock};
use super::settings::Settings;
use super::state::LastError;
use super::verbs::Invalidation;
use crate::cache::{Cache, CacheError, Reservation};
use crate::catalog::{Catalog, Memory};
pub(crate) use crate::catalog::{now, steady};
use crate::model::{Exclude, Generation, Handles, Ino, Name, Pin};
use crate::remote::{Locator, Remote, Space};

/// Says for whom a remote request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A program waits for it.
    User,
    /// A program is expected to wait for it soon.
    Guess,
    /// The change feed and background listing.
    Feed,
    /// Uploads and pins.
    Transfer,
}

impl Cause {
    /// Whether a program waits, or may soon.
    pub(super) fn is_program(self) -> bool {
        matches!(self, Self::User | Self::Guess)
    }
}

/// Is one remote, seen through a stack of layers for each cause.
#[derive(Clone, Debug)]
pub(crate) struct Remotes {
    pub(crate) user: Arc<dyn Remote>,
    pub(crate) guess: Arc<dyn Remote>,
    pub(crate) feed: Arc<dyn Remote>,
    pub(crate) transfer: Arc<dyn Remote>,
    /// Transfers that somebody waits for.
    pub(crate) awaited: Arc<dyn Remote>,
}

impl Remotes {
    /// The remote as it is asked for this cause.
    pub(crate) fn of(&self, cause: Cause) -> &Arc<dyn Remote> {
        match cause {
            Cause::User => &self.user,
            Cause::Guess => &self.guess,
            Cause::Feed => &self.feed,
            Cause::Transfer => &self.transfer,
        }
    }
}

/// Counts what only the engine sees.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bytes_down: AtomicU64,
    pub(crate) bytes_up: AtomicU64,
    /// Reads answered from here, and those that waited.
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
}

/// Is everything that verbs and workers share.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) state_dir: PathBuf,
    /// The mount's identity in temporary names: short, safe in a file name, durable.
    pub(crate) mount: String,
    pub(crate) catalog: Catalog,
    pub(crate) cache: Cache,
    pub(crate) remotes: Remotes,
    /// What is known of the connection.
    pub(crate) link: Link,
    /// What the sync workers keep in memory.
    pub(crate) workers: super::workers::Workers,
    /// One more than the number of outages at which the remote last said that it is the one we know; 0: it has not.
    pub(crate) identified: AtomicU64,
    pub(crate) open: Arc<OpenTable>,
    pub(crate) runtime: Runtime,
    pub(crate) counters: Counters,
    pub(crate) invalidations: mpsc::UnboundedSender<Vec<Invalidation>>,
    /// Moves on whenever something shown may have changed.
    pub(crate) pulse: watch::Sender<u64>,
    /// `true` once the engine is being stopped.
    pub(crate) stopping: watch::Sender<bool>,
    /// There is something for the recorder.
    pub(crate) recorder: Notify,
    /// There may be something to send.
    pub(crate) outbox: Notify,
    /// There may be a folder to list.
    pub(crate) listing: Notify,
    /// There may be pinned content to fetch.
    pub(crate) pins: Notify,
    /// What a person paused.
    pub(crate) paused: Mutex<Option<super::Lane>>,
    /// What circumstances hold back.
    pub(crate) restraint: Mutex<Option<super::pause::Restraint>>,
    /// What the pin rules share.
    pub(crate) rules: super::rules::Rules,
    /// Content may be freed, or something waits for room.
    pub(crate) room: Notify,
    /// Folders in which the kernel may have been told that a name is not there.
    pub(crate) negatives: Mutex<HashSet<Ino>>,
    /// There are data files to unlink, or uses to write down.
    pub(crate) sweep: Notify,
    /// How many bytes are here of files that are pinned.
    pub(crate) pinned: Mutex<super::status::PinnedBytes>,
    /// What happens, for those who watch.
    pub(crate) events: tokio::sync::broadcast::Sender<super::Happening>,
    /// Data files whose rows have forgotten them.
    pub(crate) forgotten: Mutex<Vec<(Ino, Generation)>>,
    /// When files were last used, not yet in the catalog.
    pub(crate) uses: Mutex<HashMap<Ino, i64>>,
    /// What making room keeps in memory.
    pub(crate) space: super::evict::Space,
    /// How many readers may have bytes in memory that pass through.
    pub(crate) passing: Arc<tokio::sync::Semaphore>,
    /// What the remote last said of its room.
    pub(crate) quota: Mutex<Option<Space>>,
    /// Whether leases on data files tell the truth here.
    pub(crate) leases_trusted: bool,
    /// Whether what is stored through a mapping moves a data file's stamp.
    pub(crate) stores_seen: bool,
    /// Whether the state lies on the disk that the last daemon left, and that did not go down since.
    pub(crate) disk_stayed: bool,
    /// Whether the kernel can be told to go past us.
    pub(crate) through: super::through::Through,
    pub(crate) last_error: Mutex<Option<LastError>>,
    pub(crate) stopped: AtomicBool,
    /// The locked file that keeps other daemons out.
    pub(crate) lock: Mutex<Option<File>>,
}

/// Is what the catalog's decisions ask that is only in memory.
pub(crate) struct InMemory {
    pub(crate) open: Arc<OpenTable>,
    pub(crate) exclude: Exclude,
    pub(crate) root_pin: Pin,
    pub(crate) cache: Cache,
}

impl Memory for InMemory {
    fn handles(&self, ino: Ino) -> Handles {
        self.open.claim(ino)
    }

    fn note_unnamed(&self, ino: Ino, by_remote: bool) {
        self.open.note_unnamed(ino, by_remote);
    }

    fn note_removed(&self, folder: Ino) {
        self.open.note_removed(folder);
    }

    fn exclude(&self) -> &Exclude {
        &self.exclude
    }

    fn root_pin(&self) -> Pin {
        self.root_pin
    }

    fn ended(&self) {
        self.open.end_claims();
    }

    fn on_disk_full(&self) -> bool {
        self.cache.give_up_ballast().is_ok_and(|freed| freed > 0)
    }
}

impl Core {
    /// Where the remote has an inode; `Stale` if it has not (any more).
    pub(crate) fn locator(&self, ino: Ino) -> Result<Locator, EngineError> {
        self.catalog
            .read(|rows| {
                let (Some(base), Some(path)) = (rows.base(ino)?, rows.base_path(ino)?) else {
                    return Ok(None);
                };
                Ok(Some(Locator { path, id: base.id, extra: base.extra }))
            })?
            .ok_or(EngineError::Stale)
    }

    /// Runs blocking disk work where blocking is allowed.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        self.runtime.spawn_blocking(work).await.unwrap_or(Err(EngineError::Stopped))
    }

    /// Reserves room for bytes to be written, evicting what may go.
    pub(crate) async fn make_room(
        self: &Arc<Self>,
        bytes: u64,
    ) -> Result<Reservation, EngineError> {
        match self.reserve(bytes).await? {
            Ok(reservation) => Ok(reservation),
            Err(CacheError::OverLimit { .. } | CacheError::DiskFull { .. }) => {
                self.evict_for(bytes, Refused::ByLimits).await
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Reserves what is free. That may wait until what earlier runs left is counted, which must not keep the runtime's threads.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        bytes: u64,
    ) -> Result<Result<Reservation, CacheError>, EngineError> {
        if let Ok(reservation) = self.cache.reserve_now(bytes) {
            return Ok(Ok(reservation));
        }
        let core = self.clone();
        self.blocking(move || Ok(core.cache.reserve(bytes))).await
    }

    /// Says that something shown may have changed.
    pub(crate) fn pulse(&self) {
        self.pulse.send_modify(|mark| *mark += 1);
    }

    /// Keeps the last thing that went wrong for `status`.
    pub(crate) fn note_problem(&self, ino: Option<Ino>, message: &str) {
        let path = ino.and_then(|ino| self.path_bytes(ino));
        self.tell_problem(path.as_ref(), message);
        *lock(&self.last_error) =
            Some(LastError { time: now(), path, message: message.to_owned() });
        self.pulse();
    }

    /// An item's path below the mountpoint, for people.
    pub(crate) fn path_bytes(&self, ino: Ino) -> Option<Vec<u8>> {
        let names = self.catalog.read(|rows| rows.local_path(ino)).ok().flatten()?;
        let parts: Vec<&[u8]> = names.iter().map(Name::as_bytes).collect();
        Some(parts.join(&b'/'))
    }

    /// Asks for the folder of an item to be looked at again, because a read found another version there.
    pub(crate) fn look_at(self: &Arc<Self>, ino: Ino) {
        let core = self.clone();
        self.runtime.spawn(async move { core.observe_now(ino).await });
    }

    /// Whether the engine is being stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
