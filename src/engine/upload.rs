//! The outbox worker: chooses rows whose time has come, plans a step for each, runs a few at once, and puts off what
//! cannot go, with the reason in plain words.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::EngineError;
use super::core::{Core, steady as now};
use super::observe::change;
use super::open::{OpenTable, lock};
use super::outcome::{LONGEST_WAIT, word};
use super::send::nanos;
use crate::catalog::{CatalogError, Durability, Tx};
use crate::model::{self, Busy, Ino, Kind, Rows as _, Step, StepKind};
use crate::remote::ErrorKind;
use crate::remote::layers::Connection;

/// Rows planned in one transaction.
const LOOKED_AT: usize = 64;
/// How long a row rests that waits for another one's step, if nobody wakes it before.
const WAIT: Duration = Duration::from_millis(300);
/// Steps without bytes at once, for each transfer that may be under way: they wait for answers, not for the line.
const LIGHT: usize = 4;
/// How long a held row rests; a person's release wakes it.
const HELD: Duration = Duration::from_secs(60);
/// How long news of rows is gathered before it is looked at: many small changes come one after the other, and each look is
/// a transaction.
const GATHER: Duration = Duration::from_millis(10);

/// Is what choosing needs to know.
struct Choosing {
    now: i64,
    busy: Busy,
    urgent: HashSet<Ino>,
    writers_rest: i64,
    /// How many steps that move bytes, and how many that do not, may begin.
    room: (usize, usize),
    limit: usize,
    guard: super::guard::Shared,
    open: Arc<OpenTable>,
}

/// Is what choosing found.
#[derive(Default)]
struct Chosen {
    /// Steps to run, each with the row that led to it.
    steps: Vec<(Step, Ino)>,
    /// Rows that wait for the step of another inode.
    waiting: Vec<(Ino, Ino)>,
    /// How many rows were looked at.
    looked_at: usize,
    /// How many of the steps move bytes, and how many do not.
    taken: (usize, usize),
    /// Whether there is no more room for the ones, and for the others.
    full: (bool, bool),
    /// Whether one was left for want of room.
    skipped: bool,
}

impl Chosen {
    /// Whether there is room for such a step.
    fn has_room(&mut self, step: Step, room: (usize, usize)) -> bool {
        self.full = (self.taken.0 >= room.0, self.taken.1 >= room.1);
        if moves_bytes(step.kind) { !self.full.0 } else { !self.full.1 }
    }

    /// Counts a step for which there is room.
    fn take(&mut self, step: Step, room: (usize, usize)) {
        let taken = if moves_bytes(step.kind) { &mut self.taken.0 } else { &mut self.taken.1 };
        *taken += 1;
        self.full = (self.taken.0 >= room.0, self.taken.1 >= room.1);
    }
}

fn moves_bytes(kind: StepKind) -> bool {
    matches!(kind, StepKind::Write | StepKind::Fetch)
}

/// Is a step under way, counted.
struct Counted(Arc<Core>, StepKind);

impl Counted {
    fn new(core: Arc<Core>, kind: StepKind) -> Self {
        let counted = Self(core, kind);
        counted.count().fetch_add(1, Ordering::Relaxed);
        counted
    }

    fn count(&self) -> &AtomicUsize {
        let workers = &self.0.workers;
        if moves_bytes(self.1) { &workers.heavy } else { &workers.light }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
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
            let mut again = false;
            if self.can_send() && self.knows_remote() {
                again = self.start_steps(&mut running, most).await;
            }
            let wait = if again { Duration::ZERO } else { self.until_next_due() };
            let (rung, back) = tokio::select! {
                () = self.outbox.notified() => (true, false),
                _ = running.join_next(), if !running.is_empty() => (false, false),
                changed = link.changed() => (false, changed.is_ok()),
                () = tokio::time::sleep(wait) => (false, false),
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            if rung {
                self.gather(&mut running).await;
            }
            if back && self.link.connection() == Connection::Online {
                self.wake_offline().await;
            }
        }
    }

    /// Waits a moment for more news, unless a step ends or somebody waits for the remote.
    async fn gather(&self, running: &mut JoinSet<()>) {
        if !lock(&self.workers.urgent).is_empty() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            _ = running.join_next(), if !running.is_empty() => {}
        }
    }

    /// Starts as many steps as there is room for; `true` if there may be more to choose at once.
    async fn start_steps(self: &Arc<Self>, running: &mut JoinSet<()>, most: usize) -> bool {
        let under_way = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let heavy = most.saturating_sub(under_way(&self.workers.heavy));
        let light = (most * LIGHT).saturating_sub(under_way(&self.workers.light));
        let room = (heavy, light);
        if room == (0, 0) {
            return false;
        }
        let chosen = match self.choose(room).await {
            Ok(chosen) => chosen,
            Err(error) => {
                tracing::warn!(%error, "cannot choose what to send");
                return false;
            }
        };
        for (row, blocker) in chosen.waiting {
            lock(&self.workers.waiting).entry(blocker).or_default().push(row);
        }
        // Those that found no room wait for the end of a step.
        let again = chosen.looked_at >= LOOKED_AT && !chosen.skipped;
        for (step, row) in chosen.steps {
            let core = self.clone();
            lock(&self.workers.busy).insert(step.ino);
            let counted = Counted::new(core.clone(), step.kind);
            running.spawn(async move {
                core.run_step(step, row).await;
                drop(counted);
            });
        }
        again
    }

    async fn choose(self: &Arc<Self>, room: (usize, usize)) -> Result<Chosen, EngineError> {
        let choosing = Choosing {
            now: now(),
            busy: lock(&self.workers.busy).clone(),
            urgent: lock(&self.workers.urgent).clone(),
            writers_rest: nanos(self.writer_pause()),
            room,
            limit: usize::try_from(self.settings.guard).unwrap_or(usize::MAX),
            guard: self.workers.guard.clone(),
            open: self.open.clone(),
        };
        change(self, move |tx| choosing.run(tx)).await
    }

    fn until_next_due(&self) -> Duration {
        let rest = Duration::from_secs(60);
        let due = self.catalog.read(|rows| rows.next_due());
        let Ok(Some(due)) = due else { return rest };
        let left = u64::try_from(due.saturating_sub(now())).unwrap_or(0);
        // What is due already waits for a step under way, for the connection, or for a person.
        Duration::from_nanos(left).max(Duration::from_millis(50)).min(rest)
    }

    async fn run_step(self: Arc<Self>, step: Step, row: Ino) {
        let outcome = self.do_step(step).await;
        tracing::debug!(ino = step.ino.0, step = ?step.kind, ?outcome, "step");
        lock(&self.workers.busy).remove(&step.ino);
        if let Err(error) = self.note_outcome(step, row, outcome).await
            && !self.is_stopped()
        {
            tracing::warn!(ino = step.ino.0, %error, "cannot note how sending went");
        }
        self.wake_waiting(step.ino).await;
        self.pulse();
    }

    /// Rows that waited for this inode's step may go.
    async fn wake_waiting(self: &Arc<Self>, ino: Ino) {
        let Some(rows) = lock(&self.workers.waiting).remove(&ino) else { return };
        let woken = change(self, move |tx| {
            for row in rows {
                let failed = tx.outbox_item(row)?.is_none_or(|item| item.error.is_some());
                if !failed {
                    tx.outbox_wake(row)?;
                }
            }
            Ok(())
        })
        .await;
        if let Err(error) = woken {
            tracing::debug!(%error, "cannot wake what waited");
        }
    }

    /// The remote can be reached again: what failed for want of it goes at once.
    async fn wake_offline(self: &Arc<Self>) {
        let woken = change(self, |tx| {
            for ino in tx.outbox_all()? {
                let kind = tx.outbox_item(ino)?.and_then(|item| item.error_kind);
                if kind.as_deref() == Some(word(&ErrorKind::Offline)) {
                    tx.outbox_wake(ino)?;
                }
            }
            Ok(())
        })
        .await;
        if let Err(error) = woken {
            tracing::debug!(%error, "cannot wake what waited for the remote");
        }
        self.listing.notify_one();
        self.ask_for_changes();
    }

    /// Sends an item now and resolves when the remote has what it holds now.
    pub(crate) async fn send_now(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        self.observe_data(ino).await?;
        let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { return Ok(()) };
        if inode.kind != Kind::File || inode.local.is_none() {
            return Ok(());
        }
        self.urge(&[ino]);
        let outcome = self.wait_sent(ino, inode.edition).await;
        lock(&self.workers.urgent).remove(&ino);
        outcome
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
            let now_sent = lock(&self.workers.sending)
                .get(&ino)
                .map_or(0, |one| one.done.load(Ordering::Relaxed));
            if now_sent != sent {
                sent = now_sent;
                end = Instant::now() + self.settings.timeout;
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
                tx.outbox_wake_all()
            })
            .await
            .map_err(EngineError::from)
    }
}

impl Choosing {
    fn run(self, tx: &mut Tx) -> Result<Chosen, CatalogError> {
        let mut guard = lock(&self.guard);
        let guarding = guard.guard(tx, self.limit)?;
        let mut busy = self.busy.clone();
        let mut chosen = Chosen::default();
        for row in tx.outbox_due(self.now, LOOKED_AT)? {
            if chosen.full == (true, true) {
                chosen.skipped = true;
                break;
            }
            chosen.looked_at += 1;
            let step = model::plan(tx, row, &busy)?;
            if step == (Step { kind: StepKind::Wait, ino: row }) && busy.contains(&row) {
                // Its step under way says when it goes on.
                continue;
            }
            if step.kind == StepKind::Held && step.ino != row {
                guard.behind.insert(row);
            } else {
                guard.behind.remove(&row);
            }
            if let Some(rest) = self.rest_of(tx, row, step)? {
                if step.kind == StepKind::Wait && busy.contains(&step.ino) {
                    chosen.waiting.push((row, step.ino));
                }
                tx.outbox_defer(row, self.now.saturating_add(rest))?;
                continue;
            }
            if !chosen.has_room(step, self.room) {
                chosen.skipped = true;
                continue;
            }
            if !guard.passes(tx, step, guarding)? {
                tx.outbox_defer(row, self.now.saturating_add(super::guard::rest()))?;
                continue;
            }
            chosen.take(step, self.room);
            busy.insert(step.ino);
            chosen.steps.push((step, row));
        }
        Ok(chosen)
    }

    /// How long this row rests instead of being run, nanoseconds; `None` if its step may go.
    fn rest_of(&self, tx: &Tx, row: Ino, step: Step) -> Result<Option<i64>, CatalogError> {
        if let Some(item) = tx.outbox_item(step.ino)?.filter(|_| step.ino != row)
            && let Some(left) = item.not_before.map(|when| when - self.now).filter(|l| *l > 0)
            && step.kind != StepKind::Wait
        {
            return Ok(Some(left.min(nanos(LONGEST_WAIT))));
        }
        // A file that is only mapped is asked about by its step: nobody tells of the end.
        let mapped = u32::from(self.open.is_mapped(step.ino));
        let writing = tx.handles(step.ino).writers > mapped;
        Ok(match step.kind {
            StepKind::Wait | StepKind::Cycle => Some(nanos(WAIT)),
            StepKind::Held => Some(nanos(HELD)),
            StepKind::Settled if writing => Some(self.writers_rest),
            StepKind::Write if writing && !self.may_interrupt(tx, step.ino)? => {
                Some(self.writers_rest)
            }
            _ => None,
        })
    }

    /// Whether a file that is being written is to be sent all the same.
    fn may_interrupt(&self, tx: &Tx, ino: Ino) -> Result<bool, CatalogError> {
        let since = tx.outbox_item(ino)?.map_or(self.now, |item| item.since);
        Ok(self.urgent.contains(&ino) || self.now - since >= self.writers_rest)
    }
}

/// The error for a program that waits for the remote.
fn not_sent(kind: Option<&str>, message: String) -> EngineError {
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
