//! The bytes of an upload on their way: read again from the start for each request, counted, and held back at the very end
//! until it is certain that what was sent is still whole.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::failure::{Failure, Outcome};
use crate::remote::layers::Pace;
use crate::remote::{Body, CommitCheck, ErrorKind, Upload, is_still_whole};

/// How much is sent and counted at a time.
const CHUNK: usize = 256 << 10;
/// How much of a file is read at a time.
const PIECE: usize = 1 << 20;

/// Is bytes of a file that are being read.
type Piece = JoinHandle<std::io::Result<(Arc<std::fs::File>, Bytes)>>;

/// Is how far the file of one request is read.
#[derive(Default)]
struct Reading {
    /// Read, and not sent yet.
    read: Bytes,
    /// What comes after that.
    coming: Option<Piece>,
}

/// Notes when bytes went out last, and whether there are more.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    last: AtomicU64,
    is_out: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0), is_out: AtomicBool::new(false) }
    }
}

impl Progress {
    fn note(&self) {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// From now on only the answer is waited for.
    pub(super) fn all_out(&self) {
        self.note();
        self.is_out.store(true, Ordering::Release);
    }

    fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// What `work` gives, or for how long neither it nor the bytes got on: `stall` while there are bytes, and `patience`
    /// after them.
    pub(super) async fn watch<T>(
        &self,
        work: impl Future<Output = T>,
        stall: Duration,
        patience: Duration,
    ) -> Result<T, Duration> {
        let mut work = std::pin::pin!(work);
        loop {
            // Asked first: what is out by then has its time noted.
            let limit = if self.is_out.load(Ordering::Acquire) { patience } else { stall };
            let until = self.last() + limit;
            if until <= Instant::now() {
                return Err(limit);
            }
            if let Ok(done) = tokio::time::timeout_at(until, &mut work).await {
                return Ok(done);
            }
        }
    }
}

/// Is what one request sends.
#[derive(Clone)]
pub(super) struct Sending {
    source: Body,
    pub(super) length: u64,
    told: Option<Arc<dyn Fn(u64) + Send + Sync>>,
    pace: Option<Arc<Pace>>,
    /// Asked before the last bytes go out, if those bytes make the upload visible.
    check: Option<CommitCheck>,
    refused: Arc<Mutex<Option<Failure>>>,
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Sending {
    /// An upload whose last byte makes it visible at once, or (`is_final` false) one that is moved into place afterwards.
    pub(super) async fn new(upload: &Upload, is_final: bool) -> Outcome<Self> {
        let length = match &upload.body {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::File(path) => length_of(path).await?,
        };
        if length != upload.digest.size {
            return Err(changed());
        }
        let check = upload.still_whole.clone().filter(|_| is_final);
        if length == 0 && !is_still_whole(check.as_ref()).await {
            return Err(changed());
        }
        let told = upload.progress.clone();
        let (source, pace) = (upload.body.clone(), upload.pace.clone());
        Ok(Self { source, length, told, pace, check, refused: Arc::default() })
    }

    pub(super) fn small(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len() as u64;
        let source = Body::Memory(bytes);
        Self { source, length, told: None, pace: None, check: None, refused: Arc::default() }
    }

    /// Why the stream gave up, if it did.
    pub(super) fn verdict(&self) -> Outcome<()> {
        match self.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn refuse(&self, failure: Failure) -> std::io::Error {
        let error = std::io::Error::other(failure.why.clone());
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        error
    }

    /// The body of one request.
    pub(super) fn body(&self, progress: Arc<Progress>) -> reqwest::Body {
        match (&self.source, &self.check, &self.told) {
            (Body::Memory(bytes), None, None) if self.pace.is_none() => {
                progress.all_out();
                reqwest::Body::from(bytes.clone())
            }
            _ => reqwest::Body::wrap_stream(self.stream(progress)),
        }
    }

    fn stream(
        &self,
        progress: Arc<Progress>,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let state = (self.clone(), Reading::default(), 0u64, progress);
        stream::try_unfold(state, |(sending, mut reading, sent, progress)| async move {
            if sent == sending.length {
                progress.all_out();
                return Ok(None);
            }
            let chunk = sending.next(&mut reading, sent).await?;
            if let Some(pace) = &sending.pace {
                let mut left = chunk.len() as u64;
                while left > 0 {
                    let part = left.min(pace.portion());
                    pace.take(part).await;
                    progress.note();
                    left -= part;
                }
            }
            let sent = sent + chunk.len() as u64;
            let is_last = sent == sending.length;
            if is_last && !is_still_whole(sending.check.as_ref()).await {
                return Err(sending.refuse(changed()));
            }
            // Who knows the length asks for no end.
            if is_last {
                progress.all_out();
            } else {
                progress.note();
            }
            if let Some(told) = &sending.told {
                told(sent);
            }
            Ok(Some((chunk, (sending, reading, sent, progress))))
        })
    }

    /// The next bytes; of a file, the ones after them are being read meanwhile.
    async fn next(&self, reading: &mut Reading, sent: u64) -> std::io::Result<Bytes> {
        let left = usize::try_from(self.length - sent).unwrap_or(usize::MAX);
        let path = match &self.source {
            Body::Memory(bytes) => {
                let start = usize::try_from(sent).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(left.min(CHUNK)).min(bytes.len());
                return Ok(bytes.slice(start..end));
            }
            Body::File(path) => path,
        };
        if reading.read.is_empty() {
            let piece = match reading.coming.take() {
                Some(piece) => piece,
                None => {
                    let path = path.clone();
                    let open = tokio::task::spawn_blocking(move || std::fs::File::open(path));
                    let opened = open.await.unwrap_or_else(|stopped| Err(stopped.into()));
                    let file = opened.map_err(|e| self.unreadable(&e))?;
                    begin_reading(&Arc::new(file), sent, self.length)
                }
            };
            let (file, piece) =
                piece.await.unwrap_or_else(|stopped| Err(stopped.into())).map_err(|error| {
                    match error.kind() {
                        std::io::ErrorKind::UnexpectedEof => self.refuse(changed()),
                        _ => self.unreadable(&error),
                    }
                })?;
            let end = sent + piece.len() as u64;
            reading.coming = (end < self.length).then(|| begin_reading(&file, end, self.length));
            reading.read = piece;
        }
        let length = reading.read.len().min(CHUNK);
        Ok(reading.read.split_to(length))
    }

    fn unreadable(&self, error: &std::io::Error) -> std::io::Error {
        self.refuse(Failure::new(ErrorKind::Other, format!("the local file: {error}")))
    }
}

/// Reads the bytes after `from`, as many as are read at a time; `UnexpectedEof` if the file has fewer than `length`.
fn begin_reading(file: &Arc<std::fs::File>, from: u64, length: u64) -> Piece {
    let file = file.clone();
    tokio::task::spawn_blocking(move || {
        let size = usize::try_from(length - from).unwrap_or(usize::MAX).min(PIECE);
        let mut piece = vec![0; size];
        file.read_exact_at(&mut piece, from)?;
        Ok((file, Bytes::from(piece)))
    })
}

async fn length_of(path: &Path) -> Outcome<u64> {
    let failed = |e| Failure::new(ErrorKind::Other, format!("the local file: {e}"));
    Ok(tokio::fs::metadata(path).await.map_err(failed)?.len())
}

/// The failure that the local file is not what the upload began with.
pub(super) fn changed() -> Failure {
    Failure::new(ErrorKind::Other, "the file changed here while it was sent")
}
