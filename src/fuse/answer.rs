//! How the kernel gets its answers: every request passes through [`Door::answer`].
//!
//! The one `catch_unwind` (a panic would end a FUSE thread for good), the one span, the one deadline, the one errno.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{Errno, INodeNo, Notifier};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tracing::{Instrument, Span, debug, debug_span, error, warn};

use super::copies::Copies;
use super::errno::{By, errno, is_ours};
use super::notify::Waiting;
use crate::engine::{Answer, Engine, EngineError};

/// How long a transfer that a program asked to wait for (`close=remote`, `fsync`) may take; the engine ends it much earlier
/// when it makes no progress.
const LONGEST_TRANSFER: Duration = Duration::from_secs(3600);

/// Is a reply that can be refused; each kind of request has its own.
pub(super) trait Refuse: Send + 'static {
    /// Answers with an error.
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ident),*) => {
        $(impl Refuse for fuser::$reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr
);

/// Says how long an answer may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// A few times the deadline without progress that the engine keeps itself.
    Usual,
    /// As long as a transfer may take.
    Transfer,
}

/// Is what is known of a request beside its verb.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    name: &'static str,
    ino: INodeNo,
    by: By,
    /// The folders, or the file, whose locks the kernel holds until the answer.
    folders: [Option<INodeNo>; 2],
    patience: Patience,
}

impl Call {
    /// A request about a name in a folder.
    pub(super) fn in_folder(name: &'static str, folder: INodeNo) -> Self {
        Self {
            name,
            ino: folder,
            by: By::Name,
            folders: [Some(folder), None],
            patience: Patience::Usual,
        }
    }

    /// A request about an inode.
    pub(super) fn of(name: &'static str, ino: INodeNo) -> Self {
        Self { name, ino, by: By::Number, folders: [None, None], patience: Patience::Usual }
    }

    /// The same with a second folder that the kernel holds.
    pub(super) fn and_folder(mut self, folder: INodeNo) -> Self {
        if self.folders[0] != Some(folder) {
            self.folders[1] = Some(folder);
        }
        self
    }

    /// The same for a request during which the kernel holds the inode's own lock.
    pub(super) fn holding(mut self) -> Self {
        self.folders[0] = Some(self.ino);
        self
    }

    /// The same for a request that may wait for bytes to be sent or flushed.
    pub(super) fn may_transfer(mut self) -> Self {
        self.patience = Patience::Transfer;
        self
    }
}

/// Is what all requests share.
pub(super) struct Door {
    engine: Engine,
    runtime: Handle,
    timeout: Duration,
    /// Set once the session is there, before its first request.
    pub(super) notifier: Arc<OnceLock<Notifier>>,
    waiting: Arc<Waiting>,
    copies: Arc<Copies>,
}

impl Door {
    pub(super) fn new(
        engine: Engine,
        runtime: Handle,
        timeout: Duration,
        notifier: Arc<OnceLock<Notifier>>,
        waiting: Arc<Waiting>,
        copies: Arc<Copies>,
    ) -> Self {
        Self { engine, runtime, timeout, notifier, waiting, copies }
    }

    /// Whether a read may have to wait until all of a file is here, however long that takes.
    pub(super) fn reads_wait_for_all(&self) -> bool {
        self.engine.reads_wait_for_all()
    }

    /// Asks the engine and sees to it that `reply` is answered exactly once: at once on this thread, by the catalog's writer
    /// after its commit, or by the runtime.
    pub(super) fn answer<T, R>(
        &self,
        call: Call,
        reply: R,
        verb: impl FnOnce(&Engine) -> Answer<T>,
        give: impl FnOnce(R, T) + Send + 'static,
    ) where
        T: Send + 'static,
        R: Refuse,
    {
        let copies = Arc::clone(&self.copies);
        self.answer_with(call, reply, verb, move |reply, outcome| match outcome {
            Ok(value) => give(reply, value),
            Err(error) => {
                // The kernel takes a change that failed for none; a part of it may have happened.
                for folder in call.folders.into_iter().flatten() {
                    copies.changed(folder);
                }
                refuse(call, reply, &error);
            }
        });
    }

    /// The same for a request that has something to say to some errors, too.
    pub(super) fn answer_with<T, R>(
        &self,
        call: Call,
        reply: R,
        verb: impl FnOnce(&Engine) -> Answer<T>,
        give: impl FnOnce(R, Result<T, EngineError>) + Send + 'static,
    ) where
        T: Send + 'static,
        R: Refuse,
    {
        let span = debug_span!("fuse", request = call.name, ino = call.ino.0);
        let entered = span.enter();
        match guarded(call, || verb(&self.engine)) {
            None => reply.refuse(Errno::EIO),
            Some(Answer::Ready(outcome)) => finish(call, reply, outcome, give),
            Some(Answer::Queued(queue)) => {
                let span = span.clone();
                let done = move |outcome| span.in_scope(|| finish(call, reply, outcome, give));
                // If the queue drops this unanswered, fuser answers EIO for it.
                guarded(call, move || queue(Box::new(done)));
            }
            Some(Answer::Pending(future)) => {
                drop(entered);
                self.spawn(call, span, reply, future, give);
            }
        }
    }

    fn spawn<T, R>(
        &self,
        call: Call,
        span: Span,
        reply: R,
        future: BoxFuture<'static, Result<T, EngineError>>,
        give: impl FnOnce(R, Result<T, EngineError>) + Send + 'static,
    ) where
        T: Send + 'static,
        R: Refuse,
    {
        let deadline = match call.patience {
            Patience::Usual => self.timeout.saturating_mul(4),
            Patience::Transfer => LONGEST_TRANSFER.max(self.timeout),
        };
        let held = self.waiting.hold(call.folders.into_iter().flatten());
        let answered = async move {
            let guarded = AssertUnwindSafe(future).catch_unwind();
            let outcome = match tokio::time::timeout(deadline, guarded).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(panic)) => {
                    report_panic(call, &*panic);
                    return reply.refuse(Errno::EIO);
                }
                Err(_elapsed) => Err(EngineError::TimedOut),
            };
            finish(call, reply, outcome, give);
            drop(held);
        };
        drop(self.runtime.spawn(answered.instrument(span)));
    }

    /// Runs what has no answer, such as a release.
    pub(super) fn tell(&self, call: Call, verb: impl FnOnce(&Engine)) {
        let span = debug_span!("fuse", request = call.name, ino = call.ino.0);
        span.in_scope(|| guarded(call, || verb(&self.engine)));
    }
}

fn finish<T, R: Refuse>(
    call: Call,
    reply: R,
    outcome: Result<T, EngineError>,
    give: impl FnOnce(R, Result<T, EngineError>),
) {
    // A reply that is dropped on the way is answered EIO by fuser.
    guarded(call, move || give(reply, outcome));
}

/// Answers a failed verb and logs it if somebody should know.
pub(super) fn refuse<R: Refuse>(call: Call, reply: R, error: &EngineError) {
    let errno = errno(error, call.by);
    if is_ours(error) {
        warn!(request = call.name, ino = call.ino.0, errno = errno.code(), "{error}");
    } else {
        debug!(errno = errno.code(), "{error}");
    }
    reply.refuse(errno);
}

fn guarded<T>(call: Call, act: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(value) => Some(value),
        Err(panic) => {
            report_panic(call, &*panic);
            None
        }
    }
}

fn report_panic(call: Call, panic: &(dyn std::any::Any + Send)) {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    error!(request = call.name, ino = call.ino.0, "a request failed by a defect in dewfs: {said}");
}
