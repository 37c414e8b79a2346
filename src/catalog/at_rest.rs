//! What can be told of a catalog that no daemon has open.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::reader_sync::to_send;
use super::schema::{check_format, check_header, open_reader};
use super::{Result, codec};
use crate::model::{Edition, Ino, Kind, Name};

/// Folders above each other that are followed.
const DEEPEST: usize = 10_000;

/// Is an item with a name here that the remote does not have as it is here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OnlyHere {
    /// The inode.
    pub ino: Ino,
    /// The names from the root on.
    pub names: Vec<Name>,
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub size: u64,
    /// Which edition of it.
    pub edition: Edition,
    /// Whether it is to be sent; else it stays here.
    pub unsent: bool,
}

impl OnlyHere {
    /// Whether something is lost with it: bytes, or where a symlink leads.
    pub fn has_content(&self) -> bool {
        match self.kind {
            Kind::File => self.size > 0,
            Kind::Symlink => true,
            Kind::Folder | Kind::Fifo | Kind::Socket => false,
        }
    }
}

/// How many items a catalog holds that are not sent yet. Changes nothing.
pub fn left_to_send(path: &Path) -> Result<u64> {
    let sql = concat!("SELECT COUNT(*) FROM outbox o WHERE endpoint = 0 AND ", to_send!());
    let count: i64 = open(path)?.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Everything with a name here that is not sent yet or stays here. Changes nothing.
pub fn only_here(path: &Path) -> Result<Vec<OnlyHere>> {
    let connection = open(path)?;
    // One look at all of it, whoever writes meanwhile.
    connection.execute_batch("BEGIN")?;
    let sql = concat!(
        "SELECT i.ino, i.kind, i.size, i.edition,
                EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino AND ",
        to_send!(),
        ") AS unsent
         FROM inode i LEFT JOIN base b ON b.endpoint = 0 AND b.ino = i.ino
         WHERE i.parent IS NOT NULL AND (b.ino IS NULL OR b.edition <> i.edition OR unsent)"
    );
    let mut query = connection.prepare(sql)?;
    let rows = query.query_map([], |row| {
        Ok(OnlyHere {
            ino: codec::ino(row, 0)?,
            names: Vec::new(),
            kind: codec::kind(row, 1)?,
            size: codec::number(row, 2)?,
            edition: Edition(codec::number(row, 3)?),
            unsent: row.get(4)?,
        })
    })?;
    rows.map(|row| {
        let mut one = row?;
        one.names = names(&connection, one.ino)?;
        Ok(one)
    })
    .collect()
}

/// A newer format may be told of in the WAL only.
fn open(path: &Path) -> Result<Connection> {
    check_header(path)?;
    let connection = open_reader(path)?;
    let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    check_format(path, found)?;
    Ok(connection)
}

fn names(connection: &Connection, ino: Ino) -> Result<Vec<Name>> {
    let mut place = connection.prepare_cached("SELECT parent, name FROM inode WHERE ino = ?1")?;
    let mut names = Vec::new();
    let mut at = ino;
    for _ in 0..DEEPEST {
        let found = place.query_row([codec::int(at.0)], |row| codec::place(row, 0)).optional()?;
        let Some(place) = found.flatten() else { break };
        names.push(place.name);
        at = place.parent;
    }
    names.reverse();
    Ok(names)
}
