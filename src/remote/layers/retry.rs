//! Sending again what may be sent again, for as long as somebody's patience lasts, and knowing whether there is a network.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::layer::{Asked, layer};
use super::limit::{is_awaited, is_background};
use super::quiet::Quiet;
use super::turn::{NoAnswer, Queue, answer_until};
use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, ErrorKind, Expect, ListPage, Locator,
    Metadata, Observed, PageToken, Remote, RemoteError, RemotePath, Result, Space, Upload, Verdict,
    Version,
};

/// The first wait between two tries, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// So many failures in a row mean that there is no connection; one may be chance.
const FAILURES: u32 = 2;

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

/// Says how long is waited for a remote.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long something that is read may make no progress.
    pub online: Duration,
    /// The same while the remote is known to be offline.
    pub offline: Duration,
    /// How long a change may make no progress: a commit step on the other side can be slow and silent.
    pub change: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            online: Duration::from_secs(30),
            offline: Duration::from_secs(2),
            change: Duration::from_secs(600),
        }
    }
}

/// Is a remote whose reads are tried again. What changes the remote is sent once: its error goes to the engine, which looks
/// what became of it.
#[derive(Clone, Debug)]
pub struct Retry {
    inner: Arc<dyn Remote>,
    patience: Patience,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    connection: watch::Sender<Connection>,
    failures: AtomicU32,
    /// When the remote last answered, nanoseconds since 1970; 0 if it has not.
    last_answer: AtomicI64,
    /// How often the connection, or the root, was lost.
    outages: Arc<AtomicU64>,
    quiet: Mutex<Quiet>,
}

impl Line {
    /// Notes what an outcome says about the connection.
    fn note<T>(&self, outcome: &Result<T>) {
        let kind = outcome.as_ref().err().map(|error| &error.kind);
        if kind == Some(&ErrorKind::Offline) {
            if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
                self.set(Connection::Offline { since: Instant::now() });
            }
            return;
        }
        if kind == Some(&ErrorKind::RootMissing) {
            // Who answers now is to be asked anew, as after an outage.
            self.outages.fetch_add(1, Ordering::Release);
        }
        self.failures.store(0, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        self.last_answer.store(now, Ordering::Relaxed);
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            Some(ErrorKind::RateLimited { after }) => quiet.wanted(*after),
            _ => quiet.ended(),
        }
        drop(quiet);
        match kind {
            Some(ErrorKind::Unauthenticated) => self.set(Connection::Unauthenticated),
            _ => self.set(Connection::Online),
        }
    }

    /// Notes what came of a request; the outer error is of one that was never made, which says nothing about the remote.
    fn noted<T>(
        &self,
        asked: std::result::Result<Result<T>, NoAnswer>,
        operation: &'static str,
        at: &RemotePath,
    ) -> Result<Result<T>> {
        let outcome = match asked {
            Ok(outcome) => outcome,
            Err(NoAnswer::Silent) => Err(too_slow(operation, at)),
            Err(NoAnswer::NoTurn) => return Err(too_slow(operation, at)),
        };
        self.note(&outcome);
        Ok(outcome)
    }

    /// The answer to who asks for what nobody waits for, while the remote wants to be asked no more: it told one of many, and
    /// would tell each of them. Who goes on asking is kept out for longer.
    fn hushed(&self, operation: &'static str, at: &RemotePath) -> Result<()> {
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

/// Is how often something was tried, and until when it may be.
struct Tries {
    deadline: Instant,
    wait: Duration,
}

impl Tries {
    /// Waits before the next try; the error comes back if there is to be none.
    async fn pause(&mut self, error: RemoteError) -> Result<()> {
        let wait = match error.kind.verdict() {
            Verdict::Never => return Err(error),
            Verdict::After(wait) => wait,
            Verdict::BackOff => {
                let wait = self.wait.mul_f64(0.5 + fastrand::f64() / 2.0);
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
                wait
            }
        };
        if Instant::now() + wait >= self.deadline {
            return Err(error);
        }
        sleep(wait).await;
        Ok(())
    }
}

fn too_slow(operation: &'static str, at: &RemotePath) -> RemoteError {
    RemoteError::new(ErrorKind::Offline, operation, at).because("no answer in time")
}

impl Retry {
    /// When the remote last answered, nanoseconds since 1970.
    pub fn last_answer(&self) -> Option<i64> {
        Some(self.line.last_answer.load(Ordering::Relaxed)).filter(|when| *when != 0)
    }

    /// Tries the reads of a remote again.
    pub fn new(inner: Arc<dyn Remote>, patience: Patience) -> Self {
        let line = Line {
            connection: watch::Sender::new(Connection::Online),
            failures: AtomicU32::new(0),
            last_answer: AtomicI64::new(0),
            outages: Arc::default(),
            quiet: Mutex::default(),
        };
        Self { inner, patience, line: Arc::new(line) }
    }

    /// How often the connection, or the root, was lost so far.
    pub fn outages(&self) -> Arc<AtomicU64> {
        self.line.outages.clone()
    }

    /// Whether the remote can be reached, now and whenever that changes.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.line.connection.subscribe()
    }

    /// Somebody waits, so not for long when there is no connection. What nobody waits for has time: were it cut as short, a
    /// remote that became slow would stay offline for ever.
    fn tries(&self) -> Tries {
        let patience = match *self.line.connection.borrow() {
            Connection::Offline { .. } if !is_background() => self.patience.offline,
            _ => self.patience.online,
        };
        Tries { deadline: Instant::now() + patience, wait: FIRST_WAIT }
    }

    fn patient(&self) -> Tries {
        Tries { deadline: Instant::now() + self.patience.online, wait: FIRST_WAIT }
    }

    /// Asks until it is answered, refused for good, or patience ends.
    async fn again_within<'a, T>(
        &self,
        mut tries: Tries,
        operation: &'static str,
        at: &RemotePath,
        ask: impl Fn() -> BoxFuture<'a, Result<T>> + Send + Sync,
    ) -> Result<T> {
        loop {
            if let Err(error) = self.line.hushed(operation, at) {
                tries.pause(error).await?;
                continue;
            }
            let asked = answer_until(&mut tries.deadline, !is_awaited(), ask()).await;
            match self.line.noted(asked, operation, at)? {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// Asks once. An answer that does not come is as good as none.
    async fn once<T>(
        &self,
        operation: &'static str,
        at: &RemotePath,
        ask: impl Future<Output = Result<T>>,
        progress: &Mutex<Instant>,
    ) -> Result<T> {
        self.line.hushed(operation, at)?;
        let queue = Queue::default();
        let mut ask = std::pin::pin!(queue.of(ask));
        let outcome = loop {
            let moved = *progress.lock().unwrap_or_else(PoisonError::into_inner);
            let end = moved + self.patience.change + queue.waited();
            if end <= Instant::now() {
                break Err(too_slow(operation, at));
            }
            tokio::select! {
                outcome = &mut ask => break outcome,
                () = sleep_until(end) => {}
            }
        };
        self.line.note(&outcome);
        outcome
    }
}

/// Is a stream that goes on after a break, at the same version.
struct Resuming {
    retry: Retry,
    at: Locator,
    version: Version,
    rest: Range<u64>,
    bytes: Option<BoxStream<'static, Result<Bytes>>>,
}

impl Resuming {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        // From when somebody asks for bytes: that nobody does is no fault of the remote.
        let mut tries = self.retry.tries();
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let asked = answer_until(&mut tries.deadline, !is_awaited(), self.piece()).await;
            match self.retry.line.noted(asked, "read", &self.at.path) {
                Ok(Ok(bytes)) => {
                    self.rest.start += bytes.len() as u64;
                    return Some(Ok(bytes));
                }
                Err(never_asked) => {
                    self.rest.end = self.rest.start;
                    return Some(Err(never_asked));
                }
                Ok(Err(error)) => {
                    self.bytes = None;
                    if let Err(error) = tries.pause(error).await {
                        self.rest.end = self.rest.start;
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    async fn piece(&mut self) -> Result<Bytes> {
        let bytes = match &mut self.bytes {
            Some(bytes) => bytes,
            None => {
                let rest = self.rest.clone();
                let stream = self.retry.inner.read(&self.at, &self.version, rest).await?;
                self.bytes.insert(stream.bytes)
            }
        };
        let left = self.rest.end - self.rest.start;
        match bytes.next().await {
            Some(Ok(bytes)) if bytes.len() as u64 > left => {
                Err(RemoteError::new(ErrorKind::Corrupt, "read", &self.at.path))
            }
            Some(piece) => piece,
            None => Err(RemoteError::new(ErrorKind::Corrupt, "read", &self.at.path)
                .because("the stream ended early")),
        }
    }
}

impl Retry {
    async fn ask<'a, T>(
        &self,
        asked: Asked<'_>,
        ask: impl Fn() -> BoxFuture<'a, Result<T>> + Send + Sync,
    ) -> Result<T> {
        let tries = if asked.is_patient { self.patient() } else { self.tries() };
        self.again_within(tries, asked.operation, asked.at, ask).await
    }

    async fn change<T>(
        &self,
        asked: Asked<'_>,
        ask: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let start = Mutex::new(Instant::now());
        self.once(asked.operation, asked.at, ask, &start).await
    }

    async fn read_within(
        &self,
        at: &Locator,
        version: &Version,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        let ask = || self.inner.read(at, version, range.clone());
        let stream = self.ask(Asked::of("read", &at.path), ask).await?;
        let resuming = Resuming {
            retry: self.clone(),
            at: at.clone(),
            version: version.clone(),
            rest: range,
            bytes: Some(stream.bytes),
        };
        let bytes = stream::unfold(resuming, |mut resuming| async move {
            resuming.next().await.map(|piece| (piece, resuming))
        });
        Ok(ByteStream { bytes: bytes.boxed(), ..stream })
    }

    async fn write_within(
        &self,
        at: &Locator,
        mut body: Upload,
        expect: Expect,
    ) -> Result<Observed> {
        let moved = Arc::new(Mutex::new(Instant::now()));
        let (note, told) = (Arc::clone(&moved), body.progress.take());
        body.progress = Some(Arc::new(move |sent| {
            *note.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            if let Some(told) = &told {
                told(sent);
            }
        }));
        self.once("write", &at.path, self.inner.write(at, body, expect), &moved).await
    }
}

layer!(Retry);
