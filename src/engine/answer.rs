//! How a verb answers: at once, after a commit, or when the remote has answered. A door cannot block by mistake.

use futures_util::future::BoxFuture;

use super::EngineError;

/// Is called exactly once with the outcome of a verb.
pub type Done<T> = Box<dyn FnOnce(Result<T, EngineError>) + Send>;

/// Is the answer of a verb.
#[must_use = "an answer nobody gives leaves a program waiting"]
pub enum Answer<T> {
    /// Known now, from catalog and cache.
    Ready(Result<T, EngineError>),
    /// Given by the catalog's writer thread after its commit: call this with what is to be done with the outcome. It returns
    /// at once.
    Queued(Box<dyn FnOnce(Done<T>) + Send>),
    /// Needs disk flushes, or the remote: to be spawned on the runtime.
    Pending(BoxFuture<'static, Result<T, EngineError>>),
}

impl<T: Send + 'static> Answer<T> {
    /// The same answer with another value.
    pub(super) fn map<U: 'static>(self, give: impl FnOnce(T) -> U + Send + 'static) -> Answer<U> {
        match self {
            Self::Ready(outcome) => Answer::Ready(outcome.map(give)),
            Self::Pending(future) => {
                Answer::Pending(Box::pin(async move { future.await.map(give) }))
            }
            Self::Queued(queue) => Answer::Queued(Box::new(move |done| {
                queue(Box::new(move |outcome| done(outcome.map(give))));
            })),
        }
    }

    /// Waits for the answer, for callers that may wait.
    pub async fn wait(self) -> Result<T, EngineError> {
        match self {
            Self::Ready(outcome) => outcome,
            Self::Pending(future) => future.await,
            Self::Queued(queue) => {
                let (send, receive) = tokio::sync::oneshot::channel();
                queue(Box::new(move |outcome| {
                    // A caller that went away no longer wants the outcome.
                    drop(send.send(outcome));
                }));
                receive.await.unwrap_or(Err(EngineError::Stopped))
            }
        }
    }
}

impl<T: Send + 'static> Answer<T> {
    /// The same, for an outcome that must be taken back if whoever waits goes away before it is given.
    pub(super) async fn wait_or(
        self,
        take_back: impl FnOnce(T) + Send + 'static,
    ) -> Result<T, EngineError> {
        let Self::Queued(queue) = self else { return self.wait().await };
        let (send, receive) = tokio::sync::oneshot::channel();
        queue(Box::new(move |outcome| {
            let take_back: TakeBack<T> = Box::new(take_back);
            drop(send.send(outcome.map(|value| Untaken(Some((value, take_back))))));
        }));
        let untaken: Result<Untaken<T>, EngineError> =
            receive.await.unwrap_or(Err(EngineError::Stopped));
        untaken?.take().ok_or(EngineError::Stopped)
    }
}

/// Is an outcome on its way, and what takes it back if it never arrives.
struct Untaken<T>(Option<(T, TakeBack<T>)>);

type TakeBack<T> = Box<dyn FnOnce(T) + Send>;

impl<T> Untaken<T> {
    fn take(mut self) -> Option<T> {
        self.0.take().map(|(value, _)| value)
    }
}

impl<T> Drop for Untaken<T> {
    fn drop(&mut self) {
        if let Some((value, take_back)) = self.0.take() {
            take_back(value);
        }
    }
}

impl<T> From<EngineError> for Answer<T> {
    fn from(error: EngineError) -> Self {
        Self::Ready(Err(error))
    }
}
