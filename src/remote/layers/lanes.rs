//! Whose turn it is when a request may go: the lanes (D02, D10). Names come before reads, these before small uploads, these before
//! bulk; a lane that stands still for long gets a turn all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Says how much a request matters; the first one goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Somebody waits for names.
    Names,
    /// Somebody waits for content.
    Reads,
    /// Nobody waits, and it is soon over: names, and uploads of little.
    Small,
    /// Nobody waits, and it may take long.
    Bulk,
}

const RANKS: [Rank; 4] = [Rank::Names, Rank::Reads, Rank::Small, Rank::Bulk];

/// How many requests each lane leaves to those before it, whoever waits: what is read or sent may take long.
const KEPT: [usize; RANKS.len()] = [0, 2, 4, KEPT_FROM_BULK];
/// Requests that are never bulk.
pub(super) const KEPT_FROM_BULK: usize = 8;
/// After how long without a turn a lane gets one, whoever else waits.
const STARVED: Duration = Duration::from_secs(1);

/// Is who waits, and who may go.
#[derive(Debug)]
pub(super) struct Lanes(Mutex<State>);

#[derive(Debug)]
struct State {
    /// How many more may go of each lane and those after it together.
    room: [usize; RANKS.len()],
    waiting: BTreeMap<(Rank, u64), Waiter>,
    arrived: u64,
    /// When each lane last had a turn.
    last: [Option<Instant>; RANKS.len()],
}

#[derive(Debug)]
struct Waiter {
    since: Instant,
    go: oneshot::Sender<()>,
}

impl State {
    /// All that its requests count for.
    fn room_for(&mut self, rank: Rank) -> &mut [usize] {
        &mut self.room[..=rank as usize]
    }

    fn may_go(&self, rank: Rank) -> bool {
        self.room[..=rank as usize].iter().all(|room| *room > 0)
    }

    /// Who goes next, if anybody can.
    fn next(&self) -> Option<(Rank, u64)> {
        let first = |rank: &Rank| {
            let mut lane = self.waiting.range((*rank, 0)..=(*rank, u64::MAX));
            lane.next().filter(|_| self.may_go(*rank))
        };
        // Where turns are seldom all lanes starve: then they go by turns.
        let stands_since = |(key, waiter): &(&(Rank, u64), &Waiter)| {
            self.last[key.0 as usize].map_or(waiter.since, |last| last.max(waiter.since))
        };
        let starved =
            RANKS.iter().filter_map(first).filter(|one| stands_since(one).elapsed() >= STARVED);
        let starved = starved.min_by_key(stands_since);
        starved.or_else(|| RANKS.iter().find_map(first)).map(|(key, _)| *key)
    }

    fn let_go(&mut self) {
        while let Some(key) = self.next() {
            let Some(waiter) = self.waiting.remove(&key) else { return };
            self.room_for(key.0).iter_mut().for_each(|room| *room -= 1);
            self.last[key.0 as usize] = Some(Instant::now());
            // Who does not wait any more takes itself out, under this lock.
            let _heard = waiter.go.send(());
        }
    }

    fn give_back(&mut self, rank: Rank) {
        self.room_for(rank).iter_mut().for_each(|room| *room += 1);
        self.let_go();
    }
}

impl Lanes {
    /// For so many requests at once.
    pub(super) fn new(concurrent: usize) -> Arc<Self> {
        let room = KEPT.map(|kept| concurrent.saturating_sub(kept).max(1));
        let (waiting, arrived, last) = (BTreeMap::new(), 0, [None; RANKS.len()]);
        Arc::new(Self(Mutex::new(State { room, waiting, arrived, last })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn. Who stops waiting takes none from others.
    pub(super) async fn turn(self: &Arc<Self>, rank: Rank) -> Turn {
        let (go, told) = oneshot::channel();
        let key = {
            let mut state = self.state();
            let key = (rank, state.arrived);
            state.arrived += 1;
            state.waiting.insert(key, Waiter { since: Instant::now(), go });
            state.let_go();
            key
        };
        let mut waiting = Waiting { lanes: Some(Arc::clone(self)), key };
        // The sender goes with the waiter only, and that with a turn.
        let _told = told.await;
        waiting.lanes = None;
        Turn { lanes: Arc::clone(self), rank }
    }
}

/// Takes who does not wait any more out of the line, and gives back a turn that nobody took.
struct Waiting {
    lanes: Option<Arc<Lanes>>,
    key: (Rank, u64),
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(lanes) = self.lanes.take() else { return };
        let mut state = lanes.state();
        if state.waiting.remove(&self.key).is_none() {
            state.give_back(self.key.0);
        }
    }
}

/// Is the right to one request, given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    lanes: Arc<Lanes>,
    rank: Rank,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lanes.state().give_back(self.rank);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt as _;
    use tokio::sync::mpsc;

    use super::*;

    /// Waits in the background and tells its number when its turn comes; the turn is over at once.
    fn line_up(lanes: &Arc<Lanes>, ranks: &[Rank]) -> mpsc::UnboundedReceiver<usize> {
        let (tell, told) = mpsc::unbounded_channel();
        for (number, rank) in ranks.iter().copied().enumerate() {
            let (lanes, tell) = (Arc::clone(lanes), tell.clone());
            let mut turn = Box::pin(async move {
                let _turn = lanes.turn(rank).await;
                tell.send(number).unwrap();
            });
            // In line from here on, in this order.
            assert!(turn.as_mut().now_or_never().is_none());
            tokio::spawn(turn);
        }
        told
    }

    async fn all(mut told: mpsc::UnboundedReceiver<usize>) -> Vec<usize> {
        let mut order = Vec::new();
        while let Some(number) = told.recv().await {
            order.push(number);
        }
        order
    }

    /// D02, D10: a large file does not hold up what a program waits for, whoever came first.
    #[tokio::test(start_paused = true)]
    async fn names_go_before_reads_before_small_uploads_before_bulk() {
        let lanes = Lanes::new(1);
        let held = lanes.turn(Rank::Bulk).await;
        let ranks = [Rank::Bulk, Rank::Small, Rank::Reads, Rank::Names, Rank::Reads, Rank::Bulk];
        let told = line_up(&lanes, &ranks);
        drop(held);
        assert_eq!(all(told).await, [3, 2, 4, 1, 0, 5]);
    }

    /// However many long transfers there are, a small upload begins at once; however many reads, names are told.
    #[tokio::test(start_paused = true)]
    async fn each_lane_leaves_room_for_those_before_it() {
        let lanes = Lanes::new(16);
        let mut held = Vec::new();
        for (rank, room) in [(Rank::Bulk, 8), (Rank::Small, 4), (Rank::Reads, 2), (Rank::Names, 2)]
        {
            for _ in 0..room {
                held.push(lanes.turn(rank).now_or_never().unwrap());
            }
            assert!(lanes.turn(rank).now_or_never().is_none(), "{rank:?}");
        }
    }

    /// S163: while names are asked for without an end, each other lane goes on, slowly.
    #[tokio::test(start_paused = true)]
    async fn no_lane_stands_still_for_ever() {
        let lanes = Lanes::new(1);
        let held = lanes.turn(Rank::Names).await;
        let told =
            line_up(&lanes, &[Rank::Names, Rank::Bulk, Rank::Names, Rank::Small, Rank::Small]);
        tokio::time::advance(STARVED).await;
        drop(held);
        assert_eq!(all(told).await, [0, 3, 1, 2, 4]);
    }

    /// Where a turn takes longer than a lane may stand still, bulk went first, and names never while anybody read.
    #[tokio::test(start_paused = true)]
    async fn regression_where_turns_are_seldom_the_lanes_take_turns() {
        let lanes = Lanes::new(1);
        let mut held = lanes.turn(Rank::Reads).await;
        let (tell, mut told) = mpsc::unbounded_channel();
        for rank in RANKS.iter().rev().cycle().take(3 * RANKS.len()).copied() {
            let (lanes, tell) = (Arc::clone(&lanes), tell.clone());
            tokio::spawn(async move { tell.send((rank, lanes.turn(rank).await)).unwrap() });
        }
        for _ in 0..3 {
            for wanted in RANKS {
                tokio::time::sleep(2 * STARVED).await;
                drop(held);
                let (rank, turn) = told.recv().await.unwrap();
                assert_eq!(rank, wanted);
                held = turn;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_takes_no_turn_along() {
        let lanes = Lanes::new(1);
        let held = lanes.turn(Rank::Reads).await;
        let mut gone = Box::pin(lanes.turn(Rank::Names));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        let mut has_one = Box::pin(lanes.turn(Rank::Names));
        assert!(has_one.as_mut().now_or_never().is_none());
        let told = line_up(&lanes, &[Rank::Reads]);
        drop(held);
        // It was told that it may go, and never looked.
        drop(has_one);
        assert_eq!(all(told).await, [0]);
        assert!(lanes.turn(Rank::Bulk).now_or_never().is_some());
    }
}
