//! The end of an engine: what can be sent is sent, and everything is durable.

use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use crate::model::Ino;

/// How long a remote that cannot be reached is asked again at the end: what lasts no longer keeps nothing from being sent.
const MOMENT: Duration = Duration::from_secs(3);
/// How long after a try the next one is made.
const AGAIN: Duration = Duration::from_millis(300);

impl Engine {
    /// Sends what is pending while that makes progress, at most `drain` long: how many items are left. What is large stays
    /// where bulk stands still, as on a metered line.
    pub async fn drain(&self, drain: Duration) -> u64 {
        // Whether all went, or time ran out, is in the count.
        let _outcome = tokio::time::timeout(drain, self.send_rest()).await;
        self.pending_now()
    }

    /// Sends what can be sent; a remote that is away is asked again for a moment, and for another one after each progress.
    async fn send_rest(&self) {
        let mut last: Option<(u64, Instant)> = None;
        loop {
            if let Err(error) = self.send_all(Ino::ROOT, false).await {
                tracing::warn!(%error, "cannot send what is pending before the end");
            }
            let was_away = self.core.is_away();
            let ended = self.wait_in_sync(Ino::ROOT, None).await;
            let left = self.pending_now();
            let since = match last {
                Some((before, since)) if before <= left => since,
                _ => Instant::now(),
            };
            last = Some((left, since));
            // It may have come back just now.
            let may_come_back = matches!(ended, Ok(false)) && (was_away || self.core.is_away());
            // A doubt ends by itself, but not at once.
            let until = self.core.doubted_until().map_or(since, |until| until.max(since)) + MOMENT;
            if !may_come_back || Instant::now() >= until {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn pending_now(&self) -> u64 {
        self.core.catalog.read(|rows| rows.totals()).map_or(0, |totals| totals.pending)
    }

    /// Stops the workers, makes everything durable and lets go of the state directory. Verbs answer `Stopped` afterwards.
    pub async fn stop(&self) {
        self.core.record_all().await;
        self.core.stop().await;
    }
}
