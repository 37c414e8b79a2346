//! Sending again what may be sent again, for as long as somebody's patience lasts, and knowing whether there is a network.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::layer::{Asked, layer};
use super::limit::{is_awaited, is_background};
use super::line::{Connection, Line, too_slow};
use super::turn::{Queue, answer_until};
use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, ErrorKind, Expect, ListPage, Locator,
    Metadata, Observed, PageToken, Remote, RemoteError, RemotePath, Result, Space, Upload, Verdict,
    Version, commit_time,
};

/// The first wait between two tries, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

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

impl Retry {
    /// When the remote last answered, nanoseconds since 1970.
    pub fn last_answer(&self) -> Option<i64> {
        self.line.last_answer()
    }

    /// Tries the reads of a remote again.
    pub fn new(inner: Arc<dyn Remote>, patience: Patience) -> Self {
        let line = Line::new(Arc::clone(&inner), patience.online);
        Self { inner, patience, line }
    }

    /// How often the connection, or the root, was lost so far.
    pub fn outages(&self) -> Arc<AtomicU64> {
        self.line.outages()
    }

    /// Whether the remote can be reached, now and whenever that changes.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.line.watch()
    }

    /// Somebody waits, so not for long when there is no connection. What nobody waits for has time: were it cut as short, a
    /// remote that became slow would stay offline for ever.
    fn tries(&self) -> Tries {
        let patience = match self.line.connection() {
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
            match self.line.noted(asked, operation, at).await? {
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
        patience: Duration,
    ) -> Result<T> {
        self.line.hushed(operation, at)?;
        let queue = Queue::default();
        let mut ask = std::pin::pin!(queue.of(ask));
        let outcome = loop {
            let moved = *progress.lock().unwrap_or_else(PoisonError::into_inner);
            let end = moved + patience + queue.waited();
            if end <= Instant::now() {
                break Err(too_slow(operation, at));
            }
            tokio::select! {
                outcome = &mut ask => break outcome,
                () = sleep_until(end) => {}
            }
        };
        self.line.note(outcome, operation, at).await
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
            match self.retry.line.noted(asked, "read", &self.at.path).await {
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
        self.once(asked.operation, asked.at, ask, &start, self.patience.change).await
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
        let patience = self.patience.change + commit_time(body.digest.size);
        let written = self.inner.write(at, body, expect);
        self.once("write", &at.path, written, &moved, patience).await
    }
}

layer!(Retry);
