//! Closing: what was written is told to the catalog together with the close, in one transaction.

use std::sync::Arc;

use super::EngineError;
use super::core::Core;
use super::live::Live;
use super::namespace::rest;
use crate::catalog::{Durability, Origin};
use crate::model::{self, Ino, Rows as _, Stamp};

/// Is what a write left behind in the data file: stamp and mtime.
type Left = (Stamp, i64);

impl Core {
    /// The last handle of this open is gone. A close waits for no disk: what it promises outlives a killed process.
    pub(super) fn after_release(self: &Arc<Self>, live: Arc<Live>, last_writer: bool) {
        if last_writer && self.tell_of_close(&live) {
            return;
        }
        let core = self.clone();
        self.runtime.spawn(async move { core.tell_slowly(live, last_writer).await });
    }

    /// Tells the catalog of a close where that needs neither the disk nor a turn; `false` if it does.
    fn tell_of_close(self: &Arc<Self>, live: &Arc<Live>) -> bool {
        let Ok(turn) = live.telling.clone().try_lock_owned() else { return false };
        let data = live.open_data();
        let left = {
            let mut state = live.state();
            // Blocks that came are told of only after they are on the disk.
            if !state.hydrated || state.blocks_unrecorded {
                return false;
            }
            let left = match (&data, state.wrote) {
                (_, false) => None,
                (Some(data), true) => match (data.stamp(), data.mtime()) {
                    (Ok(stamp), Ok(mtime)) => Some((stamp, mtime)),
                    _ => return false,
                },
                (None, true) => return false,
            };
            state.recording += u32::from(left.is_some());
            state.wrote = false;
            state.closing = true;
            left
        };
        drop(data);
        let (ino, generation, rests) = (live.ino, live.generation, self.rests());
        let (core, live) = (self.clone(), live.clone());
        self.catalog.submit(
            Durability::Later,
            Origin::Kernel,
            move |tx| {
                if let Some((stamp, mtime)) = left {
                    tx.observe(ino, generation, stamp, mtime)?;
                }
                model::handled(tx, ino)?;
                rest(tx, ino, rests)?;
                Ok(tx.node(ino)?.is_some_and(|node| node.local.is_some()))
            },
            move |outcome| {
                core.told_of_close(&live, left, outcome);
                drop(turn);
                core.open.settle(ino);
            },
        );
        true
    }

    fn told_of_close(
        self: &Arc<Self>,
        live: &Live,
        left: Option<Left>,
        outcome: Result<bool, EngineError>,
    ) {
        self.open.note_told();
        {
            let mut state = live.state();
            state.closing = false;
            state.recording = state.recording.saturating_sub(u32::from(left.is_some()));
            state.wrote |= left.is_some() && outcome.is_err();
        }
        if self.open.handles(live.ino).open == 0 {
            self.ask_again_who_writes(live);
            live.close_data();
            if !matches!(outcome, Ok(true)) {
                self.forget_unnamed(live.ino);
            }
        }
        if let Err(error) = outcome {
            tracing::warn!(ino = live.ino.0, %error, "cannot record what was written; it is found at the next open");
        }
        self.outbox.notify_one();
        self.pulse();
        self.foresee(live);
    }

    /// The kernel lets go of the data file a little after it told of the close, which looks like a mapping until then.
    fn ask_again_who_writes(&self, live: &Live) {
        if self.open.is_mapped(live.ino)
            && let Some(data) = live.open_data()
            && data.nobody_can_write().unwrap_or(false)
        {
            self.open.note_mapped(live.ino, false);
        }
    }

    async fn tell_slowly(self: Arc<Self>, live: Arc<Live>, last_writer: bool) {
        if let Err(error) = self.record(&live, Durability::Soon).await {
            tracing::warn!(ino = live.ino.0, %error, "cannot record what was written; it is found at the next open");
        }
        if last_writer {
            self.writer_closed(live.ino).await;
            self.foresee(&live);
        }
        self.closed(&live);
    }

    /// The last handle is gone and nothing is to be told.
    pub(super) fn closed(self: &Arc<Self>, live: &Live) {
        let ino: Ino = live.ino;
        if self.open.handles(ino).open == 0 {
            live.close_data();
            self.forget_unnamed(ino);
        }
        self.open.settle(ino);
    }
}
