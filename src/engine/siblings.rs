//! The next small files: a program that reads the files of a folder one after the other finds the next ones fetched.
//!
//! Two files in listing order make a run, or three of one kind. What was fetched and not read yet stays within a budget that
//! grows with every guess that was right; wrong guesses are never read, so the budget stays used up and fetching ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::EngineError;
use super::core::{Cause, Core};
use super::open::lock;
use crate::model::{Ino, Name};

/// The largest file that is fetched although nobody asked for it.
pub(super) const SMALL: u64 = 256 << 10;
/// Bytes fetched and not read yet: at first, and at most. Each file counts as a block at least.
const FEWEST: u64 = 256 << 10;
const MOST: u64 = 8 << 20;
const LEAST_OF_A_FILE: u64 = 16 << 10;
/// Files fetched at once, at most.
const LANES: u32 = 8;
/// A run that stops for so long is over.
const OVER: Duration = Duration::from_secs(3);
/// How long after a read a run still goes on.
const GOES_ON: Duration = Duration::from_millis(200);
/// How many files a program may pass over and still go in order.
const PASSED_OVER: usize = 3;
/// Files looked for at a time.
const LOOKED_FOR: usize = 64;

/// Is what is known of programs that read one small file after the other.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    /// Whether there is a run: as long as there is none, reading what is here costs nothing more.
    active: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folder: Option<Ino>,
    last: Ino,
    in_order: u32,
    /// How many files of each kind were read in this folder.
    kinds: HashMap<Vec<u8>, u32>,
    /// A guess was right: in the next folder the first file is enough.
    proven: bool,
    /// Fetched, or about to be, and not read yet, with what they count.
    guesses: HashMap<Ino, u64>,
    most: u64,
    running: u32,
    /// Only files of this kind are fetched: they are not read in order.
    only: Option<Vec<u8>>,
    seen: Option<Instant>,
}

/// Is one file of a folder that may come next.
#[derive(Clone, Debug)]
pub(super) struct Next {
    ino: Ino,
    name: Name,
    size: u64,
}

impl State {
    /// Notes that somebody begins to read this file; `follows` says whether it is one of the next after the last one.
    /// Answers whether the next ones are to be fetched.
    fn read(
        &mut self,
        folder: Ino,
        ino: Ino,
        name: &Name,
        follows: impl FnOnce(Ino) -> bool,
        now: Instant,
    ) -> bool {
        if self.seen.is_none_or(|seen| now - seen > OVER) {
            let running = self.running;
            *self = Self { most: FEWEST, running, ..Self::default() };
        }
        self.seen = Some(now);
        let guessed = self.guesses.remove(&ino).is_some();
        if guessed {
            self.most = (self.most * 2).min(MOST);
            self.proven = true;
        }
        if self.folder != Some(folder) {
            self.folder = Some(folder);
            self.kinds.clear();
            self.only = None;
            self.in_order = 0;
        }
        let last = std::mem::replace(&mut self.last, ino);
        let of_kind = self.kinds.entry(kind(name)).or_default();
        *of_kind += 1;
        if self.in_order == 0 {
            self.in_order = 1;
            return self.proven;
        }
        if guessed && self.only.is_some() {
            return true;
        }
        if guessed || follows(last) {
            self.in_order += 1;
            self.only = None;
            return true;
        }
        self.in_order = 1;
        let many = *of_kind > 2;
        self.only = many.then(|| kind(name));
        many
    }

    /// Takes as many of these as there is room for.
    fn take(&mut self, next: Vec<Next>, lanes: u32) -> Vec<Ino> {
        let mut taken = Vec::new();
        let mut used: u64 = self.guesses.values().sum();
        for file in next {
            let counts = file.size.max(LEAST_OF_A_FILE);
            if self.running >= lanes || used + counts > self.most {
                break;
            }
            let other_kind = self.only.as_ref().is_some_and(|only| *only != kind(&file.name));
            if other_kind || self.guesses.contains_key(&file.ino) {
                continue;
            }
            self.guesses.insert(file.ino, counts);
            self.running += 1;
            used += counts;
            taken.push(file.ino);
        }
        taken
    }
}

/// What follows the last dot.
fn kind(name: &Name) -> Vec<u8> {
    let bytes = name.as_bytes();
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    dot.and_then(|at| bytes.get(at..)).unwrap_or_default().to_ascii_lowercase()
}

impl Core {
    /// Somebody begins to read a file. Costs nothing if it is here and nobody reads one after the other.
    pub(super) fn reads(self: &Arc<Self>, ino: Ino, size: u64, here: bool) {
        if size > SMALL || here && !self.workers.siblings.active.load(Ordering::Relaxed) {
            return;
        }
        let core = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = core.fetch_ahead(ino) {
                tracing::debug!(ino = ino.0, %error, "nothing is fetched ahead");
            }
        });
    }

    /// Whether somebody reads one small file after the other just now.
    pub(super) fn reads_on(&self) -> bool {
        let state = lock(&self.workers.siblings.state);
        let goes_on = self.workers.siblings.active.load(Ordering::Relaxed);
        goes_on && state.seen.is_some_and(|seen| seen.elapsed() < GOES_ON)
    }

    fn fetch_ahead(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        let place = self.catalog.read(|rows| rows.inode(ino))?.and_then(|inode| inode.local);
        let Some(place) = place else { return Ok(()) };
        let (latest, guessed) = {
            let state = lock(&self.workers.siblings.state);
            (state.last, state.guesses.contains_key(&ino))
        };
        // Asked before the state is locked; that it may have moved meanwhile makes a guess worse, no more. A right guess
        // goes on whatever follows.
        let coming = match guessed {
            true => Vec::new(),
            false => self.next_small(place.parent, latest, PASSED_OVER)?,
        };
        let goes_on = {
            let mut state = lock(&self.workers.siblings.state);
            let follows = |_| coming.iter().any(|next| next.ino == ino);
            let goes_on = state.read(place.parent, ino, &place.name, follows, Instant::now());
            self.workers.siblings.active.store(goes_on || state.proven, Ordering::Relaxed);
            goes_on
        };
        if goes_on { self.guess_files(place.parent, ino) } else { Ok(()) }
    }

    fn next_small(&self, folder: Ino, after: Ino, limit: usize) -> Result<Vec<Next>, EngineError> {
        let found = self.catalog.read(|rows| rows.next_absent(folder, after, SMALL, limit))?;
        let next = found.into_iter().map(|(ino, name, size)| Next { ino, name, size });
        Ok(next.collect())
    }

    fn guess_files(self: &Arc<Self>, folder: Ino, after: Ino) -> Result<(), EngineError> {
        if self.connection_state().is_some() {
            return Ok(());
        }
        let lanes = self.settings.requests.clamp(1, LANES);
        // Some at a time: looking for one with each that ends costs more than fetching it.
        if lock(&self.workers.siblings.state).running > lanes.saturating_sub(2) {
            return Ok(());
        }
        let next = self.next_small(folder, after, LOOKED_FOR)?;
        let taken = lock(&self.workers.siblings.state).take(next, lanes);
        for ino in taken {
            let core = self.clone();
            self.runtime.spawn(async move { core.fetch_guess(folder, ino).await });
        }
        Ok(())
    }

    async fn fetch_guess(self: &Arc<Self>, folder: Ino, ino: Ino) {
        let outcome = self.fetch_small(ino).await;
        let (same, last) = {
            let mut state = lock(&self.workers.siblings.state);
            state.running = state.running.saturating_sub(1);
            let over = state.seen.is_none_or(|seen| seen.elapsed() > OVER);
            (state.folder == Some(folder) && !over, state.last)
        };
        let more = match outcome {
            Ok(()) if same => self.guess_files(folder, last),
            other => other,
        };
        if let Err(error) = more {
            tracing::debug!(ino = ino.0, %error, "a file is not fetched ahead");
        }
    }

    async fn fetch_small(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        let _visit = self.open.visit(ino);
        let live = self.live_for(ino)?;
        let size = live.state().size;
        if size > SMALL || size == 0 {
            return Ok(());
        }
        self.ensure(&live, 0..size, 0..size, Cause::User).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(state: &mut State, folder: u64, ino: u64, name: &str, follows: bool) -> bool {
        let name = Name::new(name).unwrap();
        state.read(Ino(folder), Ino(ino), &name, |_| follows, Instant::now())
    }

    fn files(inos: std::ops::Range<u64>, size: u64) -> Vec<Next> {
        let name = |ino| Name::new(format!("{ino}.c")).unwrap();
        inos.map(|ino| Next { ino: Ino(ino), name: name(ino), size }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn two_in_order_make_a_run() {
        let mut state = State::default();
        assert!(!read(&mut state, 1, 10, "a.c", false));
        assert!(read(&mut state, 1, 11, "b.h", true));
        assert!(!read(&mut state, 2, 30, "a.c", false), "another folder, and nothing proven");
        tokio::time::advance(OVER * 2).await;
        assert!(!read(&mut state, 2, 31, "b.h", true), "the run is over");
    }

    #[tokio::test(start_paused = true)]
    async fn three_of_one_kind_are_followed_by_their_kind() {
        let mut state = State::default();
        assert!(!read(&mut state, 1, 10, "a.c", false));
        assert!(!read(&mut state, 1, 50, "b.C", false));
        assert!(read(&mut state, 1, 20, "z.c", false));
        let mut next = files(21..25, 10);
        next[1].name = Name::new("other.h").unwrap();
        assert_eq!(state.take(next, 8), [Ino(21), Ino(23), Ino(24)]);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_guesses_end_it_and_right_ones_reach_further() {
        let mut state = State::default();
        read(&mut state, 1, 10, "a.c", false);
        read(&mut state, 1, 11, "b.c", true);
        let taken = state.take(files(12..99, FEWEST / 4), 99);
        assert_eq!(taken.len(), 4);
        assert!(read(&mut state, 1, 77, "far.c", true));
        assert_eq!(state.take(files(78..99, FEWEST / 4), 99), [], "nothing was right");
        assert!(read(&mut state, 1, 12, "right.c", false));
        assert_eq!(state.most, 2 * FEWEST);
        assert_eq!(state.take(files(78..99, FEWEST / 4), 99).len(), 5);
        assert!(read(&mut state, 2, 200, "first.c", false), "proven: one is enough elsewhere");
    }
}
