//! What a step's end means for its outbox row: it goes on, rests, or waits with the reason in plain words.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::EngineError;
use super::core::{Core, steady as now};
use super::observe::{change, is_no_folder};
use super::send::{nanos, needs_person};
use super::steps::Ended;
use crate::catalog::{CatalogError, Inode, OutboxItem, Tx};
use crate::model::{Ino, Rows as _, Step, StepKind};
use crate::remote::{ErrorKind, RemoteError, Verdict};

/// How long an item rests after a refusal was settled, first; one that comes again and again does no harm.
const REFUSED: Duration = Duration::from_millis(250);
/// The first wait after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// How long a large file rests while bulk is paused; resuming wakes it.
const PAUSE: Duration = Duration::from_secs(3600);

/// How long a name rests that was refused: mostly for good, but a proxy that has a bad hour refuses in the same words.
const A_DAY: Duration = Duration::from_secs(86_400);

/// The word for an item of which the local disk lost a part.
pub(super) const LOST: &str = "lost";

impl Core {
    /// What the disk lost stays lost for a daemon that finds it on the disk all the same.
    pub(super) fn recall_lossy(&self) -> Result<(), EngineError> {
        for ino in self.catalog.read(|rows| rows.outbox_failed_as(LOST))? {
            if let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? {
                self.cache.note_lossy(ino, inode.generation, true);
            }
        }
        Ok(())
    }

    pub(super) async fn note_outcome(
        self: &Arc<Self>,
        step: Step,
        row: Ino,
        outcome: Result<Ended, EngineError>,
    ) -> Result<(), EngineError> {
        let ino = step.ino;
        match outcome {
            Ok(ended @ (Ended::Done | Ended::Ripens | Ended::Rests(_))) => {
                self.note_done(step, row, ended).await
            }
            Ok(Ended::Later(wait)) => change(self, move |tx| defer(tx, [ino, row], wait)).await,
            Ok(Ended::Stands) => {
                let core = self.clone();
                change(self, move |tx| {
                    // Who let it go on meanwhile has woken it already.
                    let wait = if core.stands_as_bulk(ino) { PAUSE } else { Duration::ZERO };
                    defer(tx, [ino, row], wait)
                })
                .await
            }
            Ok(Ended::Refused) => {
                change(self, move |tx| {
                    for one in HashSet::from([ino, row]) {
                        let tries = tx.outbox_refused(one)?;
                        let wait = REFUSED.saturating_mul(1 << tries.min(20)).min(LONGEST_WAIT);
                        tx.outbox_defer(one, now().saturating_add(nanos(wait)))?;
                    }
                    Ok(())
                })
                .await
            }
            Ok(Ended::Failed(error)) => self.note_failure(step, row, &error).await,
            Err(EngineError::Stopped) => Ok(()),
            Err(error) => {
                let message = error.to_string();
                self.note_problem(Some(ino), &message);
                let (kind, wait) = match error {
                    // However often it is tried: only who wrote it knows what it was.
                    EngineError::Lost => (LOST, Some(Duration::MAX)),
                    _ => ("local", None),
                };
                let wait = Wait { long: wait, name: None };
                self.put_off_row(ino, row, message, kind, wait).await
            }
        }
    }

    /// Notes that a step did something.
    async fn note_done(
        self: &Arc<Self>,
        step: Step,
        row: Ino,
        ended: Ended,
    ) -> Result<(), EngineError> {
        let ino = step.ino;
        if step.kind == StepKind::Write {
            self.is_sent(ino);
        }
        let noted = matches!(ended, Ended::Ripens);
        if noted && row == ino {
            return Ok(());
        }
        // Most rows are gone with their last step: nothing is to be noted then.
        let left = self.catalog.read(|rows| {
            Ok(rows.outbox_item(ino)?.is_some() || rows.outbox_item(row)?.is_some())
        })?;
        if !left {
            return Ok(());
        }
        change(self, move |tx| {
            for one in HashSet::from([ino, row]) {
                if tx.outbox(one)?.is_none() {
                    continue;
                }
                match ended {
                    Ended::Rests(until) if one == ino => {
                        // Who closed it since has told when it is to go.
                        if tx.handles(ino).writers > 0 {
                            tx.outbox_defer(ino, until)?;
                        }
                    }
                    Ended::Ripens if one == ino => {}
                    _ => tx.outbox_progress(one)?,
                }
            }
            Ok(())
        })
        .await
    }

    async fn note_failure(
        self: &Arc<Self>,
        step: Step,
        row: Ino,
        error: &RemoteError,
    ) -> Result<(), EngineError> {
        let kind = &error.kind;
        tracing::info!(ino = step.ino.0, step = ?step.kind, %error, "not sent yet");
        if let ErrorKind::Unsettled { after } = kind {
            let until = now().saturating_add(nanos(*after));
            let ino = step.ino;
            return change(self, move |tx| tx.outbox_defer(ino, until)).await;
        }
        let wait = match kind.verdict() {
            Verdict::After(wait) => Some(wait),
            _ => None,
        };
        // A name that the remote cannot hold waits for a person to give another one.
        let name = error.path.rsplit('/').next().filter(|_| needs_person(kind));
        let wait = Wait { long: wait, name: name.map(str::to_owned) };
        if is_no_folder(kind) || *kind == ErrorKind::NoParent {
            // So would something answer that is in its place.
            self.forget_identity();
            self.ask_for_changes();
        }
        if !matches!(kind, ErrorKind::Offline | ErrorKind::RootMissing) {
            self.note_problem(Some(step.ino), &error.to_string());
        }
        self.put_off_row(step.ino, row, error.to_string(), word(kind), wait).await
    }

    /// Records why an item did not go, and when it is tried again.
    async fn put_off_row(
        self: &Arc<Self>,
        ino: Ino,
        row: Ino,
        message: String,
        kind: &'static str,
        wait: Wait,
    ) -> Result<(), EngineError> {
        let core = self.clone();
        change(self, move |tx| {
            let item = if tx.outbox(ino)?.is_some() { ino } else { row };
            let Some(known) = tx.outbox_item(item)? else { return Ok(()) };
            let wait = match (&wait.name, wait.long) {
                (Some(name), _) if is_named(tx, ino, name)? => A_DAY,
                (Some(_), _) => FIRST_WAIT,
                (None, Some(long)) => long,
                (None, None) => back_off(known.tries),
            };
            // Emptied meanwhile, it holds what is written now, and its row may have been woken already.
            let is_lossy = |one: Inode| core.cache.is_lossy(ino, one.generation);
            let is_anew = kind == LOST && !tx.inode(ino)?.is_some_and(is_lossy);
            let wait = if is_anew { FIRST_WAIT } else { wait };
            let until = now().saturating_add(nanos(wait));
            // Another row that led to this one is chosen again, finds it resting, and is woken with it.
            tx.outbox_failed(item, &message, kind, until).map(drop)
        })
        .await
    }
}

fn defer(tx: &mut Tx, rows: [Ino; 2], wait: Duration) -> Result<(), CatalogError> {
    let until = now().saturating_add(nanos(wait));
    HashSet::from(rows).into_iter().try_for_each(|one| tx.outbox_defer(one, until))
}

/// Is how long an item that did not go waits.
struct Wait {
    /// So long; else the longer the more often it failed.
    long: Option<Duration>,
    /// For as long as it has this name, which the remote cannot hold.
    name: Option<String>,
}

/// Whether an item still has the name under which it was refused: it may have got another one while it was on its way.
fn is_named(tx: &Tx, ino: Ino, name: &str) -> Result<bool, CatalogError> {
    let place = tx.node(ino)?.and_then(|node| node.local);
    Ok(place.is_some_and(|place| String::from_utf8_lossy(place.name.as_bytes()) == name))
}

/// Lets a row that failed go on after `rests` nanoseconds, or when it would be tried again if that is later: since it failed it may
/// have been put off for something else, which is over.
pub(super) fn go_on_after_failure(
    tx: &mut Tx,
    ino: Ino,
    row: &OutboxItem,
    rests: i64,
) -> Result<(), CatalogError> {
    let wait = rests.max(nanos(back_off(row.tries)));
    let until = now().saturating_add(wait);
    match row.not_before {
        Some(later) if later > until => tx.outbox_defer(ino, until),
        _ => Ok(()),
    }
}

fn back_off(tries: u32) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1 << tries.min(20)).min(LONGEST_WAIT);
    // Many that failed together must not come back together.
    wait.mul_f64(0.75 + fastrand::f64() / 2.0)
}

/// Whether an item that failed like this goes by itself once the remote is well again: it is pending, not in error.
pub(super) fn passes_by_itself(word: &str) -> bool {
    matches!(
        word,
        "offline" | "unavailable" | "unauthenticated" | "locked" | "rate-limited" | "away"
    )
}

/// One word for a kind of failure, kept in the outbox.
pub(super) fn word(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Offline | ErrorKind::RootMissing => "offline",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Denied => "denied",
        ErrorKind::NoSpace => "no-space",
        ErrorKind::NameRejected => "name-rejected",
        ErrorKind::Locked { .. } => "locked",
        ErrorKind::ReadOnly => "read-only",
        ErrorKind::RateLimited { .. } => "rate-limited",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Away => "away",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Unavailable => "unavailable",
        _ => "other",
    }
}
