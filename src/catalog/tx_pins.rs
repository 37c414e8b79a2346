//! Pins in the catalog: set by people, or by rules.

use super::codec::{self, int};
use super::reader_names::count;
use super::{CatalogError, Change, Reader, Result, Tx};
use crate::model::{Ino, Kind, Pin};

impl Tx {
    /// Sets the pin of an inode itself.
    pub fn set_pin(&mut self, ino: Ino, pin: Pin) -> Result<()> {
        let sql = "UPDATE inode SET pin = ?2 WHERE ino = ?1";
        if self.run_beside(sql, (int(ino.0), codec::pin_code(pin)))? == 0 {
            return Err(CatalogError::NoInode(ino.0));
        }
        self.tell(Change::Pins);
        Ok(())
    }

    /// Pins what fits a rule, and lets go of what no longer does. What people said of an item counts for more.
    pub fn set_rule_pins(&mut self, add: &[Ino], drop: &[Ino]) -> Result<()> {
        for ino in add {
            let sql = "UPDATE inode SET pin = ?2 WHERE ino = ?1 AND pin = 0";
            self.run_beside(sql, (int(ino.0), codec::PIN_BY_RULE))?;
        }
        for ino in drop {
            let sql = "UPDATE inode SET pin = 0 WHERE ino = ?1 AND pin = ?2";
            self.run_beside(sql, (int(ino.0), codec::PIN_BY_RULE))?;
        }
        self.tell(Change::Pins);
        Ok(())
    }
}

impl Reader {
    /// What people pinned or unpinned itself.
    pub fn own_pins(&self) -> Result<Vec<(Ino, Pin)>> {
        let sql = "SELECT ino, pin FROM inode INDEXED BY inode_pin WHERE pin > 0 AND pin <> ?1";
        self.all(sql, [codec::PIN_BY_RULE], |row| Ok((codec::ino(row, 0)?, codec::pin(row, 1)?)))
    }

    /// Whether anything at all has a pin of its own, the whole mount included.
    pub fn has_pins(&self) -> Result<bool> {
        let sql = "SELECT 1 FROM inode INDEXED BY inode_pin WHERE pin > 0 LIMIT 1";
        Ok(self.memory.root_pin() != Pin::Unspecified || self.any(sql, [])?)
    }

    /// Files that rules pinned.
    pub fn pinned_by_rule(&self) -> Result<Vec<Ino>> {
        let sql = "SELECT ino FROM inode INDEXED BY inode_pin WHERE pin > 0 AND pin = ?1";
        self.all(sql, [codec::PIN_BY_RULE], |row| codec::ino(row, 0))
    }

    /// Whether a rule pinned this file.
    pub fn is_pinned_by_rule(&self, ino: Ino) -> Result<bool> {
        self.any(
            "SELECT 1 FROM inode WHERE ino = ?1 AND pin = ?2",
            (int(ino.0), codec::PIN_BY_RULE),
        )
    }

    /// What a rule looks at.
    pub fn kind_size_mtime(&self, ino: Ino) -> Result<Option<(Kind, u64, i64)>> {
        let sql = "SELECT kind, size, mtime FROM inode WHERE ino = ?1";
        self.one(sql, [int(ino.0)], |row| {
            Ok((codec::kind(row, 0)?, codec::number(row, 1)?, row.get(2)?))
        })
    }

    /// Folders that are shown and not listed, with numbers beyond `after`, in order.
    pub fn unlisted(&self, after: Ino, limit: usize) -> Result<Vec<Ino>> {
        let sql = "SELECT b.ino FROM base b INDEXED BY base_unlisted CROSS JOIN inode i ON i.ino = b.ino
                   WHERE b.endpoint = 0 AND b.listed = 0 AND b.ino > ?1 AND (i.parent IS NOT NULL OR i.ino = 1)
                   ORDER BY b.ino LIMIT ?2";
        self.all(sql, (int(after.0), count(limit)), |row| codec::ino(row, 0))
    }
}
