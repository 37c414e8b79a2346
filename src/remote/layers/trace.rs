//! Counting requests and bytes, and one log line for each request.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use super::layer::{Asked, layer};
use super::limit::{Lane, in_lane};
use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, Expect, ListPage, Locator, Metadata,
    Observed, PageToken, Remote, RemotePath, Result, Space, Upload, Version,
};

/// Is what went over the line so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Operations asked for. One may be several requests of the backend's.
    pub requests: u64,
    /// Bytes of content that came.
    pub bytes_down: u64,
    /// Bytes of content that went.
    pub bytes_up: u64,
}

/// Is a remote whose traffic is counted and logged.
#[derive(Clone, Debug)]
pub struct Trace {
    inner: Arc<dyn Remote>,
    counts: Arc<Counts>,
    lane: Lane,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    down: Arc<AtomicU64>,
    up: Arc<AtomicU64>,
    by_operation: Mutex<BTreeMap<&'static str, Operation>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

/// Upper ends of the classes of latency, milliseconds; what took longer is in none of them.
pub const LATENCIES: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000];

/// Is what is known of one kind of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// How often it was asked for.
    pub asked: u64,
    /// How often it was answered, well or not.
    pub answered: u64,
    /// How many answers took at most as long as each of [`LATENCIES`].
    pub within: [u64; LATENCIES.len()],
    /// How long all answers took together, microseconds.
    pub micros: u64,
}

impl Operation {
    fn took(&mut self, time: Duration) {
        self.answered += 1;
        self.micros += u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        for (count, end) in self.within.iter_mut().zip(LATENCIES) {
            *count += u64::from(ms <= end);
        }
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.answered += other.answered;
        self.micros += other.micros;
        for (count, more) in self.within.iter_mut().zip(other.within) {
            *count += more;
        }
    }
}

impl Trace {
    /// Counts from zero.
    pub fn new(inner: Arc<dyn Remote>) -> Self {
        Self { inner, counts: Arc::default(), lane: Lane::First }
    }

    /// The same, asking in this lane.
    #[must_use]
    pub fn in_lane(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }

    /// What went over the line so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.counts.requests.load(Ordering::Relaxed),
            bytes_down: self.counts.down.load(Ordering::Relaxed),
            bytes_up: self.counts.up.load(Ordering::Relaxed),
        }
    }

    /// How often each operation was asked for.
    pub fn operations(&self) -> BTreeMap<&'static str, u64> {
        self.latencies().into_iter().map(|(name, operation)| (name, operation.asked)).collect()
    }

    /// How often each operation was asked for, and how long the answers took.
    pub fn latencies(&self) -> BTreeMap<&'static str, Operation> {
        self.counts.by_operation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests were refused or failed, by kind.
    pub fn errors(&self) -> BTreeMap<&'static str, u64> {
        self.counts.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn note<T: fmt::Debug>(
        &self,
        operation: &'static str,
        at: &RemotePath,
        ask: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let by_operation =
            || self.counts.by_operation.lock().unwrap_or_else(PoisonError::into_inner);
        by_operation().entry(operation).or_default().asked += 1;
        let start = Instant::now();
        let outcome = in_lane(self.lane, ask).await;
        let ms = start.elapsed().as_millis();
        by_operation().entry(operation).or_default().took(start.elapsed());
        if let Err(error) = &outcome {
            let mut errors = self.counts.errors.lock().unwrap_or_else(PoisonError::into_inner);
            *errors.entry(error.kind.class()).or_default() += 1;
        }
        match &outcome {
            Ok(_) => tracing::debug!(operation, path = %at, ms, "answered"),
            Err(error) => tracing::debug!(operation, path = %at, ms, kind = ?error.kind, "refused"),
        }
        outcome
    }
}

impl Trace {
    async fn ask<'a, T: fmt::Debug>(
        &self,
        asked: Asked<'_>,
        ask: impl Fn() -> BoxFuture<'a, Result<T>> + Send + Sync,
    ) -> Result<T> {
        self.change(asked, ask()).await
    }

    async fn change<T: fmt::Debug>(
        &self,
        asked: Asked<'_>,
        ask: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.note(asked.operation.trim_end_matches(" of"), asked.at, ask).await
    }

    async fn read_within(
        &self,
        at: &Locator,
        version: &Version,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        let stream = self.note("read", &at.path, self.inner.read(at, version, range)).await?;
        let down = Arc::clone(&self.counts.down);
        let bytes = stream.bytes.inspect(move |piece| {
            if let Ok(bytes) = piece {
                down.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
        });
        Ok(ByteStream { bytes: bytes.boxed(), ..stream })
    }

    async fn write_within(
        &self,
        at: &Locator,
        mut body: Upload,
        expect: Expect,
    ) -> Result<Observed> {
        let (size, counted) = (body.digest.size, Arc::new(AtomicU64::new(0)));
        let (up, so_far, told) =
            (Arc::clone(&self.counts.up), Arc::clone(&counted), body.progress.take());
        body.progress = Some(Arc::new(move |sent| {
            // A backend that starts again tells less than before; only what is beyond that is new.
            let before = so_far.fetch_max(sent, Ordering::Relaxed);
            up.fetch_add(sent.saturating_sub(before), Ordering::Relaxed);
            if let Some(told) = &told {
                told(sent);
            }
        }));
        let written = self.note("write", &at.path, self.inner.write(at, body, expect)).await?;
        let told = counted.load(Ordering::Relaxed);
        self.counts.up.fetch_add(size.saturating_sub(told), Ordering::Relaxed);
        Ok(written)
    }
}

layer!(Trace);
