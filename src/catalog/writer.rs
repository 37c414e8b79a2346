//! The one thread that writes: changes from a queue, many to a transaction, each but the first in a savepoint of its own.
//!
//! It takes what is queued when it begins, so a lone change is committed at once and many at a time share one commit. Only
//! a change that nobody waits for stays for a moment, to go along with the next one.

use std::iter::Peekable;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::error::Failure;
use super::{CatalogError, Change, Durability, Origin, PendingCounts, Result, Tx};

/// Changes in one transaction, so that the first need not wait long for the last.
const MOST: usize = 256;
/// Time after which a transaction takes no more changes, for the same reason.
const LONG: Duration = Duration::from_millis(50);
/// Time that a change waits for others to go along with, if nobody waits for it.
const MOMENT: Duration = Duration::from_millis(5);
/// Time without a change after which the WAL is emptied.
const IDLE: Duration = Duration::from_secs(3);
/// Room on the disk below which the ballast is given up before a commit. A failed commit cannot be tried again, since its
/// changes ran once, so this looks ahead.
const LOW: u64 = 16 << 20;
/// Room on the disk that no moment of ours uses up: while there was so much, it is not asked for before each commit.
const PLENTY: u64 = 1 << 30;
/// Time between two calls for ballast that made no room.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Room on the disk below which the WAL is emptied before a commit, so that it need not grow.
const NONE: u64 = 1 << 20;
/// Time between two complaints about commits that failed.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(60);

/// Is a queued change with its answer.
pub(super) trait Job: Send {
    /// Runs the change; `false` if it is to be rolled back.
    fn run(&mut self, tx: &mut Tx) -> bool;
    /// Answers, after the commit or with why there was none.
    fn finish(self: Box<Self>, lost: Option<&Failure>);
}

/// Is what the queue carries.
pub(super) enum Message {
    /// A change.
    Change(Durability, Origin, Box<dyn Job>),
    /// Asks for what is not in sync to be counted.
    Count(Counted),
    /// The end: nothing comes after it.
    Close,
}

/// Is told what is not in sync below each folder.
pub(super) type Counted = Box<dyn FnOnce(Result<PendingCounts>) + Send>;

/// Is a change as a [`Job`].
pub(super) struct Work<C, D, T, E> {
    pub(super) change: Option<C>,
    pub(super) done: D,
    pub(super) result: Option<std::result::Result<T, E>>,
}

impl<C, D, T, E> Job for Work<C, D, T, E>
where
    C: FnOnce(&mut Tx) -> std::result::Result<T, E> + Send,
    D: FnOnce(std::result::Result<T, E>) + Send,
    T: Send,
    E: From<CatalogError> + Send,
{
    fn run(&mut self, tx: &mut Tx) -> bool {
        let Some(change) = self.change.take() else { return false };
        let result = catch_unwind(AssertUnwindSafe(|| change(tx)))
            .unwrap_or_else(|panic| Err(CatalogError::Panicked(message(&*panic)).into()));
        self.result.insert(result).is_ok()
    }

    fn finish(self: Box<Self>, lost: Option<&Failure>) {
        let result = match (self.result, lost) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), None) => Ok(value),
            (Some(Ok(_)), Some(failure)) => Err(failure.to_error().into()),
            (None, failure) => {
                let error = failure.map_or(CatalogError::Closed, Failure::to_error);
                Err(error.into())
            }
        };
        let done = self.done;
        // An answer that panics is its own loss; the next ones are still owed theirs.
        if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
            tracing::error!("the answer to a catalog change panicked");
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Is the writer thread's state.
pub(super) struct Writer {
    pub(super) tx: Tx,
    pub(super) queue: Receiver<Message>,
    pub(super) changes: UnboundedSender<Vec<Change>>,
    /// Moves on with every commit.
    epoch: Arc<AtomicU64>,
    pub(super) folder: PathBuf,
    synced: bool,
    dirty: bool,
    asked: Option<Instant>,
    complained: Option<Instant>,
    /// When there was plenty of room.
    plenty: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        tx: Tx,
        queue: Receiver<Message>,
        changes: UnboundedSender<Vec<Change>>,
        epoch: Arc<AtomicU64>,
        folder: PathBuf,
    ) -> Self {
        Self {
            tx,
            queue,
            changes,
            epoch,
            folder,
            synced: false,
            dirty: true,
            asked: None,
            complained: None,
            plenty: None,
        }
    }

    /// Serves the queue until it is closed.
    pub(super) fn serve(mut self) {
        while let Some(first) = self.next() {
            let mut may_wait = first.0 == Durability::Later;
            let until = Instant::now() + MOMENT;
            let (mut batch, mut counted) = (vec![first], Vec::new());
            let mut open = true;
            while batch.len() < MOST {
                match self.more(may_wait.then_some(until)) {
                    Some(Message::Change(durability, origin, job)) => {
                        may_wait &= durability == Durability::Later;
                        batch.push((durability, origin, job));
                    }
                    Some(Message::Count(done)) => counted.push(done),
                    Some(Message::Close) => {
                        open = false;
                        break;
                    }
                    None => break,
                }
            }
            self.run(batch);
            counted.into_iter().for_each(|done| done(self.tx.count_pending()));
            if !open {
                break;
            }
        }
        self.checkpoint();
    }

    /// What else is queued, now or until then.
    fn more(&self, until: Option<Instant>) -> Option<Message> {
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) => self.queue.recv_timeout(left).ok(),
            None => self.queue.try_recv().ok(),
        }
    }

    /// Waits for a change; a while without one empties the WAL.
    fn next(&mut self) -> Option<(Durability, Origin, Box<dyn Job>)> {
        loop {
            let message = if self.dirty {
                match self.queue.recv_timeout(IDLE) {
                    Err(RecvTimeoutError::Timeout) => {
                        self.checkpoint();
                        continue;
                    }
                    other => other.ok(),
                }
            } else {
                self.queue.recv().ok()
            };
            return match message? {
                Message::Change(durability, origin, job) => Some((durability, origin, job)),
                Message::Count(done) => {
                    done(self.tx.count_pending());
                    continue;
                }
                Message::Close => None,
            };
        }
    }

    /// Runs all of the batch in as few transactions as it takes.
    fn run(&mut self, batch: Vec<(Durability, Origin, Box<dyn Job>)>) {
        let synced = batch.iter().any(|(durability, ..)| *durability == Durability::Synced);
        let mut rest = batch.into_iter().map(|(_, origin, job)| (origin, job)).peekable();
        while rest.peek().is_some() {
            let mut done = Vec::new();
            let outcome = self.transaction(synced, &mut rest, &mut done);
            self.tx.reader.memory.ended();
            match &outcome {
                Ok(changes) if changes.is_empty() => {}
                // Nobody may listen yet or any more: what is not told is found in the rows.
                Ok(changes) => drop(self.changes.send(changes.clone())),
                Err(failure) => self.complain(failure),
            }
            for job in done {
                job.finish(outcome.as_ref().err());
            }
        }
    }

    /// Runs changes until the batch or the time is used up or the transaction breaks, and commits.
    fn transaction(
        &mut self,
        synced: bool,
        rest: &mut Peekable<impl Iterator<Item = (Origin, Box<dyn Job>)>>,
        done: &mut Vec<Box<dyn Job>>,
    ) -> std::result::Result<Vec<Change>, Failure> {
        let start = self.tx.mark();
        let began = Instant::now();
        self.make_room();
        self.dirty = true;
        drop(self.tx.failure.take());
        let mut outcome = self.sync(synced).and_then(|()| self.tx.begin_transaction());
        for (origin, mut job) in rest.by_ref() {
            if outcome.is_ok() {
                let run = if done.is_empty() { run_first } else { run_next };
                outcome = run(&mut self.tx, origin, &mut *job);
            }
            done.push(job);
            if outcome.is_err() || began.elapsed() > LONG {
                break;
            }
        }
        match outcome.and_then(|()| self.commit(synced)) {
            Ok(()) => {
                self.epoch.fetch_add(1, Ordering::AcqRel);
                Ok(self.tx.committed())
            }
            Err(error) => {
                if matches!(error, CatalogError::DiskFull) {
                    self.ask_for_room();
                }
                // Does nothing where SQLite has rolled back already.
                drop(self.tx.connection.execute_batch("ROLLBACK"));
                self.tx.go_back(&start);
                self.tx.take_back_counts();
                Err(self.tx.failure.take().unwrap_or_else(Failure::closed))
            }
        }
    }

    fn commit(&mut self, synced: bool) -> Result<()> {
        self.tx.write_counters(synced)?;
        self.tx.foresee_counts()?;
        self.tx.reader.memory.before_commit(self.tx.changes());
        self.tx.run("COMMIT", []).map(drop)
    }

    /// Says whether the next commits are synced. A synced one syncs the WAL, so all before it as well.
    fn sync(&mut self, synced: bool) -> Result<()> {
        if synced != self.synced {
            let level = if synced { "FULL" } else { "NORMAL" };
            self.tx.connection.pragma_update(None, "synchronous", level)?;
            self.synced = synced;
        }
        Ok(())
    }

    /// Gives up the ballast while there still is room to commit in.
    fn make_room(&mut self) {
        // A transaction may take as long after its look.
        if self.plenty.is_some_and(|at| at.elapsed() < LONG) {
            return;
        }
        let room = self.room();
        self.plenty = (room >= PLENTY).then(Instant::now);
        if room >= LOW {
            return;
        }
        self.ask_for_room();
        if self.room() < NONE && self.dirty {
            self.checkpoint();
        }
    }

    /// What the disk has free, in bytes.
    fn room(&self) -> u64 {
        rustix::fs::statvfs(&self.folder)
            .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Says that a commit failed; while they all do, now and then is enough, since the log may lie on the same full disk.
    fn complain(&mut self, failure: &Failure) {
        if self.complained.is_none_or(|at| at.elapsed() > COMPLAIN_AGAIN) {
            self.complained = Some(Instant::now());
            tracing::warn!(error = %failure.to_error(), "a commit failed");
        } else {
            tracing::debug!(error = %failure.to_error(), "a commit failed");
        }
    }

    fn ask_for_room(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return;
        }
        let made = self.tx.reader.memory.on_disk_full();
        self.asked = (!made).then(Instant::now);
    }

    /// Moves everything from the WAL into the file and empties it, unless somebody reads just now. On a full disk the WAL
    /// keeps its room, which somebody else would take, for the next commits.
    fn checkpoint(&mut self) {
        let how = if self.room() < LOW { "RESTART" } else { "TRUNCATE" };
        let moved = self.tx.connection.execute_batch(&format!(
            "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint({how}); PRAGMA busy_timeout = 5000;"
        ));
        match moved {
            Ok(()) => self.dirty = false,
            Err(error) => tracing::debug!(%error, "no checkpoint"),
        }
    }
}

/// Runs the first change of a transaction, which needs no savepoint: when it is taken back, the transaction begins anew.
fn run_first(tx: &mut Tx, origin: Origin, job: &mut dyn Job) -> Result<()> {
    let mark = tx.begin(origin);
    if !run_job(tx, job)? {
        tx.run("ROLLBACK", [])?;
        tx.go_back(&mark);
        tx.begin_transaction()?;
    }
    Ok(())
}

/// Runs a change; `false` if it is to be rolled back. An error means that the whole transaction is gone.
fn run_job(tx: &mut Tx, job: &mut dyn Job) -> Result<bool> {
    let keep = job.run(tx);
    if tx.connection.is_autocommit() {
        let failure = tx.failure.borrow().clone().unwrap_or_else(Failure::closed);
        return Err(failure.to_error());
    }
    Ok(keep)
}

/// Runs one of the next in its savepoint. An error means that the whole transaction is gone.
fn run_next(tx: &mut Tx, origin: Origin, job: &mut dyn Job) -> Result<()> {
    let mark = tx.begin(origin);
    tx.run("SAVEPOINT change", [])?;
    if !run_job(tx, job)? {
        tx.run("ROLLBACK TO change", [])?;
        tx.go_back(&mark);
    }
    tx.run("RELEASE change", [])?;
    Ok(())
}
