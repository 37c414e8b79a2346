//! The JSON documents of mounts and items, as types. `docs/json.md` shows every document, and a test compares.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::engine::{ItemStatus, MountStatus, pin_word};
use crate::model::Kind;

use super::MountInfo;

/// The value of `format` in every document.
pub const FORMAT: u32 = 1;

/// A time as RFC 3339 in UTC, to the millisecond.
pub fn rfc3339(nanoseconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()?;
    Some(format!("{time:.3}"))
}

/// The document as one line, without its end.
pub fn to_line(document: &impl Serialize) -> String {
    // Plain structs of text and numbers always serialize.
    serde_json::to_string(document).unwrap_or_default()
}

/// Is a path as JSON carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathText {
    /// Text; what is not UTF-8 is U+FFFD.
    pub path: String,
    /// The bytes, if they are not UTF-8.
    pub path_base64: Option<String>,
}

impl PathText {
    /// A path from bytes.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { path: text.to_owned(), path_base64: None },
            Err(_) => Self {
                path: String::from_utf8_lossy(bytes).into_owned(),
                path_base64: Some(STANDARD.encode(bytes)),
            },
        }
    }

    /// The absolute path of `below` in the mount at `mountpoint`.
    pub fn in_mount(mountpoint: &Path, below: &[u8]) -> Self {
        let mut bytes = mountpoint.as_os_str().as_bytes().to_vec();
        if !below.is_empty() {
            if bytes.last() != Some(&b'/') {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(below);
        }
        Self::of(&bytes)
    }
}

/// Is a mount's last trouble.
#[derive(Clone, Debug, Serialize)]
pub struct Trouble {
    /// When.
    pub time: Option<String>,
    /// Which item, if it was about one.
    pub path: Option<String>,
    /// What happened.
    pub message: String,
}

/// Is the content kept here, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct CacheDocument {
    /// Bytes here.
    pub used_bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
    /// Not yet sent.
    pub pending_bytes: u64,
    /// Pinned.
    pub pinned_bytes: u64,
}

/// Is the remote's room, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Quota {
    /// Used.
    pub used_bytes: Option<u64>,
    /// The limit.
    pub limit_bytes: Option<u64>,
}

/// Is what went to and fro since the mount began.
#[derive(Clone, Debug, Serialize)]
pub struct Traffic {
    /// Requests in all.
    pub requests: u64,
    /// Of them, those that a program waited for.
    pub requests_user: u64,
    /// Of them, those that asked for changes and listed in the background.
    pub requests_feed: u64,
    /// Of them, those that sent, or fetched what is pinned.
    pub requests_transfer: u64,
    /// Bytes of content read.
    pub bytes_down: u64,
    /// Bytes of content written.
    pub bytes_up: u64,
}

/// Is a mount's state.
#[derive(Clone, Debug, Serialize)]
pub struct Mount {
    format: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    facts: MountFacts,
    state: &'static str,
    reason: Option<String>,
    read_only: bool,
    items: u64,
    pending: u64,
    uploading: u64,
    hydrating: u64,
    held: u64,
    conflicts: u64,
    errors: u64,
    last_error: Option<Trouble>,
    oldest_pending: Option<String>,
    last_contact: Option<String>,
    feed: &'static str,
    feed_detail: &'static str,
    oldest_look: Option<String>,
    cache: CacheDocument,
    quota: Quota,
    traffic: Traffic,
    passthrough: bool,
    passthrough_reason: Option<String>,
    passthrough_by: Option<&'static str>,
}

/// Is what a mount is, apart from how it goes.
#[derive(Clone, Debug, Serialize)]
pub struct MountFacts {
    mountpoint: String,
    mountpoint_base64: Option<String>,
    remote: String,
    name: String,
    id: String,
    pid: u32,
    version: &'static str,
}

impl Mount {
    /// The document of a mount.
    pub fn of(status: &MountStatus, info: &MountInfo) -> Self {
        let PathText { path, path_base64 } = PathText::in_mount(&info.mountpoint, b"");
        let (used, limit) = status.quota.unwrap_or((None, None));
        let requests = status.requests_by;
        Self {
            format: FORMAT,
            kind: "mount",
            facts: MountFacts {
                mountpoint: path,
                mountpoint_base64: path_base64,
                remote: info.remote.clone(),
                name: info.name.clone(),
                id: info.id.clone(),
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION"),
            },
            state: status.state.word(),
            reason: status.reason.clone(),
            read_only: status.read_only,
            items: status.items,
            pending: status.pending,
            uploading: status.uploading,
            hydrating: status.hydrating,
            held: status.held,
            conflicts: status.conflicts,
            errors: status.errors,
            last_error: status.last_error.as_ref().map(|error| Trouble {
                time: rfc3339(error.time),
                path: error
                    .path
                    .as_ref()
                    .map(|path| PathText::in_mount(&info.mountpoint, path).path),
                message: error.message.clone(),
            }),
            oldest_pending: status.oldest_pending.and_then(rfc3339),
            last_contact: status.last_contact.and_then(rfc3339),
            feed: status.feed,
            feed_detail: status.feed_detail,
            oldest_look: status.oldest_look.and_then(rfc3339),
            cache: CacheDocument {
                used_bytes: status.cache_used,
                limit_bytes: status.cache_limit,
                pending_bytes: status.cache_pending,
                pinned_bytes: status.cache_pinned,
            },
            quota: Quota { used_bytes: used, limit_bytes: limit },
            traffic: Traffic {
                requests: requests.total(),
                requests_user: requests.user,
                requests_feed: requests.feed,
                requests_transfer: requests.transfer,
                bytes_down: status.bytes_down,
                bytes_up: status.bytes_up,
            },
            passthrough: status.no_passthrough.is_none(),
            passthrough_reason: status.no_passthrough.clone(),
            passthrough_by: status.passthrough_by,
        }
    }
}

/// Is an item's state.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    format: u32,
    #[serde(rename = "type")]
    document: &'static str,
    #[serde(flatten)]
    path: PathText,
    kind: &'static str,
    state: &'static str,
    content: &'static str,
    sync: &'static str,
    pin: &'static str,
    pin_from: Option<String>,
    pin_rule: Option<String>,
    size: u64,
    present_bytes: u64,
    pending_bytes: u64,
    pending_below: u64,
    mtime: Option<String>,
    remote_id: Option<String>,
    version: Option<String>,
    error: Option<String>,
    since: Option<String>,
    retry_at: Option<String>,
}

impl Item {
    /// The document of an item of the mount at `mountpoint`.
    pub fn of(status: &ItemStatus, mountpoint: &Path) -> Self {
        Self {
            format: FORMAT,
            document: "item",
            path: PathText::in_mount(mountpoint, &status.path),
            kind: kind_word(status.kind),
            state: status.word(),
            content: status.content_word(),
            sync: status.sync.word(),
            pin: pin_word(status.pin),
            pin_from: status
                .pin_from
                .as_ref()
                .map(|from| PathText::in_mount(mountpoint, from).path),
            pin_rule: status.pin_rule.clone(),
            size: status.size,
            present_bytes: status.present_bytes,
            pending_bytes: status.pending_bytes,
            pending_below: status.pending_below,
            mtime: rfc3339(status.mtime),
            remote_id: status.remote_id.clone(),
            version: status.version.clone(),
            error: status.error.clone(),
            since: status.since.and_then(rfc3339),
            retry_at: status.retry_at.and_then(rfc3339),
        }
    }
}

pub(super) fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Folder => "folder",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}
