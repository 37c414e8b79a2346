//! Newtypes for the numbers and marks that would otherwise be mixed up.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Is an inode number: given once, never used again, the same after a remount.
    Ino
}
number! {
    /// Counts the remote contents an inode has stood for; part of its data file's name.
    Generation
}
number! {
    /// Names one content of an inode, here or at the remote; it moves on with every edit and with every new remote version.
    Edition
}
number! {
    /// Orders what happened in one catalog: larger is later. Survives restarts.
    Tick
}

impl Ino {
    /// The root folder.
    pub const ROOT: Self = Self(1);
}

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Is the remote's opaque mark of one content of one file (an ETag, a version id); only equality means anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub String);

/// Is the remote's stable identity of an entry, kept over its moves and edits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteId(pub String);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RemoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tells whether a data file was written since: its size in bytes and its ctime in nanoseconds since 1970.
///
/// Nobody but the kernel sets a ctime, and dewfs never sets times, mode or owner of a data file, so an unequal stamp is an
/// edit and an equal one, once a clock tick old, is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Length of the data file in bytes.
    pub size: u64,
    /// Its ctime in nanoseconds since 1970.
    pub ctime: i64,
}
