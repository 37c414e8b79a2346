//! Giving back blocks of a content that stays: the cold ones of a file that is partly used.
//!
//! First nobody gets these blocks any more, then the catalog forgets them, durably, then they become holes; a crash in
//! between leaves bytes of which no fact tells. No hole is made under somebody who reads past us: a file that is open in
//! passthrough is left alone, and the lease tells of mappings that outlived their handles.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::EngineError;
use super::core::Core;
use super::crash::crash_point;
use super::live::{Live, Source, State};
use super::open::IoMode;
use crate::cache::DataFile;
use crate::catalog::{Durability, Inode, Origin, Tx};
use crate::model::{BLOCK, BlockSet, Content, Ino, Pin, Rows as _, Stamp};

/// Of a data file whose blocks are known, so much may be the file system's own, and so much more for each of its runs: it
/// keeps a tree of them.
const UNKNOWN: u64 = BLOCK;
const EACH_RUN: u64 = 32;

/// How much a data file may occupy of which these blocks are to be here, and that many bytes of it.
pub(crate) fn most_occupied(blocks: &BlockSet, present: u64) -> u64 {
    let runs = blocks.runs().len() as u64;
    present.saturating_add(UNKNOWN).saturating_add(runs * EACH_RUN)
}

/// Keeps blocks of a live content here, as long as it lives, for somebody who waits for them or reads them.
pub(crate) struct Waited {
    live: Arc<Live>,
    run: Range<u32>,
}

impl Drop for Waited {
    fn drop(&mut self) {
        let mut state = self.live.state();
        if let Some(at) = state.waited.iter().position(|run| *run == self.run) {
            state.waited.swap_remove(at);
        }
    }
}

impl Live {
    /// Keeps the blocks of a range here from now on, those that come included.
    pub(crate) fn keep_here(self: &Arc<Self>, bytes: &Range<u64>) -> Waited {
        let run = BlockSet::touched(bytes.clone());
        self.state().waited.push(run.clone());
        Waited { live: self.clone(), run }
    }

    /// Resolves when none of these bytes is just being given back.
    pub(crate) async fn settled(&self, bytes: &Range<u64>) {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if !self.state().is_leaving(bytes) {
                return;
            }
            arrived.await;
        }
    }
}

impl State {
    /// Whether some of these bytes are just being given back.
    pub(crate) fn is_leaving(&self, bytes: &Range<u64>) -> bool {
        let touched = BlockSet::touched(bytes.clone());
        let absent = self.leaving.absent(touched.clone());
        !touched.is_empty() && absent != [touched]
    }

    /// Gives back what a data file holds beside the blocks that are here: a crash left it, and no fact tells of it.
    pub(crate) fn tidy(&self, data: &DataFile) -> crate::cache::Result<()> {
        // What is on its way out may come back.
        let whole = self.hydrated || !self.leaving.is_empty();
        // To count the runs takes longer than to know that there is nothing.
        let (allocated, present) = (data.allocated()?, self.present());
        if whole
            || allocated <= present.saturating_add(UNKNOWN)
            || allocated <= most_occupied(&self.blocks, present)
        {
            return Ok(());
        }
        if self.blocks.is_empty() {
            return data.set_len(0);
        }
        for gap in self.gaps(data)? {
            // A hole that is there already is not made again: that would cost much more than to look.
            if data.seek_data(gap.start)?.is_some_and(|at| at < gap.end) {
                data.punch(gap)?;
            }
        }
        Ok(())
    }

    /// The same also of room that was taken and never written, which looks like a hole.
    pub(crate) fn tidy_all(&self, data: &DataFile) -> crate::cache::Result<()> {
        if self.hydrated || !self.leaving.is_empty() {
            return Ok(());
        }
        self.gaps(data)?.into_iter().try_for_each(|gap| data.punch(gap))
    }

    /// Where a data file is to hold nothing.
    fn gaps(&self, data: &DataFile) -> crate::cache::Result<Vec<Range<u64>>> {
        let end = BlockSet::touched(0..data.size()?).end;
        let gaps = self.blocks.absent(0..end).into_iter();
        Ok(gaps.map(|run| u64::from(run.start) * BLOCK..u64::from(run.end) * BLOCK).collect())
    }

    /// The blocks that are here.
    fn here(&self) -> BlockSet {
        let mut here = self.blocks.clone();
        if self.hydrated {
            here.insert(BlockSet::touched(0..self.size));
        }
        here
    }

    /// Takes those of `cold` that are here and that nobody waits for: from now on nobody gets them.
    fn let_go(&mut self, cold: &BlockSet) -> BlockSet {
        let here = self.here();
        let mut going = cold.clone();
        going.intersect(&here);
        self.waited.iter().chain(&self.fetching).for_each(|run| going.remove(run.clone()));
        if self.may_be_edited() || going.is_empty() {
            return BlockSet::default();
        }
        self.blocks = here;
        self.blocks.subtract(&going);
        self.hydrated = false;
        self.shed += 1;
        self.leaving = going.clone();
        going
    }
}

/// Is blocks on their way out. However that ends, they are here again or gone afterwards.
struct Going {
    live: Arc<Live>,
    blocks: BlockSet,
    forgotten: bool,
}

impl Drop for Going {
    fn drop(&mut self) {
        {
            let mut state = self.live.state();
            state.leaving = BlockSet::default();
            if !self.forgotten {
                self.blocks.truncate(state.size);
                state.blocks.union(&self.blocks);
                // Emptied or cut meanwhile, it may be whole without them.
                state.hydrated |= state.blocks.is_full(state.size);
            }
        }
        self.live.arrived.notify_waiters();
    }
}

impl Core {
    /// Gives back those of the `cold` blocks of a file that nobody needs; answers how many bytes that freed.
    pub(crate) async fn shed(
        self: &Arc<Self>,
        ino: Ino,
        cold: BlockSet,
    ) -> Result<u64, EngineError> {
        let core = self.clone();
        // A task of its own: blocks must not stay on their way out because nobody waits for it any more.
        let shed = self.runtime.spawn(async move { core.shed_all(ino, &cold).await });
        shed.await.unwrap_or(Err(EngineError::Stopped))
    }

    async fn shed_all(self: &Arc<Self>, ino: Ino, cold: &BlockSet) -> Result<u64, EngineError> {
        let visit = self.open.visit(ino);
        let live = self.live_for(ino)?;
        let outcome = {
            // Nothing is recorded meanwhile, and nobody takes the content to be whole and goes past us.
            let _turn = live.telling.lock().await;
            self.shed_told(&live, cold).await
        };
        if self.open.handles(ino).open == 0 {
            live.close_data();
        }
        drop(visit);
        outcome
    }

    async fn shed_told(
        self: &Arc<Self>,
        live: &Arc<Live>,
        cold: &BlockSet,
    ) -> Result<u64, EngineError> {
        let ours = match self.open.io_mode(live.ino) {
            Some(IoMode::Cached) => true,
            Some(IoMode::Through(_)) => false,
            // Not decided yet by an open that began before.
            None => self.open.handles(live.ino).open == 0,
        };
        if !ours || self.open.is_mapped(live.ino) || self.space.no_holes.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let blocks = live.state().let_go(cold);
        if blocks.is_empty() {
            return Ok(0);
        }
        let mut going = Going { live: live.clone(), blocks, forgotten: false };
        let Some((data, stamp)) = self.data_of_ours(live).await? else { return Ok(0) };
        crash_point!(self, "shed: before parts are forgotten");
        let Some(source) = self.forget_blocks(live, &going.blocks, stamp).await? else {
            return Ok(0);
        };
        live.set_source(source);
        // The row is no edited one any more: the next writer marks it again.
        live.state().edit_recorded = false;
        going.forgotten = true;
        crash_point!(self, "shed: forgotten, before the holes");
        let freed = self.make_holes(data, going.blocks.clone()).await?;
        crash_point!(self, "shed: holes are made");
        Ok(freed)
    }

    /// The data file, if nobody reads or writes it past us.
    async fn data_of_ours(
        self: &Arc<Self>,
        live: &Arc<Live>,
    ) -> Result<Option<(Arc<DataFile>, Stamp)>, EngineError> {
        let (core, live) = (self.clone(), live.clone());
        self.blocking(move || {
            let data = live.data(&core.cache)?;
            if core.leases_trusted && !data.is_only_ours()? {
                return Ok(None);
            }
            let stamp = data.stamp()?;
            Ok(Some((data, stamp)))
        })
        .await
    }

    /// Lets the catalog forget blocks of a file that is in sync, and answers where they can be had again.
    async fn forget_blocks(
        &self,
        live: &Live,
        going: &BlockSet,
        stamp: Stamp,
    ) -> Result<Option<Source>, EngineError> {
        let (ino, generation, open) = (live.ino, live.generation, self.open.clone());
        let going = going.clone();
        self.catalog
            .write(Durability::Synced, Origin::Engine, move |tx| {
                let Some(row) = tx.inode(ino)?.filter(|row| row.generation == generation) else {
                    return Ok(None);
                };
                let (Some(base), 0) = (tx.base(ino)?, open.claim(ino).writers) else {
                    return Ok(None);
                };
                if base.edition != row.edition || !may_forget(tx, &row, stamp)? {
                    return Ok(None);
                }
                if row.content != Content::Placeholder {
                    let mut blocks = tx.presence(ino)?.blocks;
                    blocks.subtract(&going);
                    tx.set_presence(ino, generation, &blocks)?;
                }
                Ok(Some(Source { version: base.version, size: base.size }))
            })
            .await
    }

    async fn make_holes(&self, data: Arc<DataFile>, blocks: BlockSet) -> Result<u64, EngineError> {
        let punched = self
            .blocking(move || {
                let before = data.allocated()?;
                for run in blocks.runs() {
                    data.punch(u64::from(run.start) * BLOCK..u64::from(run.end) * BLOCK)?;
                }
                Ok(before.saturating_sub(data.allocated()?))
            })
            .await;
        if let Err(EngineError::Disk(error)) = &punched
            && error.raw_os_error() == Some(libc::EOPNOTSUPP)
        {
            self.space.no_holes.store(true, Ordering::Relaxed);
        }
        self.room.notify_waiters();
        punched
    }
}

/// Whether nothing of a row is unsent, it is not pinned, and its data file is what it says.
fn may_forget(tx: &Tx, row: &Inode, stamp: Stamp) -> crate::catalog::Result<bool> {
    let unsent = row.pending || row.edited || tx.outbox(row.ino)?.is_some();
    let moved = row.content == Content::Hydrated && row.stamp != Some(stamp);
    Ok(!unsent && !moved && tx.effective_pin(row.ino)? != Pin::Pinned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cache::{Cache, Limits};
    use crate::model::Generation;

    /// On a file system that counts the tree of a file's parts as the file's own, one with many parts looked as if more than
    /// they was left in it: each opening made all its holes anew.
    #[test]
    fn regression_holes_that_are_there_are_not_made_at_each_opening() {
        const RUNS: u32 = 2000;
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { cache_size: 1 << 40, min_free: 0 };
        let cache = Cache::open(dir.path(), limits).unwrap();
        let file = cache.create(Ino(7), Generation(1)).unwrap();
        let size = u64::from(RUNS) * 2 * BLOCK;
        let mut blocks = BlockSet::default();
        for run in 0..RUNS {
            file.write_at(&[1; BLOCK as usize], u64::from(run) * 2 * BLOCK).unwrap();
            blocks.insert(run * 2..run * 2 + 1);
        }
        file.set_len(size).unwrap();
        file.sync_data().unwrap();
        let content = Content::Partial;
        let live = Live::new(Ino(7), Generation(1), size, content, blocks, None, false);
        let before = file.stamp().unwrap();
        live.state().tidy(&file).unwrap();
        assert_eq!(file.stamp().unwrap(), before, "something was given back");
        // What is left over goes, and nothing else.
        let left = 1000 * BLOCK..1100 * BLOCK;
        file.write_at(&vec![2; (left.end - left.start) as usize], left.start).unwrap();
        file.sync_data().unwrap();
        let full = file.allocated().unwrap();
        live.state().tidy(&file).unwrap();
        file.sync_data().unwrap();
        assert!(file.allocated().unwrap() <= full - 50 * BLOCK);
        let mut read = vec![0; BLOCK as usize];
        for (block, wanted) in [(998, 1), (1000, 2), (1001, 0), (1099, 0), (1100, 1)] {
            file.read_exact_at(&mut read, block * BLOCK).unwrap();
            assert!(read.iter().all(|byte| *byte == wanted), "block {block}");
        }
    }
}
