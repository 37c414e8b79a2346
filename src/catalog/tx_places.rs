//! How places and bases are changed.

use super::codec::{self, int};
use super::{CatalogError, Change, Origin, Result, Tx};
use crate::model::{Base, Edition, Generation, Ino, Kind, Name, Place, Touched};

impl Tx {
    /// Moves an inode to a local place or takes its place away. It may try again there whatever the remote refused before.
    pub(super) fn move_local(&mut self, ino: Ino, place: Option<Place>) -> Result<()> {
        let sql = "SELECT parent, name, size, conflict, kind FROM inode WHERE ino = ?1";
        let old = self.one(sql, [int(ino.0)], |row| {
            let (size, conflict) = (row.get::<_, i64>(2)?, row.get::<_, bool>(3)?);
            Ok((codec::place(row, 0)?, size, conflict, codec::kind(row, 4)?))
        })?;
        let Some((old, size, was_conflict, kind)) = old else {
            return Err(CatalogError::NoInode(ino.0));
        };
        if old == place {
            return Ok(());
        }
        // A conflict copy is one beside its original, until somebody gives it another place or name.
        let conflict = place.as_ref().is_some_and(|place| self.conflict_names.contains(place));
        let moved = self.run_on(
            ino,
            "UPDATE inode SET parent = ?2, name = ?3, conflict = ?4 WHERE ino = ?1",
            (
                int(ino.0),
                place.as_ref().map(|place| int(place.parent.0)),
                place.as_ref().map(|place| place.name.as_bytes()),
                conflict,
            ),
        );
        moved.map_err(|error| taken(error, place.as_ref().map(|place| &place.name)))?;
        self.memory.note_unnamed(ino, place.is_none() && self.origin == Origin::Engine);
        if place.is_none() && kind == Kind::Folder && self.origin != Origin::Engine {
            self.removed.push(ino);
        }
        match (&old, &place) {
            (None, Some(_)) => self.count(1, size),
            (Some(_), None) => self.count(-1, -size),
            _ => {}
        }
        if conflict != was_conflict {
            self.tell(Change::Conflict(ino));
        }
        self.wake(ino)?;
        for place in old.iter().chain(&place) {
            self.touch_by_others(place.parent)?;
        }
        self.tell_names(ino, old, place);
        Ok(())
    }

    /// What others change among a folder's names moves its times, as it does on a disk. What its first listing brings was
    /// there before.
    pub(super) fn touch_by_others(&mut self, folder: Ino) -> Result<()> {
        if self.origin != Origin::Engine {
            return Ok(());
        }
        let sql =
            "UPDATE inode SET mtime = ?2, ctime = ?2 WHERE ino = ?1 AND kind = 1 AND mtime <> ?2
             AND NOT EXISTS (SELECT 1 FROM base WHERE endpoint = 0 AND ino = ?1 AND listed = 0)";
        if self.run_beside(sql, (int(folder.0), self.now))? > 0 {
            self.tell(Change::Attributes(folder));
        }
        Ok(())
    }

    fn tell_names(&mut self, ino: Ino, old: Option<Place>, new: Option<Place>) {
        if self.origin != Origin::Engine {
            return;
        }
        if let Some(Place { parent, name }) = old {
            self.tell(Change::Name { parent, name, gone: Some(ino) });
        }
        if let Some(Place { parent, name }) = new {
            self.tell(Change::Name { parent, name, gone: None });
        }
    }

    pub(super) fn put_base(&mut self, ino: Ino, base: &Base) -> Result<()> {
        let sql = "SELECT i.kind, b.parent, b.listed FROM inode i
                   LEFT JOIN base b ON b.endpoint = 0 AND b.ino = i.ino WHERE i.ino = ?1";
        let old = self.one(sql, [int(ino.0)], |row| {
            let parent = row.get::<_, Option<i64>>(1)?.map(|parent| Ino(parent.cast_unsigned()));
            Ok((codec::kind(row, 0)?, parent, row.get::<_, Option<bool>>(2)?))
        })?;
        let Some((kind, parent, was_listed)) = old else {
            return Err(CatalogError::NoInode(ino.0));
        };
        if let Some(parent) = parent {
            self.touch_now(parent)?;
        }
        let listed = (kind == Kind::Folder).then_some(base.listed);
        let (known_size, known_hash) =
            base.known.map(|known| (int(known.size), known.hash)).unzip();
        let put = self.run_on(
            ino,
            "INSERT INTO base (endpoint, ino, parent, name, version, remote_id, edition, known_size, known_hash, young,
                               listed, size, extra)
             VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (endpoint, ino) DO UPDATE SET
                 parent = excluded.parent, name = excluded.name, version = excluded.version,
                 remote_id = excluded.remote_id, edition = excluded.edition, known_size = excluded.known_size,
                 known_hash = excluded.known_hash, young = excluded.young, listed = excluded.listed,
                 size = excluded.size, extra = excluded.extra",
            rusqlite::params![
                int(ino.0),
                int(base.place.parent.0),
                base.place.name.as_bytes(),
                base.version.0,
                base.id.as_ref().map(|id| &id.0),
                int(base.edition.0),
                known_size,
                known_hash,
                base.young,
                listed,
                int(base.size),
                base.extra,
            ],
        );
        put.map_err(|error| taken(error, Some(&base.place.name)))?;
        self.touch_now(base.place.parent)?;
        // What is here is what is there: nothing was written since.
        self.run_beside(
            "UPDATE inode SET edited = 0, retouched = retouched & ~?3 WHERE ino = ?1 AND edition = ?2 AND (edited = 1 OR retouched & ?3)",
            (int(ino.0), int(base.edition.0), Touched::NEW.0),
        )?;
        if listed == Some(true) && was_listed != Some(true) {
            self.tell(Change::Listed(ino));
        }
        Ok(())
    }

    pub(super) fn drop_base(&mut self, ino: Ino) -> Result<()> {
        if let Some(place) = self.base_place(ino)? {
            self.run_on(ino, "DELETE FROM base WHERE endpoint = 0 AND ino = ?1", [int(ino.0)])?;
            self.touch_now(place.parent)?;
        }
        self.run_on(ino, "DELETE FROM missing WHERE endpoint = 0 AND ino = ?1", [int(ino.0)])?;
        self.run("DELETE FROM look_again WHERE endpoint = 0 AND folder = ?1", [int(ino.0)])?;
        Ok(())
    }

    /// Makes an inode stand for a content of which no bytes are here, in the next generation. The time that a user set was that
    /// of the old content; what else was set is to be sent still, but for what it `forgets`.
    pub(super) fn stand_for(
        &mut self,
        ino: Ino,
        edition: Edition,
        size: u64,
        mtime: Option<i64>,
        mode: Option<u32>,
        forgets: Touched,
    ) -> Result<()> {
        let generation = self.forget_bytes(ino)?;
        self.resize(ino, size)?;
        self.run_on(
            ino,
            "UPDATE inode SET generation = ?2, edition = ?3, edited = 0, mtime = COALESCE(?4, mtime), ctime = ?5,
                              mode = CASE WHEN retouched & ?7 THEN mode ELSE COALESCE(?6, mode) END,
                              retouched = retouched & ~?8
             WHERE ino = ?1",
            (
                int(ino.0),
                int(generation.next().0),
                int(edition.0),
                mtime,
                self.now,
                mode,
                Touched::MODE.0,
                forgets.0 | Touched::MTIME.0 | Touched::NEW.0,
            ),
        )?;
        self.tell(Change::Content(ino));
        Ok(())
    }

    /// Drops block set, stamp and data file; answers the generation that was. The caller moves on to another one, so that
    /// what is fetched next never meets the late unlinking of the old data file.
    pub(super) fn forget_bytes(&mut self, ino: Ino) -> Result<Generation> {
        let sql = "SELECT generation, kind FROM inode WHERE ino = ?1";
        let old =
            self.one(sql, [int(ino.0)], |row| Ok((codec::number(row, 0)?, codec::kind(row, 1)?)))?;
        let Some((generation, kind)) = old else {
            return Err(CatalogError::NoInode(ino.0));
        };
        let generation = Generation(generation);
        if kind == Kind::File {
            self.run_on(
                ino,
                "UPDATE inode SET content = 0, stamp_size = NULL, stamp_ctime = NULL, mtime_of_data = NULL
                 WHERE ino = ?1",
                [int(ino.0)],
            )?;
            self.run("DELETE FROM presence WHERE ino = ?1", [int(ino.0)])?;
            // Of a placeholder as well: bytes may have come that no row tells of yet.
            self.tell(Change::Forgotten { ino, generation });
        }
        Ok(generation)
    }

    /// Sets the shown size and counts the difference.
    pub(super) fn resize(&mut self, ino: Ino, size: u64) -> Result<()> {
        let sql = "SELECT size, parent IS NOT NULL FROM inode WHERE ino = ?1";
        let old = self.one(sql, [int(ino.0)], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        let Some((old, named)) = old else { return Err(CatalogError::NoInode(ino.0)) };
        if old != int(size) {
            self.run_beside("UPDATE inode SET size = ?2 WHERE ino = ?1", (int(ino.0), int(size)))?;
            if named {
                self.count(0, int(size) - old);
            }
        }
        Ok(())
    }

    /// Lets an outbox row that was put off go now.
    pub(super) fn wake(&mut self, ino: Ino) -> Result<()> {
        let woken = self.run_beside(
            "UPDATE outbox SET not_before = NULL, due = ?2, error = NULL, error_kind = NULL
             WHERE endpoint = 0 AND ino = ?1 AND (not_before IS NOT NULL OR error IS NOT NULL)",
            (int(ino.0), self.steady),
        )?;
        if woken > 0 {
            self.tell(Change::Outbox);
        }
        Ok(())
    }

    /// The number given to the row inserted last.
    pub(super) fn last_ino(&self) -> Ino {
        Ino(self.connection.last_insert_rowid().cast_unsigned())
    }
}

/// Names what is taken.
pub(super) fn taken(error: CatalogError, name: Option<&Name>) -> CatalogError {
    match (error, name) {
        (CatalogError::Taken(_), Some(name)) => CatalogError::Taken(name.to_string()),
        (other, _) => other,
    }
}
