//! Thrift: what stands still while the network is metered, or the machine runs on its battery.

use crate::config::Thrift;
use crate::engine::{Lane, Restraint};

/// Is who tells how the machine fares.
pub(super) struct Watch {
    #[cfg(feature = "desktop")]
    told: tokio::sync::watch::Receiver<crate::desktop::Circumstances>,
    #[cfg(feature = "desktop")]
    thrift: Thrift,
}

#[cfg(not(feature = "desktop"))]
impl Watch {
    /// Asks nobody.
    pub(super) async fn start(_thrift: Thrift) -> Self {
        Self {}
    }

    /// Nothing is held back.
    pub(super) fn now(&mut self) -> Option<Restraint> {
        None
    }

    /// Never resolves.
    pub(super) async fn changed(&mut self) {
        std::future::pending().await
    }
}

#[cfg(feature = "desktop")]
impl Watch {
    /// Asks how the machine fares, as far as anything depends on it, and waits a moment for the answer: what is to be held back
    /// had better not begin.
    pub(super) async fn start(thrift: Thrift) -> Self {
        const FIRST_ANSWER: std::time::Duration = std::time::Duration::from_millis(500);
        let mut told = crate::desktop::follow(thrift.metered.is_some(), thrift.battery.is_some());
        // A bus that is slower than that is heard later, and one that is not there says nothing.
        let _heard = tokio::time::timeout(FIRST_ANSWER, told.changed()).await;
        Self { told, thrift }
    }

    /// What is held back as things are.
    pub(super) fn now(&mut self) -> Option<Restraint> {
        let now = *self.told.borrow_and_update();
        let metered = self.thrift.metered.filter(|_| now.metered);
        let battery = self.thrift.battery.filter(|_| now.on_battery);
        restraint(metered, battery)
    }

    /// Resolves when things have changed; never, if nobody tells.
    pub(super) async fn changed(&mut self) {
        if self.told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg_attr(not(feature = "desktop"), expect(dead_code, reason = "nobody tells"))]
fn restraint(metered: Option<Lane>, battery: Option<Lane>) -> Option<Restraint> {
    let both = match (metered, battery) {
        (Some(one), Some(other)) if one != other => Lane::All,
        (one, other) => one.or(other)?,
    };
    let why = match (metered, battery) {
        (Some(_), Some(_)) => "the network is metered and the machine runs on its battery",
        (Some(_), None) => "the network is metered",
        _ => "the machine runs on its battery",
    };
    Some(Restraint { lane: both, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_either_asks_for_is_held_back() {
        let lane = |metered, battery| restraint(metered, battery).map(|one| one.lane);
        assert_eq!(lane(None, None), None);
        assert_eq!(lane(Some(Lane::Bulk), None), Some(Lane::Bulk));
        assert_eq!(lane(Some(Lane::Bulk), Some(Lane::Bulk)), Some(Lane::Bulk));
        assert_eq!(lane(Some(Lane::Bulk), Some(Lane::Uploads)), Some(Lane::All));
        let why = restraint(None, Some(Lane::All)).map(|one| one.why);
        assert_eq!(why, Some("the machine runs on its battery"));
    }
}
