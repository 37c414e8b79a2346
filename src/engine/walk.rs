//! Following a remote that has no feed: what is listed is looked at again.
//!
//! Where a folder's version changes with everything below it, one look at the root tells whether anything changed, and only
//! folders whose version moved are listed: each listing marks those of its folders that are to be listed next, in the
//! transaction that notes its own version, so that nothing is forgotten between them.
//!
//! Elsewhere every listed folder is listed again: those that programs used within the last hour once per poll interval,
//! the one used last first, all others in turn, the one looked at longest ago first, as fast as background requests go.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::EngineError;
use super::core::{Cause, Core, steady as now};
use super::feed::{lost_for_good, settle_missed};
use super::observe::change;
use super::open::lock;
use crate::model::{self, Ino, Observed, RemotePath};
use crate::remote::layers::Connection;
use crate::remote::{FeedKind, Locator};

/// How long a folder that a program used is looked at more often than others.
const RECENTLY: Duration = Duration::from_secs(3600);
/// Used folders that are remembered.
const REMEMBERED: usize = 4096;
/// Folders listed at once, at most.
const AT_ONCE: usize = 8;
/// How long a choice of folders holds at most: then others may have become more urgent.
const CHOICE: Duration = Duration::from_secs(1);
/// Into so many parts an interval is divided. Two of them may go by between a folder's turn and its look.
const PARTS: u32 = 8;
/// How many rounds what is missing may wait for the end of a walk that may yet find it.
const ROUNDS: u32 = 20;
/// How soon the next round begins at the earliest.
const SOON: Duration = Duration::from_millis(50);
/// Under which key the catalog keeps which folders were used.
const USED: &str = "used";
/// How often that is written down, at most.
const WRITTEN: Duration = Duration::from_secs(60);

/// Is what is known of walks, in memory.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// When programs last used a folder, nanoseconds since 1970.
    used: Mutex<HashMap<Ino, i64>>,
    /// Files that programs opened since their folders were last noted.
    opened: Mutex<HashSet<Ino>>,
    /// Somebody wants everything looked at that was not since then.
    asked: AtomicI64,
    /// Everything known was true when this began; 0: not known.
    true_since: AtomicI64,
    /// Rounds in a row in which what is missing waited.
    waited: AtomicU32,
    /// When the used folders were written down.
    written: AtomicI64,
}

impl Walk {
    /// A program uses this folder.
    fn note(&self, folder: Ino) {
        let mut used = lock(&self.used);
        used.insert(folder, now());
        if used.len() > REMEMBERED {
            let mut times: Vec<i64> = used.values().copied().collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or_default();
            used.retain(|_, when| *when >= middle);
        }
    }

    /// The folders used since `from`, the one used last first.
    fn used_since(&self, from: i64) -> Vec<(Ino, i64)> {
        let mut used = lock(&self.used);
        used.retain(|_, when| *when >= from);
        let mut found: Vec<(Ino, i64)> = used.iter().map(|(ino, when)| (*ino, *when)).collect();
        found.sort_unstable_by_key(|(ino, when)| (std::cmp::Reverse(*when), *ino));
        found
    }
}

/// Is whose turn it is: the root, and by turns the folders used last and those looked at longest ago, so that however many
/// are used, the others are looked at as well.
#[derive(Debug, Default)]
struct Turns {
    /// Before all others, whatever is used: its look tells that everything is gone, or that this is another remote.
    root: bool,
    used: VecDeque<Ino>,
    oldest: VecDeque<Ino>,
    /// Which of them was last. Choosing anew does not change it.
    used_was_last: bool,
}

impl Turns {
    fn is_empty(&self) -> bool {
        !self.root && self.used.is_empty() && self.oldest.is_empty()
    }

    fn clear(&mut self) {
        *self = Self { used_was_last: self.used_was_last, ..Self::default() };
    }

    fn next(&mut self) -> Option<Ino> {
        if std::mem::take(&mut self.root) {
            return Some(Ino::ROOT);
        }
        self.used_was_last = !self.used_was_last && !self.used.is_empty() || self.oldest.is_empty();
        let (queue, other) = match self.used_was_last {
            true => (&mut self.used, &mut self.oldest),
            false => (&mut self.oldest, &mut self.used),
        };
        let folder = queue.pop_front()?;
        other.retain(|ino| *ino != folder);
        Some(folder)
    }
}

impl Core {
    /// A program uses this folder: it is looked at again before others.
    pub(super) fn note_used(&self, folder: Ino) {
        self.workers.walk.note(folder);
    }

    /// A program opens this file: so it uses its folder.
    pub(super) fn note_opened(&self, file: Ino) {
        let mut opened = lock(&self.workers.walk.opened);
        if opened.len() < REMEMBERED {
            opened.insert(file);
        }
    }

    /// Somebody wants to see what is at the remote now.
    pub(crate) fn ask_to_look_at_all(&self) {
        self.workers.walk.asked.store(now(), Ordering::Release);
        self.ask_for_changes();
    }

    /// All that is known was true when this round began.
    pub(super) fn note_true(&self, since: i64) {
        self.workers.walk.true_since.fetch_max(since, Ordering::AcqRel);
    }

    /// Before this, nothing that is known was looked at last; `None`: nothing was.
    pub(super) fn oldest_look(&self) -> Result<Option<i64>, EngineError> {
        let told = self.workers.walk.true_since.load(Ordering::Acquire);
        let oldest = self.catalog.read(|rows| rows.oldest_look())?;
        Ok(oldest.map(|oldest| oldest.max(told)))
    }

    /// How what is known is kept true, for people.
    pub(super) fn feed_detail(&self) -> &'static str {
        let can = self.remotes.user.capabilities();
        let walks = self.workers.walks.load(Ordering::Relaxed);
        match can.feed {
            _ if walks && can.folder_versions => "folder-versions",
            FeedKind::Walk => "listing",
            _ if walks => "listing",
            FeedKind::Poll => "changes",
            _ => "told",
        }
    }

    /// One round; answers how long until the next.
    pub(super) async fn walk(self: &Arc<Self>) -> Result<Duration, EngineError> {
        let root = Locator::at(RemotePath::root());
        let tells = self.remotes.feed.capabilities().folder_versions;
        let begun = now();
        let mut seen = None;
        if tells || self.link.connection() != Connection::Online {
            // All looks rest while it is away, so nothing else would notice that it is back.
            seen = self.remotes.feed.stat(&root).await?;
            self.note_contact();
        }
        self.end_acceptance()?;
        match seen.filter(|seen| tells && !seen.version.0.is_empty()) {
            Some(seen) => {
                self.look_from_the_root(seen, begun).await?;
                self.settle_what_is_missing().await?;
                Ok(self.settings.poll)
            }
            None if tells => {
                self.forget_identity();
                self.identify(Cause::Feed).await?;
                Ok(self.settings.poll)
            }
            None => {
                self.settle_what_is_missing().await?;
                self.list_in_turn().await
            }
        }
    }

    /// Lists the root if something below it changed.
    async fn look_from_the_root(
        self: &Arc<Self>,
        seen: Observed,
        begun: i64,
    ) -> Result<(), EngineError> {
        let same = change(self, move |tx| model::look_from_the_root(tx, &seen.version)).await?;
        if same && self.catalog.read(|rows| rows.next_look())?.is_none_or(|due| due > begun) {
            self.note_true(begun);
        }
        Ok(())
    }

    /// What was missed is gone, unless it is at its place again, or the folders that are still to be listed tell where.
    async fn settle_what_is_missing(self: &Arc<Self>) -> Result<(), EngineError> {
        let due = self.catalog.read(|rows| rows.all_missing())?;
        let waited = &self.workers.walk.waited;
        let goes_on = self.catalog.read(|rows| rows.has_fresh_look())?;
        if due.is_empty() || goes_on && waited.fetch_add(1, Ordering::Relaxed) < ROUNDS {
            return Ok(());
        }
        waited.store(0, Ordering::Relaxed);
        let mut gone = self.look_for(due).await?;
        self.make_sure(&mut [], &mut gone).await?;
        let lost = lost_for_good(&gone);
        let settled = self.believe(move |_| Ok(lost), move |tx| settle_missed(tx, gone)).await?;
        settled.ok_or(EngineError::Offline)
    }

    /// Lists what is due, until nothing is or an interval is over: what was missed is settled between rounds, also where
    /// something is always due. Answers when the next will be.
    async fn list_in_turn(self: &Arc<Self>) -> Result<Duration, EngineError> {
        self.remember_used().await?;
        let mut failed = HashSet::new();
        let mut under_way = FuturesUnordered::new();
        let mut running = HashSet::new();
        let (mut chosen, mut since) = (Turns::default(), None::<tokio::time::Instant>);
        let end = tokio::time::Instant::now() + self.settings.poll;
        loop {
            if tokio::time::Instant::now() >= end {
                chosen.clear();
            } else if chosen.is_empty() || since.is_none_or(|since| since.elapsed() > self.part()) {
                self.choose_folders(&mut chosen, &running, &failed)?;
                since = Some(tokio::time::Instant::now());
            }
            while under_way.len() < self.at_once()
                && let Some(folder) = chosen.next()
            {
                if running.insert(folder) {
                    let flight = self.flight(folder, Cause::Feed);
                    under_way.push(async move { (folder, flight.await.is_ok()) });
                }
            }
            let Some((folder, listed)) = under_way.next().await else { break };
            running.remove(&folder);
            if !listed {
                failed.insert(folder);
            }
            if *self.stopping.borrow() || self.connection_state().is_some() {
                return Err(EngineError::Offline);
            }
        }
        self.next_round(&failed)
    }

    fn part(&self) -> Duration {
        (self.settings.poll / PARTS).min(CHOICE)
    }

    /// Folders listed at once: no more than can begin within a part of the interval.
    fn at_once(&self) -> usize {
        let begin = self.part().as_millis() * u128::from(self.settings.requests) / 1000;
        usize::try_from(begin).unwrap_or(AT_ONCE).clamp(1, AT_ONCE)
    }

    /// How long ago a look may be before the folder is due: less than an interval, since a look takes time.
    fn period(&self) -> Duration {
        self.settings.poll.saturating_sub(self.settings.poll / PARTS * 2)
    }

    /// Chooses anew whose turn it is: as many as background requests go in a second.
    fn choose_folders(
        &self,
        chosen: &mut Turns,
        running: &HashSet<Ino>,
        failed: &HashSet<Ino>,
    ) -> Result<(), EngineError> {
        let most = usize::try_from(self.settings.requests).unwrap_or(usize::MAX).clamp(1, 1000);
        let opened = std::mem::take(&mut *lock(&self.workers.walk.opened));
        for file in opened {
            let inode = self.catalog.read(|rows| rows.inode(file))?;
            if let Some(place) = inode.and_then(|inode| inode.local) {
                self.note_used(place.parent);
            }
        }
        let asked = self.workers.walk.asked.load(Ordering::Acquire);
        let before = now().saturating_sub(nanos(self.period())).max(asked);
        let used = self.workers.walk.used_since(now().saturating_sub(nanos(RECENTLY)));
        let is_free = |ino: &Ino| !running.contains(ino) && !failed.contains(ino);
        self.catalog.read(|rows| {
            let is_due = |ino| rows.looked(ino).map(|at| at.is_some_and(|looked| looked < before));
            chosen.root = is_free(&Ino::ROOT) && is_due(Ino::ROOT)?;
            chosen.used.clear();
            for (folder, _) in used.iter().filter(|(ino, _)| *ino != Ino::ROOT && is_free(ino)) {
                if chosen.used.len() >= most {
                    break;
                }
                if is_due(*folder)? {
                    chosen.used.push_back(*folder);
                }
            }
            let oldest = rows.oldest_looks(most + running.len() + failed.len())?.into_iter();
            let due = oldest.take_while(|(_, looked)| *looked < before).map(|(ino, _)| ino);
            chosen.oldest = due.filter(|ino| *ino != Ino::ROOT && is_free(ino)).collect();
            Ok(())
        })?;
        Ok(())
    }

    /// When the first folder is due again.
    fn next_round(&self, failed: &HashSet<Ino>) -> Result<Duration, EngineError> {
        let oldest = self.catalog.read(|rows| rows.oldest_looks(1 + failed.len()))?;
        let oldest = oldest.into_iter().find(|(ino, _)| !failed.contains(ino));
        let Some((_, looked)) = oldest else { return Ok(self.settings.poll) };
        let due = looked.saturating_add(nanos(self.period()));
        let left = Duration::from_nanos(u64::try_from(due.saturating_sub(now())).unwrap_or(0));
        Ok(left.clamp(SOON, self.settings.poll.max(SOON)))
    }

    /// Writes down which folders were used, so that the next start knows; at the first time, reads that.
    async fn remember_used(self: &Arc<Self>) -> Result<(), EngineError> {
        let walk = &self.workers.walk;
        let written = walk.written.load(Ordering::Relaxed);
        if written == 0 {
            let known = self.catalog.read(|rows| rows.state(USED))?.unwrap_or_default();
            let mut used = lock(&walk.used);
            for one in known.chunks_exact(16) {
                let number = |half: &[u8]| half.try_into().map(u64::from_le_bytes).unwrap_or(0);
                let (ino, when) = one.split_at(8);
                // A clock that was ahead then made it a time to come.
                used.entry(Ino(number(ino))).or_insert(number(when).cast_signed().min(now()));
            }
        } else if now().saturating_sub(written) < nanos(WRITTEN) {
            return Ok(());
        }
        walk.written.store(now(), Ordering::Relaxed);
        self.write_used().await
    }

    /// Writes down which folders were used within the last hour.
    pub(super) async fn write_used(self: &Arc<Self>) -> Result<(), EngineError> {
        let walk = &self.workers.walk;
        if walk.written.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let used = walk.used_since(now().saturating_sub(nanos(RECENTLY)));
        let mut bytes = Vec::with_capacity(used.len() * 16);
        for (ino, when) in used {
            bytes.extend(ino.0.to_le_bytes());
            bytes.extend(when.to_le_bytes());
        }
        change(self, move |tx| tx.set_state(USED, Some(&bytes))).await
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
