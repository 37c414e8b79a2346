//! `namespace=remote`: a change of names returns when the remote has it, and fails with the reason why not.
//!
//! What is known to keep it from the remote is found inside its own transaction, so that nothing changes here. A failure after
//! that undoes nothing: the remote may have done it all the same, and others may use here what it made. The change stays
//! pending, as the bytes of a failed `close=remote` do, and is sent when that is possible.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::observe::change;
use super::open::lock;
use super::settings::Returns;
use super::upload::not_sent;
use super::verbs::{Handle, Opened, Stat};
use super::{Answer, Engine, EngineError, Invalidation, MountState};
use crate::catalog::Tx;
use crate::model::{Edition, Ino, Kind, Place, Rows as _};

/// How long is waited for news before what is known is looked at again.
const LOOK: Duration = Duration::from_millis(200);

/// Is what a change of names should come to, here and at the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    ino: Ino,
    /// Where it is to be; `None`: nowhere.
    at: Option<Place>,
}

impl Outcome {
    /// It is to be there.
    pub(super) fn at(ino: Ino, place: Place) -> Self {
        Self { ino, at: Some(place) }
    }

    /// It is to be gone.
    pub(super) fn gone(ino: Ino) -> Self {
        Self { ino, at: None }
    }
}

impl Core {
    /// Whether changes of names wait for the remote.
    pub(super) fn names_wait(&self) -> bool {
        self.settings.namespace == Returns::Remote
    }

    /// How long changes of names rest before they are sent, nanoseconds.
    pub(super) fn names_rest(&self) -> i64 {
        if self.names_wait() { 0 } else { self.rests() }
    }

    /// Refuses a change that would have to wait for what is known not to come. What stays on this machine goes on.
    pub(super) fn may_change_names(
        &self,
        tx: &Tx,
        outcomes: &[Outcome],
    ) -> Result<(), EngineError> {
        if !self.names_wait() {
            return Ok(());
        }
        for outcome in outcomes {
            if tx.outbox(outcome.ino)?.is_some() {
                let Some(error) = self.what_keeps_all() else { return Ok(()) };
                // Somebody would notice if it were back.
                self.ask_for_changes();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Why nothing is sent now, if so.
    pub(super) fn what_keeps_all(&self) -> Option<EngineError> {
        match self.connection_state() {
            Some((MountState::AuthRequired, _)) => Some(EngineError::Unauthenticated),
            Some(_) => Some(EngineError::Offline),
            None if self.uploads_paused() => {
                Some(EngineError::Busy("sending is paused: dewfs resume".to_owned()))
            }
            None => None,
        }
    }

    /// Resolves when the remote has these changes, or it is known why not; then the kernel, which was told of a failure, is
    /// to ask anew for these names.
    pub(super) async fn arrived(
        self: &Arc<Self>,
        outcomes: Vec<Outcome>,
        names: Vec<Place>,
    ) -> Result<(), EngineError> {
        let outcome = self.wait_for(&outcomes).await;
        if outcome.is_err() {
            let entry = |Place { parent, name }| Invalidation::Entry { parent, name, gone: None };
            // The door is gone only when nobody can look any more.
            drop(self.invalidations.send(names.into_iter().map(entry).collect()));
        }
        outcome
    }

    async fn wait_for(self: &Arc<Self>, outcomes: &[Outcome]) -> Result<(), EngineError> {
        let items: Vec<Ino> = outcomes.iter().map(|outcome| outcome.ino).collect();
        let urgent = Urgent::new(self.clone(), items);
        let editions = self.editions_of(outcomes).await?;
        self.wake_all(&urgent.items).await?;
        let mut pulse = self.pulse.subscribe();
        let mut end = Instant::now() + self.settings.timeout;
        let mut sent = 0;
        loop {
            pulse.borrow_and_update();
            let mut left = false;
            for (outcome, edition) in outcomes.iter().zip(&editions) {
                left |= !self.has_arrived(outcome, *edition)?;
            }
            if !left {
                return Ok(());
            }
            if let Some(error) = self.what_keeps_all() {
                return Err(error);
            }
            let now_sent = self.sent_of(&urgent.items);
            if now_sent != sent {
                sent = now_sent;
                end = Instant::now() + self.settings.timeout;
            }
            if Instant::now() >= end {
                return Err(EngineError::TimedOut);
            }
            let pause = LOOK.min(end - Instant::now());
            if tokio::time::timeout(pause, pulse.changed()).await.is_err() {
                // What was written before is told a little later, and rests then.
                self.wake_all(&urgent.items).await?;
            }
        }
    }

    /// Which contents are to be there under their names: a file that was written and then moved over another one is a save.
    async fn editions_of(
        self: &Arc<Self>,
        outcomes: &[Outcome],
    ) -> Result<Vec<Edition>, EngineError> {
        let mut editions = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            if outcome.at.is_some() {
                self.observe_data(outcome.ino).await?;
            }
            let inode = self.catalog.read(|rows| rows.inode(outcome.ino))?;
            let file = inode.filter(|inode| inode.kind == Kind::File);
            editions.push(file.map_or(Edition(0), |inode| inode.edition));
        }
        Ok(editions)
    }

    async fn wake_all(self: &Arc<Self>, items: &[Ino]) -> Result<(), EngineError> {
        let items = items.to_vec();
        change(self, move |tx| {
            for ino in items {
                if tx.outbox_item(ino)?.is_some_and(|row| row.error.is_none()) {
                    tx.outbox_wake(ino)?;
                }
            }
            Ok(())
        })
        .await?;
        self.outbox.notify_one();
        Ok(())
    }

    fn sent_of(&self, items: &[Ino]) -> u64 {
        let sending = lock(&self.workers.sending);
        let done = |ino| sending.get(ino).map_or(0, |one| one.done.load(Ordering::Relaxed));
        items.iter().map(done).sum()
    }

    /// Whether the remote has it; an error if something else came of it, or if it cannot go by itself.
    fn has_arrived(&self, outcome: &Outcome, edition: Edition) -> Result<bool, EngineError> {
        let ino = outcome.ino;
        let (inode, base, row, is_copy) = self.catalog.read(|rows| {
            Ok((rows.inode(ino)?, rows.base(ino)?, rows.outbox_item(ino)?, rows.is_conflict(ino)?))
        })?;
        let local = inode.and_then(|inode| inode.local);
        if outcome.at.is_some() && is_copy || lock(&self.workers.met).contains(&ino) {
            return Err(EngineError::Exists);
        }
        if outcome.at.is_none() && local.is_some() {
            return Err(EngineError::Busy("it was changed at the remote meanwhile".to_owned()));
        }
        let is_there = match (&local, &base) {
            (None, None) => true,
            (Some(local), Some(base)) => base.place == *local && base.edition >= edition,
            _ => false,
        };
        let Some(row) = row.filter(|_| !is_there) else { return Ok(true) };
        if let Some(error) = row.error {
            return Err(not_sent(row.error_kind.as_deref(), error));
        }
        if self.is_held_up(ino)? {
            return Err(EngineError::Busy("held as one of very many: dewfs held".to_owned()));
        }
        Ok(false)
    }
}

impl Engine {
    /// Gives what `create` made: with `namespace=remote` when the remote has the new name.
    pub(super) fn arriving(&self, place: Place, answer: Answer<Created>) -> Answer<(Stat, Opened)> {
        if !self.core.names_wait() {
            return answer.map(|(stat, opened, _)| (stat, opened));
        }
        let engine = self.clone();
        Answer::Pending(Box::pin(async move {
            let kept = engine.clone();
            let made = answer.wait_or(move |made| kept.release(made.0.ino, made.1.handle)).await?;
            let (stat, opened, new) = made;
            if new {
                let mut closes = Closes(Some((engine.clone(), stat.ino, opened.handle)));
                let outcome = Outcome::at(stat.ino, place.clone());
                engine.core.arrived(vec![outcome], vec![place]).await?;
                closes.0 = None;
            }
            Ok((stat, opened))
        }))
    }
}

/// Is what `create` made, and whether it is new.
pub(super) type Created = (Stat, Opened, bool);

/// Closes a file that nobody was given.
struct Closes(Option<(Engine, Ino, Handle)>);

impl Drop for Closes {
    fn drop(&mut self) {
        if let Some((engine, ino, handle)) = self.0.take() {
            engine.release(ino, handle);
        }
    }
}

/// Is what somebody waits for, as long as somebody does.
struct Urgent {
    core: Arc<Core>,
    items: Vec<Ino>,
}

impl Urgent {
    fn new(core: Arc<Core>, items: Vec<Ino>) -> Self {
        core.urge(&items);
        core.workers.awaited.fetch_add(1, Ordering::Relaxed);
        Self { core, items }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        let workers = &self.core.workers;
        workers.awaited.fetch_sub(1, Ordering::Relaxed);
        for ino in &self.items {
            self.core.is_sent(*ino);
            lock(&workers.met).remove(ino);
        }
    }
}
