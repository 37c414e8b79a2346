//! The pin worker: what is pinned and not here is fetched, also after a restart. There is no queue to lose: the catalog is
//! asked what is missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::{Cause, Core};
use super::{Engine, EngineError};
use crate::model::{Content, Ino, Version};

/// How long the worker rests after something could not be fetched, and a file after it could not again and again.
const REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Is a file that could not be fetched, under the version that it had then.
struct Missed {
    version: Option<Version>,
    tries: u32,
    again: Instant,
    /// If it did not fit: how often something was done for its room by then.
    refused: Option<u64>,
}

/// Is what one pass over all that is pinned found no room for.
#[derive(Default)]
struct Lack {
    /// Bytes in all.
    short: u64,
    /// The least for which nothing could be freed: for as much or more nothing is looked for.
    least: Option<u64>,
}

/// Are the files that could not be fetched.
type AllMissed = HashMap<Ino, Missed>;

impl Engine {
    /// Whether so many bytes more fit into the cache beside what is pinned.
    pub async fn fits_beside_pinned(&self, bytes: u64) -> Result<bool, EngineError> {
        match self.core.fits_beside_pinned(bytes).await {
            Err(EngineError::NoSpace(_)) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Whether what is pinned at or below `top` and still to come fits into the cache together with all else that is pinned.
    pub async fn pins_fit(&self, top: Ino) -> Result<bool, EngineError> {
        let core = self.core.clone();
        self.core.blocking(move || core.pins_fit(top)).await
    }
}

impl Core {
    /// Fetches what is pinned; ends with the engine.
    pub(crate) async fn run_pins(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let mut missed = AllMissed::new();
        loop {
            if self.bulk_paused() {
                tokio::select! {
                    () = self.pins.notified() => continue,
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
            }
            let unlisted = self.list_wanted().await;
            let begun = Instant::now();
            let left = self.fetch_pinned(&mut missed, &stopping).await;
            let rest = if unlisted { Some(REST) } else { left };
            // To look through a large catalog takes a while: it is not done for each name that comes.
            let pause = (begun.elapsed() * 10).min(REST);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            tokio::select! {
                () = self.pins.notified() => {}
                () = tokio::time::sleep(rest.unwrap_or(REST)), if rest.is_some() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Goes through all that is pinned and missing, once; answers how long what is left rests before it is tried again.
    async fn fetch_pinned(
        self: &Arc<Self>,
        missed: &mut AllMissed,
        stopping: &tokio::sync::watch::Receiver<bool>,
    ) -> Option<Duration> {
        let mut still = AllMissed::new();
        let mut lack = Lack::default();
        let mut after = Ino(0);
        loop {
            if *stopping.borrow() {
                return None;
            }
            let page = match self.catalog.read(|rows| rows.pinned_not_hydrated(after, 100)) {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "cannot tell what is pinned");
                    return Some(REST);
                }
            };
            let Some(last) = page.last() else {
                self.note_pins_short(lack.short);
                *missed = still;
                let next = missed.values().map(|one| one.again).min()?;
                return Some(next.saturating_duration_since(Instant::now()));
            };
            after = *last;
            for ino in page {
                if self.bulk_paused() {
                    missed.extend(still);
                    return None;
                }
                let base = self.catalog.read(|rows| rows.base(ino)).unwrap_or_default();
                let version = base.map(|base| base.version);
                let before = missed.remove(&ino).filter(|one| one.version == version);
                match self.fetch_one_pinned(ino, version, before, &mut lack).await {
                    Ok(None) => {}
                    Ok(Some(one)) => drop(still.insert(ino, one)),
                    Err(EngineError::Stopped) => return None,
                    // Neither would any other come.
                    Err(_) => {
                        missed.extend(still);
                        return Some(REST);
                    }
                }
            }
        }
    }

    /// Fetches one that is pinned, unless it rests from the last time; answers what is to be known of it the next time, if it is
    /// not here then. An error is one of all that is pinned.
    async fn fetch_one_pinned(
        self: &Arc<Self>,
        ino: Ino,
        version: Option<Version>,
        before: Option<Missed>,
        lack: &mut Lack,
    ) -> Result<Option<Missed>, EngineError> {
        let (tries, refused) = match before {
            Some(one) if one.refused.is_none() && one.again > Instant::now() => {
                return Ok(Some(one));
            }
            before => before.map_or((0, None), |one| (one.tries, one.refused)),
        };
        let turn = self.workers.pins_again.load(Ordering::Relaxed);
        if !self.has_room_for_pinned(ino, refused == Some(turn), lack).await {
            // The others may fit.
            let again = Instant::now() + REST;
            return Ok(Some(Missed { version, tries, again, refused: Some(turn) }));
        }
        let Err(error) = self.hydrate_whole(ino, Cause::Transfer).await else { return Ok(None) };
        tracing::info!(ino = ino.0, %error, "pinned content is still to come");
        if matches!(error, EngineError::Stopped) || self.would_fail_all(&error) {
            return Err(error);
        }
        let rest = REST.saturating_mul(1 << tries.min(20)).min(LONGEST_REST);
        let again = Instant::now() + rest;
        Ok(Some(Missed { version, tries: tries + 1, again, refused: None }))
    }

    fn pins_fit(&self, top: Ino) -> Result<bool, EngineError> {
        let files = self.catalog.read(|rows| rows.pinned_files())?;
        let limit = self.settings.cache_size;
        // What comes meanwhile changes nothing of this.
        let whole = files.iter().fold(0_u64, |sum, (_, size, _)| sum.saturating_add(*size));
        if whole <= limit {
            return Ok(true);
        }
        let (mut here, mut own, mut others) = (0_u64, 0_u64, Vec::new());
        for (ino, size, content) in files {
            let missing = match content {
                Content::Hydrated => 0,
                _ => size.saturating_sub(self.present_of(ino)?),
            };
            here = here.saturating_add(size - missing);
            if missing > 0 && self.is_below(ino, top)? {
                own = own.saturating_add(missing);
            } else {
                others.push(missing);
            }
        }
        let room = limit.saturating_sub(here);
        // One that does not fit alone waits, and takes no room from the others.
        let others =
            others.into_iter().filter(|missing| *missing <= room).fold(own, u64::saturating_add);
        Ok(others <= room)
    }

    /// How many bytes of a file are not here.
    pub(super) fn missing_of(self: &Arc<Self>, ino: Ino) -> Result<u64, EngineError> {
        let _visit = self.open.visit(ino);
        let live = self.live_for(ino)?;
        let state = live.state();
        Ok(state.size.saturating_sub(state.present()))
    }

    /// Whether the rest of a pinned file fits. Where not, nothing is fetched that would have to go again at once, and nothing
    /// else is freed for it a second time.
    async fn has_room_for_pinned(
        self: &Arc<Self>,
        ino: Ino,
        was_refused: bool,
        lack: &mut Lack,
    ) -> bool {
        let Ok(missing) = self.missing_of(ino) else { return true };
        let is_hopeless = was_refused || lack.least.is_some_and(|least| missing >= least);
        let room = if is_hopeless {
            self.cache.reserve_now(missing).map_err(EngineError::from)
        } else {
            self.make_room(missing).await
        };
        if !matches!(room, Err(EngineError::NoSpace(_))) {
            return true;
        }
        lack.short = lack.short.saturating_add(missing);
        if !is_hopeless {
            lack.least = Some(missing);
        }
        // Of the pass before, more may be known.
        self.note_pins_short(lack.short.max(self.pins_short()));
        false
    }

    fn pins_short(&self) -> u64 {
        self.workers.pins_short.load(Ordering::Relaxed)
    }

    /// What is pinned and did not fit may fit now.
    pub(crate) fn let_pins_try_again(&self) {
        self.workers.pins_again.fetch_add(1, Ordering::Relaxed);
        self.note_pins_short(0);
    }

    /// Notes how many bytes of pinned content do not fit, at least; 0: all does.
    fn note_pins_short(&self, bytes: u64) {
        if self.workers.pins_short.swap(bytes, Ordering::Relaxed) != bytes {
            self.pulse();
        }
    }

    /// Why pinned content is not all here, if it does not fit.
    pub(crate) fn why_pins_are_short(&self) -> Option<&'static str> {
        (self.pins_short() > 0).then_some(
            "what is pinned does not fit in the cache: raise cache_size, or unpin something",
        )
    }
}
