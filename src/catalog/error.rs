//! What can go wrong in the catalog.

/// Is a failed catalog call.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// SQLite failed.
    #[error("catalog: {0}")]
    Database(#[from] rusqlite::Error),
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
