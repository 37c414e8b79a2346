//! The connection to the remote: the layers it is seen through, and what they tell.
//!
//! All causes share one line: one limit on requests, one knowledge of whether the remote can be reached. Each cause has a
//! count of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::core::Remotes;
use super::settings::Settings;
use super::state::RequestsBy;
use crate::remote::layers::{
    Connection, Lane, Limit, Limits, Operation, Patience, Rate, Retry, Trace,
};
use crate::remote::{FeedKind, Remote};

/// Is what is known of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    connection: watch::Receiver<Connection>,
    outages: Arc<AtomicU64>,
    user: Trace,
    feed: Trace,
    transfer: Trace,
}

impl Link {
    /// Whether the remote can be reached.
    pub(crate) fn connection(&self) -> Connection {
        *self.connection.borrow()
    }

    /// How often it could not be reached any more.
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Acquire)
    }

    /// Tells when that changes from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Connection> {
        let mut connection = self.connection.clone();
        connection.mark_unchanged();
        connection
    }

    /// How long the remote took to answer, by operation, and how many requests failed, by class.
    pub(crate) fn latencies(
        &self,
    ) -> (BTreeMap<&'static str, Operation>, BTreeMap<&'static str, u64>) {
        let mut operations: BTreeMap<&'static str, Operation> = BTreeMap::new();
        let mut errors: BTreeMap<&'static str, u64> = BTreeMap::new();
        for trace in [&self.user, &self.feed, &self.transfer] {
            for (name, one) in trace.latencies() {
                operations.entry(name).or_default().add(&one);
            }
            for (class, count) in trace.errors() {
                *errors.entry(class).or_default() += count;
            }
        }
        (operations, errors)
    }

    /// Requests so far, by cause.
    pub(crate) fn requests_by(&self) -> RequestsBy {
        RequestsBy {
            user: self.user.traffic().requests,
            feed: self.feed.traffic().requests,
            transfer: self.transfer.traffic().requests,
        }
    }
}

impl Remotes {
    /// Puts the layers around a remote, one stack for each cause.
    pub(crate) fn layered(remote: Arc<dyn Remote>, settings: &Settings) -> (Self, Link) {
        // Nobody answers for a directory of this machine but its own kernel.
        let is_local = remote.capabilities().feed == FeedKind::Inotify;
        let pace = (!is_local).then_some(settings.requests);
        let limits = Limits { background_per_second: pace, ..Limits::default() };
        let limits = limits.with_transfers(usize::try_from(settings.transfers).unwrap_or_default());
        let rated: Arc<dyn Remote> = match (settings.rate_down, settings.rate_up) {
            (0, 0) => remote,
            (down, up) => Arc::new(Rate::new(remote, down, up)),
        };
        let limited: Arc<dyn Remote> = Arc::new(Limit::new(rated, limits));
        let patience = Patience { online: settings.timeout, ..Patience::default() };
        let retry = Retry::new(limited, patience);
        let (connection, outages) = (retry.connection(), retry.outages());
        let retry: Arc<dyn Remote> = Arc::new(retry);
        let counted = || Trace::new(retry.clone());
        let (user, feed, transfer) = (counted(), counted(), counted().in_lane(Lane::Bulk));
        let link = Link { connection, outages, user, feed, transfer };
        let remotes = Self {
            user: Arc::new(link.user.clone()),
            guess: Arc::new(link.user.clone().in_lane(Lane::Ahead)),
            feed: Arc::new(link.feed.clone()),
            transfer: Arc::new(link.transfer.clone()),
            awaited: Arc::new(link.transfer.clone().in_lane(Lane::First)),
        };
        (remotes, link)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::remote::memory::{MemoryOptions, MemoryStore};
    use crate::remote::{Locator, RemotePath};

    /// Whoever waited for a change was told of one long past, again and again: after the first outage a worker of the mount
    /// never rested, and took a whole processor for as long as the daemon ran.
    #[tokio::test(start_paused = true)]
    async fn regression_a_change_of_the_connection_is_told_once() {
        let remote = MemoryStore::new(MemoryOptions::default()).remote();
        let (remotes, link) = Remotes::layered(Arc::new(remote.clone()), &Settings::default());
        remote.set_online(false);
        let root = Locator::at(RemotePath::root());
        while link.connection() == Connection::Online {
            remotes.user.stat(&root).await.unwrap_err();
        }
        let mut told = link.watch();
        assert!(!told.has_changed().unwrap());
        remote.set_online(true);
        let is_back = async {
            while link.connection() != Connection::Online {
                drop(remotes.user.stat(&root).await);
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(3600), is_back).await.unwrap();
        told.changed().await.unwrap();
        assert!(!told.has_changed().unwrap() && !link.watch().has_changed().unwrap());
    }
}
