//! What the answers of a remote tell of the line to it. One path that is not answered says nothing of the others: before the
//! remote counts as away, or as one that wants another sign-in, its root is asked.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::limit::{as_one_more, is_awaited};
use super::quiet::Quiet;
use super::turn::{NoAnswer, answer_until};
use crate::remote::{ErrorKind, Locator, Remote, RemoteError, RemotePath, Result};

/// So many failures in a row are a reason to ask the root; one may be chance.
const FAILURES: u32 = 2;
/// How long the root's answer is waited for at most.
const ROOT: Duration = Duration::from_secs(10);

/// Says whether the remote can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It answered last.
    Online,
    /// It cannot be reached.
    Offline {
        /// When that was first noticed.
        since: Instant,
    },
    /// It answers, but does not accept who we say we are.
    Unauthenticated,
}

/// Is what is known of the line to a remote.
#[derive(Debug)]
pub(super) struct Line {
    inner: Arc<dyn Remote>,
    patience: Duration,
    connection: watch::Sender<Connection>,
    failures: AtomicU32,
    /// When the remote last answered, nanoseconds since 1970; 0 if it has not.
    last_answer: AtomicI64,
    /// How often the connection, or the root, was lost.
    outages: Arc<AtomicU64>,
    quiet: Mutex<Quiet>,
    /// Whether the root is asked just now, because of what was not answered.
    is_doubted: AtomicBool,
    /// Who was not let in asks the root one after the other; when it was asked last, and whether it lets us in.
    signing: tokio::sync::Mutex<Option<(Instant, Option<bool>)>>,
}

/// The error for an answer that did not come.
pub(super) fn too_slow(operation: &'static str, at: &RemotePath) -> RemoteError {
    RemoteError::new(ErrorKind::Offline, operation, at).because("no answer in time")
}

/// The error for a request that was never made, because the others took all the time there was.
fn no_turn(operation: &'static str, at: &RemotePath) -> RemoteError {
    RemoteError::new(ErrorKind::Unavailable, operation, at)
        .because("other requests took all the time")
}

impl Line {
    /// A line that is thought to be well. `patience` is how long a read may take.
    pub(super) fn new(inner: Arc<dyn Remote>, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            inner,
            patience: patience.min(ROOT),
            connection: watch::Sender::new(Connection::Online),
            failures: AtomicU32::new(0),
            last_answer: AtomicI64::new(0),
            outages: Arc::default(),
            quiet: Mutex::default(),
            is_doubted: AtomicBool::new(false),
            signing: tokio::sync::Mutex::default(),
        })
    }

    /// When the remote last answered, nanoseconds since 1970.
    pub(super) fn last_answer(&self) -> Option<i64> {
        Some(self.last_answer.load(Ordering::Relaxed)).filter(|when| *when != 0)
    }

    /// How often the connection, or the root, was lost so far.
    pub(super) fn outages(&self) -> Arc<AtomicU64> {
        self.outages.clone()
    }

    /// How it is now.
    pub(super) fn connection(&self) -> Connection {
        *self.connection.borrow()
    }

    /// How it is, now and whenever that changes.
    pub(super) fn watch(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    /// Notes what came of a request; the outer error is of one that was never made, which says nothing about the remote.
    pub(super) async fn noted<T>(
        self: &Arc<Self>,
        asked: std::result::Result<Result<T>, NoAnswer>,
        operation: &'static str,
        at: &RemotePath,
    ) -> Result<Result<T>> {
        let outcome = match asked {
            Ok(outcome) => outcome,
            Err(NoAnswer::Silent) => Err(too_slow(operation, at)),
            Err(NoAnswer::NoTurn) => return Err(no_turn(operation, at)),
        };
        Ok(self.note(outcome, operation, at).await)
    }

    /// Notes what an outcome says about the line. The error says more afterwards, where the root was asked.
    pub(super) async fn note<T>(
        self: &Arc<Self>,
        outcome: Result<T>,
        operation: &'static str,
        at: &RemotePath,
    ) -> Result<T> {
        let is_of_root = at.is_root() && operation == "stat";
        let mut error = match outcome {
            Ok(answer) => {
                self.answered(None);
                return Ok(answer);
            }
            Err(error) => error,
        };
        match error.kind {
            ErrorKind::Offline | ErrorKind::Unavailable if is_of_root => {
                // A remote that cannot serve its root serves nothing.
                error.kind = ErrorKind::Offline;
                self.unanswered(|| self.set(Connection::Offline { since: Instant::now() }));
            }
            ErrorKind::Offline | ErrorKind::Unavailable => self.unanswered(|| self.doubt()),
            ErrorKind::Unauthenticated if !at.is_root() => match self.lets_us_in().await {
                Some(true) => error.kind = ErrorKind::Denied,
                Some(false) => self.answered(Some(&error.kind)),
                None => {
                    error.kind = ErrorKind::Unavailable;
                    self.unanswered(|| self.doubt());
                }
            },
            _ => self.answered(Some(&error.kind)),
        }
        Err(error)
    }

    fn unanswered(&self, too_often: impl FnOnce()) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
            too_often();
        }
    }

    /// Notes an answer, whatever it says.
    fn answered(&self, refusal: Option<&ErrorKind>) {
        if refusal == Some(&ErrorKind::RootMissing) {
            // Who answers now is to be asked anew, as after an outage.
            self.outages.fetch_add(1, Ordering::Release);
        }
        self.failures.store(0, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        self.last_answer.store(now, Ordering::Relaxed);
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        match refusal {
            Some(ErrorKind::RateLimited { after }) => quiet.wanted(*after),
            _ => quiet.ended(),
        }
        drop(quiet);
        match refusal {
            Some(ErrorKind::Unauthenticated) => self.set(Connection::Unauthenticated),
            _ => self.set(Connection::Online),
        }
    }

    /// Asks the root, beside what goes on, whether the remote is away.
    fn doubt(self: &Arc<Self>) {
        let is_known = matches!(self.connection(), Connection::Offline { .. });
        if is_known || self.is_doubted.swap(true, Ordering::AcqRel) {
            return;
        }
        let line = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = line.root().await;
            line.is_doubted.store(false, Ordering::Release);
            match outcome.map_err(|error| error.kind) {
                Err(ErrorKind::Offline | ErrorKind::Unavailable) => {
                    line.set(Connection::Offline { since: Instant::now() });
                }
                Err(other) => line.answered(Some(&other)),
                Ok(_) => line.answered(None),
            }
        });
    }

    /// Whether the root is shown to who was not let in elsewhere: then it is that path only. Nothing where it does not answer.
    async fn lets_us_in(&self) -> Option<bool> {
        let refused = Instant::now();
        let mut last = self.signing.lock().await;
        if self.connection() == Connection::Unauthenticated {
            return Some(false);
        }
        // Who stood behind others has their answer: a root that hangs would be waited for by each of them.
        if let Some((_, lets)) = last.filter(|(ended, _)| *ended > refused) {
            return lets;
        }
        let lets = match self.root().await.map_err(|error| error.kind) {
            Ok(()) => {
                self.answered(None);
                Some(true)
            }
            Err(ErrorKind::Unauthenticated) => Some(false),
            Err(_) => None,
        };
        *last = Some((Instant::now(), lets));
        lets
    }

    async fn root(&self) -> Result<()> {
        let root = Locator::at(RemotePath::root());
        let mut deadline = Instant::now() + self.patience;
        // Where all requests hang, it would hang behind them.
        let ask = as_one_more(self.inner.stat(&root));
        match answer_until(&mut deadline, true, ask).await {
            Ok(outcome) => outcome.map(drop),
            Err(_) => Err(too_slow("stat", &root.path)),
        }
    }

    /// The answer to who asks for what nobody waits for, while the remote wants to be asked no more: it told one of many, and
    /// would tell each of them. Who goes on asking is kept out for longer.
    pub(super) fn hushed(&self, operation: &'static str, at: &RemotePath) -> Result<()> {
        let until = self.quiet.lock().unwrap_or_else(PoisonError::into_inner).until;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero() && !is_awaited()) {
            Some(left) => {
                let kind = ErrorKind::RateLimited { after: Some(left) };
                Err(RemoteError::new(kind, operation, at)
                    .because("not asked: it wants fewer requests"))
            }
            None => Ok(()),
        }
    }

    fn set(&self, new: Connection) {
        self.connection.send_if_modified(|now| {
            let differs = std::mem::discriminant(now) != std::mem::discriminant(&new);
            if differs {
                if matches!(new, Connection::Offline { .. }) {
                    self.outages.fetch_add(1, Ordering::Release);
                }
                tracing::info!(connection = ?new, "the remote's connection changed");
                *now = new;
            }
            differs
        });
    }
}
