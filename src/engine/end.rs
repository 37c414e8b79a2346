//! The end of an engine: what can be sent is sent, and everything is durable.

use std::time::Duration;

use super::Engine;
use crate::model::Ino;

impl Engine {
    /// Sends what is pending while that makes progress, at most `drain` long: how many items are left. What is large stays
    /// where bulk stands still, as on a metered line.
    pub async fn drain(&self, drain: Duration) -> u64 {
        let sent = async {
            if let Err(error) = self.send_all(Ino::ROOT, false).await {
                tracing::warn!(%error, "cannot send what is pending before the end");
            }
            self.wait_in_sync(Ino::ROOT, None).await
        };
        // Whether all went, or time ran out, is in the count.
        let _outcome = tokio::time::timeout(drain, sent).await;
        self.core.catalog.read(|rows| rows.totals()).map_or(0, |totals| totals.pending)
    }

    /// Stops the workers, makes everything durable and lets go of the state directory. Verbs answer `Stopped` afterwards.
    pub async fn stop(&self) {
        self.core.record_all().await;
        self.core.stop().await;
    }
}
