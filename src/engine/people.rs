//! What people and scripts ask: states, syncing now, hydrating, freeing, pins, history.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::core::{Cause, Core};
use super::state::{Figures, Freed, Happened, Hydrated, ItemStatus, MountStatus, Progress};
use super::{Engine, EngineError};
use crate::catalog::{Durability, Origin};
use crate::model::{Content, Ino, Kind, Name, Pin};

type Ready<T> = Result<T, EngineError>;

/// How many times over a look at what is left rests as long as it took.
const LOOKS_REST: u32 = 5;

impl Engine {
    /// The inode at a path below the mountpoint (bytes, `/`-separated, no leading slash; empty = root). With `fetch`,
    /// lists folders on the way; else a name in an unlisted folder is `NotFound`, as one that is not there. With it also what
    /// asking the remote may answer.
    pub async fn resolve(&self, path: &[u8], fetch: bool) -> Ready<Ino> {
        let mut at = Ino::ROOT;
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
            let name = Name::new(part).map_err(|_| EngineError::NotFound)?;
            let found = self.core.catalog.read(|rows| rows.lookup(at, &name))?;
            at = match found {
                Some(inode) => inode.ino,
                None if fetch => self.lookup(at, &name).wait().await?.ino,
                None => return Err(EngineError::NotFound),
            };
        }
        Ok(at)
    }

    /// The mount's state.
    pub async fn mount_status(&self) -> Ready<MountStatus> {
        let core = self.core.clone();
        self.core.blocking(move || core.mount_status()).await
    }

    /// Whether the catalog can be read and still takes changes.
    pub async fn is_alive(&self) -> bool {
        let reads = self.core.catalog.read(|rows| rows.sums()).is_ok();
        let nothing = |_: &mut crate::catalog::Tx| Ok::<_, crate::catalog::CatalogError>(());
        let writes = self.core.catalog.write(Durability::Later, Origin::Engine, nothing);
        reads && writes.await.is_ok()
    }

    /// What is counted besides.
    pub fn figures(&self) -> Figures {
        let (operations, errors) = self.core.link.latencies();
        let counters = &self.core.counters;
        let (hits, misses) =
            (counters.hits.load(Ordering::Relaxed), counters.misses.load(Ordering::Relaxed));
        Figures { hits, misses, operations, errors }
    }

    /// One item's state; `NotFound` if it is gone.
    pub async fn item_status(&self, ino: Ino) -> Ready<ItemStatus> {
        let counts = self.core.catalog.count_pending().await?;
        let core = self.core.clone();
        self.core.blocking(move || core.item_status(ino, Some(&counts))).await
    }

    /// The states of what is in a folder, sorted by name; with `fetch` it is listed first if need be, and what asking the
    /// remote may answer comes. What is gone meanwhile is left out.
    pub async fn folder_status(&self, folder: Ino, fetch: bool) -> Ready<Vec<ItemStatus>> {
        if fetch && !self.core.catalog.read(|rows| rows.is_listed(folder))? {
            self.core.list_folder(folder).await?;
        }
        let counts = self.core.catalog.count_pending().await?;
        let core = self.core.clone();
        let walk = move || {
            let mut items = Vec::new();
            let mut after = Ino(0);
            loop {
                let page = core.catalog.read(|rows| rows.read_dir(folder, after, 500))?;
                let Some(last) = page.last() else { break };
                after = last.inode.ino;
                for entry in &page {
                    items.extend(unless_gone(core.item_status(entry.inode.ino, Some(&counts)))?);
                }
            }
            items.sort_by(|one, other| one.path.cmp(&other.path));
            Ok(items)
        };
        self.core.blocking(walk).await
    }

    /// Items not in sync at or below `top`, at most `most`.
    pub async fn pending(&self, top: Ino, most: usize) -> Ready<Vec<ItemStatus>> {
        let counts = self.core.catalog.count_pending().await?;
        let core = self.core.clone();
        let walk = move || {
            let mut items = Vec::new();
            for row in core.catalog.read(|rows| rows.pending(usize::MAX >> 1))? {
                if items.len() >= most {
                    break;
                }
                if core.is_below(row.ino, top)? {
                    items.extend(unless_gone(core.item_status(row.ino, Some(&counts)))?);
                }
            }
            Ok(items)
        };
        self.core.blocking(walk).await
    }

    /// Sends pending changes at or below `top` now and asks the remote for its changes now; returns when asked. A remote that
    /// cannot be reached is no error: the mount's state says so.
    pub async fn sync_now(&self, top: Ino) -> Ready<()> {
        self.send_all(top, true).await
    }

    /// The same; without `bulk`, what is large goes on standing still where that does: nobody asked for it.
    pub(super) async fn send_all(&self, top: Ino, bulk: bool) -> Ready<()> {
        for live in self.core.open.all() {
            self.core.record(&live, Durability::Soon).await?;
        }
        let mut rows = Vec::new();
        for row in self.core.catalog.read(|rows| rows.pending(usize::MAX >> 1))? {
            let is_wanted = bulk || !self.core.is_held_as_bulk(row.ino)?;
            if is_wanted && (top == Ino::ROOT || self.core.is_below(row.ino, top)?) {
                rows.push(row.ino);
            }
        }
        self.core.urge(&rows);
        self.core
            .catalog
            .write(Durability::Soon, Origin::Engine, move |tx| {
                rows.into_iter().try_for_each(|ino| tx.outbox_wake(ino))
            })
            .await?;
        self.core.outbox.notify_one();
        self.core.ask_to_look_at_all();
        self.core.try_contact().await;
        Ok(())
    }

    /// Waits until nothing at or below `top` can go further by itself: true if all is in sync, false if something is left
    /// that needs a person or the remote. Ends at `deadline` with `TimedOut`.
    pub async fn wait_in_sync(&self, top: Ino, deadline: Option<Duration>) -> Ready<bool> {
        let end = deadline.map(|deadline| Instant::now() + deadline);
        let mut pulse = self.core.pulse.subscribe();
        loop {
            pulse.borrow_and_update();
            let (core, begun) = (self.core.clone(), Instant::now());
            let (left, stuck) = self.core.blocking(move || core.left_below(top)).await?;
            // Of many that are left a look costs much, and each step rings.
            let rest = (begun.elapsed() * LOOKS_REST).min(Duration::from_secs(1));
            if left == 0 {
                return Ok(true);
            }
            if stuck == left {
                return Ok(false);
            }
            // Back-off ends without a pulse: look again at the latest after a second.
            let pause = end.map_or(Duration::from_secs(1), |end| {
                end.saturating_duration_since(Instant::now()).min(Duration::from_secs(1))
            });
            if pause.is_zero() {
                return Err(EngineError::TimedOut);
            }
            let news = async {
                tokio::time::sleep(rest).await;
                pulse.changed().await
            };
            let _either = tokio::time::timeout(pause, news).await;
        }
    }

    /// Brings all bytes of a file here, or of everything below a folder (listing what is not listed). What does not come of a
    /// folder is named in the answer, and keeps nothing else from coming. An error is one of the file itself: `NoSpace` if it
    /// does not fit, `Stale` if the remote replaced it, what asking the remote may answer; or one of all, as when it is away.
    pub async fn hydrate(&self, top: Ino) -> Ready<Hydrated> {
        let mut hydrated = Hydrated::default();
        self.core.list_below(top, &mut hydrated).await?;
        for ino in self.core.files_below(top)? {
            match self.core.hydrate_whole(ino, Cause::User).await {
                Ok(bytes) => hydrated.bytes += bytes,
                Err(error) => self.core.note_failed(ino, top, error, &mut hydrated)?,
            }
        }
        Ok(hydrated)
    }

    /// Gives space back: sets `unpinned` and drops content of what is in sync, not open, and not pinned by something below
    /// `top`. `dry_run` only tells.
    pub async fn free(&self, top: Ino, dry_run: bool) -> Ready<Freed> {
        self.core.free_below(top, dry_run).await
    }

    /// Sets a pin state; `NotFound` if there is no such inode.
    pub async fn set_pin(&self, ino: Ino, pin: Pin) -> Ready<()> {
        self.core
            .catalog
            .write(Durability::Soon, Origin::Engine, move |tx| {
                tx.inode(ino)?.ok_or(EngineError::NotFound)?;
                tx.set_pin(ino, pin)?;
                Ok::<_, EngineError>(())
            })
            .await?;
        self.core.tell_pin(ino, pin);
        self.core.let_pins_try_again();
        Ok(())
    }

    /// Bytes still to come for what is pinned at or below `top`.
    pub async fn pin_left(&self, top: Ino) -> Ready<u64> {
        let mut left = 0;
        let mut after = Ino(0);
        loop {
            let page = self.core.catalog.read(|rows| rows.pinned_not_hydrated(after, 500))?;
            let Some(last) = page.last() else { return Ok(left) };
            after = *last;
            for ino in page {
                if self.core.is_below(ino, top)? {
                    let item = self.core.item_status(ino, None)?;
                    left += item.size.saturating_sub(item.present_bytes);
                }
            }
        }
    }

    /// What happened to an item, oldest first.
    pub async fn history(&self, ino: Ino) -> Ready<Vec<Happened>> {
        let events = self.core.catalog.read(|rows| rows.history(ino))?;
        Ok(events
            .into_iter()
            .map(|event| Happened { time: event.time, what: event.what })
            .collect())
    }

    /// Drops all clean content that is not pinned; `dry_run` only tells.
    pub async fn clear_cache(&self, dry_run: bool) -> Ready<Freed> {
        let mut freed = Freed::default();
        for ino in self.core.files_below(Ino::ROOT)? {
            let (inode, pin) =
                self.core.catalog.read(|rows| Ok((rows.inode(ino)?, rows.effective_pin(ino)?)))?;
            if let (Some(inode), true) = (inode, pin != Pin::Pinned) {
                self.core.free_one(&inode, dry_run, &mut freed).await?;
            }
        }
        self.core.unlink_forgotten().await?;
        Ok(freed)
    }

    /// Compares hydrated files in sync with what the catalog knows of them: paths that differ, with what differs.
    pub async fn verify_cache(&self) -> Ready<Vec<(Vec<u8>, String)>> {
        let mut wrong = Vec::new();
        for ino in self.core.files_below(Ino::ROOT)? {
            if let Some(what) = self.core.verify_one(ino).await? {
                wrong.push((self.core.path_bytes(ino).unwrap_or_default(), what));
            }
        }
        Ok(wrong)
    }

    /// What is being transferred now.
    pub fn progress(&self) -> Vec<Progress> {
        let mut all: Vec<Progress> = self.core.upload_progress();
        for live in self.core.open.all() {
            let state = live.state();
            if state.fetching.is_empty() {
                continue;
            }
            let (done, total) = (state.present(), state.size);
            drop(state);
            let path = self.core.path_bytes(live.ino).unwrap_or_default();
            all.push(Progress { path, what: "hydrate", done, total: Some(total) });
        }
        all
    }

    /// Resolves when something shown may have changed since `seen`; returns the new mark.
    pub async fn changed(&self, seen: u64) -> u64 {
        let mut pulse = self.core.pulse.subscribe();
        match pulse.wait_for(|mark| *mark != seen).await {
            Ok(mark) => *mark,
            Err(_) => seen,
        }
    }
}

/// What went away between the list and the look at it is none of the list any more.
fn unless_gone<T>(looked: Ready<T>) -> Ready<Option<T>> {
    match looked {
        Err(EngineError::NotFound) => Ok(None),
        other => other.map(Some),
    }
}

impl Core {
    /// Whether an item is `top` or lies below it; what was deleted lies where the remote has it.
    pub(crate) fn is_below(&self, ino: Ino, top: Ino) -> Ready<bool> {
        Ok(top == Ino::ROOT || self.catalog.read(|rows| rows.is_below(ino, top))?)
    }

    /// How many items at or below `top` are not in sync, and how many of those cannot go by themselves.
    fn left_below(&self, top: Ino) -> Ready<(u64, u64)> {
        let rows = self.catalog.read(|rows| rows.pending(usize::MAX >> 1))?;
        let can_send = self.can_send();
        let (mut left, mut stuck) = (0, 0);
        for row in rows {
            if !self.is_below(row.ino, top)? {
                continue;
            }
            left += 1;
            let item = self.catalog.read(|rows| rows.outbox_item(row.ino))?;
            let stays = !can_send
                || item.as_ref().is_some_and(super::status::is_stuck)
                || self.is_held_up(row.ino)?
                || self.is_held_as_bulk(row.ino)?
                || self.stays_for_its_writer(row.ino)?;
            stuck += u64::from(stays);
        }
        Ok((left, stuck))
    }

    /// Whether all of it was sent, and it counts as pending only since a program has it open for writing: who waits for that
    /// may wait for ever.
    fn stays_for_its_writer(&self, ino: Ino) -> Ready<bool> {
        if self.open.handles(ino).writers == 0 || self.is_uploading(ino) {
            return Ok(false);
        }
        let is_sent = self.catalog.read(|rows| {
            let (Some(inode), Some(base)) = (rows.inode(ino)?, rows.base(ino)?) else {
                return Ok(false);
            };
            Ok(inode.edition == base.edition && inode.local.as_ref() == Some(&base.place))
        })?;
        Ok(is_sent && self.open.live(ino).is_none_or(|live| !live.has_news()))
    }

    /// Notes what could not be listed or fetched below `top`. An error that is one of `top` itself, or of all, comes back.
    fn note_failed(&self, ino: Ino, top: Ino, error: EngineError, all: &mut Hydrated) -> Ready<()> {
        if ino == top || matches!(error, EngineError::Stopped) || self.would_fail_all(&error) {
            return Err(error);
        }
        // What is gone by now needs not come.
        if let Some(path) = self.path_bytes(ino) {
            all.failed.push((path, error));
        }
        Ok(())
    }

    /// Lists every folder at or below `top` that is not listed.
    async fn list_below(self: &Arc<Self>, top: Ino, all: &mut Hydrated) -> Ready<()> {
        let mut folders = vec![top];
        while let Some(ino) = folders.pop() {
            let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { continue };
            if inode.kind != Kind::Folder {
                continue;
            }
            if !self.catalog.read(|rows| rows.is_listed(ino))?
                && let Err(error) = self.list_folder(ino).await
            {
                self.note_failed(ino, top, error, all)?;
            }
            let mut after = Ino(0);
            loop {
                let page = self.catalog.read(|rows| rows.read_dir(ino, after, 1000))?;
                let Some(last) = page.last() else { break };
                after = last.inode.ino;
                folders.extend(
                    page.iter().filter(|e| e.inode.kind == Kind::Folder).map(|e| e.inode.ino),
                );
            }
        }
        Ok(())
    }

    /// Brings all bytes of a file here and records it as hydrated. Answers the bytes that came.
    pub(crate) async fn hydrate_whole(self: &Arc<Self>, ino: Ino, cause: Cause) -> Ready<u64> {
        let _visit = self.open.visit(ino);
        let live = self.live_for(ino)?;
        let (size, before) = {
            let state = live.state();
            (state.size, state.present())
        };
        if before < size {
            self.ensure(&live, 0..size, 0..size, cause).await?;
        }
        self.record(&live, Durability::Soon).await?;
        Ok(size - before.min(size))
    }

    async fn verify_one(self: &Arc<Self>, ino: Ino) -> Ready<Option<String>> {
        let (inode, base) = self.catalog.read(|rows| Ok((rows.inode(ino)?, rows.base(ino)?)))?;
        let (Some(inode), Some(base)) = (inode, base) else { return Ok(None) };
        if inode.content != Content::Hydrated || inode.pending {
            return Ok(None);
        }
        let core = self.clone();
        self.blocking(move || {
            let data = core.cache.open_data(ino, inode.generation, crate::cache::Access::Read)?;
            let Some(data) = data else {
                let gone = inode.attributes.size > 0;
                return Ok(gone.then(|| "its data file is gone".to_owned()));
            };
            let size = data.size()?;
            if size != inode.attributes.size {
                return Ok(Some(format!("{size} bytes here, {} expected", inode.attributes.size)));
            }
            let wrong = match base.known {
                Some(known) => data.digest()? != known,
                None => false,
            };
            Ok(wrong.then(|| "its checksum differs".to_owned()))
        })
        .await
    }
}
