//! Since when files are being written, whatever their rows tell of earlier changes. Memory only.

use std::collections::HashMap;
use std::time::Duration;

use super::core::steady;
use super::send::nanos;
use crate::model::Ino;

/// Who opens a file for writing so soon after the last writer closed it goes on writing: some open it anew for each line.
const GOES_ON: Duration = Duration::from_secs(2);
/// How many are remembered at least before those who ended are forgotten.
const REMEMBERED: usize = 1024;

/// Is a time without a pause in which somebody had a file open for writing.
#[derive(Clone, Copy, Debug)]
struct Span {
    since: i64,
    /// When the last writer closed it, if nobody has it open for writing.
    ended: Option<i64>,
}

impl Span {
    fn goes_on(&self, now: i64) -> bool {
        self.ended.is_none_or(|ended| now.saturating_sub(ended) < nanos(GOES_ON))
    }
}

/// Remembers since when files are being written.
#[derive(Debug, Default)]
pub(super) struct Writing {
    spans: HashMap<Ino, Span>,
    most: usize,
}

impl Writing {
    /// The first writer opens a file.
    pub(super) fn begun(&mut self, ino: Ino) {
        let now = steady();
        let before = self.spans.get(&ino).filter(|span| span.goes_on(now));
        let since = before.map_or(now, |span| span.since);
        self.spans.insert(ino, Span { since, ended: None });
        if self.spans.len() > self.most.max(REMEMBERED) {
            self.spans.retain(|_, span| span.goes_on(now));
            self.most = 2 * self.spans.len();
        }
    }

    /// The last writer has closed it.
    pub(super) fn ended(&mut self, ino: Ino) {
        if let Some(span) = self.spans.get_mut(&ino) {
            span.ended = Some(steady());
        }
    }

    /// Since when it is being written; of what nobody has open for writing, since when it was.
    pub(super) fn since(&self, ino: Ino) -> Option<i64> {
        self.spans.get(&ino).map(|span| span.since)
    }
}
