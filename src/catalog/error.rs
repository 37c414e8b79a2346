//! What can go wrong in the catalog.

use rusqlite::ErrorCode;

/// Is a failed catalog call.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// SQLite failed.
    #[error("catalog: {0}")]
    Database(#[source] rusqlite::Error),
    /// The disk is full: free some room and try again.
    #[error("catalog: no room left on the disk of the state directory")]
    DiskFull,
    /// The file is damaged.
    #[error("catalog: {path} is damaged ({reason})")]
    Corrupt {
        /// The file.
        path: String,
        /// What SQLite said.
        reason: String,
    },
    /// It was written by a newer dewfs.
    #[error(
        "catalog: {path} has format {found}, this dewfs knows up to {known}: use the newer dewfs again"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its format number.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// No copy could be made of it before it is brought to the format of this dewfs: nothing was changed.
    #[error("catalog: cannot keep {path}, the copy before the change of format: {error}")]
    NoCopy {
        /// Where the copy was to be.
        path: String,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The writer thread has ended: the mount is being stopped.
    #[error("catalog: closed")]
    Closed,
    /// Two inodes would sit in one place: an error of the caller, nothing was changed.
    #[error("catalog: {0} is taken")]
    Taken(String),
    /// The change panicked: it was rolled back.
    #[error("catalog: a change panicked: {0}")]
    Panicked(String),
    /// No such inode: an error of the caller, nothing was changed.
    #[error("catalog: there is no inode {0}")]
    NoInode(u64),
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        let damaged = |reason: String| Self::Corrupt { path: "catalog.db".to_owned(), reason };
        if matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) {
            return damaged(error.to_string());
        }
        let unique = error.sqlite_error().is_some_and(|code| {
            matches!(
                code.extended_code,
                rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
                    | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            )
        });
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                damaged(error.to_string())
            }
            Some(ErrorCode::ConstraintViolation) if unique => Self::Taken("the place".to_owned()),
            _ => Self::Database(error),
        }
    }
}

/// Is a failure of a whole transaction, to be told to everybody who took part in it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    code: Option<rusqlite::ffi::Error>,
    message: Option<String>,
}

impl Failure {
    /// Keeps of `error` what can be told many times.
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(code, message) => {
                Self { code: Some(*code), message: message.clone() }
            }
            other => Self { code: other.sqlite_error().copied(), message: Some(other.to_string()) },
        }
    }

    /// The writer has gone.
    pub(super) fn closed() -> Self {
        Self { code: None, message: None }
    }

    /// The error for one of them.
    pub(super) fn to_error(&self) -> CatalogError {
        match self.code {
            Some(code) => rusqlite::Error::SqliteFailure(code, self.message.clone()).into(),
            None => CatalogError::Closed,
        }
    }
}
