//! The change feed: hints are looked at, what was seen is applied, and the cursor moves on with it in one transaction.
//!
//! A remote without a feed is walked instead (`walk`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use super::EngineError;
use super::core::{Cause, Core, now, steady};
use super::crash::crash_point;
use super::losses::vanishing;
use super::observe::change;
use super::open::lock;
use crate::catalog::{CatalogError, Tx};
use crate::model::{self, Ino, Look, Observed, RemotePath, Rows as _, Tick, Trust};
use crate::remote::layers::in_background;
use crate::remote::{ChangePage, Cursor, ErrorKind, FeedKind, Hint};

/// How often the remote's room is asked for.
const ASK_ROOM: Duration = Duration::from_secs(300);
/// After how many looks a remote that took no changes is tried again: that may have been a fault of the moment.
const TRY_WRITING: u32 = 15;
/// How long after a failure the remote is asked again, at most.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(15);
/// The same where who it is was lost, at first; twice as long with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How many times `poll=` a cursor that is lost again and again is at most taken anew after.
const SELDOM: u32 = 8;

/// Is how often all is looked at again because the cursor was lost.
#[derive(Debug, Default)]
pub(super) struct Expired {
    last: Option<Instant>,
    /// How long after that it is not done again.
    pause: Duration,
}

impl Expired {
    /// How long it is yet to wait until all is looked at again; `None`: it may be now.
    fn left(&self) -> Option<Duration> {
        self.pause.checked_sub(self.last?.elapsed())
    }

    /// All was looked at again.
    fn done(&mut self, poll: Duration) {
        let since = self.last.map(|last| last.elapsed());
        let again = since.is_some_and(|since| since < self.pause * 2);
        let longest = poll.saturating_mul(SELDOM);
        self.pause = if again { (self.pause * 2).min(longest) } else { poll };
        self.last = Some(Instant::now());
    }
}

/// Is an inode the remote was found without, with where it should be.
pub(super) struct Missed {
    pub(super) ino: Ino,
    pub(super) stamp: Tick,
    pub(super) path: RemotePath,
    pub(super) seen: Option<Observed>,
}

/// Tells while it lives that the hints of a page were judged: what becomes known meanwhile was not, and the cursor does not tell.
struct Judged<'a>(&'a AtomicBool);

impl<'a> Judged<'a> {
    fn now(judged: &'a AtomicBool) -> Self {
        judged.store(true, Ordering::SeqCst);
        Self(judged)
    }
}

impl Drop for Judged<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Core {
    /// Keeps what is known true; ends with the engine.
    pub(crate) async fn run_feed(self: Arc<Self>) {
        in_background(self.feed()).await;
    }

    async fn feed(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let mut pushed = self.remotes.feed.watch();
        let (mut pause, mut was_lost) = (FIRST_PAUSE, false);
        let mut asked_room = None::<tokio::time::Instant>;
        let mut tried = tokio::time::Instant::now();
        loop {
            let mut reached = false;
            let wait = match self.catch_up().await {
                Ok(wait) => {
                    (reached, pause, was_lost) = (true, FIRST_PAUSE, false);
                    wait
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot follow the remote's changes");
                    pause = (pause * 2).min(AFTER_FAILURE);
                    let longest = if was_lost { pause } else { AFTER_FAILURE };
                    self.settings.poll.min(longest)
                }
            };
            if reached && asked_room.is_none_or(|when| when.elapsed() > ASK_ROOM) {
                asked_room = Some(tokio::time::Instant::now());
                if let Ok(space) = self.remotes.feed.space().await {
                    *lock(&self.quota) = space;
                }
            }
            if reached && tried.elapsed() > self.settings.poll.saturating_mul(TRY_WRITING) {
                tried = tokio::time::Instant::now();
                self.try_writing().await;
            }
            let push = async {
                match &mut pushed {
                    Some(stream) => stream.next().await,
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                () = self.workers.ask.notified() => Some(false),
                told = push => Some(told.is_none()),
                lost = self.rest(wait, wait.min(pause)) => {
                    was_lost |= lost;
                    Some(false)
                }
                _ = stopping.wait_for(|stop| *stop) => None,
            };
            match ended {
                Some(false) => {}
                Some(true) => pushed = None,
                None => break,
            }
        }
        if let Err(error) = self.write_used().await {
            tracing::debug!(%error, "which folders were used is not written down");
        }
    }

    /// Waits as long, or shorter if meanwhile nobody knows any more who the remote is: then nothing is sent until it was asked.
    /// Answers whether that is so.
    async fn rest(&self, wait: Duration, if_lost: Duration) -> bool {
        let begun = tokio::time::Instant::now();
        self.note_next_look(wait);
        let lost = async {
            self.workers.lost.notified().await;
            self.note_next_look(if_lost.saturating_sub(begun.elapsed()));
            tokio::time::sleep_until(begun + if_lost).await;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => false,
            () = lost => true,
        }
    }

    fn note_next_look(&self, wait: Duration) {
        let next = now().saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX));
        self.workers.next_look.store(next, Ordering::Relaxed);
    }

    /// Asks a remote that took no changes whether it does now.
    async fn try_writing(&self) {
        if self.settings.read_only || !self.takes_no_changes() {
            return;
        }
        match self.remotes.feed.probe().await {
            Ok(found) if found.writable => {
                tracing::info!("the remote takes changes again");
                self.outbox.notify_one();
                self.pulse();
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot ask whether the remote takes changes"),
        }
    }

    /// Applies all changes there are; answers when to ask again.
    async fn catch_up(self: &Arc<Self>) -> Result<Duration, EngineError> {
        self.identify(Cause::Feed).await?;
        if self.workers.walks.load(Ordering::Relaxed) {
            return self.walk().await;
        }
        loop {
            let begun = now();
            let due = self.catalog.read(|rows| rows.all_missing())?;
            let known = self.catalog.read(|rows| rows.endpoint())?.cursor.map(Cursor);
            let page = match self.remotes.feed.changes(known.as_ref()).await {
                Ok(page) => page,
                Err(error) if error.kind == ErrorKind::CursorExpired => {
                    // A remote that knows none of the cursors it gives would be listed without end.
                    if let Some(left) = lock(&self.workers.expired).left() {
                        return Ok(left);
                    }
                    match self.begin_anew().await {
                        Err(EngineError::Unsupported) => {
                            self.workers.walks.store(true, Ordering::Relaxed);
                            return self.walk().await;
                        }
                        begun => begun?,
                    }
                    lock(&self.workers.expired).done(self.settings.poll);
                    continue;
                }
                Err(error) if error.kind == ErrorKind::Unsupported => {
                    self.workers.walks.store(true, Ordering::Relaxed);
                    return self.walk().await;
                }
                Err(error) if error.kind == ErrorKind::RootMissing => {
                    // The root itself: who is in its place?
                    self.forget_identity();
                    self.identify(Cause::Feed).await?;
                    return Ok(self.settings.poll);
                }
                Err(error) => return Err(error.into()),
            };
            self.note_contact();
            let more = page.more || !page.hints.is_empty();
            self.apply_changes(page, due).await?;
            if !more {
                self.end_acceptance()?;
                if self.catalog.read(|rows| rows.next_look())?.is_none_or(|due| due > steady()) {
                    self.note_true(begun);
                }
                return Ok(self.settings.poll);
            }
        }
    }

    /// Hints were lost: takes the cursor of now first, then marks everything known.
    async fn begin_anew(self: &Arc<Self>) -> Result<(), EngineError> {
        let page = self.remotes.feed.changes(None).await?;
        tracing::info!("the change cursor is too old: everything listed is looked at again");
        change(self, move |tx| {
            tx.set_cursor(Some(&page.cursor.0))?;
            model::lost_hints(tx)
        })
        .await
    }

    /// Before anything is listed the cursor is known, so that nothing falls between the two.
    pub(super) async fn take_first_cursor(
        self: &Arc<Self>,
        cause: Cause,
    ) -> Result<(), EngineError> {
        let remote = self.remotes.of(cause);
        if matches!(remote.capabilities().feed, FeedKind::None) {
            self.workers.walks.store(true, Ordering::Relaxed);
        }
        if self.workers.walks.load(Ordering::Relaxed)
            || self.catalog.read(|rows| rows.endpoint())?.cursor.is_some()
        {
            return Ok(());
        }
        match remote.changes(None).await {
            Ok(page) => {
                change(self, move |tx| {
                    tx.set_cursor(Some(&page.cursor.0))?;
                    let listed = tx.base(Ino::ROOT)?.is_some_and(|base| base.listed);
                    if listed { model::lost_hints(tx) } else { Ok(()) }
                })
                .await
            }
            Err(error) if error.kind == ErrorKind::Unsupported => {
                self.workers.walks.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Before an absence is believed, the remote must be the one we know; and as it may have come back between the look and
    /// its name, what was not found is looked for again after it.
    pub(super) async fn make_sure(
        self: &Arc<Self>,
        looks: &mut [Look],
        gone: &mut [Missed],
    ) -> Result<(), EngineError> {
        let sights =
            looks.iter_mut().flat_map(|look| look.above.iter_mut().chain([&mut look.sight]));
        let sights = sights.map(|sight| (&sight.path, &mut sight.seen));
        let missed = gone.iter_mut().map(|one| (&one.path, &mut one.seen));
        let absent: Vec<_> = sights.chain(missed).filter(|(_, seen)| seen.is_none()).collect();
        if absent.is_empty() {
            return Ok(());
        }
        if !self.is_root_in_place().await? {
            return Err(EngineError::Offline);
        }
        let mut now = HashMap::new();
        for (path, seen) in self.seen_at(absent.iter().map(|(path, _)| (*path).clone())).await {
            now.insert(path, seen?);
        }
        for (path, seen) in absent {
            *seen = now.get(path).cloned().ok_or(EngineError::Offline)?;
        }
        Ok(())
    }

    async fn apply_changes(
        self: &Arc<Self>,
        page: ChangePage,
        due: Vec<(Ino, Tick)>,
    ) -> Result<(), EngineError> {
        // All that was told since these were missed is in this page or was in an earlier one; a page without hints may never
        // come where something always changes.
        let drained = !page.more;
        let hints: Vec<Hint> =
            page.hints.into_iter().collect::<HashSet<Hint>>().into_iter().collect();
        let ids = self.remotes.feed.capabilities().stable_ids;
        let _until_applied = Judged::now(&self.workers.judged);
        let (since, paths) =
            change(self, move |tx| Ok((tx.tick()?, worth_a_look(tx, hints, ids)?))).await?;
        let mut looks = self.look_at_hints(paths, since).await?;
        let mut gone = if drained { self.look_for(due).await? } else { Vec::new() };
        self.make_sure(&mut looks, &mut gone).await?;
        let seen = looks.iter().map(|look| &look.sight).filter(|sight| sight.seen.is_some());
        lock(&self.workers.losses).saw(seen.map(|sight| &sight.path));
        crash_point!(self, "feed: before a page is applied");
        let (mut lost, looked) = (lost_for_good(&gone), looks.clone());
        let lost = move |tx: &Tx| {
            lost.extend(absent(tx, &looked)?);
            Ok(lost)
        };
        let applied = self.believe(lost, move |tx| {
            model::apply_page(tx, looks)?;
            settle_missed(tx, gone)?;
            tx.set_cursor(Some(&page.cursor.0))
        });
        if applied.await?.is_none() {
            return Err(EngineError::Offline);
        }
        // What appeared or changed may be pinned.
        self.pins.notify_one();
        Ok(())
    }
}

/// What the feed did not tell to be anywhere else.
pub(super) fn lost_for_good(gone: &[Missed]) -> Vec<Ino> {
    gone.iter().filter(|one| one.seen.is_none()).map(|one| one.ino).collect()
}

/// What is known at paths where nothing was seen.
pub(super) fn absent(tx: &Tx, looks: &[Look]) -> Result<Vec<Ino>, CatalogError> {
    let mut known = Vec::new();
    for look in looks.iter().filter(|look| look.sight.seen.is_none()) {
        known.extend(model::by_path(tx, &look.sight.path)?);
    }
    vanishing(tx, known)
}

pub(super) fn settle_missed(tx: &mut Tx, gone: Vec<Missed>) -> Result<(), CatalogError> {
    gone.into_iter().try_for_each(|one| {
        model::settle_missing(tx, one.ino, one.stamp, &one.path, one.seen.as_ref())
    })
}

/// The hinted paths that must be looked at; hints about folders and about what nobody knows are settled at once.
fn worth_a_look(tx: &mut Tx, hints: Vec<Hint>, ids: bool) -> Result<Vec<RemotePath>, CatalogError> {
    let mut paths = HashSet::new();
    for hint in hints {
        match hint {
            Hint::Folder(path) => {
                model::hint_folder(tx, &path)?;
                if !path.is_root() {
                    paths.insert(path);
                }
            }
            Hint::Entry(path) => {
                paths.insert(path);
            }
        }
    }
    let mut worth = Vec::new();
    for path in paths {
        let Some(parent) = path.parent() else { continue };
        let folder = model::by_path(tx, &parent)?;
        let matters = match folder {
            Some(folder) => {
                let listed = tx.base(folder)?.is_some_and(|base| base.listed);
                listed || tx.is_listing(folder) || model::by_path(tx, &path)?.is_some()
            }
            None => {
                // Only marks the lowest known folder above, if that is listed.
                model::reconcile(tx, &path, None, Trust::NOW)?;
                false
            }
        };
        if matters || ids {
            worth.push(path);
        }
    }
    worth.sort_by_key(|path| path.0.len());
    Ok(worth)
}
