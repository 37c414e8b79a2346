//! Looking at the remote: what is there, and, where it may be ours, what it is for certain. Who the remote is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::EngineError;
use super::core::{Cause, Core};
use super::crash::crash_here;
use super::feed::absent;
use super::live::Failure;
use super::start::note_identity;
use crate::catalog::{CatalogError, Durability, Origin, Tx};
use crate::model::{
    self, Attempt, Base, Digest, Ino, Kind, Look, Name, Observed, Place, Rows as _, Sight, StepKind,
};
use crate::remote::layers::{Connection, Patience};
use crate::remote::{ErrorKind, Locator, Remote, RemoteError};

/// Is the turn to ask the remote who it is, with how the last one failed, if it did.
type Identifying<'a> = tokio::sync::MutexGuard<'a, Option<LastFailure>>;

/// Is how asking the remote who it is failed last.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastFailure {
    ended: Instant,
    is_program: bool,
    failure: Failure,
}

/// Why a root is not believed to be the one that is known.
pub(super) const EMPTY: &str = "it is empty where it had entries";
pub(super) const OTHER: &str =
    "it is another one than before: its root has none of the entries that are known";
/// So many entries of a root do not go all at once.
const MANY: usize = 3;
/// So many of them are looked at.
const SOME: usize = 1000;

/// Runs a change of the sync workers as one transaction.
pub(super) async fn change<T: Send + 'static>(
    core: &Core,
    act: impl FnOnce(&mut Tx) -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, EngineError> {
    change_with(core, Durability::Soon, act).await
}

/// The same; [`Durability::Later`] for what may wait a moment for others to share its commit.
pub(super) async fn change_with<T: Send + 'static>(
    core: &Core,
    durability: Durability,
    act: impl FnOnce(&mut Tx) -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, EngineError> {
    crash_here!(core, "rows: before a change");
    let outcome = core.catalog.write(durability, Origin::Engine, act).await;
    crash_here!(core, "rows: changed");
    outcome.map_err(EngineError::from)
}

impl Core {
    /// What is there now; with its digest if its size is that of one of `ours`.
    pub(super) async fn stat(
        self: &Arc<Self>,
        at: &Locator,
        ours: &[Digest],
    ) -> Result<Option<Observed>, RemoteError> {
        self.stat_unless(at, ours, |_| false).await
    }

    /// The same; without a digest where `is_enough` says that one would tell nothing.
    pub(super) async fn stat_unless(
        self: &Arc<Self>,
        at: &Locator,
        ours: &[Digest],
        is_enough: impl Fn(&Observed) -> bool + Send,
    ) -> Result<Option<Observed>, RemoteError> {
        let remote = &self.remotes.transfer;
        // Content that changes between the look and the read is looked at again, a few times.
        for _ in 0..3 {
            let seen = remote.stat(at).await?;
            self.note_contact();
            let seen = match seen {
                Some(seen) => Some(seen),
                None => {
                    self.believe_nothing(at).await?;
                    // The remote may have come back between the look and its name: what it has now is what it has.
                    remote.stat(at).await?
                }
            };
            let Some(mut seen) = seen else { return Ok(None) };
            let may_be_ours = seen.kind == Kind::File
                && seen.digest.is_none()
                && ours.iter().any(|digest| digest.size == seen.size);
            if !may_be_ours || is_enough(&seen) {
                return Ok(Some(seen));
            }
            match digest_of(remote.as_ref(), at, &seen).await {
                Ok(digest) => {
                    seen.digest = Some(digest);
                    return Ok(Some(seen));
                }
                Err(error)
                    if matches!(error.kind, ErrorKind::VersionMismatch | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Err(RemoteError::new(ErrorKind::Offline, "stat", &at.path)
            .because("it changes faster than it can be read"))
    }

    /// Nothing is there: that is so only if the remote is the one we know.
    async fn believe_nothing(self: &Arc<Self>, at: &Locator) -> Result<(), RemoteError> {
        let refused = |why| RemoteError::new(ErrorKind::Offline, "stat", &at.path).because(why);
        match self.is_root_in_place().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(refused("the remote is not the one this mount knows".to_owned())),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// Looks at an item at the remote now and applies what is seen.
    pub(crate) async fn observe_now(self: &Arc<Self>, ino: Ino) {
        if let Err(error) = self.observe(ino).await {
            tracing::debug!(ino = ino.0, %error, "cannot look at an item");
        }
    }

    async fn observe(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        self.identify(Cause::User).await?;
        let since = change(self, |tx| tx.tick()).await?;
        let at = self.locator(ino)?;
        let mut seen = self.remotes.user.stat(&at).await?;
        self.note_contact();
        if seen.is_none() {
            if !self.is_root_in_place().await? {
                return Err(EngineError::Offline);
            }
            // It may have come back between the look and its name.
            seen = self.remotes.user.stat(&at).await?;
        }
        let looks = vec![Look { above: Vec::new(), sight: Sight { path: at.path, seen, since } }];
        let looked = looks.clone();
        let applied =
            self.believe(move |tx| absent(tx, &looked), |tx| model::apply_page(tx, looks)).await?;
        applied.ok_or(EngineError::Offline)
    }

    /// Makes sure, once after each start, that the remote is the one we know and that its change cursor is known: what is
    /// listed before there is a cursor would miss changes.
    pub(super) async fn identify(self: &Arc<Self>, cause: Cause) -> Result<(), EngineError> {
        if self.is_followed() {
            return Ok(());
        }
        let begun = Instant::now();
        let mut last = self.turn_to_identify(cause).await?;
        if self.is_followed() {
            return Ok(());
        }
        // Who stood behind others has their answer: one that hangs would be waited for by each of them.
        // Who waits for a program is not as patient as the others, and is not hushed with them.
        let of_my_kind = |last: &LastFailure| last.is_program == cause.is_program();
        if let Some(last) = last.filter(|last| last.ended > begun).filter(of_my_kind) {
            return Err(last.failure.error());
        }
        let outcome = self.identify_now(cause).await;
        *last = outcome.as_ref().err().map(|error| LastFailure {
            ended: Instant::now(),
            is_program: cause.is_program(),
            failure: Failure::of(error),
        });
        outcome
    }

    /// One asks for all. What is known to be away is waited for no longer than any answer of it.
    async fn turn_to_identify(&self, cause: Cause) -> Result<Identifying<'_>, EngineError> {
        let turn = self.workers.identifying.lock();
        let is_away = matches!(self.link.connection(), Connection::Offline { .. });
        if !(cause.is_program() && is_away) {
            return Ok(turn.await);
        }
        let turn = tokio::time::timeout(Patience::default().offline, turn).await;
        turn.map_err(|_too_long| EngineError::Offline)
    }

    async fn identify_now(self: &Arc<Self>, cause: Cause) -> Result<(), EngineError> {
        if !self.workers.probed.load(Ordering::Acquire) {
            self.recall_folders()?;
        }
        let known = loop {
            let before = self.times_lost();
            if !self.knows_remote() {
                self.look_who_it_is(cause).await?;
            }
            self.take_first_cursor(cause).await?;
            // What was found missing meanwhile is not answered by what was asked before.
            let (outages, forgotten) = before;
            if self.times_lost().1 == forgotten {
                break outages + forgotten + 1;
            }
        };
        self.workers.followed.store(true, Ordering::Release);
        if self.set_missing(None) {
            // What was refused by what was in its place is not refused by it.
            change(self, |tx| tx.outbox_wake_all()).await?;
        }
        self.identified.store(known, Ordering::Release);
        self.outbox.notify_one();
        self.listing.notify_one();
        Ok(())
    }

    fn is_followed(&self) -> bool {
        self.knows_remote() && self.workers.followed.load(Ordering::Acquire)
    }

    async fn look_who_it_is(self: &Arc<Self>, cause: Cause) -> Result<(), EngineError> {
        let told = match self.workers.probed.load(Ordering::Acquire) {
            true => self.remotes.of(cause).identity().await,
            false => self.remotes.of(cause).probe().await.map(|found| found.identity),
        };
        let identity = match told {
            Ok(identity) => identity,
            Err(error) => {
                if is_no_folder(&error.kind) {
                    self.set_missing(Some("its root folder is not there"));
                }
                return Err(error.into());
            }
        };
        self.note_contact();
        let known = self.catalog.read(|rows| rows.endpoint())?;
        let is_same = self.is_who(known.identity.as_deref(), identity.as_deref());
        let other = known.identity.is_some() && identity.is_some() && !is_same;
        if other && !self.is_accepted() {
            self.set_missing(Some("it is another one than before"));
            return Err(EngineError::Offline);
        }
        if other && self.workers.probed.load(Ordering::Acquire) {
            // Only a probe lets go of the one that was.
            self.remotes.of(cause).probe().await?;
        }
        self.workers.probed.store(true, Ordering::Release);
        if !is_same && let Some(why) = self.is_other_by_its_root(cause).await? {
            self.set_missing(Some(why));
            return Err(EngineError::Offline);
        }
        self.second_look(cause).await?;
        if identity.is_some() && known.identity != identity {
            note_identity(&self.catalog, identity).await?;
        }
        Ok(())
    }

    /// Whether the remote tells of itself that it is the one we know.
    pub(super) async fn is_surely_same(self: &Arc<Self>) -> bool {
        let known = self.catalog.read(|rows| rows.endpoint()).ok().and_then(|end| end.identity);
        match self.remotes.feed.identity().await {
            Ok(identity) => self.is_who(known.as_deref(), identity.as_deref()),
            Err(_) => false,
        }
    }

    /// Whether a remote that tells this of itself is the one known by that.
    fn is_who(&self, known: Option<&str>, told: Option<&str>) -> bool {
        known.zip(told).is_some_and(|(known, told)| self.remotes.feed.is_same(known, told))
    }

    /// Tells the remote what earlier lives noted of its folders, before it is believed that anything of them is gone.
    fn recall_folders(&self) -> Result<(), EngineError> {
        for folder in self.catalog.read(|rows| rows.noted_folders())? {
            if let Ok(locator) = self.locator(folder) {
                self.remotes.feed.interested(&locator);
            }
        }
        Ok(())
    }

    /// Whether a remote that does not say who it is cannot be the one that is known, and why: its root is empty, or has none of
    /// the entries that are known.
    async fn is_other_by_its_root(
        self: &Arc<Self>,
        cause: Cause,
    ) -> Result<Option<&'static str>, EngineError> {
        let known = change(self, some_of_root).await?;
        if known.is_empty() || self.is_accepted() {
            return Ok(None);
        }
        let remote = self.remotes.of(cause);
        let root = Locator::at(crate::model::RemotePath::root());
        let (mut next, mut is_empty) = (None, true);
        loop {
            let page = remote.list(&root, next.take()).await?;
            is_empty &= page.entries.is_empty();
            let names = page.entries.into_iter().map(|listed| listed.name).collect();
            if self.has_a_known_one(names).await? {
                return Ok(None);
            }
            match page.next {
                Some(token) => next = Some(token),
                None => break,
            }
        }
        change(self, move |tx| why_other(tx, &model::unchanged(tx, &known)?, is_empty)).await
    }

    /// Whether the root is known to have one of these.
    pub(super) async fn has_a_known_one(
        self: &Arc<Self>,
        names: Vec<Name>,
    ) -> Result<bool, EngineError> {
        change(self, move |tx| {
            for name in names {
                if tx.base_at(&Place::new(Ino::ROOT, name))?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }
}

fn is_removal(attempt: &Attempt) -> bool {
    attempt.kind == StepKind::Remove
}

/// Some of what is known of the root: enough that not all of it is changed here while the root is listed once.
fn some_of_root(tx: &mut Tx) -> Result<HashMap<Ino, Base>, CatalogError> {
    let mut known = HashMap::new();
    for ino in tx.base_children(Ino::ROOT)?.into_iter().take(SOME) {
        known.extend(tx.base(ino)?.map(|base| (ino, base)));
    }
    Ok(known)
}

/// Why a root in which none of these was seen is not the one that is known, if so. They were known before it was asked, and are
/// so now: what was sent while it answered, or is just being removed, cannot be in the answer and tells nothing.
pub(super) fn why_other(
    tx: &Tx,
    known: &[Ino],
    is_empty: bool,
) -> Result<Option<&'static str>, CatalogError> {
    let mut in_sync = 0;
    for ino in known {
        match tx.outbox(*ino)? {
            // Of those in sync, so many would not just have been moved or removed.
            None => in_sync += 1,
            Some(row) if row.attempt.as_ref().is_some_and(is_removal) => continue,
            // Nothing else that is sent takes it out of the remote.
            Some(_) => {}
        }
        if is_empty {
            return Ok(Some(EMPTY));
        }
        if in_sync >= MANY {
            return Ok(Some(OTHER));
        }
    }
    Ok(None)
}

/// Whether a root that answers like this is gone: nothing is there, or something that is no folder.
pub(super) fn is_no_folder(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::RootMissing)
}

/// Reads a whole content and tells what it is for certain.
async fn digest_of(
    remote: &dyn Remote,
    at: &Locator,
    seen: &Observed,
) -> Result<Digest, RemoteError> {
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    if seen.size > 0 {
        let mut stream = remote.read(at, &seen.version, 0..seen.size).await?;
        if stream.total.is_some_and(|total| total != seen.size) {
            return Err(RemoteError::new(ErrorKind::VersionMismatch, "read", &at.path));
        }
        while let Some(piece) = stream.bytes.next().await {
            let piece = piece?;
            size += piece.len() as u64;
            hasher.update(&piece);
        }
    }
    if size != seen.size {
        return Err(RemoteError::new(ErrorKind::Corrupt, "read", &at.path));
    }
    Ok(Digest { size, hash: *hasher.finalize().as_bytes() })
}
