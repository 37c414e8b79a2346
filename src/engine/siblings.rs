//! The next small files: a program that reads the files of a folder one after the other finds the next ones fetched.
//!
//! Two files in listing order make a run, or three of one kind. What was fetched and not read yet stays within a budget that
//! grows with every guess that was right; wrong guesses are never read, so the budget stays used up and fetching ends. A run
//! that went on from one folder to another goes on to the next ones, as far as they are listed.

use std::collections::{HashMap, VecDeque};
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
/// Files fetched at once, at most; of a remote that is far away more, and still some requests are left to others.
const LANES: u32 = 8;
const FAR_LANES: u32 = 12;
/// What takes so long is far away.
const FAR: Duration = Duration::from_millis(5);
/// A run that stops for so long is over.
const OVER: Duration = Duration::from_secs(3);
/// How long after a read a run still goes on.
const GOES_ON: Duration = Duration::from_millis(200);
/// How many files a program may pass over and still go in order.
const PASSED_OVER: usize = 3;
/// Files looked for at a time, and in how many folders at most.
const LOOKED_FOR: usize = 64;
const FOLDERS: usize = 16;

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
    /// It went on in another folder: what comes next is looked for in the folders that come next, too.
    crosses: bool,
    /// Fetched, or about to be, and not read yet.
    guesses: HashMap<Ino, Next>,
    /// What comes next, as the catalog told, and how far it was asked.
    coming: VecDeque<Next>,
    asked: Asked,
    /// Moves on whenever what comes next is another thing than before.
    course: u64,
    most: u64,
    running: u32,
    /// How long one takes, the last ones counting most.
    takes: Duration,
    /// Only files of this kind are fetched: they are not read in order.
    only: Option<Vec<u8>>,
    seen: Option<Instant>,
}

/// Says how far the catalog was asked for what comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    /// It told all up to this file of this folder; there may be more.
    UpTo(Ino, Ino),
    /// It is just being asked.
    Asking,
    /// There is no more.
    #[default]
    ToTheEnd,
}

/// Is one file of a folder that may come next.
#[derive(Clone, Debug)]
struct Next {
    folder: Ino,
    ino: Ino,
    name: Name,
    size: u64,
}

impl Next {
    /// How much of the budget it takes.
    fn counts(&self) -> u64 {
        self.size.max(LEAST_OF_A_FILE)
    }
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
        if self.is_over(now) {
            let (running, course, takes) = (self.running, self.course, self.takes);
            *self = Self { most: FEWEST, running, course, takes, ..Self::default() };
        }
        self.seen = Some(now);
        let guessed = self.guesses.remove(&ino).is_some();
        if guessed {
            self.most = (self.most * 2).min(MOST);
            self.proven = true;
        }
        if !guessed {
            self.course += 1;
            self.coming.clear();
            self.asked = Asked::UpTo(folder, ino);
        }
        if self.folder != Some(folder) {
            self.crosses |= self.proven && self.folder.is_some();
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

    /// Whether no run goes on any more.
    fn is_over(&self, now: Instant) -> bool {
        self.seen.is_none_or(|seen| now - seen > OVER)
    }

    /// Takes as many of those that come next as there is room for, `most` bytes at most being fetched and not read yet.
    fn take(&mut self, lanes: u32, most: u64) -> Vec<Ino> {
        let most = self.most.min(most);
        let mut taken = Vec::new();
        let mut used = self.used();
        while self.running < lanes
            && let Some(file) = self.coming.pop_front()
        {
            let other_kind = self.only.as_ref().is_some_and(|only| *only != kind(&file.name));
            if other_kind || self.guesses.contains_key(&file.ino) {
                continue;
            }
            if used + file.counts() > most {
                self.coming.push_front(file);
                break;
            }
            used += file.counts();
            self.running += 1;
            taken.push(file.ino);
            self.guesses.insert(file.ino, file);
        }
        taken
    }

    /// Notes how long one took.
    fn took(&mut self, time: Duration) {
        self.takes = if self.takes.is_zero() { time } else { (self.takes * 3 + time) / 4 };
    }

    /// How many may be fetched at once.
    fn lanes(&self, requests: u32) -> u32 {
        requests.clamp(1, if self.takes < FAR { LANES } else { FAR_LANES })
    }

    fn used(&self) -> u64 {
        self.guesses.values().map(Next::counts).sum()
    }

    /// Where the catalog is to be asked for more, if it is: beyond which file of which folder.
    fn ask(&mut self, lanes: u32) -> Option<(Ino, Ino)> {
        let wanted = self.coming.is_empty()
            && self.running < lanes
            && self.used() + LEAST_OF_A_FILE <= self.most;
        let (Asked::UpTo(folder, ino), true) = (self.asked, wanted) else { return None };
        self.asked = Asked::Asking;
        Some((folder, ino))
    }

    /// Whether what comes next may be in other folders.
    fn may_cross(&self) -> bool {
        self.crosses && self.only.is_none()
    }

    /// Notes what the catalog told, if that is still what was asked for.
    fn told(&mut self, course: u64, next: Vec<Next>, asked: Asked) {
        if self.course == course {
            self.asked = asked;
            self.coming.extend(next);
        }
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
        let siblings = &self.workers.siblings;
        if size > SMALL || here && !siblings.active.load(Ordering::Relaxed) {
            return;
        }
        {
            // What was guessed right tells all that is needed.
            let mut state = lock(&siblings.state);
            let now = Instant::now();
            if let Some(guess) = state.guesses.get(&ino).cloned().filter(|_| !state.is_over(now)) {
                let goes_on = state.read(guess.folder, ino, &guess.name, |_| true, now);
                drop(state);
                if goes_on {
                    self.guess_files();
                }
                return;
            }
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
        let latest = lock(&self.workers.siblings.state).last;
        // Asked before the state is locked; that it may have moved meanwhile makes a guess worse, no more.
        let coming = self.next_small(place.parent, latest, PASSED_OVER)?;
        let goes_on = {
            let mut state = lock(&self.workers.siblings.state);
            let follows = |_| coming.iter().any(|next| next.ino == ino);
            let goes_on = state.read(place.parent, ino, &place.name, follows, Instant::now());
            self.workers.siblings.active.store(goes_on || state.proven, Ordering::Relaxed);
            goes_on
        };
        if goes_on {
            self.guess_files();
        }
        Ok(())
    }

    fn next_small(&self, folder: Ino, after: Ino, limit: usize) -> Result<Vec<Next>, EngineError> {
        let found = self.catalog.read(|rows| rows.next_absent(folder, after, SMALL, limit))?;
        let next = found.into_iter().map(|(ino, name, size)| Next { folder, ino, name, size });
        Ok(next.collect())
    }

    /// Fetches what comes next, as far as there are lanes; asks the catalog when nothing more is known.
    fn guess_files(self: &Arc<Self>) {
        if self.connection_state().is_some() {
            return;
        }
        // What is fetched ahead must not push out what was fetched ahead and is not read yet.
        let most = self.most_ahead();
        let (taken, ask, course, crosses) = {
            let mut state = lock(&self.workers.siblings.state);
            let lanes = state.lanes(self.settings.requests);
            (state.take(lanes, most), state.ask(lanes), state.course, state.may_cross())
        };
        for ino in taken {
            let core = self.clone();
            self.runtime.spawn(async move { core.fetch_guess(ino).await });
        }
        let Some((folder, beyond)) = ask else { return };
        let core = self.clone();
        self.runtime.spawn(async move {
            let found = core.coming_files(folder, beyond, crosses).unwrap_or_else(|error| {
                tracing::debug!(folder = folder.0, %error, "nothing more is fetched ahead");
                (Vec::new(), Asked::ToTheEnd)
            });
            let some = !found.0.is_empty();
            lock(&core.workers.siblings.state).told(course, found.0, found.1);
            if some {
                core.guess_files();
            }
        });
    }

    /// The files that come next, in the folders that come next if the run crosses, and how far was looked.
    fn coming_files(
        &self,
        folder: Ino,
        beyond: Ino,
        crosses: bool,
    ) -> Result<(Vec<Next>, Asked), EngineError> {
        let (mut folder, mut beyond) = (folder, beyond);
        for _ in 0..FOLDERS {
            let next = self.next_small(folder, beyond, LOOKED_FOR)?;
            if next.len() >= LOOKED_FOR {
                let last = next.last().map_or(beyond, |last| last.ino);
                return Ok((next, Asked::UpTo(folder, last)));
            }
            let then = match crosses {
                true => self.catalog.read(|rows| rows.next_listed_folder(folder))?,
                false => None,
            };
            let asked = then.map_or(Asked::ToTheEnd, |then| Asked::UpTo(then, Ino(0)));
            match then {
                Some(then) if next.is_empty() => (folder, beyond) = (then, Ino(0)),
                _ => return Ok((next, asked)),
            }
        }
        Ok((Vec::new(), Asked::ToTheEnd))
    }

    async fn fetch_guess(self: &Arc<Self>, ino: Ino) {
        let begun = Instant::now();
        let outcome = self.fetch_small(ino).await;
        let goes_on = {
            let mut state = lock(&self.workers.siblings.state);
            state.took(begun.elapsed());
            state.running = state.running.saturating_sub(1);
            !state.is_over(Instant::now())
        };
        match outcome {
            Ok(()) if goes_on => self.guess_files(),
            Ok(()) => {}
            Err(error) => tracing::debug!(ino = ino.0, %error, "a file is not fetched ahead"),
        }
    }

    async fn fetch_small(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        let _visit = self.open.visit(ino);
        let live = self.live_for(ino)?;
        let size = live.state().size;
        if size > SMALL || size == 0 {
            return Ok(());
        }
        self.ensure(&live, 0..size, 0..size, Cause::Guess).await
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
        inos.map(|ino| Next { folder: Ino(1), ino: Ino(ino), name: name(ino), size }).collect()
    }

    fn take(state: &mut State, next: Vec<Next>, lanes: u32) -> Vec<Ino> {
        state.told(state.course, next, Asked::ToTheEnd);
        state.take(lanes, MOST)
    }

    #[test]
    fn from_far_away_more_come_at_once() {
        let mut state = State { most: FEWEST, ..State::default() };
        assert_eq!(state.lanes(20), 8);
        state.took(Duration::from_millis(20));
        assert_eq!(state.lanes(20), 12, "as many more as there are requests left for who waits");
        assert_eq!(state.lanes(5), 5, "no more than may be asked");
        (0..20).for_each(|_| state.took(Duration::from_millis(1)));
        assert_eq!(state.lanes(20), 8, "it is near by now");
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
        assert_eq!(take(&mut state, next, 8), [Ino(21), Ino(23), Ino(24)]);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_guesses_end_it_and_right_ones_reach_further() {
        let mut state = State::default();
        read(&mut state, 1, 10, "a.c", false);
        read(&mut state, 1, 11, "b.c", true);
        let taken = take(&mut state, files(12..99, FEWEST / 4), 99);
        assert_eq!(taken.len(), 4);
        assert!(read(&mut state, 1, 77, "far.c", true));
        assert_eq!(take(&mut state, files(78..99, FEWEST / 4), 99), [], "nothing was right");
        assert!(read(&mut state, 1, 12, "right.c", false));
        assert_eq!(state.most, 2 * FEWEST);
        assert_eq!(take(&mut state, files(78..99, FEWEST / 4), 99).len(), 5);
        assert!(read(&mut state, 2, 200, "first.c", false), "proven: one is enough elsewhere");
    }

    #[tokio::test(start_paused = true)]
    async fn the_catalog_is_asked_once_for_many() {
        let mut state = State::default();
        read(&mut state, 1, 10, "a.c", false);
        read(&mut state, 1, 11, "b.c", true);
        let course = state.course;
        assert_eq!(state.ask(8), Some((Ino(1), Ino(11))));
        assert_eq!(state.ask(8), None, "it is just being asked");
        let last = Ino(11 + LOOKED_FOR as u64);
        let found = files(12..12 + LOOKED_FOR as u64, 10);
        state.told(course, found, Asked::UpTo(Ino(1), last));
        let mut came = 0;
        loop {
            let taken = state.take(8, MOST);
            if taken.is_empty() {
                break;
            }
            for ino in taken {
                if !state.coming.is_empty() {
                    assert_eq!(state.ask(8), None, "more are known");
                }
                state.running -= 1;
                assert!(read(&mut state, 1, ino.0, "next.c", false));
                came += 1;
            }
        }
        assert_eq!(came, LOOKED_FOR);
        assert_eq!(state.ask(8), Some((Ino(1), last)));
        read(&mut state, 1, 500, "elsewhere.c", true);
        state.told(course, files(400..410, 10), Asked::ToTheEnd);
        assert_eq!(state.take(8, MOST), [], "an answer to an older question");
    }
}
