//! Contents that came wrong, from a remote whose answers cannot be right: each is asked for again, but later and later.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Cause;
use super::open::lock;
use crate::model::{Ino, Version};

/// The wait after the second time; the first may have been chance.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest for a program, which can ask again itself, and for what nobody waits for.
const LONGEST: Duration = Duration::from_secs(30);
const LONGEST_ALONE: Duration = Duration::from_secs(3600);
/// So many are remembered.
const MOST: usize = 4096;

/// Is what came wrong, and how often in a row.
#[derive(Debug, Default)]
pub(super) struct Wrong(Mutex<HashMap<Ino, Times>>);

#[derive(Debug)]
struct Times {
    version: Version,
    count: u32,
    last: Instant,
}

impl Wrong {
    pub(super) fn note(&self, ino: Ino, version: &Version) {
        let mut all = lock(&self.0);
        if all.len() >= MOST {
            all.retain(|_, times| times.last.elapsed() < LONGEST);
        }
        let last = Instant::now();
        let times = all.entry(ino).or_insert(Times { version: version.clone(), count: 0, last });
        if times.version != *version {
            *times = Times { version: version.clone(), count: 0, last };
        }
        times.count += 1;
        times.last = last;
    }

    /// It came as it should.
    pub(super) fn forget(&self, ino: Ino) {
        lock(&self.0).remove(&ino);
    }

    /// Whether it is too soon to ask for this version again.
    pub(super) fn is_too_soon(&self, ino: Ino, version: &Version, cause: Cause) -> bool {
        let all = lock(&self.0);
        let Some(times) = all.get(&ino).filter(|times| times.version == *version) else {
            return false;
        };
        let Some(again) = times.count.checked_sub(2) else { return false };
        let longest = if cause.is_program() { LONGEST } else { LONGEST_ALONE };
        times.last.elapsed() < FIRST_WAIT.saturating_mul(1 << again.min(20)).min(longest)
    }
}
