//! Threads of one folder remote. What hangs in the kernel (a network file system without its server) hangs here, a few times
//! at most, and nothing else of the program waits behind it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

/// As many as a mount asks for at once.
const MOST: usize = 16;
/// After this long without work a thread ends.
const IDLE: Duration = Duration::from_secs(10);

/// Is a few threads that may wait for a disk, shared by all clones.
#[derive(Clone)]
pub(super) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    jobs: Mutex<Jobs>,
    more: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

struct Job {
    wanted: Wanted,
    act: Box<dyn FnOnce(&Wanted) + Send>,
}

/// Tells whether somebody still waits for an answer: what nobody waits for is not to be done late.
#[derive(Clone, Debug)]
pub(super) struct Wanted(Option<Weak<()>>);

impl Wanted {
    pub(super) fn is_so(&self) -> bool {
        self.0.as_ref().is_none_or(|asker| asker.strong_count() > 0)
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("most", &self.shared.most).finish_non_exhaustive()
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Threads {
    pub(super) fn new(most: usize) -> Self {
        let shared = Shared { most, jobs: Mutex::default(), more: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Runs something that waits for the disk; `None` if it was not run. Whoever stops waiting takes it back unless it runs.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Wanted) -> T + Send + 'static,
    ) -> Option<T> {
        let asker = Arc::new(());
        let (tell, told) = oneshot::channel();
        let job = Job {
            wanted: Wanted(Some(Arc::downgrade(&asker))),
            act: Box::new(move |wanted| drop(tell.send(act(wanted)))),
        };
        self.push(job);
        told.await.ok()
    }

    /// Runs something whose end nobody waits for, as closing a file that may hang.
    pub(super) fn leave(&self, act: impl FnOnce() + Send + 'static) {
        self.push(Job { wanted: Wanted(None), act: Box::new(move |_| act()) });
    }

    fn push(&self, job: Job) {
        let unwanted = self.queue(job);
        // Not under the lock: what a job holds may be given back by another one.
        drop(unwanted);
    }

    /// Queues it and sees that somebody comes for it; answers what nobody waits for any more.
    fn queue(&self, job: Job) -> VecDeque<Job> {
        let mut jobs = self.shared.lock();
        let all = std::mem::take(&mut jobs.waiting);
        let (waiting, mut unwanted): (VecDeque<Job>, VecDeque<Job>) =
            all.into_iter().partition(|job| job.wanted.is_so());
        jobs.waiting = waiting;
        jobs.waiting.push_back(job);
        if jobs.idle >= jobs.waiting.len() {
            self.shared.more.notify_one();
        } else if jobs.threads < self.shared.most {
            let shared = Arc::clone(&self.shared);
            let started = std::thread::Builder::new()
                .name("folder".to_owned())
                .spawn(move || Running(&shared).serve());
            match started {
                Ok(_) => jobs.threads += 1,
                Err(error) if jobs.threads > 0 => {
                    tracing::debug!(%error, "no more threads for the remote");
                }
                // Who asks is told by the job that is dropped.
                Err(error) => {
                    tracing::warn!(%error, "no thread for the remote");
                    unwanted.append(&mut jobs.waiting);
                }
            }
        }
        unwanted
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            jobs.idle += 1;
            let (back, waited) =
                self.more.wait_timeout(jobs, IDLE).unwrap_or_else(PoisonError::into_inner);
            jobs = back;
            jobs.idle -= 1;
            if waited.timed_out() && jobs.waiting.is_empty() {
                return None;
            }
        }
    }
}

/// Counts a thread until it ends, however it does.
struct Running<'a>(&'a Shared);

impl Running<'_> {
    fn serve(&self) {
        while let Some(job) = self.0.next() {
            if job.wanted.is_so() {
                (job.act)(&job.wanted);
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_begun() {
        let threads = Threads::new(1);
        let (go, stuck) = mpsc::channel::<()>();
        let mut first = Box::pin(threads.run(move |_| stuck.recv()));
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut first).await.is_err());
        let (tell, told) = mpsc::channel();
        let asked = threads.run(move |_| tell.send(()).unwrap());
        let late = tokio::time::timeout(Duration::from_millis(20), asked).await;
        assert!(late.is_err(), "there is one thread, and it is stuck");
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(threads.run(|wanted| wanted.is_so()).await, Some(true));
        assert!(told.try_recv().is_err(), "it was done although nobody waited");
    }

    #[tokio::test]
    async fn who_hangs_learns_that_nobody_waits_any_more() {
        let threads = Threads::new(2);
        let (go, stuck) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let asked = threads.run(move |wanted| {
            stuck.recv().unwrap();
            tell.send(wanted.is_so()).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), asked).await.is_err());
        go.send(()).unwrap();
        assert!(!told.recv().unwrap());
    }

    #[tokio::test]
    async fn a_few_threads_do_all() {
        let threads = Threads::new(3);
        let all = (0..50).map(|n| threads.run(move |_| n));
        let sum: Option<u32> = futures_util::future::join_all(all).await.into_iter().sum();
        assert_eq!(sum, Some(49 * 50 / 2));
        assert!(threads.shared.lock().threads <= 3);
    }
}
