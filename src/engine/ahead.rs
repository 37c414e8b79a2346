//! Listing ahead: a program that lists one folder after the other finds the next ones listed.
//!
//! Two folders of one folder in a row make a walk; from then on the folders that come next are listed while the program
//! still looks at the last one. How far ahead grows with every guess that was right; a program that looks at one folder
//! costs nothing more than that one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::EngineError;
use super::core::{Cause, Core};
use super::open::lock;
use crate::model::Ino;

/// Folders listed ahead and not looked at yet: at first, and at most.
const FEWEST: usize = 4;
const MOST: usize = 32;
/// Folders listed ahead at once, at most.
const LANES: u32 = 8;
/// A walk that stops for so long is over.
const OVER: Duration = Duration::from_secs(3);
/// Walks followed at once: one for each level of a tree, and those of a few programs.
const WALKS: usize = 64;

/// Is what is known of programs that go through folders.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Whether there is a walk: as long as there is none, looking at a listed folder costs nothing more.
    active: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the folder whose folders are looked at one after the other.
    walks: HashMap<Ino, Walk>,
    /// Listed ahead, or about to be, and not looked at yet.
    guesses: HashSet<Ino>,
    running: u32,
    /// How many guesses there may be.
    most: usize,
    /// Which folder somebody looked at last, and when.
    latest: Option<(Ino, Instant)>,
}

/// Is one program's way through the folders of one folder.
#[derive(Clone, Copy, Debug)]
struct Walk {
    last: Ino,
    looked_at: u32,
    /// It goes down into each before it comes to the next.
    descends: bool,
}

impl State {
    /// Notes that somebody looks at `folder`, which is in the first of `line`; `true` if that goes on with a walk.
    fn look_at(&mut self, folder: Ino, line: &[Ino], now: Instant) -> bool {
        let Some(parent) = line.first() else { return false };
        if self.is_over(now) {
            self.walks.clear();
            self.guesses.clear();
            self.most = FEWEST;
        }
        if self.walks.len() >= WALKS {
            self.walks.retain(|at, _| line.contains(at));
        }
        self.latest = Some((folder, now));
        if self.guesses.remove(&folder) {
            self.most = (self.most * 2).min(MOST);
        }
        let mut goes_on = false;
        if let Some(walk) = line.get(1).and_then(|above| self.walks.get_mut(above)) {
            walk.descends |= walk.last == *parent;
            goes_on = walk.goes_deep();
        }
        let fresh = Walk { last: folder, looked_at: 1, descends: false };
        let walk = self.walks.entry(*parent).or_insert(fresh);
        if walk.last != folder {
            walk.looked_at += 1;
            walk.last = folder;
        }
        goes_on || walk.goes_on()
    }

    fn is_over(&self, now: Instant) -> bool {
        self.latest.is_none_or(|(_, seen)| now - seen > OVER)
    }

    /// Where to look for the next folders, the likeliest first: in which folder, beyond which entry.
    fn next(&self, folder: Ino, line: &[Ino]) -> Vec<(Ino, Ino)> {
        let mut next = Vec::new();
        let mut below = folder;
        for (level, above) in line.iter().enumerate() {
            let Some(walk) = self.walks.get(above) else { break };
            if level == 0 && walk.goes_deep() {
                next.push((folder, Ino(0)));
            }
            if walk.goes_on() {
                next.push((*above, below));
            }
            below = *above;
        }
        // Not every program goes in our order.
        let walked = line.first().filter(|above| self.walks.get(above).is_some_and(Walk::goes_on));
        next.extend(walked.map(|above| (*above, Ino(0))));
        next
    }
}

impl Walk {
    fn goes_on(&self) -> bool {
        self.looked_at > 1
    }

    fn goes_deep(&self) -> bool {
        self.goes_on() && self.descends
    }
}

/// Gives a lane back.
struct Lane<'a>(&'a Core);

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.workers.ahead.state);
        state.running = state.running.saturating_sub(1);
    }
}

impl Core {
    /// Somebody begins to read this folder. Costs nothing if it is listed and nobody walks.
    pub(super) fn looks_at(self: &Arc<Self>, folder: Ino, listed: bool) {
        self.note_used(folder);
        if (listed && !self.workers.ahead.active.load(Ordering::Relaxed)) || folder == Ino::ROOT {
            return;
        }
        let core = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = core.list_ahead(folder) {
                tracing::debug!(folder = folder.0, %error, "nothing is listed ahead");
            }
        });
    }

    fn list_ahead(self: &Arc<Self>, folder: Ino) -> Result<(), EngineError> {
        let line = self.catalog.read(|rows| rows.folders_above(folder))?;
        let goes_on = {
            let mut state = lock(&self.workers.ahead.state);
            let goes_on = state.look_at(folder, &line, Instant::now());
            self.workers.ahead.active.store(!state.walks.is_empty(), Ordering::Relaxed);
            goes_on
        };
        if goes_on { self.guess(folder, &line) } else { Ok(()) }
    }

    /// Lists what comes after `folder`, as far as there are lanes.
    fn guess(self: &Arc<Self>, folder: Ino, line: &[Ino]) -> Result<(), EngineError> {
        if self.connection_state().is_some() {
            return Ok(());
        }
        let next = lock(&self.workers.ahead.state).next(folder, line);
        let candidates = self.catalog.read(|rows| {
            let mut found = Vec::new();
            for (parent, after) in next {
                found.extend(rows.unlisted_in(parent, after, MOST)?);
                if found.len() >= MOST {
                    break;
                }
            }
            Ok(found)
        })?;
        let lanes = self.settings.requests.clamp(1, LANES);
        let mut state = lock(&self.workers.ahead.state);
        for candidate in candidates {
            if state.running >= lanes || state.guesses.len() >= state.most {
                break;
            }
            if state.guesses.insert(candidate) {
                state.running += 1;
                let core = self.clone();
                self.runtime.spawn(async move { core.list_guess(candidate).await });
            }
        }
        Ok(())
    }

    async fn list_guess(self: &Arc<Self>, folder: Ino) {
        let outcome = {
            let _lane = Lane(self);
            self.flight(folder, Cause::Guess).await
        };
        if outcome.is_err() {
            return;
        }
        // A lane is free: the next guess goes, from where the program is now.
        let latest = {
            let state = lock(&self.workers.ahead.state);
            state.latest.filter(|_| !state.is_over(Instant::now()))
        };
        if let Some((at, _)) = latest
            && let Err(error) = self
                .catalog
                .read(|rows| rows.folders_above(at))
                .map_err(EngineError::from)
                .and_then(|line| self.guess(at, &line))
        {
            tracing::debug!(folder = folder.0, %error, "nothing more is listed ahead");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(state: &mut State, folder: u64, line: &[u64]) -> Vec<(u64, u64)> {
        let line: Vec<Ino> = line.iter().copied().map(Ino).collect();
        match state.look_at(Ino(folder), &line, Instant::now()) {
            true => {
                state.next(Ino(folder), &line).iter().map(|(at, after)| (at.0, after.0)).collect()
            }
            false => Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_folders_in_a_row_make_a_walk() {
        let mut state = State::default();
        assert_eq!(look(&mut state, 10, &[5, 1]), []);
        assert_eq!(look(&mut state, 10, &[5, 1]), [], "the same folder again");
        assert_eq!(look(&mut state, 11, &[5, 1]), [(5, 11), (5, 0)]);
        tokio::time::advance(OVER * 2).await;
        assert_eq!(look(&mut state, 12, &[5, 1]), [], "the walk is over");
    }

    #[tokio::test(start_paused = true)]
    async fn going_down_a_tree_is_no_walk() {
        let mut state = State::default();
        assert_eq!(look(&mut state, 3, &[1]), []);
        assert_eq!(look(&mut state, 4, &[3, 1]), []);
        assert_eq!(look(&mut state, 5, &[4, 3, 1]), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_that_goes_down_is_followed_down() {
        let mut state = State::default();
        look(&mut state, 3, &[1]);
        look(&mut state, 20, &[3, 1]);
        assert_eq!(look(&mut state, 21, &[3, 1]), [(3, 21), (3, 0)]);
        assert_eq!(look(&mut state, 4, &[1]), [(4, 0), (1, 4), (1, 0)]);
        assert_eq!(look(&mut state, 30, &[4, 1]), [(1, 4)], "and then the next ones above");
        assert_eq!(look(&mut state, 31, &[4, 1]), [(4, 31), (1, 4), (4, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn right_guesses_reach_further() {
        let mut state = State::default();
        look(&mut state, 10, &[5]);
        look(&mut state, 11, &[5]);
        state.guesses.insert(Ino(12));
        look(&mut state, 12, &[5]);
        assert_eq!(state.most, 2 * FEWEST);
    }
}
