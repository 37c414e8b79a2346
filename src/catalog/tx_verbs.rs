//! The engine's own verbs on names, attributes, pins, the outbox and the endpoint.

use super::codec::{self, int};
use super::tx_places::taken;
use super::tx_rows::rescue_key;
use super::{Attributes, CatalogError, Change, Inode, NewInode, Origin, Result, SetAttributes, Tx};
use crate::model::{Content, Edition, Generation, Ino, Kind, Pin, Place, Rows as _, Touched};

impl Tx {
    /// Creates a local inode, with an outbox row if a remote is to get it; its folder's times follow. `Taken` if somebody is
    /// there, `NoInode` if the folder is none.
    pub fn create(&mut self, new: NewInode) -> Result<Inode> {
        let NewInode { kind, place, mode, uid, gid, now, target, rests } = new;
        self.touch_times(place.parent, now)?;
        let edition = Edition(self.next_tick()?.0);
        let size = target.as_ref().map_or(0, |target| target.len() as u64);
        let edited = kind == Kind::File;
        let touched = Touched::default().with(Touched::NEW, edited);
        let made = self.run_new(
            "INSERT INTO inode (parent, name, kind, edition, content, edited, size, mtime, atime, ctime, mode, uid, gid,
                                last_use, target, retouched)
             VALUES (?1, ?2, ?3, ?4, 2, ?5, ?6, ?7, ?7, ?7, ?8, ?9, ?10, ?7, ?11, ?12)",
            rusqlite::params![
                int(place.parent.0),
                place.name.as_bytes(),
                codec::kind_code(kind),
                int(edition.0),
                edited,
                int(size),
                now,
                mode,
                uid,
                gid,
                target,
                touched.0,
            ],
        );
        let ino = made.map_err(|error| taken(error, Some(&place.name)))?;
        self.count(1, int(size));
        let pending = !kind.is_local_only() && !self.is_excluded_place(&place, kind)?;
        if pending {
            self.put_pending(ino, rests)?;
        }
        if self.origin == Origin::Engine {
            let (parent, name) = (place.parent, place.name.clone());
            self.tell(Change::Name { parent, name, gone: None });
        }
        let attributes =
            Attributes { size, mtime: now, atime: now, ctime: now, mode: Some(mode), uid, gid };
        Ok(Inode {
            ino,
            kind,
            local: Some(place),
            generation: Generation(0),
            edition,
            attributes,
            content: Content::Hydrated,
            edited,
            stamp: None,
            mtime_of_data: None,
            pin: Pin::Unspecified,
            listed: true,
            pending,
            touched,
            target,
        })
    }

    /// Gives so many inode numbers to nobody.
    pub fn skip_numbers(&mut self, count: u32) -> Result<()> {
        let sql = "UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name = 'inode'";
        self.run(sql, [count]).map(drop)
    }

    /// Sets a folder's mtime and ctime to `now`: an entry came or went. `NoInode` if it is no folder.
    pub fn touch_times(&mut self, folder: Ino, now: i64) -> Result<()> {
        let sql = "UPDATE inode SET mtime = ?2, ctime = ?2 WHERE ino = ?1 AND kind = 1";
        if self.run_beside(sql, (int(folder.0), now))? == 0 {
            return Err(CatalogError::NoInode(folder.0));
        }
        self.tell_attributes(folder);
        Ok(())
    }

    /// Sets what a user set. Does not make an outbox row.
    pub fn set_attributes(&mut self, ino: Ino, set: SetAttributes) -> Result<()> {
        let changed = self.run_beside(
            "UPDATE inode SET
                 mode = COALESCE(?2, mode), uid = COALESCE(?3, uid), gid = COALESCE(?4, gid),
                 atime = COALESCE(?5, atime), mtime = COALESCE(?6, mtime), ctime = COALESCE(?7, ctime),
                 mtime_of_data = CASE WHEN ?6 IS NULL THEN mtime_of_data ELSE ?8 END
             WHERE ino = ?1",
            (
                int(ino.0),
                set.mode,
                set.uid,
                set.gid,
                set.atime,
                set.mtime,
                set.ctime,
                set.mtime_of_data,
            ),
        )?;
        if changed == 0 {
            return Err(CatalogError::NoInode(ino.0));
        }
        self.tell_attributes(ino);
        Ok(())
    }

    /// Sets or replaces an extended attribute.
    pub fn set_xattr(&mut self, ino: Ino, name: &[u8], value: &[u8]) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO xattr (ino, name, value) VALUES (?1, ?2, ?3)";
        self.run(sql, (int(ino.0), name, value)).map(drop)
    }

    /// Removes an extended attribute; `false` if it was not there.
    pub fn remove_xattr(&mut self, ino: Ino, name: &[u8]) -> Result<bool> {
        let sql = "DELETE FROM xattr WHERE ino = ?1 AND name = ?2";
        Ok(self.run(sql, (int(ino.0), name))? > 0)
    }

    /// Inserts an outbox row if there is none and a remote is concerned: it is a file or folder and either has a base or is
    /// to get one. Answers whether there is a row now.
    pub fn mark_pending(&mut self, ino: Ino) -> Result<bool> {
        let Some(node) = self.node(ino)? else { return Err(CatalogError::NoInode(ino.0)) };
        if self.outbox(ino)?.is_some() {
            return Ok(true);
        }
        let has_base = self.base(ino)?.is_some();
        let wanted = match node.local {
            Some(place) if !has_base => !self.is_excluded_place(&place, node.kind)?,
            _ => has_base,
        };
        if ino == Ino::ROOT || node.kind.is_local_only() || !wanted {
            return Ok(false);
        }
        self.put_pending(ino, None)?;
        Ok(true)
    }

    /// Whether something new of this kind would be kept local only in this place, by its name or a folder above. The folders are
    /// those of the change before, mostly, and remembered.
    pub fn is_excluded_place(&self, place: &Place, kind: Kind) -> Result<bool> {
        Ok(self.has_excluded_name(place, kind)?
            || self.is_in_excluded(place.parent, |folder| self.node(folder))?)
    }

    /// An outbox row that goes now, or rests for so long, nanoseconds.
    fn put_pending(&mut self, ino: Ino, rests: Option<i64>) -> Result<()> {
        let not_before = rests.map(|rests| self.steady.saturating_add(rests));
        self.run_on(
            ino,
            "INSERT OR IGNORE INTO outbox (endpoint, ino, since, not_before, due)
             VALUES (0, ?1, ?2, ?3, MAX(?2, COALESCE(?3, ?2)))",
            (int(ino.0), self.steady, not_before),
        )?;
        self.tell(Change::Outbox);
        self.tell(Change::Sync(ino));
        Ok(())
    }

    /// Lets its outbox row go now: no error, no waiting.
    pub fn outbox_wake(&mut self, ino: Ino) -> Result<()> {
        self.wake(ino)
    }

    /// What a daemon left that ran before the clock was set back is not of a time to come.
    pub fn outbox_recover(&mut self) -> Result<()> {
        for sql in [
            "UPDATE outbox SET since = ?1 WHERE endpoint = 0 AND since > ?1",
            "UPDATE base SET looked = 0 WHERE endpoint = 0 AND listed = 1 AND looked > ?1",
            "UPDATE look_again SET due = 0 WHERE endpoint = 0 AND due > ?1",
        ] {
            self.run_beside(sql, [self.steady])?;
        }
        self.outbox_wake_all()
    }

    /// Lets every outbox row go now.
    pub fn outbox_wake_all(&mut self) -> Result<()> {
        self.run_beside(
            "UPDATE outbox SET not_before = NULL, due = ?1 WHERE endpoint = 0 AND not_before IS NOT NULL",
            [self.steady],
        )?;
        self.tell(Change::Outbox);
        Ok(())
    }

    /// Notes that a try failed: the row waits until `not_before` and goes to the end. Answers the tries so far.
    pub fn outbox_failed(
        &mut self,
        ino: Ino,
        error: &str,
        kind: &str,
        not_before: i64,
    ) -> Result<u32> {
        let sql =
            "UPDATE outbox SET tries = tries + 1, error = ?2, error_kind = ?3, not_before = ?4,
                                     due = MAX(?4, ?5)
                   WHERE endpoint = 0 AND ino = ?1 RETURNING tries";
        let tries =
            self.one(sql, (int(ino.0), error, kind, not_before, self.steady), |row| row.get(0))?;
        self.tell(Change::Outbox);
        Ok(tries.unwrap_or(0))
    }

    /// Notes that the remote refused a step without an error to be told of. Answers how often it did before, in a row.
    pub fn outbox_refused(&mut self, ino: Ino) -> Result<u32> {
        let sql = "UPDATE outbox SET tries = tries + 1 WHERE endpoint = 0 AND ino = ?1
                   RETURNING tries - 1";
        let tries = self.one(sql, [int(ino.0)], |row| row.get(0))?;
        Ok(tries.unwrap_or(0))
    }

    /// Notes that a try did something: tries and error are over, and the row goes to the end.
    pub fn outbox_progress(&mut self, ino: Ino) -> Result<()> {
        self.run_beside(
            "UPDATE outbox SET tries = 0, error = NULL, error_kind = NULL, not_before = NULL, due = ?2
             WHERE endpoint = 0 AND ino = ?1",
            (int(ino.0), self.steady),
        )?;
        self.tell(Change::Outbox);
        Ok(())
    }

    /// Notes that a try did something, and that the row goes on not before this time.
    pub fn outbox_rest(&mut self, ino: Ino, not_before: i64) -> Result<()> {
        self.run_beside(
            "UPDATE outbox SET tries = 0, error = NULL, error_kind = NULL, not_before = ?2, due = MAX(?2, ?3)
             WHERE endpoint = 0 AND ino = ?1",
            (int(ino.0), not_before, self.steady),
        )?;
        self.tell(Change::Outbox);
        Ok(())
    }

    /// Puts an outbox row off without an error; without a row nothing happens.
    pub fn outbox_defer(&mut self, ino: Ino, not_before: i64) -> Result<()> {
        let sql =
            "UPDATE outbox SET not_before = ?2, due = MAX(?2, ?3) WHERE endpoint = 0 AND ino = ?1";
        self.run_beside(sql, (int(ino.0), not_before, self.steady)).map(drop)
    }

    /// Puts a look-again mark off because of `cause`, if known; it comes back at once when that one's outbox row goes or
    /// the folder is marked again. The wait (nanoseconds: the first, the longest) doubles each time in a row; answers how many
    /// these were.
    pub fn look_defer(
        &mut self,
        folder: Ino,
        now: i64,
        (first, longest): (i64, i64),
        cause: Option<Ino>,
    ) -> Result<u32> {
        let sql =
            "UPDATE look_again SET due = ?2 + MIN(?3 << MIN(tries, 20), ?4), cause = ?5, tries = tries + 1
                   WHERE endpoint = 0 AND folder = ?1 RETURNING tries";
        let cause = cause.map(|ino| int(ino.0));
        let tries = self.one(sql, (int(folder.0), now, first, longest, cause), |row| row.get(0))?;
        Ok(tries.unwrap_or(0))
    }

    /// Notes that a folder was looked at.
    pub fn looked_at(&mut self, folder: Ino, now: i64) -> Result<()> {
        let sql = "UPDATE base SET looked = ?2 WHERE endpoint = 0 AND ino = ?1";
        self.run_beside(sql, (int(folder.0), now)).map(drop)
    }

    /// Records how far the change feed was applied.
    pub fn set_cursor(&mut self, cursor: Option<&str>) -> Result<()> {
        self.run("UPDATE endpoint SET cursor = ?1 WHERE endpoint = 0", [cursor]).map(drop)
    }

    /// Records who the remote said it is.
    pub fn set_identity(&mut self, identity: Option<&str>) -> Result<()> {
        self.run("UPDATE endpoint SET identity = ?1 WHERE endpoint = 0", [identity]).map(drop)
    }

    /// Keeps a value for the engine under a key of its own; `None` drops it.
    pub fn set_state(&mut self, key: &str, value: Option<&[u8]>) -> Result<()> {
        match value {
            Some(value) => {
                self.run("INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)", (key, value))
            }
            None => self.run("DELETE FROM state WHERE key = ?1", [key]),
        }
        .map(drop)
    }

    /// Notes that a data file that was to be kept is in `recovered/`.
    pub fn rescued(&mut self, ino: Ino, generation: Generation) -> Result<()> {
        self.set_state(&rescue_key(ino, generation), None)
    }

    /// Records when files were last used, nanoseconds since 1970.
    pub fn set_last_use(&mut self, uses: &[(Ino, i64)]) -> Result<()> {
        for (ino, time) in uses {
            let sql = "UPDATE inode SET last_use = ?2 WHERE ino = ?1 AND last_use < ?2";
            self.run_beside(sql, (int(ino.0), *time))?;
        }
        Ok(())
    }

    /// Says that a conflict copy is resolved.
    pub fn resolve_conflict(&mut self, ino: Ino) -> Result<()> {
        let sql = "UPDATE inode SET conflict = 0 WHERE ino = ?1 AND conflict = 1";
        if self.run_beside(sql, [int(ino.0)])? > 0 {
            self.tell(Change::Conflict(ino));
        }
        Ok(())
    }
}
