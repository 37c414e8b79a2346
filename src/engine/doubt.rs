//! Data files whose stamp is another one than the recorded: an edit whose row is lost, or the same bytes on another disk.
//!
//! A state directory that was copied, restored, given to another user or relabelled has other ctimes throughout. Where the
//! digest of the content is known it decides; else such a file counts as edited.

use std::sync::Arc;

use super::EngineError;
use super::core::Core;
use super::live::Live;
use crate::cache::Access;
use crate::catalog::{Durability, Inode, Origin};
use crate::model::{Base, Content, Digest, Rows as _, Stamp};

/// What a file holds for certain if nothing but its stamp tells of an edit.
pub(crate) fn known_content(inode: &Inode, base: Option<&Base>) -> Option<Digest> {
    let at_rest = inode.content == Content::Hydrated && !inode.edited && !inode.pending;
    let base = base.filter(|base| at_rest && base.edition == inode.edition)?;
    let recorded = inode.stamp.map(|stamp| stamp.size);
    base.known.filter(|known| recorded == Some(known.size))
}

impl Core {
    /// Finds out whether a live content whose stamp moved is what it was: then its row gets the new stamp, else it was edited.
    /// Called in the order in which the catalog is told.
    pub(crate) async fn settle_doubt(
        self: &Arc<Self>,
        live: &Arc<Live>,
    ) -> Result<(), EngineError> {
        if !live.state().doubted {
            return Ok(());
        }
        let same = match self.same_as_known(live).await {
            Ok(Some((known, stamp))) => self.note_same(live, known, stamp).await?,
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(ino = live.ino.0, %error, "cannot compare a data file with what it was");
                false
            }
        };
        let mut state = live.state();
        state.doubted = false;
        state.wrote |= !same;
        Ok(())
    }

    /// The digest that is known and the stamp of the data file, if it holds just that.
    async fn same_as_known(
        self: &Arc<Self>,
        live: &Arc<Live>,
    ) -> Result<Option<(Digest, Stamp)>, EngineError> {
        let (ino, generation) = (live.ino, live.generation);
        let (inode, base) = self.catalog.read(|rows| Ok((rows.inode(ino)?, rows.base(ino)?)))?;
        let known = inode
            .filter(|inode| inode.generation == generation)
            // Opened for writing meanwhile, it waits to be sent: that says nothing of its content.
            .map(|inode| Inode { pending: false, ..inode })
            .and_then(|inode| known_content(&inode, base.as_ref()));
        let Some(known) = known else { return Ok(None) };
        let (core, live) = (self.clone(), live.clone());
        self.blocking(move || {
            let Some(data) = core.cache.open_data(ino, generation, Access::Read)? else {
                return Ok(None);
            };
            if let Some(tick) = core.cache.stamp_tick() {
                // What is taken as the stamp of this content must be older than any write to come.
                std::thread::sleep(tick);
            }
            let stamp = data.stamp()?;
            let digest = data.digest_while(|| !live.state().wrote)?;
            let same = digest == Some(known) && data.unmoved_since(stamp)?;
            Ok(same.then_some((known, stamp)))
        })
        .await
    }

    async fn note_same(
        &self,
        live: &Live,
        known: Digest,
        stamp: Stamp,
    ) -> Result<bool, EngineError> {
        let (ino, generation) = (live.ino, live.generation);
        self.catalog
            .write(Durability::Soon, Origin::Engine, move |tx| {
                let Some(inode) = tx.inode(ino)?.filter(|inode| inode.generation == generation)
                else {
                    return Ok(false);
                };
                // Opened for writing meanwhile, it waits to be sent: that says nothing of its content.
                let asked = Inode { pending: false, ..inode };
                let same = known_content(&asked, tx.base(ino)?.as_ref()) == Some(known);
                if same {
                    tx.set_content(ino, generation, Content::Hydrated, Some(stamp))?;
                }
                Ok(same)
            })
            .await
    }
}
