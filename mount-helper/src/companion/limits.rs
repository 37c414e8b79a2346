//! How much one user may have of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::checks::Connection;

/// Connections of one user: one mount needs one.
const LINES: u32 = 32;
/// Connections of all users.
const ALL_LINES: u32 = 512;

/// Is what a user may have, and what each has.
pub(crate) struct Ledger {
    /// Files registered at once.
    pub(crate) backings: u32,
    /// Requests in a second.
    pub(crate) requests: u32,
    accounts: Mutex<HashMap<u32, Account>>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { backings: 8192, requests: 10_000, accounts: Mutex::default() }
    }
}

/// Is what one user has.
#[derive(Default)]
struct Account {
    lines: u32,
    /// Requests of the second that began then.
    asked: u32,
    since: Option<Instant>,
    /// Files per FUSE connection: the kernel forgets what was registered when its mount is gone.
    backings: HashMap<Connection, u32>,
}

/// Is one connection's place, and what its user has; free again when it is dropped.
pub(crate) struct Seat(Arc<Ledger>, u32);

impl Drop for Seat {
    fn drop(&mut self) {
        self.account(|account| account.lines = account.lines.saturating_sub(1));
    }
}

impl Seat {
    /// A place for one more connection of a user, if he may have it.
    pub(crate) fn take(ledger: &Arc<Ledger>, uid: u32) -> Option<Self> {
        let seat = Self(Arc::clone(ledger), uid);
        let all: u32 = seat.accounts().values().map(|account| account.lines).sum();
        let lines = seat.account(|account| {
            account.lines += 1;
            account.lines
        });
        (lines <= LINES && all < ALL_LINES).then_some(seat)
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<u32, Account>> {
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account<T>(&self, act: impl FnOnce(&mut Account) -> T) -> T {
        act(self.accounts().entry(self.1).or_default())
    }

    /// Whether the user may make one more request now.
    pub(crate) fn may_ask(&self) -> bool {
        self.account(|account| {
            if account.since.is_none_or(|since| since.elapsed() >= Duration::from_secs(1)) {
                (account.since, account.asked) = (Some(Instant::now()), 0);
            }
            account.asked = account.asked.saturating_add(1);
            account.asked <= self.0.requests
        })
    }

    /// Counts one more registered file, if the user may have it.
    pub(crate) fn add(&self, connection: Connection) -> bool {
        let most = self.0.backings;
        let full = |account: &Account| account.backings.values().sum::<u32>() >= most;
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
        let ledger = Arc::new(Ledger { requests: 5, ..Ledger::default() });
        let seat = |uid| Seat::take(&ledger, uid).unwrap();
        let (one, other) = (seat(1), seat(2));
        let start = Instant::now();
        let granted = (0..1000).filter(|_| one.may_ask()).count();
        let earned = start.elapsed().as_secs() as usize * 5 + 5;
        assert!((5..=5 + earned).contains(&granted), "{granted}");
        assert!(other.may_ask());
    }

    #[test]
    fn connections_are_counted_while_they_last() {
        let ledger = Arc::<Ledger>::default();
        let seat = |uid| Seat::take(&ledger, uid);
        let seats = (0..LINES).map(|_| seat(1).unwrap()).collect::<Vec<_>>();
        assert!(seat(1).is_none() && seat(1).is_none());
        assert!(seat(2).is_some());
        drop(seats);
        assert!(seat(1).is_some());
    }
}
