//! What rows look like outside the catalog.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;

use crate::model::{
    BlockSet, Content, Edition, Generation, Ino, Kind, Name, Pin, Place, Stamp, Touched,
};

/// Says who makes a change: what the kernel itself asked for it knows already and need not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A system call here.
    Kernel,
    /// The engine: feed, listing, upload, a person's command.
    Engine,
}

/// Is a committed change that others care about. Names are told only for `Origin::Engine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The name in this folder now means another inode, or nothing. `gone` is who left it, if anybody.
    Name {
        /// The folder.
        parent: Ino,
        /// The name.
        name: Name,
        /// Who was there.
        gone: Option<Ino>,
    },
    /// Size, times, mode or owner of the inode changed.
    Attributes(Ino),
    /// The inode stands for another content now: another generation.
    Content(Ino),
    /// There is something to send, or it may go now.
    Outbox,
    /// There is a folder to list.
    Listing,
    /// A folder is wholly listed now.
    Listed(Ino),
    /// A data file is no longer needed by its row: to be unlinked once this commit is synced.
    Forgotten {
        /// The inode.
        ino: Ino,
        /// The generation of the data file.
        generation: Generation,
    },
    /// A data file holds edits that can never be made whole: to be kept in `recovered/`. It is not told
    /// as forgotten as well.
    Rescued {
        /// The inode.
        ino: Ino,
        /// The generation of the data file.
        generation: Generation,
    },
    /// A pin changed somewhere.
    Pins,
    /// An inode came out of sync, or into it again.
    Sync(Ino),
    /// An inode became a conflict copy, or is none any more.
    Conflict(Ino),
    /// Nothing changed: who asked waits for everything before it to be told.
    Mark(Mark),
}

/// Is a place in the order of what is told, passed from hand to hand up to the last who tells it.
#[derive(Clone, Debug, Default)]
pub struct Mark(Arc<Notify>);

impl Mark {
    /// Says that everything before it was told.
    pub fn reached(&self) {
        self.0.notify_one();
    }

    /// Waits until it was reached.
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}

impl PartialEq for Mark {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Mark {}

/// Is what `stat` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Length in bytes.
    pub size: u64,
    /// Shown mtime, nanoseconds since 1970.
    pub mtime: i64,
    /// Shown atime, nanoseconds since 1970.
    pub atime: i64,
    /// Shown ctime, nanoseconds since 1970.
    pub ctime: i64,
    /// Permission bits set by users; `None`: the mount's default.
    pub mode: Option<u32>,
    /// Owner set by users; `None`: the mount's.
    pub uid: Option<u32>,
    /// Group set by users; `None`: the mount's.
    pub gid: Option<u32>,
}

/// Is an inode row as the engine's verbs need it.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// Its type.
    pub kind: Kind,
    /// Where users see it.
    pub local: Option<Place>,
    /// Which data file holds its bytes.
    pub generation: Generation,
    /// Which content it stands for.
    pub edition: Edition,
    /// What `stat` shows.
    pub attributes: Attributes,
    /// How much is here.
    pub content: Content,
    /// Whether some of it was written here since the base (then blocks are never refetched over it).
    pub edited: bool,
    /// The stamp of the data file when `edition` was last known to be its content; `None` without data file.
    pub stamp: Option<Stamp>,
    /// The mtime of the data file noted when a user set the shown mtime: the shown one holds until the data file moves on.
    pub mtime_of_data: Option<i64>,
    /// The pin set on it.
    pub pin: Pin,
    /// Folders: whether all names are known (there is no base, or the base is listed).
    pub listed: bool,
    /// Whether it has an outbox row.
    pub pending: bool,
    /// What besides its content was set here and is still to be sent.
    pub touched: Touched,
    /// Link target of a symlink.
    pub target: Option<Vec<u8>>,
}

/// Is what a new local inode begins with.
#[derive(Clone, Debug)]
pub struct NewInode {
    /// Its type.
    pub kind: Kind,
    /// Where it is created.
    pub place: Place,
    /// Permission bits.
    pub mode: u32,
    /// Owner, if not the mount's own.
    pub uid: Option<u32>,
    /// Group, if not the mount's own.
    pub gid: Option<u32>,
    /// Now, nanoseconds since 1970.
    pub now: i64,
    /// Link target of a symlink.
    pub target: Option<Vec<u8>>,
    /// How long it rests before it is sent, nanoseconds; `None`: not at all.
    pub rests: Option<i64>,
}

/// Is one entry of a folder, with what a `readdirplus` needs.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Its name.
    pub name: Name,
    /// The inode.
    pub inode: Inode,
}

/// Is an item not in sync, for people.
#[derive(Clone, Debug)]
pub struct PendingItem {
    /// The inode.
    pub ino: Ino,
    /// Since when.
    pub since: SystemTime,
    /// When it is tried again, if not at once.
    pub not_before: Option<SystemTime>,
    /// Tries so far.
    pub tries: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// Whether an attempt is under way or without an answer.
    pub attempting: bool,
}

/// Is an outbox row with its times, for the uploader.
#[derive(Clone, Debug)]
pub struct OutboxItem {
    /// The inode.
    pub ino: Ino,
    /// Since when it is not in sync, nanoseconds since 1970.
    pub since: i64,
    /// Not to be tried before, nanoseconds since 1970.
    pub not_before: Option<i64>,
    /// Tries that failed in a row.
    pub tries: u32,
    /// Why the last one failed, for people.
    pub error: Option<String>,
    /// The same as one word of the engine's choice.
    pub error_kind: Option<String>,
}

/// Is what the catalog knows of a remote endpoint as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// How far the change feed was applied.
    pub cursor: Option<String>,
    /// Who the remote said it is.
    pub identity: Option<String>,
}

/// Is what a user set of an inode's attributes; `None` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Atime, nanoseconds since 1970.
    pub atime: Option<i64>,
    /// Mtime, nanoseconds since 1970.
    pub mtime: Option<i64>,
    /// Ctime, nanoseconds since 1970.
    pub ctime: Option<i64>,
    /// With `mtime`: the mtime of the data file at this moment, if there is one.
    pub mtime_of_data: Option<i64>,
}

/// Is a line of an inode's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, nanoseconds since 1970.
    pub time: i64,
    /// What happened, in plain words.
    pub what: String,
}

/// Sums up sizes, for `statfs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Inodes with a local place.
    pub items: u64,
    /// Their sizes.
    pub bytes: u64,
}

/// Counts what the catalog holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inodes with a local place.
    pub items: u64,
    /// Outbox rows.
    pub pending: u64,
    /// Outbox rows with an error.
    pub errors: u64,
    /// Folders not listed yet.
    pub unlisted: u64,
    /// Conflict copies made here and not resolved.
    pub conflicts: u64,
}

/// Is a set of blocks with the generation it belongs to.
#[derive(Clone, Debug)]
pub struct Presence {
    /// The generation.
    pub generation: Generation,
    /// The blocks here.
    pub blocks: BlockSet,
}

/// Is what a search shows of an item.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is, as names from the root.
    pub path: Vec<Name>,
    /// Its type.
    pub kind: Kind,
    /// Length in bytes; 0 for folders.
    pub size: u64,
    /// Shown mtime, nanoseconds since 1970.
    pub mtime: i64,
    /// How much is here (files).
    pub content: Content,
    /// Bytes here.
    pub present: u64,
    /// Folders: whether all names are known.
    pub listed: bool,
}

/// Says which files come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// The largest.
    Largest,
    /// Those changed last.
    Recent,
}

/// Is what a folder holds, all that is below counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The folder.
    pub folder: Ino,
    /// Files and other things that are no folders.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Length of all files, bytes.
    pub size: u64,
    /// Bytes here.
    pub present: u64,
}

impl Usage {
    /// An empty folder.
    pub fn of(folder: Ino) -> Self {
        Self { folder, files: 0, folders: 0, size: 0, present: 0 }
    }

    /// Counts in what a folder below holds itself.
    pub fn add(&mut self, below: &Self) {
        self.files += below.files;
        self.folders += below.folders;
        self.size += below.size;
        self.present += below.present;
    }
}
