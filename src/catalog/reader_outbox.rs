//! What the outbox holds as a whole: what failed, what is in the way, how much there is.

use std::collections::BTreeSet;

use super::codec::{self, int};
use super::reader_names::count;
use super::reader_sync::to_send;
use super::{Reader, Result};
use crate::model::{Ino, Kind};

/// Names of a folder that are looked through one by one.
const SMALL_FOLDER: usize = 1_000;

impl Reader {
    /// Outbox rows that failed last time for this reason, the engine's word for it.
    pub fn outbox_failed_as(&self, kind: &str) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM outbox INDEXED BY outbox_error
                   WHERE endpoint = 0 AND error IS NOT NULL AND COALESCE(error_kind, '') = ?1";
        self.all(sql, [kind], |row| codec::ino(row, 0))
    }

    /// One item in a folder, here or at the remote, that is not in sync, and whether it is the only one; `None` if all are in sync.
    pub fn blocker_in(&self, folder: Ino) -> Result<Option<(Ino, bool)>> {
        // Of a small folder the names are looked through, beside a large one the outbox.
        let lists = [
            "SELECT ino, EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = b.ino)
             FROM base b WHERE endpoint = 0 AND parent = ?1 LIMIT ?2",
            "SELECT ino, EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino)
             FROM inode i INDEXED BY inode_folder WHERE parent = ?1 LIMIT ?2",
        ];
        let (mut found, mut is_large) = (BTreeSet::new(), false);
        for sql in lists {
            let names = self.all(sql, (int(folder.0), count(SMALL_FOLDER)), |row| {
                Ok((codec::ino(row, 0)?, row.get::<_, bool>(1)?))
            })?;
            is_large |= names.len() >= SMALL_FOLDER;
            found.extend(names.into_iter().filter_map(|(ino, pending)| pending.then_some(ino)));
        }
        if is_large && found.len() < 2 {
            let sql = "SELECT ino FROM outbox o WHERE endpoint = 0 AND (
                           EXISTS (SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = o.ino AND b.parent = ?1)
                           OR EXISTS (SELECT 1 FROM inode i WHERE i.ino = o.ino AND i.parent = ?1))
                       LIMIT 2";
            found.extend(self.all(sql, [int(folder.0)], |row| codec::ino(row, 0))?);
        }
        Ok(found.first().map(|first| (*first, found.len() == 1)))
    }

    /// Bytes of files not in sync.
    pub fn pending_bytes(&self) -> Result<u64> {
        let sql = concat!(
            "SELECT COALESCE(SUM(i.size), 0) FROM outbox o JOIN inode i ON i.ino = o.ino
             WHERE o.endpoint = 0 AND i.kind = ?1 AND ",
            to_send!()
        );
        let bytes = self.one(sql, [codec::kind_code(Kind::File)], |row| codec::number(row, 0))?;
        Ok(bytes.unwrap_or(0))
    }
}
