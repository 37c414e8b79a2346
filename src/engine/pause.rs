//! Pausing: what goes on in the background stands still until it is resumed, also over a restart. What a program waits for
//! goes on.

use std::sync::Arc;

use super::core::{Cause, Core};
use super::open::lock;
use super::{Engine, EngineError};
use crate::catalog::{Durability, Origin};
use crate::model::Ino;

/// Under which key the catalog keeps what is paused.
const PAUSED: &str = "paused";
/// Larger files are bulk, bytes.
pub(crate) const BULK: u64 = crate::remote::layers::SMALL;

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

/// Is a lane that circumstances hold back, and why: `the network is metered`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restraint {
    /// What stands still.
    pub lane: Lane,
    /// Why, in words for people.
    pub why: &'static str,
}

impl Engine {
    /// Stops a lane; another one that is paused stays so.
    pub async fn pause(&self, lane: Lane) -> Result<(), EngineError> {
        let more = |before: Option<Lane>| match before {
            Some(before) if before != lane => Some(Lane::All),
            _ => Some(lane),
        };
        self.core.set_paused(more, false).await
    }

    /// Lets everything go on.
    pub async fn resume(&self) -> Result<(), EngineError> {
        self.resume_lane(Lane::All).await
    }

    /// Lets a lane go on; another one that is paused stays so.
    pub async fn resume_lane(&self, lane: Lane) -> Result<(), EngineError> {
        let rest = |before: Option<Lane>| match (before, lane) {
            (_, Lane::All) => None,
            (Some(Lane::All), Lane::Bulk) => Some(Lane::Uploads),
            (Some(Lane::All), Lane::Uploads) => Some(Lane::Bulk),
            (before, lane) => before.filter(|before| *before != lane),
        };
        {
            let mut restraint = lock(&self.core.restraint);
            if lane == Lane::All || restraint.is_some_and(|by| by.lane == lane) {
                *restraint = None;
            }
        }
        self.core.set_paused(rest, true).await
    }

    /// Holds a lane back while circumstances last; `None` lets it go on. It is not kept over a restart, and a person who
    /// resumes is not held back until the circumstances change.
    pub async fn restrain(&self, restraint: Option<Restraint>) -> Result<(), EngineError> {
        let before = std::mem::replace(&mut *lock(&self.core.restraint), restraint);
        if before == restraint {
            return Ok(());
        }
        self.core.set_paused(|paused| paused, before.is_some()).await
    }
}

impl Core {
    /// What stands still, if anything: by a person, or by circumstances.
    pub(crate) fn paused(&self) -> Option<Lane> {
        let restrained = lock(&self.restraint).map(|restraint| restraint.lane);
        match (*lock(&self.paused), restrained) {
            (Some(one), Some(other)) if one != other => Some(Lane::All),
            (one, other) => one.or(other),
        }
    }

    /// Why something stands still, in words for people.
    pub(crate) fn why_paused(&self) -> Option<String> {
        let word = |lane| match lane {
            Lane::Bulk => "large transfers are",
            Lane::Uploads => "sending is",
            Lane::All => "background transfer is",
        };
        let lane = self.paused()?;
        let restraint = lock(&self.restraint).filter(|_| lock(&self.paused).is_none());
        Some(match restraint {
            None => format!("{} paused: dewfs resume lets it go on", word(lane)),
            Some(Restraint { why, .. }) => {
                format!("{} put off, {why}: dewfs resume lets it go on all the same", word(lane))
            }
        })
    }

    /// Whether nothing is sent.
    pub(crate) fn uploads_paused(&self) -> bool {
        matches!(self.paused(), Some(Lane::Uploads | Lane::All))
    }

    /// Whether nothing is fetched ahead, and large files are not sent.
    pub(crate) fn bulk_paused(&self) -> bool {
        matches!(self.paused(), Some(Lane::Bulk | Lane::All))
    }

    /// Whether a file is not sent if it is large.
    pub(super) fn stands_as_bulk(&self, ino: Ino) -> bool {
        self.bulk_paused() && !lock(&self.workers.urgent).contains(&ino)
    }

    /// Whether a file is not sent because it is large.
    pub(crate) fn is_held_as_bulk(&self, ino: Ino) -> Result<bool, EngineError> {
        if !self.stands_as_bulk(ino) {
            return Ok(false);
        }
        let inode = self.catalog.read(|rows| rows.inode(ino))?;
        Ok(inode.is_some_and(|inode| inode.attributes.size > BULK))
    }

    /// Resolves when a file that is being sent is to stand still because it is large.
    pub(crate) async fn is_held_while_sent(&self, ino: Ino) {
        let mut pulse = self.pulse.subscribe();
        loop {
            pulse.borrow_and_update();
            if self.is_held_as_bulk(ino).unwrap_or(false) {
                return;
            }
            if pulse.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the rest of a large file is not fetched now, because nobody waits for it and bulk stands still.
    pub(crate) fn is_put_off(&self, ino: Ino, size: u64, cause: Cause) -> bool {
        cause == Cause::Transfer
            && size > BULK
            && self.bulk_paused()
            && self.open.handles(ino).open == 0
    }

    pub(crate) fn recall_paused(&self) -> Result<(), EngineError> {
        let kept = self.catalog.read(|rows| rows.state(PAUSED))?;
        *lock(&self.paused) = kept.as_deref().and_then(Lane::of);
        Ok(())
    }

    /// `change` makes of what is paused what shall be. `wakes` those that were put off: they find out by themselves whether they
    /// are still held back.
    async fn set_paused(
        self: &Arc<Self>,
        change: impl FnOnce(Option<Lane>) -> Option<Lane>,
        wakes: bool,
    ) -> Result<(), EngineError> {
        // First of all: what is just being put off looks once more after that, in the order of transactions.
        let (before, after) = {
            let mut paused = lock(&self.paused);
            let before = *paused;
            *paused = change(before);
            (before, *paused)
        };
        let core = self.clone();
        self.catalog
            .write(Durability::Synced, Origin::Engine, move |tx| {
                // Others may have changed it since: the last transaction keeps what is so by then.
                let lane = *lock(&core.paused);
                tx.set_state(PAUSED, lane.map(|lane| lane.word().as_bytes()))?;
                if wakes { tx.outbox_wake_all() } else { Ok(()) }
            })
            .await
            .inspect_err(|_| {
                let mut paused = lock(&self.paused);
                if *paused == after {
                    *paused = before;
                }
            })
            .map_err(EngineError::from)?;
        self.outbox.notify_one();
        self.pins.notify_one();
        self.pulse();
        Ok(())
    }
}
