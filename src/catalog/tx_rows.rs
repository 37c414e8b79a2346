//! The decisions' view of a write transaction.

use super::codec::{self, int};
use super::{CatalogError, Change, Result, Tx};
use crate::model::{
    Attempt, Base, Content, Edition, Generation, Handles, Ino, Kind, Met, Name, Node, Observed,
    OutboxRow, Place, RemoteId, Rows, Shown, Tick, Touched, Version, conflict_name,
};

/// Things kept of an inode's history.
const HISTORY: i64 = 50;

/// Under which key it is kept that an entry of the remote in this folder is covered.
fn covered_key(folder: Ino) -> String {
    format!("covered {}", folder.0)
}

/// Under which key a data file stands that is to be kept in `recovered/`.
pub(super) fn rescue_key(ino: Ino, generation: Generation) -> String {
    format!("rescue {ino}.{generation}")
}

impl Rows for Tx {
    type Error = CatalogError;

    fn node(&self, ino: Ino) -> Result<Option<Node>> {
        self.recall(ino, |memo| &mut memo.nodes, |rows| rows.node_row(ino))
    }

    fn resident(&self, place: &Place) -> Result<Option<Ino>> {
        self.in_local(place.parent, &place.name)
    }

    fn has_children(&self, folder: Ino) -> Result<bool> {
        self.has_entries(folder)
    }

    fn children(&self, folder: Ino) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM inode INDEXED BY inode_folder WHERE parent = ?1 ORDER BY ino";
        self.all(sql, [int(folder.0)], |row| codec::ino(row, 0))
    }

    fn base(&self, ino: Ino) -> Result<Option<Base>> {
        self.recall(ino, |memo| &mut memo.bases, |rows| rows.base(ino))
    }

    fn base_at(&self, place: &Place) -> Result<Option<Ino>> {
        self.in_base(place.parent, &place.name)
    }

    fn base_by_id(&self, id: &RemoteId) -> Result<Option<Ino>> {
        let sql = "SELECT ino FROM base WHERE endpoint = 0 AND remote_id = ?1 ORDER BY ino LIMIT 1";
        self.one(sql, [&id.0], |row| codec::ino(row, 0))
    }

    fn base_children(&self, folder: Ino) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM base WHERE endpoint = 0 AND parent = ?1";
        self.all(sql, [int(folder.0)], |row| codec::ino(row, 0))
    }

    fn bases_in(&self, folder: Ino) -> Result<Vec<(Ino, Base)>> {
        self.bases_of(folder)
    }

    fn meet(&self, folder: Ino, seen: &[(Name, Observed)]) -> Result<Vec<Met>> {
        self.meet_all(folder, seen)
    }

    fn outbox(&self, ino: Ino) -> Result<Option<OutboxRow>> {
        self.recall(ino, |memo| &mut memo.outbox, |rows| rows.outbox(ino))
    }

    fn first_base_child(&self, folder: Ino) -> Result<Option<Ino>> {
        let sql = "SELECT ino FROM base WHERE endpoint = 0 AND parent = ?1 LIMIT 1";
        self.one(sql, [int(folder.0)], |row| codec::ino(row, 0))
    }

    fn outbox_all(&self) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM outbox WHERE endpoint = 0 ORDER BY since, ino";
        self.all(sql, [], |row| codec::ino(row, 0))
    }

    fn looks_deep(&self, folder: Ino) -> Result<bool> {
        let sql = "SELECT deep FROM look_again WHERE endpoint = 0 AND folder = ?1";
        Ok(self.one(sql, [int(folder.0)], |row| row.get(0))?.unwrap_or(false))
    }

    fn attempts(&self) -> Result<Vec<(Ino, Attempt)>> {
        self.recall_attempts()
    }

    fn missing(&self, ino: Ino) -> Result<Option<Tick>> {
        self.recall(ino, |memo| &mut memo.missing, |rows| rows.missing_since(ino))
    }

    fn look_after(&self, tick: Tick) -> Result<Option<(Ino, Tick)>> {
        let sql = "SELECT folder, since FROM look_again
                   WHERE endpoint = 0 AND due = 0 AND since > ?1 ORDER BY since LIMIT 1";
        self.one(sql, [int(tick.0)], |row| Ok((codec::ino(row, 0)?, Tick(codec::number(row, 1)?))))
    }

    fn look_again(&self, folder: Ino) -> Result<Option<Tick>> {
        self.look_again_since(folder)
    }

    fn touched(&self, folder: Ino) -> Tick {
        self.touched_at(folder)
    }

    fn is_listing(&self, folder: Ino) -> bool {
        self.lists.is_listing(folder)
    }

    fn is_needed(&self, folder: Ino) -> bool {
        self.lists.is_needed(folder)
    }

    fn handles(&self, ino: Ino) -> Handles {
        self.memory.handles(ino)
    }

    fn new_below(&self, folder: Ino) -> Result<Vec<Ino>> {
        self.never_had_below(folder)
    }

    fn excludes_paths(&self) -> bool {
        self.excludes_by_path()
    }

    fn is_excluded(&self, place: &Place, kind: Kind) -> Result<bool> {
        self.has_excluded_name(place, kind)
    }

    fn tick(&mut self) -> Result<Tick> {
        self.next_tick()
    }

    fn new_node(&mut self, seen: &Observed) -> Result<Ino> {
        let edition = self.next_tick()?;
        let content = match seen.kind {
            Kind::File => Content::Placeholder,
            _ => Content::Hydrated,
        };
        let now = self.now;
        self.run_new(
            "INSERT INTO inode (kind, edition, content, size, mtime, atime, ctime, mode)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
            (
                codec::kind_code(seen.kind),
                int(edition.0),
                codec::content_code(content),
                int(seen.size),
                seen.mtime.unwrap_or(now),
                now,
                seen.mode,
            ),
        )
    }

    fn new_in(&mut self, folder: Ino, seen: &[(Name, Observed)]) -> Result<Vec<Ino>> {
        self.add_all(folder, seen)
    }

    fn succeed(&mut self, old: Ino) -> Result<Ino> {
        // The data file stays with the old one: of the new one no bytes are here.
        if self.node(old)?.is_none() {
            return Err(CatalogError::NoInode(old.0));
        }
        let new = self.run_new(
            "INSERT INTO inode (kind, edition, content, size, mtime, atime, ctime, mode, uid, gid, pin, last_use, target,
                                retouched)
             SELECT kind, edition, CASE kind WHEN 0 THEN 0 ELSE 2 END, size, mtime, atime, ctime, mode, uid, gid, pin,
                    last_use, target, retouched
             FROM inode WHERE ino = ?1",
            [int(old.0)],
        )?;
        for sql in [
            "INSERT INTO xattr (ino, name, value) SELECT ?2, name, value FROM xattr WHERE ino = ?1",
            "INSERT INTO xattr_unsent (ino, name) SELECT ?2, name FROM xattr_unsent WHERE ino = ?1",
        ] {
            self.run(sql, (int(old.0), int(new.0)))?;
        }
        Ok(new)
    }

    fn set_local(&mut self, ino: Ino, place: Option<Place>) -> Result<()> {
        self.move_local(ino, place)
    }

    fn set_base(&mut self, ino: Ino, base: Option<Base>) -> Result<()> {
        match base {
            Some(base) => self.put_base(ino, &base),
            None => self.drop_base(ino),
        }
    }

    fn set_folder_version(&mut self, folder: Ino, version: Version) -> Result<()> {
        let sql = "UPDATE base SET version = ?2 WHERE endpoint = 0 AND ino = ?1";
        self.run_on(folder, sql, (int(folder.0), version.0))?;
        Ok(())
    }

    fn become_placeholder(&mut self, ino: Ino, seen: &Observed) -> Result<Edition> {
        let edition = Edition(self.next_tick()?.0);
        let mtime = seen.mtime.unwrap_or(self.now);
        self.stand_for(ino, edition, seen.size, Some(mtime), seen.mode, Touched::default())?;
        Ok(edition)
    }

    fn revert_to(&mut self, ino: Ino, base: &Base) -> Result<()> {
        self.forget_unsent(ino)?;
        self.stand_for(ino, base.edition, base.size, None, None, Touched::ALL)
    }

    fn renew_touched(&mut self, ino: Ino) -> Result<()> {
        self.retouch(ino, Touched::NEW)
    }

    fn forget_touched(&mut self, ino: Ino) -> Result<()> {
        self.forget_unsent(ino)?;
        let sql = "UPDATE inode SET retouched = 0, uid = NULL, gid = NULL WHERE ino = ?1";
        self.run_on(ino, sql, [int(ino.0)]).map(drop)
    }

    fn set_sent(&mut self, ino: Ino, shown: &Shown) -> Result<()> {
        self.untouch(ino, shown)
    }

    fn set_outbox(&mut self, ino: Ino, row: OutboxRow) -> Result<()> {
        let attempt = row.attempt.as_ref();
        let place = |place: Option<&Place>| {
            place.map(|place| (int(place.parent.0), place.name.as_bytes().to_vec())).unzip()
        };
        let (source_parent, source_name) = place(attempt.and_then(|one| one.source.as_ref()));
        let (target_parent, target_name) = place(attempt.and_then(|one| one.target.as_ref()));
        let (expect, version) = attempt.map(|one| codec::expect_code(&one.expect)).unzip();
        self.run_on(
            ino,
            "INSERT INTO outbox (endpoint, ino, since, due, attempt, source_parent, source_name, target_parent, target_name,
                                 expect, expect_version, nonce, ours, released, held)
             VALUES (0, ?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (endpoint, ino) DO UPDATE SET
                 attempt = excluded.attempt, source_parent = excluded.source_parent,
                 source_name = excluded.source_name, target_parent = excluded.target_parent,
                 target_name = excluded.target_name, expect = excluded.expect,
                 expect_version = excluded.expect_version, nonce = excluded.nonce, ours = excluded.ours,
                 released = excluded.released, held = excluded.held",
            rusqlite::params![
                int(ino.0),
                self.steady,
                attempt.map(|one| codec::step_code(one.kind)),
                source_parent,
                source_name,
                target_parent,
                target_name,
                expect,
                version.flatten(),
                attempt.map(|one| int(one.nonce)),
                codec::ours_bytes(&row.ours),
                row.released,
                row.held,
            ],
        )?;
        self.tell(Change::Outbox);
        self.tell(Change::Sync(ino));
        Ok(())
    }

    fn renew_outbox(&mut self, ino: Ino) -> Result<()> {
        let sql = "UPDATE outbox SET since = ?2 WHERE endpoint = 0 AND ino = ?1";
        self.run_beside(sql, (int(ino.0), self.steady)).map(drop)
    }

    fn drop_outbox(&mut self, ino: Ino) -> Result<()> {
        let dropped =
            self.run_on(ino, "DELETE FROM outbox WHERE endpoint = 0 AND ino = ?1", [int(ino.0)])?;
        if dropped > 0 {
            self.tell(Change::Outbox);
            self.tell(Change::Sync(ino));
            let woken = self.run(
                "UPDATE look_again SET due = 0, tries = 0, cause = NULL WHERE endpoint = 0 AND cause = ?1",
                [int(ino.0)],
            )?;
            if woken > 0 {
                self.tell(Change::Listing);
            }
        }
        Ok(())
    }

    fn set_missing(&mut self, ino: Ino, since: Option<Tick>) -> Result<()> {
        match since {
            Some(since) => self.run_on(
                ino,
                "INSERT OR REPLACE INTO missing (endpoint, ino, since) VALUES (0, ?1, ?2)",
                (int(ino.0), int(since.0)),
            )?,
            None => {
                let sql = "DELETE FROM missing WHERE endpoint = 0 AND ino = ?1";
                self.run_on(ino, sql, [int(ino.0)])?
            }
        };
        Ok(())
    }

    fn set_look_again(&mut self, folder: Ino, since: Option<Tick>) -> Result<()> {
        let Some(since) = since else {
            let sql = "DELETE FROM look_again WHERE endpoint = 0 AND folder = ?1";
            return self.run(sql, [int(folder.0)]).map(drop);
        };
        // A new reason to look does not wait for the back-off of an old one; how often that was put off stays known.
        let marked = self.run(
            "INSERT INTO look_again (endpoint, folder, since)
             SELECT 0, ?1, ?2 FROM base WHERE endpoint = 0 AND ino = ?1
             ON CONFLICT (endpoint, folder) DO UPDATE SET since = excluded.since, due = 0, cause = NULL",
            (int(folder.0), int(since.0)),
        )?;
        if marked > 0 {
            self.tell(Change::Listing);
        }
        Ok(())
    }

    fn set_look_deep(&mut self, folder: Ino, since: Tick) -> Result<()> {
        self.set_look_again(folder, Some(since))?;
        let sql = "UPDATE look_again SET deep = 1 WHERE endpoint = 0 AND folder = ?1";
        self.run(sql, [int(folder.0)]).map(drop)
    }

    fn is_covered(&self, folder: Ino) -> Result<bool> {
        Ok(self.state(&covered_key(folder))?.is_some())
    }

    fn set_covered(&mut self, folder: Ino, covered: bool) -> Result<()> {
        self.set_state(&covered_key(folder), covered.then_some(&[]))
    }

    fn set_listing(&mut self, folder: Ino, under_way: bool) {
        if under_way {
            self.lists.begin(folder);
        } else {
            self.lists.end(folder);
        }
    }

    fn rescue(&mut self, ino: Ino) -> Result<()> {
        if let Some(generation) = self.unsent(ino)? {
            // Kept until it is done: after a crash the data file would look like one that nothing needs.
            self.set_state(&rescue_key(ino, generation), Some(&[]))?;
            self.tell(Change::Rescued { ino, generation });
        }
        Ok(())
    }

    fn touch_folder(&mut self, folder: Ino) -> Result<()> {
        self.touch_now(folder)
    }

    fn need_list(&mut self, folder: Ino) {
        self.lists.need(folder);
        self.tell(Change::Listing);
    }

    fn forget(&mut self, ino: Ino) -> Result<()> {
        self.move_local(ino, None)?;
        let sql = "DELETE FROM inode WHERE ino = ?1 RETURNING kind, generation";
        self.changing(ino)?;
        let gone = self.one(sql, [int(ino.0)], |row| {
            // Of a placeholder as well: bytes may have come that no row tells of yet.
            let file = codec::kind(row, 0)? == Kind::File;
            Ok(file.then_some(Generation(codec::number(row, 1)?)))
        })?;
        for sql in [
            "DELETE FROM presence WHERE ino = ?1",
            "DELETE FROM xattr WHERE ino = ?1",
            "DELETE FROM xattr_unsent WHERE ino = ?1",
            "DELETE FROM history WHERE ino = ?1",
            "DELETE FROM missing WHERE endpoint = 0 AND ino = ?1",
            "DELETE FROM look_again WHERE endpoint = 0 AND folder = ?1",
            "DELETE FROM state WHERE key = 'covered ' || ?1",
        ] {
            self.run_on(ino, sql, [int(ino.0)])?;
        }
        self.lists.drop_need(ino);
        if let Some(generation) = gone.flatten() {
            self.tell(Change::Forgotten { ino, generation });
        }
        Ok(())
    }

    fn conflict_name(&mut self, place: &Place) -> Result<Place> {
        let when = jiff::Timestamp::from_nanosecond(i128::from(self.now)).unwrap_or_default();
        let when = when.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H.%M.%S");
        let when = when.to_string();
        for nth in 1..1000 {
            let name = conflict_name(&place.name, &when, &self.host, nth);
            if self.in_local(place.parent, &name)?.is_none()
                && self.in_base(place.parent, &name)?.is_none()
            {
                let place = Place::new(place.parent, name);
                self.conflict_names.push(place.clone());
                return Ok(place);
            }
        }
        Err(CatalogError::Taken(format!("every conflict name for {}", place.name)))
    }

    fn note(&mut self, ino: Ino, what: &str) -> Result<()> {
        self.run(
            "INSERT INTO history (ino, time, what) VALUES (?1, ?2, ?3)",
            (int(ino.0), self.now, what),
        )?;
        self.run(
            "DELETE FROM history WHERE id IN
                 (SELECT id FROM history WHERE ino = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
            (int(ino.0), HISTORY),
        )?;
        Ok(())
    }
}
