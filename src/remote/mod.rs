//! What a cloud looks like from here: one trait, its values and its errors.
//!
//! A remote is only ever an observation: nothing it says is the truth about names or bytes here until the engine has
//! recorded it. A backend makes up inside its own folder what its store lacks (temporary name and rename for an atomic
//! write, a walk for a change feed), so that the engine has no special case for any store. A backend does not believe its
//! store either: lengths, ranges and listings are checked, and names that cannot be names here are shown under a
//! reversible escape.

mod behind;
mod error;
pub mod folder;
pub mod layers;
pub mod memory;
pub mod names;
pub mod serve;
pub mod store;
pub mod webdav;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use crate::model::{Digest, Expect, Kind, Name, Observed, RemoteId, RemotePath, Version};
pub use error::{ErrorKind, RemoteError, Result, Verdict};

/// Names that begin like this belong to dewfs: hidden in every mount, never created by users.
pub const OWN_PREFIX: &[u8] = b".dewfs-";

/// Says where an entry is, for a remote: the path, and what the remote itself noted about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// The path below the remote's root.
    pub path: RemotePath,
    /// Its stable identity, where known.
    pub id: Option<RemoteId>,
    /// What the remote put into [`Observed::extra`].
    pub extra: Option<Vec<u8>>,
}

impl Locator {
    /// A locator that knows only the path.
    pub fn at(path: RemotePath) -> Self {
        Self { path, id: None, extra: None }
    }
}

/// Is one named entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, already made legal here.
    pub name: Name,
    /// What it is.
    pub entry: Observed,
}

/// Is one page of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Entries in any order; no name twice in one whole listing.
    pub entries: Vec<Listed>,
    /// Where the next page begins; `None` after the last. A listing is whole only when this was `None`.
    pub next: Option<PageToken>,
    /// The version of the folder itself, not later than the entries; where a folder's version changes with what is below it.
    pub folder: Option<Version>,
}

/// Is a remote's own mark of where a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

/// Is a remote's own mark of how far its changes were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Is one page of changes: hints to look at, never facts. Duplicates, gaps and wrong order are allowed.
#[derive(Clone, Debug)]
pub struct ChangePage {
    /// Paths to look at; the path of a folder means that its listing may have changed as well.
    pub hints: Vec<Hint>,
    /// Where the next page begins.
    pub cursor: Cursor,
    /// Whether there is more right now.
    pub more: bool,
}

/// Is a reason to look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Something may have happened to this entry.
    Entry(RemotePath),
    /// Something may have happened in this folder: list it again if it is listed.
    Folder(RemotePath),
}

/// Is a stream of bytes with its length known beforehand.
pub struct ByteStream {
    /// How many bytes will come, no more and no fewer.
    pub length: u64,
    /// How many bytes the whole content has, as far as the answer tells: versions of some servers stay the same while a file
    /// gets another size.
    pub total: Option<u64>,
    /// The bytes in order. Ends with an error if the remote cut it short; never silently.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Is where the bytes of an upload come from. It can be read again from the start when a request is repeated.
#[derive(Clone, Debug)]
pub enum Body {
    /// Small contents, in memory.
    Memory(Bytes),
    /// A file nobody changes while it is sent (a snapshot), or one that the engine checks before the commit step.
    File(PathBuf),
}

/// Says which upload this is, so that its temporary can be found again after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptTag {
    /// The mount's identity, short and safe in a file name.
    pub mount: String,
    /// The inode.
    pub item: u64,
    /// The attempt's nonce.
    pub nonce: u64,
}

/// Is asked just before the step that makes an upload visible: whether what was sent is still whole.
pub type CommitCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// Asks a commit check, if there is one. It may wait for the disk, which must not keep the runtime's threads.
pub(crate) async fn is_still_whole(check: Option<&CommitCheck>) -> bool {
    let Some(check) = check.cloned() else { return true };
    tokio::task::spawn_blocking(move || check()).await.unwrap_or(false)
}

/// How much longer a server may be silent over a change that is about so many bytes: it may copy, check and scan them before it
/// answers, and who gives up sends all of it again for ever.
pub(crate) fn commit_time(bytes: u64) -> std::time::Duration {
    std::time::Duration::from_secs(bytes / (32 << 20))
}

/// Is one upload.
#[derive(Clone)]
pub struct Upload {
    /// The bytes.
    pub body: Body,
    /// What they are for certain, where known beforehand.
    pub digest: Digest,
    /// Mtime in nanoseconds since 1970, for remotes that hold one.
    pub mtime: Option<i64>,
    /// Permission bits, for remotes that hold them. Without, a file that is replaced keeps those that it has.
    pub mode: Option<u32>,
    /// Owner, group and user attributes, for remotes that hold them; what is not said a file that is replaced keeps.
    pub extended: Extended,
    /// Which attempt this is.
    pub tag: AttemptTag,
    /// Asked before the commit step; `false` aborts with `Other` and leaves nothing visible.
    pub still_whole: Option<CommitCheck>,
    /// Told how many bytes went out so far.
    pub progress: Option<Arc<dyn Fn(u64) + Send + Sync>>,
    /// How fast bytes may go out; asked before each piece.
    pub pace: Option<Arc<layers::Pace>>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("digest", &self.digest)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// Is what can be set besides content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Mtime in nanoseconds since 1970.
    pub mtime: Option<i64>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner, group and user attributes.
    pub extended: Extended,
}

/// Is what few remotes hold. As much of it is set as the remote can hold for who asks; that it cannot is no error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// The owner's number.
    pub uid: Option<u32>,
    /// The group's number.
    pub gid: Option<u32>,
    /// `user.*` attributes by name; those without a value are to be removed.
    pub attributes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// Is how much room a remote has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Used, where told.
    pub used: Option<u64>,
    /// The limit, where told.
    pub limit: Option<u64>,
}

/// Says how sure a conditional change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditional {
    /// The store compares and changes in one step.
    Atomic,
    /// It looks, then acts; or the backend does. What is displaced is kept aside until a look after it.
    Checked,
    /// Nothing honours conditions, not even a rename without overwrite.
    None,
}

/// Says how changes by others are learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedKind {
    /// The store tells at once.
    Push,
    /// A cursor is asked now and then.
    Poll,
    /// Listed folders are looked at again.
    Walk,
    /// The local kernel tells.
    Inotify,
    /// Not at all.
    None,
}

/// Lists what a remote can do: facts that the engine acts on, found by looking.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Whether parts of a file can be read.
    pub ranges: bool,
    /// How sure its conditions are.
    pub conditional: Conditional,
    /// Whether anything can be written at all.
    pub writable: bool,
    /// Whether entries keep an identity over moves and edits.
    pub stable_ids: bool,
    /// Whether it can rename on its side.
    pub rename: bool,
    /// Whether it can copy on its side.
    pub server_copy: bool,
    /// Whether an upload's mtime is kept.
    pub settable_mtime: bool,
    /// Whether permission bits are kept.
    pub settable_mode: bool,
    /// Whether owner, group and `user.*` attributes of files are kept, as far as who mounts may set them.
    pub settable_extended: bool,
    /// How fine its versions are: two changes within this long may get the same version. Zero if they never do.
    pub version_tick: Duration,
    /// How changes by others are learnt.
    pub feed: FeedKind,
    /// Whether a folder's version changes whenever anything below it does, at any depth.
    pub folder_versions: bool,
    /// What it is, for people: `nginx`, `Apache`, `directory on ext4` …
    pub product: String,
    /// Who it says it is (root id, bucket, file system UUID and inode), to notice that it is another one.
    pub identity: Option<String>,
    /// Whether names that begin with a dot can be held; where not, they are `NameRejected`.
    pub dot_names: bool,
}

fn unsupported<T>(operation: &'static str, at: &Locator) -> Result<T> {
    Err(RemoteError::new(ErrorKind::Unsupported, operation, &at.path))
}

/// Is a place that holds files and folders: a directory, a WebDAV server, a bucket.
///
/// A store that only reads implements `capabilities`, `stat`, `list` and `read`, and mounts read-only. Every method may be
/// called from many tasks at once. An error whose kind [`is_unanswered`](ErrorKind::is_unanswered) leaves open whether the
/// request was applied; every other error means that it was not.
#[async_trait]
pub trait Remote: Send + Sync + fmt::Debug {
    /// What this remote can do, as known now: assumed at first, found by [`probe`](Self::probe).
    fn capabilities(&self) -> Capabilities;

    /// Looks what the remote can do, by asking it. Leaves nothing behind there. `Offline`, `Unauthenticated`, `NotFound`
    /// (the root is not there) and `Unsupported` (it is no such server) are the errors people meet at mount.
    async fn probe(&self) -> Result<Capabilities> {
        Ok(self.capabilities())
    }

    /// Who it says it is, asked anew, as [`Capabilities::identity`] was when it was probed; `NotFound` if its root is not there.
    async fn identity(&self) -> Result<Option<String>> {
        let root = Locator::at(RemotePath::root());
        match self.stat(&root).await? {
            Some(_) => Ok(self.capabilities().identity),
            None => Err(RemoteError::new(ErrorKind::NotFound, "identity", &root.path)),
        }
    }

    /// What is there now; `None` if nothing is, which is no error.
    async fn stat(&self, at: &Locator) -> Result<Option<Observed>>;

    /// One page of a folder's entries. `NotFound` if there is no folder. Names that begin with [`OWN_PREFIX`] are left out.
    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage>;

    /// The bytes of `range` in the content that `version` names; `VersionMismatch` if it is another one now, `NotFound` if
    /// nothing is there; never other bytes. The range lies within the file.
    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream>;

    /// Makes this the content at `at`: readers there see the old file or the new one, never a part. Under `expect`, else
    /// `AlreadyExists`, `NotFound` or `VersionMismatch`. A file replaced keeps its identity where the store can.
    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        drop((body, expect));
        unsupported("write", at)
    }

    /// Creates a folder; `AlreadyExists` if anything is there, `NoParent` if its parent is not.
    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        unsupported("make folder", at)
    }

    /// Moves a file or a folder with all in it; never replaces: `AlreadyExists`. `expect` is about what is at `from`:
    /// `NotFound` or `VersionMismatch`. `NoParent` if the folder of `to` is not there.
    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        tag: &AttemptTag,
    ) -> Result<Observed> {
        drop((to, expect, tag));
        unsupported("rename", from)
    }

    /// Removes a file, or a folder only if it is empty: `NotEmpty`. Under `expect`, else `NotFound` or `VersionMismatch`.
    async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
        drop((expect, tag));
        unsupported("remove", at)
    }

    /// Removes or gives back what an attempt without an answer may have left under a private name beside `at`; removes
    /// nothing that is unknown. Called before its outcome is looked at.
    async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
        let _unused = (at, expect, tag);
        Ok(())
    }

    /// Sets times and mode without touching the content. Under `expect`, else `NotFound` or `VersionMismatch`; `Unsupported`
    /// where nothing of it can be kept.
    async fn set_metadata(
        &self,
        at: &Locator,
        metadata: &Metadata,
        expect: Expect,
    ) -> Result<Observed> {
        drop((metadata, expect));
        unsupported("set metadata of", at)
    }

    /// How much room there is, where it tells.
    async fn space(&self) -> Result<Option<Space>> {
        Ok(None)
    }

    /// How many seconds its clock is ahead of ours (less than 0: behind), as its answers told; `None` if none did.
    fn clock_ahead(&self) -> Option<i64> {
        None
    }

    /// Hints about what changed since `since`; with `None`, none, and the cursor of now. `CursorExpired` = look at all.
    async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
        let _unused = since;
        unsupported("changes of", &Locator::at(RemotePath::root()))
    }

    /// Whether a move of what is at `from` into `folder` cannot be made there, as from one file system into another.
    fn divides(&self, from: &RemotePath, folder: &RemotePath) -> bool {
        let _unused = (from, folder);
        false
    }

    /// Whether two identities, noted at other times, are of one remote.
    fn is_same(&self, known: &str, told: &str) -> bool {
        known == told
    }

    /// A stream that yields when `changes` is worth asking at once, where the store can push.
    fn watch(&self) -> Option<BoxStream<'static, ()>> {
        None
    }

    /// Tells the remote which folders are listed here, for feeds that watch or walk only those.
    fn interested(&self, folder: &Locator) {
        let _unused = folder;
    }
}
