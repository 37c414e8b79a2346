//! Damage that is met while the catalog is in use: it is marked beside the file, and the next opening looks at all of it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{CatalogError, Result};

fn mark_of(path: &Path) -> PathBuf {
    path.with_extension("db.damaged")
}

/// Notes that something of the catalog at `path` could not be read as it was written. Says so once.
pub(super) fn mark(path: &Path, found: &CatalogError) {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(mark_of(path));
    // It is there already, or nothing can be written: the error itself is answered in any case.
    if made.is_ok() {
        tracing::error!(
            error = %found,
            "the catalog is damaged: the next mount looks at all of it, and sets it aside with all local content if so"
        );
    }
}

/// Looks at all of a catalog that was marked. A mark that proves to be of nothing goes.
pub(super) fn examine(path: &Path, connection: &Connection) -> Result<()> {
    if !mark_of(path).exists() {
        return Ok(());
    }
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(CatalogError::Corrupt { path: path.display().to_string(), reason: said });
    }
    forget(path);
    Ok(())
}

/// Removes the mark: the catalog that it was of is whole, or is here no more.
pub(super) fn forget(path: &Path) {
    match std::fs::remove_file(mark_of(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the mark of a damaged catalog cannot be removed");
        }
        _ => {}
    }
}
