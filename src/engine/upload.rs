//! The outbox worker: has rows chosen whose time has come, and runs a few steps at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::EngineError;
use super::choose::{Choosing, Chosen, LOOKED_AT, Load, Room};
use super::core::{Core, steady as now};
use super::observe::change;
use super::open::lock;
use super::outcome::{go_on_after_failure, word};
use super::send::nanos;
use crate::catalog::{CatalogError, Durability, OutboxItem, Tx};
use crate::model::{self, Ino, Kind, Step};
use crate::remote::ErrorKind;
use crate::remote::layers::Connection;

/// Steps without bytes at once, for each transfer that may be under way: they wait for answers, not for the line.
const LIGHT: usize = 4;
/// Files being made ready or recorded, for each transfer that may be under way: these take turns in sending. Disks bring many
/// down in the time of a few, so the smallest, which wait for little else, are many.
const IN_STEP: usize = 4;
const TINY_IN_STEP: usize = 16;
/// How long news of rows is gathered before it is looked at: many small changes come one after the other, and each look is
/// a transaction.
const GATHER: Duration = Duration::from_millis(10);
/// How long nothing is looked at if nobody rings.
const REST: Duration = Duration::from_secs(60);
/// How many rows are woken in one transaction.
const WOKEN_AT_ONCE: usize = 500;
/// How long it rests when the catalog cannot say what to send.
const UNCHOSEN: Duration = Duration::from_secs(1);

/// How long steps that end are gathered.
const TOGETHER: Duration = Duration::from_millis(5);

/// Is a step under way, counted.
struct Counted(Arc<Core>, Load);

impl Counted {
    fn new(core: Arc<Core>, load: Load) -> Self {
        let counted = Self(core, load);
        for count in counted.counts() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        counted
    }

    fn counts(&self) -> impl Iterator<Item = &AtomicUsize> {
        let workers = &self.0.workers;
        match self.1 {
            Load::Light => [Some(&workers.light), None],
            Load::Tiny => [Some(&workers.tiny), None],
            Load::Small => [Some(&workers.heavy), None],
            Load::Large => [Some(&workers.heavy), Some(&workers.large)],
        }
        .into_iter()
        .flatten()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for count in self.counts() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Is a program that waits until an item is sent; it may stop waiting at any time.
struct Awaited<'a>(&'a Core, Ino);

impl<'a> Awaited<'a> {
    fn new(core: &'a Core, ino: Ino) -> Self {
        core.workers.awaited.fetch_add(1, Ordering::Relaxed);
        Self(core, ino)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.is_sent(self.1);
        self.0.workers.awaited.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Core {
    /// Brings everything in the outbox in sync; ends with the engine.
    pub(crate) async fn run_uploader(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let mut link = self.link.watch();
        let mut running = JoinSet::new();
        let most = usize::try_from(self.settings.transfers.max(1)).unwrap_or(1);
        loop {
            let wait = if self.can_send() && self.knows_remote() {
                self.start_steps(&mut running, most).await
            } else {
                // Whatever lets it go on rings.
                REST
            };
            let (rung, ended, back) = tokio::select! {
                () = self.outbox.notified() => (true, false, false),
                _ = running.join_next(), if !running.is_empty() => (false, true, false),
                changed = link.changed() => (false, false, changed.is_ok()),
                () = tokio::time::sleep(wait) => (false, false, false),
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            if rung {
                self.gather(&mut running).await;
            }
            if ended {
                self.ended_together(&mut running, most).await;
            }
            if back && self.link.connection() == Connection::Online {
                self.wake_offline().await;
            }
        }
    }

    /// Waits a moment for more news, unless a step ends or somebody waits for the remote.
    async fn gather(&self, running: &mut JoinSet<()>) {
        if self.workers.awaited.load(Ordering::Relaxed) > 0 {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            _ = running.join_next(), if !running.is_empty() => {}
        }
    }

    /// Waits a moment for other steps to end as well, while enough of them are under way: each look at the rows is a
    /// transaction.
    async fn ended_together(&self, running: &mut JoinSet<()>, most: usize) {
        let until = Instant::now() + TOGETHER;
        let is_busy = || {
            let under_way = |count: &AtomicUsize| count.load(Ordering::Relaxed);
            let enough = under_way(&self.workers.heavy) > most * IN_STEP / 2
                || under_way(&self.workers.tiny) > most * TINY_IN_STEP / 2;
            enough && under_way(&self.workers.awaited) == 0
        };
        loop {
            while running.try_join_next().is_some() {}
            if !is_busy() {
                return;
            }
            match tokio::time::timeout_at(until, running.join_next()).await {
                Ok(Some(_ended)) => {}
                _ => return,
            }
        }
    }

    /// Starts as many steps as there is room for; how long nothing more is to be chosen, if nobody rings.
    async fn start_steps(self: &Arc<Self>, running: &mut JoinSet<()>, most: usize) -> Duration {
        let begun = now();
        let under_way = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let room = Room {
            light: (most * LIGHT).saturating_sub(under_way(&self.workers.light)),
            tiny: (most * TINY_IN_STEP).saturating_sub(under_way(&self.workers.tiny)),
            heavy: (most * IN_STEP).saturating_sub(under_way(&self.workers.heavy)),
            // Where several may go at once, one is kept for small files: they do not wait for large ones.
            large: (most - 1).max(1).saturating_sub(under_way(&self.workers.large)),
            line: most
                .saturating_sub(under_way(&self.workers.heavy))
                .saturating_sub(under_way(&self.workers.tiny)),
            first_large: under_way(&self.workers.large) == 0,
        };
        // Most news is of rows that rest: whoever only creates must not share the catalog's thread with choosing nothing.
        if room.is_none() || !self.is_anything_due() {
            return self.until_next_due(begun, running);
        }
        let chosen = match self.choose(room).await {
            Ok(chosen) => chosen,
            Err(error) => {
                if !self.is_stopped() {
                    tracing::warn!(%error, "cannot choose what to send");
                }
                return UNCHOSEN;
            }
        };
        // Those that found no room wait for the end of a step.
        let again = chosen.looked_at >= LOOKED_AT && !chosen.skipped;
        for (step, row, load) in chosen.steps {
            let core = self.clone();
            lock(&self.workers.busy).insert(step.ino);
            let counted = Counted::new(core.clone(), load);
            running.spawn(async move {
                core.run_step(step, row).await;
                drop(counted);
            });
        }
        // Once it is known what is under way.
        for (row, blocker) in chosen.behind {
            lock(&self.workers.waiting).entry(blocker).or_default().insert(row);
        }
        self.note_waiting(chosen.waiting).await;
        if again { Duration::ZERO } else { self.until_next_due(begun, running) }
    }

    async fn choose(self: &Arc<Self>, room: Room) -> Result<Chosen, EngineError> {
        let choosing = Choosing {
            now: now(),
            busy: lock(&self.workers.busy).clone(),
            urgent: lock(&self.workers.urgent).clone(),
            writers_rest: nanos(self.writer_pause()),
            room,
            limit: usize::try_from(self.settings.guard).unwrap_or(usize::MAX),
            guard: self.workers.guard.clone(),
            heavy: self.workers.heavy_rows.clone(),
            open: self.open.clone(),
        };
        change(self, move |tx| choosing.run(tx)).await
    }

    fn is_anything_due(&self) -> bool {
        let due = self.catalog.read(|rows| rows.next_due_after(i64::MIN));
        due.map_or(true, |due| due.is_some_and(|due| due <= now()))
    }

    /// How long until another row's time comes, of those whose time had not come when the choice began: what was due then
    /// waits for a step under way, whose end is heard.
    fn until_next_due(&self, begun: i64, running: &JoinSet<()>) -> Duration {
        let after = if running.is_empty() { i64::MIN } else { begun };
        let Ok(Some(due)) = self.catalog.read(|rows| rows.next_due_after(after)) else {
            return REST;
        };
        let left = u64::try_from(due.saturating_sub(now())).unwrap_or(0);
        Duration::from_nanos(left).max(Duration::from_millis(50)).min(REST)
    }

    async fn run_step(self: Arc<Self>, step: Step, row: Ino) {
        #[cfg(debug_assertions)]
        self.workers.crash.count_step(step.ino);
        let outcome = self.do_step(step, row).await;
        tracing::debug!(ino = step.ino.0, step = ?step.kind, ?outcome, "step");
        if let Err(error) = self.note_outcome(step, row, outcome).await
            && !self.is_stopped()
        {
            tracing::warn!(ino = step.ino.0, %error, "cannot note how sending went");
        }
        // Not before: who chose in between began the same step again.
        lock(&self.workers.busy).remove(&step.ino);
        self.wake_waiting(step.ino).await;
        self.pulse();
    }

    /// These rows go on when the step of another inode has ended.
    async fn note_waiting(self: &Arc<Self>, waiting: Vec<(Ino, Ino)>) {
        let blockers: HashSet<Ino> = waiting.iter().map(|(_, blocker)| *blocker).collect();
        for (row, blocker) in waiting {
            lock(&self.workers.waiting).entry(blocker).or_default().insert(row);
        }
        for blocker in blockers {
            // It ended while the choice was made, and found nobody to wake.
            if !lock(&self.workers.busy).contains(&blocker) {
                self.wake_waiting(blocker).await;
            }
        }
    }

    /// Rows that waited for this inode's step may go; those that failed before, when they would have gone without it.
    async fn wake_waiting(self: &Arc<Self>, ino: Ino) {
        let rows = lock(&self.workers.waiting).remove(&ino);
        let rows: Vec<Ino> = rows.into_iter().flatten().collect();
        let wake = |tx: &mut Tx, row, item: OutboxItem| match item.error {
            None => tx.outbox_wake(row),
            Some(_) => go_on_after_failure(tx, row, &item, 0),
        };
        self.wake_each(rows, wake).await;
    }

    /// The remote can be reached again: what failed for want of it goes at once.
    async fn wake_offline(self: &Arc<Self>) {
        let offline = word(&ErrorKind::Offline);
        match self.catalog.read(|rows| rows.outbox_failed_as(offline)) {
            Ok(rows) => {
                let wake = move |tx: &mut Tx, row, item: OutboxItem| {
                    let is_meant = item.error_kind.as_deref() == Some(offline);
                    if is_meant { tx.outbox_wake(row) } else { Ok(()) }
                };
                self.wake_each(rows, wake).await;
            }
            Err(error) => tracing::debug!(%error, "cannot tell what waited for the remote"),
        }
        self.listing.notify_one();
        self.ask_for_changes();
    }

    /// Wakes those of these rows that are still so; some at a time, since programs change rows meanwhile.
    async fn wake_each(
        self: &Arc<Self>,
        rows: Vec<Ino>,
        wake: impl Fn(&mut Tx, Ino, OutboxItem) -> Result<(), CatalogError> + Clone + Send + 'static,
    ) {
        for some in rows.chunks(WOKEN_AT_ONCE) {
            let (some, wake) = (some.to_vec(), wake.clone());
            let woken = change(self, move |tx| {
                for row in some {
                    if let Some(item) = tx.outbox_item(row)? {
                        wake(tx, row, item)?;
                    }
                }
                Ok(())
            });
            if let Err(error) = woken.await {
                tracing::debug!(%error, "cannot wake what waited");
            }
        }
    }

    /// Sends an item now and resolves when the remote has what it holds now.
    pub(crate) async fn send_now(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        self.observe_data(ino).await?;
        let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { return Ok(()) };
        if inode.kind != Kind::File || inode.local.is_none() {
            return Ok(());
        }
        self.urge(&[ino]);
        let _awaited = Awaited::new(self, ino);
        self.wait_sent(ino, inode.edition).await
    }

    async fn wait_sent(
        self: &Arc<Self>,
        ino: Ino,
        edition: model::Edition,
    ) -> Result<(), EngineError> {
        change(self, move |tx| tx.outbox_wake(ino)).await?;
        self.outbox.notify_one();
        let mut pulse = self.pulse.subscribe();
        let mut end = Instant::now() + self.settings.timeout;
        let mut back_by = Instant::now() + COMES_BACK;
        if self.what_keeps_all().is_some() {
            // Somebody would notice if it were back.
            self.ask_for_changes();
        }
        let mut sent = 0;
        loop {
            pulse.borrow_and_update();
            let (row, base) =
                self.catalog.read(|rows| Ok((rows.outbox_item(ino)?, rows.base(ino)?)))?;
            let Some(row) = row else { return Ok(()) };
            if base.is_some_and(|base| base.edition >= edition) {
                return Ok(());
            }
            if let Some(error) = row.error {
                return Err(not_sent(row.error_kind.as_deref(), error));
            }
            let sending =
                lock(&self.workers.sending).get(&ino).map(|one| one.done.load(Ordering::Relaxed));
            let now_sent = sending.unwrap_or(0);
            let moves = now_sent != sent;
            if moves {
                sent = now_sent;
                end = Instant::now() + self.settings.timeout;
            }
            match self.what_keeps_all() {
                None => back_by = Instant::now() + COMES_BACK,
                // An outage may be over by now; what is under way when sending is paused ends by itself.
                Some(EngineError::Offline) if moves => back_by = Instant::now() + COMES_BACK,
                Some(EngineError::Offline) if Instant::now() < back_by => {}
                Some(EngineError::Busy(_)) if sending.is_some() => {}
                Some(error) => return Err(error),
            }
            if Instant::now() >= end {
                return Err(EngineError::TimedOut);
            }
            let pause = Duration::from_millis(200).min(end - Instant::now());
            let _either = tokio::time::timeout(pause, pulse.changed()).await;
        }
    }

    /// After a start no handle is open and no step is under way: rows that only these held are let go.
    pub(crate) async fn recover_rows(self: &Arc<Self>) -> Result<(), EngineError> {
        self.catalog
            .write(Durability::Soon, crate::catalog::Origin::Engine, |tx| {
                model::recover(tx)?;
                tx.outbox_recover()
            })
            .await
            .map_err(EngineError::from)
    }
}

/// How long a program that waits for a remote which is known to be away waits for its return.
const COMES_BACK: Duration = Duration::from_secs(2);

/// The error for a program that waits for the remote.
pub(super) fn not_sent(kind: Option<&str>, message: String) -> EngineError {
    match kind {
        Some("offline") => EngineError::Offline,
        Some("unauthenticated") => EngineError::Unauthenticated,
        Some("no-space") => EngineError::QuotaExceeded,
        Some("read-only") => EngineError::ReadOnly,
        Some("denied") => EngineError::Denied(message),
        Some("name-rejected") => EngineError::Invalid("the remote cannot hold this name"),
        _ => EngineError::TimedOut,
    }
}
