//! The connection to the remote: the layers it is seen through, and what they tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::core::{Core, Remotes};
use super::settings::Settings;
use super::state::{MountState, RequestsBy};
use crate::remote::Remote;
use crate::remote::layers::{Connection, Limit, Limits, Patience, Retry, Trace};

/// Requests at once to one remote; half of them may be background requests.
const CONCURRENT: usize = 16;

/// Is what is known of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    retry: Retry,
    user: Trace,
    feed: Trace,
    transfer: Trace,
    /// Whether the remote's root is gone, empty where it was not, or another one: nothing is sent or believed.
    missing: Arc<AtomicBool>,
}

impl Link {
    /// Tells whether the remote can be reached, and when that changes.
    pub(crate) fn connection(&self) -> watch::Receiver<Connection> {
        self.retry.connection()
    }

    /// Whether the remote was found to be missing.
    pub(crate) fn is_missing(&self) -> bool {
        self.missing.load(Ordering::Acquire)
    }

    /// Notes that the remote is missing, or is back; answers whether that is news.
    pub(crate) fn set_missing(&self, missing: bool) -> bool {
        self.missing.swap(missing, Ordering::AcqRel) != missing
    }
}

impl Remotes {
    /// Puts the layers around a remote: limits and retries shared by all, counts for each cause.
    pub(crate) fn layered(remote: Arc<dyn Remote>, settings: &Settings) -> (Self, Link) {
        let limits = Limits {
            concurrent: CONCURRENT.max(settings.transfers as usize * 2),
            background: CONCURRENT / 2,
            background_per_second: Some(settings.requests.max(1)),
        };
        let patience = Patience { online: settings.timeout, ..Patience::default() };
        let retry = Retry::new(Arc::new(Limit::new(remote, limits)), patience);
        let shared: Arc<dyn Remote> = Arc::new(retry.clone());
        let link = Link {
            retry,
            user: Trace::new(shared.clone()),
            feed: Trace::new(shared.clone()),
            transfer: Trace::new(shared),
            missing: Arc::default(),
        };
        let remotes = Self {
            user: Arc::new(link.user.clone()),
            feed: Arc::new(link.feed.clone()),
            transfer: Arc::new(link.transfer.clone()),
        };
        (remotes, link)
    }
}

impl Core {
    /// Whether anything can be sent now.
    pub(crate) fn can_send(&self) -> bool {
        self.identified.load(Ordering::Acquire)
            && !self.link.is_missing()
            && *self.link.connection().borrow() == Connection::Online
            && self.remotes.user.capabilities().writable
    }

    /// What keeps the mount from being online, if anything.
    pub(crate) fn connection_state(&self) -> Option<(MountState, Option<String>)> {
        let (state, reason) = match *self.link.connection().borrow() {
            Connection::Unauthenticated => (
                MountState::AuthRequired,
                "the remote does not accept user name, password or token",
            ),
            _ if self.link.is_missing() => (
                MountState::RemoteMissing,
                "the remote's root is gone or is another one than before: nothing is sent or removed",
            ),
            Connection::Offline { .. } => (MountState::Offline, "the remote cannot be reached"),
            Connection::Online => return None,
        };
        Some((state, Some(reason.to_owned())))
    }

    /// When the remote last answered.
    pub(crate) fn last_contact(&self) -> Option<i64> {
        self.link.retry.last_answer()
    }

    /// Requests sent so far, by cause.
    pub(crate) fn requests_by(&self) -> RequestsBy {
        RequestsBy {
            user: self.link.user.traffic().requests,
            feed: self.link.feed.traffic().requests,
            transfer: self.link.transfer.traffic().requests,
        }
    }
}
