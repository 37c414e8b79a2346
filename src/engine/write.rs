//! Writing into live contents: at once where all that is touched is here, else after it was fetched or room was made.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::EngineError;
use super::core::{Cause, Core};
use super::crash::crash_here;
use super::cutting::Cut;
use super::evict::Refused;
use super::live::{Live, State};
use super::verbs::OpenMode;
use crate::cache::CacheError;
use crate::catalog::{Durability, Origin, Tx};
use crate::model::{BLOCK, BlockSet, Content, Ino};

/// How often a write looks for room that others take first.
const ROUNDS: u32 = 100;

/// How often a write makes something go for what the disk refuses though it seems to have room.
const REFUSALS: u32 = 8;

/// Says how an attempt to write at once ended.
enum Attempt {
    Done(Result<u32, EngineError>),
    /// Something has to be fetched, told or freed first.
    NotYet,
    /// The disk takes less than it says: room was promised, and it had none.
    Refused,
}

impl Core {
    /// Writes at once if nothing has to be fetched or freed first; `None` if something has.
    pub(crate) fn write_here(
        &self,
        live: &Arc<Live>,
        offset: u64,
        bytes: &Bytes,
        append: bool,
    ) -> Option<Result<u32, EngineError>> {
        match self.attempt(live, offset, bytes, append) {
            Attempt::Done(answer) => Some(answer),
            Attempt::NotYet | Attempt::Refused => None,
        }
    }

    fn attempt(&self, live: &Arc<Live>, offset: u64, bytes: &Bytes, append: bool) -> Attempt {
        let mut reservation = match self.cache.reserve_now(bytes.len() as u64) {
            Ok(reservation) => reservation,
            Err(CacheError::OverLimit { .. } | CacheError::DiskFull { .. }) => {
                return Attempt::NotYet;
            }
            Err(other) => return Attempt::Done(Err(other.into())),
        };
        let data = match live.data(&self.cache) {
            Ok(data) => data,
            Err(EngineError::NoSpace(_)) => return Attempt::Refused,
            Err(error) => return Attempt::Done(Err(error)),
        };
        // Locked over the copy into the page cache: a fetch must not see these blocks as absent, nor two appends one end.
        let mut state = live.state();
        let at = if append { state.size } else { offset };
        let range = at..at.saturating_add(bytes.len() as u64);
        if range.end > BlockSet::LARGEST {
            return Attempt::Done(Err(EngineError::TooLarge));
        }
        let settled = state.edit_recorded && edges_here(&state, &range);
        // What is to become a hole may have been cut off and be a part of another whole by now.
        if state.is_leaving(&range) || !state.hydrated && !settled {
            return Attempt::NotYet;
        }
        crash_here!(self, "write here: before the bytes");
        let wrote = data.write_reserved(&mut reservation, bytes, at);
        crash_here!(self, "write here: after the bytes");
        if let Err(error) = wrote {
            // A part of it may be there: an edit, of which nothing may stay beyond the end.
            state.wrote = true;
            if range.end > state.size
                && let Err(error) = data.set_len(state.size)
            {
                return Attempt::Done(Err(error.into()));
            }
            return match error {
                CacheError::DiskFull { .. } => Attempt::Refused,
                other => Attempt::Done(Err(other.into())),
            };
        }
        state.written(&range);
        drop(state);
        self.used_part(live.ino, &range, false);
        Attempt::Done(Ok(u32::try_from(bytes.len()).unwrap_or(u32::MAX)))
    }

    /// Fetches what a write touches in part, makes room, and writes.
    pub(crate) async fn write_slowly(
        self: &Arc<Self>,
        live: &Arc<Live>,
        offset: u64,
        bytes: Bytes,
        append: bool,
    ) -> Result<u32, EngineError> {
        let (mut rounds, mut refused) = (0, 0);
        while rounds <= ROUNDS {
            drop(self.make_room(bytes.len() as u64).await?);
            let (edges, range) = {
                let state = live.state();
                let at = if append { state.size } else { offset };
                let range = at..at.saturating_add(bytes.len() as u64);
                if range.end > BlockSet::LARGEST {
                    return Err(EngineError::TooLarge);
                }
                (edges_of(&state, &range), range)
            };
            let _kept = live.keep_here(&range);
            live.settled(&range).await;
            if !live.state().hydrated {
                self.mark_edited(live).await?;
                live.settled(&range).await;
                if !self.fetch_edges(live, edges).await? {
                    rounds += 1;
                    continue;
                }
                self.hydrate_rest(live);
            }
            match self.attempt(live, offset, &bytes, append) {
                Attempt::Done(answer) => return answer,
                Attempt::NotYet => {}
                // What goes by parts makes no room for what wants a file: then all would go for nothing.
                Attempt::Refused if refused >= REFUSALS => {
                    return Err(self.cache.refused_by_disk().into());
                }
                Attempt::Refused => {
                    refused += 1;
                    drop(self.evict_for(bytes.len() as u64, Refused::ByDisk).await?);
                }
            }
            rounds += 1;
        }
        Err(EngineError::NoSpace("others take the room faster than it is made".into()))
    }

    /// Fetches what a write touches in part; `false` if room had to be made for it first.
    async fn fetch_edges(
        self: &Arc<Self>,
        live: &Arc<Live>,
        edges: Vec<Range<u64>>,
    ) -> Result<bool, EngineError> {
        for edge in edges {
            match self.ensure(live, edge.clone(), edge.clone(), Cause::User).await {
                // Who fetches does not wait for room; who writes does.
                Err(EngineError::NoSpace(_)) => {
                    drop(self.make_room(edge.end - edge.start).await?);
                    return Ok(false);
                }
                other => other?,
            }
        }
        Ok(true)
    }

    /// Cuts or lengthens a file whose touched blocks are here. With length 0 nothing is ever fetched.
    pub(crate) fn truncate_here(&self, live: &Live, size: u64) -> Result<(), EngineError> {
        crash_here!(self, "cut: before the bytes");
        let data = live.data(&self.cache)?;
        let mut state = live.state();
        data.set_len(size)?;
        state.blocks.truncate(size);
        if size > state.size {
            let grown = state.size..size;
            state.blocks.insert(BlockSet::covered(grown, size));
        }
        state.size = size;
        state.wrote = true;
        state.blocks_unrecorded |= !state.hydrated;
        state.hydrated |= size == 0 || state.blocks.is_full(size);
        drop(state);
        crash_here!(self, "cut: after the bytes");
        Ok(())
    }

    /// What an open for writing cuts off must be forgotten for good first.
    pub(super) fn durability_of_open(
        &self,
        ino: Ino,
        mode: OpenMode,
    ) -> Result<Durability, EngineError> {
        let cuts = mode.truncate && self.is_known_in_part(ino)?;
        Ok(if cuts { Durability::Synced } else { Durability::Soon })
    }

    /// Whether the catalog takes some blocks of this file, and not all, for being here.
    fn is_known_in_part(&self, ino: Ino) -> Result<bool, EngineError> {
        let inode = self.catalog.read(|rows| rows.inode(ino))?;
        Ok(inode.is_some_and(|inode| inode.content == Content::Partial))
    }

    /// The fact before the bytes, where bytes go: a crash in between must not leave blocks that are believed and not there. What
    /// it answers is held until they are gone.
    pub(super) async fn tell_cut(
        self: &Arc<Self>,
        live: &Arc<Live>,
        size: u64,
    ) -> Result<Option<Cut>, EngineError> {
        if size >= live.state().size {
            return Ok(None);
        }
        let mut cut = Cut::begin(self, live);
        // Asked first: what is in the rows already and not committed is seen by no reader, and comes after this cut.
        let is_being_told = live.is_telling();
        if !is_being_told && !self.is_known_in_part(live.ino)? {
            return Ok(Some(cut));
        }
        if size > 0 {
            self.mark_edited(live).await?;
        }
        let (ino, generation) = (live.ino, live.generation);
        let tell = move |tx: &mut Tx| Ok(tx.cut_presence(ino, generation, size)?);
        if size > 0 {
            cut.tells();
        }
        self.catalog.write(Durability::Synced, Origin::Kernel, tell).await.map(|()| Some(cut))
    }

    /// Records, with its row, that a file that is not all here is being edited: from now on its absent blocks are only
    /// ever taken from the version it was edited from.
    pub(crate) async fn mark_edited(&self, live: &Arc<Live>) -> Result<(), EngineError> {
        if live.state().edit_recorded {
            return Ok(());
        }
        let (ino, generation) = (live.ino, live.generation);
        self.catalog
            .write(Durability::Soon, Origin::Kernel, move |tx| {
                let inode = tx.inode(ino)?.ok_or(EngineError::Stale)?;
                if inode.generation != generation {
                    return Err(EngineError::Stale);
                }
                tx.mark_edited(ino)?;
                Ok(())
            })
            .await?;
        live.state().edit_recorded = true;
        Ok(())
    }

    /// Fetches the rest of an edited file in the background: nothing is sent before all of it is here.
    pub(crate) fn hydrate_rest(self: &Arc<Self>, live: &Arc<Live>) {
        let size = live.state().size;
        self.start_fetches(live, 0..size, 0..size, Cause::Transfer);
    }
}

/// The parts of blocks at the ends of a write, and the old end of a file that grows: they must be here first.
fn edges_of(state: &State, range: &Range<u64>) -> Vec<Range<u64>> {
    let mut edges = Vec::new();
    let mut need = |at: u64| {
        let block = at / BLOCK * BLOCK;
        let end = (block + BLOCK).min(state.size);
        if block < end && !state.has(block..end) {
            edges.push(block..end);
        }
    };
    if !range.start.is_multiple_of(BLOCK) {
        need(range.start);
    }
    if !range.end.is_multiple_of(BLOCK) && range.end < state.size {
        need(range.end);
    }
    if range.end > state.size && !state.size.is_multiple_of(BLOCK) {
        need(state.size);
    }
    edges
}

fn edges_here(state: &State, range: &Range<u64>) -> bool {
    edges_of(state, range).is_empty()
}

/// The parts that must be here before a file is cut or lengthened to `size`.
pub(crate) fn edges_of_cut(state: &State, size: u64) -> Vec<Range<u64>> {
    edges_of(state, &(size..size))
}
