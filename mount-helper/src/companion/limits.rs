//! How much one user may have of it.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use crate::checks::Connection;

/// Connections of one user: one mount needs one.
const LINES: u32 = 32;

/// Is what a user may have, and what each has.
pub(crate) struct Ledger {
    /// Files registered at once.
    pub(crate) backings: u32,
    /// Requests in a second.
    pub(crate) requests: u32,
    /// Connections of all users. One person may be many users; so whoever comes gets the place of who asked nothing for longest.
    pub(crate) lines: u32,
    accounts: Mutex<HashMap<u32, Account>>,
    /// Connections on which nothing is being done, the longest so first.
    idle: Mutex<VecDeque<Arc<OwnedFd>>>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (accounts, idle) = Default::default();
        Self { backings: 8192, requests: 10_000, lines: 512, accounts, idle }
    }
}

impl Ledger {
    /// Ends the connection that was idle for longest, if one is: its user opens another when he needs it, and what he has
    /// registered is his and not the connection's.
    fn end_one(&self) -> bool {
        let longest = lock(&self.idle).pop_front();
        longest.is_some_and(|line| shutdown(line, Shutdown::Both).is_ok())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(crate) struct Seat {
    pub(crate) line: Arc<OwnedFd>,
    ledger: Arc<Ledger>,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.note_idle(false);
        self.account(|account| account.lines = account.lines.saturating_sub(1));
    }
}

impl Seat {
    /// A place for one more connection of a user, if he may have it.
    pub(crate) fn take(ledger: &Arc<Ledger>, uid: u32, line: &Arc<OwnedFd>) -> Option<Self> {
        let seat = Self { line: Arc::clone(line), ledger: Arc::clone(ledger), uid };
        let all: u32 = lock(&ledger.accounts).values().map(|account| account.lines).sum();
        let lines = seat.account(|account| {
            account.lines += 1;
            account.lines
        });
        let may = lines <= LINES && (all < ledger.lines || ledger.end_one());
        seat.note_idle(may);
        may.then_some(seat)
    }

    fn account<T>(&self, act: impl FnOnce(&mut Account) -> T) -> T {
        act(lock(&self.ledger.accounts).entry(self.uid).or_default())
    }

    /// Acts for the user; meanwhile his connection is not ended.
    pub(crate) fn busy(&self, act: impl FnOnce()) {
        self.note_idle(false);
        act();
        self.note_idle(true);
    }

    fn note_idle(&self, is_idle: bool) {
        let mut idle = lock(&self.ledger.idle);
        idle.retain(|line| !Arc::ptr_eq(line, &self.line));
        idle.extend(is_idle.then(|| Arc::clone(&self.line)));
    }

    /// Whether the user may make one more request now.
    pub(crate) fn may_ask(&self) -> bool {
        self.account(|account| {
            if account.since.is_none_or(|since| since.elapsed() >= Duration::from_secs(1)) {
                (account.since, account.asked) = (Some(Instant::now()), 0);
            }
            account.asked = account.asked.saturating_add(1);
            account.asked <= self.ledger.requests
        })
    }

    /// Counts one more registered file, if the user may have it.
    pub(crate) fn add(&self, connection: Connection) -> bool {
        let most = self.ledger.backings;
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
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    use super::*;

    fn line() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn a_user_who_asks_too_often_does_not_slow_another() {
        let ledger = Arc::new(Ledger { requests: 5, ..Ledger::default() });
        let seat = |uid| Seat::take(&ledger, uid, &line()).unwrap();
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
        let seat = |uid| Seat::take(&ledger, uid, &line());
        let seats = (0..LINES).map(|_| seat(1).unwrap()).collect::<Vec<_>>();
        assert!(seat(1).is_none() && seat(1).is_none());
        assert!(seat(2).is_some());
        drop(seats);
        assert!(seat(1).is_some());
    }

    #[test]
    fn whoever_comes_gets_the_place_of_who_was_idle_for_longest() {
        let ledger = Arc::new(Ledger { lines: 3, ..Ledger::default() });
        let seat = |uid| {
            let flags = SocketFlags::CLOEXEC;
            let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
            Seat::take(&ledger, uid, &Arc::new(pair.0)).map(|seat| (seat, pair.1))
        };
        let has_ended = |other: &OwnedFd| {
            let outcome = recv(other, &mut [0], RecvFlags::DONTWAIT);
            outcome == Ok((0, 0))
        };
        let (one, two, three) = (seat(1).unwrap(), seat(2).unwrap(), seat(3).unwrap());
        one.0.busy(|| assert!(!has_ended(&two.1)));
        let four = seat(4).unwrap();
        assert!(has_ended(&two.1) && !has_ended(&one.1) && !has_ended(&three.1));
        // Nobody who is at something is disturbed.
        three.0.busy(|| one.0.busy(|| four.0.busy(|| assert!(seat(5).is_none()))));
        assert!(![one, three, four].iter().any(|(_, other)| has_ended(other)));
        drop(two);
    }
}
