//! The lister: brings folders that are asked for, or to be looked at again, up to date, a few at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::core::{Cause, Core, steady as now};
use super::listing::FIRST_WAIT;
use crate::model::Ino;

/// Folders listed at once in the background.
const AT_ONCE: usize = 4;
/// How many of these may be such as failed a moment ago: a part of the remote that hangs keeps nothing else from being seen.
const FAILED_AT_ONCE: usize = 2;
/// How long a folder counts as one that failed.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Is what the lister is at.
#[derive(Default)]
struct Lister {
    flights: FuturesUnordered<BoxFuture<'static, (Ino, bool)>>,
    /// Folders being listed, with whether each failed before.
    under_way: HashMap<Ino, bool>,
    /// When folders failed last.
    failed: HashMap<Ino, Instant>,
}

impl Core {
    /// Lists what is asked for or marked look-again; ends with the engine.
    pub(crate) async fn run_lister(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let mut link = self.link.watch();
        let mut lister = Lister::default();
        loop {
            if self.connection_state().is_none() {
                lister.begin(&self);
            }
            let rest = lister.rest(&self);
            tokio::select! {
                Some((folder, went_well)) = lister.flights.next() => lister.ended(folder, went_well),
                () = self.listing.notified() => {}
                _ = link.changed() => {}
                () = tokio::time::sleep(rest) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }
}

impl Lister {
    /// Begins as many listings as there is room for.
    fn begin(&mut self, core: &Arc<Core>) {
        self.failed.retain(|_, when| when.elapsed() < REMEMBERED);
        let most = AT_ONCE + self.under_way.len() + self.failed.len();
        for (folder, mark) in core.catalog.folders_to_list(most).unwrap_or_default() {
            let failed = self.failed.get(&folder);
            if self.under_way.len() >= AT_ONCE
                || self.under_way.contains_key(&folder)
                || failed.is_some_and(|when| when.elapsed() < FIRST_WAIT)
                || failed.is_some()
                    && self.under_way.values().filter(|f| **f).count() >= FAILED_AT_ONCE
            {
                continue;
            }
            self.under_way.insert(folder, failed.is_some());
            let cause = if mark.is_some() { Cause::Feed } else { Cause::User };
            let flight = core.flight(folder, cause);
            self.flights.push(Box::pin(async move { (folder, flight.await.is_ok()) }));
        }
    }

    fn ended(&mut self, folder: Ino, went_well: bool) {
        self.under_way.remove(&folder);
        if went_well {
            self.failed.remove(&folder);
        } else {
            self.failed.insert(folder, Instant::now());
        }
    }

    /// How long nothing is to be begun, if nobody rings.
    fn rest(&self, core: &Core) -> Duration {
        let mut rest = Duration::from_secs(3600);
        if let Ok(Some(due)) = core.catalog.read(|rows| rows.next_look()) {
            let left = u64::try_from(due.saturating_sub(now())).unwrap_or(0);
            rest = Duration::from_nanos(left).max(Duration::from_millis(20));
        }
        // The marks of those under way are due as well; and who failed just now is not tried again at once.
        let is_busy = !self.under_way.is_empty() || core.connection_state().is_some();
        match self.failed.values().any(|when| when.elapsed() < FIRST_WAIT) {
            true => FIRST_WAIT,
            false if is_busy => rest.max(FIRST_WAIT),
            false => rest,
        }
    }
}
