//! How much one user may have of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::checks::Connection;

/// Connections of one user: one mount needs one.
const LINES: u32 = 32;
/// Connections of all users.
const ALL_LINES: u32 = 512;

/// Is what a user may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Files registered at once.
    pub(crate) backings: u32,
    /// Requests a second.
    pub(crate) requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { backings: 8192, requests: 10_000 }
    }
}

/// Counts what each user has.
pub(crate) struct Ledger {
    limits: Limits,
    accounts: Mutex<HashMap<u32, Account>>,
}

struct Account {
    lines: u32,
    /// Requests that may be made at once, when they were last counted.
    credit: f64,
    counted: Instant,
    /// Per connection: the kernel forgets what was registered when its mount is gone.
    backings: HashMap<Connection, u32>,
}

/// Is one connection's place; free again when it is dropped.
pub(crate) struct Seat {
    ledger: Arc<Ledger>,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(account) = self.ledger.accounts().get_mut(&self.uid) {
            account.lines = account.lines.saturating_sub(1);
        }
    }
}

impl Ledger {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, accounts: Mutex::default() }
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<u32, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection of a user, if he may have it.
    pub(crate) fn seat(self: &Arc<Self>, uid: u32) -> Option<Seat> {
        let mut accounts = self.accounts();
        let all: u32 = accounts.values().map(|account| account.lines).sum();
        let account = accounts.entry(uid).or_insert_with(|| Account {
            lines: 0,
            credit: self.limits.requests.into(),
            counted: Instant::now(),
            backings: HashMap::new(),
        });
        if account.lines >= LINES || all >= ALL_LINES {
            return None;
        }
        account.lines += 1;
        Some(Seat { ledger: Arc::clone(self), uid })
    }

    /// Whether a user may make one more request now.
    pub(crate) fn may_ask(&self, uid: u32) -> bool {
        let most = f64::from(self.limits.requests);
        let mut accounts = self.accounts();
        let Some(account) = accounts.get_mut(&uid) else { return false };
        let now = Instant::now();
        let earned = now.duration_since(account.counted).as_secs_f64() * most;
        account.credit = (account.credit + earned).min(most);
        account.counted = now;
        let may = account.credit >= 1.0;
        if may {
            account.credit -= 1.0;
        }
        may
    }

    /// Counts one more registered file, if the user may have it.
    pub(crate) fn add(&self, uid: u32, connection: Connection) -> bool {
        let mut accounts = self.accounts();
        let Some(account) = accounts.get_mut(&uid) else { return false };
        if account.full(self.limits.backings) {
            account.backings.retain(|connection, _| connection.lives());
        }
        let may = !account.full(self.limits.backings);
        if may {
            *account.backings.entry(connection).or_default() += 1;
        }
        may
    }

    /// Counts one less.
    pub(crate) fn remove(&self, uid: u32, connection: Connection) {
        let mut accounts = self.accounts();
        let Some(account) = accounts.get_mut(&uid) else { return };
        if let Some(count) = account.backings.get_mut(&connection) {
            *count = count.saturating_sub(1);
        }
        account.backings.retain(|_, count| *count > 0);
    }

    /// Whether nobody is connected and nothing that is registered would be forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        let mut accounts = self.accounts();
        accounts.retain(|_, account| {
            account.backings.retain(|connection, _| connection.lives());
            account.lines > 0 || !account.backings.is_empty()
        });
        accounts.is_empty()
    }
}

impl Account {
    fn full(&self, most: u32) -> bool {
        self.backings.values().sum::<u32>() >= most
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_user_who_asks_too_often_does_not_slow_another() {
        let ledger = Arc::new(Ledger::new(Limits { backings: 1, requests: 5 }));
        let (_one, _other) = (ledger.seat(1).unwrap(), ledger.seat(2).unwrap());
        let start = Instant::now();
        let granted = (0..1000).filter(|_| ledger.may_ask(1)).count();
        let earned = start.elapsed().as_secs() as usize * 5 + 5;
        assert!((5..=5 + earned).contains(&granted), "{granted}");
        assert!(ledger.may_ask(2));
    }

    #[test]
    fn connections_are_counted_while_they_last() {
        let ledger = Arc::new(Ledger::new(Limits::default()));
        let seats = (0..LINES).map(|_| ledger.seat(1).unwrap()).collect::<Vec<_>>();
        assert!(ledger.seat(1).is_none());
        assert!(ledger.seat(2).is_some());
        assert!(!ledger.is_idle());
        drop(seats);
        assert!(ledger.is_idle());
        assert!(ledger.seat(1).is_some());
    }
}
