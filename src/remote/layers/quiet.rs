//! How long a remote is left alone that wants fewer requests.

use std::time::Duration;

use tokio::time::Instant;

/// The longest time for which one answer keeps everything else from being asked.
const LONGEST: Duration = Duration::from_secs(600);
/// The first such time where the remote names none, and the longest; each time that it says so again the time doubles.
const FIRST_UNNAMED: Duration = Duration::from_secs(1);
const LONGEST_UNNAMED: Duration = Duration::from_secs(60);

/// Says until when the remote wants to be asked no more.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    pub(super) until: Option<Instant>,
    /// How often it wanted that in a row without naming a time.
    unnamed: u32,
}

impl Quiet {
    /// Notes that it wants fewer requests, for a time that it named or did not.
    pub(super) fn wanted(&mut self, after: Option<Duration>) {
        let now = Instant::now();
        if let Some(after) = after {
            self.until = self.until.max(Some(now + after.min(LONGEST)));
        } else if self.until.is_none_or(|until| until <= now) {
            // Several were under way when it began to say so: that is once.
            let wait = FIRST_UNNAMED.saturating_mul(1 << self.unnamed.min(10));
            self.until = Some(now + wait.min(LONGEST_UNNAMED));
            self.unnamed += 1;
        }
    }

    /// Notes any other answer.
    pub(super) fn ended(&mut self) {
        self.unnamed = 0;
    }
}
