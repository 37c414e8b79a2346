//! The mass-change guard: removals and overwrites that are so many, so fast and so much of a folder tree that a person is
//! asked before they are sent.
//!
//! What was created here and never sent has no base and does not count, nor does a move. Only what is part of the mass is
//! held; other changes go on.

use std::collections::{HashMap, HashSet};

use super::around::{is_excluded, is_kept_here};
use super::touch::is_destructive;
use super::{Ino, Rows};

/// How long changes count as one, nanoseconds.
pub const WINDOW: i64 = 60_000_000_000;
/// Many changes are judged once none came for this long, nanoseconds.
const QUIET: i64 = 2_000_000_000;
/// How far apart two windows that are looked at end, nanoseconds.
const STEP: i64 = 1_000_000_000;
/// Deeper than any path a kernel can name.
const DEEPEST: usize = 1 << 16;

/// Is one removal or overwrite of a file that the remote has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destruction {
    /// The file.
    pub ino: Ino,
    /// When it was done here, nanoseconds since 1970.
    pub since: i64,
    /// The folder that the remote has it in.
    pub folder: Ino,
    /// Whether it was sent already and the remote has the file no more.
    pub gone: bool,
    /// Whether it still waits here.
    pub waits: bool,
}

/// Is a row of a file that the remote has, which may be a removal or an overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it is if it is one.
    pub one: Destruction,
    /// Whether it is held.
    pub is_held: bool,
    /// Whether it is one by its own row: deleted, or of another content. Else it is one if it was moved to where it is kept here only.
    pub is_sure: bool,
}

/// Leaves those of `all` that remove or overwrite something.
pub fn leave_destructions<R: Rows>(rows: &R, all: &mut Vec<Waiting>) -> Result<(), R::Error> {
    // Very many files of few folders are usual.
    let mut folders: HashMap<Ino, bool> = HashMap::new();
    let mut left = Vec::new();
    for waiting in all.drain(..) {
        if waiting.is_sure || is_moved_out(rows, waiting.one.ino, &mut folders)? {
            left.push(waiting);
        }
    }
    *all = left;
    Ok(())
}

/// Whether a file is under a name, or in a folder, that is kept here only.
fn is_moved_out<R: Rows>(
    rows: &R,
    ino: Ino,
    folders: &mut HashMap<Ino, bool>,
) -> Result<bool, R::Error> {
    let Some(node) = rows.node(ino)? else { return Ok(false) };
    if is_excluded(rows, &node)? {
        return Ok(true);
    }
    let Some(place) = node.local else { return Ok(true) };
    if let Some(kept) = folders.get(&place.parent) {
        return Ok(*kept);
    }
    let kept = is_kept_here(rows, place.parent)?;
    folders.insert(place.parent, kept);
    Ok(kept)
}

/// Says what becomes of many removals and overwrites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are few, or little of their folders.
    Free,
    /// They are many and still being made: none goes until it is known how many.
    Rest,
    /// These are held until a person looked.
    Hold(Vec<Ino>),
}

/// Answers what the guard asks of the tree that the remote has.
pub trait Tree {
    /// What can go wrong below.
    type Error;
    /// The folder that this folder is in.
    fn above(&mut self, folder: Ino) -> Result<Option<Ino>, Self::Error>;
    /// How many files are in this folder, at any depth; may stop counting at `enough`.
    fn files_below(&mut self, folder: Ino, enough: usize) -> Result<usize, Self::Error>;
}

/// Judges removals and overwrites: more than `limit` within a minute that are more than half of a folder tree are held.
pub fn judge<T: Tree>(
    tree: &mut T,
    mut all: Vec<Destruction>,
    limit: usize,
    now: i64,
) -> Result<Verdict, T::Error> {
    all.sort_by_key(|one| one.since);
    let mut ways = Ways { tree, above: HashMap::new(), below: HashMap::new() };
    let mut sliding = Sliding::default();
    let mut held = HashSet::new();
    let (mut first, mut looked, mut many) = (0, i64::MIN, false);
    for (last, one) in all.iter().enumerate() {
        sliding.enter(&ways.up(one.folder)?, one);
        while let Some(old) = all.get(first)
            && one.since.saturating_sub(old.since) > WINDOW
        {
            sliding.leave(&ways.up(old.folder)?, old);
            first += 1;
        }
        let next = all.get(last + 1);
        let is_step = one.since.saturating_sub(looked) >= STEP;
        if last + 1 - first <= limit || next.is_some() && !is_step {
            continue;
        }
        looked = one.since;
        many = next.is_none() && now.saturating_sub(one.since) < QUIET;
        let hit = sliding.hit(&mut ways, limit)?;
        let window = all.get(first..=last).unwrap_or_default();
        ways.hold_below(&hit, window, &mut held)?;
    }
    Ok(match (held.is_empty(), many) {
        (false, _) => Verdict::Hold(held.into_iter().collect()),
        (true, true) => Verdict::Rest,
        (true, false) => Verdict::Free,
    })
}

/// Is how many there are in each folder tree, of those within a window that moves on.
#[derive(Default)]
struct Sliding {
    /// How many, and how many of them are gone from the remote.
    trees: HashMap<Ino, (usize, usize)>,
    /// Trees in which there are more since the last look.
    grown: HashSet<Ino>,
    /// So many were too few.
    few: HashMap<Ino, usize>,
}

impl Sliding {
    fn enter(&mut self, way: &[Ino], one: &Destruction) {
        for at in way {
            let all = self.trees.entry(*at).or_default();
            all.0 += 1;
            all.1 += usize::from(one.gone);
            self.grown.insert(*at);
        }
    }

    fn leave(&mut self, way: &[Ino], one: &Destruction) {
        for at in way {
            if let Some(all) = self.trees.get_mut(at) {
                all.0 = all.0.saturating_sub(1);
                all.1 = all.1.saturating_sub(usize::from(one.gone));
            }
        }
    }

    /// The trees of which more than half goes, of those that grew.
    fn hit<T: Tree>(
        &mut self,
        ways: &mut Ways<'_, T>,
        limit: usize,
    ) -> Result<HashSet<Ino>, T::Error> {
        let mut hit = HashSet::new();
        for folder in std::mem::take(&mut self.grown) {
            let (count, gone) = self.trees.get(&folder).copied().unwrap_or_default();
            let weight = count * 2 - gone.min(count);
            if count <= limit || self.few.get(&folder).is_some_and(|few| *few >= weight) {
                continue;
            }
            if ways.files_below(folder, weight)? < weight {
                hit.insert(folder);
            } else {
                self.few.insert(folder, weight);
            }
        }
        Ok(hit)
    }
}

struct Ways<'a, T> {
    tree: &'a mut T,
    above: HashMap<Ino, Option<Ino>>,
    /// How many files are below a folder, and at which number counting stopped.
    below: HashMap<Ino, (usize, usize)>,
}

impl<T: Tree> Ways<'_, T> {
    /// The folder and those above it, the lowest first.
    fn up(&mut self, folder: Ino) -> Result<Vec<Ino>, T::Error> {
        let mut way = Vec::new();
        let mut next = Some(folder);
        while let Some(at) = next.filter(|_| way.len() < DEEPEST) {
            way.push(at);
            next = match self.above.get(&at) {
                Some(known) => *known,
                None => {
                    let above = self.tree.above(at)?;
                    self.above.insert(at, above);
                    above
                }
            };
        }
        Ok(way)
    }

    /// How many files are in this folder, at any depth; exact below `enough`.
    fn files_below(&mut self, folder: Ino, enough: usize) -> Result<usize, T::Error> {
        match self.below.get(&folder) {
            Some((files, until)) if files < until || *until >= enough => return Ok(*files),
            _ => {}
        }
        // More than is asked: as others are found it is asked for more and more.
        let until = enough.saturating_mul(4);
        let files = self.tree.files_below(folder, until)?;
        self.below.insert(folder, (files, until));
        Ok(files)
    }

    fn hold_below(
        &mut self,
        hit: &HashSet<Ino>,
        window: &[Destruction],
        held: &mut HashSet<Ino>,
    ) -> Result<(), T::Error> {
        if hit.is_empty() {
            return Ok(());
        }
        for one in window.iter().filter(|one| one.waits) {
            if !held.contains(&one.ino) && self.up(one.folder)?.iter().any(|at| hit.contains(at)) {
                held.insert(one.ino);
            }
        }
        Ok(())
    }
}

/// All waiting removals and overwrites that no person has let go.
pub fn destructions<R: Rows>(rows: &R) -> Result<Vec<Ino>, R::Error> {
    let mut waiting = Vec::new();
    for ino in rows.outbox_all()? {
        let released = rows.outbox(ino)?.is_none_or(|row| row.released);
        if let Some(node) = rows.node(ino)?.filter(|_| !released)
            && is_destructive(rows, &node)?
        {
            waiting.push(ino);
        }
    }
    Ok(waiting)
}

/// Holds those of these that remove or overwrite something and that no person has let go; answers how many were not held.
pub fn hold<R: Rows>(rows: &mut R, inodes: &[Ino]) -> Result<usize, R::Error> {
    let mut fresh = 0;
    for ino in inodes {
        let row = rows.outbox(*ino)?.filter(|row| !row.released && !row.held);
        let (Some(mut row), Some(node)) = (row, rows.node(*ino)?) else { continue };
        if is_destructive(rows, &node)? {
            row.held = true;
            rows.set_outbox(*ino, row)?;
            rows.note(*ino, "held: one of very many removals or overwrites at once")?;
            fresh += 1;
        }
    }
    Ok(fresh)
}

/// Lets everything go that waits now: a person looked at it.
pub fn release<R: Rows>(rows: &mut R) -> Result<(), R::Error> {
    for ino in rows.outbox_all()? {
        if let Some(mut row) = rows.outbox(ino)?.filter(|row| !row.released) {
            row.released = true;
            row.held = false;
            rows.set_outbox(ino, row)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Folders 10 and 20 with this many files each, in the root, which has some of its own.
    struct Two(usize, usize, usize);

    impl Tree for Two {
        type Error = std::convert::Infallible;

        fn above(&mut self, folder: Ino) -> Result<Option<Ino>, Self::Error> {
            Ok((folder != Ino::ROOT).then_some(Ino::ROOT))
        }

        fn files_below(&mut self, folder: Ino, _enough: usize) -> Result<usize, Self::Error> {
            Ok(match folder.0 {
                10 => self.0,
                20 => self.1,
                _ => self.0 + self.1 + self.2,
            })
        }
    }

    fn gone(count: u64, folder: u64, every: i64) -> Vec<Destruction> {
        let one = |number: u64| Destruction {
            ino: Ino(1000 * folder + number),
            since: number.cast_signed() * every,
            folder: Ino(folder),
            gone: false,
            waits: true,
        };
        (0..count).map(one).collect()
    }

    fn held(verdict: Verdict) -> usize {
        match verdict {
            Verdict::Hold(all) => all.len(),
            _ => 0,
        }
    }

    #[test]
    fn more_than_the_limit_and_half_of_a_folder_tree_within_a_minute_is_held() {
        let later = 1000 * SECOND;
        let judge = |tree: &mut Two, all| judge(tree, all, 5, later).unwrap();
        assert_eq!(held(judge(&mut Two(10, 100, 0), gone(6, 10, 1))), 6);
        assert_eq!(judge(&mut Two(12, 100, 0), gone(6, 10, 1)), Verdict::Free, "half, not more");
        assert_eq!(judge(&mut Two(5, 0, 0), gone(5, 10, 1)), Verdict::Free, "not more than guard=");
        assert_eq!(judge(&mut Two(6, 0, 0), gone(6, 10, 13 * SECOND)), Verdict::Free, "slowly");
        assert_eq!(held(judge(&mut Two(6, 0, 0), gone(6, 10, 11 * SECOND))), 6);
    }

    #[test]
    fn what_is_elsewhere_is_not_held_with_it() {
        let mut all = gone(20, 10, 1);
        all.extend(gone(1, 20, 1));
        let Verdict::Hold(held) = judge(&mut Two(20, 100, 0), all, 5, 1000 * SECOND).unwrap()
        else {
            panic!("not held")
        };
        assert_eq!(held.len(), 20);
        assert!(held.iter().all(|ino| ino.0 < 20_000), "{held:?}");
    }

    #[test]
    fn what_was_sent_a_moment_ago_counts_and_is_not_held() {
        let mut all = gone(8, 10, 1);
        all.iter_mut().take(4).for_each(|one| {
            one.gone = true;
            one.waits = false;
        });
        assert_eq!(held(judge(&mut Two(6, 0, 0), all, 5, 1000 * SECOND).unwrap()), 4);
    }

    #[test]
    fn many_rest_until_no_more_come() {
        let all = gone(6, 10, 1);
        assert_eq!(judge(&mut Two(100, 0, 0), all.clone(), 5, SECOND).unwrap(), Verdict::Rest);
        assert_eq!(judge(&mut Two(100, 0, 0), all, 5, 3 * SECOND).unwrap(), Verdict::Free);
    }

    /// 2,500 folders with 40 files each in one, of which 20 go, over some minutes.
    struct Counting(HashMap<Ino, u32>);

    impl Tree for Counting {
        type Error = std::convert::Infallible;

        fn above(&mut self, folder: Ino) -> Result<Option<Ino>, Self::Error> {
            Ok((folder != Ino::ROOT).then_some(Ino::ROOT))
        }

        fn files_below(&mut self, folder: Ino, enough: usize) -> Result<usize, Self::Error> {
            *self.0.entry(folder).or_default() += 1;
            let files = if folder == Ino::ROOT { 100_000 } else { 40 };
            Ok(files.min(enough))
        }
    }

    /// Each second of a mass change was judged anew, each folder counted again, in the writer's transaction.
    #[test]
    fn regression_each_folder_is_counted_a_few_times_however_long_it_takes() {
        let one = |number: u64| Destruction {
            ino: Ino(1_000_000 + number),
            since: number.cast_signed() * SECOND / 200,
            folder: Ino(10 + number / 20),
            gone: false,
            waits: true,
        };
        let mut tree = Counting(HashMap::new());
        let all = (0..50_000).map(one).collect();
        assert_eq!(judge(&mut tree, all, 10, 1000 * SECOND).unwrap(), Verdict::Free);
        assert!(tree.0.len() >= 2500);
        assert!(tree.0.values().all(|times| *times <= 6), "{:?}", tree.0.values().max());
        assert!(tree.0.values().sum::<u32>() <= 2 * 2500 + 6);
    }

    /// A window that weighs no more than one that was too little can hold others than it, if that one was held.
    #[test]
    fn who_comes_into_a_tree_that_is_held_is_held() {
        let mut all = gone(20, 10, SECOND);
        all.extend(gone(20, 10, SECOND).into_iter().map(|one| Destruction {
            ino: Ino(one.ino.0 + 500),
            since: one.since + 50 * SECOND,
            ..one
        }));
        assert_eq!(held(judge(&mut Two(30, 0, 0), all, 5, 1000 * SECOND).unwrap()), 40);
    }
}
