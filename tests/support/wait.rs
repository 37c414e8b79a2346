//! Waiting for a state, which is looked at again and again, with a limit: whatever waits in tests waits here.

use std::time::{Duration, Instant};

/// How long what must come may take: these machines are slow and busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until there is something; `None` if there is nothing within the limit.
pub(crate) fn found_within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        match look() {
            None if Instant::now() < end => std::thread::sleep(PAUSE),
            found => return found,
        }
    }
}

/// Looks until it holds; whether it did within the limit.
pub(crate) fn holds_within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    found_within(limit, || holds().then_some(())).is_some()
}

/// Looks until it holds, and fails with `what` if it does not within the limit.
pub(crate) fn until(limit: Duration, what: &str, holds: impl FnMut() -> bool) {
    assert!(holds_within(limit, holds), "not in {limit:?}: {what}");
}

/// [`found_within`] on a runtime, by whose clock.
pub(crate) async fn found_soon<T>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let end = tokio::time::Instant::now() + limit;
    loop {
        match look().await {
            None if tokio::time::Instant::now() < end => tokio::time::sleep(PAUSE).await,
            found => return found,
        }
    }
}

/// [`holds_within`] on a runtime, by whose clock.
pub(crate) async fn holds_soon(limit: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    found_soon(limit, async || holds().await.then_some(())).await.is_some()
}
