//! Ahead of an upload: a large file that rests is brought to the disk and read while it does, so that it is only sent when its
//! time has come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::EngineError;
use super::core::Core;
use super::crash::crash_here;
use super::live::Live;
use super::open::lock;
use super::pause::BULK;
use crate::cache::{Access, Foreseen};
use crate::model::{Content, Generation, Ino, Kind};

/// Part of its rest that a file has before it is read: what is removed or written again at once is not read in vain.
const PART: u32 = 4;
/// The longest such time.
const LONGEST: Duration = Duration::from_secs(1);
/// How many files are remembered whose upload did not come.
const REMEMBERED: usize = 64;

/// What one file held, once that is known; locked while it is read.
type Found = Arc<tokio::sync::Mutex<Option<(Generation, Foreseen)>>>;

/// Is what is known of files whose upload is to come.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    known: Mutex<HashMap<Ino, Found>>,
    /// One file at a time: the others are read when they are sent.
    turn: tokio::sync::Mutex<()>,
}

impl Foresight {
    fn forget(&self, ino: Ino, found: &Found) {
        let mut known = lock(&self.known);
        if known.get(&ino).is_some_and(|one| Arc::ptr_eq(one, found)) {
            known.remove(&ino);
        }
    }
}

impl Core {
    /// The last writer of a file is gone: if it is large, it is read soon.
    pub(super) fn foresee(self: &Arc<Self>, live: &Live) {
        let ino = live.ino;
        if live.state().size <= BULK || !self.can_send() {
            return;
        }
        let found = Found::default();
        {
            let mut known = lock(&self.workers.foresight.known);
            // Once for each upload: who writes it again and again would have it read as often.
            if known.contains_key(&ino) {
                return;
            }
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(ino, found.clone());
        }
        let core = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep((core.settings.write_back_delay / PART).min(LONGEST)).await;
            match core.is_worth_reading(ino) {
                Ok(true) => core.read_ahead_of_upload(ino, &found).await,
                _ => core.workers.foresight.forget(ino, &found),
            }
        });
    }

    fn is_worth_reading(&self, ino: Ino) -> Result<bool, EngineError> {
        if self.is_held_as_bulk(ino)? {
            return Ok(false);
        }
        let is_worth = self.catalog.read(|rows| {
            let Some(inode) = rows.inode(ino)?.filter(|inode| inode.local.is_some()) else {
                return Ok(false);
            };
            let is_large = inode.kind == Kind::File
                && inode.attributes.size > BULK
                && inode.content == Content::Hydrated;
            Ok(is_large
                && rows.outbox_item(ino)?.is_some()
                && rows.base(ino)?.is_none_or(|base| base.edition != inode.edition))
        })?;
        Ok(is_worth)
    }

    async fn read_ahead_of_upload(self: &Arc<Self>, ino: Ino, found: &Found) {
        let Ok(_turn) = self.workers.foresight.turn.try_lock() else { return };
        let mut place = {
            let known = lock(&self.workers.foresight.known);
            let is_wanted = known.get(&ino).is_some_and(|one| Arc::ptr_eq(one, found));
            match found.clone().try_lock_owned() {
                Ok(place) if is_wanted => place,
                _ => return,
            }
        };
        match self.read_whole(ino).await {
            Ok(seen) => {
                *place = seen;
                crash_here!(self, "foresee: read ahead");
            }
            Err(error) => tracing::debug!(ino = ino.0, %error, "cannot read ahead of an upload"),
        }
    }

    async fn read_whole(
        self: &Arc<Self>,
        ino: Ino,
    ) -> Result<Option<(Generation, Foreseen)>, EngineError> {
        let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { return Ok(None) };
        let core = self.clone();
        self.blocking(move || {
            let data = core.cache.open_data(ino, inode.generation, Access::Read)?;
            let Some(data) = data else { return Ok(None) };
            let go_on = || {
                let named = core.catalog.read(|rows| rows.inode(ino)).ok().flatten();
                !core.is_stopped()
                    && core.open.handles(ino).writers == 0
                    && named.is_some_and(|inode| inode.local.is_some())
            };
            let seen = core.cache.foresee(&data, go_on)?;
            Ok(seen.map(|seen| (inode.generation, seen)))
        })
        .await
    }

    /// What a file that is to be sent held when it was read ahead; waits for that if it is just being read.
    pub(super) async fn foreseen(&self, ino: Ino, generation: Generation) -> Option<Foreseen> {
        let found = lock(&self.workers.foresight.known).remove(&ino)?;
        let seen = found.lock().await.take();
        seen.filter(|(of, _)| *of == generation).map(|(_, seen)| seen)
    }
}
