//! How much one user may have of it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use crate::checks::Connection;

/// Connections of one user: one mount needs one.
const LINES: usize = 32;

/// Is what a user may have, and what each has.
pub(crate) struct Ledger {
    /// Files registered at once.
    pub(crate) backings: u32,
    /// Requests in a second.
    pub(crate) requests: u32,
    /// Connections of all users. One person may be many users; so whoever comes gets the place of who asked nothing for longest.
    pub(crate) most_lines: u32,
    /// The longest idle first.
    lines: Mutex<Vec<Line>>,
    accounts: Mutex<HashMap<u32, Account>>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (lines, accounts) = Default::default();
        Self { backings: 8192, requests: 10_000, most_lines: 512, lines, accounts }
    }
}

/// Is one connection: whose, and whether nothing is being done on it, so that it may be ended.
struct Line {
    uid: u32,
    socket: Arc<OwnedFd>,
    is_idle: bool,
}

/// Is what one user has.
#[derive(Default)]
struct Account {
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
        self.note(None);
    }
}

impl Seat {
    /// A place for one more connection of a user, if he may have it.
    pub(crate) fn take(ledger: &Arc<Ledger>, uid: u32, line: &Arc<OwnedFd>) -> Option<Self> {
        let mut lines = lock(&ledger.lines);
        let his = lines.iter().filter(|one| one.uid == uid).count();
        if his >= LINES || (lines.len() >= ledger.most_lines as usize && !end_one(&mut lines)) {
            return None;
        }
        drop(lines);
        let seat = Self { line: Arc::clone(line), ledger: Arc::clone(ledger), uid };
        seat.note(Some(true));
        Some(seat)
    }

    /// Acts for the user; meanwhile his connection is not ended.
    pub(crate) fn busy(&self, act: impl FnOnce()) {
        self.note(Some(false));
        act();
        self.note(Some(true));
    }

    /// Writes down whether the connection is idle, and that it is there at all.
    fn note(&self, is_idle: Option<bool>) {
        let mut lines = lock(&self.ledger.lines);
        lines.retain(|one| !Arc::ptr_eq(&one.socket, &self.line));
        let line = |is_idle| Line { uid: self.uid, socket: Arc::clone(&self.line), is_idle };
        lines.extend(is_idle.map(line));
    }

    fn account<T>(&self, act: impl FnOnce(&mut Account) -> T) -> T {
        act(lock(&self.ledger.accounts).entry(self.uid).or_default())
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

/// Ends the connection that was idle for longest, if one is: its user opens another when he needs it, and what he has
/// registered is his and not the connection's.
fn end_one(lines: &mut [Line]) -> bool {
    let longest = lines.iter_mut().find(|one| one.is_idle);
    longest.is_some_and(|one| {
        one.is_idle = false;
        shutdown(&one.socket, Shutdown::Both).is_ok()
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let ledger = Arc::new(Ledger { most_lines: 3, ..Ledger::default() });
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
