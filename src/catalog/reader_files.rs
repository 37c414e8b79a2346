//! What the catalog answers about contents: what is here, what should be, and what may go.

use std::collections::{BTreeMap, HashMap};

use super::codec::{self, inode_sql, int};
use super::reader_names::count;
use super::reader_sync::to_send;
use super::{Inode, Presence, Reader, Result};
use crate::model::{BlockSet, Content, Generation, Ino, Kind, Pin};

/// Rows looked at below pinned folders before all files are walked instead: a small folder in a large mount is found by
/// walking down, a mount that is pinned as a whole by walking on.
const WALK: usize = 20_000;
/// Rows of that walk at a time.
const PAGE: usize = 1000;

/// Is a row as pins see it.
struct Pinned {
    ino: Ino,
    parent: Option<Ino>,
    kind: Kind,
    pin: Pin,
    content: Content,
    size: u64,
}

/// The columns of a [`Pinned`].
macro_rules! pinned_sql {
    ($rest:literal) => {
        concat!("SELECT ino, parent, kind, pin, content, size FROM inode ", $rest)
    };
}

fn pinned(row: &rusqlite::Row<'_>) -> rusqlite::Result<Pinned> {
    Ok(Pinned {
        ino: codec::ino(row, 0)?,
        parent: row.get::<_, Option<i64>>(1)?.map(|parent| Ino(parent.cast_unsigned())),
        kind: codec::kind(row, 2)?,
        pin: codec::pin(row, 3)?,
        content: codec::content(row, 4)?,
        size: codec::number(row, 5)?,
    })
}

impl Reader {
    /// Which blocks are here. Hydrated: all of them; a placeholder or no such inode: none.
    pub fn presence(&self, ino: Ino) -> Result<Presence> {
        let sql = "SELECT i.generation, i.size, i.content, p.blocks FROM inode i
                   LEFT JOIN presence p ON p.ino = i.ino AND p.generation = i.generation
                   WHERE i.ino = ?1";
        let found = self.one(sql, [int(ino.0)], |row| {
            let size = codec::number(row, 1)?;
            let mut blocks = BlockSet::default();
            match codec::content(row, 2)? {
                Content::Hydrated => blocks.insert(BlockSet::touched(0..size)),
                Content::Partial => {
                    let bytes = row.get::<_, Option<Vec<u8>>>(3)?;
                    blocks = bytes.map(|bytes| BlockSet::from_bytes(&bytes)).unwrap_or_default();
                }
                Content::Placeholder => {}
            }
            Ok(Presence { generation: Generation(codec::number(row, 0)?), blocks })
        })?;
        Ok(found.unwrap_or(Presence { generation: Generation(0), blocks: BlockSet::default() }))
    }

    /// The pin that holds for it, by its own and those of the folders above.
    pub fn effective_pin(&self, ino: Ino) -> Result<Pin> {
        Ok(self.pin_and_from(ino)?.0)
    }

    /// The inode whose pin decides for it, if any was set.
    pub fn pin_from(&self, ino: Ino) -> Result<Option<Ino>> {
        Ok(self.pin_and_from(ino)?.1)
    }

    fn pin_and_from(&self, ino: Ino) -> Result<(Pin, Option<Ino>)> {
        let mut chain = Vec::new();
        let mut at = Some(ino);
        while let Some(row) = at.map(|ino| self.pinned(ino)).transpose()?.flatten() {
            at = row.parent.filter(|parent| !chain.iter().any(|one: &Pinned| one.ino == *parent));
            chain.push(row);
        }
        let mut result = (Pin::Unspecified, None);
        for row in chain.iter().rev() {
            let pin = self.own_pin(row).under(result.0, row.kind);
            let from = if self.own_pin(row) == pin { Some(row.ino) } else { result.1 };
            result = (pin, from.filter(|_| pin != Pin::Unspecified));
        }
        Ok(result)
    }

    fn pinned(&self, ino: Ino) -> Result<Option<Pinned>> {
        self.one(pinned_sql!("WHERE ino = ?1"), [int(ino.0)], pinned)
    }

    /// The pin of an item itself; for the root, what holds for the whole mount if nothing was said.
    fn own_pin(&self, row: &Pinned) -> Pin {
        match row.pin {
            Pin::Unspecified if row.ino == Ino::ROOT => self.memory.root_pin(),
            pin => pin,
        }
    }

    /// Files pinned by themselves or by a folder above and not hydrated, with numbers beyond `after`, in order.
    pub fn pinned_not_hydrated(&self, after: Ino, limit: usize) -> Result<Vec<Ino>> {
        let absent = |row: &Pinned| (row.content != Content::Hydrated).then_some(row.ino);
        self.files_by_pin(Pin::Pinned, after, limit, absent)
    }

    /// All files pinned by themselves or by a folder above with bytes here, in order. In one walk: each would begin anew.
    pub fn pinned_with_bytes(&self) -> Result<Vec<Ino>> {
        let present = |row: &Pinned| (row.content != Content::Placeholder).then_some(row.ino);
        self.files_by_pin(Pin::Pinned, Ino(0), usize::MAX, present)
    }

    /// All files pinned by themselves or by a folder above, in order, with their length and how much of it is here.
    pub fn pinned_files(&self) -> Result<Vec<(Ino, u64, Content)>> {
        let every = |row: &Pinned| Some((row.ino, row.size, row.content));
        self.files_by_pin(Pin::Pinned, Ino(0), usize::MAX, every)
    }

    /// What `takes` makes of the files for which this pin holds, in order.
    fn files_by_pin<T>(
        &self,
        pin: Pin,
        after: Ino,
        limit: usize,
        takes: impl Fn(&Pinned) -> Option<T>,
    ) -> Result<Vec<T>> {
        let sql = pinned_sql!("INDEXED BY inode_pin WHERE pin IN (?1, ?2) AND pin > 0");
        let by_rule = if pin == Pin::Pinned { codec::PIN_BY_RULE } else { codec::pin_code(pin) };
        let mut tops = self.all(sql, (codec::pin_code(pin), by_rule), pinned)?;
        if self.memory.root_pin() == pin {
            tops.extend(self.pinned(Ino::ROOT)?);
        }
        if tops.is_empty() {
            return Ok(Vec::new());
        }
        match self.walk_down(pin, tops, after, limit, &takes)? {
            Some(found) => Ok(found),
            None => self.walk_on(pin, after, limit, &takes),
        }
    }

    /// Walks down from what has the pin itself; `None` if that is too much.
    fn walk_down<T>(
        &self,
        pin: Pin,
        tops: Vec<Pinned>,
        after: Ino,
        limit: usize,
        takes: &impl Fn(&Pinned) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let mut found = BTreeMap::new();
        let mut left = WALK;
        // Rows with whether the pin is known to hold for them; it is not yet for the tops.
        let mut stack: Vec<_> = tops.into_iter().map(|row| (row, false)).collect();
        while let Some((row, known)) = stack.pop() {
            if !known && self.effective_pin(row.ino)? != pin {
                continue;
            }
            if row.kind == Kind::File {
                if row.ino > after
                    && row.parent.is_some()
                    && let Some(taken) = takes(&row)
                {
                    found.insert(row.ino, taken);
                }
                continue;
            }
            let sql = pinned_sql!("WHERE parent = ?1 LIMIT ?2");
            let children = self.all(sql, (int(row.ino.0), count(left + 1)), pinned)?;
            match left.checked_sub(children.len()) {
                Some(rest) => left = rest,
                None => return Ok(None),
            }
            // A child that has the pin itself is a top of its own.
            let holds = children
                .into_iter()
                .filter(|child| child.pin != pin && child.pin.under(pin, child.kind) == pin);
            stack.extend(holds.map(|child| (child, true)));
        }
        Ok(Some(found.into_values().take(limit).collect()))
    }

    /// Walks on over all files beyond `after`.
    fn walk_on<T>(
        &self,
        pin: Pin,
        after: Ino,
        limit: usize,
        takes: &impl Fn(&Pinned) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        let mut folders = HashMap::new();
        let mut at = after;
        while found.len() < limit {
            let sql = pinned_sql!("WHERE ino > ?1 ORDER BY ino LIMIT ?2");
            let rows = self.all(sql, (int(at.0), count(PAGE)), pinned)?;
            let Some(last) = rows.last() else { break };
            at = last.ino;
            for row in rows.iter().filter(|row| row.kind == Kind::File) {
                let Some(parent) = row.parent else { continue };
                let above = self.folder_pin(parent, &mut folders)?;
                if row.pin.under(above, row.kind) == pin && found.len() < limit {
                    found.extend(takes(row));
                }
            }
        }
        Ok(found)
    }

    fn folder_pin(&self, folder: Ino, known: &mut HashMap<Ino, Pin>) -> Result<Pin> {
        if let Some(pin) = known.get(&folder) {
            return Ok(*pin);
        }
        let pin = self.effective_pin(folder)?;
        known.insert(folder, pin);
        Ok(pin)
    }

    /// Files with bytes here that may be freed: nothing of them unsent, with a base, not pinned; the least recently used
    /// first.
    pub fn eviction_candidates(&self, limit: usize) -> Result<Vec<Inode>> {
        let sql = concat!(
            inode_sql!(
                "INDEXED BY inode_use WHERE i.content > 0 AND i.kind = 0 AND i.parent IS NOT NULL
                 AND EXISTS (SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = i.ino)
                 AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino AND "
            ),
            to_send!(),
            ") ORDER BY i.last_use"
        );
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut folders = HashMap::new();
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            let inode = codec::inode(row)?;
            let Some(place) = &inode.local else { continue };
            let above = self.folder_pin(place.parent, &mut folders)?;
            if inode.pin.under(above, inode.kind) != Pin::Pinned {
                found.push(inode);
            }
        }
        Ok(found)
    }

    /// Whether bytes of a file may be given back: nothing of it is unsent, it has a base and is not pinned.
    pub fn is_evictable(&self, ino: Ino) -> Result<bool> {
        let sql = concat!(
            "SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = ?1
             AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = ?1 AND ",
            to_send!(),
            ")"
        );
        Ok(self.any(sql, [int(ino.0)])? && self.effective_pin(ino)? != Pin::Pinned)
    }

    /// When a file was last used, nanoseconds since 1970, as far as it was written down.
    pub fn last_use(&self, ino: Ino) -> Result<i64> {
        let sql = "SELECT last_use FROM inode WHERE ino = ?1";
        Ok(self.one(sql, [int(ino.0)], |row| row.get(0))?.unwrap_or_default())
    }

    /// Files with bytes here that may be freed and were not used since then, nanoseconds since 1970; the longest unused first.
    pub fn unused_since(&self, before: i64, limit: usize) -> Result<Vec<Ino>> {
        let sql = "SELECT i.ino FROM inode i INDEXED BY inode_use
                   WHERE i.content > 0 AND i.kind = 0 AND i.last_use < ?1 AND i.parent IS NOT NULL
                     AND EXISTS (SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = i.ino)
                     AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino)
                   ORDER BY i.last_use LIMIT ?2";
        self.all(sql, (before, count(limit)), |row| codec::ino(row, 0))
    }

    /// The data files that rows need, by inode, with numbers beyond `after`, in order; for the sweep.
    pub fn data_files(&self, after: Ino, limit: usize) -> Result<Vec<(Ino, Generation)>> {
        let sql = "SELECT ino, generation FROM inode
                   WHERE ino > ?1 AND kind = 0 AND content > 0 ORDER BY ino LIMIT ?2";
        self.all(sql, (int(after.0), count(limit)), |row| {
            Ok((codec::ino(row, 0)?, Generation(codec::number(row, 1)?)))
        })
    }
}
