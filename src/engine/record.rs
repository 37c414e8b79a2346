//! Recording: what live contents know goes to the catalog, bytes before facts.

use std::sync::Arc;
use std::time::Duration;

use super::EngineError;
use super::core::Core;
use super::live::Live;
use crate::catalog::{Durability, Origin};
use crate::model::{BlockSet, Content, Ino, Stamp};

/// How long fetched blocks may stay unrecorded: losing them to a crash only means fetching them again.
const PAUSE: Duration = Duration::from_millis(300);

/// Is what is to be recorded of one live content.
struct News {
    size: u64,
    blocks: Option<BlockSet>,
    hydrated: bool,
    wrote: bool,
    stamp: Option<(Stamp, i64)>,
}

impl Core {
    /// Brings what a live content knows to the catalog; with `Synced`, bytes and rows survive a power cut afterwards.
    pub(crate) async fn record(
        self: &Arc<Self>,
        live: &Arc<Live>,
        durability: Durability,
    ) -> Result<(), EngineError> {
        let (core, kept) = (self.clone(), live.clone());
        let news = self.blocking(move || core.news_of(&kept, durability)).await?;
        let Some(news) = news else {
            if durability == Durability::Synced {
                self.catalog.barrier().await?;
            }
            return Ok(());
        };
        let (ino, generation, wrote) = (live.ino, live.generation, news.wrote);
        let outcome = self
            .catalog
            .write(durability, Origin::Kernel, move |tx| {
                if let Some(blocks) = &news.blocks {
                    if news.hydrated {
                        let stamp = news.stamp.map(|(stamp, _)| stamp);
                        // An edit since then is found by its stamp: `observe` comes after.
                        let recorded =
                            if news.wrote { tx.inode(ino)?.and_then(|i| i.stamp) } else { stamp };
                        tx.set_content(ino, generation, Content::Hydrated, recorded)?;
                    } else {
                        let current = tx.set_presence(ino, generation, blocks)?;
                        // The length of a file that is not all here is only what its row says.
                        if current && news.wrote {
                            tx.set_size(ino, news.size)?;
                        }
                    }
                }
                if let (true, Some((stamp, mtime))) = (news.wrote, news.stamp) {
                    tx.observe(ino, generation, stamp, mtime)?;
                }
                Ok::<_, EngineError>(())
            })
            .await;
        {
            let mut state = live.state();
            state.recording = state.recording.saturating_sub(u32::from(wrote));
            state.blocks_unrecorded |= outcome.is_err();
            state.wrote |= outcome.is_err();
        }
        self.pulse();
        outcome
    }

    /// Takes what is new of a live content, after its bytes were brought to the disk where that matters. Blocks.
    fn news_of(&self, live: &Live, durability: Durability) -> Result<Option<News>, EngineError> {
        let (fetched, wrote) = {
            let state = live.state();
            (state.blocks_unrecorded, state.wrote)
        };
        if !fetched && !wrote && durability == Durability::Soon {
            return Ok(None);
        }
        // An edit found by its stamp at the first open has not opened the data file for itself.
        let data = if wrote { Some(live.data(&self.cache)?) } else { live.open_data() };
        if let Some(data) = &data
            && (fetched || durability == Durability::Synced)
        {
            data.sync_data()?;
        }
        let mut state = live.state();
        if !state.blocks_unrecorded && !state.wrote {
            return Ok(None);
        }
        let stamp = match &data {
            Some(data) => Some((data.stamp()?, data.mtime()?)),
            None => None,
        };
        let news = News {
            size: state.size,
            blocks: state.blocks_unrecorded.then(|| state.blocks.clone()),
            hydrated: state.hydrated,
            wrote: state.wrote,
            stamp,
        };
        state.blocks_unrecorded = false;
        state.recording += u32::from(state.wrote);
        state.wrote = false;
        Ok(Some(news))
    }

    /// Compares the data file of an inode with what the catalog knows of it: an edit that lost its row is found again.
    pub(crate) async fn observe_data(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        if let Some(live) = self.open.live(ino) {
            return self.record(&live, Durability::Soon).await;
        }
        let _visit = self.open.visit(ino);
        match self.live_for(ino) {
            Ok(live) => self.record(&live, Durability::Soon).await,
            Err(EngineError::IsFolder | EngineError::Invalid(_) | EngineError::Stale) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Records, now and then, what was fetched; ends with the engine.
    pub(crate) async fn run_recorder(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            tokio::select! {
                () = self.recorder.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            tokio::time::sleep(PAUSE).await;
            for live in self.open.all() {
                if live.has_news()
                    && let Err(error) = self.record(&live, Durability::Soon).await
                {
                    tracing::warn!(ino = live.ino.0, %error, "cannot record content");
                    self.note_problem(Some(live.ino), &error.to_string());
                }
                if self.open.handles(live.ino).open == 0 {
                    live.close_data();
                }
                self.open.settle(live.ino);
            }
        }
    }
}
