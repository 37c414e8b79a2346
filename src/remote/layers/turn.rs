//! How long a request waits for its turn: that is no silence of the remote.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static QUEUE: Arc<Mutex<Waited>>;
}

#[derive(Debug, Default)]
struct Waited {
    /// Since when it waits now.
    since: Option<Instant>,
    before: Duration,
}

/// Knows how long the requests of one future waited for their turn.
#[derive(Debug, Default)]
pub(super) struct Queue(Arc<Mutex<Waited>>);

impl Queue {
    /// Watches a future.
    pub(super) async fn of<F: Future>(&self, work: F) -> F::Output {
        QUEUE.scope(self.0.clone(), work).await
    }

    /// How long it waited so far.
    pub(super) fn waited(&self) -> Duration {
        let waited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waited.before + waited.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether it waits now.
    pub(super) fn is_waiting(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).since.is_some()
    }
}

/// Notes, however it ends, that a wait is over.
struct Waiting(Arc<Mutex<Waited>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let took = waited.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        waited.before += took;
    }
}

/// Waits for a turn, and has that counted by who watches.
pub(super) async fn wait_for_turn<F: Future>(turn: F) -> F::Output {
    let _waiting = QUEUE.try_with(Arc::clone).ok().map(|waited| {
        waited.lock().unwrap_or_else(PoisonError::into_inner).since = Some(Instant::now());
        Waiting(waited)
    });
    turn.await
}

/// Says why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The remote was asked, and says nothing.
    Silent,
    /// It was never asked: others were before it.
    NoTurn,
}

/// How long a deadline may be overrun at most while it is put off.
const SLACK: Duration = Duration::from_millis(50);

/// Resolves with the answer if it comes until the deadline. With `has_time` that is put off for as long as the turn did not come;
/// who has none waits in vain then.
pub(super) async fn answer_until<T>(
    deadline: &mut Instant,
    has_time: bool,
    ask: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    let queue = Queue::default();
    let mut ask = std::pin::pin!(queue.of(ask));
    let mut end = *deadline;
    loop {
        tokio::select! {
            biased;
            answer = &mut ask => {
                if has_time {
                    *deadline += queue.waited();
                }
                return Ok(answer);
            }
            () = tokio::time::sleep_until(end) => {}
        }
        let put_off = if has_time { queue.waited() } else { Duration::ZERO };
        match (queue.is_waiting(), *deadline + put_off <= Instant::now()) {
            (true, _) if has_time => {}
            (true, _) => return Err(NoAnswer::NoTurn),
            (false, true) => return Err(NoAnswer::Silent),
            (false, false) => {}
        }
        end = (*deadline + put_off).max(Instant::now() + SLACK);
    }
}
