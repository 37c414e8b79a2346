//! What the catalog answers about the outbox, what to look at, and the endpoint.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::codec::{self, attempt_sql, int};
use super::reader_names::count;
use super::tx_rows::rescue_key;
use super::{Endpoint, OutboxItem, PendingItem, Reader, Result, Sums, Totals};
use crate::model::guard::{Destruction, Waiting};
use crate::model::{Attempt, Base, Content, Edition, Generation, Ino, Node, OutboxRow, Tick};

/// Leaves out rows that only wait until a version seen at the remote can be relied on: nothing of ours is to be sent. 31 is
/// `Touched::ALL`.
macro_rules! to_send {
    () => {
        "(o.attempt IS NOT NULL OR NOT EXISTS (
            SELECT 1 FROM base y JOIN inode n ON n.ino = y.ino
            WHERE y.endpoint = 0 AND y.ino = o.ino AND y.young = 1 AND y.edition = n.edition AND n.retouched & 31 = 0
              AND y.parent = n.parent AND y.name = n.name))"
    };
}
pub(super) use to_send;

impl Reader {
    /// Its row as the decisions see it (as in `Rows`).
    pub(super) fn node_row(&self, ino: Ino) -> Result<Option<Node>> {
        let sql =
            "SELECT kind, parent, name, edition, content, retouched & 31 FROM inode WHERE ino = ?1";
        self.one(sql, [int(ino.0)], |row| {
            Ok(Node {
                ino,
                kind: codec::kind(row, 0)?,
                local: codec::place(row, 1)?,
                edition: Edition(codec::number(row, 3)?),
                hydrated: codec::content(row, 4)? == Content::Hydrated,
                retouched: row.get(5)?,
            })
        })
    }

    /// What the remote last had of it (as in `Rows`).
    pub fn base(&self, ino: Ino) -> Result<Option<Base>> {
        self.one(codec::BASE, [int(ino.0)], codec::base)
    }

    /// Its outbox row (as in `Rows`).
    pub fn outbox(&self, ino: Ino) -> Result<Option<OutboxRow>> {
        let sql = attempt_sql!("ours, released, held FROM outbox WHERE endpoint = 0 AND ino = ?1");
        self.one(sql, [int(ino.0)], |row| {
            Ok(OutboxRow {
                attempt: codec::attempt(row)?,
                ours: codec::ours(row.get::<_, Option<Vec<u8>>>(8)?.as_deref()),
                released: row.get(9)?,
                held: row.get(10)?,
            })
        })
    }

    /// All inodes with an attempt without an outcome.
    pub fn attempts(&self) -> Result<Vec<(Ino, Attempt)>> {
        let sql = attempt_sql!(
            "ino FROM outbox INDEXED BY outbox_attempt WHERE endpoint = 0 AND attempt IS NOT NULL"
        );
        let found = self.all(sql, [], |row| {
            let ino = codec::ino(row, 8)?;
            Ok(codec::attempt(row)?.map(|attempt| (ino, attempt)))
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Its outbox row with times and errors.
    pub fn outbox_item(&self, ino: Ino) -> Result<Option<OutboxItem>> {
        let sql = "SELECT ino, since, not_before, tries, error, error_kind
                   FROM outbox WHERE endpoint = 0 AND ino = ?1";
        self.one(sql, [int(ino.0)], |row| {
            Ok(OutboxItem {
                ino: codec::ino(row, 0)?,
                since: row.get(1)?,
                not_before: row.get(2)?,
                tries: row.get(3)?,
                error: row.get(4)?,
                error_kind: row.get(5)?,
            })
        })
    }

    /// Outbox rows whose time has come, the one waiting longest first; a row that was tried goes to the end.
    pub fn outbox_due(&self, now: i64, limit: usize) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM outbox WHERE endpoint = 0 AND due <= ?1 ORDER BY due LIMIT ?2";
        self.all(sql, (now, count(limit)), |row| codec::ino(row, 0))
    }

    /// The same of files that are all here.
    pub fn outbox_due_here(&self, now: i64, limit: usize) -> Result<Vec<Ino>> {
        let sql = "SELECT o.ino FROM outbox o CROSS JOIN inode i ON i.ino = o.ino
                   WHERE o.endpoint = 0 AND o.due <= ?1 AND i.kind = 0 AND i.content = ?2 ORDER BY o.due LIMIT ?3";
        let here = codec::content_code(Content::Hydrated);
        self.all(sql, (now, here, count(limit)), |row| codec::ino(row, 0))
    }

    /// The same without files of more than `most` bytes, of times since `from`; each with its time.
    pub fn outbox_due_small(
        &self,
        from: i64,
        now: i64,
        most: u64,
        limit: usize,
    ) -> Result<Vec<(Ino, i64)>> {
        let sql = "SELECT o.ino, o.due FROM outbox o CROSS JOIN inode i ON i.ino = o.ino
                   WHERE o.endpoint = 0 AND o.due BETWEEN ?1 AND ?2 AND i.size <= ?3 ORDER BY o.due LIMIT ?4";
        let most = count(usize::try_from(most).unwrap_or(usize::MAX));
        self.all(sql, (from, now, most, count(limit)), |row| Ok((codec::ino(row, 0)?, row.get(1)?)))
    }

    /// Whether the time of this inode's outbox row has come.
    pub fn is_due(&self, ino: Ino, now: i64) -> Result<bool> {
        let sql = "SELECT 1 FROM outbox WHERE endpoint = 0 AND ino = ?1 AND due <= ?2";
        self.any(sql, (int(ino.0), now))
    }

    /// Whether more than so many rows are about what the remote has and nobody let go or holds: only these can yet remove or
    /// overwrite something there.
    pub fn has_more_of_the_remote(&self, than: usize) -> Result<bool> {
        let sql = "SELECT count(*) FROM
                       (SELECT 1 FROM outbox o CROSS JOIN base b ON b.endpoint = o.endpoint AND b.ino = o.ino
                        WHERE o.endpoint = 0 AND o.released = 0 AND o.held = 0 LIMIT ?1)";
        let found: Option<i64> = self.one(sql, [count(than) + 1], |row| row.get(0))?;
        Ok(found.unwrap_or(0) > count(than))
    }

    /// Files of the remote whose rows wait and were let go by nobody; of held ones only those since `from`.
    pub fn may_be_destructions(&self, from: i64) -> Result<Vec<Waiting>> {
        let sql = "SELECT o.ino, o.since, b.parent, o.held, i.parent IS NULL OR i.edition <> b.edition FROM outbox o
                   CROSS JOIN base b ON b.endpoint = 0 AND b.ino = o.ino
                   CROSS JOIN inode i ON i.ino = o.ino
                   WHERE o.endpoint = 0 AND o.released = 0 AND i.kind = 0 AND b.name NOT GLOB '.dewfs-*'
                     AND (o.held = 0 OR o.since >= ?1)";
        self.all(sql, [from], |row| {
            let (ino, folder) = (codec::ino(row, 0)?, codec::ino(row, 2)?);
            let one = Destruction { ino, since: row.get(1)?, folder, gone: false, waits: true };
            Ok(Waiting { one, is_held: row.get(3)?, is_sure: row.get(4)? })
        })
    }

    /// Items that the mass-change guard holds, the oldest first, with since when.
    pub fn held(&self, limit: usize) -> Result<Vec<(Ino, i64)>> {
        let sql = "SELECT ino, since FROM outbox INDEXED BY outbox_held
                   WHERE endpoint = 0 AND held = 1 ORDER BY since LIMIT ?1";
        self.all(sql, [count(limit)], |row| Ok((codec::ino(row, 0)?, row.get(1)?)))
    }

    /// How many items the mass-change guard holds.
    pub fn held_count(&self) -> Result<u64> {
        let sql =
            "SELECT COUNT(*) FROM outbox INDEXED BY outbox_held WHERE endpoint = 0 AND held = 1";
        Ok(self.one(sql, [], |row| codec::number(row, 0))?.unwrap_or(0))
    }

    /// How many files, or with `folders` entries of any kind, the remote has in a folder, at any depth; stops counting at
    /// `enough`.
    pub fn base_below(&self, folder: Ino, folders: bool, enough: usize) -> Result<usize> {
        let sql = "WITH RECURSIVE below (ino, kind) AS (
                       SELECT b.ino, i.kind FROM base b JOIN inode i ON i.ino = b.ino
                       WHERE b.endpoint = 0 AND b.parent = ?1
                       UNION ALL
                       SELECT b.ino, i.kind FROM below d CROSS JOIN base b ON b.endpoint = 0 AND b.parent = d.ino
                       JOIN inode i ON i.ino = b.ino WHERE d.kind = 1)
                   SELECT COUNT(*) FROM (SELECT 1 FROM below WHERE kind = 0 OR ?2 LIMIT ?3)";
        let found: Option<i64> =
            self.one(sql, (int(folder.0), folders, count(enough)), |row| row.get(0))?;
        Ok(usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX))
    }

    /// When the first outbox row may go of those that may not go at `moment` yet, nanoseconds since 1970.
    pub fn next_due_after(&self, moment: i64) -> Result<Option<i64>> {
        let sql = "SELECT due FROM outbox WHERE endpoint = 0 AND due > ?1 ORDER BY due LIMIT 1";
        self.one(sql, [moment], |row| row.get(0))
    }

    /// All inodes with an outbox row.
    pub fn outbox_inodes(&self) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM outbox WHERE endpoint = 0 ORDER BY since, ino";
        self.all(sql, [], |row| codec::ino(row, 0))
    }

    /// Whether there is something of ours to send of it.
    pub fn is_to_be_sent(&self, ino: Ino) -> Result<bool> {
        let sql =
            concat!("SELECT 1 FROM outbox o WHERE endpoint = 0 AND ino = ?1 AND ", to_send!());
        self.any(sql, [int(ino.0)])
    }

    /// Items not in sync, the oldest first, for people.
    pub fn pending(&self, limit: usize) -> Result<Vec<PendingItem>> {
        let sql = concat!(
            "SELECT ino, since, not_before, tries, error, attempt IS NOT NULL
             FROM outbox o WHERE endpoint = 0 AND ",
            to_send!(),
            " ORDER BY since, ino LIMIT ?1"
        );
        self.all(sql, [count(limit)], |row| {
            Ok(PendingItem {
                ino: codec::ino(row, 0)?,
                since: time(row.get(1)?),
                not_before: row.get::<_, Option<i64>>(2)?.map(time),
                tries: row.get(3)?,
                error: row.get(4)?,
                attempting: row.get(5)?,
            })
        })
    }

    /// Counts of everything.
    pub fn totals(&self) -> Result<Totals> {
        let counted = |sql: &str| -> Result<u64> {
            Ok(self.one(sql, [], |row| codec::number(row, 0))?.unwrap_or(0))
        };
        Ok(Totals {
            items: self.sums()?.items,
            pending: counted(concat!(
                "SELECT COUNT(*) FROM outbox o WHERE endpoint = 0 AND ",
                to_send!()
            ))?,
            errors: counted(
                "SELECT COUNT(*) FROM outbox INDEXED BY outbox_error WHERE endpoint = 0 AND error IS NOT NULL",
            )?,
            unlisted: counted("SELECT COUNT(*) FROM base WHERE endpoint = 0 AND listed = 0")?,
            conflicts: counted("SELECT COUNT(*) FROM inode WHERE conflict = 1")?,
        })
    }

    /// How many outbox rows failed last time, by the engine's word for why.
    pub fn errors_by_kind(&self) -> Result<Vec<(String, u64)>> {
        let sql = "SELECT COALESCE(error_kind, ''), COUNT(*) FROM outbox INDEXED BY outbox_error
                   WHERE endpoint = 0 AND error IS NOT NULL GROUP BY 1";
        self.all(sql, [], |row| Ok((row.get(0)?, codec::number(row, 1)?)))
    }

    /// Items and their sizes, at the cost of one row.
    pub fn sums(&self) -> Result<Sums> {
        let sums = self.one("SELECT items, bytes FROM counter", [], |row| {
            let never_below_0 = |value: i64| u64::try_from(value).unwrap_or(0);
            Ok(Sums { items: never_below_0(row.get(0)?), bytes: never_below_0(row.get(1)?) })
        })?;
        Ok(sums.unwrap_or_default())
    }

    /// All inodes missing at the remote, with since when.
    pub fn all_missing(&self) -> Result<Vec<(Ino, Tick)>> {
        let sql = "SELECT ino, since FROM missing WHERE endpoint = 0";
        self.all(sql, [], |row| Ok((codec::ino(row, 0)?, Tick(codec::number(row, 1)?))))
    }

    /// The folders of which the remote noted something for itself.
    pub fn noted_folders(&self) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM base WHERE endpoint = 0 AND listed = 0 AND extra IS NOT NULL
             UNION ALL SELECT ino FROM base WHERE endpoint = 0 AND listed = 1 AND extra IS NOT NULL";
        self.all(sql, [], |row| codec::ino(row, 0))
    }

    /// Since when the remote has not had it where we thought, if so.
    pub fn missing_since(&self, ino: Ino) -> Result<Option<Tick>> {
        let sql = "SELECT since FROM missing WHERE endpoint = 0 AND ino = ?1";
        self.one(sql, [int(ino.0)], |row| codec::number(row, 0).map(Tick))
    }

    /// Since when this folder waits to be looked at again, if so.
    pub fn look_again_since(&self, folder: Ino) -> Result<Option<Tick>> {
        let sql = "SELECT since FROM look_again WHERE endpoint = 0 AND folder = ?1";
        self.one(sql, [int(folder.0)], |row| codec::number(row, 0).map(Tick))
    }

    /// Whether a folder is marked look-again that was not tried yet.
    pub fn has_fresh_look(&self) -> Result<bool> {
        self.any("SELECT 1 FROM look_again WHERE endpoint = 0 AND tries = 0", [])
    }

    /// Folders marked look-again whose time has come, the oldest mark first.
    pub fn look_again_due(&self, now: i64, limit: usize) -> Result<Vec<(Ino, Tick)>> {
        let sql = "SELECT folder, since FROM look_again WHERE endpoint = 0 AND due <= ?1
                   ORDER BY due, since LIMIT ?2";
        self.all(sql, (now, count(limit)), |row| {
            Ok((codec::ino(row, 0)?, Tick(codec::number(row, 1)?)))
        })
    }

    /// When the next look-again mark comes due, nanoseconds since 1970 (0: at once).
    pub fn next_look(&self) -> Result<Option<i64>> {
        let sql = "SELECT due FROM look_again WHERE endpoint = 0 ORDER BY due LIMIT 1";
        self.one(sql, [], |row| row.get(0))
    }

    /// Whether a folder marked look-again up to this tick, or with all below it, was not even tried since.
    pub fn is_left_to_look(&self, until: Tick) -> Result<bool> {
        let sql = "SELECT 1 FROM look_again
                   WHERE endpoint = 0 AND due = 0 AND (deep = 1 OR since <= ?1)";
        self.any(sql, [int(until.0)])
    }

    /// Listed folders, the one looked at longest ago first, with when that was (nanoseconds since 1970, 0: not noted).
    pub fn oldest_looks(&self, limit: usize) -> Result<Vec<(Ino, i64)>> {
        let sql = "SELECT ino, looked FROM base WHERE endpoint = 0 AND listed = 1
                   ORDER BY looked LIMIT ?1";
        self.all(sql, [count(limit)], |row| Ok((codec::ino(row, 0)?, row.get(1)?)))
    }

    /// When the listed folder looked at longest ago was looked at; those made here and never looked at do not count.
    pub fn oldest_look(&self) -> Result<Option<i64>> {
        let sql = "SELECT looked FROM base WHERE endpoint = 0 AND listed = 1 AND looked > 0
                   ORDER BY looked LIMIT 1";
        self.one(sql, [], |row| row.get(0))
    }

    /// When a listed folder was looked at (nanoseconds since 1970, 0: not noted); `None` if it is not listed.
    pub fn looked(&self, folder: Ino) -> Result<Option<i64>> {
        let sql = "SELECT looked FROM base WHERE endpoint = 0 AND ino = ?1 AND listed = 1";
        self.one(sql, [int(folder.0)], |row| row.get(0))
    }

    /// Conflict copies made here and not resolved.
    pub fn conflicts(&self, limit: usize) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM inode WHERE conflict = 1 ORDER BY ino LIMIT ?1";
        self.all(sql, [count(limit)], |row| codec::ino(row, 0))
    }

    /// Whether this is a conflict copy made here and not resolved.
    pub fn is_conflict(&self, ino: Ino) -> Result<bool> {
        self.any("SELECT 1 FROM inode WHERE ino = ?1 AND conflict = 1", [int(ino.0)])
    }

    /// Cursor and identity.
    pub fn endpoint(&self) -> Result<Endpoint> {
        let sql = "SELECT cursor, identity FROM endpoint WHERE endpoint = 0";
        let found =
            self.one(sql, [], |row| Ok(Endpoint { cursor: row.get(0)?, identity: row.get(1)? }))?;
        Ok(found.unwrap_or_default())
    }

    /// Whether this data file is to be kept in `recovered/`, for edits in it that can never be made whole.
    pub fn is_to_be_rescued(&self, ino: Ino, generation: Generation) -> Result<bool> {
        Ok(self.state(&rescue_key(ino, generation))?.is_some())
    }

    /// A value that the engine keeps under a key of its own.
    pub fn state(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.one("SELECT value FROM state WHERE key = ?1", [key], |row| row.get(0))
    }
}

fn time(nanoseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}
