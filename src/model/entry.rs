//! What an entry is, how much of it is here, and what was seen of it at the remote.

use super::{RemoteId, Version};

/// Is the type of an inode. Only files and folders exist on remotes; the others live here only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Folder,
    /// A symbolic link, local only.
    Symlink,
    /// A named pipe, local only.
    Fifo,
    /// A socket, local only.
    Socket,
}

impl Kind {
    /// Whether this kind is never sent to a remote.
    pub fn is_local_only(self) -> bool {
        !matches!(self, Self::File | Self::Folder)
    }
}

/// Says how many bytes of a file are here; nothing about whether they are in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// No bytes here.
    Placeholder,
    /// Some blocks here.
    Partial,
    /// All bytes here.
    Hydrated,
}

/// Is what somebody asked for an item: whether its content should be here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pin {
    /// Nothing was asked; the parent may say something.
    #[default]
    Unspecified,
    /// Always keep on this device.
    Pinned,
    /// Free up when possible.
    Unpinned,
    /// Never synced.
    Excluded,
}

/// Identifies a content for certain: its length in bytes and its BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the bytes.
    pub hash: [u8; 32],
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}b:", self.size)?;
        self.hash[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Is what a remote says about one entry: all that the decisions need of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// File or folder.
    pub kind: Kind,
    /// Length in bytes; 0 for folders.
    pub size: u64,
    /// Mtime in nanoseconds since 1970, where the remote tells one.
    pub mtime: Option<i64>,
    /// The version of the content; of folders a mark that changes when something in it does, or `""`.
    pub version: Version,
    /// Whether the version can be relied on: `false` while a later change might get the same one.
    pub settled: bool,
    /// The stable identity, where the remote has one.
    pub id: Option<RemoteId>,
    /// What the content is for certain, where that is known (the remote told a digest, or the engine read it).
    pub digest: Option<Digest>,
    /// Permission bits where the remote holds them.
    pub mode: Option<u32>,
    /// Opaque to the engine; handed back to the remote with the entry's locator.
    pub extra: Option<Vec<u8>>,
}
