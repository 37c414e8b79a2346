//! One step for one inode: note the attempt, ask the remote once, record what became of it.
//!
//! What the remote refuses is looked at and settled; what it does not answer leaves the attempt, to be resolved by looking;
//! any other refusal puts the item off. Decisions are the model's, in the transaction that records them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::EngineError;
use super::core::Core;
use super::crash::crash_point;
use super::observe::change;
use super::open::lock;
use super::pause::BULK;
use crate::catalog::{CatalogError, Tx};
use crate::model::{
    self, Attempt, Base, Begun, Digest, Ino, Kind, Looked, Observed, Place, Refusal, RemotePath,
    Rows as _, Step, StepKind,
};
use crate::remote::{AttemptTag, ErrorKind, Locator, RemoteError};

/// How long a step that waits for something here is put off.
const SOON: Duration = Duration::from_millis(500);
/// How often a version that is too young is asked for.
const YOUNG: Duration = Duration::from_secs(1);

/// Says how a step ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Something was done: plan again.
    Done,
    /// Something was done, and its row says how long nothing more can be told of the item.
    Ripens,
    /// Nothing can be done before this long.
    Later(Duration),
    /// It is large, and such stands still: who lets that go on wakes it.
    Stands,
    /// Something was done; as long as somebody can write it, it goes on not before this time.
    Rests(i64),
    /// The remote refused, and what that means is in the rows.
    Refused,
    /// The remote refused or did not answer.
    Failed(RemoteError),
}

/// Is what a step that asks the remote needs of the rows.
pub(super) struct Asked {
    pub(super) begun: Begun,
    pub(super) source: Locator,
    pub(super) target: Option<Locator>,
    pub(super) ours: Vec<Digest>,
}

pub(super) type Stepped = Result<Ended, EngineError>;

impl Core {
    /// Does one step that `plan` wants for this row; the step's inode is marked busy meanwhile.
    pub(super) async fn do_step(self: &Arc<Self>, step: Step, row: Ino) -> Stepped {
        let ino = step.ino;
        match step.kind {
            StepKind::Settled => self.do_settled(ino).await,
            StepKind::Inherit | StepKind::StepAside | StepKind::Resurrect => {
                self.do_here(step, row).await
            }
            StepKind::Resolve => self.do_resolve(ino).await,
            StepKind::Confirm => self.do_confirm(ino).await,
            StepKind::NeedList => self.do_need_list(ino).await,
            StepKind::Fetch => self.do_fetch(ino).await,
            StepKind::MakeFolder => self.do_make_folder(ino).await,
            StepKind::Write => self.do_write(ino).await,
            StepKind::Rename | StepKind::Sidestep => self.do_rename(step).await,
            StepKind::Remove => self.do_remove(ino).await,
            StepKind::Metadata => self.do_metadata(ino).await,
            StepKind::Wait | StepKind::Held | StepKind::Cycle => Ok(Ended::Later(SOON)),
        }
    }

    /// Does a step that asks nothing of the remote, if it still is what is wanted: names may have changed since.
    ///
    /// Wanted by the row that led to it: a deleted file is inherited whatever else its heir waits for, and who asks the heir
    /// instead is told of that, again and again.
    async fn do_here(self: &Arc<Self>, step: Step, row: Ino) -> Stepped {
        crash_point!(self, "step: before names change here");
        let core = self.clone();
        self.do_rows(move |tx| {
            if !core.is_still_wanted_by(tx, row, step)? {
                return Ok(());
            }
            match step.kind {
                StepKind::Inherit => model::inherit(tx, step.ino),
                StepKind::StepAside => model::step_aside(tx, step.ino),
                _ => model::resurrect(tx, step.ino, None),
            }
        })
        .await
    }

    /// Whether this step, which is under way, is what is to be done by the rows as they are now.
    pub(super) fn is_still_wanted(&self, tx: &Tx, step: Step) -> Result<bool, CatalogError> {
        self.is_still_wanted_by(tx, step.ino, step)
    }

    fn is_still_wanted_by(&self, tx: &Tx, row: Ino, step: Step) -> Result<bool, CatalogError> {
        let mut busy = lock(&self.workers.busy).clone();
        busy.remove(&step.ino);
        Ok(model::plan(tx, row, &busy)? == step)
    }

    pub(super) async fn do_rows(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Tx) -> Result<(), CatalogError> + Send + 'static,
    ) -> Stepped {
        change(self, act).await?;
        Ok(Ended::Done)
    }

    /// Nothing differs: the row goes, unless the data file was written past us or somebody can still write it.
    async fn do_settled(self: &Arc<Self>, ino: Ino) -> Stepped {
        let before = self.catalog.read(|rows| rows.inode(ino))?;
        let Some(inode) = before else { return Ok(Ended::Done) };
        if inode.kind == Kind::File && inode.local.is_some() {
            // In this order: what is written after the look must not be missed.
            let quiet = self.nobody_writes(ino).await?;
            self.observe_data(ino).await?;
            if !quiet {
                return Ok(Ended::Later(self.unquiet_pause(ino)));
            }
        }
        let edition = inode.edition;
        change(self, move |tx| {
            let same = tx.node(ino)?.is_none_or(|node| node.edition == edition);
            if same { model::handled(tx, ino) } else { Ok(()) }
        })
        .await?;
        Ok(Ended::Done)
    }

    async fn do_resolve(self: &Arc<Self>, ino: Ino) -> Stepped {
        let row = self.catalog.read(|rows| rows.outbox(ino))?;
        if row.and_then(|row| row.attempt).is_some_and(|one| one.kind == StepKind::Metadata) {
            // Only the content tells whether another version is our doing.
            self.know_hydrated(ino).await?;
        }
        let found = change(self, move |tx| {
            let Some(attempt) = tx.outbox(ino)?.and_then(|row| row.attempt) else {
                return Ok(None);
            };
            let source = place_path(tx, attempt.source.as_ref())?;
            let target = place_path(tx, attempt.target.as_ref())?;
            let base = tx.base(ino)?;
            Ok(Some((attempt, source, target, ours_of(tx, ino)?, base)))
        })
        .await?;
        let Some((attempt, source, target, ours, base)) = found else { return Ok(Ended::Done) };
        let locate = |path: Option<RemotePath>| path.map(|path| locator(path, base.as_ref()));
        let (source, target) = (locate(source), locate(target));
        if let Err(error) = self.tidy(ino, &attempt, source.as_ref(), target.as_ref()).await {
            return Ok(Ended::Failed(error));
        }
        let must_rest = self.is_held_as_bulk(ino)?;
        let rests = AtomicBool::new(false);
        // What we know under a version to be relied on need not be read: nothing happened to it.
        let is_enough = |seen: &Observed| {
            let is_known = base.as_ref().is_some_and(|base| {
                !base.young && seen.version == base.version && seen.size == base.size
            });
            if must_rest && !is_known && seen.size > BULK {
                rests.store(true, Ordering::Relaxed);
            }
            is_known || must_rest && seen.size > BULK
        };
        let here = match self.stat_if(source.as_ref(), &ours, is_enough).await {
            Ok(here) => here,
            Err(error) => return Ok(Ended::Failed(error)),
        };
        let there = match self.stat_if(target.as_ref(), &ours, is_enough).await {
            Ok(there) => there,
            Err(error) => return Ok(Ended::Failed(error)),
        };
        if rests.load(Ordering::Relaxed) {
            return Ok(Ended::Stands);
        }
        crash_point!(self, "resolve: before it is recorded");
        self.do_rows(move |tx| model::resolve(tx, ino, &attempt, here.as_ref(), there.as_ref()))
            .await
    }

    async fn tidy(
        &self,
        ino: Ino,
        attempt: &Attempt,
        source: Option<&Locator>,
        target: Option<&Locator>,
    ) -> Result<(), RemoteError> {
        let tag = self.tag(ino, attempt.nonce);
        for at in [source, target].into_iter().flatten() {
            self.remotes.transfer.tidy(at, &attempt.expect, &tag).await?;
        }
        Ok(())
    }

    pub(super) async fn stat_if(
        self: &Arc<Self>,
        at: Option<&Locator>,
        ours: &[Digest],
        is_enough: impl Fn(&Observed) -> bool + Send,
    ) -> Result<Option<Observed>, RemoteError> {
        match at {
            Some(at) => self.stat_unless(&Locator::at(at.path.clone()), ours, is_enough).await,
            None => Ok(None),
        }
    }

    async fn do_confirm(self: &Arc<Self>, ino: Ino) -> Stepped {
        if let Some(later) = self.know_content(ino).await? {
            return Ok(later);
        }
        let Some((looked, ours)) = self.look(ino).await? else { return Ok(Ended::Done) };
        let at = locator(looked.path.clone(), Some(&looked.base));
        let version = &looked.base.version;
        // Nothing is compared before it can be relied on.
        let is_young = |seen: &Observed| !seen.settled && seen.version == *version;
        let seen = match self.stat_unless(&at, &ours, is_young).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Ended::Failed(error)),
        };
        if seen.as_ref().is_some_and(is_young) {
            return Ok(Ended::Later(YOUNG));
        }
        let step = Step { kind: StepKind::Confirm, ino };
        let core = self.clone();
        let gone = seen.is_none().then_some(ino);
        let confirmed = self.found_gone(gone, &at.path, move |tx| {
            let before = (tx.node(ino)?, tx.base(ino)?);
            model::confirmed(tx, ino, &looked, seen.as_ref())?;
            Ok((tx.node(ino)?, tx.base(ino)?) == before && core.is_still_wanted(tx, step)?)
        });
        Ok(match confirmed.await? {
            Ok(true) => Ended::Refused,
            Ok(false) => Ended::Done,
            Err(doubted) => Ended::Failed(doubted),
        })
    }

    /// Bytes that came under a young version are told from later ones only by their digest; a part of them not at all.
    pub(super) async fn know_content(
        self: &Arc<Self>,
        ino: Ino,
    ) -> Result<Option<Ended>, EngineError> {
        let (inode, base) = self.catalog.read(|rows| Ok((rows.inode(ino)?, rows.base(ino)?)))?;
        let (Some(inode), Some(base)) = (inode, base) else { return Ok(None) };
        let plain = inode.kind == Kind::File && inode.edition == base.edition;
        if !plain || base.known.is_some() {
            return Ok(None);
        }
        match inode.content {
            crate::model::Content::Placeholder => Ok(None),
            crate::model::Content::Partial => {
                if self.open.handles(ino).open > 0 {
                    return Ok(Some(Ended::Later(YOUNG)));
                }
                let (generation, edition) = (inode.generation, inode.edition);
                let core = self.clone();
                let dropped = change(self, move |tx| {
                    let same = tx.inode(ino)?.is_some_and(|now| {
                        now.generation == generation && now.edition == edition && !now.edited
                    });
                    // An edit since the look is in the row, or in memory as a writer.
                    let dropped = same && core.open.claim(ino) == model::Handles::default();
                    if dropped {
                        tx.set_content(ino, generation, model::Content::Placeholder, None)?;
                    }
                    Ok(dropped)
                })
                .await?;
                if dropped {
                    self.open.forget_live(ino, generation);
                }
                Ok((!dropped).then_some(Ended::Later(YOUNG)))
            }
            crate::model::Content::Hydrated => {
                self.know_hydrated(ino).await?;
                Ok(None)
            }
        }
    }

    /// Notes what the content of a file is that is all here and not edited.
    pub(super) async fn know_hydrated(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        let (inode, base) = self.catalog.read(|rows| Ok((rows.inode(ino)?, rows.base(ino)?)))?;
        let (Some(inode), Some(base)) = (inode, base) else { return Ok(()) };
        let whole = inode.content == crate::model::Content::Hydrated;
        if inode.edition != base.edition || !whole || base.known.is_some() {
            return Ok(());
        }
        let core = self.clone();
        let digest = self
            .blocking(move || {
                let data =
                    core.cache.open_data(ino, inode.generation, crate::cache::Access::Read)?;
                let (Some(data), Some(stamp)) = (data, inode.stamp) else { return Ok(None) };
                // What is written just now, and not recorded yet, is not what the row is about.
                let digest = data.digest()?;
                Ok(data.unmoved_since(stamp)?.then_some(digest))
            })
            .await?;
        let Some(digest) = digest else { return Ok(()) };
        change(self, move |tx| {
            let now = tx.base(ino)?;
            if now.as_ref() == Some(&base) {
                tx.set_base(ino, Some(Base { known: Some(digest), ..base }))?;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn look(
        self: &Arc<Self>,
        ino: Ino,
    ) -> Result<Option<(Looked, Vec<Digest>)>, EngineError> {
        change(self, move |tx| {
            let Some(looked) = model::look(tx, ino)? else { return Ok(None) };
            Ok(Some((looked, ours_of(tx, ino)?)))
        })
        .await
    }

    async fn do_need_list(self: &Arc<Self>, ino: Ino) -> Stepped {
        let Some((looked, _)) = self.look(ino).await? else { return Ok(Ended::Done) };
        let at = locator(looked.path.clone(), Some(&looked.base));
        let seen = match self.stat(&at, &[]).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Ended::Failed(error)),
        };
        let gone = seen.as_ref().is_none_or(|seen| seen.kind != Kind::Folder).then_some(ino);
        let found = move |tx: &mut Tx| model::found_to_list(tx, ino, &looked, seen.as_ref());
        if let Err(doubted) = self.found_gone(gone, &at.path, found).await? {
            return Ok(Ended::Failed(doubted));
        }
        // The lister does it; a failure there shows at the next try here.
        let _outcome = self.list_folder(ino).await;
        Ok(Ended::Later(SOON))
    }

    /// Notes an attempt in the transaction that makes sure it is still what is wanted; also answers the feed's cursor.
    pub(super) async fn begin(
        self: &Arc<Self>,
        wanted: Step,
        note: impl FnOnce(&mut Tx, Ino) -> Result<Option<Begun>, CatalogError> + Send + 'static,
    ) -> Result<Option<(Asked, Option<String>)>, EngineError> {
        let core = self.clone();
        change(self, move |tx| {
            if !core.is_still_wanted(tx, wanted)? {
                return Ok(None);
            }
            let Some(begun) = note(tx, wanted.ino)? else { return Ok(None) };
            let ours = ours_of(tx, wanted.ino)?;
            let source = begun.source.clone().unwrap_or_default();
            let source = locator(source, begun.base.as_ref());
            let target = begun.target.clone().map(|path| locator(path, begun.base.as_ref()));
            let cursor = tx.endpoint()?.cursor;
            Ok(Some((Asked { begun, source, target, ours }, cursor)))
        })
        .await
    }

    /// The remote did not do it: without an answer the attempt stays; with one that says nothing of names and contents it
    /// ends, and the item is tried again later.
    pub(super) async fn not_done(
        self: &Arc<Self>,
        ino: Ino,
        begun: Begun,
        error: RemoteError,
    ) -> Stepped {
        if !error.kind.is_unanswered() {
            change(self, move |tx| model::put_off(tx, ino, &begun)).await?;
        }
        Ok(Ended::Failed(error))
    }

    pub(super) fn tag(&self, ino: Ino, nonce: u64) -> AttemptTag {
        AttemptTag { mount: self.mount.clone(), item: ino.0, nonce }
    }
}

/// What came of a fetch that brought nothing: the remote's failures are told from those of this machine.
fn place_path(tx: &Tx, place: Option<&Place>) -> Result<Option<RemotePath>, CatalogError> {
    match place {
        Some(place) => model::path_of(tx, place),
        None => Ok(None),
    }
}

pub(super) fn locator(path: RemotePath, base: Option<&Base>) -> Locator {
    Locator {
        path,
        id: base.and_then(|base| base.id.clone()),
        extra: base.and_then(|base| base.extra.clone()),
    }
}

/// Contents that would not be a conflict: what was sent, and what was last in sync.
fn ours_of(tx: &Tx, ino: Ino) -> Result<Vec<Digest>, CatalogError> {
    let sent = tx.outbox(ino)?.map(|row| row.ours).unwrap_or_default();
    let known = tx.base(ino)?.and_then(|base| base.known);
    Ok(sent.into_iter().map(|sent| sent.digest).chain(known).collect())
}

/// Whether the refusal says something about names or contents there.
pub(super) fn is_refusal(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::VersionMismatch
            | ErrorKind::NotEmpty
            | ErrorKind::NoParent
    )
}

/// What a refused step found not to be there: the item, or the folder that it was to be in.
pub(super) fn gone_with(
    ino: Ino,
    begun: &Begun,
    why: Refusal,
    seen: Option<&Observed>,
) -> Option<Ino> {
    let folder = begun.attempt.target.as_ref().map(|target| target.parent);
    match (seen, why) {
        (None, Refusal::NoParent) => folder,
        (None, _) => Some(ino),
        (Some(_), _) => None,
    }
}

pub(super) fn refusal(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::NoParent => Refusal::NoParent,
        ErrorKind::VersionMismatch => Refusal::Mismatch,
        _ => Refusal::Other,
    }
}
