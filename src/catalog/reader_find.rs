//! What the catalog answers about everything below a folder: what is called so, what is large or recent, what takes the room.
//!
//! All of it is one pass over an index or the table. Where a row is, is only asked once for each folder.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::codec::{self, int};
use super::{Found, Rank, Reader, Result, Usage};
use crate::model::{Content, Glob, Ino, Kind, Name};

/// Folders above one another before a chain is taken for a ring: the kernel allows no path of more than 4096 bytes.
const DEEPEST: usize = 4096;

/// Remembers which folders are `top` or below it.
struct Below<'a> {
    reader: &'a Reader,
    known: HashMap<Ino, bool>,
}

impl<'a> Below<'a> {
    fn of(reader: &'a Reader, top: Ino) -> Self {
        // What hangs from nothing is nowhere: the way up ends at the root.
        Self { reader, known: HashMap::from([(top, true), (Ino::ROOT, top == Ino::ROOT)]) }
    }

    fn holds(&mut self, folder: Ino) -> Result<bool> {
        let mut passed = Vec::new();
        let mut at = folder;
        let below = loop {
            if let Some(below) = self.known.get(&at) {
                break *below;
            }
            passed.push(at);
            match self.reader.local_parent(at)? {
                Some(parent) if passed.len() < DEEPEST => at = parent,
                _ => break false,
            }
        };
        self.known.extend(passed.into_iter().map(|one| (one, below)));
        Ok(below)
    }
}

impl Reader {
    /// What lies below `top` and fits: by its name, or by its path below `top` where the pattern is one of paths. Folder by
    /// folder, sorted by name in each.
    pub fn find(&self, top: Ino, glob: Option<&Glob>) -> Result<Vec<Ino>> {
        let by_name = glob.filter(|glob| glob.is_name());
        let by_path = glob.filter(|glob| !glob.is_name());
        let mut below = Below::of(self, top);
        let mut found = Vec::new();
        // Whether the rows that come now are below, and the names on the way to them.
        let mut folder: (Option<Ino>, bool, Vec<Name>) = (None, false, Vec::new());
        let sql = "SELECT ino, parent, name FROM inode INDEXED BY inode_place WHERE parent > 0
                   ORDER BY parent, name";
        self.each(sql, [], |row| {
            let name = row.get_ref(2)?.as_blob().unwrap_or_default();
            if by_name.is_some_and(|glob| !glob.matches_name(name)) {
                return Ok(());
            }
            let parent = codec::ino(row, 1)?;
            if folder.0 != Some(parent) {
                let holds = below.holds(parent)?;
                let way = if holds && by_path.is_some() { self.way(top, parent)? } else { vec![] };
                folder = (Some(parent), holds, way);
            }
            let fits = folder.1
                && by_path.is_none_or(|glob| {
                    let names = folder.2.iter().map(Name::as_bytes).chain([name]);
                    glob.matches(&names.collect::<Vec<_>>())
                });
            if fits {
                found.push(codec::ino(row, 0)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The files below `top` that come first in this order, at most so many.
    pub fn first_files(&self, top: Ino, rank: Rank, count: usize) -> Result<Vec<Ino>> {
        let sql = match rank {
            Rank::Largest => "SELECT ino, parent, size FROM inode NOT INDEXED WHERE kind = 0",
            Rank::Recent => "SELECT ino, parent, mtime FROM inode NOT INDEXED WHERE kind = 0",
        };
        let mut below = Below::of(self, top);
        let mut first: BinaryHeap<Reverse<(i64, Ino)>> = BinaryHeap::new();
        self.each(sql, [], |row| {
            let Some(parent) = row.get::<_, Option<i64>>(1)? else { return Ok(()) };
            let one = Reverse((row.get(2)?, codec::ino(row, 0)?));
            let comes = first.len() < count || first.peek().is_some_and(|last| one < *last);
            if comes && below.holds(Ino(parent.cast_unsigned()))? {
                first.push(one);
                if first.len() > count {
                    first.pop();
                }
            }
            Ok(())
        })?;
        Ok(first.into_sorted_vec().into_iter().map(|Reverse((_, ino))| ino).collect())
    }

    /// What `top` and every folder below it hold, all that is below counted in; `top` is the first.
    pub fn usage(&self, top: Ino) -> Result<Vec<Usage>> {
        let mut own: HashMap<Ino, Usage> = HashMap::new();
        let mut folders = vec![(top, None)];
        let mut partial = Vec::new();
        let sql = "SELECT ino, parent, kind, size, content FROM inode NOT INDEXED WHERE parent > 0";
        self.each(sql, [], |row| {
            let (ino, parent) = (codec::ino(row, 0)?, codec::ino(row, 1)?);
            let sum = own.entry(parent).or_insert_with(|| Usage::of(parent));
            match codec::kind(row, 2)? {
                Kind::Folder => {
                    sum.folders += 1;
                    if ino != top {
                        folders.push((ino, Some(parent)));
                    }
                }
                Kind::File => {
                    let size = codec::number(row, 3)?;
                    sum.files += 1;
                    sum.size += size;
                    match codec::content(row, 4)? {
                        Content::Hydrated => sum.present += size,
                        Content::Partial => partial.push((ino, parent, size)),
                        Content::Placeholder => {}
                    }
                }
                _ => sum.files += 1,
            }
            Ok(())
        })?;
        for (ino, parent, size) in partial {
            let present = self.presence(ino)?.blocks.present_bytes(size);
            own.entry(parent).or_insert_with(|| Usage::of(parent)).present += present;
        }
        Ok(add_up(top, &folders, &own))
    }

    /// Folders at or below `top` whose names are not all known.
    pub fn unlisted_below(&self, top: Ino) -> Result<u64> {
        let mut below = Below::of(self, top);
        let mut count = 0;
        let sql = "SELECT ino FROM base INDEXED BY base_unlisted WHERE endpoint = 0 AND listed = 0";
        self.each(sql, [], |row| {
            count += u64::from(below.holds(codec::ino(row, 0)?)?);
            Ok(())
        })?;
        Ok(count)
    }

    /// What a search shows of an item; `None` if it is gone.
    pub fn found(&self, ino: Ino) -> Result<Option<Found>> {
        let sql = "SELECT kind, size, mtime, content FROM inode WHERE ino = ?1";
        let row = self.one(sql, [int(ino.0)], |row| {
            let (size, content) = (codec::number(row, 1)?, codec::content(row, 3)?);
            Ok((codec::kind(row, 0)?, size, row.get(2)?, content))
        })?;
        let (Some((kind, size, mtime, content)), Some(path)) = (row, self.local_path(ino)?) else {
            return Ok(None);
        };
        let present = match (kind, content) {
            (Kind::File, Content::Hydrated) => size,
            (Kind::File, Content::Partial) => self.presence(ino)?.blocks.present_bytes(size),
            _ => 0,
        };
        let listed = kind == Kind::Folder && self.is_listed(ino)?;
        let size = if kind == Kind::Folder { 0 } else { size };
        Ok(Some(Found { path, kind, size, mtime, content, present, listed }))
    }

    /// The names from `top` down to a folder below it.
    fn way(&self, top: Ino, folder: Ino) -> Result<Vec<Name>> {
        let above = self.local_path(top)?.unwrap_or_default().len();
        let mut path = self.local_path(folder)?.unwrap_or_default();
        Ok(path.split_off(above.min(path.len())))
    }

    fn local_parent(&self, ino: Ino) -> Result<Option<Ino>> {
        let sql = "SELECT parent FROM inode WHERE ino = ?1 AND parent IS NOT NULL";
        self.one(sql, [int(ino.0)], |row| codec::ino(row, 0))
    }
}

/// Adds what every folder holds itself to all above it, as far as `top`.
fn add_up(top: Ino, folders: &[(Ino, Option<Ino>)], own: &HashMap<Ino, Usage>) -> Vec<Usage> {
    let parents: HashMap<Ino, Option<Ino>> = folders.iter().copied().collect();
    let mut sums: HashMap<Ino, Usage> = HashMap::new();
    for (folder, _) in folders {
        let mut line = vec![*folder];
        while let Some(last) = line.last()
            && *last != top
            && line.len() < DEEPEST
            && let Some(Some(parent)) = parents.get(last)
        {
            line.push(*parent);
        }
        if line.last() != Some(&top) {
            continue;
        }
        let mine = own.get(folder);
        for one in line {
            let sum = sums.entry(one).or_insert_with(|| Usage::of(one));
            if let Some(mine) = mine {
                sum.add(mine);
            }
        }
    }
    folders.iter().filter_map(|(folder, _)| sums.remove(folder)).collect()
}
