//! What the verbs ask of the workers.

use std::sync::Arc;

use super::EngineError;
use super::core::Core;
use super::state::Progress;
use crate::model::Ino;

impl Core {
    /// Lists a folder, once for all who ask at the same time; resolves when its names are known.
    pub(crate) async fn list_folder(self: &Arc<Self>, folder: Ino) -> Result<(), EngineError> {
        let _ = folder;
        todo!()
    }

    /// Sends an item now and resolves when the remote has what it holds now.
    pub(crate) async fn send_now(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        let _ = ino;
        todo!()
    }

    /// Asks the remote for its changes now.
    pub(crate) fn ask_for_changes(&self) {}

    /// Looks at an item at the remote now and applies what is seen.
    pub(crate) async fn observe_now(self: &Arc<Self>, ino: Ino) {
        let _ = ino;
    }

    /// Whether an item is being sent.
    pub(crate) fn is_uploading(&self, ino: Ino) -> bool {
        let _ = ino;
        false
    }

    /// What is being sent.
    pub(crate) fn upload_progress(&self) -> Vec<Progress> {
        Vec::new()
    }
}

impl Core {
    /// Starts the workers that sync: outbox, listing, feed.
    pub(crate) fn start_sync_workers(self: &Arc<Self>) {}
}
