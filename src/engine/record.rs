//! Recording: what live contents know goes to the catalog, bytes before facts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use rustix::process::{Resource, getrlimit};

use super::EngineError;
use super::core::Core;
use super::crash::crash_here;
use super::evict::Told;
use super::live::{Live, State};
use crate::cache::{Access, DataFile};
use crate::catalog::{Durability, Origin, Tx};
use crate::model::{self, Base, BlockSet, Content, Digest, Ino, Rows as _, Stamp, Version};

/// How long fetched blocks may stay unrecorded: losing them to a crash only means fetching them again.
const PAUSE: Duration = Duration::from_millis(300);

/// How many pauses more while a program reads one small file after the other, unless so many contents are open or waiting,
/// or that part of the descriptors there may be.
const MORE_PAUSES: u32 = 8;
const MANY: u64 = 4096;
const PART: u64 = 4;

/// Contents recorded at once: disks bring many files down in the time of a few, and every one that waits keeps a descriptor.
const AT_ONCE: usize = 16;

/// How long is waited for cuts to end that keep what came from being told.
const CUTS: Duration = Duration::from_secs(10);

/// How often what a user wrote is brought to the disk anew because blocks came meanwhile.
const ROUNDS: u32 = 5;

/// Is what is to be recorded of one live content.
struct News {
    size: u64,
    blocks: Option<BlockSet>,
    hydrated: bool,
    wrote: bool,
    stamp: Option<(Stamp, i64)>,
    /// Whether some of it came under a version that was young.
    young: bool,
    cuts: u64,
}

impl Core {
    /// Brings what a live content knows to the catalog; with `Synced`, bytes and rows survive a power cut afterwards.
    pub(crate) async fn record(
        self: &Arc<Self>,
        live: &Arc<Live>,
        durability: Durability,
    ) -> Result<(), EngineError> {
        let (core, live) = (self.clone(), live.clone());
        // A task of its own: whoever no longer waits must not take along what was taken to be told.
        let told = self.runtime.spawn(async move {
            let end = tokio::time::Instant::now() + CUTS;
            while core.record_in_turn(&live, durability).await? {
                // Who asked relies on what was left out as well.
                let over = tokio::time::timeout_at(end, live.cuts.over()).await;
                if over.is_err() || tokio::time::Instant::now() > end {
                    return Err(EngineError::TimedOut);
                }
            }
            Ok(())
        });
        told.await.unwrap_or(Err(EngineError::Stopped))
    }

    /// Answers whether something was left out, since a cut is under way or was meanwhile.
    async fn record_in_turn(
        self: &Arc<Self>,
        live: &Arc<Live>,
        durability: Durability,
    ) -> Result<bool, EngineError> {
        // What is older must not be told after what is newer, and who finds nothing to tell must know that it is told.
        let _turn = live.telling.lock().await;
        self.settle_doubt(live).await?;
        let (core, kept) = (self.clone(), live.clone());
        let news = self
            .blocking(move || core.news_of(&kept, durability))
            .await
            .inspect_err(|_| self.forget_lossy(live))?;
        let Some(news) = news else {
            if durability == Durability::Synced {
                self.catalog.barrier().await?;
            }
            return Ok(false);
        };
        crash_here!(self, "record: before the content that came is known");
        let known = self.known_or_refused(live, &news).await?;
        let version = live.source().map(|source| source.version);
        let (fetched, wrote, young) = (news.blocks.is_some(), news.wrote, news.young);
        if news.hydrated {
            self.workers.wrong.forget(live.ino);
        }
        crash_here!(self, "record: before the rows");
        let kept = live.clone();
        #[cfg(debug_assertions)]
        let core = self.clone();
        let tell = move |tx: &mut Tx| {
            let is_cut = tell(tx, &kept, &news, (known, version.as_ref()))?;
            crash_here!(core, "record: in the rows");
            Ok::<_, EngineError>(is_cut)
        };
        let outcome = self.catalog.write(durability, Origin::Kernel, tell).await;
        self.open.note_told();
        crash_here!(self, "record: told");
        {
            let mut state = live.state();
            state.recording = state.recording.saturating_sub(u32::from(wrote));
            state.blocks_unrecorded |= fetched && !matches!(outcome, Ok(false));
            state.wrote |= wrote && !matches!(outcome, Ok(false));
            state.came_young |= young && !matches!(outcome, Ok(false));
        }
        if matches!(outcome, Ok(true)) {
            self.recorder.notify_one();
        }
        self.pulse();
        outcome
    }

    /// What the content that came is for certain; without that it is only read again later. What is not what the remote says of it
    /// goes.
    async fn known_or_refused(
        self: &Arc<Self>,
        live: &Arc<Live>,
        news: &News,
    ) -> Result<Option<Digest>, EngineError> {
        match self.content_of_fetched(live, news).await {
            Ok(known) => Ok(known),
            Err(error @ EngineError::Corrupt(_)) => {
                if let Some(source) = live.source() {
                    self.workers.wrong.note(live.ino, &source.version);
                }
                live.forget_fetched();
                // The kernel has it in its pages.
                self.open.forget_last_opened(live.ino);
                self.note_problem(Some(live.ino), &error.to_string());
                self.recorder.notify_one();
                self.look_at(live.ino);
                Err(error)
            }
            Err(EngineError::Stopped) => {
                take_back(live, news);
                Err(EngineError::Stopped)
            }
            Err(_) => Ok(None),
        }
    }

    /// Of what the disk lost, what only came from the remote is fetched again: it is not what was sent any more.
    fn forget_lossy(&self, live: &Live) {
        if self.cache.is_lossy(live.ino, live.generation) && live.forget_unedited() {
            self.cache.note_lossy(live.ino, live.generation, false);
            // The kernel has it in its pages.
            self.open.forget_last_opened(live.ino);
        }
    }

    /// What a content is for certain that came whole, where that matters: it must be what the remote says of it, and what
    /// came under a version not to be relied on is compared again later.
    async fn content_of_fetched(
        self: &Arc<Self>,
        live: &Arc<Live>,
        news: &News,
    ) -> Result<Option<Digest>, EngineError> {
        if !news.hydrated || news.wrote || news.blocks.is_none() {
            return Ok(None);
        }
        let (inode, base) =
            self.catalog.read(|rows| Ok((rows.inode(live.ino)?, rows.base(live.ino)?)))?;
        let source = live.source();
        let version = source.as_ref().map(|source| &source.version);
        let plain = |base: &Base| {
            Some(&base.version) == version
                && inode.is_some_and(|one| one.content != Content::Hydrated && !one.edited)
        };
        let young = |base: &Base| base.young || news.young;
        let Some(base) = base.filter(plain).filter(|base| young(base) || base.known.is_some())
        else {
            return Ok(None);
        };
        let (core, open, kept) = (self.clone(), live.open_data(), live.clone());
        let (ino, generation) = (live.ino, live.generation);
        let Some((stamp, _)) = news.stamp else { return Ok(None) };
        let digest = self
            .blocking(move || {
                let data = match open {
                    Some(data) => Some(data),
                    // Read by a handle that is closed by now.
                    None => core.cache.open_data(ino, generation, Access::Read)?.map(Arc::new),
                };
                let Some(data) = data else { return Ok(None) };
                // What is written meanwhile is not what came, and who wrote it waits to close it.
                let goes_on = || !kept.state().wrote && !core.is_stopped();
                let Some(digest) = data.digest_while(goes_on)? else {
                    // The next daemon would believe what nobody had the time to compare.
                    return if core.is_stopped() { Err(EngineError::Stopped) } else { Ok(None) };
                };
                Ok(data.unmoved_since(stamp)?.then_some(digest))
            })
            .await?;
        let Some(digest) = digest else { return Ok(None) };
        if base.known.is_some_and(|known| known != digest) && !live.has_unrecorded_writes() {
            let what = "what came is not the content that the remote told of";
            return Err(EngineError::Corrupt(what.into()));
        }
        Ok(Some(digest).filter(|_| young(&base)))
    }

    /// Takes what is new of a live content, after its bytes were brought to the disk where that matters. Blocks.
    fn news_of(&self, live: &Live, durability: Durability) -> Result<Option<News>, EngineError> {
        let mut held = None;
        for round in 0.. {
            if round == ROUNDS {
                // The remote is faster than the disk: what it sends waits until what is here is synced.
                held = Some(live.hold_fetched());
            }
            let (before, wrote) = {
                let state = live.state();
                (state.blocks_unrecorded.then(|| state.blocks.clone()), state.wrote)
            };
            if before.is_none() && !wrote && durability == Durability::Soon {
                return Ok(None);
            }
            let data = match live.open_data() {
                Some(data) => Some(data),
                // Written before this process began, or by a handle that is closed.
                None => {
                    let data = self.cache.open_data(live.ino, live.generation, Access::Read)?;
                    data.map(Arc::new)
                }
            };
            if let Some(data) = &data
                && (before.is_some() || durability == Durability::Synced)
            {
                data.sync_data()?;
            }
            if let Some(tick) = self.cache.stamp_tick().filter(|_| before.is_some()) {
                // The stamp that is taken as that of whole content must be older than any write to come.
                std::thread::sleep(tick);
            }
            crash_here!(self, "record: synced");
            let mut state = live.state();
            // With the news: what was cut off before is in them, its length as well.
            let cuts = live.cuts.seen();
            if before.is_none() && !state.wrote {
                return Ok(None);
            }
            // What came since may not be on the disk yet: what was fetched is told next time. What a user wrote is told
            // only with every block that is here, else blocks of his would be fetched again over what he wrote.
            let late = state.blocks_unrecorded && before.as_ref() != Some(&state.blocks);
            if late && state.wrote && round < 2 * ROUNDS {
                continue;
            }
            drop(held);
            return take_news(&mut state, before, late, data.as_deref()).map(|news| {
                let news = News { cuts, ..news };
                if state.blocks_unrecorded {
                    self.recorder.notify_one();
                }
                Some(news)
            });
        }
        Ok(None)
    }

    /// Compares the data file of an inode with what the catalog knows of it: an edit that lost its row is found again.
    pub(crate) async fn observe_data(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        if let Some(live) = self.open.live(ino) {
            return self.record(&live, Durability::Soon).await;
        }
        let _visit = self.open.visit(ino);
        match self.live_for(ino) {
            Ok(live) => self.record(&live, Durability::Soon).await,
            Err(EngineError::IsFolder | EngineError::Invalid(_) | EngineError::Stale) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Records, now and then, what was fetched; ends with the engine.
    pub(crate) async fn run_recorder(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            tokio::select! {
                () = self.recorder.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            tokio::time::sleep(PAUSE).await;
            let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            for _ in 0..MORE_PAUSES {
                // Who reads file after file is not to share disk and catalog with what can wait.
                if !self.reads_on() || self.open.count() as u64 > MANY.min(descriptors / PART) {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            self.record_all().await;
        }
    }

    /// Brings all that live contents know to the catalog, many at once.
    pub(crate) async fn record_all(self: &Arc<Self>) {
        let all = stream::iter(self.open.all());
        all.for_each_concurrent(AT_ONCE, |live| self.record_and_settle(live)).await;
    }

    /// Brings to the catalog what came whole and is closed: before that nobody may give it back.
    pub(super) async fn record_closed(self: &Arc<Self>, told: Told) {
        let closed = |live: &Arc<Live>| {
            let is_left = told == Told::Left && live.is_telling();
            !is_left
                && self.open.handles(live.ino).open == 0
                && live.has_news()
                && live.state().hydrated
        };
        let all = stream::iter(self.open.all().into_iter().filter(closed));
        all.for_each_concurrent(AT_ONCE, |live| self.record_and_settle(live)).await;
    }

    pub(super) async fn record_and_settle(self: &Arc<Self>, live: Arc<Live>) {
        if live.has_news()
            && let Err(error) = self.record(&live, Durability::Soon).await
        {
            tracing::warn!(ino = live.ino.0, %error, "cannot record content");
            self.note_problem(Some(live.ino), &error.to_string());
        }
        self.closed(&live);
    }
}

/// Tells the rows; `known` is what the content is for certain, and under which version it came. Answers whether something was
/// left out for a cut.
fn tell(
    tx: &mut Tx,
    live: &Live,
    news: &News,
    known: (Option<Digest>, Option<&Version>),
) -> Result<bool, EngineError> {
    let (ino, generation) = (live.ino, live.generation);
    // The row has forgotten these blocks by now, or will.
    let is_cut = news.blocks.is_some() && live.cuts.is_cut_since(news.cuts);
    if let Some(blocks) = news.blocks.as_ref().filter(|_| !is_cut) {
        tell_content(tx, live, (news, blocks), known)?;
    }
    // Of a file that is not all here only this tells that it was edited: fetching moves its stamp as well.
    let row = tx.inode(ino)?.filter(|row| row.generation == generation);
    let part = row.is_some_and(|row| row.content != Content::Hydrated && !row.edited);
    if news.wrote && part {
        tx.mark_edited(ino)?;
    }
    // Noted now, it would not tell any more of the length when the content is.
    if let (true, Some((stamp, mtime))) = (news.wrote && !is_cut, news.stamp) {
        tx.observe(ino, generation, stamp, mtime)?;
    }
    Ok(is_cut)
}

fn tell_content(
    tx: &mut Tx,
    live: &Live,
    (news, blocks): (&News, &BlockSet),
    (known, version): (Option<Digest>, Option<&Version>),
) -> Result<(), EngineError> {
    let (ino, generation) = (live.ino, live.generation);
    if news.hydrated {
        let stamp = news.stamp.map(|(stamp, _)| stamp);
        // An edit since then is found by its stamp: `observe` comes after.
        let recorded = if news.wrote { tx.inode(ino)?.and_then(|i| i.stamp) } else { stamp };
        let current = tx.set_content(ino, generation, Content::Hydrated, recorded)?;
        if current && !news.wrote {
            let same = tx.base(ino)?.map(|base| base.version).as_ref() == version;
            model::came(tx, ino, known.filter(|_| same), news.young)?;
        }
        return Ok(());
    }
    let current = tx.set_presence(ino, generation, blocks)?;
    // The length of a file that is not all here is only what its row says.
    if current && news.wrote {
        tx.set_size(ino, news.size)?;
    } else if current {
        model::came(tx, ino, None, news.young)?;
    }
    Ok(())
}

/// What was taken to be told is to be told another time. Never what a user wrote.
fn take_back(live: &Live, news: &News) {
    let mut state = live.state();
    state.blocks_unrecorded |= news.blocks.is_some();
    state.came_young |= news.young;
}

/// Takes what is new out of a state: only blocks of `before`, unless a user wrote.
fn take_news(
    state: &mut State,
    before: Option<BlockSet>,
    late: bool,
    data: Option<&DataFile>,
) -> Result<News, EngineError> {
    let stamp = match data {
        Some(data) => Some((data.stamp()?, data.mtime()?)),
        None => None,
    };
    let late = late && !state.wrote;
    let blocks = if state.wrote && state.blocks_unrecorded {
        Some(state.blocks.clone())
    } else {
        before.map(|mut blocks| {
            blocks.truncate(state.size);
            blocks
        })
    };
    let hydrated = state.hydrated && !late;
    let (size, wrote, young) = (state.size, state.wrote, state.came_young);
    let news = News { size, blocks, hydrated, wrote, stamp, young, cuts: 0 };
    // What is on its way now may have been asked for while the version was young.
    state.came_young &= late || !state.fetching.is_empty();
    state.blocks_unrecorded = late;
    state.recording += u32::from(state.wrote);
    state.wrote = false;
    Ok(news)
}
