//! The pin worker: what is pinned and not here is fetched, also after a restart. There is no queue to lose: the catalog is
//! asked what is missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::{Cause, Core};
use super::{Engine, EngineError};
use crate::model::{Ino, Version};

/// How long the worker rests after something could not be fetched, and a file after it could not again and again.
const REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Is a file that could not be fetched, under the version that it had then.
struct Missed {
    version: Option<Version>,
    tries: u32,
    again: Instant,
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
                self.note_pins_short(0);
                *missed = still;
                let next = missed.values().map(|one| one.again).min()?;
                return Some(next.saturating_duration_since(Instant::now()));
            };
            after = *last;
            for ino in page {
                if self.bulk_paused() {
                    return None;
                }
                let base = self.catalog.read(|rows| rows.base(ino)).unwrap_or_default();
                let version = base.map(|base| base.version);
                let before = missed.remove(&ino).filter(|one| one.version == version);
                let tries = match before {
                    Some(one) if one.again > Instant::now() => {
                        still.insert(ino, one);
                        continue;
                    }
                    before => before.map_or(0, |one| one.tries),
                };
                if !self.has_room_for_pinned(ino).await {
                    missed.extend(still);
                    return Some(REST);
                }
                let Err(error) = self.hydrate_whole(ino, Cause::Transfer).await else { continue };
                tracing::info!(ino = ino.0, %error, "pinned content is still to come");
                match error {
                    EngineError::Stopped => return None,
                    // Neither would any other come.
                    EngineError::Offline | EngineError::Unauthenticated => {
                        missed.extend(still);
                        return Some(REST);
                    }
                    _ => {}
                }
                let rest = REST.saturating_mul(1 << tries.min(20)).min(LONGEST_REST);
                let again = Instant::now() + rest;
                still.insert(ino, Missed { version, tries: tries + 1, again });
            }
        }
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
    async fn has_room_for_pinned(self: &Arc<Self>, ino: Ino) -> bool {
        let Ok(missing) = self.missing_of(ino) else { return true };
        let was_short = self.workers.pins_short.load(Ordering::Relaxed) > 0;
        let room = if was_short {
            self.cache.reserve_now(missing).map_err(EngineError::from)
        } else {
            self.make_room(missing).await
        };
        let short = matches!(room, Err(EngineError::NoSpace(_)));
        if short {
            self.note_pins_short(missing);
        }
        !short
    }

    /// Notes how many bytes of pinned content do not fit, at least; 0: all does.
    pub(crate) fn note_pins_short(&self, bytes: u64) {
        if self.workers.pins_short.swap(bytes, Ordering::Relaxed) != bytes {
            self.pulse();
        }
    }

    /// Why pinned content is not all here, if it does not fit.
    pub(crate) fn why_pins_are_short(&self) -> Option<&'static str> {
        let short = self.workers.pins_short.load(Ordering::Relaxed) > 0;
        short.then_some(
            "what is pinned does not fit in the cache: raise cache_size, or unpin something",
        )
    }
}
