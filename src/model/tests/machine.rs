//! Workers over `TreeRows`: what lies between two pauses is one transaction, a pause lets the world go on.

mod looks;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::super::around::{is_edited, is_parked, wanted};
use super::super::*;
use super::cloud::{Answer, Ask, Cloud, Fail};
use super::tree_rows::{TreeRows, content, digest};

const GUARD_LIMIT: usize = 3;

/// Without a clock and for any folder tree: many that wait are held.
pub fn hold_if_many(rows: &mut TreeRows) {
    let all = guard::destructions(rows).unwrap();
    if all.len() >= GUARD_LIMIT {
        guard::hold(rows, &all).unwrap();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Request,
    Answer,
    Late,
}

/// Why a call has no definite answer from the remote, or which refusal it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    Lost,
    Refused(Fail),
}

pub struct Engine {
    pub rows: RefCell<TreeRows>,
    pub cloud: Rc<RefCell<Cloud>>,
    pub busy: RefCell<Busy>,
    pub guard: Cell<bool>,
    pub cursor: Cell<usize>,
    pub walks: bool,
    /// Folders that were listed and still are to be looked at.
    pub tried: RefCell<HashSet<Ino>>,
}

/// Lets the world go on once; the fault that the world wants comes back.
pub struct Pause {
    fault: Rc<Cell<Option<Fault>>>,
    waited: bool,
    is_call: bool,
}

impl Future for Pause {
    type Output = Option<Fault>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.waited {
            return Poll::Ready(if self.is_call { self.fault.take() } else { None });
        }
        self.waited = true;
        Poll::Pending
    }
}

/// Is one worker's run.
#[derive(Clone)]
pub struct Run {
    pub engine: Rc<Engine>,
    pub fault: Rc<Cell<Option<Fault>>>,
}

/// Marks an inode busy as long as its step runs.
struct Hold(Rc<Engine>, Ino);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.busy.borrow_mut().remove(&self.1);
    }
}

type Called = Result<Answer, Failed>;

impl Run {
    fn pause(&self) -> Pause {
        Pause { fault: self.fault.clone(), waited: false, is_call: true }
    }

    fn rows(&self) -> std::cell::RefMut<'_, TreeRows> {
        self.engine.rows.borrow_mut()
    }

    async fn call(&self, ask: Ask) -> Called {
        let fault = self.pause().await;
        if fault == Some(Fault::Late) {
            self.engine.cloud.borrow_mut().late.push(ask.clone());
        }
        if matches!(fault, Some(Fault::Late | Fault::Request)) {
            return Err(Failed::Lost);
        }
        let answer = self.engine.cloud.borrow_mut().serve(&ask);
        if fault == Some(Fault::Answer) {
            return Err(Failed::Lost);
        }
        self.pause().await;
        answer.map_err(Failed::Refused)
    }

    async fn stat(&self, path: &RemotePath) -> Result<Option<Observed>, Failed> {
        match self.call(Ask::Stat(path.clone())).await? {
            Answer::Entry(seen) => Ok(seen),
            _ => unreachable!(),
        }
    }

    async fn stat_at(&self, path: Option<&RemotePath>) -> Result<Option<Observed>, Failed> {
        match path {
            Some(path) => self.stat(path).await,
            None => Ok(None),
        }
    }

    /// Settles one row by one step; `false` if there was nothing to do.
    pub async fn upload(self) -> bool {
        let Some((step, _hold)) = self.choose() else { return false };
        let done = match step.kind {
            StepKind::Settled => touch(&mut *self.rows(), step.ino).map_err(|_| Failed::Lost),
            StepKind::Inherit => inherit(&mut *self.rows(), step.ino).map_err(|_| Failed::Lost),
            StepKind::StepAside => {
                step_aside(&mut *self.rows(), step.ino).map_err(|_| Failed::Lost)
            }
            StepKind::Resurrect => {
                resurrect(&mut *self.rows(), step.ino, None).map_err(|_| Failed::Lost)
            }
            StepKind::Resolve => self.resolve(step.ino).await,
            StepKind::Confirm => self.confirm(step.ino).await,
            StepKind::NeedList => self.need_list(step.ino).await,
            StepKind::Fetch => self.fetch(step.ino).await,
            StepKind::MakeFolder => self.make_folder(step.ino).await,
            StepKind::Write => self.write(step.ino).await,
            StepKind::Rename | StepKind::Sidestep => self.rename(step).await,
            StepKind::Remove => self.remove(step.ino).await,
            StepKind::Metadata | StepKind::Wait | StepKind::Held | StepKind::Cycle => {
                unreachable!()
            }
        };
        let _lost = done;
        true
    }

    fn choose(&self) -> Option<(Step, Hold)> {
        let mut rows = self.rows();
        if self.engine.guard.get() {
            hold_if_many(&mut rows);
        }
        let mut busy = self.engine.busy.borrow_mut();
        for ino in rows.rows() {
            let step = plan(&*rows, ino, &busy).unwrap();
            let writing = rows.handles(step.ino).writers > 0;
            let young = || {
                let path = path(&*rows, step.ino).unwrap().unwrap();
                self.engine.cloud.borrow().stat(&path).is_some_and(|seen| {
                    !seen.settled && seen.version == rows.bases[&step.ino].version
                })
            };
            let idle = match step.kind {
                StepKind::Wait | StepKind::Held => true,
                StepKind::Settled => writing,
                StepKind::Confirm => young(),
                _ => false,
            };
            if !idle {
                let last = rows.next();
                if let Some(row) = rows.outbox.get_mut(&ino) {
                    row.0 = last;
                }
                busy.insert(step.ino);
                return Some((step, Hold(self.engine.clone(), step.ino)));
            }
        }
        None
    }

    async fn resolve(&self, ino: Ino) -> Result<(), Failed> {
        let (attempt, source, target) = {
            let rows = self.rows();
            let attempt = rows.outbox[&ino].1.attempt.clone().unwrap();
            let path = |place: &Option<Place>| {
                place.as_ref().and_then(|place| path_of(&*rows, place).unwrap())
            };
            let (source, target) = (path(&attempt.source), path(&attempt.target));
            (attempt, source, target)
        };
        let here = self.stat_at(source.as_ref()).await?;
        let there = self.stat_at(target.as_ref()).await?;
        resolve(&mut *self.rows(), ino, &attempt, here.as_ref(), there.as_ref()).unwrap();
        Ok(())
    }

    async fn confirm(&self, ino: Ino) -> Result<(), Failed> {
        let Some(looked) = look(&*self.rows(), ino).unwrap() else { return Ok(()) };
        let seen = self.stat(&looked.path).await?;
        let mut rows = self.rows();
        if look(&*rows, ino).unwrap().as_ref() == Some(&looked) {
            self.note_unread(&mut rows, ino, &looked.base, seen.as_ref());
        }
        confirmed(&mut *rows, ino, &looked, seen.as_ref()).unwrap();
        Ok(())
    }

    /// For the checker: overwritten or deleted unread means whatever it was.
    fn note_unread(&self, rows: &mut TreeRows, ino: Ino, base: &Base, seen: Option<&Observed>) {
        let Some(seen) = seen.filter(|seen| seen.settled && seen.version == base.version) else {
            return;
        };
        let Some(there) = seen.digest.map(content).filter(|_| base.known.is_none()) else { return };
        let item = rows.items[&ino].clone();
        let ledger = rows.ledger.clone();
        if is_edited(&item.node, Some(base)) {
            ledger.borrow_mut().children.entry(Some(there)).or_default().extend(item.seen);
        } else if wanted(rows, &item.node).unwrap().is_none() {
            ledger.borrow_mut().gone.insert(there);
        } else {
            rows.item(ino).seen = Some(there);
        }
        rows.contents.insert(base.edition, Some(there));
    }

    async fn need_list(&self, ino: Ino) -> Result<(), Failed> {
        let Some(looked) = look(&*self.rows(), ino).unwrap() else { return Ok(()) };
        let seen = self.stat(&looked.path).await?;
        found_to_list(&mut *self.rows(), ino, &looked, seen.as_ref()).unwrap();
        Ok(())
    }

    async fn fetch(&self, ino: Ino) -> Result<(), Failed> {
        let Some(looked) = look(&*self.rows(), ino).unwrap() else { return Ok(()) };
        let seen = self.stat(&looked.path).await?;
        let mut rows = self.rows();
        if found_to_fetch(&mut *rows, ino, &looked, seen.as_ref()).unwrap() {
            rows.hydrated(ino, content(seen.unwrap().digest.unwrap()));
            touch(&mut *rows, ino).unwrap();
        }
        Ok(())
    }

    async fn write(&self, ino: Ino) -> Result<(), Failed> {
        // A snapshot is taken here, and the world goes on meanwhile.
        Pause { is_call: false, ..self.pause() }.await;
        let (begun, sent, bytes) = {
            let mut rows = self.rows();
            let others: Busy =
                self.engine.busy.borrow().iter().copied().filter(|i| *i != ino).collect();
            let step = plan(&*rows, ino, &others).unwrap();
            if step != (Step { kind: StepKind::Write, ino }) {
                return Ok(());
            }
            let item = rows.items[&ino].clone();
            let bytes = item.data.unwrap();
            let sent = Sent { digest: digest(bytes), edition: item.node.edition };
            let base = rows.bases.get(&ino).map(|base| base.version.clone());
            let expect = base.map_or(Expect::Absent, Expect::Version);
            let begun =
                begin_write(&mut *rows, ino, item.node.local.unwrap(), expect, sent).unwrap();
            (begun, sent, bytes)
        };
        let path = begun.target.clone().unwrap();
        let expect = begun.attempt.expect.clone();
        match self.call(Ask::Write(path.clone(), bytes, expect)).await {
            Ok(Answer::Entry(Some(seen))) => {
                written(&mut *self.rows(), ino, &begun, &seen, sent).unwrap();
            }
            Err(Failed::Refused(fail)) => {
                let seen = self.stat(&path).await?;
                let why = refusal(fail);
                write_refused(&mut *self.rows(), ino, &begun, why, seen.as_ref()).unwrap();
            }
            _ => {}
        }
        Ok(())
    }

    async fn make_folder(&self, ino: Ino) -> Result<(), Failed> {
        let begun = {
            let mut rows = self.rows();
            let target = rows.items[&ino].node.local.clone();
            begin(&mut *rows, ino, StepKind::MakeFolder, target, Expect::Absent).unwrap()
        };
        let cursor = self.engine.cursor.get();
        let path = begun.target.clone().unwrap();
        let (seen, made) = match self.call(Ask::MakeFolder(path.clone())).await {
            Ok(Answer::Entry(seen)) => (seen, Made::JustNow),
            Err(Failed::Refused(Fail::NoParent)) => {
                make_folder_refused(&mut *self.rows(), ino, &begun).unwrap();
                return Ok(());
            }
            Err(Failed::Refused(_)) => (self.stat(&path).await?, Made::Before),
            _ => return Ok(()),
        };
        let quiet = cursor == self.engine.cursor.get() && !self.engine.walks;
        let made = if quiet { made } else { Made::Before };
        made_folder(&mut *self.rows(), ino, &begun, made, seen.as_ref()).unwrap();
        Ok(())
    }

    async fn rename(&self, step: Step) -> Result<(), Failed> {
        let ino = step.ino;
        let begun = {
            let mut rows = self.rows();
            let (node, base) = (rows.items[&ino].node.clone(), rows.bases[&ino].clone());
            let target = if step.kind == StepKind::Rename {
                node.local.clone().unwrap()
            } else {
                base.place.clone()
            };
            let target = if step.kind == StepKind::Rename {
                target
            } else {
                sidestep_place(&mut *rows, &target).unwrap()
            };
            let expect = expected(&node, &base);
            begin(&mut *rows, ino, step.kind, Some(target), expect).unwrap()
        };
        let (source, target) = (begun.source.clone().unwrap(), begun.target.clone().unwrap());
        let ask = Ask::Rename(source.clone(), target.clone(), begun.attempt.expect.clone());
        match self.call(ask).await {
            Ok(Answer::Entry(Some(seen))) => {
                moved(&mut *self.rows(), ino, &begun, &seen).unwrap();
            }
            Err(Failed::Refused(fail)) => {
                let here = self.stat(&source).await?;
                let there = self.stat(&target).await?;
                let (why, here, there) = (refusal(fail), here.as_ref(), there.as_ref());
                move_refused(&mut *self.rows(), ino, &begun, why, here, there).unwrap();
            }
            _ => {}
        }
        Ok(())
    }

    async fn remove(&self, ino: Ino) -> Result<(), Failed> {
        let begun = {
            let mut rows = self.rows();
            let expect = expected(&rows.items[&ino].node, &rows.bases[&ino]);
            begin(&mut *rows, ino, StepKind::Remove, None, expect).unwrap()
        };
        let path = begun.source.clone().unwrap();
        match self.call(Ask::Remove(path.clone(), begun.attempt.expect.clone())).await {
            Ok(_) => removed(&mut *self.rows(), ino, &begun).unwrap(),
            Err(Failed::Refused(_)) => {
                let seen = self.stat(&path).await?;
                remove_refused(&mut *self.rows(), ino, &begun, seen.as_ref()).unwrap();
            }
            _ => {}
        }
        Ok(())
    }
}

fn expected(node: &Node, base: &Base) -> Expect {
    match node.kind {
        Kind::Folder => Expect::Folder,
        _ => Expect::Version(base.version.clone()),
    }
}

fn refusal(fail: Fail) -> Refusal {
    match fail {
        Fail::NoParent => Refusal::NoParent,
        Fail::Mismatch => Refusal::Mismatch,
        _ => Refusal::Other,
    }
}
