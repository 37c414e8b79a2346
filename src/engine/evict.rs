//! Making room: content that may go goes, what was used longest ago first, by whole files and by parts of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::EngineError;
use super::barren::{Barren, Search};
use super::core::{Core, steady as now};
use super::heat::{Heat, Part, REGION, Use, blocks_of};
use super::open::lock;
use crate::cache::Reservation;
use crate::catalog::{Durability, Origin, Reader};
use crate::model::{BLOCK, BlockSet, Ino};

/// How many files are looked at for eviction at once.
const BATCH: usize = 64;
/// Uploads that are due within this time, nanoseconds, are worth waiting for.
const SOON: i64 = 5_000_000_000;
/// More than was asked is freed at once, up to this: each time costs a flush of the catalog.
const MORE: u64 = 16 << 20;
/// That part of the limit, at most.
const PART: u64 = 64;
/// What is larger than this part of the limit is compared with what must stay first.
const LARGE: u64 = 8;
/// How often room is made for one who does not wait, and others take it first.
const ROUNDS: u32 = 8;
/// How long is waited for room before it is looked for again unasked.
const LOOK: Duration = Duration::from_millis(500);

/// Is what making room keeps in memory.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) heat: Mutex<Heat>,
    /// One makes room, the others wait for what that frees.
    turn: tokio::sync::Mutex<()>,
    /// The last search that found nothing.
    barren: Mutex<Option<Barren>>,
    /// Whether the file system makes no holes.
    pub(crate) no_holes: AtomicBool,
    /// Whether who writes past us can be stopped.
    pub(crate) brake: bool,
    /// Rung when somebody begins to write past us while the watch rests.
    pub(crate) writer_came: Notify,
    /// Whether the watch over the room rests for long, because nobody writes past us.
    pub(crate) watch_rests: AtomicBool,
}

impl Space {
    pub(crate) fn new(brake: bool) -> Self {
        Self { brake, ..Self::default() }
    }
}

/// Says what becomes of content of which the catalog is just being told, which may take as long as a large file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It stays: nobody waits for its room.
    Left,
    /// It is waited for.
    WaitedFor,
}

/// Says what stands in the way of bytes to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `cache_size` or `min_free`: what a reservation looks at.
    ByLimits,
    /// The disk itself, though it says that it has room: a quota of the user's, the number of files, its own notes.
    ByDisk,
}

/// Is what may go, the oldest use first, and how far that reaches.
struct Candidates {
    uses: Vec<Use>,
    /// Whether there are more files than were asked for.
    more: bool,
}

impl Core {
    /// Evicts until `bytes` fit, least recently used first; waits while uploads are making room. What the disk itself refused
    /// fits at the earliest when something went.
    pub(super) async fn evict_for(
        self: &Arc<Self>,
        bytes: u64,
        by: Refused,
    ) -> Result<Reservation, EngineError> {
        self.can_ever_fit(bytes).await?;
        let mut last_progress = Instant::now();
        let mut sent = self.bytes_sent();
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let freed = self.evict(bytes, Search::Anew).await?;
            let sent_now = self.bytes_sent();
            if freed > 0 || sent_now != sent {
                (last_progress, sent) = (Instant::now(), sent_now);
            }
            let refused = match self.reserve(bytes).await? {
                Ok(reservation) if freed > 0 || by == Refused::ByLimits => return Ok(reservation),
                Ok(_) => self.cache.refused_by_disk(),
                Err(refused) => refused,
            };
            let hope = freed > 0 || self.uploads_under_way();
            if !hope || last_progress.elapsed() > self.settings.timeout || self.is_stopped() {
                return Err(refused.into());
            }
            // Room is made when something was sent; look again at the latest soon after.
            let _either = tokio::time::timeout(LOOK, room).await;
        }
    }

    /// Reserves room for bytes that need not be kept: evicts for them, but waits for nothing.
    pub(crate) async fn make_room_at_once(
        self: &Arc<Self>,
        bytes: u64,
    ) -> Result<Reservation, EngineError> {
        for _ in 0..ROUNDS {
            if let Ok(reservation) = self.reserve(bytes).await? {
                return Ok(reservation);
            }
            self.can_ever_fit(bytes).await?;
            if self.evict(bytes, Search::Lately).await? == 0 {
                break;
            }
        }
        Ok(self.reserve(bytes).await??)
    }

    /// Refuses what does not fit beside what must stay: all that may go would go for nothing.
    pub(super) async fn can_ever_fit(self: &Arc<Self>, bytes: u64) -> Result<(), EngineError> {
        if bytes <= self.settings.cache_size / LARGE {
            return Ok(());
        }
        self.fits_beside_pinned(bytes).await
    }

    /// Drops content that may go, until about `bytes` are free; answers how many are.
    pub(crate) async fn evict(
        self: &Arc<Self>,
        bytes: u64,
        search: Search,
    ) -> Result<u64, EngineError> {
        if !self.settings.auto_free {
            return Ok(0);
        }
        let asked = Instant::now();
        let _turn = match self.space.turn.try_lock() {
            Ok(turn) => turn,
            Err(_busy) => {
                let turn = self.space.turn.lock().await;
                if self.cache.reserve_now(bytes).is_ok() {
                    return Ok(bytes);
                }
                turn
            }
        };
        let (begun, sent) = (Instant::now(), self.bytes_sent());
        if lock(&self.space.barren).is_some_and(|last| last.answers(search, asked, sent)) {
            return Ok(0);
        }
        let goal = bytes.max(MORE.min(self.settings.cache_size / PART));
        let was_telling = self.is_telling();
        let mut freed = self.evict_but(Told::Left, goal, search).await?;
        // What was told by the end of it may be what was left out.
        let mut whole = !was_telling && !self.is_telling();
        if freed == 0 && search == Search::Anew && !whole {
            freed = self.evict_but(Told::WaitedFor, goal, search).await?;
            whole = true;
        }
        self.unlink_forgotten().await?;
        *lock(&self.space.barren) = (freed == 0).then(|| Barren::new(begun, sent, whole));
        Ok(freed)
    }

    /// Drops content that may go, until about `goal` bytes are free; answers how many are.
    async fn evict_but(
        self: &Arc<Self>,
        told: Told,
        goal: u64,
        search: Search,
    ) -> Result<u64, EngineError> {
        self.record_closed(told).await;
        self.write_uses().await;
        let mut freed = 0;
        let mut seen = HashSet::new();
        let mut most = BATCH;
        // What must stay must not keep from sight what may go: ever more are asked for.
        loop {
            let mut candidates = match search {
                // Who watches what is written past us must not be kept from it by others at work.
                Search::Anew => self.candidates(most)?,
                Search::Lately => {
                    let core = self.clone();
                    self.blocking(move || core.candidates(most)).await?
                }
            };
            candidates.uses.retain(|one| seen.insert((one.ino, one.part)));
            self.evict_of(&candidates.uses, told, goal, &mut freed).await;
            if freed >= goal || !candidates.more {
                break;
            }
            most = most.saturating_mul(4);
        }
        Ok(freed)
    }

    /// Whether the catalog is just being told of some content.
    fn is_telling(&self) -> bool {
        self.open.all().iter().any(|live| live.is_telling())
    }

    /// What may go of files in sync, the oldest use first.
    fn candidates(&self, most: usize) -> Result<Candidates, EngineError> {
        let mut uses = lock(&self.space.heat).uses();
        let noted: HashSet<Ino> = uses.iter().map(|one| one.ino).collect();
        let more = self.catalog.read(|rows| {
            let files = rows.eviction_candidates(most)?;
            for inode in files.iter().filter(|inode| !noted.contains(&inode.ino)) {
                let when = rows.last_use(inode.ino)?;
                uses.push(Use { when, ino: inode.ino, part: Part::Whole });
            }
            Ok(files.len() >= most)
        })?;
        uses.sort_by_key(|one| one.when);
        Ok(Candidates { uses, more })
    }

    async fn evict_of(self: &Arc<Self>, uses: &[Use], told: Told, goal: u64, freed: &mut u64) {
        let mut may_go: HashMap<Ino, bool> = HashMap::new();
        let mut regions: BTreeMap<Ino, Vec<u32>> = BTreeMap::new();
        let mut gathered = 0;
        for one in uses {
            if *freed >= goal {
                return;
            }
            let asked = || {
                let live = self.open.live(one.ino).filter(|_| told == Told::Left);
                let is_left = live.is_some_and(|live| live.is_telling());
                !is_left && self.catalog.read(|rows| rows.is_evictable(one.ino)).unwrap_or(false)
            };
            if !*may_go.entry(one.ino).or_insert_with(asked) {
                continue;
            }
            match one.part {
                Part::Region(region) => {
                    regions.entry(one.ino).or_default().push(region);
                    gathered += REGION;
                }
                part => *freed += self.evict_file(one.ino, part, goal - *freed).await,
            }
            if gathered >= goal - (*freed).min(goal) {
                *freed += self.evict_regions(std::mem::take(&mut regions)).await;
                gathered = 0;
            }
        }
        *freed += self.evict_regions(regions).await;
    }

    /// Gives back a file, or what of it is in no noted region: all of it, or from its end as much as is needed.
    async fn evict_file(self: &Arc<Self>, ino: Ino, part: Part, needed: u64) -> u64 {
        let here = self.catalog.read(|rows| Ok((rows.inode(ino)?, rows.presence(ino)?.blocks)));
        let Ok((Some(inode), mut here)) = here else {
            lock(&self.space.heat).forget(ino);
            return 0;
        };
        let large = here.len() * BLOCK > (4 * needed).max(8 * REGION)
            && !self.space.no_holes.load(Ordering::Relaxed);
        if part == Part::Whole
            && !large
            && let Ok((bytes, None)) = self.drop_content(&inode, false).await
        {
            return bytes;
        }
        here.subtract(&lock(&self.space.heat).noted(ino));
        let cold = here.last(needed.div_ceil(BLOCK));
        if cold.is_empty() {
            return 0;
        }
        self.shed_quietly(ino, cold).await
    }

    async fn evict_regions(self: &Arc<Self>, regions: BTreeMap<Ino, Vec<u32>>) -> u64 {
        let mut freed = 0;
        for (ino, regions) in regions {
            let mut cold = BlockSet::default();
            regions.iter().for_each(|region| cold.insert(blocks_of(*region)));
            let bytes = self.shed_quietly(ino, cold).await;
            freed += bytes;
            if bytes == 0 {
                freed += self.drop_unconfirmed(ino).await;
                continue;
            }
            {
                let mut heat = lock(&self.space.heat);
                regions.iter().for_each(|region| heat.forget_region(ino, *region));
            }
            freed += self.drop_what_is_empty(ino).await;
        }
        freed
    }

    async fn shed_quietly(self: &Arc<Self>, ino: Ino, cold: BlockSet) -> u64 {
        self.shed(ino, cold).await.unwrap_or_else(|error| {
            tracing::debug!(ino = ino.0, %error, "no part of it can be given back");
            0
        })
    }

    /// Drops all content of a file whose version is still to be confirmed: what is left of it and what came again might
    /// not be of one content.
    async fn drop_unconfirmed(self: &Arc<Self>, ino: Ino) -> u64 {
        let row = self.catalog.read(|rows| rows.inode(ino));
        match row {
            Ok(Some(inode)) if inode.pending => match self.drop_content(&inode, false).await {
                Ok((bytes, None)) => bytes,
                _ => 0,
            },
            _ => 0,
        }
    }

    /// Drops the data file of a closed file of which nothing is here any more.
    async fn drop_what_is_empty(self: &Arc<Self>, ino: Ino) -> u64 {
        let row = self.catalog.read(|rows| Ok((rows.inode(ino)?, rows.presence(ino)?.blocks)));
        match row {
            Ok((Some(inode), here)) if here.is_empty() => {
                match self.drop_content(&inode, false).await {
                    Ok((bytes, None)) => bytes,
                    _ => 0,
                }
            }
            _ => 0,
        }
    }

    /// Bytes sent since the start, those of uploads under way included.
    fn bytes_sent(&self) -> u64 {
        let under_way = lock(&self.workers.sending);
        let under_way = under_way.values().map(|one| one.done.load(Ordering::Relaxed));
        self.counters.bytes_up.load(Ordering::Relaxed) + under_way.sum::<u64>()
    }

    /// Whether an upload that may make room is under way or about to be; one of what is still being written is not.
    fn uploads_under_way(&self) -> bool {
        self.sends_soon(|rows, until| rows.outbox_due(until, BATCH))
    }

    /// The same of what is all here: it is sent without anything being fetched for it.
    pub(super) fn sends_without_fetching(&self) -> bool {
        self.sends_soon(|rows, until| rows.outbox_due_here(until, BATCH))
    }

    fn sends_soon(
        &self,
        due: impl FnOnce(&Reader, i64) -> crate::catalog::Result<Vec<Ino>>,
    ) -> bool {
        let until = now().saturating_add(SOON);
        let rests = |ino: &Ino| self.open.handles(*ino).writers == 0;
        self.can_send()
            && (!lock(&self.workers.sending).is_empty()
                || self
                    .catalog
                    .read(|rows| due(rows, until))
                    .is_ok_and(|rows| rows.iter().any(rests)))
    }

    /// Notes when a file was last used; written to the catalog now and then.
    pub(crate) fn used(&self, ino: Ino) {
        lock(&self.uses).insert(ino, now());
    }

    /// Notes that a part of a file is used; of one that `was_empty` nothing was here that could have been used before.
    pub(crate) fn used_part(&self, ino: Ino, bytes: &std::ops::Range<u64>, was_empty: bool) {
        let before = || match was_empty {
            true => 0,
            false => self.catalog.read(|rows| rows.last_use(ino)).unwrap_or_default(),
        };
        lock(&self.space.heat).note(ino, bytes, now(), before);
    }

    /// How many bytes beyond what it asks for one reader may have fetched: what is read ahead must not push out what
    /// others read ahead.
    pub(crate) fn most_ahead(&self) -> u64 {
        self.settings.cache_size / 32
    }

    /// Writes down last uses.
    pub(crate) async fn write_uses(self: &Arc<Self>) {
        let uses: Vec<(Ino, i64)> = std::mem::take(&mut *lock(&self.uses)).into_iter().collect();
        if uses.is_empty() {
            return;
        }
        let written = self
            .catalog
            .write(Durability::Soon, Origin::Engine, move |tx| tx.set_last_use(&uses))
            .await;
        if let Err(error) = written {
            tracing::debug!(%error, "cannot note last uses");
        }
    }
}
