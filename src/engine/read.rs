//! Reading: at once what is here, else after it was fetched, else what passes through.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::core::{Cause, Core};
use super::live::Live;
use super::open::OpenFile;
use super::passing::Passing;
use super::settings::Hydration;
use super::verbs::Handle;
use super::{Answer, Engine, EngineError};
use crate::model::Ino;

impl Engine {
    /// Whether a read is answered only when all of its file is here.
    pub fn reads_wait_for_all(&self) -> bool {
        self.core.settings.hydration == Hydration::Full
    }

    /// Up to `length` bytes from `offset`; fewer only at the end of the file.
    pub fn read(&self, ino: Ino, handle: Handle, offset: u64, length: u32) -> Answer<Bytes> {
        let file = match self.core.open.get(handle) {
            Ok(file) if file.live.ino == ino => file,
            Ok(_) => return EngineError::Invalid("handle of another file").into(),
            Err(error) => return error.into(),
        };
        let live = file.live.clone();
        let (asked, shed) = {
            let state = live.state();
            let end = (offset + u64::from(length)).min(state.size);
            (offset.min(end)..end, state.shed)
        };
        if asked.is_empty() {
            return Answer::Ready(Ok(Bytes::new()));
        }
        let need = self.core.needed(&live, asked.clone());
        let (here, is_empty) = {
            let state = live.state();
            (state.has(need.clone()), !state.hydrated && state.blocks.is_empty())
        };
        if !file.was_read.swap(true, Ordering::Relaxed) {
            let size = live.state().size;
            self.core.reads(ino, size, here);
            self.core.go_on(&live);
        }
        self.core.used_part(ino, &asked, is_empty);
        let mut want = super::open::lock(&file.reader).advance(&asked);
        let ahead = want.end;
        want.end = want.end.min(asked.end.saturating_add(self.core.most_ahead()));
        let counters = &self.core.counters;
        let counter = if here { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        if here {
            let bytes = self.core.read_here(&live, asked.clone());
            let state = live.state();
            let (hydrated, steady) = (state.hydrated, state.shed == shed);
            drop(state);
            if want.end > asked.end && !hydrated {
                self.core.start_fetches(&live, asked.clone(), want.clone(), Cause::User);
            }
            // Else what was read may have become a hole meanwhile.
            if steady {
                return Answer::Ready(bytes);
            }
        }
        let core = self.core.clone();
        Answer::Pending(Box::pin(
            async move { core.read_slowly(&file, asked, need, want, ahead).await },
        ))
    }
}

impl Core {
    /// Reads bytes that are fetched first, or that pass through where they cannot be kept.
    async fn read_slowly(
        self: &Arc<Self>,
        file: &OpenFile,
        asked: Range<u64>,
        need: Range<u64>,
        want: Range<u64>,
        ahead: u64,
    ) -> Result<Bytes, EngineError> {
        let live = &file.live;
        // First of all: what is found to be here must be here still when it is read.
        let _kept = live.keep_here(&asked);
        let mut passing = file.passing.lock().await;
        if let Some(bytes) = self.passed(live, &passing, &asked)? {
            return Ok(bytes);
        }
        if passing.was_just_refused() && !live.state().has(asked.clone()) {
            return self.read_past(live, &mut passing, asked, ahead).await;
        }
        let alone = Some(passing).filter(|passing| passing.was_refused());
        // Asked first: what cannot be kept is fetched once, to pass through, and nothing ahead of it.
        let mut came = self.fetch_for_reader(live, need.clone(), want.clone()).await;
        if need != asked && matches!(came, Err(EngineError::NoSpace(_))) {
            // Not all of it fits: what was asked for has to do.
            came = self.fetch_for_reader(live, asked.clone(), want).await;
        }
        match (came, alone) {
            (Err(EngineError::NoSpace(_)), alone) => {
                let mut passing = match alone {
                    Some(passing) => passing,
                    None => file.passing.lock().await,
                };
                passing.refuse();
                self.read_past(live, &mut passing, asked, ahead).await
            }
            (outcome, alone) => {
                if let Some(mut passing) = alone {
                    *passing = Passing::default();
                }
                outcome.and_then(|()| self.read_here(live, asked))
            }
        }
    }

    /// Reads bytes that are here.
    pub(crate) fn read_here(&self, live: &Live, range: Range<u64>) -> Result<Bytes, EngineError> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let data = live.readable(&self.cache)?;
        let mut buffer = BytesMut::zeroed(length);
        let got = data.read_at(&mut buffer, range.start)?;
        if got < length && !live.state().hydrated && range.start + (got as u64) < live.state().size
        {
            return Err(EngineError::Disk(std::io::Error::other(
                "the data file is shorter than its file",
            )));
        }
        buffer.truncate(got);
        Ok(buffer.freeze())
    }
}
