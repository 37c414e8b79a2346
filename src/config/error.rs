//! What can be wrong with what people wrote.

use std::path::PathBuf;

/// Is a refused word, in one line that names it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The remote specification.
    #[error("{0}")]
    Spec(String),
    /// An option or its value.
    #[error("{0}")]
    Option(String),
    /// Known to the contract, but not built yet.
    #[error("{0}: not available in this version")]
    Unavailable(String),
    /// A remount, which never mounts a second time.
    #[error("remount: not supported; unmount and mount again to change options")]
    Remount,
    /// A configuration file.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The mountpoint, or a place that does not fit the others.
    #[error("{0}")]
    Place(String),
    /// The credentials.
    #[error("{0}")]
    Credentials(String),
}

impl ConfigError {
    /// Whether it is about how something was written, rather than about what was found when it was looked at.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Spec(_) | Self::Option(_) | Self::Unavailable(_) | Self::File { .. })
    }
}
