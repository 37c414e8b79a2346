//! Bytes a second: one bucket for what comes and one for what goes, shared by all requests of a mount.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::time::Instant;

use super::layer::{Asked, layer};
use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, Expect, ListPage, Locator, Metadata,
    Observed, PageToken, Remote, RemotePath, Result, Space, Upload, Version,
};

/// How much time's worth of bytes may go at once after a rest.
const BURST: Duration = Duration::from_millis(250);

/// Is a bucket that fills at a steady rate.
#[derive(Debug)]
pub struct Pace {
    bytes_a_second: u64,
    /// When what was taken so far is paid for.
    paid: Mutex<Instant>,
}

impl Pace {
    /// A bucket of so many bytes a second; 0 counts as 1.
    pub fn new(bytes_a_second: u64) -> Self {
        Self { bytes_a_second: bytes_a_second.max(1), paid: Mutex::new(Instant::now()) }
    }

    /// Takes bytes; resolves when they may go.
    pub async fn take(&self, bytes: u64) {
        tokio::time::sleep_until(self.book(bytes)).await;
    }

    /// The same on a thread that may wait.
    pub fn take_blocking(&self, bytes: u64) {
        std::thread::sleep(self.book(bytes).saturating_duration_since(Instant::now()));
    }

    /// The most bytes to take at once, so that something moves several times a second.
    pub fn portion(&self) -> u64 {
        (self.bytes_a_second / 8).clamp(1, 256 << 10)
    }

    fn book(&self, bytes: u64) -> Instant {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_a_second as f64);
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let begin = (*paid).max(now.checked_sub(BURST).unwrap_or(now));
        *paid = begin + cost;
        *paid
    }
}

/// Is a remote with which no more than so many bytes a second are exchanged.
#[derive(Clone, Debug)]
pub struct Rate {
    inner: Arc<dyn Remote>,
    down: Option<Arc<Pace>>,
    up: Option<Arc<Pace>>,
}

impl Rate {
    /// Puts limits around a remote, bytes a second; 0 is none.
    pub fn new(inner: Arc<dyn Remote>, down: u64, up: u64) -> Self {
        let pace = |rate: u64| (rate > 0).then(|| Arc::new(Pace::new(rate)));
        Self { inner, down: pace(down), up: pace(up) }
    }
}

/// Cuts pieces into portions, each of which waits for its turn.
fn paced(
    bytes: BoxStream<'static, Result<Bytes>>,
    pace: Arc<Pace>,
) -> BoxStream<'static, Result<Bytes>> {
    let portions = bytes.flat_map({
        let portion = usize::try_from(pace.portion()).unwrap_or(usize::MAX);
        move |piece| match piece {
            Ok(mut piece) => {
                let mut parts = Vec::new();
                while piece.len() > portion {
                    parts.push(Ok(piece.split_to(portion)));
                }
                parts.push(Ok(piece));
                stream::iter(parts)
            }
            Err(error) => stream::iter(vec![Err(error)]),
        }
    });
    let paced = portions.then(move |part| {
        let pace = Arc::clone(&pace);
        async move {
            if let Ok(part) = &part {
                pace.take(part.len() as u64).await;
            }
            part
        }
    });
    paced.boxed()
}

impl Rate {
    async fn ask<'a, T>(
        &self,
        _: Asked<'_>,
        ask: impl Fn() -> BoxFuture<'a, Result<T>> + Send + Sync,
    ) -> Result<T> {
        ask().await
    }

    async fn change<T>(
        &self,
        _: Asked<'_>,
        ask: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        ask.await
    }

    async fn read_within(
        &self,
        at: &Locator,
        version: &Version,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        let stream = self.inner.read(at, version, range).await?;
        let bytes = match &self.down {
            Some(pace) => paced(stream.bytes, Arc::clone(pace)),
            None => stream.bytes,
        };
        Ok(ByteStream { bytes, ..stream })
    }

    async fn write_within(
        &self,
        at: &Locator,
        mut body: Upload,
        expect: Expect,
    ) -> Result<Observed> {
        body.pace.clone_from(&self.up);
        self.inner.write(at, body, expect).await
    }
}

layer!(Rate);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_lets_through_what_its_rate_says() {
        let pace = Pace::new(1000);
        let begun = Instant::now();
        for _ in 0..100 {
            pace.take(100).await;
        }
        let took = begun.elapsed().as_secs_f64();
        assert!((9.7..10.1).contains(&took), "10,000 bytes took {took} s");
    }
}
