//! Read-ahead of one reader: none for random readers, growing for those that go on in order.

use std::ops::Range;

/// The first window, bytes.
const FIRST: u64 = 256 << 10;
/// The largest window, bytes.
const LARGEST: u64 = 16 << 20;
/// How far beyond the expected offset still counts as going on in order: the kernel's own parallel read-ahead.
const SLACK: u64 = 1 << 20;

/// Follows one reader and says how much to fetch.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Where the last read ended.
    expected: u64,
    /// How much is read ahead now; 0 until the reader has gone on in order.
    ahead: u64,
    /// How much was read in order up to now: no more than that is read ahead, however small the reads are.
    run: u64,
}

impl Window {
    /// What to fetch for a read of `asked`: at least that.
    pub(crate) fn advance(&mut self, asked: &Range<u64>) -> Range<u64> {
        let in_order = asked.start <= self.expected + SLACK && asked.end + SLACK >= self.expected;
        let begun = self.expected > 0 || asked.start == 0;
        if in_order && begun && asked.end > self.expected {
            let first_read = self.expected == 0;
            let most = self.run.clamp(FIRST, LARGEST);
            self.ahead = if first_read { 0 } else { (self.ahead * 2).clamp(FIRST, most) };
            self.run += asked.end - self.expected.max(asked.start);
        } else if !in_order {
            self.ahead = 0;
            self.run = asked.end - asked.start;
        }
        self.expected = if in_order { self.expected.max(asked.end) } else { asked.end };
        asked.start..asked.end + self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_in_order_gets_a_growing_window() {
        let mut window = Window::default();
        let mut at = 0;
        let mut last = 0;
        for _ in 0..20 {
            let fetched = window.advance(&(at..at + 131_072));
            assert!(fetched.start == at && fetched.end >= at + 131_072);
            last = fetched.end - at;
            at += 131_072;
        }
        assert!(last > 2 << 20, "{last}");
        while at < LARGEST * 2 {
            last = window.advance(&(at..at + 131_072)).end - at;
            at += 131_072;
        }
        assert_eq!(last, LARGEST + 131_072);
    }

    #[test]
    fn a_short_look_in_order_reads_ahead_no_more_than_it_read() {
        for piece in [4096, 16 << 10, 128 << 10, 1 << 20] {
            let mut window = Window::default();
            let middle = 512 << 20;
            let mut end = 0;
            for at in (middle..middle + (1 << 20)).step_by(piece) {
                end = window.advance(&(at..at + piece as u64)).end;
            }
            assert!(end - middle <= 2 << 20, "reads of {piece} fetched {}", end - middle);
        }
    }

    #[test]
    fn a_random_reader_gets_what_it_asked() {
        let mut window = Window::default();
        for at in [700_000_000u64, 3_000_000, 900_000_000, 64_000_000] {
            assert_eq!(window.advance(&(at..at + 65_536)), at..at + 65_536);
        }
    }
}
