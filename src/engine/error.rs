//! Why a verb failed, named by what the caller can do about it. The doors turn this into errno and sentences.

use crate::catalog::CatalogError;
use crate::remote::{ErrorKind, RemoteError};

/// Is a failed verb.
///
/// Every verb may answer `Catalog`, `Disk`, `NoSpace` and `Stopped`: the local disk failed or is full, or the mount is being
/// stopped. One that asks the remote may answer `Offline`, `TimedOut`, `Unauthenticated`, `Denied`, `Unsupported`, `Corrupt` and
/// `Remote` as well. What comes besides is said at the verb.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No such entry.
    #[error("not found")]
    NotFound,
    /// The name is taken.
    #[error("exists already")]
    Exists,
    /// A folder was needed.
    #[error("not a folder")]
    NotFolder,
    /// A file was needed.
    #[error("is a folder")]
    IsFolder,
    /// The folder is not empty.
    #[error("folder not empty")]
    NotEmpty,
    /// Never allowed here, whoever asks: hard links, device nodes, names that belong to dewfs.
    #[error("operation not permitted: {0}")]
    NotPermitted(&'static str),
    /// This user may not.
    #[error("permission denied: {0}")]
    Denied(String),
    /// The mount or the remote is read-only.
    #[error("read-only")]
    ReadOnly,
    /// A file of more than 64 TiB.
    #[error("larger than any file that can be kept here")]
    TooLarge,
    /// A name of more than 255 bytes.
    #[error("name too long")]
    NameTooLong,
    /// An argument is out of range.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Refused(String),
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// A folder moved into itself.
    #[error("cannot move a folder into itself")]
    IntoItself,
    /// Cannot be renamed there without copying.
    #[error("not here: copy instead")]
    CrossDevice,
    /// There is no data beyond this offset (SEEK_DATA, SEEK_HOLE).
    #[error("no data beyond this offset")]
    NoDataBeyond,
    /// The local disk, or the cache's share of it, is full, and nothing can be freed.
    #[error("no room left: {0}")]
    NoSpace(String),
    /// The remote is full.
    #[error("the remote is full")]
    QuotaExceeded,
    /// What was opened has been replaced by the remote and its old bytes cannot be had.
    #[error("replaced by a newer version: open it again")]
    Stale,
    /// No progress within the deadline.
    #[error("the remote gave no answer in time")]
    TimedOut,
    /// The remote is known to be away and what was asked is not here.
    #[error("the remote cannot be reached and this is not here yet")]
    Offline,
    /// Sign-in needed.
    #[error("sign-in needed")]
    Unauthenticated,
    /// The remote answered what cannot be right.
    #[error("the remote's answer cannot be right: {0}")]
    Corrupt(String),
    /// This cannot be done on this mount.
    #[error("not supported")]
    Unsupported,
    /// Too much is open.
    #[error("too many open files")]
    TooManyOpen,
    /// The item is busy: open, or being sent.
    #[error("busy: {0}")]
    Busy(String),
    /// The local disk failed.
    #[error("local disk: {0}")]
    Disk(#[from] std::io::Error),
    /// The local disk lost bytes that it was given.
    #[error("the local disk lost a part of what was written: save it anew")]
    Lost,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(CatalogError),
    /// The mount is being stopped.
    #[error("the mount is being stopped")]
    Stopped,
    /// Anything else the remote said.
    #[error(transparent)]
    Remote(RemoteError),
}

impl From<CatalogError> for EngineError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::DiskFull => Self::NoSpace(error.to_string()),
            CatalogError::Taken(_) => Self::Exists,
            CatalogError::Closed => Self::Stopped,
            CatalogError::NoInode(_) => Self::Stale,
            other => Self::Catalog(other),
        }
    }
}

impl From<RemoteError> for EngineError {
    fn from(error: RemoteError) -> Self {
        match error.kind {
            ErrorKind::NotFound | ErrorKind::NoParent | ErrorKind::VersionMismatch => Self::Stale,
            ErrorKind::Unauthenticated => Self::Unauthenticated,
            ErrorKind::Denied => Self::Denied(error.to_string()),
            ErrorKind::NoSpace => Self::QuotaExceeded,
            ErrorKind::ReadOnly => Self::ReadOnly,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Offline | ErrorKind::RootMissing | ErrorKind::Away => Self::Offline,
            ErrorKind::Unavailable
            | ErrorKind::RateLimited { .. }
            | ErrorKind::Locked { .. }
            | ErrorKind::Unsettled { .. } => Self::TimedOut,
            ErrorKind::Corrupt => Self::Corrupt(error.to_string()),
            _ => Self::Remote(error),
        }
    }
}

impl From<crate::cache::CacheError> for EngineError {
    fn from(error: crate::cache::CacheError) -> Self {
        use crate::cache::CacheError;
        match error {
            CacheError::OverLimit { .. } | CacheError::DiskFull { .. } => {
                Self::NoSpace(error.to_string())
            }
            CacheError::Moving { .. } => Self::Busy(error.to_string()),
            CacheError::Lost { .. } => Self::Lost,
            CacheError::Io { source, .. } => Self::Disk(source),
            CacheError::Unsuitable { .. } => Self::Disk(std::io::Error::other(error.to_string())),
        }
    }
}
