//! A read transaction, and the connections for them.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};

use super::error::Failure;
use super::{CatalogError, Memory, Result, damage, schema};

/// Connections kept open while nobody reads. Each may hold 3 MiB of pages.
const IDLE_CONNECTIONS: usize = 4;

/// Is a read transaction; [`super::Tx`] derefs to it, so a write transaction can ask the same.
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) memory: Arc<dyn Memory>,
    /// The last failure that may have ended a whole transaction.
    pub(super) failure: RefCell<Option<Failure>>,
    statements: Cell<u64>,
}

impl Reader {
    pub(super) fn new(connection: Connection, memory: Arc<dyn Memory>) -> Self {
        Self { connection, memory, failure: RefCell::new(None), statements: Cell::new(0) }
    }

    /// How many statements ran on this connection so far: what a verb costs can be held by a test.
    pub fn statements(&self) -> u64 {
        self.statements.get()
    }

    /// Runs `read` and counts nothing of it.
    pub(super) fn uncounted<T>(&self, read: impl FnOnce(&Self) -> T) -> T {
        let before = self.statements.get();
        let answer = read(self);
        self.statements.set(before);
        answer
    }

    fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.statements.set(self.statements.get() + 1);
        self.connection.prepare_cached(sql)
    }

    /// The row that `sql` finds, if any.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let found = self
            .prepare(sql)
            .and_then(|mut statement| statement.query_row(params, read).optional());
        found.map_err(|error| self.failed(error))
    }

    /// All rows that `sql` finds.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let found = self.prepare(sql).and_then(|mut statement| {
            statement.query_map(params, read)?.collect::<rusqlite::Result<Vec<T>>>()
        });
        found.map_err(|error| self.failed(error))
    }

    /// Shows `each` every row that `sql` finds, keeping none.
    pub(super) fn each(
        &self,
        sql: &str,
        params: impl Params,
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.prepare(sql).map_err(|error| self.failed(error))?;
        let mut rows = statement.query(params).map_err(|error| self.failed(error))?;
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            each(row)?;
        }
        Ok(())
    }

    /// Whether `sql` finds a row.
    pub(super) fn any(&self, sql: &str, params: impl Params) -> Result<bool> {
        Ok(self.one(sql, params, |_| Ok(()))?.is_some())
    }

    /// Executes `sql`; answers how many rows it changed.
    pub(super) fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        let changed = self.prepare(sql).and_then(|mut statement| statement.execute(params));
        changed.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> CatalogError {
        *self.failure.borrow_mut() = Some(Failure::of(&error));
        let error = error.into();
        if let (CatalogError::Corrupt { .. }, Some(path)) = (&error, self.connection.path()) {
            damage::mark(Path::new(path), &error);
        }
        error
    }
}

/// Holds the connections that nobody reads with at the moment.
pub(super) struct Readers {
    path: PathBuf,
    memory: Arc<dyn Memory>,
    /// `None` once closed.
    idle: Mutex<Option<Vec<Reader>>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, memory: Arc<dyn Memory>) -> Self {
        Self { path, memory, idle: Mutex::new(Some(Vec::new())) }
    }

    /// Runs `read` in a read transaction that ends with it.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        let reader = self.take()?;
        reader.run("BEGIN", [])?;
        let answer = read(&reader);
        // A connection that cannot end its transaction is dropped, and the transaction with it.
        if reader.run("COMMIT", []).is_ok() {
            self.give_back(reader);
        }
        answer
    }

    /// Runs `read`, which asks one thing only: a statement is a transaction of its own.
    pub(super) fn read_row<T>(&self, read: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        let reader = self.take()?;
        let answer = read(&reader);
        if answer.is_ok() {
            self.give_back(reader);
        }
        answer
    }

    /// A connection. The one used last is used first: its pages are warm.
    fn take(&self) -> Result<Reader> {
        let idle = match self.lock().as_mut() {
            Some(idle) => idle.pop(),
            None => return Err(CatalogError::Closed),
        };
        match idle {
            Some(reader) => Ok(reader),
            None => Ok(Reader::new(schema::open_reader(&self.path)?, self.memory.clone())),
        }
    }

    fn give_back(&self, reader: Reader) {
        if let Some(idle) = self.lock().as_mut()
            && idle.len() < IDLE_CONNECTIONS
        {
            idle.push(reader);
        }
    }

    /// Closes what is idle now and what is in use when its read ends.
    pub(super) fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Reader>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
