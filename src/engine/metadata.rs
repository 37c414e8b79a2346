//! Sending times and modes that were set after the content was sent.

use std::sync::Arc;

use super::EngineError;
use super::core::Core;
use super::crash::crash_point;
use super::namespace::rest;
use super::observe::change;
use super::steps::{Asked, Ended, Stepped, is_refusal, refusal};
use crate::catalog::{Inode, SetAttributes as RowAttributes, Tx};
use crate::model::{self, Expect, Ino, Kind, Rows as _, Shown, Step, StepKind};
use crate::remote::{ErrorKind, Metadata};

impl Core {
    /// A user set times or mode: where the remote holds them they are sent, after the usual rest.
    pub(super) fn retouched(
        &self,
        tx: &mut Tx,
        inode: &Inode,
        set: RowAttributes,
    ) -> Result<(), EngineError> {
        let can = self.remotes.transfer.capabilities();
        let mtime = set.mtime.is_some_and(|mtime| mtime != inode.attributes.mtime);
        let mode = set.mode.is_some_and(|mode| Some(mode) != inode.attributes.mode);
        let sends = mtime && can.settable_mtime || mode && can.settable_mode;
        if inode.kind != Kind::File || !sends || !can.writable {
            return Ok(());
        }
        tx.set_retouched(inode.ino, None)?;
        model::touch(tx, inode.ino)?;
        rest(tx, inode.ino, self.rests())
    }

    /// Sends times and mode as they are shown now, under the version that the content has there.
    pub(super) async fn do_metadata(self: &Arc<Self>, ino: Ino) -> Stepped {
        let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else {
            return Ok(Ended::Done);
        };
        let shown = Shown { mtime: inode.attributes.mtime, mode: inode.attributes.mode };
        let can = self.remotes.transfer.capabilities();
        let metadata = Metadata {
            mtime: can.settable_mtime.then_some(shown.mtime),
            mode: shown.mode.filter(|_| can.settable_mode),
        };
        if metadata == Metadata::default() {
            return self.do_rows(move |tx| model::metadata_sent(tx, ino, shown)).await;
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
                    model::metadata_set(tx, ino, &begun, &seen, metadata.mtime, shown)
                })
                .await
            }
            Err(error) if error.kind == ErrorKind::Unsupported => {
                change(self, move |tx| {
                    model::put_off(tx, ino, &begun)?;
                    model::metadata_sent(tx, ino, shown)
                })
                .await?;
                Ok(Ended::Done)
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
