//! What can go wrong with local bytes, named for what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::model::shown_bytes;

/// Is the result of this room.
pub type Result<T> = std::result::Result<T, CacheError>;

/// Says why local bytes could not be had, kept or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The limit for cached content would be passed: free or evict something, then ask again.
    #[error(
        "cache limit reached: {} more do not fit ({} of {} used); free content or raise cache_size=",
        shown_bytes(*.needed), shown_bytes(*.used), shown_bytes(*.limit)
    )]
    OverLimit {
        /// Bytes asked for.
        needed: u64,
        /// Bytes used and reserved.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk is full, or would be filled beyond `min_free`: evict, give up the ballast, then ask again.
    #[error("disk full at {path}: free space there or lower min_free")]
    DiskFull {
        /// The file or directory.
        path: PathBuf,
    },
    /// The file was written to while it was looked at: try again later.
    #[error("{path} is being written to")]
    Moving {
        /// The data file.
        path: PathBuf,
    },
    /// The disk did not take what was written: what the file holds now may be anything.
    #[error("the local disk lost a part of {path}")]
    Lost {
        /// The data file.
        path: PathBuf,
    },
    /// No state directory can be kept there: choose another place.
    #[error("{dir} cannot hold a state directory: {reason}; choose another with state_dir=")]
    Unsuitable {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: "read", "create", …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CacheError {
    /// Names what was tried and on what; a full disk or quota becomes [`CacheError::DiskFull`].
    pub(super) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }

    /// The system's error number, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
