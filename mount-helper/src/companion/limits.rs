//! How much one user may have of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::checks::Connection;

/// Connections of one user: one mount needs one.
const LINES: u32 = 32;
/// Connections of all users.
const ALL_LINES: u32 = 512;

/// Is what a user may have: files registered at once, and requests a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) backings: u32,
    pub(crate) requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { backings: 8192, requests: 10_000 }
    }
}

/// Is what each user has.
pub(crate) type Ledger = Arc<Mutex<HashMap<u32, Account>>>;

/// Is what one user has.
pub(crate) struct Account {
    lines: u32,
    /// Requests that may be made at once, and when they were counted.
    credit: (f64, Instant),
    /// Files per FUSE connection: the kernel forgets what was registered when its mount is gone.
    backings: HashMap<Connection, u32>,
}

/// Is one connection's place, and what its user has; free again when it is dropped.
pub(crate) struct Seat {
    ledger: Ledger,
    limits: Limits,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.account(|account| account.lines = account.lines.saturating_sub(1));
    }
}

impl Seat {
    /// A place for one more connection of a user, if he may have it.
    pub(crate) fn take(ledger: &Ledger, limits: Limits, uid: u32) -> Option<Self> {
        let seat = Self { ledger: Arc::clone(ledger), limits, uid };
        let all: u32 = {
            let accounts = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.values().map(|account| account.lines).sum()
        };
        let lines = seat.account(|account| {
            account.lines += 1;
            account.lines
        });
        (lines <= LINES && all < ALL_LINES).then_some(seat)
    }

    fn account<T>(&self, act: impl FnOnce(&mut Account) -> T) -> T {
        let mut accounts = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        act(accounts.entry(self.uid).or_insert_with(|| Account {
            lines: 0,
            credit: (self.limits.requests.into(), Instant::now()),
            backings: HashMap::new(),
        }))
    }

    /// Whether the user may make one more request now.
    pub(crate) fn may_ask(&self) -> bool {
        let most = f64::from(self.limits.requests);
        self.account(|account| {
            let (credit, since) = account.credit;
            let credit = (credit + since.elapsed().as_secs_f64() * most).min(most);
            let may = credit >= 1.0;
            account.credit = (if may { credit - 1.0 } else { credit }, Instant::now());
            may
        })
    }

    /// Counts one more registered file, if the user may have it.
    pub(crate) fn add(&self, connection: Connection) -> bool {
        let full =
            |account: &Account| account.backings.values().sum::<u32>() >= self.limits.backings;
        self.account(|account| {
            if full(account) {
                account.backings.retain(|connection, _| connection.lives());
            }
            let may = !full(account);
            *account.backings.entry(connection).or_default() += u32::from(may);
            may
        })
    }

    /// Counts one less.
    pub(crate) fn remove(&self, connection: Connection) {
        self.account(|account| {
            if let Some(count) = account.backings.get_mut(&connection) {
                *count = count.saturating_sub(1);
            }
            account.backings.retain(|_, count| *count > 0);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_user_who_asks_too_often_does_not_slow_another() {
        let (ledger, limits) = (Ledger::default(), Limits { backings: 1, requests: 5 });
        let seat = |uid| Seat::take(&ledger, limits, uid).unwrap();
        let (one, other) = (seat(1), seat(2));
        let start = Instant::now();
        let granted = (0..1000).filter(|_| one.may_ask()).count();
        let earned = start.elapsed().as_secs() as usize * 5 + 5;
        assert!((5..=5 + earned).contains(&granted), "{granted}");
        assert!(other.may_ask());
    }

    #[test]
    fn connections_are_counted_while_they_last() {
        let ledger = Ledger::default();
        let seat = |uid| Seat::take(&ledger, Limits::default(), uid);
        let seats = (0..LINES).map(|_| seat(1).unwrap()).collect::<Vec<_>>();
        assert!(seat(1).is_none() && seat(1).is_none());
        assert!(seat(2).is_some());
        drop(seats);
        assert!(seat(1).is_some());
    }
}
