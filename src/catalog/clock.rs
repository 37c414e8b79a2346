//! What time it is: for people, and for deciding what is due.

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, nanoseconds since 1970, as the machine has it: it may jump.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    #[cfg(debug_assertions)]
    let now = now.saturating_add(SHIFT.load(std::sync::atomic::Ordering::Relaxed));
    now
}

/// Now, for what is put off and what is due: it goes on at its pace when the machine's clock is set back. When that is set
/// forward, so is this.
pub fn steady() -> i64 {
    static LAST: Mutex<Option<(i64, Instant)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let here = Instant::now();
    let goes_on = last.map_or(i64::MIN, |(time, then)| {
        let passed = i64::try_from(here.saturating_duration_since(then).as_nanos());
        time.saturating_add(passed.unwrap_or(i64::MAX))
    });
    let time = now().max(goes_on);
    *last = Some((time, here));
    time
}

#[cfg(debug_assertions)]
static SHIFT: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// Lets the clock of this process jump, for a test; nothing of it is in release builds.
#[cfg(debug_assertions)]
pub fn shift_clock(nanoseconds: i64) {
    SHIFT.fetch_add(nanoseconds, std::sync::atomic::Ordering::Relaxed);
}
