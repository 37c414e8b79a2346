//! Sending content: a whole moment of the data file, under the version it replaces.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::EngineError;
use super::core::{Core, steady as now};
use super::crash::crash_point;
use super::metadata::extended;
use super::observe::{change, change_with};
use super::open::lock;
use super::pause::BULK;
use super::steps::{Ended, gone_with, is_refusal, locator, refusal};
use super::workers::Sending;
use crate::cache::{Access, CacheError, DataFile, Snapshot, SnapshotBody};
use crate::catalog::{CatalogError, Durability, Inode, Tx};
use crate::model::{
    self, Begun, Content, Digest, Expect, Generation, Ino, Refusal, Rows as _, Sent, Stamp, Step,
    StepKind, Touched,
};
use crate::remote::{Body, CommitCheck, ErrorKind, Locator, Observed, Upload};

/// What is sent in one piece.
const AT_ONCE: u64 = 64 << 10;

/// How long a file that is being written while it is copied rests.
const MOVING: Duration = Duration::from_secs(2);

/// Is what one upload goes with.
struct Parcel {
    snapshot: Snapshot,
    data: Arc<DataFile>,
    generation: Generation,
    /// What its row said of the data file before it was copied.
    seen: Option<Stamp>,
}

/// Is an upload that was noted.
struct Noted {
    begun: Begun,
    sent: Sent,
    /// What goes with it besides content.
    shown: model::Shown,
    ours: Vec<Digest>,
}

/// Says what became of noting an upload.
enum Noting {
    Noted(Box<Noted>),
    /// Somebody has begun to write it: what was copied may be a part of what they mean.
    Written,
    /// It is not what was copied any more, or something else is to be done first.
    Other,
}

/// Ends the progress of an upload when it is over.
struct Shown<'a>(&'a Core, Ino);

/// How long an upload that was given up rests before what it left is looked at.
const GIVEN_UP: Duration = Duration::from_millis(100);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        lock(&self.0.workers.sending).remove(&self.1);
        self.0.pulse();
    }
}

impl Core {
    /// Sends what the file holds now.
    pub(super) async fn do_write(self: &Arc<Self>, ino: Ino) -> Result<Ended, EngineError> {
        if self.is_held_as_bulk(ino)? {
            return Ok(Ended::Stands);
        }
        crash_point!(self, "write: before it is copied");
        let parcel = match self.take_snapshot(ino).await {
            Ok(Some(parcel)) => parcel,
            Ok(None) => return Ok(Ended::Later(MOVING)),
            Err(EngineError::Busy(_)) => return Ok(Ended::Later(MOVING)),
            Err(error) => return Err(error),
        };
        crash_point!(self, "write: snapshot taken");
        let turn = self.workers.line.turn().await?;
        if !self.can_send() {
            // Paused, or cut off, while it waited.
            return Ok(Ended::Later(Duration::ZERO));
        }
        let noted = match self.note_write(ino, &parcel).await? {
            Noting::Noted(noted) => *noted,
            Noting::Written => return Ok(Ended::Later(MOVING)),
            Noting::Other => return Ok(Ended::Done),
        };
        let Some(path) = noted.begun.target.clone() else { return Ok(Ended::Done) };
        let target = locator(path, noted.begun.base.as_ref());
        let is_new = noted.begun.attempt.expect == Expect::Absent;
        if is_new && let Err(error) = self.may_create(&target.path).await {
            return self.not_sent(ino, noted.begun, error).await;
        }
        crash_point!(self, "write: noted, before it is sent");
        let outcome = {
            let (upload, _shown) = self.upload_of(ino, &parcel, &noted);
            let expect = noted.begun.attempt.expect.clone();
            let is_large = noted.sent.digest.size > BULK;
            let sent = self.remotes.transfer.write(&target, upload, expect);
            // Small ones are never held, and need not hear of all that happens.
            if is_large {
                tokio::select! {
                    outcome = sent => outcome,
                    // Given up in the middle: what became of it is looked at like after a crash, and the rest waits.
                    () = self.is_held_while_sent(ino) => return Ok(Ended::Later(GIVEN_UP)),
                }
            } else {
                sent.await
            }
        };
        drop(turn);
        crash_point!(self, "write: answered");
        match outcome {
            Ok(seen) => self.note_sent(ino, parcel, noted, seen).await,
            Err(error) if is_refusal(&error.kind) => {
                let Noted { begun, ours, .. } = noted;
                let seen = match self.stat(&Locator::at(target.path.clone()), &ours).await {
                    Ok(seen) => seen,
                    Err(error) => return Ok(Ended::Failed(error)),
                };
                let why = refusal(&error.kind);
                if seen.is_none()
                    && why == Refusal::NoParent
                    && let Err(error) = self.believe_no_folder("write", &target.path).await
                {
                    return self.not_sent(ino, begun, error).await;
                }
                let gone = gone_with(ino, &begun, why, seen.as_ref());
                let noted = (ino, begun.clone());
                self.refused_as_gone(gone, noted, &target.path, move |tx| {
                    model::write_refused(tx, ino, &begun, why, seen.as_ref())
                })
                .await
            }
            Err(error) => self.not_done(ino, noted.begun, error).await,
        }
    }

    /// Records that the remote has what was sent.
    async fn note_sent(
        self: &Arc<Self>,
        ino: Ino,
        parcel: Parcel,
        noted: Noted,
        seen: Observed,
    ) -> Result<Ended, EngineError> {
        let Noted { begun, sent, shown, .. } = noted;
        self.note_contact();
        self.counters.bytes_up.fetch_add(sent.digest.size, Ordering::Relaxed);
        let quiet = self.is_quiet(ino, &parcel).await?;
        drop(parcel);
        let rest = now().saturating_add(nanos(self.unquiet_pause(ino)));
        // Before the tick is over there is nothing to be confirmed.
        let ripe = now().saturating_add(nanos(self.remotes.transfer.capabilities().version_tick));
        // It has given its turn to the next one, and shares the commit that notes that.
        let is_hurried = self.workers.awaited.load(Ordering::Relaxed) > 0;
        let durability = if is_hurried { Durability::Soon } else { Durability::Later };
        let (is_young, rests) = change_with(self, durability, move |tx| {
            model::written(tx, ino, &begun, &seen, sent)?;
            // Unless that was not recorded: then it is not known to be there.
            if tx.base(ino)?.is_some_and(|base| base.version == seen.version) {
                model::metadata_sent(tx, ino, &shown)?;
            }
            // Who closed it since has told when it is to go.
            let rests = !quiet && tx.handles(ino).writers > 0 && tx.mark_pending(ino)?;
            if rests {
                tx.outbox_rest(ino, rest)?;
            }
            let is_young = quiet && tx.base(ino)?.is_some_and(|base| base.young);
            if is_young {
                tx.outbox_rest(ino, ripe)?;
            }
            Ok((is_young, rests))
        })
        .await?;
        Ok(match (rests, is_young) {
            (true, _) => Ended::Rests(rest),
            (false, true) => Ended::Ripens,
            (false, false) => Ended::Done,
        })
    }

    /// A whole moment of the data file; `None` if there is none to be had now.
    async fn take_snapshot(self: &Arc<Self>, ino: Ino) -> Result<Option<Parcel>, EngineError> {
        if let Some(live) = self.open.live(ino) {
            self.record(&live, Durability::Soon).await?;
        }
        let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { return Ok(None) };
        if inode.content != Content::Hydrated {
            return Ok(None);
        }
        let foreseen = self.foreseen(ino, inode.generation).await;
        let core = self.clone();
        self.blocking(move || {
            let Some(data) = core.data_to_send(&inode)? else { return Ok(None) };
            let attempt = u64::try_from(now()).unwrap_or_default();
            match core.cache.snapshot_of(ino, attempt, &data, foreseen) {
                Ok(snapshot) => {
                    let (data, generation, seen) = (Arc::new(data), inode.generation, inode.stamp);
                    Ok(Some(Parcel { snapshot, data, generation, seen }))
                }
                Err(CacheError::Moving { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The data file of a row; one that never had bytes is an empty file.
    fn data_to_send(&self, inode: &Inode) -> Result<Option<DataFile>, EngineError> {
        let data = self.cache.open_data(inode.ino, inode.generation, Access::Read)?;
        if data.is_none() && inode.attributes.size == 0 {
            drop(self.cache.open_or_create(inode.ino, inode.generation)?);
            // One of our own that may write would be taken for somebody else's.
            return Ok(self.cache.open_data(inode.ino, inode.generation, Access::Read)?);
        }
        if data.is_none() {
            return Err(EngineError::Disk(std::io::Error::other(
                "the data file of this item is gone from the state directory",
            )));
        }
        Ok(data)
    }

    async fn note_write(
        self: &Arc<Self>,
        ino: Ino,
        parcel: &Parcel,
    ) -> Result<Noting, EngineError> {
        let (stamp, digest) = (parcel.snapshot.stamp, parcel.snapshot.digest);
        let (mtime, generation, seen) = (parcel.data.mtime()?, parcel.generation, parcel.seen);
        let (core, data) = (self.clone(), parcel.data.clone());
        change(self, move |tx| {
            let inode = tx.inode(ino)?.filter(|inode| inode.generation == generation);
            // What was recorded since is later than what was copied.
            let stamps = [seen, Some(stamp)];
            if inode.is_none_or(|inode| !stamps.contains(&inode.stamp)) {
                return Ok(Noting::Other);
            }
            // When the step was chosen nobody wrote, or nobody who is waited for.
            if core.is_being_written(tx, ino)? {
                return Ok(Noting::Written);
            }
            if tx.handles(ino).writers == 0 && data.stamp().ok() != Some(stamp) {
                return Ok(Noting::Other);
            }
            // From here on the edition is the one whose bytes were copied.
            tx.observe(ino, generation, stamp, mtime)?;
            let mut busy = lock(&core.workers.busy).clone();
            busy.remove(&ino);
            let wanted = Step { kind: StepKind::Write, ino };
            if model::plan(tx, ino, &busy)? != wanted {
                return Ok(Noting::Other);
            }
            Ok(note(tx, ino, digest)?.map_or(Noting::Other, |noted| Noting::Noted(Box::new(noted))))
        })
        .await
    }

    /// Whether a writer has it open who is waited for.
    fn is_being_written(&self, tx: &Tx, ino: Ino) -> Result<bool, CatalogError> {
        let mapped = u32::from(self.open.is_mapped(ino));
        if tx.handles(ino).writers <= mapped || lock(&self.workers.urgent).contains(&ino) {
            return Ok(false);
        }
        let since = tx.outbox_item(ino)?.map(|item| item.since);
        let since = since.max(since.and(self.open.written_since(ino)));
        Ok(since.is_some_and(|since| now() - since < nanos(self.writer_pause())))
    }

    fn upload_of<'a>(
        self: &'a Arc<Self>,
        ino: Ino,
        parcel: &Parcel,
        noted: &Noted,
    ) -> (Upload, Shown<'a>) {
        let total = noted.sent.digest.size;
        let sending = Arc::new(Sending { total, ..Sending::default() });
        lock(&self.workers.sending).insert(ino, sending.clone());
        self.tell_begun(ino, "sync");
        self.pulse();
        let (body, still_whole) = match &parcel.snapshot.body {
            SnapshotBody::Memory(bytes) => (Body::Memory(bytes.clone()), None),
            SnapshotBody::File { path, owned: true } => (Body::File(path.clone()), None),
            SnapshotBody::File { path, owned: false } => {
                let (data, stamp) = (parcel.data.clone(), parcel.snapshot.stamp);
                let check: CommitCheck =
                    Arc::new(move || data.unmoved_since(stamp).unwrap_or(false));
                (Body::File(path.clone()), Some(check))
            }
        };
        let core = self.clone();
        let told = move |bytes| {
            sending.done.store(bytes, Ordering::Relaxed);
            core.pulse();
        };
        let upload = Upload {
            body,
            digest: noted.sent.digest,
            mtime: Some(noted.shown.mtime),
            mode: noted.shown.mode.filter(|_| noted.shown.sent.has(Touched::MODE)),
            extended: extended(&noted.shown, &self.remotes.transfer.capabilities()),
            tag: self.tag(ino, noted.begun.attempt.nonce),
            still_whole,
            pace: None,
            // What goes out in one piece has no progress.
            progress: (total > AT_ONCE).then(|| Arc::new(told) as _),
        };
        (upload, Shown(self, ino))
    }

    /// Whether nobody can still change what is here. What was written since the copy is brought to the row.
    async fn is_quiet(self: &Arc<Self>, ino: Ino, parcel: &Parcel) -> Result<bool, EngineError> {
        // Asked first: what is written after the stamp was compared must not be missed.
        let nobody_writes = self.nobody_writes_to(ino, parcel.generation, &parcel.data).await?;
        let (data, stamp) = (parcel.data.clone(), parcel.snapshot.stamp);
        let core = self.clone();
        // It may wait for the disk: on the runtime's own threads everybody else would wait with it.
        let is_still = match self.cache.stamp_tick() {
            Some(_) => self.blocking(move || Ok(core.cache.is_still(&data, stamp)?)).await?,
            None => self.cache.is_still(&data, stamp)?,
        };
        if !is_still {
            let live = self.open.live(ino).filter(|live| live.generation == parcel.generation);
            if let Some(live) = live {
                // It may have been written past us.
                let mut state = live.state();
                state.wrote |= state.hydrated;
            }
            self.observe_data(ino).await?;
        }
        Ok(nobody_writes)
    }
}

fn note(tx: &mut Tx, ino: Ino, digest: Digest) -> Result<Option<Noted>, CatalogError> {
    let (Some(node), Some(inode)) = (tx.node(ino)?, tx.inode(ino)?) else { return Ok(None) };
    let Some(target) = node.local else { return Ok(None) };
    let base = tx.base(ino)?;
    let known = base.as_ref().and_then(|base| base.known);
    let never_had = base.is_none();
    let expect = base.map_or(Expect::Absent, |base| Expect::Version(base.version));
    let sent = Sent { digest, edition: node.edition };
    let begun = model::begin_write(tx, ino, target, expect, sent)?;
    let row = tx.outbox(ino)?.unwrap_or_default();
    let ours = row.ours.iter().map(|sent| sent.digest).chain(known).collect();
    let mut shown = tx.to_be_sent(&inode, never_had)?;
    // The time goes along with each content.
    shown.sent = shown.sent.with(Touched::MTIME, true);
    Ok(Some(Noted { begun, sent, shown, ours }))
}

pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Whether a person must do something before this item can be sent.
pub(super) fn needs_person(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::NameRejected)
}
