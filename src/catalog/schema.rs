//! The file: its tables, the steps from older formats, and the settings of a connection.
//!
//! Formats only grow: a step, once released, never changes, and the format's number is how many steps were taken.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{CatalogError, Result};

/// "dewf": tells a catalog from any other SQLite file.
const APPLICATION_ID: u32 = 0x6465_7766;

/// The name of the root's base place. It can be no entry's: such names are dewfs's own and hidden.
pub(super) const ROOT_NAME: &[u8] = b".dewfs-root";

/// Statements kept compiled per connection; more than there are in this room.
const STATEMENTS: usize = 160;

/// The steps from each format to the next, from the empty file on.
const STEPS: &[&str] = &[FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4];

/// The tables of format 1, with columns that later ones added to them.
macro_rules! tables {
    ($inode:literal, $outbox:literal) => {
        concat!(
            "
CREATE TABLE inode (
    ino INTEGER PRIMARY KEY AUTOINCREMENT,
    parent INTEGER,
    name BLOB,
    kind INTEGER NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0,
    edition INTEGER NOT NULL,
    content INTEGER NOT NULL,
    edited INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    atime INTEGER NOT NULL,
    ctime INTEGER NOT NULL,
    mode INTEGER,
    uid INTEGER,
    gid INTEGER,
    stamp_size INTEGER,
    stamp_ctime INTEGER,
    mtime_of_data INTEGER,
    pin INTEGER NOT NULL DEFAULT 0,
    conflict INTEGER NOT NULL DEFAULT 0,
    last_use INTEGER NOT NULL DEFAULT 0,
    target BLOB,",
            $inode,
            "
    CHECK ((parent IS NULL) = (name IS NULL))
) STRICT;
CREATE UNIQUE INDEX inode_place ON inode (parent, name);
CREATE INDEX inode_folder ON inode (parent);
CREATE INDEX inode_use ON inode (last_use) WHERE content > 0 AND kind = 0;
CREATE INDEX inode_pin ON inode (pin) WHERE pin > 0;
CREATE INDEX inode_conflict ON inode (ino) WHERE conflict = 1;

CREATE TABLE presence (
    ino INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    blocks BLOB NOT NULL
) STRICT;

CREATE TABLE xattr (
    ino INTEGER NOT NULL,
    name BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (ino, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    ino INTEGER NOT NULL,
    time INTEGER NOT NULL,
    what TEXT NOT NULL
) STRICT;
CREATE INDEX history_ino ON history (ino);

CREATE TABLE base (
    endpoint INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    version TEXT NOT NULL,
    remote_id TEXT,
    edition INTEGER NOT NULL,
    known_size INTEGER,
    known_hash BLOB,
    young INTEGER NOT NULL DEFAULT 0,
    listed INTEGER,
    size INTEGER NOT NULL DEFAULT 0,
    extra BLOB,
    looked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (endpoint, ino)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX base_place ON base (endpoint, parent, name);
CREATE INDEX base_id ON base (endpoint, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX base_unlisted ON base (endpoint) WHERE listed = 0;
CREATE INDEX base_looked ON base (endpoint, looked) WHERE listed = 1;

CREATE TABLE outbox (
    endpoint INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    since INTEGER NOT NULL,
    due INTEGER NOT NULL,
    not_before INTEGER,
    tries INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    error_kind TEXT,
    attempt INTEGER,
    source_parent INTEGER,
    source_name BLOB,
    target_parent INTEGER,
    target_name BLOB,
    expect INTEGER,
    expect_version TEXT,
    nonce INTEGER,
    ours BLOB,
    released INTEGER NOT NULL DEFAULT 0,",
            $outbox,
            "
    PRIMARY KEY (endpoint, ino)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox (endpoint, due);
CREATE INDEX outbox_attempt ON outbox (endpoint) WHERE attempt IS NOT NULL;
CREATE INDEX outbox_error ON outbox (endpoint) WHERE error IS NOT NULL;

CREATE TABLE look_again (
    endpoint INTEGER NOT NULL,
    folder INTEGER NOT NULL,
    since INTEGER NOT NULL,
    due INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    cause INTEGER,
    deep INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (endpoint, folder)
) STRICT, WITHOUT ROWID;
CREATE INDEX look_again_due ON look_again (endpoint, due, since);
CREATE INDEX look_again_cause ON look_again (endpoint, cause) WHERE cause IS NOT NULL;

CREATE TABLE missing (
    endpoint INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (endpoint, ino)
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoint (
    endpoint INTEGER PRIMARY KEY,
    cursor TEXT,
    identity TEXT,
    held INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE state (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    ticks INTEGER NOT NULL,
    items INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    barriers INTEGER NOT NULL
) STRICT;

INSERT INTO counter VALUES (0, 1, 0, 0, 0);
INSERT INTO endpoint (endpoint) VALUES (0);
"
        )
    };
}

/// Everything keyed by an endpoint is so from the first day; today there is one, 0.
const FORMAT_1: &str = tables!("", "");

/// Times and modes set here after the content was sent have to be told from those that the remote has.
const FORMAT_2: &str = "ALTER TABLE inode ADD COLUMN retouched INTEGER NOT NULL DEFAULT 0;";

/// The mass-change guard holds single items.
const FORMAT_3: &str = "
ALTER TABLE outbox ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outbox_held ON outbox (endpoint, since) WHERE held = 1;
";

/// Which user attributes of a file were set or removed here and are still to be sent.
macro_rules! unsent {
    () => {
        "
CREATE TABLE xattr_unsent (
    ino INTEGER NOT NULL,
    name BLOB NOT NULL,
    PRIMARY KEY (ino, name)
) STRICT, WITHOUT ROWID;
"
    };
}

/// What was set besides content is told apart (`Touched`), and sent by itself; until now it was times and mode together, and the
/// mode went with every content.
const FORMAT_4: &str = concat!(
    "UPDATE inode SET retouched = 3 WHERE retouched = 1;
     UPDATE inode SET retouched = retouched | 32 WHERE kind = 0 AND edited = 1;",
    unsent!()
);

/// What all steps together make, for a new file: made one by one, each reads all tables anew.
const NOW: &str = concat!(
    tables!("retouched INTEGER NOT NULL DEFAULT 0,", "held INTEGER NOT NULL DEFAULT 0,"),
    "CREATE INDEX outbox_held ON outbox (endpoint, since) WHERE held = 1;",
    unsent!()
);

/// Opens the writing connection; tells the format of the rows that are there, 0 if there are none.
pub(super) fn open_writer(path: &Path) -> Result<(Connection, u32)> {
    check_header(path)?;
    make_private(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // A newer format may be in the WAL only: until it is known not to be, nothing may be moved out of the WAL.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    check_format(path, found)?;
    Ok((connection, found))
}

/// Creates what is not there and migrates what is older.
pub(super) fn prepare(path: &Path, connection: &Connection, found: u32, now: i64) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    settle_connection(connection)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;",
    )?;
    migrate(path, connection, found, now)
}

/// SQLite would leave it to the umask who can read a new file; those beside it get the permissions of this one.
fn make_private(path: &Path) {
    // What keeps it from being made keeps SQLite from it as well, which tells why.
    drop(OpenOptions::new().append(true).create(true).mode(0o600).open(path));
}

/// Opens a reading connection.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    settle_connection(&connection)?;
    connection.execute_batch("PRAGMA cache_size = -3072; PRAGMA query_only = ON;")?;
    Ok(connection)
}

/// What holds for every connection. Without QPSG each use of a cached statement would compile it again.
fn settle_connection(connection: &Connection) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;
         PRAGMA foreign_keys = ON;",
    )?;
    Ok(())
}

/// Reads the file's first bytes before SQLite does: a file of somebody else's or of a newer dewfs is not touched at all.
pub(super) fn check_header(path: &Path) -> Result<()> {
    let damaged = |reason: &str| CatalogError::Corrupt {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    };
    let mut header = [0; 100];
    let Ok(mut file) = std::fs::File::open(path) else { return Ok(()) };
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(_) if file.metadata().is_ok_and(|metadata| metadata.len() == 0) => return Ok(()),
        Err(_) => return Err(damaged("it is too short")),
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(damaged("it is no SQLite database"));
    }
    let number = |at: usize| {
        header[at..at + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
    };
    let (version, application) = (number(60), number(68));
    if application != 0 && application != APPLICATION_ID {
        return Err(damaged("it belongs to another program"));
    }
    check_format(path, version)
}

/// The number of the format that this dewfs writes.
fn format() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

pub(super) fn check_format(path: &Path, found: u32) -> Result<()> {
    let known = format();
    if found > known {
        return Err(CatalogError::Newer { path: path.display().to_string(), found, known });
    }
    Ok(())
}

/// Takes the steps that are missing, in one transaction, after a copy of what was there.
fn migrate(path: &Path, connection: &Connection, found: u32, now: i64) -> Result<()> {
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    let Some(missing) = STEPS.get(done..).filter(|steps| !steps.is_empty()) else { return Ok(()) };
    if found > 0 {
        copy_aside(path, connection, found)?;
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    if found == 0 {
        connection.execute_batch(NOW)?;
        make_root(connection, now)?;
    } else {
        missing.iter().try_for_each(|step| connection.execute_batch(step))?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", format())?;
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")?;
    Ok(())
}

pub(super) fn copy_aside(path: &Path, connection: &Connection, found: u32) -> Result<()> {
    let copy = path.with_extension(format!("db.format-{found}"));
    // A copy that stands was made by a migration that did not end: it is of the same rows.
    if !copy.exists() {
        let unfinished = path.with_extension("db.copying");
        drop(std::fs::remove_file(&unfinished));
        connection.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()])?;
        // The catalog itself is whole: nothing of it may be set aside for this.
        std::fs::rename(&unfinished, &copy)
            .map_err(|error| CatalogError::NoCopy { path: copy.display().to_string(), error })?;
    }
    Ok(())
}

/// The root is inode 1 and always has a base. The next one is 3: readdir cookies 1 and 2 stand for `.` and `..`.
fn make_root(connection: &Connection, now: i64) -> Result<()> {
    connection.execute(
        "INSERT INTO inode (ino, kind, edition, content, size, mtime, atime, ctime)
         VALUES (1, 1, 0, 2, 0, ?1, ?1, ?1)",
        [now],
    )?;
    connection.execute("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'inode'", [])?;
    connection.execute(
        "INSERT INTO base (endpoint, ino, parent, name, version, edition, listed)
         VALUES (0, 1, 0, ?1, '', 0, 0)",
        [ROOT_NAME],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// All columns as SQLite knows them, and the text of each index.
    fn made_by(steps: &[&str]) -> Vec<String> {
        let connection = Connection::open_in_memory().unwrap();
        for step in steps {
            connection.execute_batch(step).unwrap();
        }
        let mut made = Vec::new();
        for sql in [
            "SELECT s.name || json_array(c.cid, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk)
             FROM sqlite_schema s, pragma_table_info(s.name) c WHERE s.type = 'table'",
            "SELECT name || coalesce(sql, '') FROM sqlite_schema WHERE type = 'index'",
        ] {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            made.extend(rows.map(|row| row.unwrap()));
        }
        made.sort();
        made
    }

    #[test]
    fn a_new_file_is_what_all_steps_make() {
        assert_eq!(made_by(&[NOW]), made_by(STEPS));
    }

    /// What an older dewfs had still to send goes: times and mode that were set together, and the mode of what was edited.
    #[test]
    fn what_was_to_be_sent_is_so_after_the_migration() {
        let connection = Connection::open_in_memory().unwrap();
        let (older, last) = STEPS.split_at(3);
        older.iter().for_each(|step| connection.execute_batch(step).unwrap());
        for (kind, edited, retouched) in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0)] {
            connection
                .execute(
                    "INSERT INTO inode (kind, edition, content, size, mtime, atime, ctime, edited, retouched)
                     VALUES (?1, 1, 2, 0, 0, 0, 0, ?2, ?3)",
                    [kind, edited, retouched],
                )
                .unwrap();
        }
        last.iter().for_each(|step| connection.execute_batch(step).unwrap());
        let mut statement = connection.prepare("SELECT retouched FROM inode ORDER BY ino").unwrap();
        let found = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(found.map(|one| one.unwrap()).collect::<Vec<_>>(), [0, 3, 32, 35, 0]);
    }
}
