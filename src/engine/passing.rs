//! Bytes that pass through: a read for whose bytes there is no room here is answered all the same, and they are not kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::{ops::Range, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::EngineError;
use super::core::{Cause, Core};
use super::live::{Live, State};
use crate::model::{BLOCK, BlockSet};
use crate::remote::ByteStream;

impl Core {
    /// The bytes of a range of which some are not here and cannot be kept here.
    pub(crate) async fn read_past(
        self: &Arc<Self>,
        live: &Arc<Live>,
        asked: Range<u64>,
    ) -> Result<Bytes, EngineError> {
        let far = self.fetch_past(live, &asked).await?;
        let (end, near) = {
            let state = live.state();
            (asked.end.min(state.size), parts_here(&state, &asked))
        };
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

    /// The part of the range that the remote's version has, whole.
    async fn fetch_past(
        self: &Arc<Self>,
        live: &Arc<Live>,
        asked: &Range<u64>,
    ) -> Result<Bytes, EngineError> {
        let source = live.source().ok_or(EngineError::Stale)?;
        let range = asked.start..asked.end.min(source.size);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end - range.start;
        let (stream, _) = self.stream_of(live, range, Cause::User).await?;
        let bytes = collected(stream, length, self.settings.timeout).await?;
        self.counters.bytes_down.fetch_add(length, Ordering::Relaxed);
        Ok(bytes)
    }
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
