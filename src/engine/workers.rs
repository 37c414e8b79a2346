//! What the verbs ask of the workers that sync, and what these share: who is being sent, which folders are being listed,
//! and what is known of the remote as a whole.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::EngineError;
use super::ahead::Ahead;
use super::core::{Cause, Core, now};
#[cfg(debug_assertions)]
use super::crash::CrashPoints;
use super::foresee::Foresight;
use super::live::Failure;
use super::open::lock;
use super::siblings::Siblings;
use super::state::{MountState, Progress, RequestsBy};
use crate::model::{Busy, Ino, RemotePath};
use crate::remote::Locator;
use crate::remote::layers::Connection;

/// Is a listing under way, for all who wait for it.
pub(super) type Flight = Shared<BoxFuture<'static, Result<(), Failure>>>;

/// Is what the sync workers keep in memory.
#[derive(Default)]
pub(crate) struct Workers {
    /// Inodes whose step is under way.
    pub(super) busy: Mutex<Busy>,
    /// Which rows wait for the step of a busy inode.
    pub(super) waiting: Mutex<HashMap<Ino, HashSet<Ino>>>,
    /// Inodes that somebody wants sent although a writer has them open.
    pub(super) urgent: Mutex<Arc<HashSet<Ino>>>,
    /// How many programs wait until the remote has what they wrote.
    pub(super) awaited: AtomicUsize,
    /// Folders that somebody waits for and that the remote had already.
    pub(super) met: Mutex<HashSet<Ino>>,
    /// Uploads of bytes under way.
    pub(super) sending: Mutex<HashMap<Ino, Arc<Sending>>>,
    /// What is known of large files before they are sent.
    pub(super) foresight: Foresight,
    /// Listings under way.
    pub(super) flights: Mutex<HashMap<Ino, Flight>>,
    /// Listings of folders that nobody asked for yet.
    pub(super) ahead: Ahead,
    /// Small files that nobody asked for yet.
    pub(super) siblings: Siblings,
    /// The remote is to be asked for its changes now.
    pub(super) ask: Notify,
    /// Why the remote is not the one we know, if so.
    pub(super) missing: Mutex<Option<String>>,
    /// Only one asks the remote who it is; when that failed last, and how.
    pub(super) identifying: tokio::sync::Mutex<Option<super::observe::LastFailure>>,
    /// How often there was a reason to ask anew who it is.
    pub(super) forgotten: AtomicU64,
    /// Who the remote is was lost: it is asked sooner.
    pub(super) lost: Notify,
    /// When something known was last looked for in the root, and found.
    pub(super) in_place: tokio::sync::Mutex<Option<tokio::time::Instant>>,
    /// When the remote last answered, nanoseconds since 1970; 0: not yet.
    pub(super) contact: AtomicI64,
    /// When the remote is asked next, at the latest, nanoseconds since 1970; past while it is being asked.
    pub(super) next_look: AtomicI64,
    /// What the mass-change guard knows.
    pub(super) guard: super::guard::Shared,
    /// What came wrong.
    pub(super) wrong: super::wrong::Wrong,
    /// What is known of losses at the remote.
    pub(super) losses: super::losses::Shared,
    /// The remote was probed since the start.
    pub(super) probed: AtomicBool,
    /// Where edits are that were put into `recovered/`.
    pub(super) rescued: Mutex<super::guard::Rescued>,
    /// The change cursor is known, or there is none to be had.
    pub(super) followed: AtomicBool,
    /// The remote has no change feed: folders are looked at again instead.
    pub(super) walks: AtomicBool,
    /// The hints of a page of changes were judged by what is known, and it is not applied yet.
    pub(super) judged: AtomicBool,
    /// When the change cursor was lost last.
    pub(super) expired: Mutex<super::feed::Expired>,
    /// What is known of folders to look at again.
    pub(super) walk: super::walk::Walk,
    /// Rows that waited for room when they were last planned: their steps move bytes.
    pub(super) heavy_rows: super::due::Heavy,
    /// Where contents take turns.
    pub(super) line: Line,
    /// Steps under way that move bytes, and those that do not.
    pub(super) heavy: AtomicUsize,
    /// Steps under way that move hardly any bytes.
    pub(super) tiny: AtomicUsize,
    /// Of those that move bytes, those that move many.
    pub(super) large: AtomicUsize,
    pub(super) light: AtomicUsize,
    /// How many bytes of pinned content do not fit in the cache, at least.
    pub(super) pins_short: AtomicU64,
    /// The pinned files that do not fit.
    pub(super) pins_unfit: Mutex<HashSet<Ino>>,
    /// How often something happened that may let pinned content fit that did not.
    pub(super) pins_again: AtomicU64,
    /// Where tests let the process die.
    #[cfg(debug_assertions)]
    pub(super) crash: CrashPoints,
}

/// Is the line to the remote: so many contents go over it at once, and what is ready waits for its turn.
#[derive(Debug)]
pub(super) struct Line(Semaphore);

impl Default for Line {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Line {
    /// Lets so many use it.
    fn open(&self, most: usize) {
        self.0.add_permits(most.saturating_sub(self.0.available_permits()));
    }

    /// Waits for a turn, which lasts until what is returned is dropped.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, EngineError> {
        self.0.acquire().await.map_err(|_closed| EngineError::Stopped)
    }
}

/// Is how far an upload is.
#[derive(Debug, Default)]
pub(super) struct Sending {
    pub(super) done: AtomicU64,
    pub(super) total: u64,
}

impl Core {
    /// Asks the remote for its changes now.
    pub(crate) fn ask_for_changes(&self) {
        self.workers.ask.notify_one();
    }

    /// Somebody wants something sent now: a remote that was away is asked whether it is back.
    pub(crate) async fn try_contact(self: &Arc<Self>) {
        if self.connection_state().is_none() && self.knows_remote() {
            return;
        }
        let root = Locator::at(RemotePath::root());
        // What comes of it is in the connection's state.
        if self.remotes.user.stat(&root).await.is_ok()
            && let Err(error) = self.identify(Cause::User).await
        {
            tracing::debug!(%error, "the remote is not usable yet");
        }
    }

    /// Wants these items sent although writers have them open.
    pub(crate) fn urge(&self, items: &[Ino]) {
        Arc::make_mut(&mut lock(&self.workers.urgent)).extend(items);
    }

    /// Nobody waits any more for what is in sync: what is written there later is not sent in part.
    pub(super) fn calm(&self, ino: Ino) {
        if !lock(&self.workers.urgent).contains(&ino) {
            return;
        }
        if self.catalog.read(|rows| rows.outbox(ino)).is_ok_and(|row| row.is_none()) {
            self.is_sent(ino);
        }
    }

    /// It was sent, or nobody waits for it.
    pub(super) fn is_sent(&self, ino: Ino) {
        Arc::make_mut(&mut lock(&self.workers.urgent)).remove(&ino);
    }

    /// Whether an item is being sent.
    pub(crate) fn is_uploading(&self, ino: Ino) -> bool {
        lock(&self.workers.busy).contains(&ino)
    }

    /// What is being sent.
    pub(crate) fn upload_progress(&self) -> Vec<Progress> {
        let sending: Vec<(Ino, Arc<Sending>)> =
            lock(&self.workers.sending).iter().map(|(ino, one)| (*ino, one.clone())).collect();
        let progress = |(ino, one): (Ino, Arc<Sending>)| Progress {
            path: self.path_bytes(ino).unwrap_or_default(),
            what: "upload",
            done: one.done.load(Ordering::Relaxed),
            total: Some(one.total),
        };
        sending.into_iter().map(progress).collect()
    }

    /// Whether anything can be sent now.
    pub(crate) fn can_send(&self) -> bool {
        !self.takes_no_changes() && !self.uploads_paused() && self.connection_state().is_none()
    }

    /// Whether nothing may be changed: the mount is read-only, or the remote, as far as it was asked, is.
    pub(crate) fn takes_no_changes(&self) -> bool {
        self.settings.read_only || !self.remotes.transfer.capabilities().writable
    }

    /// What keeps the mount from being online, if anything.
    pub(crate) fn connection_state(&self) -> Option<(MountState, Option<String>)> {
        let connection = self.link.connection();
        if connection == Connection::Unauthenticated {
            let reason =
                "the remote does not accept user name, password or token: sign in with dewfs login";
            return Some((MountState::AuthRequired, Some(reason.to_owned())));
        }
        if let Some(reason) = lock(&self.workers.missing).clone() {
            let way_out = "bring it back; if it was emptied or replaced on purpose: dewfs sync --accept-remote";
            return Some((MountState::RemoteMissing, Some(format!("{reason}: {way_out}"))));
        }
        match connection {
            Connection::Offline { .. } => {
                let reason = "the remote cannot be reached; what is here can be used";
                Some((MountState::Offline, Some(reason.to_owned())))
            }
            _ => None,
        }
    }

    /// When the remote last answered.
    pub(crate) fn last_contact(&self) -> Option<i64> {
        Some(self.workers.contact.load(Ordering::Relaxed)).filter(|when| *when != 0)
    }

    /// Whether the remote cannot be reached, or is not the one we know: it may be back without anybody doing something here.
    pub(super) fn is_away(&self) -> bool {
        use MountState::{Offline, RemoteMissing};
        matches!(self.connection_state(), Some((Offline | RemoteMissing, _)))
    }

    /// When a remote that is away is asked again; `None` while it is there, and while it is being asked.
    pub(super) fn next_try(&self) -> Option<i64> {
        let is_away = self.is_away();
        let next = self.workers.next_look.load(Ordering::Relaxed);
        (is_away && next > now()).then_some(next)
    }

    /// The remote answered just now.
    pub(super) fn note_contact(&self) {
        self.workers.contact.store(now(), Ordering::Relaxed);
    }

    /// The remote is not the one we know: nothing is sent, nothing it says is believed. Answers whether that is news.
    pub(super) fn set_missing(&self, reason: Option<&str>) -> bool {
        let changed = {
            let mut missing = lock(&self.workers.missing);
            let changed = missing.as_deref() != reason;
            *missing = reason.map(str::to_owned);
            changed
        };
        if changed {
            if let Some(reason) = reason {
                tracing::warn!(reason, "the remote is not the one this mount knows");
            }
            self.pulse();
            self.outbox.notify_one();
            self.listing.notify_one();
        }
        changed
    }

    /// Whether the remote has said who it is since the start, since the connection was last lost, and since it was last doubted.
    pub(crate) fn knows_remote(&self) -> bool {
        let (outages, forgotten) = self.times_lost();
        self.identified.load(Ordering::Acquire) == outages + forgotten + 1
    }

    /// How often the connection was lost, and how often there was another reason to ask who it is.
    pub(super) fn times_lost(&self) -> (u64, u64) {
        (self.link.outages(), self.workers.forgotten.load(Ordering::Acquire))
    }

    /// Requests sent so far, by cause.
    pub(crate) fn requests_by(&self) -> RequestsBy {
        self.link.requests_by()
    }

    /// Whether what failed so would fail for all else as well: it is the remote that is away or lets nobody in, and not a part of
    /// it, such as a disk below a folder that is not mounted now.
    pub(crate) fn would_fail_all(&self, error: &EngineError) -> bool {
        use EngineError::{Offline, TimedOut, Unauthenticated};
        matches!(error, Offline | TimedOut | Unauthenticated)
            && (self.connection_state().is_some() || !self.knows_remote())
    }

    /// Starts the workers that sync: outbox, listing, feed.
    pub(crate) fn start_sync_workers(self: &Arc<Self>) {
        self.runtime.spawn(self.clone().run_feed());
        self.runtime.spawn(self.clone().run_lister());
        if !self.settings.read_only {
            let most = usize::try_from(self.settings.transfers.max(1)).unwrap_or(1);
            self.workers.line.open(most);
            self.runtime.spawn(self.clone().run_uploader());
        }
    }
}
