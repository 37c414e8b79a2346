//! What stores of one's own are made of: plain values, and the rules that every change keeps to.
//!
//! A store that looks and changes in one step asks [`may_write`], [`may_make_folder`], [`may_rename`] or [`may_remove`] while
//! nobody else can change it, then does what it was asked. `look` answers what is at a path; the root is a folder.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::NameError;

use super::{
    Body, ByteStream, Capabilities, Conditional, ErrorKind, Expect, FeedKind, Kind, ListPage,
    Listed, Locator, Name, Observed, RemoteError, RemotePath, Result, Upload, Version, names,
};

impl Capabilities {
    /// What a store can do that is only read: parts of files, and nothing about changes.
    pub fn read_only(product: impl Into<String>) -> Self {
        Self {
            ranges: true,
            conditional: Conditional::None,
            writable: false,
            stable_ids: false,
            rename: false,
            server_copy: false,
            settable_mtime: false,
            settable_mode: false,
            settable_extended: false,
            version_tick: std::time::Duration::ZERO,
            feed: FeedKind::Walk,
            folder_versions: false,
            product: product.into(),
            identity: None,
            dot_names: true,
        }
    }

    /// What a store can do that compares and changes in one step, renames, and gives no version twice.
    pub fn read_write(product: impl Into<String>) -> Self {
        let conditional = Conditional::Atomic;
        Self { conditional, writable: true, rename: true, ..Self::read_only(product) }
    }
}

impl Observed {
    /// A file of so many bytes, in a version that can be relied on.
    pub fn file(version: impl Into<String>, size: u64) -> Self {
        Self { kind: Kind::File, size, ..Self::folder(version) }
    }

    /// A folder; `""` is the version of one that has none.
    pub fn folder(version: impl Into<String>) -> Self {
        Self {
            kind: Kind::Folder,
            size: 0,
            mtime: None,
            version: Version(version.into()),
            settled: true,
            id: None,
            digest: None,
            mode: None,
            extra: None,
        }
    }
}

impl ListPage {
    /// The whole of a folder in one page, out of what a store holds: what lies in it, without the names that are dewfs's own.
    /// `NotFound` if there is no such folder.
    pub fn of<'a>(
        folder: &RemotePath,
        all: impl IntoIterator<Item = (&'a RemotePath, Observed)>,
    ) -> Result<Self> {
        let (mut entries, mut is_there) = (Vec::new(), folder.is_root());
        for (path, entry) in all {
            is_there |= path == folder && entry.kind == Kind::Folder;
            match path.0.split_last() {
                Some((name, above)) if above == folder.0 && !names::is_hidden(name.as_bytes()) => {
                    entries.push(Listed { name: name.clone(), entry });
                }
                _ => {}
            }
        }
        match is_there {
            true => Ok(Self { entries, ..Self::default() }),
            false => Err(RemoteError::new(ErrorKind::NotFound, "list", folder)),
        }
    }
}

impl<B: Into<Bytes>> From<B> for ByteStream {
    fn from(bytes: B) -> Self {
        let bytes = bytes.into();
        Self { length: bytes.len() as u64, total: None, bytes: stream::iter([Ok(bytes)]).boxed() }
    }
}

impl Upload {
    /// All its bytes, for stores that take a content in one piece: counted, at the pace it may go at, and asked at the end
    /// whether they are still whole. `Other` if they are not, or not as many as they should be.
    pub async fn whole(&self, at: &Locator) -> Result<Bytes> {
        let failed = || RemoteError::new(ErrorKind::Other, "write", &at.path);
        let bytes = match &self.body {
            Body::Memory(bytes) => bytes.clone(),
            Body::File(path) => {
                tokio::fs::read(path).await.map_err(|error| failed().because(error))?.into()
            }
        };
        let length = bytes.len() as u64;
        if length != self.digest.size {
            return Err(failed().because("it has not the length that was told"));
        }
        let tell = |sent| self.progress.as_ref().map(|progress| progress(sent));
        let mut sent = 0;
        while let Some(pace) = self.pace.as_ref().filter(|_| sent < length) {
            let part = pace.portion().min(length - sent);
            pace.take(part).await;
            sent += part;
            tell(sent);
        }
        tell(length);
        match super::is_still_whole(self.still_whole.as_ref()).await {
            true => Ok(bytes),
            false => Err(failed().because("it was changed while it was sent")),
        }
    }
}

impl RemotePath {
    /// The names with `/` between them, as a key; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.0.iter().map(Name::as_bytes).collect();
        names.join(&b'/')
    }

    /// The path of such a key.
    pub fn from_bytes(key: &[u8]) -> std::result::Result<Self, NameError> {
        let parts = key.split(|byte| *byte == b'/').filter(|_| !key.is_empty());
        parts.map(Name::new).collect::<std::result::Result<_, _>>().map(Self)
    }

    /// Where this is after `from` was moved to `to`; `None` if it is not there or below.
    #[must_use]
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let below = self.0.strip_prefix(from.0.as_slice())?;
        Some(Self(to.0.iter().chain(below).cloned().collect()))
    }
}

/// As its key: a list of bytes.
impl Serialize for RemotePath {
    fn serialize<S: Serializer>(&self, into: S) -> std::result::Result<S::Ok, S::Error> {
        self.to_bytes().serialize(into)
    }
}

impl<'de> Deserialize<'de> for RemotePath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        Self::from_bytes(&Vec::<u8>::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl RemoteError {
    /// What the machine said of a store that lies on it: full, not permitted, or anything else.
    pub fn io(operation: &'static str, path: impl ToString, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            _ => ErrorKind::Other,
        };
        Self::new(kind, operation, path).because(error)
    }
}

impl Expect {
    /// Whether what was found is what is expected: else `AlreadyExists`, `NotFound` or `VersionMismatch`.
    pub fn check(
        &self,
        operation: &'static str,
        at: &RemotePath,
        found: Option<&Observed>,
    ) -> Result<()> {
        let kind = match (self, found) {
            (Self::Any, _) | (Self::Absent, None) => return Ok(()),
            (Self::Absent, Some(_)) => ErrorKind::AlreadyExists,
            (_, None) => ErrorKind::NotFound,
            (Self::Folder, Some(seen)) if seen.kind == Kind::Folder => return Ok(()),
            (Self::Version(version), Some(seen))
                if seen.kind == Kind::File && seen.version == *version =>
            {
                return Ok(());
            }
            _ => ErrorKind::VersionMismatch,
        };
        Err(RemoteError::new(kind, operation, at))
    }
}

/// Whether a content may be put at `at`: its folder is there, what is expected is there, and no folder is.
pub fn may_write(
    at: &RemotePath,
    expect: &Expect,
    look: impl Fn(&RemotePath) -> Option<Observed>,
) -> Result<()> {
    let found = look(at);
    need_folder("write", at, &look)?;
    expect.check("write", at, found.as_ref())?;
    match found {
        Some(seen) if seen.kind == Kind::Folder => {
            Err(RemoteError::new(ErrorKind::AlreadyExists, "write", at))
        }
        _ => Ok(()),
    }
}

/// Whether a folder may be made at `at`: nothing is there, but the folder that it is in.
pub fn may_make_folder(
    at: &RemotePath,
    look: impl Fn(&RemotePath) -> Option<Observed>,
) -> Result<()> {
    need_folder("make folder", at, &look)?;
    Expect::Absent.check("make folder", at, look(at).as_ref())
}

/// Whether what is at `from` may be moved to `to`, and what it is: `to` is free, in a folder, and not in `from` itself.
pub fn may_rename(
    from: &RemotePath,
    to: &RemotePath,
    expect: &Expect,
    look: impl Fn(&RemotePath) -> Option<Observed>,
) -> Result<Observed> {
    let found = look(from);
    expect.check("rename", from, found.as_ref())?;
    let Some(seen) = found else {
        return Err(RemoteError::new(ErrorKind::NotFound, "rename", from));
    };
    need_folder("rename", to, &look)?;
    Expect::Absent.check("rename", to, look(to).as_ref())?;
    if from.is_root() || to.starts_with(from) {
        return Err(RemoteError::new(ErrorKind::Denied, "rename", to));
    }
    Ok(seen)
}

/// Whether what is at `at` may be removed: it is what is expected, and nothing of all these paths lies below it.
pub fn may_remove<'a>(
    at: &RemotePath,
    expect: &Expect,
    mut all: impl Iterator<Item = &'a RemotePath>,
    look: impl Fn(&RemotePath) -> Option<Observed>,
) -> Result<()> {
    let found = look(at);
    expect.check("remove", at, found.as_ref())?;
    let kind = match found {
        None => ErrorKind::NotFound,
        Some(_) if at.is_root() => ErrorKind::Denied,
        Some(_) if all.any(|path| path != at && path.starts_with(at)) => ErrorKind::NotEmpty,
        Some(_) => return Ok(()),
    };
    Err(RemoteError::new(kind, "remove", at))
}

fn need_folder(
    operation: &'static str,
    at: &RemotePath,
    look: impl Fn(&RemotePath) -> Option<Observed>,
) -> Result<()> {
    let kind = match at.parent().map(|parent| look(&parent)) {
        Some(Some(seen)) if seen.kind == Kind::Folder => return Ok(()),
        Some(_) => ErrorKind::NoParent,
        None => ErrorKind::Denied,
    };
    Err(RemoteError::new(kind, operation, at))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use tokio::time::{Duration, Instant};

    use super::*;
    use crate::remote::layers::Pace;
    use crate::remote::{AttemptTag, Digest};

    fn path(key: &str) -> RemotePath {
        RemotePath::from_bytes(key.as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_a_path_and_comes_back() {
        for key in ["", "a", "a/b c/ä"] {
            assert_eq!(path(key).to_bytes(), key.as_bytes());
            let text = serde_json::to_string(&path(key)).unwrap();
            assert_eq!(serde_json::from_str::<RemotePath>(&text).unwrap(), path(key));
        }
        assert_eq!(path("").0.len(), 0);
        for wrong in ["/", "a//b", "../x", "a/\0"] {
            assert!(RemotePath::from_bytes(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert_eq!(path("a/b/c").moved(&path("a/b"), &path("x")), Some(path("x/c")));
        assert_eq!(path("a/b").moved(&path("a/b"), &path("x")), Some(path("x")));
        assert_eq!(path("a/bc").moved(&path("a/b"), &path("x")), None);
    }

    #[test]
    fn the_root_is_neither_moved_nor_removed_nor_made() {
        let look = |at: &RemotePath| at.is_root().then(|| Observed::folder(""));
        let root = RemotePath::root();
        let kinds = [
            may_remove(&root, &Expect::Any, [].iter(), look).unwrap_err().kind,
            may_rename(&root, &path("a"), &Expect::Any, look).unwrap_err().kind,
            may_make_folder(&root, look).unwrap_err().kind,
            may_write(&root, &Expect::Any, look).unwrap_err().kind,
        ];
        assert_eq!(kinds, [(); 4].map(|()| ErrorKind::Denied));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_in_one_piece_keeps_its_pace_and_tells_how_far_it_is() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&told);
        let body = Upload {
            body: Body::Memory(vec![7; 10_000].into()),
            digest: Digest { size: 10_000, hash: [0; 32] },
            mtime: None,
            mode: None,
            extended: crate::remote::Extended::default(),
            tag: AttemptTag { mount: "m".into(), item: 1, nonce: 1 },
            still_whole: None,
            progress: Some(Arc::new(move |sent| note.lock().unwrap().push(sent))),
            pace: Some(Arc::new(Pace::new(1000))),
        };
        let begun = Instant::now();
        assert_eq!(body.whole(&Locator::at(path("a"))).await.unwrap().len(), 10_000);
        assert!(begun.elapsed() > Duration::from_millis(9700), "{:?}", begun.elapsed());
        let told = told.lock().unwrap().clone();
        assert!(told.len() >= 80 && told.is_sorted(), "{told:?}");
        assert_eq!(told.last(), Some(&10_000));
        let changed = Upload { still_whole: Some(Arc::new(|| false)), pace: None, ..body };
        let refused = changed.whole(&Locator::at(path("a"))).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Other);
    }
}
