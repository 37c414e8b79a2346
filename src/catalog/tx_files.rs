//! The engine's own verbs on contents: sizes, generations, blocks, stamps.

use super::codec::{self, int};
use super::{CatalogError, Change, Inode, Result, Tx};
use crate::model::{BlockSet, Content, Edition, Generation, Ino, Stamp};

impl Tx {
    /// The generation of a file's content that the remote never had under the file's base. That is so of what was edited since,
    /// and of what was sent under another base: as a temporary that then took this file's place, for one.
    pub(crate) fn unsent(&self, ino: Ino) -> Result<Option<Generation>> {
        let sql = "SELECT generation FROM inode AS i WHERE ino = ?1 AND kind = 0 AND content <> 0
             AND (edited = 1 OR parent IS NOT NULL AND content = 2 AND NOT EXISTS (
                  SELECT 1 FROM base AS b
                  WHERE b.endpoint = 0 AND b.ino = i.ino AND b.edition = i.edition))";
        Ok(self.one(sql, [int(ino.0)], |row| codec::number(row, 0))?.map(Generation))
    }

    /// Sets the shown size.
    pub fn set_size(&mut self, ino: Ino, size: u64) -> Result<()> {
        self.resize(ino, size)?;
        self.tell_attributes(ino);
        Ok(())
    }

    /// Says how much is here, if `generation` still is the one; `false` if not.
    ///
    /// `Hydrated` drops the block set. `Placeholder` forgets the data file and moves on to the next generation, so that what
    /// is fetched later never meets the late unlinking of the old data file. A stamp is recorded unless `None`.
    pub fn set_content(
        &mut self,
        ino: Ino,
        generation: Generation,
        content: Content,
        stamp: Option<Stamp>,
    ) -> Result<bool> {
        if !self.is_generation(ino, generation)? {
            return Ok(false);
        }
        if content == Content::Placeholder {
            self.new_generation(ino)?;
            return Ok(true);
        }
        self.put_content(ino, content)?;
        if stamp.is_some() {
            self.put_stamp(ino, stamp)?;
        }
        if content == Content::Hydrated {
            self.run("DELETE FROM presence WHERE ino = ?1", [int(ino.0)])?;
        }
        self.tell(Change::Attributes(ino));
        Ok(true)
    }

    /// Replaces the set of blocks that are here (after truncate or evict); `false` if `generation` no longer is the one.
    /// The file is partial afterwards, a placeholder if nothing is here.
    pub fn set_presence(
        &mut self,
        ino: Ino,
        generation: Generation,
        blocks: &BlockSet,
    ) -> Result<bool> {
        if !self.is_generation(ino, generation)? {
            return Ok(false);
        }
        self.put_presence(ino, generation, blocks)?;
        self.tell(Change::Attributes(ino));
        Ok(true)
    }

    /// Forgets the blocks of a partial file beyond `size`, before they are cut off: after a crash nothing is believed that is not
    /// there. To 0 nothing of it is believed any more, and the row stands for the version that it stood for; else it is
    /// that long, and must have been marked edited.
    pub fn cut_presence(&mut self, ino: Ino, generation: Generation, size: u64) -> Result<()> {
        let partial = |inode: &Inode| inode.content == Content::Partial;
        if !self.is_generation(ino, generation)? || !self.inode(ino)?.as_ref().is_some_and(partial)
        {
            return Ok(());
        }
        let mut blocks = self.presence(ino)?.blocks;
        blocks.truncate(size);
        if size > 0 {
            self.resize(ino, size)?;
        }
        self.put_presence(ino, generation, &blocks)
    }

    /// Notes an edit: a new edition, and an outbox row if a remote is to get it.
    pub fn mark_edited(&mut self, ino: Ino) -> Result<Edition> {
        let edition = Edition(self.next_tick()?.0);
        let sql = "UPDATE inode SET edition = ?2, edited = 1 WHERE ino = ?1";
        if self.run_on(ino, sql, (int(ino.0), int(edition.0)))? == 0 {
            return Err(CatalogError::NoInode(ino.0));
        }
        self.mark_pending(ino)?;
        Ok(edition)
    }

    /// Compares the stamp of a data file with the recorded one; answers whether it moved.
    ///
    /// If it did: a new edition, the stamp recorded, size and shown mtime follow the data file, an outbox row. A mtime set by
    /// the user stays until the data file moves on from the one noted then. A data file without a recorded stamp counts as
    /// moved. `false` of another generation, and of a file that is not all here and not edited: fetching moves its stamp.
    pub fn observe(
        &mut self,
        ino: Ino,
        generation: Generation,
        stamp: Stamp,
        mtime_of_data: i64,
    ) -> Result<bool> {
        let Some(inode) = self.inode(ino)? else { return Ok(false) };
        let fetching = inode.content != Content::Hydrated && !inode.edited;
        if inode.generation != generation || inode.stamp == Some(stamp) || fetching {
            return Ok(false);
        }
        // A file that is not all here is as long as its row says; its data file may not have grown to that yet.
        let size = match inode.content {
            Content::Hydrated => stamp.size,
            _ => inode.attributes.size,
        };
        if inode.local.is_some() {
            self.count(0, int(size).saturating_sub(int(inode.attributes.size)));
        }
        let (mtime, of_data) = mtimes(&inode, stamp, mtime_of_data);
        let edition = self.next_tick()?;
        self.run_on(
            ino,
            "UPDATE inode SET edition = ?2, edited = 1, stamp_size = ?3, stamp_ctime = ?4, size = ?5,
                              ctime = MAX(ctime, ?4), mtime = ?6, mtime_of_data = ?7
             WHERE ino = ?1",
            (int(ino.0), int(edition.0), int(stamp.size), stamp.ctime, int(size), mtime, of_data),
        )?;
        self.mark_pending(ino)?;
        self.tell(Change::Attributes(ino));
        Ok(true)
    }

    /// Forgets all bytes and moves on to a fresh data file for the same edition; answers its generation.
    pub fn new_generation(&mut self, ino: Ino) -> Result<Generation> {
        let generation = self.forget_bytes(ino)?.next();
        let sql = "UPDATE inode SET generation = ?2 WHERE ino = ?1";
        self.run_on(ino, sql, (int(ino.0), int(generation.0)))?;
        self.tell(Change::Attributes(ino));
        Ok(generation)
    }

    fn is_generation(&self, ino: Ino, generation: Generation) -> Result<bool> {
        let sql = "SELECT 1 FROM inode WHERE ino = ?1 AND generation = ?2";
        self.any(sql, (int(ino.0), int(generation.0)))
    }

    fn put_content(&mut self, ino: Ino, content: Content) -> Result<()> {
        // A file is used last when its bytes come, as long as nothing else is known.
        self.run_on(
            ino,
            "UPDATE inode SET content = ?2, last_use = MAX(last_use, ?3) WHERE ino = ?1 AND content <> ?2",
            (int(ino.0), codec::content_code(content), self.now),
        )?;
        Ok(())
    }

    fn put_stamp(&mut self, ino: Ino, stamp: Option<Stamp>) -> Result<()> {
        let (size, ctime) = stamp.map(|stamp| (int(stamp.size), stamp.ctime)).unzip();
        let sql = "UPDATE inode SET stamp_size = ?2, stamp_ctime = ?3 WHERE ino = ?1";
        self.run_beside(sql, (int(ino.0), size, ctime)).map(drop)
    }

    fn put_presence(&mut self, ino: Ino, generation: Generation, blocks: &BlockSet) -> Result<()> {
        let empty = blocks.is_empty();
        self.put_content(ino, if empty { Content::Placeholder } else { Content::Partial })?;
        self.run(
            "INSERT OR REPLACE INTO presence (ino, generation, blocks) VALUES (?1, ?2, ?3)",
            (int(ino.0), int(generation.0), blocks.to_bytes()),
        )?;
        Ok(())
    }
}

/// The mtime that a file shows once its data file has moved, and the data file's that its own stands for.
fn mtimes(inode: &Inode, stamp: Stamp, of_data: i64) -> (i64, Option<i64>) {
    // Of a file that nobody wrote to, the data file is made when somebody first needs one: that is no writing.
    let only_made = inode.stamp.is_none() && inode.attributes.size == 0 && stamp.size == 0;
    match inode.mtime_of_data {
        None if only_made => (inode.attributes.mtime, Some(of_data)),
        Some(noted) if noted == of_data => (inode.attributes.mtime, Some(noted)),
        _ => (of_data, None),
    }
}
