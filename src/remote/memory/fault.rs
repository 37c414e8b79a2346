//! What can happen to a request: scripted faults, random ones, and gates that hold it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::remote::{ErrorKind, RemotePath};

/// Names a method of the trait, for rules and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the trait's methods")]
pub enum Operation {
    Probe,
    Stat,
    List,
    Read,
    Write,
    MakeFolder,
    Rename,
    Remove,
    SetMetadata,
    Space,
    Changes,
}

impl Operation {
    /// The method in words, as in error messages.
    pub fn words(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Stat => "stat",
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
            Self::MakeFolder => "make folder",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SetMetadata => "set metadata of",
            Self::Space => "space",
            Self::Changes => "changes of",
        }
    }
}

/// Is something that happens to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not applied and fails with this kind. `Offline` is a request that was lost.
    Fail(ErrorKind),
    /// It is applied, then its answer is lost: `Offline`.
    LoseAnswer,
    /// It fails with `Offline` now and arrives when the test says [`deliver_late`](super::MemoryStore::deliver_late).
    DeliverLate,
    /// A read's stream breaks after this many bytes.
    Truncate(u64),
    /// A read that comes to this place of the content fails there, as on a dying disk.
    BadPlace(u64),
    /// It takes this long, by tokio's clock, before it is applied.
    Delay(Duration),
    /// It takes this long, by tokio's clock, after it was applied.
    DelayAnswer(Duration),
}

/// Says to which requests a fault happens.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// Only to this operation; `None` for every one.
    pub operation: Option<Operation>,
    /// Only to requests about this path; `None` for every one.
    pub path: Option<RemotePath>,
    /// How many matching requests are left alone first.
    pub skip: u32,
    /// How many requests it happens to.
    pub times: u32,
    /// What happens.
    pub fault: Fault,
}

impl FaultRule {
    /// Once, to the next request of this kind.
    pub fn next(operation: Operation, fault: Fault) -> Self {
        Self { operation: Some(operation), path: None, skip: 0, times: 1, fault }
    }

    /// To every request until it is cleared.
    pub fn always(fault: Fault) -> Self {
        Self { operation: None, path: None, skip: 0, times: u32::MAX, fault }
    }

    /// The fault, if this request is one it happens to; counts it.
    pub(super) fn strike(&mut self, operation: Operation, at: &RemotePath) -> Option<Fault> {
        if self.times == 0
            || self.operation.is_some_and(|only| only != operation)
            || self.path.as_ref().is_some_and(|only| only != at)
        {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times = self.times.saturating_sub(1);
        Some(self.fault.clone())
    }
}

/// Is a seeded chance of faults for every request.
#[derive(Clone, Debug)]
pub struct RandomFaults {
    /// Of a thousand requests, how many meet one.
    pub per_mille: u32,
    /// Which ones, each as likely.
    pub faults: Vec<Fault>,
}

/// Is a seeded chance, each of a thousand, that hints come wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct HintFaults {
    /// Told twice.
    pub duplicate: u32,
    /// A page of them told in another order.
    pub reorder: u32,
    /// Never told.
    pub drop: u32,
}

/// Says where a request is when a gate sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Arrived, not applied.
    Arrives,
    /// A weak store looked and will act now.
    Looked,
    /// Applied (or refused), the answer on its way.
    Answers,
}

/// Is one request at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which handle sent it.
    pub handle: u64,
    /// What it asks. A composed change of a weak store consists of several requests.
    pub operation: Operation,
    /// About what; for a rename, from where.
    pub path: RemotePath,
    /// Where it is.
    pub moment: Moment,
}

type GateFn = dyn Fn(Step) -> BoxFuture<'static, Option<Fault>> + Send + Sync;

/// Is asked before each request is applied and before it is answered; what it answers happens to the request.
#[derive(Clone)]
pub struct Gate(pub Arc<GateFn>);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// Is one request that a gate holds. Dropping it lets the request pass.
#[derive(Debug)]
pub struct Held {
    /// Which one.
    pub step: Step,
    answer: oneshot::Sender<Option<Fault>>,
}

impl Held {
    /// Lets it go on.
    pub fn pass(self) {
        drop(self.answer.send(None));
    }

    /// Lets this happen to it. At [`Moment::Answers`] any fault loses the answer.
    pub fn strike(self, fault: Fault) {
        drop(self.answer.send(Some(fault)));
    }
}

impl Gate {
    /// A gate that hands every request that `wants` it to the receiver and holds it there. When the receiver is dropped,
    /// everything passes.
    pub fn holding(
        wants: impl Fn(&Step) -> bool + Send + Sync + 'static,
    ) -> (Self, mpsc::UnboundedReceiver<Held>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let gate = move |step: Step| -> BoxFuture<'static, Option<Fault>> {
            if !wants(&step) {
                return Box::pin(std::future::ready(None));
            }
            let (answer, told) = oneshot::channel();
            let sent = sender.send(Held { step, answer }).is_ok();
            Box::pin(async move { if sent { told.await.ok().flatten() } else { None } })
        };
        (Self(Arc::new(gate)), receiver)
    }
}
