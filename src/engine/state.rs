//! What people and scripts are told: plain values, in the words of the contract.

use std::collections::BTreeMap;

use crate::model::{Content, Kind, Pin};
use crate::remote::layers::Operation;

/// Is the state of a mount, one word: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountState {
    /// Sign-in needed.
    AuthRequired,
    /// The remote's root is gone or is another one: nothing is sent or removed.
    RemoteMissing,
    /// The remote cannot be reached.
    Offline,
    /// A person paused it.
    Paused,
    /// It works, with something to be told (see reason).
    Degraded,
    /// All well.
    Online,
}

impl MountState {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::AuthRequired => "auth-required",
            Self::RemoteMissing => "remote-missing",
            Self::Offline => "offline",
            Self::Paused => "paused",
            Self::Degraded => "degraded",
            Self::Online => "online",
        }
    }
}

/// Is the last thing that went wrong.
#[derive(Clone, Debug)]
pub struct LastError {
    /// When, nanoseconds since 1970.
    pub time: i64,
    /// Which item, as a path in the mount, if it was about one.
    pub path: Option<Vec<u8>>,
    /// What happened and what to do.
    pub message: String,
}

/// Is everything `status` shows of a mount (CONTRACT, JSON type `mount`), except what only the program knows.
#[derive(Clone, Debug)]
pub struct MountStatus {
    /// One word.
    pub state: MountState,
    /// Why, in a sentence, if not online.
    pub reason: Option<String>,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Items known.
    pub items: u64,
    /// Items not in sync.
    pub pending: u64,
    /// Items in transfer to the remote.
    pub uploading: u64,
    /// Items being fetched.
    pub hydrating: u64,
    /// Items held by the mass-change guard.
    pub held: u64,
    /// Conflict copies not resolved.
    pub conflicts: u64,
    /// Items that cannot be sent.
    pub errors: u64,
    /// The last thing that went wrong.
    pub last_error: Option<LastError>,
    /// Since when the oldest pending item waits, nanoseconds since 1970.
    pub oldest_pending: Option<i64>,
    /// When the remote last answered, nanoseconds since 1970.
    pub last_contact: Option<i64>,
    /// How changes are learnt: push, poll, walk, inotify, none.
    pub feed: &'static str,
    /// How that goes: `told`, `changes` (since a token), `folder-versions`, `listing` (again).
    pub feed_detail: &'static str,
    /// When the folder that was looked at longest ago was looked at, nanoseconds since 1970.
    pub oldest_look: Option<i64>,
    /// Bytes of content here.
    pub cache_used: u64,
    /// The limit.
    pub cache_limit: u64,
    /// Bytes not yet sent.
    pub cache_pending: u64,
    /// Bytes pinned.
    pub cache_pinned: u64,
    /// The remote's use and limit, where it tells.
    pub quota: Option<(Option<u64>, Option<u64>)>,
    /// Requests sent since the mount began, by cause: for users, for the feed, for transfers.
    pub requests_by: RequestsBy,
    /// Bytes of content read from the remote.
    pub bytes_down: u64,
    /// Bytes of content written to the remote.
    pub bytes_up: u64,
    /// Why hydrated files are not read and written past the daemon; `None`: they are.
    pub no_passthrough: Option<String>,
    /// Which program tells the kernel of files that it reads and writes itself.
    pub passthrough_by: Option<&'static str>,
}

/// Is what is counted besides what `status` shows, since the mount began.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Reads answered from here. What the kernel reads past the daemon is not counted.
    pub hits: u64,
    /// Reads that waited for the remote.
    pub misses: u64,
    /// How long the remote took to answer, by operation.
    pub operations: BTreeMap<&'static str, Operation>,
    /// Requests that were refused or failed, by class.
    pub errors: BTreeMap<&'static str, u64>,
}

/// Counts requests by their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestsBy {
    /// A program waited for it.
    pub user: u64,
    /// The change feed and background listing.
    pub feed: u64,
    /// Uploads, pins.
    pub transfer: u64,
}

impl RequestsBy {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.user + self.feed + self.transfer
    }
}

/// Is an item's relation to the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Nothing to send.
    InSync,
    /// Something to send.
    Pending,
    /// Being sent.
    Uploading,
    /// A conflict copy not resolved.
    Conflict,
    /// Cannot be sent: see the error.
    Error,
    /// Never sent.
    LocalOnly,
}

impl SyncState {
    /// The contract's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::Pending => "pending",
            Self::Uploading => "uploading",
            Self::Conflict => "conflict",
            Self::Error => "error",
            Self::LocalOnly => "local-only",
        }
    }
}

/// Is everything `status`, `ls` and the xattrs show of an item (CONTRACT, JSON type `item`).
#[derive(Clone, Debug)]
pub struct ItemStatus {
    /// Its path below the mountpoint, bytes, without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// Its type.
    pub kind: Kind,
    /// How much is here (files).
    pub content: Content,
    /// Whether it is being fetched.
    pub hydrating: bool,
    /// Whether all names are known (folders).
    pub listed: bool,
    /// Its relation to the remote.
    pub sync: SyncState,
    /// The effective pin.
    pub pin: Pin,
    /// The path of the item the pin comes from, if it is inherited.
    pub pin_from: Option<Vec<u8>>,
    /// The name of the rule that the pin comes from, if it does and one still fits.
    pub pin_rule: Option<String>,
    /// Length in bytes.
    pub size: u64,
    /// Bytes here.
    pub present_bytes: u64,
    /// Bytes not yet sent.
    pub pending_bytes: u64,
    /// Folders: items below not in sync.
    pub pending_below: u64,
    /// Shown mtime, nanoseconds since 1970.
    pub mtime: i64,
    /// The remote's stable identity.
    pub remote_id: Option<String>,
    /// The remote's version.
    pub version: Option<String>,
    /// Why it cannot be sent, or could not last time.
    pub error: Option<String>,
    /// Since when it is not in sync, nanoseconds since 1970.
    pub since: Option<i64>,
    /// When it is tried again, nanoseconds since 1970.
    pub retry_at: Option<i64>,
}

impl ItemStatus {
    /// The one word for icons (xattr `user.dewfs.state`).
    pub fn word(&self) -> &'static str {
        match self.sync {
            SyncState::Error => "error",
            SyncState::Conflict => "conflict",
            SyncState::Uploading => "uploading",
            SyncState::Pending => "pending",
            SyncState::LocalOnly => "local-only",
            SyncState::InSync if self.pending_below > 0 => "pending",
            SyncState::InSync if self.hydrating => "hydrating",
            SyncState::InSync => self.presence_word(),
        }
    }

    fn presence_word(&self) -> &'static str {
        match (self.kind, self.content) {
            (Kind::Folder, _) if !self.listed => "online-only",
            (Kind::Folder, _) | (_, Content::Hydrated) if self.pin == Pin::Pinned => "pinned",
            (Kind::Folder, _) | (_, Content::Hydrated) => "local",
            (_, Content::Partial) => "partial",
            (_, Content::Placeholder) => "online-only",
        }
    }

    /// The contract's word for how much is here (xattr `user.dewfs.content`).
    pub fn content_word(&self) -> &'static str {
        match (self.kind, self.content) {
            (Kind::Folder, _) if self.listed => "listed",
            (Kind::Folder, _) => "unlisted",
            (_, Content::Hydrated) => "local",
            (_, Content::Partial) => "partial",
            (_, Content::Placeholder) => "online-only",
        }
    }
}

/// The contract's word for a pin.
pub fn pin_word(pin: Pin) -> &'static str {
    match pin {
        Pin::Unspecified => "unspecified",
        Pin::Pinned => "pinned",
        Pin::Unpinned => "unpinned",
        Pin::Excluded => "excluded",
    }
}

/// Is what `free` did.
#[derive(Clone, Debug, Default)]
pub struct Freed {
    /// Bytes given back.
    pub bytes: u64,
    /// What had to be kept, with the reason: path, why.
    pub kept: Vec<(Vec<u8>, String)>,
}

/// Is what `hydrate` brought.
#[derive(Debug, Default)]
pub struct Hydrated {
    /// Bytes that came.
    pub bytes: u64,
    /// What did not come of what is below a folder, and why: path, error.
    pub failed: Vec<(Vec<u8>, super::EngineError)>,
}

/// Is one line of an item's history.
#[derive(Clone, Debug)]
pub struct Happened {
    /// When, nanoseconds since 1970.
    pub time: i64,
    /// What, in plain words.
    pub what: String,
}

/// Is how far something long is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The item, as a path in the mount.
    pub path: Vec<u8>,
    /// `hydrate`, `upload` or `list`.
    pub what: &'static str,
    /// Bytes (or entries) done.
    pub done: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
}
