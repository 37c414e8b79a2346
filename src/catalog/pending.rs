//! How many items below each folder are not in sync, kept with every commit.
//!
//! They are counted once, when somebody first asks; before that nothing here costs anything. From then on the writer notes of
//! each item, before a statement changes rows of it, where it stands and whether it waits. Before the commit it looks at those
//! once more, and what differs goes up the folders above. What grows is told before the commit and what shrinks after it:
//! who sees that an item waits never sees less in its folders.
//!
//! [`Reader::pending_folders`] says what is counted. Builds for tests compare with it now and then.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::codec::{self, int};
use super::reader_sync::to_send;
use super::{Reader, Result, Tx};
use crate::model::Ino;

/// Folders above each other that are followed. Beyond that rows make a circle.
const DEEPEST: usize = 10_000;

/// Commits between two comparisons with the rows, in builds for tests.
const COMPARED: u32 = 2;

/// Asks for what stands in [`Standing`].
pub(super) const STANDING: &str = concat!(
    "SELECT COALESCE((SELECT i.parent FROM inode i WHERE i.ino = ?1),
                     (SELECT b.parent FROM base b WHERE b.endpoint = 0 AND b.ino = ?1)),
            EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = ?1 AND ",
    to_send!(),
    ")"
);

/// Is a folder with items below it that are not in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    above: Option<Ino>,
    pub(super) count: u64,
}

type Folders = HashMap<Ino, Folder>;

/// Tells how many items below a folder are not in sync; cheap to clone.
#[derive(Clone, Debug)]
pub struct PendingCounts {
    folders: Arc<Mutex<Folders>>,
}

impl PendingCounts {
    /// How many items below a folder are not in sync, at any depth; what was deleted counts where the remote has it.
    pub fn below(&self, folder: Ino) -> u64 {
        self.get(folder).map_or(0, |folder| folder.count)
    }

    fn get(&self, folder: Ino) -> Option<Folder> {
        self.lock().get(&folder).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Folders> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> HashMap<Ino, Folder> {
        self.lock().clone()
    }
}

/// Is where the counts are once somebody asked for them.
pub(super) type Kept = Arc<OnceLock<PendingCounts>>;

/// Is what rows say of an item or folder that the counts are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// The folder it counts in.
    above: Option<Ino>,
    /// Whether it is not in sync.
    waits: bool,
}

/// Is a folder that a commit changes the count of: what it was, and what it becomes.
struct Turn {
    folder: Ino,
    was: Option<Folder>,
    becomes: Option<Folder>,
}

/// Is what a transaction changes of the counts.
pub(super) struct Counting {
    kept: Kept,
    /// How those stood at its beginning that it changed rows of.
    before: HashMap<Ino, Standing>,
    /// Whether rows changed that nobody noted.
    unnoted: bool,
    turns: Vec<Turn>,
    compared: u32,
}

impl Counting {
    pub(super) fn new(kept: Kept) -> Self {
        Self { kept, before: HashMap::new(), unnoted: false, turns: Vec::new(), compared: 0 }
    }

    /// Notes that rows of any item may have changed.
    pub(super) fn lose_track(&mut self) {
        self.unnoted = self.kept.get().is_some();
    }
}

impl Tx {
    /// Notes how an item stands, before the first statement of this transaction that changes rows of it.
    pub(super) fn note_standing(&self, ino: Ino) -> Result<()> {
        let is_known = |counting: &Counting| {
            counting.kept.get().is_none() || counting.before.contains_key(&ino)
        };
        if !is_known(&self.counting.borrow()) {
            let standing = self.standing(ino)?;
            self.counting.borrow_mut().before.insert(ino, standing);
        }
        Ok(())
    }

    /// Notes that an item is new in this transaction.
    pub(super) fn note_new(&self, ino: Ino) {
        let mut counting = self.counting.borrow_mut();
        if counting.kept.get().is_some() {
            counting.before.entry(ino).or_default();
        }
    }

    /// Counts all that is not in sync, between two transactions, unless that was done.
    pub(super) fn count_pending(&self) -> Result<PendingCounts> {
        let kept = self.counting.borrow().kept.clone();
        if let Some(counts) = kept.get() {
            return Ok(counts.clone());
        }
        let folders = Arc::new(Mutex::new(self.pending_folders()?));
        Ok(kept.get_or_init(|| PendingCounts { folders }).clone())
    }

    /// Finds out what becomes of the counts with this transaction, as the last thing before its commit, and tells what grows.
    pub(super) fn foresee_counts(&self) -> Result<()> {
        let mut counting = self.counting.borrow_mut();
        let Some(counts) = counting.kept.get().cloned() else { return Ok(()) };
        if counting.before.is_empty() && !counting.unnoted {
            return Ok(());
        }
        let before = std::mem::take(&mut counting.before);
        let foreseen = match counting.unnoted {
            true => None,
            false => Draft::new(&self.reader, &counts).after(&before)?,
        };
        counting.compared += 1;
        if let Some(foreseen) = &foreseen
            && cfg!(debug_assertions)
            && counting.compared.is_multiple_of(COMPARED)
        {
            self.compare_counts(&counts, foreseen)?;
        }
        let foreseen = match foreseen {
            Some(foreseen) => foreseen,
            None => anew(&counts, self.pending_folders()?),
        };
        let mut told = counts.lock();
        let turns = foreseen.into_iter().filter_map(|(folder, becomes)| {
            let was = told.get(&folder).copied();
            let becomes = Some(becomes).filter(|folder| folder.count > 0);
            (was != becomes).then_some(Turn { folder, was, becomes })
        });
        counting.turns = turns.collect();
        for Turn { folder, was, becomes } in &counting.turns {
            if let Some(becomes) = becomes
                && was.is_none_or(|was| was.count < becomes.count)
            {
                told.insert(*folder, *becomes);
            }
        }
        Ok(())
    }

    /// After the commit: tells what shrank.
    pub(super) fn settle_counts(&self) {
        let mut counting = self.counting.borrow_mut();
        counting.unnoted = false;
        counting.turn(|turn| turn.becomes);
    }

    /// After a commit that failed: takes back what was told.
    pub(super) fn take_back_counts(&self) {
        let mut counting = self.counting.borrow_mut();
        counting.before.clear();
        counting.turn(|turn| turn.was);
    }

    /// In builds for tests: what is kept is what the rows say.
    fn compare_counts(&self, counts: &PendingCounts, foreseen: &Folders) -> Result<()> {
        let there = self.reader.uncounted(Reader::pending_folders)?;
        let mut kept = counts.lock().clone();
        kept.extend(foreseen);
        kept.retain(|_, folder| folder.count > 0);
        assert_eq!(kept, there, "the counts of what is not in sync are not those of the rows");
        Ok(())
    }
}

impl Counting {
    fn turn(&mut self, to: impl Fn(&Turn) -> Option<Folder>) {
        let turns = std::mem::take(&mut self.turns);
        let Some(counts) = self.kept.get().filter(|_| !turns.is_empty()) else { return };
        let mut told = counts.lock();
        for turn in turns {
            match to(&turn) {
                Some(folder) => told.insert(turn.folder, folder),
                None => told.remove(&turn.folder),
            };
        }
        if told.is_empty() {
            told.shrink_to_fit();
        }
    }
}

/// What all folders become that were or are counted.
fn anew(counts: &PendingCounts, now: Folders) -> Folders {
    let none = Folder { above: None, count: 0 };
    let mut all: Folders = counts.lock().keys().map(|folder| (*folder, none)).collect();
    all.extend(now);
    all
}

/// Is what becomes of the folders that a transaction touches, over those that are counted.
struct Draft<'a> {
    rows: &'a Reader,
    counts: &'a PendingCounts,
    folders: Folders,
}

impl<'a> Draft<'a> {
    fn new(rows: &'a Reader, counts: &'a PendingCounts) -> Self {
        Self { rows, counts, folders: HashMap::new() }
    }

    /// What becomes of the folders above those that stood so before; `None` if that cannot be told by differences.
    fn after(mut self, before: &HashMap<Ino, Standing>) -> Result<Option<Folders>> {
        let mut changed = Vec::new();
        for (ino, was) in before {
            let is = self.rows.standing(*ino)?;
            if is != *was {
                changed.push((*ino, *was, is));
            }
        }
        let mut moved = Vec::new();
        // A folder that moved is taken out with all it holds, and put in last, so that in between none is below itself.
        for (ino, was, is) in &changed {
            let Some(folder) = self.known(*ino).filter(|_| was.above != is.above) else { continue };
            let less = folder.count.cast_signed().wrapping_neg();
            if !self.lift(folder.above, less)? {
                return Ok(None);
            }
            self.folders.insert(*ino, Folder { above: None, count: folder.count });
            moved.push((*ino, is.above));
        }
        for (_, was, is) in &changed {
            let out = !was.waits || self.lift(was.above, -1)?;
            if !out || is.waits && !self.lift(is.above, 1)? {
                return Ok(None);
            }
        }
        for (ino, above) in moved {
            let Some(folder) = self.folders.get_mut(&ino) else { continue };
            folder.above = above;
            let count = folder.count.cast_signed();
            if count > 0 && !self.lift(above, count)? {
                return Ok(None);
            }
        }
        Ok(Some(self.folders))
    }

    fn known(&self, folder: Ino) -> Option<Folder> {
        self.folders.get(&folder).copied().or_else(|| self.counts.get(folder))
    }

    /// Adds to a folder and all above it; `false` if they make a circle, or one would hold less than nothing.
    fn lift(&mut self, from: Option<Ino>, by: i64) -> Result<bool> {
        let mut at = from;
        for _ in 0..DEEPEST {
            let Some(ino) = at else { return Ok(true) };
            let folder = match self.folders.entry(ino) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(match self.counts.get(ino) {
                    Some(folder) => folder,
                    None => Folder { above: self.rows.standing(ino)?.above, count: 0 },
                }),
            };
            let Some(count) = folder.count.checked_add_signed(by) else { return Ok(false) };
            folder.count = count;
            at = folder.above;
        }
        Ok(false)
    }
}

impl Reader {
    fn standing(&self, ino: Ino) -> Result<Standing> {
        if ino == Ino::ROOT {
            return Ok(Standing::default());
        }
        let found = self.one(STANDING, [int(ino.0)], |row| {
            let above: Option<i64> = row.get(0)?;
            let above = above.map(|above| Ino(above.cast_unsigned()));
            Ok(Standing { above, waits: row.get(1)? })
        })?;
        Ok(found.unwrap_or_default())
    }

    /// How many items are not in sync in each folder that holds such, at any depth; what was deleted counts where the remote
    /// has it.
    pub(super) fn pending_folders(&self) -> Result<Folders> {
        let sql = concat!(
            "SELECT COALESCE(i.parent, b.parent), COUNT(*) FROM outbox o
             LEFT JOIN inode i ON i.ino = o.ino
             LEFT JOIN base b ON b.endpoint = 0 AND b.ino = o.ino
             WHERE o.endpoint = 0 AND o.ino <> 1 AND ",
            to_send!(),
            " GROUP BY 1"
        );
        let own =
            self.all(sql, [], |row| Ok((row.get::<_, Option<i64>>(0)?, codec::number(row, 1)?)))?;
        let mut folders = Folders::new();
        for (parent, count) in own {
            let mut at = parent.map(|parent| Ino(parent.cast_unsigned()));
            let mut passed = Vec::new();
            while let Some(ino) = at.filter(|ino| !passed.contains(ino)) {
                passed.push(ino);
                let folder = match folders.entry(ino) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        new.insert(Folder { above: self.folder_above(ino)?, count: 0 })
                    }
                };
                folder.count += count;
                at = folder.above;
            }
        }
        Ok(folders)
    }

    /// Whether an item is `top` or lies below it, at any depth; what was deleted lies where the remote has it.
    pub fn is_below(&self, ino: Ino, top: Ino) -> Result<bool> {
        let mut at = ino;
        for _ in 0..DEEPEST {
            if at == top {
                return Ok(true);
            }
            let Some(above) = self.folder_above(at)? else { return Ok(false) };
            at = above;
        }
        Ok(false)
    }

    /// The folder in which users see an item, or the remote last had it.
    fn folder_above(&self, ino: Ino) -> Result<Option<Ino>> {
        Ok(match self.local_place(ino)? {
            Some(place) => Some(place.parent),
            None if ino == Ino::ROOT => None,
            None => self.base_place(ino)?.map(|place| place.parent),
        })
    }
}
