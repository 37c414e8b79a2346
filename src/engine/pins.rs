//! The pin worker: what is pinned and not here is fetched, also after a restart. There is no queue to lose: the catalog is
//! asked what is missing.

use std::sync::Arc;
use std::time::Duration;

use super::EngineError;
use super::core::{Cause, Core};
use crate::model::Ino;
use crate::remote::layers::in_background;

/// How long the worker rests after something could not be fetched.
const REST: Duration = Duration::from_secs(10);

impl Core {
    /// Fetches what is pinned; ends with the engine.
    pub(crate) async fn run_pins(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            let unlisted = in_background(self.list_pinned()).await;
            let rest = unlisted | self.fetch_pinned(&stopping).await;
            tokio::select! {
                () = self.pins.notified() => {}
                () = tokio::time::sleep(REST), if rest => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Goes through all that is pinned and missing, once; answers whether something is left to be tried again.
    async fn fetch_pinned(self: &Arc<Self>, stopping: &tokio::sync::watch::Receiver<bool>) -> bool {
        let mut left = false;
        let mut after = Ino(0);
        loop {
            if *stopping.borrow() {
                return false;
            }
            let page = match self.catalog.read(|rows| rows.pinned_not_hydrated(after, 100)) {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "cannot tell what is pinned");
                    return true;
                }
            };
            let Some(last) = page.last() else { return left };
            after = *last;
            for ino in page {
                match self.hydrate_whole(ino, Cause::Transfer).await {
                    Ok(_) => {}
                    Err(EngineError::Stopped) => return false,
                    Err(error) => {
                        tracing::info!(ino = ino.0, %error, "pinned content is still to come");
                        left = true;
                    }
                }
            }
        }
    }

    /// Lists everything below the folders that are pinned: what is not known cannot be fetched (C14).
    async fn list_pinned(self: &Arc<Self>) -> bool {
        let folders = match self.catalog.read(|rows| rows.pinned_folders()) {
            Ok(folders) => folders,
            Err(error) => {
                tracing::warn!(%error, "cannot tell which folders are pinned");
                return true;
            }
        };
        let mut left = false;
        for folder in folders {
            if let Err(error) = self.list_below(folder).await {
                tracing::info!(ino = folder.0, %error, "a pinned folder is still to be listed");
                left = true;
            }
        }
        left
    }
}
