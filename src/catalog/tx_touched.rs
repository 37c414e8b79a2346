//! What users set besides content, and how much of it a remote is still to get.

use std::collections::BTreeMap;

use super::codec::int;
use super::{Inode, Reader, Result, Tx};
use crate::model::{Ino, Shown, Touched};

impl Tx {
    /// Notes that this was set, and is to be sent.
    pub fn retouch(&mut self, ino: Ino, touched: Touched) -> Result<()> {
        let sql = "UPDATE inode SET retouched = retouched | ?2 WHERE ino = ?1";
        self.run_on(ino, sql, (int(ino.0), touched.0)).map(drop)
    }

    /// Notes that the user attribute of this name was set or removed, and is to be sent.
    pub fn retouch_attribute(&mut self, ino: Ino, name: &[u8]) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO xattr_unsent (ino, name) VALUES (?1, ?2)";
        self.run(sql, (int(ino.0), name))?;
        self.retouch(ino, Touched::ATTRIBUTES)
    }

    /// Forgets which attributes were to be sent.
    pub(super) fn forget_unsent(&mut self, ino: Ino) -> Result<()> {
        self.run("DELETE FROM xattr_unsent WHERE ino = ?1", [int(ino.0)]).map(drop)
    }

    /// Of what was sent nothing is to be sent any more, where it is shown as it was then.
    pub(super) fn untouch(&mut self, ino: Ino, shown: &Shown) -> Result<()> {
        let mut sent = shown.sent.0 & !Touched::ATTRIBUTES.0;
        if !shown.attributes.is_empty() && self.forget_attributes(ino, shown)? {
            sent |= Touched::ATTRIBUTES.0;
        }
        // The bits are those of `Touched`; of the last two there is nothing to compare.
        self.run_on(
            ino,
            "UPDATE inode SET retouched = retouched & ~(?2 & (
                 48 | (mtime = ?3) | (mode IS ?4) * 2 | (uid IS ?5) * 4 | (gid IS ?6) * 8))
             WHERE ino = ?1 AND retouched & ?2",
            (int(ino.0), sent, shown.mtime, shown.mode, shown.uid, shown.gid),
        )?;
        Ok(())
    }

    /// Forgets which attributes were to be sent, where they are as they were sent; whether none is left.
    fn forget_attributes(&mut self, ino: Ino, shown: &Shown) -> Result<bool> {
        for (name, value) in &shown.attributes {
            self.run(
                "DELETE FROM xattr_unsent WHERE ino = ?1 AND name = ?2
                 AND (SELECT value FROM xattr WHERE ino = ?1 AND name = ?2) IS ?3",
                (int(ino.0), name, value),
            )?;
        }
        let left = "SELECT 1 FROM xattr_unsent WHERE ino = ?1 LIMIT 1";
        Ok(self.one(left, [int(ino.0)], |_| Ok(()))?.is_none())
    }
}

impl Reader {
    /// What is to be sent of a file besides its content, as it is shown now: all that was ever set if the remote never had it,
    /// what was set since otherwise.
    pub fn to_be_sent(&self, inode: &Inode, never_had: bool) -> Result<Shown> {
        let is_all = never_had || inode.touched.has(Touched::NEW);
        let sent = if is_all { Touched(Touched::ALL.0 | Touched::NEW.0) } else { inode.touched };
        let attributes = match sent.has(Touched::ATTRIBUTES) {
            true => self.unsent_attributes(inode.ino, is_all)?,
            false => BTreeMap::new(),
        };
        let now = &inode.attributes;
        let (mtime, mode, uid, gid) = (now.mtime, now.mode, now.uid, now.gid);
        Ok(Shown { sent, mtime, mode, uid, gid, attributes })
    }

    /// User attributes by name, those that were removed without a value.
    fn unsent_attributes(
        &self,
        ino: Ino,
        is_all: bool,
    ) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
        let unsent = "SELECT u.name, x.value FROM xattr_unsent u
                      LEFT JOIN xattr x ON x.ino = u.ino AND x.name = u.name WHERE u.ino = ?1";
        let all = "SELECT name, value FROM xattr WHERE ino = ?1";
        let read = |sql| self.all(sql, [int(ino.0)], |row| Ok((row.get(0)?, row.get(1)?)));
        let mut found: BTreeMap<Vec<u8>, _> = read(unsent)?.into_iter().collect();
        if is_all {
            found.extend(read(all)?);
        }
        Ok(found)
    }
}
