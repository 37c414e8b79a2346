//! The verbs on bytes but for reading: open, write, sync, release.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::attributes::drop_suid;
use super::core::Core;
use super::cutting::Cut;
use super::doubt::known_content;
use super::live::{Live, Source};
use super::namespace::rest;
use super::open::OpenFile;
use super::settings::Returns;
use super::show::BELIEVE;
use super::verbs::{Handle, OpenMode, Opened, Stat};
use super::{Answer, Engine, EngineError};
use crate::cache::Access;
use crate::catalog::{Durability, Inode, Origin, Reader};
use crate::model::{BlockSet, Content, Digest, Ino, Kind};

impl Engine {
    /// Opens a file.
    pub fn open(&self, ino: Ino, mode: OpenMode) -> Answer<Opened> {
        let core = self.core.clone();
        if mode.write && core.takes_no_changes() {
            return EngineError::ReadOnly.into();
        }
        core.note_opened(ino);
        if !core.open.begin(ino, mode.write) {
            let engine = self.clone();
            return Answer::Pending(Box::pin(async move {
                core.open.begin_later(ino, mode.write).await;
                let answer = engine.open_begun(ino, mode);
                answer.wait_or(move |opened| engine.release(ino, opened.handle)).await
            }));
        }
        self.open_begun(ino, mode)
    }

    /// Goes on with an open that is counted.
    fn open_begun(&self, ino: Ino, mode: OpenMode) -> Answer<Opened> {
        let core = self.core.clone();
        let live = match core.live_for(ino) {
            Ok(live) => live,
            Err(error) => {
                core.open.end(ino, mode.write);
                return error.into();
            }
        };
        if !mode.write {
            return Answer::Ready(core.opened(live, mode));
        }
        let rests = core.rests();
        let durability = match core.durability_of_open(ino, mode) {
            Ok(durability) => durability,
            Err(error) => {
                core.open.end(ino, mode.write);
                return error.into();
            }
        };
        let cut = mode.truncate.then(|| Cut::begin(&core, &live));
        // Intent before bytes: the outbox row is there before the first write can be.
        Answer::Queued(Box::new(move |done| {
            let (catalog, table) = (core.catalog.clone(), core.open.clone());
            catalog.submit(
                durability,
                Origin::Kernel,
                move |tx| {
                    let inode = tx.inode(ino)?.ok_or(EngineError::Stale)?;
                    table.may_be_written(&inode)?;
                    if tx.mark_pending(ino)? {
                        rest(tx, ino, rests)?;
                    }
                    if mode.truncate {
                        drop_suid(tx, &inode)?;
                        tx.cut_presence(ino, inode.generation, 0)?;
                    }
                    Ok::<_, EngineError>(inode.generation)
                },
                move |outcome| {
                    let kept = core.clone();
                    let open = move || {
                        let opened = kept.open_for_writing(live, mode, outcome);
                        if let (Some(cut), Ok(_)) = (cut, &opened) {
                            cut.done();
                        }
                        done(opened);
                    };
                    core.run_cut(mode.truncate, open);
                },
            );
        }))
    }

    /// Writes all of `data` (at the end if the handle appends).
    pub fn write(
        &self,
        ino: Ino,
        handle: Handle,
        offset: u64,
        data: Bytes,
        kill_suid: bool,
    ) -> Answer<u32> {
        let file = match self.to_be_written(ino, handle) {
            Ok(file) => file,
            Err(error) => return error.into(),
        };
        let (live, append) = (file.live.clone(), file.mode.append);
        if kill_suid && self.core.has_suid(ino) {
            let core = self.core.clone();
            return Answer::Pending(Box::pin(async move {
                core.clear_suid(ino).await?;
                core.write_slowly(&live, offset, data, append).await
            }));
        }
        self.write_at(live, offset, data, append)
    }

    /// Brings back what was stored through a mapping: to where it was stored, for the handle may be anybody's who may write.
    pub fn write_stored(&self, ino: Ino, handle: Handle, offset: u64, data: Bytes) -> Answer<u32> {
        match self.to_be_written(ino, handle) {
            Ok(file) => self.write_at(file.live.clone(), offset, data, false),
            Err(error) => error.into(),
        }
    }

    fn to_be_written(&self, ino: Ino, handle: Handle) -> Result<Arc<OpenFile>, EngineError> {
        let file = self.core.open.get(handle)?;
        if file.live.ino == ino && file.mode.write {
            Ok(file)
        } else {
            Err(EngineError::Invalid("not open for writing"))
        }
    }

    fn write_at(&self, live: Arc<Live>, offset: u64, data: Bytes, append: bool) -> Answer<u32> {
        if let Some(answer) = self.core.write_here(&live, offset, &data, append) {
            return Answer::Ready(answer);
        }
        let core = self.core.clone();
        Answer::Pending(Box::pin(
            async move { core.write_slowly(&live, offset, data, append).await },
        ))
    }

    /// A descriptor is being closed: with `close=remote` and edits, waits until the remote has them.
    pub fn flush(&self, ino: Ino, handle: Handle) -> Answer<()> {
        let Ok(file) = self.core.open.get(handle) else { return Answer::Ready(Ok(())) };
        let core = self.core.clone();
        let live = file.live.clone();
        if file.mode.write && core.settings.close == Returns::Remote {
            return Answer::Pending(Box::pin(async move {
                core.record(&live, Durability::Soon).await?;
                core.send_now(ino).await
            }));
        }
        if !file.mode.write || !live.has_news() || live.is_known_whole() {
            return Answer::Ready(Ok(()));
        }
        // Written blocks of a file that is not all here are told from absent ones by the catalog only.
        Answer::Pending(Box::pin(async move { core.record(&live, Durability::Soon).await }))
    }

    /// Makes bytes and rows survive a power cut; with `fsync=remote` also waits for the remote.
    pub fn sync_file(&self, ino: Ino, handle: Handle) -> Answer<()> {
        let file = match self.core.open.get(handle) {
            Ok(file) => file,
            Err(error) => return error.into(),
        };
        let core = self.core.clone();
        Answer::Pending(Box::pin(async move {
            core.record(&file.live, Durability::Synced).await?;
            if core.settings.fsync == Returns::Remote && file.mode.write {
                core.send_now(ino).await?;
            }
            Ok(())
        }))
    }

    /// The last descriptor of this open is gone. Never fails.
    pub fn release(&self, ino: Ino, handle: Handle) {
        let Some(file) = self.core.open.remove(handle) else { return };
        let live = file.live.clone();
        self.core.end_brake(&file);
        // While it is still counted: what was written past us is seen now, and not forgotten with the last count.
        let has_news = live.has_news();
        if let Some(backing) = &file.backing {
            live.keep(backing);
        }
        if let Some(backing) = file.backing.as_ref().filter(|_| file.mode.write) {
            // A mapping outlives its descriptor, and writes where nobody sees it. Noted before the last count is taken
            // back: nothing may take the file for at rest in between.
            let mapped =
                self.core.leases_trusted && !backing.data.nobody_can_write().unwrap_or(false);
            self.core.open.note_mapped(ino, mapped);
        }
        let (last, last_writer) = self.core.open.end(ino, file.mode.write);
        // Of what the kernel reads itself only the open is known.
        let was_read =
            file.was_read.load(Ordering::Relaxed) || file.mode.read && file.backing.is_some();
        if self.core.settings.atime && was_read {
            self.core.touch_atime(ino);
        }
        let only_came = last && has_news && live.has_only_fetched();
        if !last_writer && only_came && self.core.reads_on() {
            // What came is told with what comes next: nobody waits for it, and who reads file after file is not to wait
            // for disk and catalog.
            self.core.recorder.notify_one();
        } else if last_writer || (last && has_news) {
            self.core.after_release(live, last_writer);
        } else if last {
            self.core.closed(&live);
        }
    }
}

impl Core {
    /// The live content of a file as the catalog has it now.
    pub(crate) fn live_for(self: &Arc<Self>, ino: Ino) -> Result<Arc<Live>, EngineError> {
        let (inode, blocks, source, known) = self
            .catalog
            .read(|rows| {
                let Some(inode) = rows.inode(ino)? else { return Ok(None) };
                let base = rows.base(ino)?;
                let blocks = blocks_of(rows, &inode)?;
                let in_sync = base.as_ref().is_some_and(|base| base.edition == inode.edition);
                let known = (in_sync, known_content(&inode, base.as_ref()));
                let source = base.map(|base| Source { version: base.version, size: base.size });
                Ok(Some((inode, blocks, source, known)))
            })?
            .ok_or(EngineError::Stale)?;
        match inode.kind {
            Kind::File => {}
            Kind::Folder => return Err(EngineError::IsFolder),
            _ => return Err(EngineError::Invalid("not a file")),
        }
        if inode.attributes.size > BlockSet::LARGEST {
            return Err(EngineError::TooLarge);
        }
        if let Some(live) = self.open.live(ino)
            && live.generation == inode.generation
        {
            return Ok(live);
        }
        let fresh = Arc::new(Live::new(
            ino,
            inode.generation,
            inode.attributes.size,
            inode.content,
            blocks,
            source,
            inode.edited,
        ));
        self.check_at_first_open(&inode, &fresh, known)?;
        Ok(self.open.adopt(fresh))
    }

    /// What the catalog says of a hydrated file is compared with its data file at each first open: a power cut may have
    /// taken the row of an edit, or the file.
    fn check_at_first_open(
        self: &Arc<Self>,
        inode: &Inode,
        live: &Arc<Live>,
        (in_sync, known): (bool, Option<Digest>),
    ) -> Result<(), EngineError> {
        if inode.content != Content::Hydrated {
            return Ok(());
        }
        let Some(data) = self.cache.open_data(inode.ino, inode.generation, Access::Read)? else {
            // A row whose generation never had bytes is an empty file; what the remote has can be fetched again, whatever
            // else of the file waits to be sent.
            if inode.attributes.size > 0 && in_sync {
                let mut state = live.state();
                state.hydrated = false;
                state.blocks = BlockSet::default();
                state.blocks_unrecorded = true;
            }
            return Ok(());
        };
        let stamp = data.stamp()?;
        live.state().seen = Some(stamp);
        if inode.stamp != Some(stamp) {
            let mut state = live.state();
            state.doubted = known.is_some_and(|known| known.size == stamp.size);
            state.wrote = !state.doubted;
            state.size = stamp.size;
            drop(state);
            self.recorder.notify_one();
        }
        Ok(())
    }

    /// The end of each open; takes its count back if it fails.
    fn opened(self: &Arc<Self>, live: Arc<Live>, mode: OpenMode) -> Result<Opened, EngineError> {
        let backing = match self.io_of(&live) {
            Ok(backing) => backing,
            Err(error) => {
                self.open.end(live.ino, mode.write);
                return Err(error);
            }
        };
        self.used(live.ino);
        let passthrough = backing.as_ref().map(|backing| backing.id);
        let direct = backing.is_none() && self.open.is_mapped(live.ino);
        let same = match &backing {
            None if direct => false,
            Some(_) => self.open.opened_through(live.ino, live.generation, mode.write),
            None => self.open.same_as_last(live.ino, live.generation),
        };
        let is_whole = live.is_known_whole();
        let handle = self.open.insert(live, mode, backing);
        if mode.write && passthrough.is_some() {
            self.watch_room();
        }
        let keep_pages = same && passthrough.is_none();
        // What the kernel writes itself is in the data file when it returns, and its row tells of it: a close has nothing
        // to wait for, unless it is to wait for the remote.
        let is_quiet = passthrough.is_some() && self.settings.close == Returns::Local;
        let silent_close = !mode.write || is_quiet && is_whole;
        let stale_attributes = !same;
        Ok(Opened { handle, keep_pages, stale_attributes, passthrough, direct, silent_close })
    }

    fn open_for_writing(
        self: &Arc<Self>,
        live: Arc<Live>,
        mode: OpenMode,
        outcome: Result<crate::model::Generation, EngineError>,
    ) -> Result<Opened, EngineError> {
        let ino = live.ino;
        let ready = outcome.and_then(|generation| {
            let live = if live.generation == generation { live } else { self.live_for(ino)? };
            if mode.truncate {
                self.truncate_here(&live, 0)?;
            }
            Ok(live)
        });
        match ready {
            Ok(live) => self.opened(live, mode),
            Err(error) => {
                self.open.end(ino, mode.write);
                Err(error)
            }
        }
    }

    /// Runs the end of an open; where it cuts content off, not on the catalog's thread.
    pub(super) fn run_cut(&self, cuts: bool, open: impl FnOnce() + Send + 'static) {
        if cuts {
            drop(self.runtime.spawn_blocking(open));
        } else {
            open();
        }
    }

    /// Counts the handle of a file just created or found, on the writer thread: there no transaction is under way.
    pub(super) fn begin_created(&self, inode: Inode, mode: OpenMode) -> Result<Inode, EngineError> {
        if self.open.begin(inode.ino, mode.write) {
            return Ok(inode);
        }
        Err(EngineError::Busy("being replaced".into()))
    }

    /// Opens what was made just now: there is nothing to be read of it and nothing to be cut off.
    pub(super) fn open_new(
        self: &Arc<Self>,
        inode: &Inode,
        mode: OpenMode,
    ) -> Result<(Stat, Opened), EngineError> {
        let blocks = BlockSet::default();
        let Inode { ino, generation, content, edited, .. } = *inode;
        let live = Live::new(ino, generation, 0, content, blocks, None, edited);
        let opened = self.opened(self.open.adopt(Arc::new(live)), mode)?;
        // The kernel knows nothing of it yet, and forgets of itself what its own writes change. A mapping, of which it
        // would not know, changes nothing before there is a byte.
        let opened = Opened { stale_attributes: false, ..opened };
        let stat = Stat { believe: BELIEVE, ..self.stat_now(inode, BELIEVE) };
        Ok((stat, opened))
    }

    pub(super) fn open_created(
        self: &Arc<Self>,
        inode: &Inode,
        mode: OpenMode,
    ) -> Result<(Stat, Opened), EngineError> {
        let live = match self.live_for(inode.ino) {
            Ok(live) => live,
            Err(error) => {
                self.open.end(inode.ino, mode.write);
                return Err(error);
            }
        };
        let opened = self.open_for_writing(live, mode, Ok(inode.generation))?;
        // With what opening made of it: it may have been emptied.
        Ok((self.stat_now(inode, BELIEVE), opened))
    }
}

fn blocks_of(rows: &Reader, inode: &Inode) -> crate::catalog::Result<BlockSet> {
    if inode.content == Content::Partial {
        Ok(rows.presence(inode.ino)?.blocks)
    } else {
        Ok(BlockSet::default())
    }
}
