//! What a listing asks and changes, for many names in few statements.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use rusqlite::params_from_iter;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::codec::{self, int};
use super::tx_places::taken;
use super::{Change, Origin, Result, Tx};
use crate::model::{Base, Based, Content, Ino, Kind, Met, Name, Observed, RemoteId, Version};

/// Identities in one question. Where there are fewer, the last one is asked for again and again: so it is one statement.
const ASKED: usize = 64;

static IDENTIFIED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT remote_id, MIN(ino) FROM base WHERE endpoint = 0 AND remote_id IN ({}) GROUP BY remote_id",
        vec!["?"; ASKED].join(", ")
    )
});

/// Is one insert of so many rows. There is one for some numbers only, so that few are compiled.
struct Insert {
    rows: usize,
    inode: String,
    base: String,
}

static INSERTS: LazyLock<[Insert; 3]> = LazyLock::new(|| {
    [32, 8, 1].map(|rows| {
        let values = |row: &str| vec![row; rows].join(", ");
        let inode = values("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
        let base = values("(0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
        Insert {
            rows,
            inode: format!(
                "INSERT INTO inode (ino, parent, name, kind, edition, content, size, mtime, atime, ctime, mode, conflict)
                 VALUES {inode}"
            ),
            base: format!(
                "INSERT INTO base (endpoint, ino, parent, name, version, remote_id, edition, known_size, known_hash, young,
                                   listed, size, extra)
                 VALUES {base}"
            ),
        }
    })
});

type Values<'a> = Vec<ToSqlOutput<'a>>;

fn blob(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Blob(bytes))
}

fn text(text: &str) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
}

/// The value, or NULL.
fn or_null<'a, T>(value: Option<T>, put: impl FnOnce(T) -> ToSqlOutput<'a>) -> ToSqlOutput<'a> {
    value.map_or(ToSqlOutput::Owned(Value::Null), put)
}

impl Tx {
    /// The bases in a base folder.
    pub(super) fn bases_of(&self, folder: Ino) -> Result<Vec<(Ino, Base)>> {
        let sql = codec::BASES;
        self.all(sql, [int(folder.0)], |row| Ok((codec::ino(row, 11)?, codec::base(row)?)))
    }

    /// What is known of each of these entries: all between the first and the last of their names is read.
    pub(super) fn meet_all(&self, folder: Ino, seen: &[(Name, Observed)]) -> Result<Vec<Met>> {
        let names = || seen.iter().map(|(name, _)| name.as_bytes());
        let (Some(first), Some(last)) = (names().min(), names().max()) else {
            return Ok(Vec::new());
        };
        let range = (int(folder.0), first, last);
        let sql = "SELECT name FROM inode WHERE parent = ?1 AND name BETWEEN ?2 AND ?3";
        let taken: HashSet<Vec<u8>> = self.all(sql, range, |row| row.get(0))?.into_iter().collect();
        let sql = "SELECT b.name, b.ino, i.kind, b.version, b.size, b.remote_id, b.extra
                   FROM base b CROSS JOIN inode i ON i.ino = b.ino
                   WHERE b.endpoint = 0 AND b.parent = ?1 AND b.name BETWEEN ?2 AND ?3";
        let based = self.all(sql, range, |row| {
            let based = Based {
                ino: codec::ino(row, 1)?,
                kind: codec::kind(row, 2)?,
                version: Version(row.get(3)?),
                size: codec::number(row, 4)?,
                id: row.get::<_, Option<String>>(5)?.map(RemoteId),
                extra: row.get(6)?,
            };
            Ok((row.get(0)?, based))
        })?;
        let based: HashMap<Vec<u8>, Based> = based.into_iter().collect();
        let identified = self.identified(seen)?;
        let met = seen.iter().map(|(name, seen)| Met {
            is_taken: taken.contains(name.as_bytes()),
            based: based.get(name.as_bytes()).cloned(),
            identified: seen.id.as_ref().and_then(|id| identified.get(&id.0)).copied(),
        });
        Ok(met.collect())
    }

    fn identified(&self, seen: &[(Name, Observed)]) -> Result<HashMap<String, Ino>> {
        let ids: Vec<&RemoteId> = seen.iter().filter_map(|(_, seen)| seen.id.as_ref()).collect();
        let mut found = HashMap::new();
        for ids in ids.chunks(ASKED) {
            let again = ids.last().into_iter().cycle();
            let asked = ids.iter().chain(again).take(ASKED);
            let asked = params_from_iter(asked.map(|id| Value::Text(id.0.clone())));
            let some =
                self.all(&IDENTIFIED, asked, |row| Ok((row.get(0)?, codec::ino(row, 1)?)))?;
            found.extend(some);
        }
        Ok(found)
    }

    /// New entries of a folder, in one place here and at the remote.
    pub(super) fn add_all(&mut self, folder: Ino, seen: &[(Name, Observed)]) -> Result<Vec<Ino>> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'inode'";
        let last = self.one(sql, [], |row| codec::number(row, 0))?.unwrap_or(2);
        let mut made = Vec::with_capacity(seen.len());
        let mut rest = seen;
        for insert in INSERTS.iter() {
            while let Some((some, more)) = rest.split_at_checked(insert.rows) {
                self.add_some(folder, last + made.len() as u64, some, insert)?;
                made.extend((1..).map(|ino| Ino(last + ino)).skip(made.len()).take(some.len()));
                rest = more;
            }
        }
        self.touch_now(folder)?;
        self.touch_by_others(folder)?;
        Ok(made)
    }

    /// Makes rows with the numbers after `last`.
    fn add_some(
        &mut self,
        folder: Ino,
        last: u64,
        some: &[(Name, Observed)],
        insert: &Insert,
    ) -> Result<()> {
        let (parent, now) = (int(folder.0), self.now);
        let mut inodes: Values = Vec::with_capacity(some.len() * 12);
        let mut bases: Values = Vec::with_capacity(some.len() * 12);
        for (ino, (name, seen)) in (last + 1..).zip(some) {
            let edition = int(self.next_tick()?.0);
            let is_file = seen.kind == Kind::File;
            let content = if is_file { Content::Placeholder } else { Content::Hydrated };
            let mtime = seen.mtime.unwrap_or(now);
            inodes.extend([
                int(ino).into(),
                parent.into(),
                blob(name.as_bytes()),
                codec::kind_code(seen.kind).into(),
                edition.into(),
                codec::content_code(content).into(),
                int(seen.size).into(),
                mtime.into(),
                mtime.into(),
                now.into(),
                or_null(seen.mode, ToSqlOutput::from),
                self.gave_conflict_name(folder, name).into(),
            ]);
            let listed = (seen.kind == Kind::Folder).then_some(false);
            bases.extend([
                int(ino).into(),
                parent.into(),
                blob(name.as_bytes()),
                text(&seen.version.0),
                or_null(seen.id.as_ref(), |id| text(&id.0)),
                edition.into(),
                or_null(seen.digest, |known| int(known.size).into()),
                or_null(seen.digest, |known| known.hash.to_vec().into()),
                (is_file && !seen.settled).into(),
                or_null(listed, ToSqlOutput::from),
                int(seen.size).into(),
                or_null(seen.extra.as_deref(), blob),
            ]);
            self.count(1, int(seen.size));
            if self.origin == Origin::Engine {
                self.tell(Change::Name { parent: folder, name: name.clone(), gone: None });
            }
        }
        let name = some.first().map(|(name, _)| name);
        self.run(&insert.inode, params_from_iter(inodes)).map_err(|error| taken(error, name))?;
        self.run(&insert.base, params_from_iter(bases)).map_err(|error| taken(error, name))?;
        Ok(())
    }
}
