//! While content is cut off, and afterwards: what was taken of it to be recorded before is not to be believed any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::core::Core;
use super::live::Live;

/// Tells whether content was cut off since somebody looked at it. Never waits, for the only writer of the catalog asks.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// Moves when a cut begins and when it ends: what is taken in between is as old as what was taken before.
    moves: AtomicU64,
    under_way: AtomicU32,
    /// Rung when one ends.
    ended: Notify,
}

impl Cuts {
    /// What [`Self::is_cut_since`] is asked with; to be read before what it is about.
    pub(super) fn seen(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    /// Whether something was cut off since, or is just being.
    pub(super) fn is_cut_since(&self, seen: u64) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0 || self.seen() != seen
    }

    /// Resolves when no cut is under way.
    pub(super) async fn over(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.under_way.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Is a cut under way; it ends when this is dropped, whatever came of it.
pub(super) struct Cut {
    core: Arc<Core>,
    live: Arc<Live>,
    /// Whether the catalog was told of another length.
    told: bool,
    done: bool,
}

impl Cut {
    /// To be called before the catalog is told, or anything is cut off.
    pub(super) fn begin(core: &Arc<Core>, live: &Arc<Live>) -> Self {
        live.cuts.under_way.fetch_add(1, Ordering::SeqCst);
        live.cuts.moves.fetch_add(1, Ordering::SeqCst);
        Self { core: core.clone(), live: live.clone(), told: false, done: false }
    }

    /// The catalog is being told of another length, or will be although nobody waits for that any more.
    pub(super) fn tells(&mut self) {
        self.told = true;
    }

    /// The bytes are gone, too.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if !self.done {
            // The catalog may have forgotten what is still here, and what a user wrote among it.
            let mut state = self.live.state();
            if !state.hydrated {
                state.blocks_unrecorded = true;
                // Only what was written tells of a length.
                state.wrote |= self.told;
                self.core.recorder.notify_one();
            }
        }
        self.live.cuts.moves.fetch_add(1, Ordering::SeqCst);
        self.live.cuts.under_way.fetch_sub(1, Ordering::SeqCst);
        self.live.cuts.ended.notify_waiters();
    }
}
