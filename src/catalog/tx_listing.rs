//! What a listing asks and changes, for many names in few statements.

use std::collections::{HashMap, HashSet};

use rusqlite::types::Value;

use super::codec::{self, int};
use super::tx_places::taken;
use super::{Change, Origin, Result, Tx};
use crate::model::{
    Base, Based, Content, Ino, Kind, Met, Name, Observed, Place, RemoteId, Version,
};

/// Names in one question. A shorter last one asks for its last name again and again, so that there is one statement.
const ASKED: usize = 64;

macro_rules! asked {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " IN (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
                  ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41, ?42,
                  ?43, ?44, ?45, ?46, ?47, ?48, ?49, ?50, ?51, ?52, ?53, ?54, ?55, ?56, ?57, ?58, ?59, ?60, ?61, ?62,
                  ?63, ?64) ",
            $after
        )
    };
}

impl Tx {
    /// The bases in a base folder.
    pub(super) fn bases_of(&self, folder: Ino) -> Result<Vec<(Ino, Base)>> {
        let sql = codec::BASES;
        self.all(sql, [int(folder.0)], |row| Ok((codec::ino(row, 11)?, codec::base(row)?)))
    }

    /// What is known of each of these entries.
    pub(super) fn meet_all(&self, folder: Ino, seen: &[(Name, Observed)]) -> Result<Vec<Met>> {
        let mut met = Vec::with_capacity(seen.len());
        for some in seen.chunks(ASKED) {
            self.meet_some(folder, some, &mut met)?;
        }
        Ok(met)
    }

    fn meet_some(&self, folder: Ino, some: &[(Name, Observed)], met: &mut Vec<Met>) -> Result<()> {
        let names = || some.iter().map(|(name, _)| Value::Blob(name.as_bytes().to_vec()));
        let taken: HashSet<Vec<u8>> = self
            .all(
                asked!("SELECT name FROM inode WHERE parent = ?65 AND name", ""),
                asked(names(), Some(folder)),
                |row| row.get(0),
            )?
            .into_iter()
            .collect();
        let mut based: HashMap<Vec<u8>, Based> = self
            .all(
                asked!(
                    "SELECT b.name, b.ino, i.kind, b.version, b.size, b.remote_id
                     FROM base b CROSS JOIN inode i ON i.ino = b.ino
                     WHERE b.endpoint = 0 AND b.parent = ?65 AND b.name",
                    ""
                ),
                asked(names(), Some(folder)),
                |row| {
                    let based = Based {
                        ino: codec::ino(row, 1)?,
                        kind: codec::kind(row, 2)?,
                        version: Version(row.get(3)?),
                        size: codec::number(row, 4)?,
                        id: row.get::<_, Option<String>>(5)?.map(RemoteId),
                    };
                    Ok((row.get(0)?, based))
                },
            )?
            .into_iter()
            .collect();
        let identified = self.identified(some)?;
        met.extend(some.iter().map(|(name, seen)| Met {
            is_taken: taken.contains(name.as_bytes()),
            based: based.remove(name.as_bytes()),
            identified: seen.id.as_ref().and_then(|id| identified.get(&id.0)).copied(),
        }));
        Ok(())
    }

    fn identified(&self, some: &[(Name, Observed)]) -> Result<HashMap<String, Ino>> {
        let ids: Vec<Value> = some
            .iter()
            .filter_map(|(_, seen)| seen.id.as_ref())
            .map(|id| Value::Text(id.0.clone()))
            .collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let found = self.all(
            asked!(
                "SELECT remote_id, MIN(ino) FROM base WHERE endpoint = 0 AND remote_id",
                "GROUP BY remote_id"
            ),
            asked(ids.into_iter(), None),
            |row| Ok((row.get(0)?, codec::ino(row, 1)?)),
        )?;
        Ok(found.into_iter().collect())
    }

    /// A new entry, in one place here and at the remote.
    pub(super) fn add_at(&mut self, place: &Place, seen: &Observed) -> Result<Ino> {
        let edition = self.next_tick()?;
        let content = match seen.kind {
            Kind::File => Content::Placeholder,
            _ => Content::Hydrated,
        };
        let (now, conflict) = (self.now, self.conflict_names.contains(place));
        let (parent, name) = (int(place.parent.0), place.name.as_bytes());
        let made = self.run(
            "INSERT INTO inode (parent, name, kind, edition, content, size, mtime, atime, ctime, mode, conflict)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10)",
            (
                parent,
                name,
                codec::kind_code(seen.kind),
                int(edition.0),
                codec::content_code(content),
                int(seen.size),
                seen.mtime.unwrap_or(now),
                now,
                seen.mode,
                conflict,
            ),
        );
        made.map_err(|error| taken(error, Some(&place.name)))?;
        let ino = self.last_ino();
        let put = self.run(
            "INSERT INTO base (endpoint, ino, parent, name, version, remote_id, edition, young, listed, size, extra)
             VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            (
                int(ino.0),
                parent,
                name,
                &seen.version.0,
                seen.id.as_ref().map(|id| &id.0),
                int(edition.0),
                seen.kind == Kind::File && !seen.settled,
                (seen.kind == Kind::Folder).then_some(false),
                int(seen.size),
                &seen.extra,
            ),
        );
        put.map_err(|error| taken(error, Some(&place.name)))?;
        self.count(1, int(seen.size));
        self.touch_now(place.parent)?;
        if self.origin == Origin::Engine {
            let Place { parent, name } = place.clone();
            self.tell(Change::Name { parent, name, gone: None });
        }
        Ok(ino)
    }
}

/// The values of one question: as many as it has places, then the folder.
fn asked(values: impl Iterator<Item = Value>, folder: Option<Ino>) -> impl rusqlite::Params {
    let mut values: Vec<Value> = values.take(ASKED).collect();
    let last = values.last().cloned().unwrap_or(Value::Null);
    values.resize(ASKED, last);
    values.extend(folder.map(|folder| Value::Integer(int(folder.0))));
    rusqlite::params_from_iter(values)
}
