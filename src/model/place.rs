//! Names, places and remote paths. A place is a parent and a name; no path is ever stored.

use std::fmt;

use super::Ino;

/// Names that begin like this belong to dewfs.
const OWN_PREFIX: &[u8] = b".dewfs-";

/// The longest name in bytes that Linux allows.
const NAME_MAX: usize = 255;

/// Says why bytes are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, `.` or `..`.
    #[error("a name cannot be empty, \".\" or \"..\"")]
    Reserved,
    /// Contains `/` or NUL.
    #[error("a name cannot contain \"/\" or NUL")]
    Separator,
    /// Longer than 255 bytes.
    #[error("a name has at most 255 bytes")]
    TooLong,
}

/// Is one name in a folder: 1 to 255 bytes of anything but `/` and NUL, never `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks `bytes` and takes them as a name.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes == b"." || bytes == b".." {
            return Err(NameError::Reserved);
        }
        if bytes.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(NameError::Separator);
        }
        if bytes.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// Whether the name is one of dewfs's own: never shown, never sent, never created by users.
    pub fn is_own(&self) -> bool {
        self.0.starts_with(OWN_PREFIX)
    }

    /// A name of dewfs's own, for a base whose place at the remote is unknown.
    pub(super) fn own(word: &str, number: u64) -> Self {
        let prefix = String::from_utf8_lossy(OWN_PREFIX);
        Self(format!("{prefix}{word}-{number}").into_bytes().into_boxed_slice())
    }

    /// The name for what comes back and whose old name is unknown.
    pub(super) fn found() -> Self {
        Self(b"found".to_vec().into_boxed_slice())
    }

    /// A fresh visible name to break a circle of occupied places with: should we never come back, it is an ordinary name.
    pub(super) fn fresh(&self, number: u64) -> Self {
        let tail = format!(" (moving {number})");
        let keep = self.0.len().min(NAME_MAX - tail.len());
        // Never cut within a UTF-8 sequence: a remote may take UTF-8 only.
        let keep = (0..=keep)
            .rev()
            .find(|at| self.0.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80))
            .unwrap_or(0);
        let mut name = self.0.get(..keep).unwrap_or_default().to_vec();
        name.extend_from_slice(tail.as_bytes());
        Self(name.into_boxed_slice())
    }

    /// Whether [`Self::own`] made it of this word.
    pub(super) fn is_own_for(&self, word: &str) -> bool {
        self.0.strip_prefix(OWN_PREFIX).is_some_and(|rest| rest.starts_with(word.as_bytes()))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name for people: what is not UTF-8 becomes U+FFFD.
    pub fn lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.lossy())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lossy())
    }
}

/// Is where an entry is: a parent and a name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The folder.
    pub parent: Ino,
    /// The name in it.
    pub name: Name,
}

impl Place {
    /// The place `name` in `parent`.
    pub fn new(parent: Ino, name: Name) -> Self {
        Self { parent, name }
    }
}

/// Is a path below the remote's root, as names from the top; empty for the root itself.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemotePath(pub Vec<Name>);

impl RemotePath {
    /// The remote's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Whether this is the remote's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of `name` in this folder.
    #[must_use]
    pub fn child(&self, name: Name) -> Self {
        let mut names = self.0.clone();
        names.push(name);
        Self(names)
    }

    /// The folder this path is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<&Name> {
        self.0.last()
    }

    /// Whether `self` is `other` or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        for (index, name) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            name.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
