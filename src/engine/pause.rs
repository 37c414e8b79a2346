//! Pausing: what goes on in the background stands still until it is resumed, also over a restart. What a program waits for
//! goes on.

use std::sync::Arc;

use super::core::Core;
use super::open::lock;
use super::{Engine, EngineError};
use crate::catalog::{Durability, Origin};
use crate::model::Ino;

/// Under which key the catalog keeps what is paused.
const PAUSED: &str = "paused";
/// Larger files are bulk, bytes.
pub(crate) const BULK: u64 = 1 << 20;

/// Names what can be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What is fetched ahead of anybody (pins, policies), and sending files of more than 1 MiB.
    Bulk,
    /// All that is sent.
    Uploads,
    /// Both.
    All,
}

impl Lane {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Uploads => "uploads",
            Self::All => "all",
        }
    }

    fn of(word: &[u8]) -> Option<Self> {
        [Self::Bulk, Self::Uploads, Self::All].into_iter().find(|one| one.word().as_bytes() == word)
    }
}

impl Engine {
    /// Stops a lane; another one that is paused stays so.
    pub async fn pause(&self, lane: Lane) -> Result<(), EngineError> {
        let lane = match self.core.paused() {
            Some(before) if before != lane => Lane::All,
            _ => lane,
        };
        self.core.set_paused(Some(lane)).await
    }

    /// Lets everything go on.
    pub async fn resume(&self) -> Result<(), EngineError> {
        self.core.set_paused(None).await
    }
}

impl Core {
    /// What is paused, if anything.
    pub(crate) fn paused(&self) -> Option<Lane> {
        *lock(&self.paused)
    }

    /// Whether nothing is sent.
    pub(crate) fn uploads_paused(&self) -> bool {
        matches!(self.paused(), Some(Lane::Uploads | Lane::All))
    }

    /// Whether nothing is fetched ahead, and large files are not sent.
    pub(crate) fn bulk_paused(&self) -> bool {
        matches!(self.paused(), Some(Lane::Bulk | Lane::All))
    }

    /// Whether a file is not sent because it is large.
    pub(crate) fn is_held_as_bulk(&self, ino: Ino) -> Result<bool, EngineError> {
        let inode = self.catalog.read(|rows| rows.inode(ino))?;
        Ok(self.bulk_paused() && inode.is_some_and(|inode| inode.attributes.size > BULK))
    }

    pub(crate) fn recall_paused(&self) -> Result<(), EngineError> {
        let kept = self.catalog.read(|rows| rows.state(PAUSED))?;
        *lock(&self.paused) = kept.as_deref().and_then(Lane::of);
        Ok(())
    }

    async fn set_paused(self: &Arc<Self>, lane: Option<Lane>) -> Result<(), EngineError> {
        self.catalog
            .write(Durability::Synced, Origin::Engine, move |tx| {
                tx.set_state(PAUSED, lane.map(|lane| lane.word().as_bytes()))?;
                // What was put off meanwhile need not wait any longer.
                if lane.is_none() { tx.outbox_wake_all() } else { Ok(()) }
            })
            .await
            .map_err(EngineError::from)?;
        *lock(&self.paused) = lane;
        self.outbox.notify_one();
        self.pins.notify_one();
        self.pulse();
        Ok(())
    }
}
