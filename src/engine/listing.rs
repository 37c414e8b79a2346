//! Listing folders: once for all who wait, a page at a time, each page one transaction. Only a whole listing counts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::EngineError;
use super::core::{Cause, Core, steady as now};
use super::crash::crash_point;
use super::live::Failure;
use super::losses::{Weight, vanishing};
use super::observe::{change, why_other};
use super::open::lock;
use super::send::nanos;
use super::workers::Flight;
use crate::catalog::{CatalogError, Tx};
use crate::model::{self, Ino, Listing, Rows as _};
use crate::remote::layers::in_background;
use crate::remote::{ErrorKind, ListPage, Listed, Locator, RemoteError};

/// Entries applied in one transaction.
const PIECE: usize = 500;
/// How often, at least, a listing begins again because its folder moved meanwhile.
const TRIES: u32 = 4;
/// How long is waited between two such tries, first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// The first wait of a folder that must be looked at again but cannot be settled yet, and the longest.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The longest where several are pending in the folder.
const LONGEST_AMONG: Duration = Duration::from_secs(60);
/// The longest wait if no item is in the way.
const LONGEST_ALONE: Duration = Duration::from_secs(4);

/// The longest wait if the remote refuses it, or tells what cannot be right.
const LONGEST_REFUSED: Duration = Duration::from_secs(60);

/// Says how one pass over a folder ended.
enum Pass {
    Whole,
    Moved,
}

/// Says how far a listing is after one page.
enum Applied {
    /// More pages come.
    Going(Box<Listing>),
    /// That was all.
    Ended,
    /// The folder moved meanwhile.
    Moved,
    /// So much is gone that it is not believed yet.
    Doubted,
}

/// Ends the mark of a listing under way, whatever happened.
struct UnderWay<'a>(&'a Core, Ino);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.catalog.end_listing(self.1);
    }
}

impl Core {
    /// Lists a folder, once for all who ask at the same time; resolves when its names are known.
    pub(crate) async fn list_folder(self: &Arc<Self>, folder: Ino) -> Result<(), EngineError> {
        if self.catalog.read(|rows| rows.is_listed(folder))? {
            return Ok(());
        }
        self.flight(folder, Cause::User).await.map_err(Failure::error)
    }

    /// The same for what nobody waits for.
    pub(crate) async fn list_in_background(
        self: &Arc<Self>,
        folder: Ino,
    ) -> Result<(), EngineError> {
        if self.catalog.read(|rows| rows.is_listed(folder))? {
            return Ok(());
        }
        self.flight(folder, Cause::Transfer).await.map_err(Failure::error)
    }

    /// The listing of this folder that is under way, or a new one.
    pub(super) fn flight(self: &Arc<Self>, folder: Ino, cause: Cause) -> Flight {
        let mut flights = lock(&self.workers.flights);
        if let Some(flight) = flights.get(&folder) {
            return flight.clone();
        }
        let core = self.clone();
        let task = self.runtime.spawn(async move {
            let outcome = match cause.is_program() {
                true => core.list_now(folder, cause).await,
                false => in_background(core.list_now(folder, cause)).await,
            };
            lock(&core.workers.flights).remove(&folder);
            outcome.map_err(|error| {
                tracing::debug!(folder = folder.0, %error, "cannot list");
                Failure::of(&error)
            })
        });
        let flight = async move { task.await.unwrap_or(Err(Failure::Offline)) }.boxed().shared();
        flights.insert(folder, flight.clone());
        flight
    }

    async fn list_now(self: &Arc<Self>, folder: Ino, cause: Cause) -> Result<(), EngineError> {
        if let Err(error) = self.identify(cause).await {
            // Begun, it would be asked for no longer either: who still needs it asks again.
            self.catalog.drop_need(folder);
            return Err(error);
        }
        let end = tokio::time::Instant::now() + self.settings.timeout;
        let mut pause = FIRST_PAUSE;
        for tried in 1.. {
            match self.list_once(folder, cause).await {
                Ok(Pass::Whole) => return Ok(()),
                Ok(Pass::Moved) if tried >= TRIES && tokio::time::Instant::now() >= end => break,
                Ok(Pass::Moved) => {
                    // What moves it is on its way.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    let lasts = matches!(error, EngineError::Corrupt(_) | EngineError::Denied(_));
                    let longest = if lasts { LONGEST_REFUSED } else { LONGEST_ALONE };
                    self.put_off_look(folder, longest).await?;
                    return Err(error);
                }
            }
        }
        self.put_off_look(folder, LONGEST_ALONE).await?;
        Err(EngineError::TimedOut)
    }

    async fn list_once(self: &Arc<Self>, folder: Ino, cause: Cause) -> Result<Pass, EngineError> {
        let _under_way = UnderWay(self, folder);
        let begun = change(self, move |tx| model::begin_listing(tx, folder)).await?;
        let Some(mut listing) = begun else {
            self.catalog.drop_need(folder);
            return Err(EngineError::Stale);
        };
        let mut locator = self.locator(folder)?;
        locator.path = listing.path.clone();
        let mut next = None;
        let (mut names, mut is_known) = (0, folder != Ino::ROOT);
        loop {
            crash_point!(self, "listing: before a page");
            let page = match self.remotes.of(cause).list(&locator, next.take()).await {
                Ok(page) => page,
                Err(error)
                    if error.kind == ErrorKind::NotFound && self.has_moved(&listing).await? =>
                {
                    return Ok(Pass::Moved);
                }
                Err(error) => return Err(self.listing_failed(listing, error).await?),
            };
            self.note_contact();
            names += page.entries.len();
            let ListPage { entries, next: token, folder: version } = page;
            listing.note_version(version);
            if !is_known {
                let names = entries.iter().map(|listed| listed.name.clone()).collect();
                is_known = self.has_a_known_one(names).await?;
            }
            if !is_known && token.is_none() {
                listing = self.check_other_root(listing, names == 0).await?;
            }
            crash_point!(self, "listing: before a page is recorded");
            match self.apply_page(listing, entries, token.is_none()).await? {
                Applied::Going(same) => listing = *same,
                Applied::Ended => break,
                Applied::Moved => return Ok(Pass::Moved),
                Applied::Doubted => return Err(self.doubt()),
            }
            next = token;
        }
        crash_point!(self, "listing: ended");
        self.remotes.of(cause).interested(&locator);
        if !self.catalog.read(|rows| rows.all_missing())?.is_empty() {
            // What is missed is given up only when nothing waits to be looked at any more.
            self.ask_for_changes();
        }
        self.pins.notify_one();
        Ok(Pass::Whole)
    }

    /// Whether the folder is, or is being put, elsewhere than where it was when its listing began.
    async fn has_moved(self: &Arc<Self>, listing: &Listing) -> Result<bool, EngineError> {
        let is_elsewhere = self.locator(listing.folder).is_ok_and(|now| now.path != listing.path);
        Ok(is_elsewhere || self.is_moving(listing.folder).await?)
    }

    /// Whether a move of ours is on its way that changes where the remote has this folder or file.
    pub(super) async fn is_moving(self: &Arc<Self>, folder: Ino) -> Result<bool, EngineError> {
        change(self, move |tx| model::is_attempted_above(tx, folder)).await
    }

    /// Applies one page, a piece at a time, and ends the listing with the last one.
    async fn apply_page(
        self: &Arc<Self>,
        mut listing: Listing,
        mut entries: Vec<Listed>,
        is_last: bool,
    ) -> Result<Applied, EngineError> {
        // Neighbours are looked up together.
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut entries = entries.into_iter().peekable();
        loop {
            let piece: Vec<Listed> = entries.by_ref().take(PIECE).collect();
            let whole = entries.peek().is_none();
            let (losses, limit, pause) =
                (self.workers.losses.clone(), self.most_lost(), self.doubt_pause());
            let applied = change(self, move |tx| {
                let seen = piece.into_iter().map(|listed| (listed.name, listed.entry));
                if !model::list_page(tx, &mut listing, seen)? {
                    return Ok(Applied::Moved);
                }
                if whole && is_last {
                    let lost = vanishing(tx, listing.missed(tx)?)?;
                    if lock(&losses).weigh(tx, &lost, limit, pause)? == Weight::Doubted {
                        return Ok(Applied::Doubted);
                    }
                    end(tx, listing)?;
                    return Ok(Applied::Ended);
                }
                if whole {
                    model::begin_page(tx, &mut listing)?;
                }
                Ok(Applied::Going(Box::new(listing)))
            })
            .await?;
            match applied {
                Applied::Going(same) if !whole => listing = *same,
                other => return Ok(other),
            }
        }
    }

    /// The remote did not answer with a page: what that means, and the error for who waits.
    async fn listing_failed(
        self: &Arc<Self>,
        listing: Listing,
        error: RemoteError,
    ) -> Result<EngineError, EngineError> {
        if error.kind == ErrorKind::Unsupported && listing.folder == Ino::ROOT {
            self.lose_root("its root is no folder any more");
        }
        if error.kind == ErrorKind::NotFound {
            if listing.folder == Ino::ROOT {
                self.lose_root("its root folder is not there");
            } else if self.is_root_in_place().await? {
                // The remote may have come back between the listing and its name.
                let again = Locator::at(listing.path.clone());
                if self.remotes.transfer.stat(&again).await?.is_some() {
                    return Ok(EngineError::Offline);
                }
                let (folder, at) = (listing.folder, listing.path.clone());
                let lost = move |tx: &Tx| match tx.base_path(folder)? {
                    Some(now) if now == at => vanishing(tx, [folder]),
                    _ => Ok(Vec::new()),
                };
                let applied = self.believe(lost, move |tx| model::listing_refused(tx, &listing));
                if applied.await?.is_none() {
                    return Ok(EngineError::Offline);
                }
            }
        }
        Ok(error.into())
    }

    /// A root that is empty where it had entries, or has none of those that are known, is not believed: an unmounted disk
    /// looks like that, or another one in its place.
    async fn check_other_root(
        self: &Arc<Self>,
        listing: Listing,
        is_empty: bool,
    ) -> Result<Listing, EngineError> {
        let (why, listing) = change(self, move |tx| {
            Ok((why_other(tx, &listing.unchanged(tx)?, is_empty)?, listing))
        })
        .await?;
        match why {
            Some(why) if !self.is_accepted() && !self.is_surely_same().await => {
                self.lose_root(why);
                Err(EngineError::Offline)
            }
            _ => Ok(listing),
        }
    }

    /// Nothing is believed or sent until the root is the known one again.
    pub(super) fn lose_root(&self, why: &str) {
        self.forget_identity();
        self.set_missing(Some(why));
        self.workers.lost.notify_one();
    }

    /// A folder that could not be listed is tried again later, if it is marked.
    async fn put_off_look(
        self: &Arc<Self>,
        folder: Ino,
        longest: Duration,
    ) -> Result<(), EngineError> {
        change(self, move |tx| defer_look(tx, folder, None, longest)).await
    }
}

/// Ends a listing. A folder that is still to be looked at waits for what keeps it from being settled: noted with the end, as
/// what is in the way may be out of it in the next moment.
fn end(tx: &mut Tx, listing: Listing) -> Result<(), CatalogError> {
    let folder = listing.folder;
    model::end_listing(tx, listing)?;
    tx.looked_at(folder, now())?;
    if tx.look_again(folder)?.is_none() {
        return Ok(());
    }
    let blocker = tx.blocker_in(folder)?;
    let longest = match blocker {
        Some((_, is_alone)) if is_alone => LONGEST_WAIT,
        // It may be another one that is in the way, whose end wakes nobody.
        Some(_) => LONGEST_AMONG,
        // Without an item in the way, only work that is going on keeps the folder from being settled.
        None => LONGEST_ALONE,
    };
    defer_look(tx, folder, blocker.map(|(ino, _)| ino), longest)
}

/// Puts off the look at a folder, longer each time, until `blocker` is in sync.
fn defer_look(
    tx: &mut Tx,
    folder: Ino,
    blocker: Option<Ino>,
    longest: Duration,
) -> Result<(), CatalogError> {
    if tx.look_again(folder)?.is_none() {
        return Ok(());
    }
    tx.look_defer(folder, now(), (nanos(FIRST_WAIT), nanos(longest)), blocker).map(drop)
}
