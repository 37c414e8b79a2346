//! Hydration: fetching the blocks that somebody waits for, each run once, into the data file.
//!
//! A fetch is a task of its own that every reader of its blocks waits for; it ends when its run is here or cannot be had. It
//! is pinned to the version its [`Live`] stands for and writes only blocks that are still absent, so what a user wrote
//! meanwhile stays.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::EngineError;
use super::barren::Search;
use super::core::{Cause, Core};
use super::crash::crash_here;
use super::live::{Failure, Live, State};
use super::runs::{is_patient, to_begin};
use super::siblings::SMALL;
use crate::model::{BLOCK, BlockSet, Version};
use crate::remote::{ByteStream, ErrorKind, Locator, RemoteError};

/// Bytes written to the data file at once.
const PIECE: usize = 256 << 10;
/// How often is looked where the remote has what is being moved.
const MOVING: Duration = Duration::from_millis(50);
/// How often what the disk refuses is put again after something else went for it.
const PUTS: u32 = 8;
/// How often a stream that is cut short is taken up again without any progress.
const TRIES: u32 = 3;

impl Core {
    /// Resolves when the bytes of `need` are here; fetches `want` (which holds `need`) where nobody does yet.
    pub(crate) async fn ensure(
        self: &Arc<Self>,
        live: &Arc<Live>,
        need: Range<u64>,
        want: Range<u64>,
        cause: Cause,
    ) -> Result<(), EngineError> {
        let _kept = live.keep_here(&need);
        let failures = {
            let state = live.state();
            if let Some(failure) = state.just_gave_up().filter(|_| !state.has(need.clone())) {
                return Err(failure.error());
            }
            state.failures
        };
        loop {
            let arrived = live.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let mut failed = None;
            let last_progress = {
                let mut state = live.state();
                if state.has(need.clone()) {
                    return Ok(());
                }
                let touched = BlockSet::touched(need.clone());
                let overlaps =
                    |run: &Range<u32>| run.start < touched.end && touched.start < run.end;
                // Another run's failure is no reason while this one's bytes are on their way.
                if state.failures != failures
                    && !state.fetching.iter().any(overlaps)
                    && let Some(failure) = state.failure
                {
                    let others = failure == Failure::Corrupt
                        && is_patient(&need, cause)
                        && state.has_untried(&need);
                    if !others {
                        state.resting.clear();
                        return Err(failure.error());
                    }
                    failed = Some(failure);
                }
                state.progress
            };
            if self.is_put_off(live.ino, live.source().map_or(0, |source| source.size), cause) {
                return Err(EngineError::Busy("large transfers stand still".to_owned()));
            }
            self.start_fetches(live, need.clone(), want.clone(), cause);
            if let Some(failure) = failed.filter(|_| live.state().fetching.is_empty()) {
                return Err(failure.error());
            }
            let left = self.settings.timeout.saturating_sub(last_progress.elapsed());
            // A reader that comes long after the last byte still gets its whole patience.
            let patience = left.max(Duration::from_millis(50)).max(
                if last_progress.elapsed() > self.settings.timeout {
                    self.settings.timeout
                } else {
                    left
                },
            );
            if tokio::time::timeout(patience, arrived).await.is_err()
                && live.state().progress.elapsed() >= self.settings.timeout
            {
                live.state().gave_up = Some((Instant::now(), Failure::TimedOut));
                return Err(EngineError::TimedOut);
            }
        }
    }

    /// Starts fetching what nobody fetches yet: all of `want` if some of `need` is among it, else only a worthwhile part.
    pub(crate) fn start_fetches(
        self: &Arc<Self>,
        live: &Arc<Live>,
        need: Range<u64>,
        want: Range<u64>,
        cause: Cause,
    ) {
        let mut begun = false;
        let runs: Vec<Range<u32>> = {
            let source = live.source();
            let wrong = source.as_ref().is_some_and(|source| {
                self.workers.wrong.is_too_soon(live.ino, &source.version, cause)
            });
            let mut state = live.state();
            let refuse = |state: &mut super::live::State, why| {
                state.failures += 1;
                state.failure = Some(why);
                live.arrived.notify_waiters();
            };
            let Some(source) = source else { return refuse(&mut state, Failure::Stale) };
            if wrong && state.fetching.is_empty() {
                return refuse(&mut state, Failure::Corrupt);
            }
            let end = want.end.min(state.size).min(source.size);
            let runs = state.wanting(want.start.min(end)..end);
            let runs = if is_patient(&need, cause) { state.untried(runs) } else { runs };
            let ahead: u64 = runs.iter().map(|run| u64::from(run.end - run.start) * BLOCK).sum();
            let urgent = !state.wanting(need.clone()).is_empty();
            if runs.is_empty() || (!urgent && ahead * 2 < want.end - want.start) {
                return;
            }
            let runs = to_begin(runs, state.fetching.len(), &need);
            if runs.is_empty() {
                return;
            }
            state.fetching.extend(runs.iter().cloned());
            if state.fetching.len() == runs.len() {
                state.progress = Instant::now();
                begun = true;
            }
            runs
        };
        if begun {
            self.tell_begun(live.ino, "content");
        }
        for run in runs {
            let (core, live) = (self.clone(), live.clone());
            let visit = core.open.visit(live.ino);
            let mut under_way = UnderWay { live, run, outcome: Err(Failure::Corrupt) };
            self.runtime.spawn(async move {
                let outcome = core.fetch(&under_way.live, under_way.run.clone(), cause).await;
                under_way.outcome = outcome.as_ref().map_err(Failure::of).copied();
                let live = under_way.live.clone();
                drop(under_way);
                core.fetched(&live, outcome);
                drop(visit);
            });
        }
    }

    /// Fetches one run, taking up a stream that was cut where it ended.
    async fn fetch(
        self: &Arc<Self>,
        live: &Arc<Live>,
        run: Range<u32>,
        cause: Cause,
    ) -> Result<(), EngineError> {
        self.open_what_is_there(live).await?;
        let size = live.source().map_or(0, |source| source.size);
        let mut bytes = BlockSet::bytes(&run, size);
        let mut tries = 0;
        // Who begins to wait for what was put off fetches it anew.
        while !bytes.is_empty() && !self.is_put_off(live.ino, size, cause) {
            let begun = bytes.start;
            let outcome = self.fetch_once(live, &mut bytes, cause).await;
            let Err(error) = outcome else { continue };
            let moved = bytes.start > begun;
            tries = if moved { 0 } else { tries + 1 };
            let worth_it = matches!(error, EngineError::Corrupt(_) | EngineError::Offline);
            if !worth_it || tries >= TRIES || (!moved && matches!(error, EngineError::Offline)) {
                return Err(error);
            }
            tracing::debug!(ino = live.ino.0, at = bytes.start, %error, "fetch goes on after an interruption");
        }
        Ok(())
    }

    /// Opens a data file of an earlier use before room is asked for: it may hold what can be given back.
    async fn open_what_is_there(self: &Arc<Self>, live: &Arc<Live>) -> Result<(), EngineError> {
        let asks_little = {
            let state = live.state();
            state.size <= SMALL && state.blocks.is_empty()
        };
        if live.open_data().is_some() || asks_little {
            return Ok(());
        }
        let (core, live) = (self.clone(), live.clone());
        self.blocking(move || {
            if core.cache.data_path(live.ino, live.generation).exists() {
                live.data(&core.cache)?;
            }
            Ok(())
        })
        .await
    }

    async fn fetch_once(
        self: &Arc<Self>,
        live: &Arc<Live>,
        bytes: &mut Range<u64>,
        cause: Cause,
    ) -> Result<(), EngineError> {
        let (stream, locator) = self.stream_of(live, bytes.clone(), cause).await?;
        if stream.length != bytes.end - bytes.start {
            return Err(EngineError::Corrupt(format!(
                "{}: {} bytes promised, {} asked",
                locator.path,
                stream.length,
                bytes.end - bytes.start
            )));
        }
        self.take_stream(live, stream, bytes, &locator, cause).await
    }

    /// Asks for bytes where the remote has them; while a move of ours is on its way, waits for where that is.
    pub(super) async fn stream_of(
        self: &Arc<Self>,
        live: &Arc<Live>,
        bytes: Range<u64>,
        cause: Cause,
    ) -> Result<(ByteStream, Locator), EngineError> {
        let source = live.source().ok_or(EngineError::Stale)?;
        let end = Instant::now() + self.settings.timeout;
        loop {
            let (locator, version, young) = self.whereabouts(live)?;
            if young {
                // Before it is asked for: confirmed meanwhile, it would be taken for what is there then.
                live.state().came_young = true;
            }
            let version = version.unwrap_or_else(|| source.version.clone());
            let error = match self.remotes.of(cause).read(&locator, &version, bytes.clone()).await {
                Ok(stream) if stream.total.is_none_or(|total| total == source.size) => {
                    return Ok((stream, locator));
                }
                // The same version of another content, as there are while versions are young.
                Ok(_) => RemoteError::new(ErrorKind::VersionMismatch, "read", &locator.path)
                    .because("it has another size now"),
                Err(error) => error,
            };
            let moves = error.kind == ErrorKind::NotFound
                && Instant::now() < end
                && (self.is_moving(live.ino).await?
                    || self.locator(live.ino)?.path != locator.path);
            if !moves {
                return Err(self.read_failed(live, &locator, error));
            }
            tokio::time::sleep(MOVING).await;
        }
    }

    /// Where the remote has a live content, under which version now (a move, or times set here, give the same content another
    /// one), and whether that is young.
    fn whereabouts(&self, live: &Live) -> Result<(Locator, Option<Version>, bool), EngineError> {
        let found = self.catalog.read(|rows| {
            let Some(base) = rows.base(live.ino)? else { return Ok(None) };
            let Some(path) = rows.base_path_of(&base.place)? else { return Ok(None) };
            let inode = rows.inode(live.ino)?;
            let same = inode.is_some_and(|inode| inode.generation == live.generation);
            let locator = Locator { path, id: base.id, extra: base.extra };
            Ok(Some((locator, same.then_some(base.version), base.young)))
        })?;
        found.ok_or(EngineError::Stale)
    }

    async fn take_stream(
        self: &Arc<Self>,
        live: &Arc<Live>,
        mut stream: ByteStream,
        bytes: &mut Range<u64>,
        locator: &Locator,
        cause: Cause,
    ) -> Result<(), EngineError> {
        let mut waiting = BytesMut::new();
        let size = live.source().map_or(0, |source| source.size);
        while let Some(piece) = stream.bytes.next().await {
            if self.is_put_off(live.ino, size, cause) {
                break;
            }
            match piece {
                Ok(piece) => waiting.extend_from_slice(&piece),
                Err(error) => {
                    self.put_blocks(live, bytes, &mut waiting).await?;
                    return Err(self.read_failed(live, locator, error));
                }
            }
            if waiting.len() as u64 > bytes.end - bytes.start {
                return Err(EngineError::Corrupt(format!(
                    "{}: more bytes than asked",
                    locator.path
                )));
            }
            let first =
                bytes.start / BLOCK * BLOCK == bytes.start && waiting.len() >= BLOCK as usize;
            if waiting.len() >= PIECE || (first && live.state().progress.elapsed() > FLUSH_AFTER) {
                self.put_blocks(live, bytes, &mut waiting).await?;
            }
        }
        self.put_blocks(live, bytes, &mut waiting).await?;
        if bytes.is_empty() || self.is_put_off(live.ino, size, cause) {
            return Ok(());
        }
        Err(EngineError::Corrupt(format!("{}: the answer ended early", locator.path)))
    }

    /// Writes the whole blocks among `waiting`, which begin at `bytes.start`; keeps the rest for later.
    async fn put_blocks(
        self: &Arc<Self>,
        live: &Arc<Live>,
        bytes: &mut Range<u64>,
        waiting: &mut BytesMut,
    ) -> Result<(), EngineError> {
        let have = waiting.len() as u64;
        let whole = if bytes.start + have == bytes.end { have } else { have / BLOCK * BLOCK };
        if whole == 0 {
            return Ok(());
        }
        let piece = waiting.split_to(usize::try_from(whole).unwrap_or(waiting.len())).freeze();
        let at = bytes.start;
        // Nobody waits for room with a stream open: that keeps a turn from the uploads that make it. Who only reads has its
        // bytes without their being kept; who is to send an edited file comes again.
        for round in 1.. {
            let reservation = self.make_room_at_once(whole).await?;
            let (core, kept, piece) = (self.clone(), live.clone(), piece.clone());
            let put = self.blocking(move || core.put(&kept, at, &piece, reservation)).await;
            // The disk may refuse what it seemed to have room for: then something else has to go for it.
            let refused = matches!(put, Err(EngineError::NoSpace(_))) && round < PUTS;
            if !refused || self.evict(whole, Search::Lately).await? == 0 {
                put?;
                break;
            }
        }
        bytes.start += whole;
        self.counters.bytes_down.fetch_add(whole, std::sync::atomic::Ordering::Relaxed);
        live.arrived.notify_waiters();
        Ok(())
    }

    /// Writes fetched bytes into blocks that are still absent, and marks those.
    fn put(
        &self,
        live: &Live,
        at: u64,
        piece: &Bytes,
        mut reservation: crate::cache::Reservation,
    ) -> Result<(), EngineError> {
        let data = live.data(&self.cache)?;
        let _turn = live.hold_fetched();
        let mut state = live.state();
        let end = (at + piece.len() as u64).min(state.size);
        if state.hydrated || at >= end {
            return Ok(());
        }
        let was_empty = state.blocks.is_empty();
        for run in state.blocks.absent(BlockSet::touched(at..end)) {
            let bytes = BlockSet::bytes(&run, end);
            let (from, to) = ((bytes.start - at) as usize, (bytes.end - at) as usize);
            let Some(part) = piece.get(from..to) else { continue };
            crash_here!(self, "hydrate: before the bytes");
            data.write_reserved(&mut reservation, part, bytes.start)?;
            crash_here!(self, "hydrate: after the bytes");
            state.blocks.insert(run);
            self.used_part(live.ino, &bytes, was_empty);
        }
        state.blocks_unrecorded = true;
        state.progress = Instant::now();
        state.gave_up = None;
        let size = state.size;
        state.hydrated = state.blocks.is_full(size);
        Ok(())
    }

    pub(super) fn read_failed(
        self: &Arc<Self>,
        live: &Live,
        at: &Locator,
        error: RemoteError,
    ) -> EngineError {
        tracing::debug!(path = %at.path, %error, "read failed");
        if matches!(error.kind, ErrorKind::VersionMismatch | ErrorKind::NotFound) {
            self.look_at(live.ino);
        }
        error.into()
    }

    /// Tells of a fetch that ended; what it brought is recorded soon.
    fn fetched(self: &Arc<Self>, live: &Arc<Live>, outcome: Result<(), EngineError>) {
        if let Err(error) = outcome {
            tracing::info!(ino = live.ino.0, %error, "cannot fetch");
            if let (EngineError::Corrupt(_), Some(source)) = (&error, live.source()) {
                self.workers.wrong.note(live.ino, &source.version);
            }
            // What is sent makes room meanwhile: that is no news for anybody.
            let comes_later =
                matches!(error, EngineError::NoSpace(_)) && self.sends_without_fetching();
            if !comes_later {
                self.note_problem(Some(live.ino), &error.to_string());
            }
        }
        let is_large_news = {
            let state = live.state();
            state.hydrated && state.blocks_unrecorded && state.size >= LARGE
        };
        if live.state().fetching.is_empty() {
            self.tell_fetched(live.ino);
        }
        if is_large_news {
            let (core, live) = (self.clone(), live.clone());
            drop(self.runtime.spawn(async move { core.record_and_settle(live).await }));
        }
        self.recorder.notify_one();
        self.pulse();
    }
}

/// Is a run being fetched. However its fetch ends, also by a panic, its waiters go on.
struct UnderWay {
    live: Arc<Live>,
    run: Range<u32>,
    outcome: Result<(), Failure>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        {
            let mut state = self.live.state();
            if let Some(at) = state.fetching.iter().position(|other| *other == self.run) {
                state.fetching.swap_remove(at);
            }
            if let Err(failure) = self.outcome {
                state.failures += 1;
                state.failure = Some(failure);
                if failure == Failure::Corrupt {
                    state.let_rest(&self.run);
                }
                if failure == Failure::Offline {
                    state.gave_up = Some((Instant::now(), failure));
                }
            }
        }
        self.live.arrived.notify_waiters();
    }
}

impl State {
    /// What was answered to somebody who waited in vain a moment ago: the kernel asks once more for the first page of what
    /// it could not read ahead, and that must not take as long again.
    fn just_gave_up(&self) -> Option<Failure> {
        self.gave_up.filter(|(when, _)| when.elapsed() < SAME_READ).map(|(_, failure)| failure)
    }
}

/// What is so large is told to the catalog as soon as it is here: from then on the kernel reads it by itself.
const LARGE: u64 = 32 << 20;

/// How soon after a failed read another one is taken for its second half.
const SAME_READ: Duration = Duration::from_millis(300);

/// How long a reader waits at most for the rest of a piece while whole blocks are there already.
const FLUSH_AFTER: Duration = Duration::from_millis(20);
