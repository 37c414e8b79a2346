//! How many requests at once, and how many a second for work that nobody waits for.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::lanes::{KEPT_FROM_BULK, Lanes, Rank, Turn};
use super::layer::{Asked, layer};
use super::turn::wait_for_turn;
use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, Expect, ListPage, Locator, Metadata,
    Observed, PageToken, Remote, RemotePath, Result, Space, Upload, Version,
};

tokio::task_local! {
    static BACKGROUND: ();
    static LANE: Lane;
    static ONE_MORE: ();
}

/// Says what a request is for, where it is not for a program that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// A program waits for it.
    #[default]
    First,
    /// A program is expected to ask for it soon.
    Ahead,
    /// It sends or fetches what nobody waits for.
    Bulk,
}

/// Makes every request of this future in a lane. Tasks that it spawns are not in it.
pub async fn in_lane<F: Future>(lane: Lane, work: F) -> F::Output {
    LANE.scope(lane, work).await
}

/// Files of up to so many bytes are sent soon; all others are bulk.
pub const SMALL: u64 = 1 << 20;
/// How long a piece of bulk waits at most for those who come first.
const GIVE_WAY: Duration = Duration::from_millis(200);

/// Marks every request that this future makes as one that nobody waits for. Tasks that it spawns are not marked.
pub async fn in_background<F: Future>(work: F) -> F::Output {
    BACKGROUND.scope((), work).await
}

/// Makes every request of this future beside all others, however many there are. Only for what is asked seldom, and one at a time.
pub(super) async fn as_one_more<F: Future>(work: F) -> F::Output {
    ONE_MORE.scope((), work).await
}

/// Whether somebody waits for what the running future asks, or may soon.
pub(super) fn is_awaited() -> bool {
    lane() != Lane::Bulk && !is_background()
}

/// Whether the running future was marked so.
pub(super) fn is_background() -> bool {
    BACKGROUND.try_with(|()| ()).is_ok()
}

/// Says how much may be asked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at once, streams being read included.
    pub concurrent: usize,
    /// How many of them may be background requests; the others are kept for programs that wait.
    pub background: usize,
    /// Background requests a second, evenly; `None` for as many as go.
    pub background_per_second: Option<u32>,
}

impl Limits {
    /// With room for so many long transfers at once.
    #[must_use]
    pub fn with_transfers(self, transfers: usize) -> Self {
        Self { concurrent: self.concurrent.max(transfers + KEPT_FROM_BULK), ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent: 16, background: 8, background_per_second: Some(20) }
    }
}

/// Is a remote that is not asked too much.
#[derive(Clone, Debug)]
pub struct Limit {
    inner: Arc<dyn Remote>,
    lanes: Arc<Lanes>,
    background: Arc<Semaphore>,
    /// How many streams somebody waits for; told when there are none.
    awaited: Arc<watch::Sender<usize>>,
    pace: Option<Duration>,
    /// When the next background request may start.
    next: Arc<tokio::sync::Mutex<Instant>>,
}

/// Is the right to one request, given back when dropped.
struct Permit {
    _background: Option<OwnedSemaphorePermit>,
    _turn: Option<Turn>,
}

/// Is a stream that somebody waits for, counted until it is dropped.
struct Awaited(Arc<watch::Sender<usize>>);

impl Awaited {
    fn new(count: Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

fn lane() -> Lane {
    LANE.try_with(|lane| *lane).unwrap_or_default()
}

/// Of a request that ranks so if a program waits for it, and so if nobody does.
fn rank(awaited: Rank, else_: Rank) -> Rank {
    match lane() {
        Lane::First if !is_background() => awaited,
        Lane::Ahead => Rank::Small,
        _ => else_,
    }
}

/// Of a request about names.
fn of_names() -> Rank {
    rank(Rank::Names, Rank::Small)
}

/// Of a request that reads.
fn of_reading() -> Rank {
    rank(Rank::Reads, Rank::Bulk)
}

/// Of a request that sends so many bytes.
fn of_writing(bytes: u64) -> Rank {
    rank(Rank::Reads, if bytes <= SMALL { Rank::Small } else { Rank::Bulk })
}

impl Limit {
    /// Puts limits around a remote.
    pub fn new(inner: Arc<dyn Remote>, limits: Limits) -> Self {
        let concurrent = limits.concurrent.max(1);
        Self {
            inner,
            lanes: Lanes::new(concurrent),
            background: Arc::new(Semaphore::new(limits.background.clamp(1, concurrent))),
            awaited: Arc::new(watch::Sender::new(0)),
            pace: limits.background_per_second.map(|rate| Duration::from_secs(1) / rate.max(1)),
            next: Arc::new(tokio::sync::Mutex::new(Instant::now())),
        }
    }

    /// The semaphore here is never closed, so a permit is only ever missing if that changes; then nothing is limited.
    async fn permit(&self, rank: Rank) -> Permit {
        if ONE_MORE.try_with(|()| ()).is_ok() {
            return Permit { _background: None, _turn: None };
        }
        wait_for_turn(async {
            let mut background = None;
            if is_background() {
                background = Arc::clone(&self.background).acquire_owned().await.ok();
                self.wait_for_pace().await;
            }
            Permit { _background: background, _turn: Some(self.lanes.turn(rank).await) }
        })
        .await
    }

    async fn wait_for_pace(&self) {
        let Some(pace) = self.pace else { return };
        let mut next = self.next.lock().await;
        tokio::time::sleep_until(*next).await;
        // From when it really goes: one that was late and the one after it must not come close together.
        *next = Instant::now() + pace;
    }
}

impl Limit {
    async fn ask<'a, T>(
        &self,
        _: Asked<'_>,
        ask: impl Fn() -> BoxFuture<'a, Result<T>> + Send + Sync,
    ) -> Result<T> {
        let _permit = self.permit(of_names()).await;
        ask().await
    }

    async fn change<T>(
        &self,
        _: Asked<'_>,
        ask: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let _permit = self.permit(of_names()).await;
        ask.await
    }

    async fn read_within(
        &self,
        at: &Locator,
        version: &Version,
        range: Range<u64>,
    ) -> Result<ByteStream> {
        let permit = self.permit(of_reading()).await;
        let awaited = is_awaited().then(|| Awaited::new(Arc::clone(&self.awaited)));
        let gives_way = (lane() == Lane::Bulk).then(|| self.awaited.subscribe());
        let stream = self.inner.read(at, version, range).await?;
        let bytes = stream.bytes.map(move |piece| {
            let _held_until_the_stream_ends = (&permit, &awaited);
            piece
        });
        let bytes = match gives_way {
            None => bytes.boxed(),
            Some(others) => bytes
                .then(move |piece| {
                    let mut others = others.clone();
                    async move {
                        let clear = others.wait_for(|count| *count == 0);
                        let _either = tokio::time::timeout(GIVE_WAY, clear).await;
                        piece
                    }
                })
                .boxed(),
        };
        Ok(ByteStream { bytes, ..stream })
    }

    async fn write_within(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        let _permit = self.permit(of_writing(body.digest.size)).await;
        self.inner.write(at, body, expect).await
    }
}

layer!(Limit);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::remote::memory::{Gate, MemoryOptions, MemoryStore, Moment, path};
    use crate::remote::{Body, Digest};

    fn at(text: &str) -> Locator {
        Locator::at(path(text))
    }

    fn upload(bytes: u64) -> Upload {
        let content = vec![0; usize::try_from(bytes).unwrap()];
        Upload {
            digest: Digest { size: bytes, hash: *blake3::hash(&content).as_bytes() },
            body: Body::Memory(Bytes::from(content)),
            mtime: None,
            mode: None,
            extended: crate::remote::Extended::default(),
            tag: AttemptTag { mount: "m".into(), item: 1, nonce: 1 },
            still_whole: None,
            pace: None,
            progress: None,
        }
    }

    /// S163 "Of what is to be asked of a remote, names that a program waits for go first, then its reads, then what is soon sent
    /// (names, and files of up to 1 MiB), then all else; a lane that had no turn for a second gets one."
    #[tokio::test(start_paused = true)]
    async fn what_is_asked_goes_in_its_lane() {
        let store = MemoryStore::new(MemoryOptions::default());
        let seen = store.put("read", "content").unwrap();
        let (gate, mut held) = Gate::holding(|step| step.moment == Moment::Arrives);
        store.gate(Some(gate));
        let limits = Limits { concurrent: 1, background: 9, background_per_second: None };
        let limit = Limit::new(Arc::new(store.remote()), limits);
        let stat = |name: &'static str| {
            let limit = limit.clone();
            async move { drop(limit.stat(&at(name)).await.unwrap()) }
        };
        let write = |name: &'static str, bytes| {
            let limit = limit.clone();
            async move { drop(limit.write(&at(name), upload(bytes), Expect::Absent).await.unwrap()) }
        };
        let read = || {
            let (limit, version) = (limit.clone(), seen.version.clone());
            async move { drop(limit.read(&at("read"), &version, 0..7).await.unwrap()) }
        };
        tokio::spawn(stat("first"));
        let mut going = held.recv().await.unwrap();
        let asked: [BoxFuture<'static, ()>; 8] = [
            Box::pin(in_lane(Lane::Bulk, read())),
            Box::pin(in_lane(Lane::Bulk, write("large", SMALL + 1))),
            Box::pin(in_lane(Lane::Bulk, write("small", SMALL))),
            Box::pin(in_lane(Lane::Bulk, stat("sent"))),
            Box::pin(in_lane(Lane::Ahead, stat("guessed"))),
            Box::pin(in_background(stat("looked at"))),
            Box::pin(read()),
            Box::pin(stat("awaited")),
        ];
        for mut one in asked {
            // In line from here on.
            assert!(one.as_mut().now_or_never().is_none());
            tokio::spawn(one);
        }
        let mut order = Vec::new();
        for _ in 0..8 {
            going.pass();
            going = held.recv().await.unwrap();
            order.push(going.step.path.to_string());
        }
        let wanted =
            ["/awaited", "/read", "/small", "/sent", "/guessed", "/looked at", "/read", "/large"];
        assert_eq!(order, wanted);
    }
}
