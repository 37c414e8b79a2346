//! Sending times and modes that were set after the content was sent.

use std::sync::Arc;

use super::EngineError;
use super::core::Core;
use super::crash::crash_point;
use super::namespace::rest;
use super::observe::change;
use super::steps::{Asked, Ended, Stepped, is_refusal, refusal};
use crate::catalog::{Inode, SetAttributes as RowAttributes, Tx};
use crate::model::{self, Expect, Ino, Kind, Rows as _, Shown, Step, StepKind, Touched};
use crate::remote::{Capabilities, ErrorKind, Extended, Metadata};

impl Core {
    /// A user set times, mode or owner: where the remote holds them they are sent, after the usual rest.
    pub(super) fn retouched(
        &self,
        tx: &mut Tx,
        inode: &Inode,
        set: RowAttributes,
    ) -> Result<(), EngineError> {
        let can = self.remotes.transfer.capabilities();
        let (old, owns) = (&inode.attributes, can.settable_extended);
        let is_new = |set: Option<u32>, old: Option<u32>| set.is_some() && set != old;
        // Without one set it is the mount's own: who sets that sets nothing.
        let (user, group) =
            (old.uid.or(Some(self.settings.uid)), old.gid.or(Some(self.settings.gid)));
        let mtime = set.mtime.is_some_and(|mtime| mtime != old.mtime);
        let touched = Touched::default()
            .with(Touched::MTIME, mtime && can.settable_mtime)
            .with(Touched::MODE, is_new(set.mode, old.mode) && can.settable_mode)
            .with(Touched::OWNER, is_new(set.uid, user) && owns)
            .with(Touched::GROUP, is_new(set.gid, group) && owns);
        if inode.kind != Kind::File || touched == Touched::default() || !can.writable {
            return Ok(());
        }
        tx.retouch(inode.ino, touched)?;
        self.send_touched(tx, inode.ino)
    }

    /// A user set or removed the attribute of this name: a remote that holds them gets that, after the usual rest.
    pub(super) fn retouched_attribute(
        &self,
        tx: &mut Tx,
        inode: &Inode,
        name: &[u8],
    ) -> Result<(), EngineError> {
        let can = self.remotes.transfer.capabilities();
        if inode.kind != Kind::File || !can.settable_extended || !can.writable || !is_told(name) {
            return Ok(());
        }
        tx.retouch_attribute(inode.ino, name)?;
        self.send_touched(tx, inode.ino)
    }

    fn send_touched(&self, tx: &mut Tx, ino: Ino) -> Result<(), EngineError> {
        model::touch(tx, ino)?;
        rest(tx, ino, self.rests())
    }

    /// Sends what was set besides content as it is shown now, under the version that the content has there. What was not set
    /// since stays there as it is: somebody may have changed it.
    pub(super) async fn do_metadata(self: &Arc<Self>, ino: Ino) -> Stepped {
        let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else {
            return Ok(Ended::Done);
        };
        let can = self.remotes.transfer.capabilities();
        let shown = self.catalog.read(|rows| rows.to_be_sent(&inode, false))?;
        let metadata = Metadata {
            mtime: (can.settable_mtime && shown.sent.has(Touched::MTIME)).then_some(shown.mtime),
            mode: shown.mode.filter(|_| can.settable_mode && shown.sent.has(Touched::MODE)),
            extended: extended(&shown, &can),
        };
        if metadata == Metadata::default() {
            return self.do_rows(move |tx| model::metadata_sent(tx, ino, &shown)).await;
        }
        if self.catalog.read(|rows| rows.base(ino))?.is_some_and(|base| base.young) {
            // The version it has may be that of another content as well.
            self.know_hydrated(ino).await?;
        }
        let step = Step { kind: StepKind::Metadata, ino };
        let begun = self.begin(step, move |tx, ino| {
            let Some(base) = tx.base(ino)? else { return Ok(None) };
            let expect = Expect::Version(base.version);
            Ok(Some(model::begin(tx, ino, StepKind::Metadata, None, expect)?))
        });
        let Some((asked, _)) = begun.await? else { return Ok(Ended::Done) };
        let Asked { begun, source, ours, .. } = asked;
        let expect = begun.attempt.expect.clone();
        crash_point!(self, "metadata: before it is sent");
        let outcome = self.remotes.transfer.set_metadata(&source, &metadata, expect).await;
        crash_point!(self, "metadata: answered");
        match outcome {
            Ok(seen) => {
                self.note_contact();
                self.do_rows(move |tx| {
                    model::metadata_set(tx, ino, &begun, &seen, metadata.mtime, &shown)
                })
                .await
            }
            Err(error) if error.kind == ErrorKind::Unsupported => {
                let seen = match self.stat(&source, &ours).await {
                    Ok(seen) => seen,
                    Err(error) => return self.not_done(ino, begun, error).await,
                };
                self.do_rows(move |tx| {
                    model::metadata_not_held(tx, ino, &begun, seen.as_ref(), &shown)
                })
                .await
            }
            Err(error) if is_refusal(&error.kind) => {
                self.know_hydrated(ino).await?;
                let known = self.catalog.read(|rows| rows.base(ino))?.and_then(|base| base.known);
                let ours: Vec<_> = ours.into_iter().chain(known).collect();
                let seen = match self.stat(&source, &ours).await {
                    Ok(seen) => seen,
                    Err(error) => return Ok(Ended::Failed(error)),
                };
                let why = refusal(&error.kind);
                change(self, move |tx| {
                    model::metadata_refused(tx, ino, &begun, why, seen.as_ref())
                })
                .await?;
                Ok(Ended::Refused)
            }
            Err(error) => self.not_done(ino, begun, error).await,
        }
    }
}

/// Whether remotes may get the attribute of this name; what programs keep that embed the engine begins otherwise.
fn is_told(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}

/// What of this goes to a remote that can hold owners, groups and user attributes.
pub(super) fn extended(shown: &Shown, can: &Capabilities) -> Extended {
    if !can.settable_extended {
        return Extended::default();
    }
    let told = shown.attributes.iter().filter(|(name, _)| is_told(name));
    Extended {
        uid: shown.uid.filter(|_| shown.sent.has(Touched::OWNER)),
        gid: shown.gid.filter(|_| shown.sent.has(Touched::GROUP)),
        attributes: told.map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}
