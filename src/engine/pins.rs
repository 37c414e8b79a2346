//! The pin worker: what is pinned and not here is fetched, also after a restart. There is no queue to lose: the catalog is
//! asked what is missing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::{Cause, Core};
use super::open::lock;
use super::{Engine, EngineError};
use crate::model::{Content, Ino, Version};

/// How long the worker rests after something could not be fetched, and a file after it could not again and again.
const REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// How long what was sent is gathered before it is looked whether what is pinned fits in its place.
const GATHER: Duration = Duration::from_secs(1);
/// How many files are asked for at once.
const PAGE: usize = 1000;

/// Is a file that could not be fetched, under the version that it had then.
#[derive(Clone)]
struct Missed {
    version: Option<Version>,
    /// How often in a row, for the same reason.
    tries: u32,
    /// When it is tried again; for one that did not fit, when its length is asked for again.
    again: Instant,
    /// If it did not fit.
    unfit: Option<Unfit>,
}

/// Is what is known of a file that did not fit.
#[derive(Clone, Copy)]
struct Unfit {
    /// How often something was done for its room by then.
    turn: u64,
    /// How many of its bytes were not here.
    missing: u64,
    /// Whether it seemed to fit, and the room was gone when its bytes came.
    raced: bool,
}

/// Is what was found no room for.
#[derive(Default)]
struct Lack {
    /// Bytes in all, of this pass.
    short: u64,
    /// The least for which nothing could be freed in this pass: for as much or more nothing is looked for.
    least: Option<u64>,
    /// The least for which what is free was too little in this pass: as much or more is not asked for.
    taken: Option<u64>,
    /// The most items that were unsent since something was freed for what did not fit, as far as was looked.
    unsent: u64,
    /// When that was looked at.
    looked: Option<Instant>,
}

impl Lack {
    /// Begins a pass.
    fn begin(&mut self) {
        *self = Self { unsent: self.unsent, looked: self.looked, ..Self::default() };
    }

    /// Notes one that does not fit.
    fn note(&mut self, unfit: Unfit) {
        self.short = self.short.saturating_add(unfit.missing);
        // Of one that seemed to fit it is not known what would.
        if !unfit.raced {
            self.taken = Some(self.taken.map_or(unfit.missing, |least| least.min(unfit.missing)));
        }
    }
}

/// Are the files that could not be fetched.
type AllMissed = HashMap<Ino, Missed>;

impl Engine {
    /// Whether so many bytes more fit into the cache beside what is pinned.
    pub async fn fits_beside_pinned(&self, bytes: u64) -> Result<bool, EngineError> {
        match self.core.fits_beside_pinned(bytes).await {
            Err(EngineError::NoSpace(_)) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Whether what is pinned at or below `top` and still to come fits into the cache together with all else that is pinned.
    pub async fn pins_fit(&self, top: Ino) -> Result<bool, EngineError> {
        let core = self.core.clone();
        self.core.blocking(move || core.pins_fit(top)).await
    }
}

impl Core {
    /// Fetches what is pinned; ends with the engine.
    pub(crate) async fn run_pins(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let mut missed = AllMissed::new();
        let mut lack = Lack::default();
        loop {
            if self.bulk_paused() {
                tokio::select! {
                    () = self.pins.notified() => continue,
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
            }
            let unlisted = self.list_wanted().await;
            let begun = Instant::now();
            let left = self.fetch_pinned(&mut missed, &mut lack, &stopping).await;
            let rest = if unlisted { Some(REST) } else { left };
            // To look through a large catalog takes a while: it is not done for each name that comes.
            let pause = (begun.elapsed() * 10).min(REST);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            let unfit = || missed.values().filter_map(|one| one.unfit);
            let least = unfit().map(|one| one.missing).min();
            let refused = unfit().filter(|one| !one.raced).map(|one| one.missing).min();
            tokio::select! {
                () = self.pins.notified() => {}
                () = tokio::time::sleep(rest.unwrap_or(REST)), if rest.is_some() => {}
                () = self.room_for(refused.unwrap_or_default()), if refused.is_some() => {}
                () = self.sent_for(least.unwrap_or_default(), &mut lack), if least.is_some() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            // Whatever else rang.
            if let Some(least) = least {
                self.is_sent_for(least, &mut lack).await;
            }
        }
    }

    /// Waits until so much is free.
    async fn room_for(&self, bytes: u64) {
        loop {
            tokio::time::sleep(REST).await;
            if self.cache.reserve_now(bytes).is_ok() {
                return;
            }
        }
    }

    /// Waits until something was sent that may go for so many bytes of pinned content.
    async fn sent_for(self: &Arc<Self>, bytes: u64, lack: &mut Lack) {
        loop {
            // Much rings that is no such news.
            tokio::time::sleep(GATHER).await;
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.is_sent_for(bytes, lack).await {
                return;
            }
            room.await;
        }
    }

    /// Whether something was sent since this was asked last, and so many bytes of pinned content may fit in its place: then what
    /// did not fit is tried again.
    async fn is_sent_for(self: &Arc<Self>, bytes: u64, lack: &mut Lack) -> bool {
        if lack.looked.is_some_and(|when| when.elapsed() < GATHER) {
            return false;
        }
        lack.looked = Some(Instant::now());
        let unsent = self.count_unsent().await;
        if unsent >= std::mem::replace(&mut lack.unsent, unsent) {
            return false;
        }
        let fits = self.fits_beside_what_stays(bytes).await;
        if fits {
            self.workers.pins_again.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Whether so many bytes fit beside what is pinned and what is not sent. Where they do not, what else is here would go for
    /// nothing.
    async fn fits_beside_what_stays(self: &Arc<Self>, bytes: u64) -> bool {
        let core = self.clone();
        let stays = self.blocking(move || {
            let pinned = core.catalog.read(|rows| rows.pinned_with_bytes())?;
            let pinned: HashSet<Ino> = pinned.into_iter().collect();
            let mut stays = core.pinned_bytes()?;
            for row in core.catalog.read(|rows| rows.pending(usize::MAX >> 1))? {
                if !pinned.contains(&row.ino) {
                    stays = stays.saturating_add(core.present_of(row.ino)?);
                }
            }
            Ok(stays)
        });
        let limit = self.settings.cache_size;
        stays.await.is_ok_and(|stays| stays.saturating_add(bytes) <= limit)
    }

    /// How many items are unsent.
    async fn count_unsent(&self) -> u64 {
        self.catalog.count_pending().await.map_or(0, |counts| counts.below(Ino::ROOT))
    }

    /// Goes through all that is pinned and missing, once; answers how long what is left rests before it is tried again.
    async fn fetch_pinned(
        self: &Arc<Self>,
        missed: &mut AllMissed,
        lack: &mut Lack,
        stopping: &tokio::sync::watch::Receiver<bool>,
    ) -> Option<Duration> {
        let mut still = AllMissed::new();
        lack.begin();
        let mut after = Ino(0);
        loop {
            if *stopping.borrow() {
                return None;
            }
            // Each page is read beside the runtime's threads, which are also free in between.
            let page = match self.wanted_page(after).await {
                Ok(page) => page,
                Err(error) => {
                    if !matches!(error, EngineError::Stopped) {
                        tracing::warn!(%error, "cannot tell what is pinned");
                    }
                    missed.extend(still);
                    return Some(REST);
                }
            };
            let Some((last, _)) = page.last() else {
                self.note_unfit(&still);
                self.note_pins_short(lack.short);
                *missed = still;
                let next = missed.values().map(|one| one.again).min()?;
                return Some(next.saturating_duration_since(Instant::now()));
            };
            after = *last;
            for (ino, version) in page {
                if self.bulk_paused() {
                    missed.extend(still);
                    return None;
                }
                // Most of them may be looked at without waiting for anything.
                tokio::task::consume_budget().await;
                let before = missed.remove(&ino).filter(|one| one.version == version);
                match self.fetch_one_pinned(ino, version, before, lack).await {
                    Ok(None) => {}
                    Ok(Some(one)) => drop(still.insert(ino, one)),
                    Err(EngineError::Stopped) => return None,
                    // Neither would any other come.
                    Err(_) => {
                        missed.extend(still);
                        return Some(REST);
                    }
                }
            }
        }
    }

    /// The next files that are pinned and not all here, with the version that they have at the remote.
    async fn wanted_page(
        self: &Arc<Self>,
        after: Ino,
    ) -> Result<Vec<(Ino, Option<Version>)>, EngineError> {
        let core = self.clone();
        self.blocking(move || {
            let versioned = core.catalog.read(|rows| {
                let page = rows.pinned_not_hydrated(after, PAGE)?;
                let version = |ino| rows.base(ino).unwrap_or_default().map(|base| base.version);
                Ok(page.into_iter().map(|ino| (ino, version(ino))).collect())
            });
            Ok(versioned?)
        })
        .await
    }

    /// Fetches one that is pinned, unless it rests from the last time; answers what is to be known of it the next time, if it is
    /// not here then. An error is one of all that is pinned.
    async fn fetch_one_pinned(
        self: &Arc<Self>,
        ino: Ino,
        version: Option<Version>,
        before: Option<Missed>,
        lack: &mut Lack,
    ) -> Result<Option<Missed>, EngineError> {
        let turn = self.workers.pins_again.load(Ordering::Relaxed);
        let is_old = |one: &Missed| one.unfit.is_some_and(|unfit| unfit.turn != turn);
        // What did not fit is anew to be looked at after something was done for it.
        let before = before.filter(|one| !is_old(one));
        if let Some(one) = before.as_ref().filter(|one| one.again > Instant::now()) {
            match one.unfit {
                // Nothing is asked of it but whether it fits now.
                Some(unfit) if unfit.raced || !self.fits_now(unfit.missing, lack) => {
                    lack.note(unfit);
                    return Ok(before);
                }
                Some(_) => {}
                None => return Ok(before),
            }
        }
        let reason = |unfit: Option<Unfit>| unfit.map(|unfit| unfit.raced);
        let missed = |unfit: Option<Unfit>| {
            let same = before.as_ref().filter(|one| reason(one.unfit) == reason(unfit));
            let tries = same.map_or(0, |one| one.tries);
            let rest = REST.saturating_mul(1 << tries.min(20)).min(LONGEST_REST);
            Missed {
                version: version.clone(),
                tries: tries + 1,
                again: Instant::now() + rest,
                unfit,
            }
        };
        let refused = before.as_ref().filter(|one| one.unfit.is_some_and(|unfit| !unfit.raced));
        if let Some(missing) = self.lacks_room(ino, refused, lack).await {
            // The others may fit.
            let unfit = Unfit { turn, missing, raced: false };
            self.refuse(ino, unfit, lack);
            return Ok(Some(missed(Some(unfit))));
        }
        let Err(error) = self.hydrate_whole(ino, Cause::Transfer).await else { return Ok(None) };
        tracing::info!(ino = ino.0, %error, "pinned content is still to come");
        if matches!(error, EngineError::Stopped) || self.would_fail_all(&error) {
            return Err(error);
        }
        if !matches!(error, EngineError::NoSpace(_)) {
            return Ok(Some(missed(None)));
        }
        // Others took the room meanwhile, or the disk does not have what it says.
        lack.unsent = lack.unsent.max(self.count_unsent().await);
        let missing = self.missing_of(ino).unwrap_or_default();
        let unfit = Unfit { turn, missing, raced: true };
        self.refuse(ino, unfit, lack);
        Ok(Some(missed(Some(unfit))))
    }

    /// Notes that a pinned file does not fit, and tells it.
    fn refuse(&self, ino: Ino, unfit: Unfit, lack: &mut Lack) {
        lack.note(unfit);
        lock(&self.workers.pins_unfit).insert(ino);
        // Of the pass before, more may be known.
        self.note_pins_short(lack.short.max(self.pins_short()));
    }

    /// Whether so much is free. For as much as was refused in this pass, or more, nobody asks again.
    fn fits_now(&self, missing: u64, lack: &Lack) -> bool {
        lack.taken.is_none_or(|least| missing < least) && self.cache.reserve_now(missing).is_ok()
    }

    fn pins_fit(&self, top: Ino) -> Result<bool, EngineError> {
        let files = self.catalog.read(|rows| rows.pinned_files())?;
        let limit = self.settings.cache_size;
        // What comes meanwhile changes nothing of this.
        let whole = files.iter().fold(0_u64, |sum, (_, size, _)| sum.saturating_add(*size));
        if whole <= limit {
            return Ok(true);
        }
        let (mut here, mut own, mut others) = (0_u64, 0_u64, Vec::new());
        for (ino, size, content) in files {
            let missing = match content {
                Content::Hydrated => 0,
                _ => size.saturating_sub(self.present_of(ino)?),
            };
            here = here.saturating_add(size - missing);
            if missing > 0 && self.is_below(ino, top)? {
                own = own.saturating_add(missing);
            } else {
                others.push(missing);
            }
        }
        let room = limit.saturating_sub(here);
        // One that does not fit alone waits, and takes no room from the others.
        let others =
            others.into_iter().filter(|missing| *missing <= room).fold(own, u64::saturating_add);
        Ok(others <= room)
    }

    /// How many bytes of a file are not here.
    pub(super) fn missing_of(self: &Arc<Self>, ino: Ino) -> Result<u64, EngineError> {
        let _visit = self.open.visit(ino);
        let live = self.live_for(ino)?;
        let state = live.state();
        Ok(state.size.saturating_sub(state.present()))
    }

    /// How many bytes a pinned file needs if they do not fit. Then nothing is fetched that would have to go again at once, and
    /// nothing else is freed for one that was refused until it has rested, and may fit.
    async fn lacks_room(
        self: &Arc<Self>,
        ino: Ino,
        refused: Option<&Missed>,
        lack: &mut Lack,
    ) -> Option<u64> {
        let missing = self.missing_of(ino).ok()?;
        if self.fits_now(missing, lack) {
            return None;
        }
        let rests = refused.is_some_and(|one| one.again > Instant::now());
        if rests || lack.least.is_some_and(|least| missing >= least) {
            return Some(missing);
        }
        if refused.is_some() && !self.fits_beside_what_stays(missing).await {
            lack.least = Some(missing);
            return Some(missing);
        }
        // Asked first: what is sent from here on is news.
        lack.unsent = lack.unsent.max(self.count_unsent().await);
        match self.make_room(missing).await {
            Err(EngineError::NoSpace(_)) => {
                lack.least = Some(missing);
                Some(missing)
            }
            _ => None,
        }
    }

    fn pins_short(&self) -> u64 {
        self.workers.pins_short.load(Ordering::Relaxed)
    }

    /// What is pinned and did not fit may fit now.
    pub(crate) fn let_pins_try_again(&self) {
        self.workers.pins_again.fetch_add(1, Ordering::Relaxed);
        lock(&self.workers.pins_unfit).clear();
        self.note_pins_short(0);
    }

    /// Notes which pinned files do not fit, after all were looked at.
    fn note_unfit(&self, missed: &AllMissed) {
        let unfit: HashSet<Ino> =
            missed.iter().filter(|(_, one)| one.unfit.is_some()).map(|(ino, _)| *ino).collect();
        *lock(&self.workers.pins_unfit) = unfit;
    }

    /// Why a pinned file is not all here, if it does not fit.
    pub(crate) fn why_it_is_short(&self, ino: Ino) -> Option<&'static str> {
        let is_unfit = lock(&self.workers.pins_unfit).contains(&ino);
        self.why_pins_are_short().filter(|_| is_unfit)
    }

    /// Notes how many bytes of pinned content do not fit, at least; 0: all does.
    fn note_pins_short(&self, bytes: u64) {
        if self.workers.pins_short.swap(bytes, Ordering::Relaxed) != bytes {
            self.pulse();
        }
    }

    /// Why pinned content is not all here, if it does not fit.
    pub(crate) fn why_pins_are_short(&self) -> Option<&'static str> {
        (self.pins_short() > 0).then_some(
            "what is pinned does not fit in the cache: raise cache_size, or unpin something",
        )
    }
}
