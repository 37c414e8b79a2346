//! The verbs on attributes and sizes: setattr, fallocate, seek, statfs.

use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::core::{Cause, Core, now};
use super::live::Live;
use super::show::BELIEVE;
use super::verbs::{Allocate, Caller, FileSystemSpace, Handle, Seek, SetAttributes, SetTime, Stat};
use super::write::edges_of_cut;
use super::{Answer, Engine, EngineError};
use crate::catalog::{
    Attributes, CatalogError, Durability, Inode, NewInode, Origin, SetAttributes as RowAttributes,
    Tx,
};
use crate::model::{BlockSet, Ino, Kind};

/// Set-user-id, and set-group-id where the group may execute, are cleared when somebody else's bytes come.
const SUID: u32 = 0o4000;
const SGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
/// A day in nanoseconds.
const DAY: i64 = 86_400_000_000_000;

impl Engine {
    /// Changes attributes; a size change needs the file to be writable.
    pub fn set_attributes(
        &self,
        ino: Ino,
        handle: Option<Handle>,
        set: SetAttributes,
        caller: Caller,
    ) -> Answer<Stat> {
        let _who = caller;
        let core = self.core.clone();
        if core.takes_no_changes() {
            return EngineError::ReadOnly.into();
        }
        let Some(size) = set.size else { return core.set_row(ino, set) };
        Answer::Pending(Box::pin(async move {
            core.cut(ino, size, handle).await?;
            core.set_row(ino, SetAttributes { size: None, ..set }).wait().await
        }))
    }

    /// fallocate(2).
    pub fn allocate(
        &self,
        ino: Ino,
        handle: Handle,
        offset: u64,
        length: u64,
        how: Allocate,
    ) -> Answer<()> {
        let live = match self.core.open.get(handle) {
            Ok(file) if file.live.ino == ino && file.mode.write => file.live.clone(),
            Ok(_) => return EngineError::Invalid("not open for writing").into(),
            Err(error) => return error.into(),
        };
        if length == 0 {
            return EngineError::Invalid("length 0").into();
        }
        let core = self.core.clone();
        Answer::Pending(Box::pin(async move { core.allocate(&live, offset, length, how).await }))
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE: what is not here is data, a hole is only what was made a hole here.
    pub fn seek(&self, ino: Ino, handle: Handle, offset: u64, what: Seek) -> Answer<u64> {
        let live = match self.core.open.get(handle) {
            Ok(file) if file.live.ino == ino => file.live.clone(),
            Ok(_) => return EngineError::Invalid("handle of another file").into(),
            Err(error) => return error.into(),
        };
        Answer::Ready(self.core.seek(&live, offset, what))
    }

    /// How much room there is.
    pub fn space(&self) -> Answer<FileSystemSpace> {
        let disk = match rustix::fs::statvfs(&self.core.state_dir) {
            Ok(disk) => disk,
            Err(error) => return EngineError::Disk(error.into()).into(),
        };
        let items = match self.core.catalog.read(|rows| rows.sums()) {
            Ok(sums) => sums.items,
            Err(error) => return EngineError::from(error).into(),
        };
        let quota = *super::open::lock(&self.core.quota);
        let (total, free) =
            match quota.and_then(|space| space.limit.map(|limit| (limit, space.used))) {
                Some((limit, used)) => (limit, limit.saturating_sub(used.unwrap_or(0))),
                None => (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize),
            };
        Answer::Ready(Ok(FileSystemSpace { total, free, items }))
    }
}

/// Is a writer without a handle. Its count is taken back also if nobody waits for it any more.
struct Writer {
    core: Arc<Core>,
    ino: Ino,
    counted: bool,
}

impl Writer {
    async fn end(mut self) {
        if self.uncount() {
            self.core.writer_closed(self.ino).await;
        }
        self.core.open.settle(self.ino);
    }

    /// Takes the count back; answers whether that was the last writer.
    fn uncount(&mut self) -> bool {
        self.counted = false;
        self.core.open.end(self.ino, true).1
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.counted && self.uncount() {
            let (core, ino) = (self.core.clone(), self.ino);
            self.core.runtime.spawn(async move {
                core.writer_closed(ino).await;
                core.open.settle(ino);
            });
        }
    }
}

impl Core {
    /// Sets what a user set in the row; without anything, clears suid and sgid.
    fn set_row(self: &Arc<Self>, ino: Ino, set: SetAttributes) -> Answer<Stat> {
        let core = self.clone();
        let mtime_of_data = self.open.live(ino).and_then(|live| live.open_data()?.mtime().ok());
        Answer::Queued(Box::new(move |done| {
            let catalog = core.catalog.clone();
            let shown = core.clone();
            catalog.submit(
                Durability::Soon,
                Origin::Kernel,
                move |tx| {
                    let inode = tx.inode(ino)?.ok_or(EngineError::Stale)?;
                    let mut row = RowAttributes {
                        mode: set.mode,
                        uid: set.uid,
                        gid: set.gid,
                        atime: set.atime.map(time),
                        mtime: set.mtime.map(time),
                        ctime: Some(now()),
                        mtime_of_data,
                    };
                    let silent = set.mode.is_none()
                        && set.uid.is_none()
                        && set.gid.is_none()
                        && set.atime.is_none()
                        && set.mtime.is_none();
                    // chown(2) clears them whoever calls it; the kernel leaves that to us.
                    let owned = set.mode.is_none() && (set.uid.is_some() || set.gid.is_some());
                    let clears = (silent || owned) && inode.kind != Kind::Folder;
                    if let (true, Some(mode)) = (clears, inode.attributes.mode) {
                        row.mode = Some(without_suid(mode));
                    }
                    if row.mtime.is_some() && mtime_of_data.is_none() {
                        row.mtime_of_data = core.closed_mtime(&inode);
                    }
                    tx.set_attributes(ino, row)?;
                    core.retouched(tx, &inode, row)?;
                    tx.inode(ino)?.ok_or(EngineError::Stale)
                },
                move |outcome| done(outcome.map(|inode| shown.stat_now(&inode, BELIEVE))),
            );
        }))
    }

    /// The mtime of the data file of an inode that is not open.
    fn closed_mtime(&self, inode: &Inode) -> Option<i64> {
        if inode.kind != Kind::File {
            return None;
        }
        let data = self.cache.open_data(inode.ino, inode.generation, crate::cache::Access::Read);
        data.ok().flatten()?.mtime().ok()
    }

    /// Cuts or lengthens a file: intent, then bytes, then the fact.
    async fn cut(
        self: &Arc<Self>,
        ino: Ino,
        size: u64,
        handle: Option<Handle>,
    ) -> Result<(), EngineError> {
        if size > BlockSet::LARGEST {
            return Err(EngineError::TooLarge);
        }
        self.open.begin_later(ino, true).await;
        let writer = Writer { core: self.clone(), ino, counted: true };
        let outcome = self.cut_open(ino, size, handle.is_none()).await;
        writer.end().await;
        outcome
    }

    async fn cut_open(
        self: &Arc<Self>,
        ino: Ino,
        size: u64,
        by_name: bool,
    ) -> Result<(), EngineError> {
        let open = self.open.clone();
        self.catalog
            .write(Durability::Soon, Origin::Kernel, move |tx| {
                let inode = tx.inode(ino)?.ok_or(EngineError::Stale)?;
                if by_name {
                    open.may_be_written(&inode)?;
                }
                tx.mark_pending(ino)?;
                Ok::<_, EngineError>(())
            })
            .await?;
        let live = self.live_for(ino)?;
        self.prepare_cut(&live, size).await?;
        let cut = self.tell_cut(&live, size).await?;
        let (core, kept) = (self.clone(), live.clone());
        let act = move || {
            core.truncate_here(&kept, size)?;
            if let Some(cut) = cut {
                cut.done();
            }
            Ok(())
        };
        self.blocking(act).await?;
        self.clear_suid(ino).await?;
        self.record(&live, Durability::Soon).await
    }

    /// Fetches the block that a cut or a longer end would leave half known.
    async fn prepare_cut(self: &Arc<Self>, live: &Arc<Live>, size: u64) -> Result<(), EngineError> {
        if size == 0 || live.state().hydrated {
            return Ok(());
        }
        self.mark_edited(live).await?;
        let edges = edges_of_cut(&live.state(), size);
        for edge in edges {
            self.ensure(live, edge.clone(), edge, Cause::User).await?;
        }
        Ok(())
    }

    async fn allocate(
        self: &Arc<Self>,
        live: &Arc<Live>,
        offset: u64,
        length: u64,
        how: Allocate,
    ) -> Result<(), EngineError> {
        let end = offset.checked_add(length).ok_or(EngineError::TooLarge)?;
        let size = live.state().size;
        let grows = matches!(how, Allocate::Grow | Allocate::Zero) && end > size;
        if grows && end > BlockSet::LARGEST {
            return Err(EngineError::TooLarge);
        }
        if !live.state().hydrated {
            // Rare, and then mostly on files about to be rewritten: all of it is brought here first.
            self.mark_edited(live).await?;
            self.ensure(live, 0..size, 0..size, Cause::User).await?;
        }
        let mut reservation = match how {
            Allocate::PunchHole => None,
            _ => Some(self.make_room(length).await?),
        };
        let (core, kept) = (self.clone(), live.clone());
        self.blocking(move || {
            let data = kept.data(&core.cache)?;
            let flags = match how {
                Allocate::Grow => FallocateFlags::empty(),
                Allocate::KeepSize => FallocateFlags::KEEP_SIZE,
                Allocate::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                Allocate::Zero => FallocateFlags::ZERO_RANGE,
                Allocate::ZeroKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            };
            data.fallocate(flags, offset, length)?;
            let mut state = kept.state();
            if grows {
                state.size = state.size.max(end);
            }
            state.wrote = true;
            Ok(())
        })
        .await?;
        if let Some(reservation) = &mut reservation {
            reservation.used(length);
        }
        Ok(())
    }

    fn seek(&self, live: &Live, offset: u64, what: Seek) -> Result<u64, EngineError> {
        let (size, hydrated) = {
            let state = live.state();
            (state.size, state.hydrated)
        };
        if offset >= size {
            return Err(EngineError::NoDataBeyond);
        }
        if !hydrated || live.open_data().is_none() && size == 0 {
            return Ok(if what == Seek::Data { offset } else { size });
        }
        let data = live.readable(&self.cache)?;
        let found = match what {
            Seek::Data => data.seek_data(offset)?,
            Seek::Hole => data.seek_hole(offset)?,
        };
        found.ok_or(EngineError::NoDataBeyond)
    }

    /// Clears suid and sgid of an inode that has them.
    pub(crate) async fn clear_suid(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        self.catalog
            .write(Durability::Soon, Origin::Engine, move |tx| {
                if let Some(inode) = tx.inode(ino)? {
                    drop_suid(tx, &inode)?;
                }
                Ok::<_, EngineError>(())
            })
            .await
    }

    /// Whether there is a suid or sgid to be cleared: the kernel asks for it with every write of an ordinary user.
    pub(crate) fn has_suid(&self, ino: Ino) -> bool {
        let row = self.catalog.read(|rows| rows.inode(ino)).ok().flatten();
        let mode = row.and_then(|inode| inode.attributes.mode);
        mode.is_some_and(|mode| without_suid(mode) != mode)
    }

    /// Moves the atime of a file that was read, as relatime does: if it is older than mtime or ctime, or than a day.
    pub(crate) fn touch_atime(&self, ino: Ino) {
        let due = |shown: &Attributes| {
            let now = now();
            let stale = shown.atime <= shown.mtime.max(shown.ctime).min(now);
            stale || shown.atime < now.saturating_sub(DAY)
        };
        let row = self.catalog.read(|rows| rows.inode(ino)).ok().flatten();
        if !row.is_some_and(|inode| due(&inode.attributes)) {
            return;
        }
        let set = RowAttributes { atime: Some(now()), ..RowAttributes::default() };
        self.catalog.submit(
            Durability::Later,
            Origin::Engine,
            move |tx| tx.set_attributes(ino, set).map_err(EngineError::from),
            move |outcome| {
                if let Err(error) = outcome {
                    tracing::debug!(ino = ino.0, %error, "cannot move an atime");
                }
            },
        );
    }
}

/// Clears suid and sgid in a row that has them.
pub(crate) fn drop_suid(tx: &mut Tx, inode: &Inode) -> Result<(), CatalogError> {
    let mode = inode.attributes.mode.filter(|mode| without_suid(*mode) != *mode);
    let Some(mode) = mode.map(without_suid) else { return Ok(()) };
    tx.set_attributes(inode.ino, RowAttributes { mode: Some(mode), ..RowAttributes::default() })
}

/// In a folder with the set-group-id bit what is new belongs to the folder's group, and a new folder takes on the bit.
pub(super) fn of_its_group(folder: Option<&Inode>, new: NewInode) -> NewInode {
    let folder = folder.map(|folder| &folder.attributes);
    let Some(folder) = folder.filter(|folder| folder.mode.is_some_and(|mode| mode & SGID != 0))
    else {
        return new;
    };
    let bit = if new.kind == Kind::Folder { SGID } else { 0 };
    NewInode { gid: folder.gid, mode: new.mode | bit, ..new }
}

fn without_suid(mode: u32) -> u32 {
    let sgid = if mode & GROUP_EXECUTE != 0 { SGID } else { 0 };
    mode & !(SUID | sgid)
}

fn time(set: SetTime) -> i64 {
    match set {
        SetTime::Now => now(),
        SetTime::At(time) => time,
    }
}
