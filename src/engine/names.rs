//! Steps that change names at the remote: make a folder, rename, remove.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Core;
use super::crash::crash_point;
use super::observe::change;
use super::open::lock;
use super::steps::{Asked, Ended, Stepped, gone_with, is_refusal, refusal};
use crate::model::{
    self, Base, Begun, Digest, Expect, Ino, Kind, Made, Observed, Refusal, RemotePath, Rows as _,
    Step, StepKind,
};
use crate::remote::{ErrorKind, Locator, Remote, RemoteError};

impl Core {
    /// The remote as it is asked for this item's names: first, if somebody waits for that.
    fn remote_to_send(&self, ino: Ino) -> &Arc<dyn Remote> {
        let is_awaited = lock(&self.workers.urgent).contains(&ino);
        if is_awaited { &self.remotes.awaited } else { &self.remotes.transfer }
    }

    /// A step found no folder for what it was to put there. That the folder is gone is so only if the remote is the one we know and
    /// still has none: it may have been away for a moment, and is then to be asked once more, as after any outage.
    pub(super) async fn believe_no_folder(
        self: &Arc<Self>,
        operation: &'static str,
        target: &RemotePath,
    ) -> Result<(), RemoteError> {
        let why = match self.is_root_in_place().await {
            Ok(true) => match self.has_parent_now(target).await {
                Ok(false) => return Ok(()),
                Ok(true) => "its folder was not there for a moment".to_owned(),
                Err(error) => error.to_string(),
            },
            Ok(false) => "the remote is not the one this mount knows".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(RemoteError::new(ErrorKind::Offline, operation, target).because(why))
    }

    pub(super) async fn do_make_folder(self: &Arc<Self>, ino: Ino) -> Stepped {
        let wanted = Step { kind: StepKind::MakeFolder, ino };
        let Some((asked, cursor)) = self
            .begin(wanted, |tx, ino| {
                let Some(target) = tx.node(ino)?.and_then(|node| node.local) else {
                    return Ok(None);
                };
                let begun =
                    model::begin(tx, ino, StepKind::MakeFolder, Some(target), Expect::Absent)?;
                Ok(Some(begun))
            })
            .await?
        else {
            return Ok(Ended::Done);
        };
        let Some(target) = asked.target else { return Ok(Ended::Done) };
        let begun = asked.begun;
        if let Err(error) = self.may_create(&target.path).await {
            return self.not_sent(ino, begun, error).await;
        }
        crash_point!(self, "make folder: before it is sent");
        let outcome = self.remote_to_send(ino).make_folder(&target).await;
        crash_point!(self, "make folder: answered");
        let (seen, made) = match outcome {
            Ok(seen) => (Some(seen), Made::JustNow),
            Err(error) if error.kind == ErrorKind::NoParent => {
                if let Err(error) = self.believe_no_folder("make folder", &target.path).await {
                    return self.not_sent(ino, begun, error).await;
                }
                let gone = gone_with(ino, &begun, Refusal::NoParent, None);
                let noted = (ino, begun.clone());
                return self
                    .refused_as_gone(gone, noted, &target.path, move |tx| {
                        model::make_folder_refused(tx, ino, &begun)
                    })
                    .await;
            }
            Err(error) if is_refusal(&error.kind) => match self.stat(&target, &[]).await {
                Ok(seen) => {
                    if seen.is_some() && lock(&self.workers.urgent).contains(&ino) {
                        lock(&self.workers.met).insert(ino);
                    }
                    (seen, Made::Before)
                }
                Err(error) => return Ok(Ended::Failed(error)),
            },
            Err(error) => return self.not_done(ino, begun, error).await,
        };
        self.note_contact();
        let core = self.clone();
        self.do_rows(move |tx| {
            let told = [&core.workers.walks, &core.workers.judged];
            let told = told.into_iter().any(|one| one.load(Ordering::SeqCst));
            let quiet = !told && tx.endpoint()?.cursor == cursor;
            let made = if quiet || seen.is_none() { made } else { Made::Before };
            model::made_folder(tx, ino, &begun, made, seen.as_ref())
        })
        .await
    }

    pub(super) async fn do_rename(self: &Arc<Self>, step: Step) -> Stepped {
        let ino = step.ino;
        let Some((asked, _)) = self
            .begin(step, move |tx, ino| {
                let (Some(node), Some(base)) = (tx.node(ino)?, tx.base(ino)?) else {
                    return Ok(None);
                };
                let target = match (step.kind, node.local) {
                    (StepKind::Rename, Some(target)) => target,
                    (StepKind::Rename, None) => return Ok(None),
                    _ => model::sidestep_place(tx, &base.place)?,
                };
                let expect = expected(node.kind, &base);
                Ok(Some(model::begin(tx, ino, step.kind, Some(target), expect)?))
            })
            .await?
        else {
            return Ok(Ended::Done);
        };
        let Asked { begun, source, target, ours } = asked;
        let Some(target) = target else { return Ok(Ended::Done) };
        let tag = self.tag(ino, begun.attempt.nonce);
        let expect = begun.attempt.expect.clone();
        crash_point!(self, "rename: before it is sent");
        let outcome = self.remote_to_send(ino).rename(&source, &target, expect, &tag).await;
        crash_point!(self, "rename: answered");
        match outcome {
            Ok(seen) => self.renamed(ino, begun, &target, seen, &ours).await,
            Err(error) if is_refusal(&error.kind) => {
                // Only of what changed at its source the content matters.
                let changed = error.kind == ErrorKind::VersionMismatch;
                let looks = futures_util::try_join!(
                    self.stat_if(Some(&source), &ours, |_| !changed),
                    self.stat_if(Some(&target), &ours, |_| false)
                );
                let (here, there) = match looks {
                    Ok(looks) => looks,
                    Err(error) => return Ok(Ended::Failed(error)),
                };
                let why = refusal(&error.kind);
                if here.is_some()
                    && why == Refusal::NoParent
                    && let Err(error) = self.believe_no_folder("rename", &target.path).await
                {
                    return self.not_sent(ino, begun, error).await;
                }
                let gone = match (&here, why) {
                    (None, _) => Some(ino),
                    (Some(_), Refusal::NoParent) => gone_with(ino, &begun, why, None),
                    (Some(here), _) => {
                        let was_folder = begun.attempt.expect == Expect::Folder;
                        (was_folder != (here.kind == Kind::Folder)).then_some(ino)
                    }
                };
                let noted = (ino, begun.clone());
                self.refused_as_gone(gone, noted, &source.path, move |tx| {
                    model::move_refused(tx, ino, &begun, why, here.as_ref(), there.as_ref())
                })
                .await
            }
            Err(error) => self.not_done(ino, begun, error).await,
        }
    }

    async fn renamed(
        self: &Arc<Self>,
        ino: Ino,
        begun: Begun,
        target: &Locator,
        mut seen: Observed,
        ours: &[Digest],
    ) -> Stepped {
        self.note_contact();
        let before = begun.base.as_ref();
        if seen.kind == Kind::File && before.is_some_and(|base| base.version != seen.version) {
            // A store that gives a new version with a move must not look like an edit.
            match self.stat(&Locator::at(target.path.clone()), ours).await {
                Ok(Some(now)) => seen = now,
                Ok(None) => {}
                Err(error) => return Ok(Ended::Failed(error)),
            }
        }
        self.do_rows(move |tx| model::moved(tx, ino, &begun, &seen)).await
    }

    pub(super) async fn do_remove(self: &Arc<Self>, ino: Ino) -> Stepped {
        let wanted = Step { kind: StepKind::Remove, ino };
        let Some((asked, _)) = self
            .begin(wanted, |tx, ino| {
                let (Some(node), Some(base)) = (tx.node(ino)?, tx.base(ino)?) else {
                    return Ok(None);
                };
                let expect = expected(node.kind, &base);
                Ok(Some(model::begin(tx, ino, StepKind::Remove, None, expect)?))
            })
            .await?
        else {
            return Ok(Ended::Done);
        };
        let Asked { begun, source, ours, .. } = asked;
        let tag = self.tag(ino, begun.attempt.nonce);
        let expect = begun.attempt.expect.clone();
        crash_point!(self, "remove: before it is sent");
        let outcome = self.remote_to_send(ino).remove(&source, expect, &tag).await;
        crash_point!(self, "remove: answered");
        match outcome {
            Ok(()) => {
                self.note_contact();
                self.do_rows(move |tx| model::removed(tx, ino, &begun)).await
            }
            Err(error) if is_refusal(&error.kind) => {
                let seen = match self.stat(&Locator::at(source.path), &ours).await {
                    Ok(seen) => seen,
                    Err(error) => return Ok(Ended::Failed(error)),
                };
                change(self, move |tx| model::remove_refused(tx, ino, &begun, seen.as_ref()))
                    .await?;
                Ok(Ended::Refused)
            }
            Err(error) => self.not_done(ino, begun, error).await,
        }
    }
}

fn expected(kind: Kind, base: &Base) -> Expect {
    match kind {
        Kind::Folder => Expect::Folder,
        _ => Expect::Version(base.version.clone()),
    }
}
