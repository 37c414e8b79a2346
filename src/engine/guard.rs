//! The mass-change guard: asks the model about the removals and overwrites that wait, and does for people what they then
//! want: list, release, undo.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::{Core, steady as now};
use super::observe::change;
use super::open::lock;
use super::send::nanos;
use super::{Engine, EngineError};
use crate::catalog::{CatalogError, Inode, Tx};
use crate::model::guard::{self, Destruction, Tree, Verdict, WINDOW};
use crate::model::{
    self, Content, Generation, Ino, Kind, Name, RemotePath, Rows as _, Step, StepKind, Undone,
};

/// How often many are judged, at most; if judging takes long, more seldom.
const EVERY: Duration = Duration::from_millis(100);
/// How long a removal or overwrite rests while it is not known whether it is one of very many.
const REST: Duration = Duration::from_millis(250);
/// Held items listed at most.
const MOST: usize = 1_000_000;
/// How long is waited for edits to be in `recovered/`.
const KEEP: Duration = Duration::from_secs(10);

/// Is what the guard keeps in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What was sent within the last minute.
    sent: VecDeque<Destruction>,
    /// When the waiting ones are judged next.
    next: Option<Instant>,
    /// Those that the last judgement let go, with since when they waited: they need not rest until the next one.
    free: HashMap<Ino, i64>,
    /// Rows that wait for one that is held.
    pub(super) behind: HashSet<Ino>,
}

/// Says what the guard wants of the next choice of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarding {
    /// Nothing is kept back but what is held.
    Open,
    /// Removals and overwrites rest.
    Rest,
}

/// Is an item that the guard holds, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where it is, or was before it was deleted here, below the mountpoint.
    pub path: Vec<u8>,
    /// `delete` or `overwrite`.
    pub what: &'static str,
    /// Bytes at the remote.
    pub size: u64,
    /// Since when, nanoseconds since 1970.
    pub since: i64,
}

/// Is an item that `undo` brought back, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where it is.
    pub path: Vec<u8>,
    /// `back`, `reverted`, or `left`: it is in use.
    pub what: &'static str,
    /// Where the edited content is kept now.
    pub kept: Option<PathBuf>,
}

impl Tree for Tx {
    type Error = CatalogError;

    fn above(&mut self, folder: Ino) -> Result<Option<Ino>, CatalogError> {
        let base = if folder == Ino::ROOT { None } else { self.base(folder)? };
        Ok(base.map(|base| base.place.parent))
    }

    fn files_below(&mut self, folder: Ino, enough: usize) -> Result<usize, CatalogError> {
        self.base_below(folder, false, enough)
    }
}

impl Memory {
    /// Judges what waits, if there may be too much of it, and holds what is to be held.
    pub(super) fn guard(&mut self, tx: &mut Tx, limit: usize) -> Result<Guarding, CatalogError> {
        let now = now();
        while self.sent.front().is_some_and(|old| now.saturating_sub(old.since) > WINDOW) {
            self.sent.pop_front();
        }
        if limit == 0 || !tx.has_more_of_the_remote(limit.saturating_sub(self.counted(tx)?))? {
            return Ok(Guarding::Open);
        }
        let begun = Instant::now();
        if self.next.is_some_and(|next| begun < next) {
            return Ok(Guarding::Rest);
        }
        let (verdict, judged) = self.judge(tx, limit, now)?;
        self.free = match &verdict {
            Verdict::Free => judged,
            Verdict::Rest | Verdict::Hold(_) => HashMap::new(),
        };
        self.next = Some(Instant::now() + EVERY.max(begun.elapsed() * 10));
        Ok(match verdict {
            Verdict::Free => Guarding::Open,
            Verdict::Rest => Guarding::Rest,
            Verdict::Hold(all) => {
                let fresh = guard::hold(tx, &all)?;
                if fresh > 0 {
                    tracing::warn!(
                        fresh,
                        "very many removals or overwrites at once: they are held"
                    );
                }
                Guarding::Open
            }
        })
    }

    /// How many count besides those that wait and are not held.
    fn counted(&self, tx: &Tx) -> Result<usize, CatalogError> {
        let held = usize::try_from(tx.held_count()?).unwrap_or(usize::MAX);
        Ok(self.sent.len().saturating_add(held))
    }

    /// Judges what waits; also answers who that is.
    fn judge(
        &self,
        tx: &mut Tx,
        limit: usize,
        now: i64,
    ) -> Result<(Verdict, HashMap<Ino, i64>), CatalogError> {
        let destructions = |tx: &Tx, from| {
            let mut all = tx.may_be_destructions(from)?;
            guard::leave_destructions(tx, &mut all)?;
            Ok::<_, CatalogError>(all)
        };
        let fresh = destructions(tx, i64::MAX)?;
        let Some(first) = fresh.iter().filter(|one| !one.is_held).map(|one| one.one.since).min()
        else {
            return Ok((Verdict::Free, HashMap::new()));
        };
        let waiting = destructions(tx, first.saturating_sub(WINDOW))?;
        let known: HashMap<Ino, i64> =
            waiting.iter().map(|one| (one.one.ino, one.one.since)).collect();
        let sent = self.sent.iter().filter(|one| !known.contains_key(&one.ino)).copied();
        let all = waiting.into_iter().map(|one| one.one).chain(sent).collect();
        Ok((guard::judge(tx, all, limit, now)?, known))
    }

    /// Whether this step must rest; one that goes is remembered for a minute.
    pub(super) fn passes(
        &mut self,
        tx: &Tx,
        step: Step,
        guarding: Guarding,
    ) -> Result<bool, CatalogError> {
        if !matches!(step.kind, StepKind::Remove | StepKind::Write) {
            return Ok(true);
        }
        let Some(base) = tx.base(step.ino)? else { return Ok(true) };
        let file = tx.node(step.ino)?.is_some_and(|node| node.kind == Kind::File);
        if !file || tx.outbox(step.ino)?.is_some_and(|row| row.released) {
            return Ok(true);
        }
        let since = tx.outbox_item(step.ino)?.map_or_else(now, |item| item.since);
        // One that was edited then, and is removed now, waits since another time.
        if self.free.remove(&step.ino) != Some(since) && guarding == Guarding::Rest {
            return Ok(false);
        }
        let (ino, folder) = (step.ino, base.place.parent);
        let gone = step.kind == StepKind::Remove;
        self.sent.retain(|one| one.ino != ino);
        self.sent.push_back(Destruction { ino, since, folder, gone, waits: false });
        Ok(true)
    }
}

/// How long a step rests that the guard does not let pass yet, nanoseconds.
pub(super) fn rest() -> i64 {
    nanos(REST)
}

impl Core {
    /// Whether this row waits for a person to release or undo something.
    pub(super) fn is_held_up(&self, ino: Ino) -> Result<bool, EngineError> {
        if lock(&self.workers.guard).behind.contains(&ino) {
            return Ok(true);
        }
        Ok(self.catalog.read(|rows| rows.outbox(ino))?.is_some_and(|row| row.held))
    }

    /// Where an item is, or where the remote has it.
    fn path_of_any(&self, ino: Ino) -> Result<Vec<u8>, EngineError> {
        Ok(self.catalog.read(|rows| super::status::path_of(rows, ino))?)
    }

    /// Where the remote has an item; without that, where it is.
    fn path_there(&self, ino: Ino) -> Result<Vec<u8>, EngineError> {
        match self.catalog.read(|rows| rows.base_path(ino))? {
            Some(path) => Ok(bytes_of(&path)),
            None => self.path_of_any(ino),
        }
    }

    /// Waits until an edited content is in `recovered/`; where it is.
    pub(super) async fn kept_of(&self, ino: Ino, generation: Generation) -> Option<PathBuf> {
        let end = Instant::now() + KEEP;
        loop {
            if let Some(place) = lock(&self.workers.rescued).remove(&(ino, generation)) {
                return Some(place);
            }
            if Instant::now() >= end {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Engine {
    /// What the mass-change guard holds.
    pub async fn held(&self) -> Result<Vec<Held>, EngineError> {
        let mut all = Vec::new();
        for (ino, since) in self.core.catalog.read(|rows| rows.held(MOST))? {
            let found = self.core.catalog.read(|rows| Ok((rows.inode(ino)?, rows.base(ino)?)))?;
            let (Some(inode), Some(base)) = found else { continue };
            // What is only moved to where it is kept here only is deleted at the remote.
            let is_overwrite = inode.local.is_some() && inode.edition != base.edition;
            let (what, path) = match is_overwrite {
                true => ("overwrite", self.core.path_of_any(ino)?),
                false => ("delete", self.core.path_there(ino)?),
            };
            all.push(Held { path, what, size: base.size, since });
        }
        Ok(all)
    }

    /// Sends what the mass-change guard holds after all; answers how many items that are.
    pub async fn release_held(&self) -> Result<u64, EngineError> {
        let count = change(&self.core, |tx| {
            let count = tx.held_count()?;
            if count > 0 {
                guard::release(tx)?;
                tx.outbox_wake_all()?;
            }
            Ok(count)
        })
        .await?;
        lock(&self.core.workers.guard).behind.clear();
        self.core.outbox.notify_one();
        self.core.pulse();
        Ok(count)
    }

    /// Brings everything back that the mass-change guard holds.
    pub async fn undo_held(&self) -> Result<Vec<Restored>, EngineError> {
        let end = Instant::now() + KEEP;
        let mut all = Vec::new();
        let mut quiet = 0;
        loop {
            let busy = self.is_something_on_its_way().await?;
            quiet = if busy { 0 } else { quiet + 1 };
            all.retain(|one: &Taken| one.undone != Undone::Left);
            all.extend(self.undo_once().await?);
            let left = all.iter().any(|one| one.undone == Undone::Left);
            if !left || quiet > 1 || Instant::now() >= end {
                break;
            }
            // What is on its way must be known to have arrived or not, before it can be taken back.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.restored(all).await
    }

    async fn is_something_on_its_way(&self) -> Result<bool, EngineError> {
        let trying = |rows: &crate::catalog::Reader| {
            for (ino, _) in rows.held(MOST)? {
                if rows.outbox(ino)?.is_some_and(|row| row.attempt.is_some()) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        Ok(self.core.catalog.read(trying)?)
    }

    async fn undo_once(&self) -> Result<Vec<Taken>, EngineError> {
        let undone = change(&self.core, |tx| {
            let mut generations = HashMap::new();
            let mut places = HashMap::new();
            for (ino, _) in tx.held(MOST)? {
                places.extend(tx.base_path(ino)?.map(|path| (ino, bytes_of(&path))));
            }
            // Also of what was saved over a held file and has not taken its place yet.
            let pending = tx.outbox_inodes()?;
            for ino in if tx.held_count()? > 0 { pending } else { Vec::new() } {
                // What was sent under another name will not have been, once it has its base.
                let may_be_kept = |inode: &Inode| {
                    let is_whole = inode.content == Content::Hydrated;
                    inode.edited || inode.local.is_some() && is_whole
                };
                let inode = tx.inode(ino)?.filter(may_be_kept);
                generations.extend(inode.map(|inode| (ino, inode.generation)));
            }
            let all = model::undo(tx)?;
            tx.outbox_wake_all()?;
            let mut taken = |(ino, undone)| {
                let (edited, came_from) = (generations.remove(&ino), places.remove(&ino));
                Taken { ino, undone, edited, came_from }
            };
            Ok(all.into_iter().map(&mut taken).collect())
        })
        .await?;
        lock(&self.core.workers.guard).behind.clear();
        self.core.outbox.notify_one();
        self.core.pulse();
        Ok(undone)
    }

    async fn restored(&self, undone: Vec<Taken>) -> Result<Vec<Restored>, EngineError> {
        let mut all = Vec::new();
        for Taken { ino, undone, edited, came_from } in undone {
            let what = match undone {
                Undone::Back | Undone::Apart => "back",
                Undone::Reverted => "reverted",
                Undone::Left => "left",
            };
            let path = match came_from.filter(|_| undone == Undone::Apart) {
                Some(path) => path,
                None => self.core.path_of_any(ino)?,
            };
            let kept = match edited.filter(|_| undone == Undone::Reverted) {
                Some(generation) => self.core.kept_of(ino, generation).await,
                None => None,
            };
            all.push(Restored { path, what, kept });
        }
        Ok(all)
    }

    /// Conflict copies made here and not resolved.
    pub async fn conflicts(&self) -> Result<Vec<super::ItemStatus>, EngineError> {
        let all = self.core.catalog.read(|rows| rows.conflicts(MOST))?;
        let counts = self.core.catalog.count_pending().await?;
        all.into_iter().map(|ino| self.core.item_status(ino, Some(&counts))).collect()
    }
}

/// Is one item that was taken back.
struct Taken {
    ino: Ino,
    undone: Undone,
    /// The content that may be kept in `recovered/`.
    edited: Option<Generation>,
    /// Where the remote had it.
    came_from: Option<Vec<u8>>,
}

fn bytes_of(path: &RemotePath) -> Vec<u8> {
    let parts: Vec<&[u8]> = path.0.iter().map(Name::as_bytes).collect();
    parts.join(&b'/')
}

/// Whose edits were put into `recovered/`, and where they are.
pub(super) type Rescued = HashMap<(Ino, Generation), PathBuf>;

/// Is shared between the choice of steps and those who ask.
pub(super) type Shared = Arc<std::sync::Mutex<Memory>>;
