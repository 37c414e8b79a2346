//! Searches for room that found nothing: in a full cache of what must stay each of them looks at every file, and each read would make
//! one.

use std::time::{Duration, Instant};

/// What takes longer is not repeated at once.
const LONG: Duration = Duration::from_millis(50);
/// How many times as long as it took a search holds, and how long at most.
const HOLDS: u32 = 4;
const LONGEST: Duration = Duration::from_secs(5);

/// Says how new the answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Nobody began to look before this was asked: a program that writes fails if nothing is found.
    Anew,
    /// One of a moment ago will do: who reads gets its bytes all the same.
    Lately,
}

/// Is the last search that found nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barren {
    begun: Instant,
    ended: Instant,
    /// Bytes sent until it began: what was sent since may go.
    sent: u64,
    /// Whether nothing was left out because the catalog was just being told of it.
    whole: bool,
}

impl Barren {
    pub(crate) fn new(begun: Instant, sent: u64, whole: bool) -> Self {
        Self { begun, ended: Instant::now(), sent, whole }
    }

    /// Whether it answers somebody who asked then.
    pub(crate) fn answers(&self, search: Search, asked: Instant, sent: u64) -> bool {
        if self.begun >= asked && (self.whole || search == Search::Lately) {
            return true;
        }
        let took = self.ended - self.begun;
        if search == Search::Anew || took < LONG {
            return false;
        }
        // What was sent may go, but to find it is as dear as before.
        let times = if sent == self.sent { HOLDS } else { 1 };
        asked.saturating_duration_since(self.ended) < (took * times).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a full cache of pinned files each of 50 readers walked all files, one after the other, before its bytes passed through.
    #[test]
    fn regression_who_waited_for_a_search_does_not_search_again() {
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        let search = |took| Barren { begun, ended: after(took), sent: 7, whole: true };
        let dear = search(1000);
        let before = begun.checked_sub(Duration::from_millis(1)).unwrap_or(begun);
        for how in [Search::Anew, Search::Lately] {
            assert!(dear.answers(how, before, 8), "it began after this was asked");
        }
        let in_part = Barren { whole: false, ..dear };
        assert!(!in_part.answers(Search::Anew, before, 7), "a writer waits for what was left out");
        assert!(in_part.answers(Search::Lately, before, 7));
        assert!(!dear.answers(Search::Anew, after(500), 7));
        assert!(dear.answers(Search::Lately, after(500), 7));
        assert!(dear.answers(Search::Lately, after(4900), 7));
        assert!(!dear.answers(Search::Lately, after(5100), 7));
        assert!(!dear.answers(Search::Lately, after(2100), 8), "something was sent");
        assert!(!search(40).answers(Search::Lately, after(41), 7), "it costs little");
        assert!(!search(10_000).answers(Search::Lately, after(15_100), 7));
    }
}
