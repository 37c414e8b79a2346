//! Data files that nobody has open, compared with their rows at the start: what a daemon wrote that was killed, and what a power
//! cut took.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::EngineError;
use super::core::Core;
use crate::cache::Access;
use crate::catalog::{Durability, Origin, Tx};
use crate::model::{self, Content, Generation, Ino, Kind, Rows as _, Stamp};

impl Core {
    /// Compares the data files of all pending rows with what the catalog knows of them, while nothing is open yet.
    pub(crate) async fn observe_pending(self: &Arc<Self>) -> Result<(), EngineError> {
        let rows = self.catalog.read(|rows| rows.outbox_inodes())?;
        let core = self.clone();
        let moved = self
            .blocking(move || {
                let mut moved = Vec::new();
                for row in rows {
                    moved.extend(core.moved_at_rest(row)?);
                }
                Ok(moved)
            })
            .await?;
        self.catalog
            .write(Durability::Soon, Origin::Engine, move |tx| {
                moved.into_iter().try_for_each(|at_rest| at_rest.tell(tx))
            })
            .await
    }

    /// What the data file of a closed file says, if that is not what its row says.
    fn moved_at_rest(&self, ino: Ino) -> Result<Option<AtRest>, EngineError> {
        let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { return Ok(None) };
        if inode.kind != Kind::File || inode.content != Content::Hydrated {
            return Ok(None);
        }
        let generation = inode.generation;
        let Some(data) = self.cache.open_data(ino, generation, Access::Read)? else {
            // A file that was made and not written to yet has none, and lacks nothing.
            let lost = inode.attributes.size > 0;
            return Ok(lost.then_some(AtRest { ino, generation, left: None, lost }));
        };
        // A program may have it mapped, or open, since before we were killed.
        self.open.note_mapped(ino, self.leases_trusted && !data.nobody_can_write()?);
        let stamp = data.stamp()?;
        if inode.stamp == Some(stamp) {
            return Ok(None);
        }
        // Another content without a later change: the disk itself went back. On one that did not, the clock did.
        let lost = !self.disk_stayed && inode.stamp.is_some_and(|known| stamp.ctime <= known.ctime);
        Ok(Some(AtRest { ino, generation, left: Some((stamp, data.mtime()?)), lost }))
    }
}

/// Is a closed file whose data file is not as its row says.
struct AtRest {
    ino: Ino,
    generation: Generation,
    /// What the data file says, if there is one.
    left: Option<(Stamp, i64)>,
    /// Whether its last writes are gone: what is left is no content that anybody wrote.
    lost: bool,
}

impl AtRest {
    /// Takes an edit to the row. What was lost goes back to what the remote has under this name, if it has something.
    fn tell(self, tx: &mut Tx) -> Result<(), EngineError> {
        let ino = self.ino;
        // What may be under way to the remote is looked for there first.
        let under_way = tx.outbox(ino)?.is_some_and(|row| row.attempt.is_some());
        if self.lost && !under_way {
            if tx.base(ino)?.is_none() {
                model::inherit(tx, ino)?;
            }
            if let Some(base) = tx.base(ino)? {
                if self.left.is_some_and(|(stamp, _)| stamp.size > 0) {
                    tx.mark_edited(ino)?;
                    tx.rescue(ino)?;
                }
                tx.revert_to(ino, &base)?;
                tx.note(
                    ino,
                    "its last writes were lost with the power: it is as the remote has it",
                )?;
                return Ok(model::touch(tx, ino)?);
            }
        }
        if let Some((stamp, mtime)) = self.left {
            tx.observe(ino, self.generation, stamp, mtime)?;
        }
        Ok(())
    }
}

/// Names which mount of which boot a directory lies on, as no other is ever named; `None` where the system does not tell.
pub(super) fn mounted(dir: &Path) -> Option<Vec<u8>> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    // linux/stat.h: STATX_MNT_ID_UNIQUE, since Linux 6.8. The older number is given to the next mount at once.
    let unique = StatxFlags::from_bits_retain(0x4000);
    let found = statx(CWD, dir, AtFlags::empty(), unique).ok()?;
    let told = found.stx_mask & unique.bits() != 0;
    told.then(|| format!("{} {}", boot.trim(), found.stx_mnt_id).into_bytes())
}
