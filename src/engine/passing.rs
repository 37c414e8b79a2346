//! Bytes that pass through: a read for whose bytes there is no room here is answered all the same, and they are not kept.
//!
//! Who goes on in order has what comes next fetched along with what it asks for, into memory, so that it neither makes a
//! request nor looks for room with each read.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::EngineError;
use super::core::{Cause, Core};
use super::crash::crash_here;
use super::live::{Live, State};
use crate::model::{BLOCK, BlockSet, Version};
use crate::remote::ByteStream;

/// How much may be fetched at once for one reader, and for how many readers.
const AT_ONCE: u64 = 4 << 20;
const READERS: usize = 4;
/// How long a reader who found no room goes without looking for it again: to look costs more than to fetch.
const NO_ROOM: Duration = Duration::from_millis(500);

/// Is what was fetched for one reader beyond what it asked for, of one version: what his live content stands for may become
/// another one, when what was written into it is sent.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    start: u64,
    bytes: Bytes,
    version: Option<Version>,
    counted: Option<OwnedSemaphorePermit>,
    /// When there was no room the last time, if there has been none since.
    refused: Option<Instant>,
}

impl Passing {
    /// How many readers may have such bytes in memory.
    pub(crate) fn readers() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(READERS))
    }

    /// Whether there was no room for this reader; he alone looks for it then, not each of his reads.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Whether that was a moment ago.
    pub(crate) fn was_just_refused(&self) -> bool {
        self.refused.is_some_and(|when| when.elapsed() < NO_ROOM)
    }

    /// There is no room.
    pub(crate) fn refuse(&mut self) {
        self.refused = Some(Instant::now());
    }

    fn part(&self, range: &Range<u64>) -> Option<Bytes> {
        let from = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (from < to && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }
}

impl Core {
    /// The bytes of a range, if they were fetched for this reader before.
    pub(crate) fn passed(
        &self,
        live: &Arc<Live>,
        passing: &Passing,
        asked: &Range<u64>,
    ) -> Result<Option<Bytes>, EngineError> {
        let Ok(range) = remote_part(live, asked) else { return Ok(None) };
        if passing.version != live.source().map(|source| source.version) {
            return Ok(None);
        }
        passing.part(&range).map(|far| self.overlaid(live, asked, &far)).transpose()
    }

    /// The bytes of a range of which some are not here and cannot be kept here; a reader in order has what comes up to
    /// `ahead` fetched along.
    pub(crate) async fn read_past(
        self: &Arc<Self>,
        live: &Arc<Live>,
        passing: &mut Passing,
        asked: Range<u64>,
        ahead: u64,
    ) -> Result<Bytes, EngineError> {
        if let Some(bytes) = self.passed(live, passing, &asked)? {
            return Ok(bytes);
        }
        let range = remote_part(live, &asked)?;
        if range.is_empty() {
            return self.overlaid(live, &asked, &Bytes::new());
        }
        let counted = passing.counted.take();
        let counted = counted.or_else(|| self.passing.clone().try_acquire_owned().ok());
        passing.bytes = Bytes::new();
        let ahead = ahead.min(range.start + AT_ONCE).min(remote_size(live)?);
        let goes_on = ahead > range.end && counted.is_some();
        let end = if goes_on { ahead } else { range.end };
        let version = live.source().map(|source| source.version);
        let bytes = self.fetch_past(live, range.start..end).await?;
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let far = bytes.slice(..length.min(bytes.len()));
        if goes_on {
            let (start, refused) = (range.start, passing.refused);
            *passing = Passing { start, bytes, version, counted, refused };
        }
        self.overlaid(live, &asked, &far)
    }

    /// What came, with what is here over it.
    fn overlaid(
        &self,
        live: &Arc<Live>,
        asked: &Range<u64>,
        far: &Bytes,
    ) -> Result<Bytes, EngineError> {
        let (end, near) = {
            let state = live.state();
            (asked.end.min(state.size), parts_here(&state, asked))
        };
        crash_here!(self, "passing: parts are known");
        let mut bytes = BytesMut::from(far.as_ref());
        let length = usize::try_from(end.saturating_sub(asked.start)).unwrap_or(usize::MAX);
        bytes.resize(length, 0);
        // What was written here meanwhile, or was here before, is newer than what came.
        for part in near {
            let here = self.read_here(live, part.clone())?;
            let at = usize::try_from(part.start - asked.start).unwrap_or(usize::MAX);
            let Some(place) = bytes.get_mut(at..at.saturating_add(here.len())) else { continue };
            place.copy_from_slice(&here);
        }
        Ok(bytes.freeze())
    }

    /// A range that the remote's version has, whole.
    async fn fetch_past(
        self: &Arc<Self>,
        live: &Arc<Live>,
        range: Range<u64>,
    ) -> Result<Bytes, EngineError> {
        let length = range.end - range.start;
        let (stream, _) = self.stream_of(live, range, Cause::User).await?;
        let bytes = collected(stream, length, self.settings.timeout).await?;
        self.counters.bytes_down.fetch_add(length, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// The part of the range that the remote's version has.
fn remote_part(live: &Live, asked: &Range<u64>) -> Result<Range<u64>, EngineError> {
    let end = asked.end.min(remote_size(live)?);
    Ok(asked.start.min(end)..end)
}

fn remote_size(live: &Live) -> Result<u64, EngineError> {
    live.source().map(|source| source.size).ok_or(EngineError::Stale)
}

/// All of a stream, if it is exactly as long as it has to be and does not stop.
async fn collected(
    mut stream: ByteStream,
    length: u64,
    patience: Duration,
) -> Result<Bytes, EngineError> {
    let wrong = || EngineError::Corrupt("an answer of another length than asked".into());
    let whole = usize::try_from(length).map_err(|_too_long| wrong())?;
    let mut bytes = BytesMut::with_capacity(whole);
    loop {
        let next = tokio::time::timeout(patience, stream.bytes.next()).await;
        let Some(piece) = next.map_err(|_late| EngineError::TimedOut)? else { break };
        bytes.extend_from_slice(&piece?);
        if bytes.len() > whole {
            return Err(wrong());
        }
    }
    if bytes.len() == whole { Ok(bytes.freeze()) } else { Err(wrong()) }
}

/// The parts of a range that are here, cut at blocks.
fn parts_here(state: &State, asked: &Range<u64>) -> Vec<Range<u64>> {
    let blocks = BlockSet::touched(asked.start..asked.end.min(state.size));
    let part = |block: u32| {
        let start = u64::from(block) * BLOCK;
        start.max(asked.start)..(start + BLOCK).min(asked.end).min(state.size)
    };
    blocks.map(part).filter(|part| !part.is_empty() && state.has(part.clone())).collect()
}
