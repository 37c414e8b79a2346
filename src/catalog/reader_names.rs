//! What the catalog answers about names, places and inodes.

use super::codec::{self, inode_sql, int};
use super::{DirEntry, Event, Inode, Reader, Result};
use crate::model::{Ino, Kind, Name, Node, Place, RemotePath};

/// Folders above one another before a chain is taken for a ring: the kernel allows no path of more than 4096 bytes.
const DEEPEST: usize = 4096;

impl Reader {
    /// The inode of this number.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>> {
        self.one(inode_sql!("WHERE i.ino = ?1"), [int(ino.0)], codec::inode)
    }

    /// Who has this name in this folder.
    pub fn lookup(&self, parent: Ino, name: &Name) -> Result<Option<Inode>> {
        let sql = inode_sql!("WHERE i.parent = ?1 AND i.name = ?2");
        self.one(sql, (int(parent.0), name.as_bytes()), codec::inode)
    }

    /// The entries of a folder in the order of their numbers, those beyond `after`.
    pub fn read_dir(&self, folder: Ino, after: Ino, limit: usize) -> Result<Vec<DirEntry>> {
        let sql = inode_sql!(
            "INDEXED BY inode_folder WHERE i.parent = ?1 AND i.ino > ?2 ORDER BY i.ino LIMIT ?3"
        );
        let inodes = self.all(sql, (int(folder.0), int(after.0), count(limit)), codec::inode)?;
        let entry = |inode: Inode| {
            inode
                .local
                .as_ref()
                .map(|place| place.name.clone())
                .map(|name| DirEntry { name, inode })
        };
        Ok(inodes.into_iter().filter_map(entry).collect())
    }

    /// The highest number that was given so far to what is still known.
    pub fn newest(&self) -> Result<Ino> {
        let newest = self.one("SELECT MAX(ino) FROM inode", [], |row| codec::ino(row, 0))?;
        Ok(newest.unwrap_or(Ino::ROOT))
    }

    /// Whether anything is in this folder here.
    pub fn has_entries(&self, folder: Ino) -> Result<bool> {
        self.any("SELECT 1 FROM inode WHERE parent = ?1 LIMIT 1", [int(folder.0)])
    }

    /// Whether all names of this folder are known: it has no base, or its base is listed.
    pub fn is_listed(&self, folder: Ino) -> Result<bool> {
        let sql = "SELECT 1 FROM base WHERE endpoint = 0 AND ino = ?1 AND listed = 0";
        Ok(!self.any(sql, [int(folder.0)])?)
    }

    /// Where users see it, as names from the root; `None` if it or a folder above has no place.
    pub fn local_path(&self, ino: Ino) -> Result<Option<Vec<Name>>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT && names.len() < DEEPEST {
            let Some(place) = self.local_place(at)? else { return Ok(None) };
            names.push(place.name);
            at = place.parent;
        }
        names.reverse();
        Ok(Some(names))
    }

    /// The folders above a folder here, the nearest first, the root included.
    pub fn folders_above(&self, ino: Ino) -> Result<Vec<Ino>> {
        let mut line = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT && line.len() < DEEPEST {
            let Some(place) = self.local_place(at)? else { break };
            at = place.parent;
            line.push(at);
        }
        Ok(line)
    }

    /// Folders in this folder whose names are not all known, in the order of their numbers, those beyond `after`.
    pub fn unlisted_in(&self, parent: Ino, after: Ino, limit: usize) -> Result<Vec<Ino>> {
        let sql =
            "SELECT b.ino FROM base b INDEXED BY base_unlisted CROSS JOIN inode i ON i.ino = b.ino
                   WHERE b.endpoint = 0 AND b.listed = 0 AND b.ino > ?2 AND i.parent = ?1
                     AND b.ino <= (SELECT MAX(ino) FROM inode WHERE parent = ?1)
                   ORDER BY b.ino LIMIT ?3";
        self.all(sql, (int(parent.0), int(after.0), count(limit)), |row| codec::ino(row, 0))
    }

    /// Files of this folder of which no bytes are here, not larger than `largest`, in the order of their numbers, those
    /// beyond `after`.
    pub fn next_absent(
        &self,
        folder: Ino,
        after: Ino,
        largest: u64,
        limit: usize,
    ) -> Result<Vec<(Ino, Name, u64)>> {
        let sql = "SELECT ino, name, size FROM inode INDEXED BY inode_folder
                   WHERE parent = ?1 AND ino > ?2 AND kind = 0 AND content = 0 AND size BETWEEN 1 AND ?3
                   ORDER BY ino LIMIT ?4";
        self.all(sql, (int(folder.0), int(after.0), int(largest), count(limit)), |row| {
            Ok((codec::ino(row, 0)?, codec::name(row, 1)?, codec::number(row, 2)?))
        })
    }

    /// The listed folder that a walk in the order of numbers comes to after this one: the first in it, else the next beside
    /// it, else the next beside one that it lies in. Looks no further than so many numbers in each.
    pub fn next_listed_folder(&self, folder: Ino) -> Result<Option<Ino>> {
        const FAR: u64 = 1000;
        const LEVELS: usize = 3;
        let sql = "SELECT i.ino FROM inode i INDEXED BY inode_folder
                   CROSS JOIN base b ON b.endpoint = 0 AND b.ino = i.ino
                   WHERE i.parent = ?1 AND i.ino > ?2 AND i.ino <= ?3 AND i.kind = 1 AND b.listed = 1
                   ORDER BY i.ino LIMIT 1";
        let first = |parent: Ino, after: Ino, most: u64| {
            self.one(sql, (int(parent.0), int(after.0), int(most)), |row| codec::ino(row, 0))
        };
        let least =
            self.one("SELECT MIN(ino) FROM inode WHERE parent = ?1", [int(folder.0)], |row| {
                row.get::<_, Option<i64>>(0)
            })?;
        let least = least.flatten().map_or(0, i64::cast_unsigned);
        if let Some(below) = first(folder, Ino(0), least.saturating_add(FAR))? {
            return Ok(Some(below));
        }
        let mut at = folder;
        for _ in 0..LEVELS {
            let Some(place) = self.local_place(at)? else { break };
            if let Some(beside) = first(place.parent, at, at.0.saturating_add(FAR))? {
                return Ok(Some(beside));
            }
            at = place.parent;
        }
        Ok(None)
    }

    /// Whether it or a folder above it is kept local only for its name.
    pub fn is_below_excluded(&self, ino: Ino) -> Result<bool> {
        match self.local_place(ino)? {
            Some(place) => self.would_be_excluded(ino, &place),
            None => Ok(false),
        }
    }

    /// Whether an inode would be kept local only in this place. What the remote has under such a name is synced as any other.
    pub fn would_be_excluded(&self, ino: Ino, place: &Place) -> Result<bool> {
        let kind = self.node_row(ino)?.map_or(Kind::File, |node| node.kind);
        Ok(self.is_excluded_as(ino, kind, place)?
            || self.is_in_excluded(place.parent, |folder| self.node_row(folder))?)
    }

    /// Whether this folder or one above it is kept local only for its name, with what `node` tells of each.
    pub(super) fn is_in_excluded(
        &self,
        folder: Ino,
        node: impl Fn(Ino) -> Result<Option<Node>>,
    ) -> Result<bool> {
        let mut at = folder;
        for _ in 0..DEEPEST {
            let Some(found) = node(at)? else { return Ok(false) };
            let Some(above) = found.local else { return Ok(false) };
            if self.is_excluded_as(at, found.kind, &above)? {
                return Ok(true);
            }
            at = above.parent;
        }
        Ok(false)
    }

    fn is_excluded_as(&self, ino: Ino, kind: Kind, place: &Place) -> Result<bool> {
        if !self.has_excluded_name(place, kind)? {
            return Ok(false);
        }
        match self.base_place(ino)? {
            Some(base) => Ok(!self.has_excluded_name(&base, kind)?),
            None => Ok(true),
        }
    }

    /// Whether an exclude pattern tells more than a name.
    pub(super) fn excludes_by_path(&self) -> bool {
        self.memory.exclude().looks_at_paths()
    }

    /// Whether an exclude pattern fits something of this kind in this place.
    pub(super) fn has_excluded_name(&self, place: &Place, kind: Kind) -> Result<bool> {
        let above = || Ok(self.local_path(place.parent)?.unwrap_or_default());
        self.memory.exclude().matches(&place.name, kind == Kind::Folder, above)
    }

    /// Where the remote has it; `None` without base.
    pub fn base_path(&self, ino: Ino) -> Result<Option<RemotePath>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT && names.len() < DEEPEST {
            let Some(place) = self.base_place(at)? else { return Ok(None) };
            names.push(place.name);
            at = place.parent;
        }
        names.reverse();
        Ok(Some(RemotePath(names)))
    }

    /// The remote path of a base place; `None` if its folder has no base.
    pub fn base_path_of(&self, place: &Place) -> Result<Option<RemotePath>> {
        Ok(self.base_path(place.parent)?.map(|folder| folder.child(place.name.clone())))
    }

    /// Inodes that nothing names any more: no local place, no base, no outbox row (kept only while open).
    pub fn unnamed(&self, limit: usize) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM inode i WHERE parent IS NULL AND ino > 2
                   AND NOT EXISTS (SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = i.ino)
                   AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino)
                   ORDER BY ino LIMIT ?1";
        self.all(sql, [count(limit)], |row| codec::ino(row, 0))
    }

    /// Inodes with a place below the folder that the remote never had, without what is in these. One statement, however much the
    /// remote has there; damaged rows that make a circle end it.
    pub(super) fn never_had_below(&self, folder: Ino) -> Result<Vec<Ino>> {
        let sql = "WITH RECURSIVE known (ino) AS (
                       SELECT ?1
                       UNION
                       SELECT i.ino FROM known k CROSS JOIN inode i ON i.parent = k.ino AND i.kind = 1
                       JOIN base b ON b.endpoint = 0 AND b.ino = i.ino)
                   SELECT i.ino FROM known k CROSS JOIN inode i ON i.parent = k.ino
                   WHERE NOT EXISTS (SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = i.ino)";
        self.all(sql, [int(folder.0)], |row| codec::ino(row, 0))
    }

    /// Inodes with a place here that the remote never had and that nothing is to be sent of, the newest first.
    pub fn never_sent(&self) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM inode i WHERE parent IS NOT NULL AND ino > 2
                   AND NOT EXISTS (SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = i.ino)
                   AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino)
                   ORDER BY ino DESC";
        self.all(sql, [], |row| codec::ino(row, 0))
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT value FROM xattr WHERE ino = ?1 AND name = ?2";
        self.one(sql, (int(ino.0), name), |row| row.get(0))
    }

    /// The names of all extended attributes.
    pub fn xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.all("SELECT name FROM xattr WHERE ino = ?1", [int(ino.0)], |row| row.get(0))
    }

    /// What happened to an inode, oldest first; the last 50 things are kept.
    pub fn history(&self, ino: Ino) -> Result<Vec<Event>> {
        let sql = "SELECT time, what FROM history WHERE ino = ?1 ORDER BY id";
        self.all(sql, [int(ino.0)], |row| Ok(Event { time: row.get(0)?, what: row.get(1)? }))
    }

    /// Where users see it.
    pub fn local_place(&self, ino: Ino) -> Result<Option<Place>> {
        let sql = "SELECT parent, name FROM inode WHERE ino = ?1";
        Ok(self.one(sql, [int(ino.0)], |row| codec::place(row, 0))?.flatten())
    }

    /// Where the remote last had it.
    pub fn base_place(&self, ino: Ino) -> Result<Option<Place>> {
        let sql = "SELECT parent, name FROM base WHERE endpoint = 0 AND ino = ?1";
        Ok(self.one(sql, [int(ino.0)], |row| codec::place(row, 0))?.flatten())
    }

    /// Who has this name in this folder, by number only.
    pub(super) fn in_local(&self, parent: Ino, name: &Name) -> Result<Option<Ino>> {
        let sql = "SELECT ino FROM inode WHERE parent = ?1 AND name = ?2";
        self.one(sql, (int(parent.0), name.as_bytes()), |row| codec::ino(row, 0))
    }

    /// Whose base has this name in this base folder.
    pub(super) fn in_base(&self, parent: Ino, name: &Name) -> Result<Option<Ino>> {
        let sql = "SELECT ino FROM base WHERE endpoint = 0 AND parent = ?1 AND name = ?2";
        self.one(sql, (int(parent.0), name.as_bytes()), |row| codec::ino(row, 0))
    }
}

/// A limit as SQLite takes it.
pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
