#![allow(unused_variables, unused_imports, dead_code)]
//! The engine's own verbs on contents: sizes, generations, blocks, stamps.

use super::{Result, Tx};
use crate::model::{BlockSet, Content, Edition, Generation, Ino, Stamp};

impl Tx {
    /// Sets the shown size.
    pub fn set_size(&mut self, ino: Ino, size: u64) -> Result<()> {
        todo!()
    }

    /// Says how much is here, if `generation` still is the one; `false` if not. `Hydrated` and `Placeholder` drop the block set. `Placeholder` also moves on to the next generation and forgets the data file, so that what is fetched later never meets its unlinking.
    pub fn set_content(
        &mut self,
        ino: Ino,
        generation: Generation,
        content: Content,
        stamp: Option<Stamp>,
    ) -> Result<bool> {
        todo!()
    }

    /// Adds blocks to what is here; `false` if `generation` no longer is the one.
    pub fn add_blocks(
        &mut self,
        ino: Ino,
        generation: Generation,
        blocks: &BlockSet,
    ) -> Result<bool> {
        todo!()
    }

    /// Replaces the set of blocks that are here (after truncate or evict); `false` if `generation` no longer is the one. Also turns a hydrated file into a partial one.
    pub fn set_presence(
        &mut self,
        ino: Ino,
        generation: Generation,
        blocks: &BlockSet,
    ) -> Result<bool> {
        todo!()
    }

    /// Notes an edit: a new edition, and an outbox row if a remote is to get it.
    pub fn mark_edited(&mut self, ino: Ino) -> Result<Edition> {
        todo!()
    }

    /// Compares the stamp of a data file with the recorded one. Unequal: a new edition, the stamp recorded, size and shown mtime follow the data file (a mtime set by the user stays until the data file moves on), an outbox row; answers `true`.
    pub fn observe(
        &mut self,
        ino: Ino,
        generation: Generation,
        stamp: Stamp,
        mtime_of_data: i64,
    ) -> Result<bool> {
        todo!()
    }

    /// Records the stamp of the data file as that of the present edition; `false` if `generation` no longer is the one.
    pub fn set_stamp(
        &mut self,
        ino: Ino,
        generation: Generation,
        stamp: Option<Stamp>,
    ) -> Result<bool> {
        todo!()
    }

    /// Forgets all bytes and moves on to a fresh data file for the same edition.
    pub fn new_generation(&mut self, ino: Ino) -> Result<Generation> {
        todo!()
    }
}
