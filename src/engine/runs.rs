//! Which runs of a file are fetched side by side.

use std::ops::Range;

use super::core::Cause;
use super::live::State;
use crate::model::{BLOCK, BlockSet};

/// Longest run fetched by one request, bytes: others may fetch beside it.
const LONGEST: u64 = 64 << 20;
/// How many runs of one file are under way at once, but for what somebody needs now: a file that is fetched as a whole leaves
/// the others their share of the requests.
const AT_ONCE: usize = 4;

/// More than a program asks for at once, bytes.
const MUCH: u64 = 4 << 20;

/// Whether so much is asked for that what cannot be had of it is left for the end.
pub(super) fn is_patient(need: &Range<u64>, cause: Cause) -> bool {
    !cause.is_program() || need.end.saturating_sub(need.start) > MUCH
}

/// Cuts absent runs into such as are fetched side by side, and takes those that may begin beside `under_way` others: all in
/// which a reader needs something; of a need longer than a run, as of everything else, so many as there is room for. Who
/// waits for more asks again when something has come.
pub(super) fn to_begin(
    absent: Vec<Range<u32>>,
    under_way: usize,
    need: &Range<u64>,
) -> Vec<Range<u32>> {
    let needed = BlockSet::touched(need.clone());
    let is_short = need.end.saturating_sub(need.start) <= LONGEST;
    let mut room = AT_ONCE.saturating_sub(under_way);
    let mut may_begin = |run: &Range<u32>| {
        let is_needed = is_short && run.start < needed.end && needed.start < run.end;
        let has_room = room > 0;
        room = room.saturating_sub(1);
        is_needed || has_room
    };
    absent.into_iter().flat_map(cut).filter(|run| may_begin(run)).collect()
}

fn cut(run: Range<u32>) -> impl Iterator<Item = Range<u32>> {
    let most = u32::try_from(LONGEST / BLOCK).unwrap_or(u32::MAX);
    (run.start..run.end)
        .step_by(most as usize)
        .map(move |start| start..start.saturating_add(most).min(run.end))
}

impl State {
    /// Leaves the block at which a run failed for the end; more of them with each that fails right behind it.
    pub(super) fn let_rest(&mut self, run: &Range<u32>) {
        let absent =
            if self.hydrated { None } else { self.blocks.absent(run.clone()).into_iter().next() };
        let Some(from) = absent.map(|absent| absent.start) else { return };
        match self.resting.iter_mut().find(|rests| rests.contains(&from) || rests.end == from) {
            Some(rests) => {
                let more = (rests.end - rests.start).saturating_mul(2);
                rests.end = rests.end.max(rests.start.saturating_add(more).min(run.end));
            }
            None => self.resting.push(from..from.saturating_add(1).min(run.end)),
        }
    }

    /// Without those that are left for the end; when all others are here, these.
    pub(super) fn untried(&mut self, runs: Vec<Range<u32>>) -> Vec<Range<u32>> {
        let left = self.without_resting(&runs);
        if left.is_empty() && self.fetching.is_empty() {
            self.resting.clear();
            return runs;
        }
        left
    }

    /// Whether something of it did not fail and is not left for the end because of that.
    pub(super) fn has_untried(&self, need: &Range<u64>) -> bool {
        !self.resting.is_empty() && !self.without_resting(&self.wanting(need.clone())).is_empty()
    }

    fn without_resting(&self, runs: &[Range<u32>]) -> Vec<Range<u32>> {
        let mut resting = BlockSet::default();
        self.resting.iter().for_each(|rests| resting.insert(rests.clone()));
        runs.iter().flat_map(|run| resting.absent(run.clone())).collect()
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    const RUN: u32 = 4096;

    /// One file of more than 768 MiB took all requests there may be at once; what waited for its turn counted as not answered.
    #[test]
    fn regression_a_large_file_leaves_requests_to_the_others() {
        let whole = 0..100 * LONGEST;
        let begun = to_begin(vec![0..100 * RUN], 0, &whole);
        assert_eq!(begun, [0..RUN, RUN..2 * RUN, 2 * RUN..3 * RUN, 3 * RUN..4 * RUN]);
        assert_eq!(to_begin(vec![4 * RUN..100 * RUN], 3, &whole), [4 * RUN..5 * RUN]);
        assert!(to_begin(vec![4 * RUN..100 * RUN], 4, &whole).is_empty());
    }

    #[test]
    fn what_a_reader_needs_begins_whatever_is_under_way() {
        let piece = 50 * LONGEST - 10..50 * LONGEST + 10;
        let begun = to_begin(vec![8 * RUN..100 * RUN], 9, &piece);
        assert_eq!(begun, [49 * RUN..50 * RUN, 50 * RUN..51 * RUN]);
        assert_eq!(to_begin(vec![7..9], 4, &(8 * BLOCK..8 * BLOCK + 1)), [7..9]);
    }
}
