//! Which parts of which files were used when: what goes first when room is needed. Memory only; of what is not noted here
//! the catalog's last use of the whole file holds.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::model::{BLOCK, BlockSet, Ino};

/// Bytes whose last use is noted together.
pub(crate) const REGION: u64 = 1 << 20;
const BLOCKS: u32 = (REGION / BLOCK) as u32;
/// How many regions are known, at most: 256 GiB of files in use, in about 12 MiB.
const MOST: usize = 1 << 18;

/// Is a part of a file with one last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// What is in no noted region.
    Rest,
    /// A region.
    Region(u32),
}

/// Is when a part was last used, nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) when: i64,
    pub(crate) ino: Ino,
    pub(crate) part: Part,
}

#[derive(Debug)]
struct File {
    /// When it was last used before any of its regions was.
    before: i64,
    regions: BTreeMap<u32, i64>,
}

/// Is what is known of uses.
#[derive(Debug, Default)]
pub(crate) struct Heat {
    files: HashMap<Ino, File>,
    count: usize,
}

impl Heat {
    /// Notes that bytes are used now; `before` answers when the file was used before, if nothing is known of it yet.
    pub(crate) fn note(
        &mut self,
        ino: Ino,
        bytes: &Range<u64>,
        now: i64,
        before: impl FnOnce() -> i64,
    ) {
        let file = self
            .files
            .entry(ino)
            .or_insert_with(|| File { before: before(), regions: BTreeMap::new() });
        for region in regions(bytes) {
            self.count += usize::from(file.regions.insert(region, now).is_none());
        }
        if self.count > MOST {
            self.forget_older_half();
        }
    }

    /// All that is noted, in no order.
    pub(crate) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::with_capacity(self.count + self.files.len());
        for (ino, file) in &self.files {
            uses.push(Use { when: file.before, ino: *ino, part: Part::Rest });
            let region = |(region, when): (&u32, &i64)| {
                let part = Part::Region(*region);
                Use { when: *when, ino: *ino, part }
            };
            uses.extend(file.regions.iter().map(region));
        }
        uses
    }

    /// The blocks in noted regions of a file.
    pub(crate) fn noted(&self, ino: Ino) -> BlockSet {
        let mut blocks = BlockSet::default();
        let regions = self.files.get(&ino).into_iter().flat_map(|file| file.regions.keys());
        regions.for_each(|region| blocks.insert(blocks_of(*region)));
        blocks
    }

    /// Forgets a region whose bytes are given back.
    pub(crate) fn forget_region(&mut self, ino: Ino, region: u32) {
        if let Some(file) = self.files.get_mut(&ino) {
            self.count -= usize::from(file.regions.remove(&region).is_some());
        }
    }

    /// Forgets a file whose bytes are gone.
    pub(crate) fn forget(&mut self, ino: Ino) {
        if let Some(file) = self.files.remove(&ino) {
            self.count -= file.regions.len();
        }
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<i64> =
            self.files.values().flat_map(|file| file.regions.values()).copied().collect();
        let (_, middle, _) = times.select_nth_unstable(self.count / 2);
        let middle = *middle;
        for file in self.files.values_mut() {
            file.regions.retain(|_, when| *when > middle);
        }
        self.files.retain(|_, file| !file.regions.is_empty());
        self.count = self.files.values().map(|file| file.regions.len()).sum();
    }
}

fn regions(bytes: &Range<u64>) -> Range<u32> {
    let number = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
    number(bytes.start / REGION)..number(bytes.end.div_ceil(REGION))
}

/// The blocks of a region.
pub(crate) fn blocks_of(region: u32) -> Range<u32> {
    let first = region.saturating_mul(BLOCKS);
    first..first.saturating_add(BLOCKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ino = Ino(7);
    const B: Ino = Ino(8);

    fn parts(heat: &Heat) -> Vec<(i64, Ino, Part)> {
        let mut uses = heat.uses();
        uses.sort_by_key(|one| one.when);
        uses.into_iter().map(|one| (one.when, one.ino, one.part)).collect()
    }

    #[test]
    fn parts_are_as_old_as_their_last_use() {
        let mut heat = Heat::default();
        heat.note(A, &(0..2 * REGION), 10, || 3);
        heat.note(B, &(5..6), 20, || 4);
        heat.note(A, &(REGION..REGION + 1), 30, || 99);
        let all = [
            (3, A, Part::Rest),
            (4, B, Part::Rest),
            (10, A, Part::Region(0)),
            (20, B, Part::Region(0)),
            (30, A, Part::Region(1)),
        ];
        assert_eq!(parts(&heat), all);
        assert_eq!(heat.noted(A).runs(), std::slice::from_ref(&(0..2 * BLOCKS)));
        heat.forget_region(A, 0);
        heat.forget(B);
        assert_eq!(parts(&heat), [all[0], all[4]]);
    }

    #[test]
    fn what_is_known_is_bounded_and_the_oldest_goes() {
        let mut heat = Heat::default();
        for at in 0..=MOST as u64 {
            heat.note(A, &(at * REGION..at * REGION + 1), at as i64, || 0);
        }
        assert!(heat.count <= MOST / 2 + 1 && heat.count == heat.uses().len() - 1);
        assert!(heat.noted(A).has(MOST as u64 * REGION..MOST as u64 * REGION + 1));
        assert!(!heat.noted(A).has(0..1));
    }
}
