//! Whether somebody can still write a file, through us or past us, and how long it rests then.

use std::sync::Arc;
use std::time::Duration;

use super::EngineError;
use super::core::Core;
use crate::cache::{Access, DataFile};
use crate::model::{Generation, Ino};

/// How much oftener than an open file one is looked at that is mapped and not open.
const MAPPED: u32 = 60;

impl Core {
    /// How long an item that a writer has open rests: it is sent now and then all the same.
    pub(super) fn writer_pause(&self) -> Duration {
        self.settings.write_back_delay.saturating_mul(300)
    }

    /// How long an item rests that somebody can still write. What is only mapped has no end that anybody would tell of.
    pub(super) fn unquiet_pause(&self, ino: Ino) -> Duration {
        let closed = self.open.handles(ino).writers == 0;
        self.writer_pause() / if closed { MAPPED } else { 1 }
    }

    /// Whether nobody can write the data file any more, neither through us nor past us.
    pub(super) async fn nobody_writes(self: &Arc<Self>, ino: Ino) -> Result<bool, EngineError> {
        if self.open.handles(ino).writers > 0 {
            return Ok(false);
        }
        let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { return Ok(true) };
        // A descriptor of our own that may write would be taken for somebody else's.
        if !self.leases_trusted {
            return Ok(true);
        }
        if self.open.live(ino).is_some_and(|live| live.holds_writable()) {
            return Ok(!self.open.is_mapped(ino));
        }
        let core = self.clone();
        self.blocking(move || {
            let data = core.cache.open_data(ino, inode.generation, Access::Read)?;
            let nobody = match data {
                Some(data) => data.nobody_can_write()?,
                None => true,
            };
            core.note_who_writes(ino, nobody)
        })
        .await
    }

    /// The same with a descriptor of this generation that is open for reading already: nothing waits for the disk then.
    pub(super) async fn nobody_writes_to(
        self: &Arc<Self>,
        ino: Ino,
        generation: Generation,
        data: &DataFile,
    ) -> Result<bool, EngineError> {
        let is_simple = self.leases_trusted
            && self.open.handles(ino).writers == 0
            && data.access() == Access::Read
            && !self.open.live(ino).is_some_and(|live| live.holds_writable());
        let inode = self.catalog.read(|rows| rows.inode(ino))?;
        if !is_simple || inode.is_none_or(|inode| inode.generation != generation) {
            return self.nobody_writes(ino).await;
        }
        self.note_who_writes(ino, data.nobody_can_write()?)
    }

    fn note_who_writes(&self, ino: Ino, nobody: bool) -> Result<bool, EngineError> {
        self.open.note_mapped(ino, !nobody);
        if !nobody && self.catalog.read(|rows| rows.inode(ino))?.is_none() {
            // It went meanwhile: nobody would ever take it off the list.
            self.open.note_mapped(ino, false);
        }
        Ok(nobody)
    }
}
