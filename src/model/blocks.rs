//! Block sets: which 16 KiB blocks of a file are here.

use std::ops::Range;

use roaring::RoaringBitmap;

/// Bytes in a block, the unit of presence. Fetches are runs of many blocks; this small, random reads fetch what they ask.
pub const BLOCK: u64 = 16 * 1024;

/// Is a set of blocks of one file, numbered from 0. Up to 64 TiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockSet(RoaringBitmap);

impl BlockSet {
    /// The largest file whose blocks all have numbers.
    pub const LARGEST: u64 = u32::MAX as u64 * BLOCK;

    /// How many blocks a file of `size` bytes has.
    pub fn count_for(size: u64) -> u64 {
        size.div_ceil(BLOCK)
    }

    /// The blocks that the byte range touches.
    pub fn touched(bytes: Range<u64>) -> Range<u32> {
        let last = bytes.end.div_ceil(BLOCK);
        to_block(bytes.start / BLOCK)..to_block(last)
    }

    /// The blocks that lie wholly in the byte range of a file of `size` bytes; its last, short block counts as whole when
    /// the range reaches the end of the file.
    pub fn covered(bytes: Range<u64>, size: u64) -> Range<u32> {
        let first = bytes.start.div_ceil(BLOCK);
        let last = if bytes.end >= size { Self::count_for(size) } else { bytes.end / BLOCK };
        to_block(first)..to_block(last.max(first))
    }

    /// Whether all bytes of the range are here.
    pub fn has(&self, bytes: Range<u64>) -> bool {
        let blocks = Self::touched(bytes);
        blocks.is_empty() || self.0.contains_range(blocks)
    }

    /// Whether all of a file of `size` bytes is here.
    pub fn is_full(&self, size: u64) -> bool {
        self.0.range_cardinality(0..to_block(Self::count_for(size))) == Self::count_for(size)
    }

    /// Adds blocks.
    pub fn insert(&mut self, blocks: Range<u32>) {
        self.0.insert_range(blocks);
    }

    /// Takes blocks away.
    pub fn remove(&mut self, blocks: Range<u32>) {
        self.0.remove_range(blocks);
    }

    /// Forgets every block that begins at or beyond `size` bytes.
    pub fn truncate(&mut self, size: u64) {
        self.0.remove_range(to_block(Self::count_for(size))..);
    }

    /// Adds all blocks of `other`.
    pub fn union(&mut self, other: &Self) {
        self.0 |= &other.0;
    }

    /// Keeps only what is in `other` as well.
    pub fn intersect(&mut self, other: &Self) {
        self.0 &= &other.0;
    }

    /// Takes all blocks of `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.0 -= &other.0;
    }

    /// The runs of blocks in this set, in order.
    pub fn runs(&self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for block in &self.0 {
            match runs.last_mut() {
                Some(last) if last.end == block => last.end = block.saturating_add(1),
                _ => runs.push(block..block.saturating_add(1)),
            }
        }
        runs
    }

    /// Its last blocks, `count` of them, or all.
    pub fn last(&self, count: u64) -> Self {
        let before = self.len().saturating_sub(count);
        Self(self.0.iter().skip(usize::try_from(before).unwrap_or(usize::MAX)).collect())
    }

    /// The runs of blocks in `within` that are absent, in order.
    pub fn absent(&self, within: Range<u32>) -> Vec<Range<u32>> {
        let mut runs = Vec::new();
        let mut at = within.start;
        for block in self.0.range(within.clone()) {
            if block > at {
                runs.push(at..block);
            }
            at = block + 1;
        }
        if at < within.end {
            runs.push(at..within.end);
        }
        runs
    }

    /// The bytes of a run of blocks in a file of `size` bytes.
    pub fn bytes(run: &Range<u32>, size: u64) -> Range<u64> {
        (u64::from(run.start) * BLOCK).min(size)..(u64::from(run.end) * BLOCK).min(size)
    }

    /// How many blocks are here.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether no block is here.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes of a file of `size` bytes are here.
    pub fn present_bytes(&self, size: u64) -> u64 {
        let blocks = Self::count_for(size);
        if blocks == 0 {
            return 0;
        }
        let last = to_block(blocks - 1);
        let whole = self.0.range_cardinality(0..last) * BLOCK;
        whole + if self.0.contains(last) { size - u64::from(last) * BLOCK } else { 0 }
    }

    /// The portable form of Roaring bitmaps, for the catalog.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        // Writing to a Vec cannot fail; were it to, an empty set only means that blocks are fetched again.
        if self.0.serialize_into(&mut bytes).is_err() {
            bytes.clear();
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; what cannot be read is the empty set, so its blocks are fetched again.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(RoaringBitmap::deserialize_from(bytes).unwrap_or_default())
    }
}

fn to_block(block: u64) -> u32 {
    u32::try_from(block).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_last_block_counts_when_the_range_reaches_the_end() {
        assert_eq!(BlockSet::covered(0..BLOCK + 10, BLOCK + 10), 0..2);
        assert_eq!(BlockSet::covered(0..BLOCK + 9, BLOCK + 10), 0..1);
        assert_eq!(BlockSet::covered(1..BLOCK, 3 * BLOCK), 1..1);
    }

    #[test]
    fn absent_runs_are_what_is_not_there() {
        let mut set = BlockSet::default();
        set.insert(2..4);
        set.insert(6..7);
        assert_eq!(set.absent(0..8), vec![0..2, 4..6, 7..8]);
        assert_eq!(set.absent(2..4), Vec::<Range<u32>>::new());
    }

    #[test]
    fn present_bytes_count_the_short_end_once() {
        let mut set = BlockSet::default();
        set.insert(0..2);
        assert_eq!(set.present_bytes(BLOCK + 10), BLOCK + 10);
        assert!(set.is_full(BLOCK + 10));
        assert!(!set.is_full(2 * BLOCK + 1));
        assert!(BlockSet::default().is_full(0));
    }

    #[test]
    fn bytes_round_trip_and_rubbish_is_empty() {
        let mut set = BlockSet::default();
        set.insert(5..900);
        assert_eq!(BlockSet::from_bytes(&set.to_bytes()), set);
        assert!(BlockSet::from_bytes(b"rubbish").is_empty());
    }
}
