//! Room: freeing content on request, and unlinking data files that no row needs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::EngineError;
use super::core::Core;
use super::crash::{crash_here, crash_point};
use super::state::Freed;
use super::status::present_bytes;
use crate::cache::Access;
use crate::catalog::{Change, Durability, Inode, Origin};
use crate::model::{Content, Generation, Handles, Ino, Kind, Pin};

/// Why content is kept whose data file is another one than its row says.
const EDITED: &str = "edited";

/// Says why content was kept.
pub(crate) enum Kept {
    /// There was nothing to drop.
    NothingHere,
    /// It must stay, for this reason.
    Because(&'static str),
}

impl Core {
    /// Drops the content of one file if it is in sync and not open. Answers the bytes given back, or why it was kept.
    pub(crate) async fn drop_content(
        self: &Arc<Self>,
        inode: &Inode,
        dry_run: bool,
    ) -> Result<(u64, Option<Kept>), EngineError> {
        let (bytes, kept) = self.try_drop(inode, dry_run).await?;
        if dry_run || !matches!(kept, Some(Kept::Because(EDITED))) {
            return Ok((bytes, kept));
        }
        // Nobody opened it since its data file moved: it is looked at now, and if it was edited it is sent and goes then.
        self.observe_data(inode.ino).await?;
        self.try_drop(inode, dry_run).await
    }

    async fn try_drop(
        self: &Arc<Self>,
        inode: &Inode,
        dry_run: bool,
    ) -> Result<(u64, Option<Kept>), EngineError> {
        let (ino, generation) = (inode.ino, inode.generation);
        if self.open.handles(ino).open > 0 {
            return Ok((0, Some(Kept::Because("open"))));
        }
        if let Some(live) = self.open.live(ino) {
            self.record(&live, Durability::Soon).await?;
            // Our own descriptor for writing would make the lease be refused.
            live.close_data();
        }
        let Some(data) = self.cache.open_data(ino, generation, Access::Read)? else {
            return Ok((0, Some(Kept::NothingHere)));
        };
        let (bytes, stamp) = (data.allocated()?, data.stamp()?);
        if self.leases_trusted && !data.nobody_can_write()? {
            return Ok((0, Some(Kept::Because("being written"))));
        }
        drop(data);
        if dry_run {
            let (row, unsent) =
                self.catalog.read(|rows| Ok((rows.inode(ino)?, rows.is_to_be_sent(ino)?)))?;
            let kept = row.and_then(|row| reason_to_keep(&row, unsent, stamp)).map(Kept::Because);
            return Ok((if kept.is_some() { 0 } else { bytes }, kept));
        }
        crash_point!(self, "free: before the row forgets");
        let core = self.clone();
        let kept = self
            .catalog
            .write(Durability::Soon, Origin::Engine, move |tx| {
                crash_here!(core, "free: in the row");
                let Some(row) = tx.inode(ino)? else { return Ok(Some(Kept::NothingHere)) };
                if core.open.claim(ino) != Handles::default() || row.generation != generation {
                    // What was written and closed since may be on its way to the row.
                    return Ok(Some(Kept::Because("open")));
                }
                if tx.base(ino)?.is_none() {
                    return Ok(Some(Kept::Because("not sent yet")));
                }
                if let Some(reason) = reason_to_keep(&row, tx.is_to_be_sent(ino)?, stamp) {
                    return Ok(Some(Kept::Because(reason)));
                }
                tx.set_content(ino, generation, Content::Placeholder, None)?;
                Ok::<_, EngineError>(None)
            })
            .await?;
        if kept.is_none() {
            self.open.forget_live(ino, generation);
            super::open::lock(&self.space.heat).forget(ino);
            // Who made room unlinks it now, before anybody is told; a second time does no harm.
            super::open::lock(&self.forgotten).push((ino, generation));
        }
        Ok((if kept.is_some() { 0 } else { bytes }, kept))
    }

    /// Frees everything at or below `top` that may go, and sets it `unpinned`; what is pinned below it stays.
    pub(crate) async fn free_below(
        self: &Arc<Self>,
        top: Ino,
        dry_run: bool,
    ) -> Result<Freed, EngineError> {
        if !dry_run {
            self.catalog
                .write(Durability::Soon, Origin::Engine, move |tx| tx.set_pin(top, Pin::Unpinned))
                .await
                .map_err(EngineError::from)?;
            self.let_pins_try_again();
        }
        let mut freed = Freed::default();
        let mut named = HashSet::new();
        for ino in self.files_below(top)? {
            let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { continue };
            match self.pinned_below(&inode, top)? {
                None => self.free_one(&inode, dry_run, &mut freed).await?,
                Some((by, why)) if named.insert(by) => {
                    freed.kept.push((self.path_bytes(by).unwrap_or_default(), why));
                }
                // The folder that pins it is named already.
                Some(_) => {}
            }
        }
        self.unlink_forgotten().await?;
        self.pulse();
        Ok(freed)
    }

    /// What below `top` pins the content of a file, itself or a folder above it, and how it lets go: what is said of `top` and
    /// above does not count.
    fn pinned_below(&self, inode: &Inode, top: Ino) -> Result<Option<(Ino, String)>, EngineError> {
        let ino = inode.ino;
        if ino == top {
            return Ok(None);
        }
        let live = self.open.live(ino);
        Ok(self.catalog.read(|rows| {
            let Some(by) = rows.pin_from(ino)?.filter(|by| *by != top) else { return Ok(None) };
            let is_pinned = rows.effective_pin(ino)? == Pin::Pinned && rows.is_below(by, top)?;
            // Of what is not here nothing is kept.
            if !is_pinned || present_bytes(rows, inode, live.as_deref())? == 0 {
                return Ok(None);
            }
            let why = match self.rule_of(rows, ino)? {
                Some(rule) => format!(
                    "pinned by the rule {rule}: free it by its own name, or take the rule away"
                ),
                None => "pinned: dewfs unpin it, then free it again".to_owned(),
            };
            Ok(Some((by, why)))
        })?)
    }

    pub(crate) async fn free_one(
        self: &Arc<Self>,
        inode: &Inode,
        dry_run: bool,
        freed: &mut Freed,
    ) -> Result<(), EngineError> {
        match self.drop_content(inode, dry_run).await? {
            (bytes, None) => freed.bytes += bytes,
            (_, Some(Kept::NothingHere)) => {}
            (_, Some(Kept::Because(why))) => {
                freed.kept.push((self.path_bytes(inode.ino).unwrap_or_default(), why.to_owned()));
            }
        }
        Ok(())
    }

    /// All files at or below an item that are known here.
    pub(crate) fn files_below(&self, top: Ino) -> Result<Vec<Ino>, EngineError> {
        let mut files = Vec::new();
        let mut folders = vec![top];
        while let Some(ino) = folders.pop() {
            let Some(inode) = self.catalog.read(|rows| rows.inode(ino))? else { continue };
            match inode.kind {
                Kind::File => files.push(ino),
                Kind::Folder => {
                    let mut after = Ino(0);
                    loop {
                        let page = self.catalog.read(|rows| rows.read_dir(ino, after, 1000))?;
                        let Some(last) = page.last() else { break };
                        after = last.inode.ino;
                        for entry in &page {
                            match entry.inode.kind {
                                Kind::File => files.push(entry.inode.ino),
                                Kind::Folder => folders.push(entry.inode.ino),
                                _ => {}
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(files)
    }

    /// Unlinks data files whose rows have forgotten them, after the commits that forgot them are synced.
    pub(crate) async fn unlink_forgotten(self: &Arc<Self>) -> Result<(), EngineError> {
        if super::open::lock(&self.forgotten).is_empty() {
            return Ok(());
        }
        let core = self.clone();
        // A task of its own: whoever no longer waits must not take along what is to go.
        let gone = self.runtime.spawn(async move { core.unlink_all_forgotten().await });
        gone.await.unwrap_or(Err(EngineError::Stopped))
    }

    async fn unlink_all_forgotten(&self) -> Result<(), EngineError> {
        // Taken first: what is forgotten from here on is not covered by this barrier.
        let forgotten = std::mem::take(&mut *super::open::lock(&self.forgotten));
        crash_point!(self, "forget: before the barrier");
        if let Err(error) = self.catalog.barrier().await {
            super::open::lock(&self.forgotten).extend(forgotten);
            return Err(error.into());
        }
        crash_point!(self, "forget: before bytes go");
        let cache = self.cache.clone();
        self.blocking(move || {
            for (ino, generation) in forgotten {
                if let Err(error) = cache.remove(ino, generation) {
                    tracing::warn!(ino = ino.0, %error, "cannot unlink a data file that nothing needs; the next start does");
                }
            }
            Ok(())
        })
        .await?;
        crash_point!(self, "forget: bytes are gone");
        self.room.notify_waiters();
        Ok(())
    }

    /// Tells everybody who cares what was committed; ends with the engine.
    pub(crate) async fn run_changes(self: Arc<Self>, mut changes: UnboundedReceiver<Vec<Change>>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            let next = tokio::select! {
                biased;
                next = changes.recv() => next,
                _ = stopping.wait_for(|stop| *stop) => None,
            };
            let Some(changes) = next else { return };
            let mut invalidations = Vec::new();
            let mut forgotten = false;
            let watched = self.is_watched().then(|| changes.clone());
            for change in changes {
                forgotten |= matches!(change, Change::Forgotten { .. });
                self.tell(change, &mut invalidations);
            }
            if !invalidations.is_empty() {
                // The door is gone only when nobody can look any more.
                drop(self.invalidations.send(invalidations));
            }
            self.pulse();
            if forgotten {
                self.sweep.notify_one();
            }
            // Last: it reads rows for each of them.
            if let Some(changes) = watched {
                self.tell_watchers(&changes);
            }
        }
    }

    fn tell(&self, change: Change, invalidations: &mut Vec<super::Invalidation>) {
        use super::Invalidation;
        match change {
            Change::Name { parent, name, gone } => {
                let is_left = gone.is_some();
                let gone = gone.filter(|ino| self.is_gone(*ino));
                // A name that appears where nobody was told of an absence is no news, and telling it would take the folder
                // away from a program that has just entered it.
                if is_left || super::open::lock(&self.negatives).contains(&parent) {
                    invalidations.push(Invalidation::Entry { parent, name, gone });
                }
                invalidations.push(Invalidation::Attributes(parent));
                // It may be in a folder that is pinned.
                self.pins.notify_one();
            }
            Change::Attributes(ino) => invalidations.push(Invalidation::Attributes(ino)),
            Change::Content(ino) => {
                invalidations.push(Invalidation::Attributes(ino));
                self.pins.notify_one();
            }
            Change::Outbox => {
                self.outbox.notify_one();
                // What was sent may go.
                self.room.notify_waiters();
            }
            Change::Listing => self.listing.notify_one(),
            Change::Listed(_) => {
                self.listing.notify_one();
                self.pins.notify_one();
            }
            Change::Forgotten { ino, generation } => {
                self.open.forget_live(ino, generation);
                super::open::lock(&self.space.heat).forget(ino);
                // Inode numbers are never given again: of one that is gone nothing needs to be known.
                if (self.open.is_mapped(ino) || self.open.is_unnamed(ino))
                    && matches!(self.catalog.read(|rows| rows.inode(ino)), Ok(None))
                {
                    self.open.note_mapped(ino, false);
                    self.open.note_unnamed(ino, false);
                }
                super::open::lock(&self.forgotten).push((ino, generation));
            }
            Change::Rescued { ino, generation } => self.rescue(ino, generation),
            Change::Pins => self.pins.notify_one(),
            // These are told to those who watch.
            Change::Sync(ino) => self.calm(ino),
            Change::Conflict(_) => {}
            Change::Mark(mark) => invalidations.push(Invalidation::Mark(mark)),
        }
    }

    /// Whether what left a name is gone for good.
    fn is_gone(&self, ino: Ino) -> bool {
        match self.catalog.read(|rows| rows.inode(ino)) {
            Ok(Some(row)) => row.local.is_none() && row.kind != Kind::Folder,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Keeps a data file whose edits can never be sent in `recovered/`, and says so.
    pub(crate) fn rescue(&self, ino: Ino, generation: Generation) {
        let hint = self.path_bytes(ino).unwrap_or_default();
        self.open.forget_live(ino, generation);
        crash_here!(self, "rescue: before it is kept");
        match self.cache.set_aside(ino, generation, &hint) {
            Ok(place) => {
                let message = format!(
                    "edits that fit no version of the remote any more are kept in {}",
                    place.display()
                );
                crash_here!(self, "rescue: kept");
                tracing::warn!(ino = ino.0, message);
                self.note_problem(Some(ino), &message);
                super::open::lock(&self.workers.rescued).insert((ino, generation), place);
                self.catalog.submit(
                    Durability::Soon,
                    Origin::Engine,
                    move |tx| tx.rescued(ino, generation),
                    |outcome: crate::catalog::Result<()>| drop(outcome),
                );
            }
            Err(error) => tracing::error!(ino = ino.0, %error, "cannot keep edits in recovered/"),
        }
    }

    /// Unlinks, now and then, what was forgotten, and writes down last uses; ends with the engine.
    pub(crate) async fn run_sweeper(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            tokio::select! {
                () = self.sweep.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(60)) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            if let Err(error) = self.unlink_forgotten().await {
                tracing::debug!(%error, "data files that nothing needs are unlinked later");
            }
            // Given up on a full disk, it is made again as soon as there is room for it.
            let cache = self.cache.clone();
            if let Err(error) = self.blocking(move || Ok(cache.restore_ballast()?)).await {
                tracing::debug!(%error, "no ballast");
            }
            self.write_uses().await;
        }
    }
}

/// Why the content of a row must stay, if it must. One that only waits for its version to be confirmed has nothing unsent.
fn reason_to_keep(row: &Inode, unsent: bool, stamp: crate::model::Stamp) -> Option<&'static str> {
    if unsent || row.edited {
        return Some("not sent yet");
    }
    if row.content == Content::Hydrated && row.stamp != Some(stamp) {
        return Some(EDITED);
    }
    None
}
