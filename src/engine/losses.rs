//! What the remote lost. Of a remote that is surely the one we know a few losses are believed at once; more than `guard=` of
//! them that are also more than half of all that is known, within a minute, only when a second whole listing says so too.
//!
//! Until then the remote counts as missing: nothing is removed here and nothing is sent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::core::{Cause, Core, steady};
use super::feed::AFTER_FAILURE;
use super::observe::change;
use super::open::lock;
use super::steps::{Ended, Stepped};
use super::{Engine, EngineError};
use crate::catalog::{CatalogError, Tx};
use crate::model::{self, Begun, Ino, Kind, Name, RemotePath, Rows as _, Tick};
use crate::remote::{ErrorKind, Locator, RemoteError};

/// How long losses count as one.
const WINDOW: Duration = Duration::from_secs(60);

/// After every tick that was given out.
const LATER: Tick = Tick(i64::MAX.cast_unsigned());

/// How long a root that was seen in place is trusted with what is new: so often it costs a request.
const SURE: Duration = Duration::from_secs(5);

/// Is what is known of losses, in memory.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// How much was believed to be lost, and when, within the last minute.
    recent: VecDeque<(Instant, usize)>,
    /// What a second look must tell, and from when on it may.
    doubted: Option<(HashSet<RemotePath>, Instant)>,
    /// What a second look has told, and nobody has seen since.
    believed: HashSet<RemotePath>,
    /// When it has.
    told: i64,
    /// When a person said that the remote is meant to be as it is.
    accepted: Option<Tick>,
}

/// Is shared between those who look.
pub(super) type Shared = Arc<std::sync::Mutex<Losses>>;

/// Says whether losses are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Believed,
    Doubted,
}

/// Whether a failure is about the folder that was asked for, and not about the remote or the way to it.
fn is_its_own(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Away
            | ErrorKind::Denied
            | ErrorKind::Corrupt
            | ErrorKind::VersionMismatch
            | ErrorKind::Unsupported
            | ErrorKind::Other
    )
}

/// Of these, each once, those that are in none of the others: with a folder all that is in it is lost, and counted.
fn outermost(tx: &Tx, lost: &[Ino]) -> Result<Vec<Ino>, CatalogError> {
    let mut is_lost = HashMap::from([(Ino::ROOT, false)]);
    is_lost.extend(lost.iter().map(|ino| (*ino, true)));
    let mut outermost = Vec::new();
    for ino in lost.iter().collect::<HashSet<_>>() {
        let mut above = Vec::new();
        let mut at = tx.base_place(*ino)?;
        let with_its_folder = loop {
            let Some(folder) = at.map(|place| place.parent) else { break false };
            if let Some(known) = is_lost.get(&folder) {
                break *known;
            }
            // Damaged rows may make a circle.
            is_lost.insert(folder, false);
            above.push(folder);
            at = tx.base_place(folder)?;
        };
        is_lost.extend(above.into_iter().map(|folder| (folder, with_its_folder)));
        if !with_its_folder {
            outermost.push(*ino);
        }
    }
    Ok(outermost)
}

impl Losses {
    /// Whether these may be taken for gone now; noted in the transaction that would do it. `limit` 0 believes everything.
    pub(super) fn weigh(
        &mut self,
        tx: &Tx,
        lost: &[Ino],
        limit: usize,
        pause: Duration,
    ) -> Result<Weight, CatalogError> {
        while self.recent.front().is_some_and(|(when, _)| when.elapsed() > WINDOW) {
            self.recent.pop_front();
        }
        if limit == 0 || self.accepted.is_some() || lost.is_empty() {
            return Ok(Weight::Believed);
        }
        let mut count = 0;
        for ino in outermost(tx, lost)? {
            count += 1 + tx.base_below(ino, true, usize::MAX >> 1)?;
        }
        let before: usize = self.recent.iter().map(|(_, count)| count).sum();
        let sum = before + count;
        if sum > limit && tx.base_below(Ino::ROOT, true, 2 * sum)? + before < 2 * sum {
            let mut paths = HashSet::new();
            for ino in lost {
                let Some(path) = tx.base_path(*ino)? else { continue };
                if self.believed.contains(&path) && was_there_since(tx, *ino, self.told)? {
                    self.believed.remove(&path);
                }
                paths.insert(path);
            }
            if !paths.is_subset(&self.believed) {
                let (doubted, from) =
                    self.doubted.get_or_insert_with(|| (HashSet::new(), Instant::now()));
                doubted.extend(paths);
                *from = Instant::now() + pause;
                return Ok(Weight::Doubted);
            }
            // Should they come back and be lost once more, that is another loss.
            self.believed.retain(|path| !paths.contains(path));
        }
        self.recent.push_back((Instant::now(), count));
        Ok(Weight::Believed)
    }

    /// What was seen is there: should it be lost later, that is another loss.
    pub(super) fn saw<'a>(&mut self, seen: impl IntoIterator<Item = &'a RemotePath>) {
        if !self.believed.is_empty() {
            let seen: HashSet<&RemotePath> = seen.into_iter().collect();
            self.believed.retain(|path| !seen.contains(path));
        }
    }
}

/// Whether its folder was wholly listed since then: had it not been there, it would not be known any more.
fn was_there_since(tx: &Tx, ino: Ino, since: i64) -> Result<bool, CatalogError> {
    let Some(place) = tx.base_place(ino)? else { return Ok(false) };
    let is_listed = tx.looked(place.parent)?.is_some_and(|looked| looked > since);
    // Others are not taken for gone by a listing.
    Ok(is_listed && !vanishing(tx, [ino])?.is_empty())
}

impl Core {
    /// How many losses at once are believed without a second look; 0: all.
    pub(super) fn most_lost(&self) -> usize {
        usize::try_from(self.settings.guard).unwrap_or(usize::MAX)
    }

    /// How long after a doubt the second look is made.
    pub(super) fn doubt_pause(&self) -> Duration {
        self.settings.poll.min(AFTER_FAILURE)
    }

    /// Whether a person said that the remote is meant to be as it is.
    pub(super) fn is_accepted(&self) -> bool {
        self.settings.adopt_remote || lock(&self.workers.losses).accepted.is_some()
    }

    /// All that is known was looked at since a person accepted the remote: from now on losses are doubted again.
    pub(super) fn end_acceptance(&self) -> Result<(), EngineError> {
        let accepted = lock(&self.workers.losses).accepted;
        let Some(since) = accepted else { return Ok(()) };
        // What cannot be looked at, or is marked anew, would keep it for ever.
        if !self.catalog.read(|rows| rows.is_left_to_look(since))? {
            let mut losses = lock(&self.workers.losses);
            losses.accepted = losses.accepted.filter(|now| *now != since);
        }
        Ok(())
    }

    /// Applies what was found not to be there, unless so much would vanish by that that it is not believed yet: `None`, and
    /// nothing is done.
    pub(super) async fn believe<T: Send + 'static>(
        self: &Arc<Self>,
        lost: impl FnOnce(&Tx) -> Result<Vec<Ino>, CatalogError> + Send + 'static,
        act: impl FnOnce(&mut Tx) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<Option<T>, EngineError> {
        let (losses, limit, pause) =
            (self.workers.losses.clone(), self.most_lost(), self.doubt_pause());
        let done = change(self, move |tx| {
            let lost = lost(tx)?;
            match lock(&losses).weigh(tx, &lost, limit, pause)? {
                Weight::Doubted => Ok(None),
                Weight::Believed => act(tx).map(Some),
            }
        })
        .await?;
        if done.is_none() {
            drop(self.doubt());
        }
        Ok(done)
    }

    /// Applies what a step found; `gone` is what it found not to be there, with all that is in it. The error is a doubt.
    pub(super) async fn found_gone<T: Send + 'static>(
        self: &Arc<Self>,
        gone: Option<Ino>,
        at: &RemotePath,
        act: impl FnOnce(&mut Tx) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<Result<T, RemoteError>, EngineError> {
        let lost = move |tx: &Tx| nameless(tx, gone.filter(|ino| *ino != Ino::ROOT));
        let why = "it has lost most of its entries at once";
        let doubted = || RemoteError::new(ErrorKind::RootMissing, "look for", at).because(why);
        Ok(self.believe(lost, act).await?.ok_or_else(doubted))
    }

    /// The same for a step that was refused, and that is tried again later where it is doubted why.
    pub(super) async fn refused_as_gone(
        self: &Arc<Self>,
        gone: Option<Ino>,
        (ino, begun): (Ino, Begun),
        at: &RemotePath,
        act: impl FnOnce(&mut Tx) -> Result<(), CatalogError> + Send + 'static,
    ) -> Stepped {
        match self.found_gone(gone, at, act).await? {
            Ok(()) => Ok(Ended::Refused),
            Err(doubted) => self.not_sent(ino, begun, doubted).await,
        }
    }

    /// The remote lost very much: that is believed only when it says so a second time.
    pub(super) fn doubt(&self) -> EngineError {
        self.lose_root("it has lost most of its entries at once");
        EngineError::Offline
    }

    /// Looks a second time, at all folders that something was lost from.
    pub(super) async fn second_look(self: &Arc<Self>, cause: Cause) -> Result<(), EngineError> {
        let doubted = lock(&self.workers.losses).doubted.clone();
        let Some((paths, from)) = doubted else { return Ok(()) };
        if Instant::now() < from {
            return Err(EngineError::Offline);
        }
        let mut folders: HashMap<RemotePath, HashSet<Name>> = HashMap::new();
        for path in &paths {
            if let (Some(folder), Some(name)) = (path.parent(), path.name()) {
                folders.entry(folder).or_default().insert(name.clone());
            }
        }
        let mut gone = HashSet::new();
        for (folder, mut names) in folders {
            // Of a folder that does not tell, nothing is believed: that is weighed when it is seen again, and keeps nobody waiting.
            let Some(there) = self.names_there(&folder, cause).await? else { continue };
            names.retain(|name| !there.contains(name));
            gone.extend(names.into_iter().map(|name| folder.child(name)));
        }
        tracing::warn!(
            gone = gone.len(),
            doubted = paths.len(),
            "looked a second time for what the remote lost at once"
        );
        let mut losses = lock(&self.workers.losses);
        (losses.believed, losses.told) = (gone, steady());
        losses.doubted = None;
        Ok(())
    }

    /// All names in a folder of the remote; none if it is not there, `None` if just this folder cannot be looked into.
    async fn names_there(
        self: &Arc<Self>,
        folder: &RemotePath,
        cause: Cause,
    ) -> Result<Option<Vec<Name>>, EngineError> {
        let at = Locator::at(folder.clone());
        let mut names = Vec::new();
        let mut next = None;
        loop {
            let page = match self.remotes.of(cause).list(&at, next.take()).await {
                Ok(page) => page,
                Err(error) if error.kind == ErrorKind::NotFound && !folder.is_root() => {
                    return Ok(Some(Vec::new()));
                }
                Err(error) if is_its_own(&error.kind) && !folder.is_root() => {
                    tracing::info!(path = %folder, %error, "no second look at what was lost here");
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            names.extend(page.entries.into_iter().map(|listed| listed.name));
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(Some(names)),
            }
        }
    }

    /// Something known is not at its place: before that is believed, the remote must be the one we know.
    pub(super) async fn is_root_in_place(self: &Arc<Self>) -> Result<bool, EngineError> {
        if self.is_accepted() {
            return Ok(true);
        }
        self.forget_identity();
        let outcome = self.identify(Cause::Transfer).await;
        if outcome.is_err() {
            // Until somebody knows who it is, nothing is sent.
            self.workers.lost.notify_one();
        }
        match outcome {
            Ok(()) => Ok(true),
            Err(EngineError::Offline) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// When a doubt may be answered, if there is one.
    pub(super) fn doubted_until(&self) -> Option<Instant> {
        lock(&self.workers.losses).doubted.as_ref().map(|(_, from)| *from)
    }

    /// Before something new is put into the root: one that was emptied, or is another one that does not say so, would take
    /// it, where a change of something known is refused. So something known is looked for, once in a while.
    pub(super) async fn may_create(
        self: &Arc<Self>,
        target: &RemotePath,
    ) -> Result<(), RemoteError> {
        if target.0.len() != 1 || self.is_accepted() {
            return Ok(());
        }
        // One looks for all who would.
        let mut last = self.workers.in_place.lock().await;
        if last.is_some_and(|when| when.elapsed() < SURE) {
            return Ok(());
        }
        let known = change(self, |tx| match tx.first_base_child(Ino::ROOT)? {
            Some(ino) => tx.base_path(ino),
            None => Ok(None),
        });
        let failed = |kind, why: EngineError| {
            RemoteError::new(kind, "look for something known beside", target)
                .because(why.to_string())
        };
        let known = known.await.map_err(|error| failed(ErrorKind::Other, error))?;
        let Some(known) = known else { return Ok(()) };
        let is_there = self.remotes.transfer.stat(&Locator::at(known)).await?.is_some();
        let in_place = is_there
            || self.is_root_in_place().await.map_err(|error| failed(ErrorKind::Offline, error))?;
        *last = in_place.then(Instant::now);
        match in_place {
            true => Ok(()),
            false => Err(failed(ErrorKind::RootMissing, EngineError::Offline)),
        }
    }

    /// Nothing was asked of the remote: the attempt ends, and the item is tried again later.
    pub(super) async fn not_sent(
        self: &Arc<Self>,
        ino: Ino,
        begun: Begun,
        error: RemoteError,
    ) -> Stepped {
        change(self, move |tx| model::put_off(tx, ino, &begun)).await?;
        Ok(Ended::Failed(error))
    }

    /// Whether the folder that should hold it is there after all: the root may have been away when it was not.
    pub(super) async fn has_parent_now(
        self: &Arc<Self>,
        target: &RemotePath,
    ) -> Result<bool, EngineError> {
        let Some(parent) = target.parent() else { return Ok(true) };
        let seen = self.remotes.transfer.stat(&Locator::at(parent)).await?;
        Ok(seen.is_some_and(|seen| seen.kind == Kind::Folder))
    }

    /// The remote must say anew who it is before anything is sent or believed.
    pub(super) fn forget_identity(&self) {
        self.workers.forgotten.fetch_add(1, Ordering::AcqRel);
    }
}

/// Of these, what a look that did not find them takes for gone at once: not what is not in sync, nor what a feed with
/// identities may yet tell of.
pub(super) fn vanishing(
    tx: &Tx,
    missed: impl IntoIterator<Item = Ino>,
) -> Result<Vec<Ino>, CatalogError> {
    let mut lost = Vec::new();
    for ino in nameless(tx, missed)? {
        if tx.outbox(ino)?.is_none() {
            lost.push(ino);
        }
    }
    Ok(lost)
}

/// Of these, what the remote has, or had, without an identity.
fn nameless(tx: &Tx, some: impl IntoIterator<Item = Ino>) -> Result<Vec<Ino>, CatalogError> {
    let mut nameless = Vec::new();
    for ino in some {
        if tx.base(ino)?.is_some_and(|base| base.id.is_none()) {
            nameless.push(ino);
        }
    }
    Ok(nameless)
}

impl Engine {
    /// A person says that the remote is meant to be another one, or to have lost what it lost.
    pub async fn accept_remote(&self) -> Result<(), EngineError> {
        let core = &self.core;
        {
            let mut losses = lock(&core.workers.losses);
            losses.accepted = Some(LATER);
            losses.doubted = None;
        }
        let since = change(core, |tx| {
            tx.set_cursor(None)?;
            model::lost_hints(tx)?;
            tx.tick()
        })
        .await?;
        lock(&core.workers.losses).accepted = Some(since);
        core.workers.followed.store(false, Ordering::Release);
        core.forget_identity();
        // Who asks just now has not heard of it: what comes of that is no answer.
        drop(core.workers.identifying.lock().await);
        core.identify(Cause::User).await?;
        core.ask_for_changes();
        Ok(())
    }
}
