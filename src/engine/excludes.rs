//! What was kept here only, and is so no longer because the patterns are others.

use std::sync::Arc;

use super::EngineError;
use super::core::Core;
use crate::catalog::{Durability, Origin, Tx};
use crate::model::touch;

/// The key under which the catalog's state keeps the patterns that it was last used with.
const EXCLUDE: &str = "exclude";

impl Core {
    /// Whether something is to be sent was decided by the patterns of then: with other ones it is decided anew for all that
    /// the remote never had.
    pub(super) async fn recall_excludes(self: &Arc<Self>) -> Result<(), EngineError> {
        let now = self.settings.exclude.join("\n").into_bytes();
        if self.catalog.read(|rows| rows.state(EXCLUDE))?.as_ref() == Some(&now) {
            return Ok(());
        }
        let never_sent = self.catalog.read(crate::catalog::Reader::never_sent)?;
        let decide = move |tx: &mut Tx| {
            never_sent.into_iter().try_for_each(|ino| touch(tx, ino))?;
            tx.set_state(EXCLUDE, Some(&now))
        };
        self.catalog.write(Durability::Soon, Origin::Engine, decide).await?;
        Ok(())
    }
}
