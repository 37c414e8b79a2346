//! What the writer read of single rows. The decisions ask for the same few again and again, and most changes are about one file of a
//! folder that the change before was about as well: looking that up each time costs more than deciding.
//!
//! Only this connection writes. Each statement that changes something says of which row, else its whole table is forgotten; what is
//! taken back is forgotten altogether, and so is everything when another connection wrote after all. Builds for tests read each
//! remembered row once more and compare.

use std::cell::RefMut;
use std::collections::HashMap;
use std::fmt::Debug;

use rusqlite::Params;

use super::{Reader, Result, Tx};
use crate::model::{Attempt, Base, Ino, Node, OutboxRow, Tick};

/// Rows remembered of each kind.
const MOST: usize = 256;

/// Is rows by their inodes, also that there is none.
type Kept<T> = HashMap<Ino, Option<T>>;

/// Is rows that were read and are as they were.
#[derive(Default)]
pub(super) struct Memo {
    pub(super) nodes: Kept<Node>,
    pub(super) bases: Kept<Base>,
    pub(super) outbox: Kept<OutboxRow>,
    pub(super) missing: Kept<Tick>,
    attempts: Option<Vec<(Ino, Attempt)>>,
    /// What SQLite says as long as no other connection writes.
    version: Option<i64>,
}

impl Memo {
    pub(super) fn clear(&mut self) {
        *self = Self { version: self.version, ..Self::default() };
    }

    /// Forgets the rows of an inode.
    fn forget_rows(&mut self, ino: Ino) {
        for table in ["inode", "base", "missing", "outbox"] {
            self.forget_row(ino, table);
        }
    }

    /// Forgets the row of an inode in this table.
    fn forget_row(&mut self, ino: Ino, table: &str) {
        match table {
            "inode" => drop(self.nodes.remove(&ino)),
            "base" => drop(self.bases.remove(&ino)),
            "missing" => drop(self.missing.remove(&ino)),
            "outbox" => {
                self.outbox.remove(&ino);
                self.attempts = None;
            }
            _ => {}
        }
    }

    /// Forgets what a statement may have changed; `true` if that may be how items stand that were there before.
    fn forget(&mut self, sql: &str) -> bool {
        let verb = sql.split_ascii_whitespace().next();
        if let Some("BEGIN" | "COMMIT" | "SAVEPOINT" | "RELEASE") = verb {
            return false;
        }
        let table = changed_table(sql);
        match table {
            Some("inode") => self.nodes.clear(),
            Some("base") => self.bases.clear(),
            Some("missing") => self.missing.clear(),
            Some("outbox") => {
                self.outbox.clear();
                self.attempts = None;
            }
            Some(
                "presence" | "xattr" | "xattr_unsent" | "history" | "look_again" | "endpoint"
                | "state" | "counter" | "sqlite_sequence",
            ) => {}
            _ => {
                self.clear();
                // Of what is taken back, what was noted is looked at once more.
                return verb != Some("ROLLBACK");
            }
        }
        match table {
            Some("inode" | "base") => verb != Some("INSERT"),
            table => table == Some("outbox"),
        }
    }
}

/// The table that a statement changes, if that is easily told.
fn changed_table(sql: &str) -> Option<&str> {
    let mut words = sql.split_ascii_whitespace();
    match words.next() {
        Some("UPDATE") => words.next(),
        Some("INSERT") => words.by_ref().skip_while(|word| *word != "INTO").nth(1),
        Some("DELETE") => words.nth(1),
        _ => None,
    }
}

impl Tx {
    /// Executes `sql`; answers how many rows it changed.
    pub(super) fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        let changed = self.reader.run(sql, params);
        // What updates or deletes no row changed nothing; of all else that is not known.
        let may_add = !sql.starts_with("UPDATE") && !sql.starts_with("DELETE");
        if (may_add || !matches!(changed, Ok(0))) && self.memo().forget(sql) {
            self.counting.borrow_mut().lose_track();
        }
        changed
    }

    /// The same for what changes the row of this inode only.
    pub(super) fn run_on(&self, ino: Ino, sql: &str, params: impl Params) -> Result<usize> {
        self.note_standing(ino)?;
        let changed = self.reader.run(sql, params);
        if !matches!(changed, Ok(0)) {
            match changed_table(sql) {
                Some(table) => self.memo().forget_row(ino, table),
                None => self.memo().forget_rows(ino),
            }
        }
        changed
    }

    /// The same for what changes nothing that is remembered: times and tries.
    pub(super) fn run_beside(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.reader.run(sql, params)
    }

    /// Makes a row for a new inode; answers its number.
    pub(super) fn run_new(&self, sql: &str, params: impl Params) -> Result<Ino> {
        self.reader.run(sql, params)?;
        let ino = self.last_ino();
        self.memo().forget_rows(ino);
        self.note_new(ino);
        Ok(ino)
    }

    /// Notes that a statement will change rows of this inode.
    pub(super) fn changing(&self, ino: Ino) -> Result<()> {
        self.memo().forget_rows(ino);
        self.note_standing(ino)
    }

    /// Begins a transaction: what is remembered holds unless somebody else wrote.
    pub(super) fn begin_transaction(&self) -> Result<()> {
        self.run("BEGIN IMMEDIATE", [])?;
        let version = self.one("PRAGMA data_version", [], |row| row.get::<_, i64>(0))?;
        let mut memo = self.memo();
        if memo.version != version {
            self.counting.borrow_mut().lose_track();
            memo.clear();
            memo.version = version;
        }
        Ok(())
    }

    pub(super) fn memo(&self) -> RefMut<'_, Memo> {
        self.memo.borrow_mut()
    }

    /// The row of an inode as it is remembered, else as `read` finds it.
    pub(super) fn recall<T: Clone + PartialEq + Debug>(
        &self,
        ino: Ino,
        of: impl Fn(&mut Memo) -> &mut Kept<T>,
        read: impl Fn(&Reader) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let known = of(&mut self.memo()).get(&ino).cloned();
        if let Some(known) = known {
            self.compare(&known, read)?;
            return Ok(known);
        }
        let found = read(&self.reader)?;
        let mut memo = self.memo();
        let kept = of(&mut memo);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(ino, found.clone());
        Ok(found)
    }

    /// All attempts without an outcome.
    pub(super) fn recall_attempts(&self) -> Result<Vec<(Ino, Attempt)>> {
        let known = self.memo().attempts.clone();
        if let Some(known) = known {
            self.compare(&known, Reader::attempts)?;
            return Ok(known);
        }
        let found = self.reader.attempts()?;
        self.memo().attempts = Some(found.clone());
        Ok(found)
    }

    /// In builds for tests: what is remembered is what is there.
    fn compare<T: PartialEq + Debug>(
        &self,
        known: &T,
        read: impl Fn(&Reader) -> Result<T>,
    ) -> Result<()> {
        if cfg!(debug_assertions) {
            let there = self.reader.uncounted(read)?;
            assert_eq!(*known, there, "a remembered row is not the one that is there");
        }
        Ok(())
    }
}
