//! Data files that no row needs: what a crash left between forgetting a content and unlinking it, and what a power cut left
//! without its row. Looked for once after each start, beside everything else; so is what a data file holds beside the blocks
//! that its row tells of.

use std::sync::Arc;
use std::time::Duration;

use super::EngineError;
use super::core::Core;
use super::shed::most_occupied;
use crate::cache::Found;
use crate::catalog::Inode;
use crate::model::{BLOCK, Content, Ino, Kind};

/// How long what this process forgets by itself has until it is unlinked.
const REST: Duration = Duration::from_secs(1);

/// Says what becomes of a data file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its row needs it.
    Needed,
    /// Its row needs less than it holds.
    Untidy,
    /// Its row has left it behind: nothing in it is missing elsewhere.
    Forgotten,
    /// Nothing tells what it is, or it holds edits: it is kept for its owner.
    Kept,
}

impl Core {
    /// Puts data files in order that no row needs.
    pub(crate) async fn sweep_strays(self: Arc<Self>) {
        if let Err(error) = self.clone().try_sweep_strays().await
            && !self.is_stopped()
        {
            tracing::warn!(%error, "cannot look for data files that nothing needs; the next start does");
        }
    }

    async fn try_sweep_strays(self: Arc<Self>) -> Result<(), EngineError> {
        let core = self.clone();
        let strays = self
            .blocking(move || {
                let mut strays = Vec::new();
                for found in core.cache.data_files() {
                    if core.fate_of(found)? != Fate::Needed {
                        strays.push(found);
                    }
                }
                Ok(strays)
            })
            .await?;
        if strays.is_empty() {
            return Ok(());
        }
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        }
        self.unlink_forgotten().await?;
        let core = self.clone();
        self.blocking(move || strays.into_iter().try_for_each(|stray| core.put_in_order(stray)))
            .await
    }

    fn fate_of(&self, found: Found) -> Result<Fate, EngineError> {
        let (ino, generation) = (found.ino, found.generation);
        let (row, edits) = self
            .catalog
            .read(|rows| Ok((rows.inode(ino)?, rows.is_to_be_rescued(ino, generation)?)))?;
        let holds_more = |row: &Inode| {
            let blocks = self.catalog.read(|rows| rows.presence(ino))?.blocks;
            let partly = row.kind == Kind::File && row.content != Content::Hydrated;
            let most = most_occupied(&blocks, blocks.len() * BLOCK);
            Ok::<_, EngineError>(partly && found.allocated > most)
        };
        Ok(match row {
            _ if edits => Fate::Kept,
            Some(row) if row.generation == generation && holds_more(&row)? => Fate::Untidy,
            Some(row) if row.generation == generation => Fate::Needed,
            Some(row) if row.generation > generation => Fate::Forgotten,
            _ => Fate::Kept,
        })
    }

    fn put_in_order(self: &Arc<Self>, stray: Found) -> Result<(), EngineError> {
        let (ino, generation) = (stray.ino, stray.generation);
        match self.fate_of(stray)? {
            Fate::Needed => {}
            Fate::Untidy => self.tidy_one(ino)?,
            Fate::Kept if stray.allocated > 0 => self.rescue_stray(stray),
            Fate::Forgotten | Fate::Kept => {
                self.cache.remove(ino, generation)?;
            }
        }
        Ok(())
    }

    /// Opening a data file of which not all is needed gives back what it holds beside that; the rest of the room goes after it.
    fn tidy_one(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        let _visit = self.open.visit(ino);
        let live = self.live_for(ino)?;
        let data = live.data(&self.cache)?;
        live.state().tidy_all(&data)?;
        drop(data);
        if self.open.handles(ino).open == 0 {
            live.close_data();
        }
        self.room.notify_waiters();
        Ok(())
    }

    fn rescue_stray(&self, stray: Found) {
        // Gone meanwhile: it was being unlinked.
        let path = self.cache.data_path(stray.ino, stray.generation);
        if path.exists() {
            self.rescue(stray.ino, stray.generation);
        }
    }
}
