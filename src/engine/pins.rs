//! The pin worker: what is pinned and not here is fetched, also after a restart. There is no queue to lose: the catalog is
//! asked what is missing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::EngineError;
use super::core::{Cause, Core};
use crate::model::Ino;

/// How long the worker rests after something could not be fetched.
const REST: Duration = Duration::from_secs(10);

impl Core {
    /// Fetches what is pinned; ends with the engine.
    pub(crate) async fn run_pins(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            let unlisted = self.list_wanted().await;
            let begun = Instant::now();
            let rest = unlisted | self.fetch_pinned(&stopping).await;
            // To look through a large catalog takes a while: it is not done for each name that comes.
            let pause = (begun.elapsed() * 10).min(REST);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            tokio::select! {
                () = self.pins.notified() => {}
                () = tokio::time::sleep(REST), if rest => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Goes through all that is pinned and missing, once; answers whether something is left to be tried again.
    async fn fetch_pinned(self: &Arc<Self>, stopping: &tokio::sync::watch::Receiver<bool>) -> bool {
        let mut left = false;
        let mut after = Ino(0);
        loop {
            if *stopping.borrow() {
                return false;
            }
            let page = match self.catalog.read(|rows| rows.pinned_not_hydrated(after, 100)) {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "cannot tell what is pinned");
                    return true;
                }
            };
            let Some(last) = page.last() else {
                self.note_pins_short(0);
                return left;
            };
            after = *last;
            for ino in page {
                if !self.has_room_for_pinned(ino).await {
                    return true;
                }
                match self.hydrate_whole(ino, Cause::Transfer).await {
                    Ok(_) => {}
                    Err(EngineError::Stopped) => return false,
                    Err(error) => {
                        tracing::info!(ino = ino.0, %error, "pinned content is still to come");
                        left = true;
                    }
                }
            }
        }
    }

    /// Whether the rest of a pinned file fits. Where not, nothing is fetched that would have to go again at once, and nothing
    /// else is freed for it a second time.
    async fn has_room_for_pinned(self: &Arc<Self>, ino: Ino) -> bool {
        let _visit = self.open.visit(ino);
        let (size, present) = match self.live_for(ino) {
            Ok(live) => {
                let state = live.state();
                (state.size, state.present())
            }
            Err(_) => return true,
        };
        let missing = size.saturating_sub(present);
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
