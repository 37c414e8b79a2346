//! The JSON documents that say how something went. `docs/json.md` shows each of them, and a test compares.

use std::path::Path;

use serde::Serialize;

use crate::engine::{Freed, Happened, Held, ItemStatus, Progress, Resolved, Restored, pin_word};
use crate::model::{Name, Pin, original_name};

use super::document::{FORMAT, PathText, rfc3339};

/// Is something that happened just now.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    format: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    pub(super) time: Option<String>,
    event: &'static str,
    #[serde(flatten)]
    path: PathText,
    pub(super) from: Option<String>,
    pub(super) what: Option<String>,
    done: Option<u64>,
    total: Option<u64>,
    pub(super) message: Option<String>,
}

impl Event {
    /// How far something is, now.
    pub fn progress(progress: &Progress, mountpoint: &Path) -> Self {
        let mut event = Self::plain("progress", PathText::in_mount(mountpoint, &progress.path));
        event.what = Some(progress.what.to_owned());
        event.done = Some(progress.done);
        event.total = progress.total;
        event
    }

    /// An event of which nothing more is known.
    pub(super) fn plain(event: &'static str, path: PathText) -> Self {
        Self {
            format: FORMAT,
            kind: "event",
            time: Some(format!("{:.3}", jiff::Timestamp::now())),
            event,
            path,
            from: None,
            what: None,
            done: None,
            total: None,
            message: None,
        }
    }
}

/// Makes a document of plain fields.
macro_rules! small_document {
    ($(#[$doc:meta])* $name:ident, $type:literal, { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize)]
        pub struct $name {
            format: u32,
            #[serde(rename = "type")]
            document: &'static str,
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl $name {
            /// The document with these values.
            #[allow(clippy::too_many_arguments)]
            pub fn new($($field: $kind),*) -> Self {
                Self { format: FORMAT, document: $type, $($field),* }
            }
        }
    };
}

pub(super) use small_document;

small_document! {
    /// Is what `hydrate` brought.
    Fetched, "hydrated", {
        /// What was asked for.
        #[serde(flatten)]
        path: PathText,
        /// Bytes fetched.
        bytes: u64,
    }
}
small_document! {
    /// Is one thing that `free` or `cache clear` kept, and why.
    Dropped, "freed", {
        /// Bytes given back.
        bytes: u64,
        /// Whether it was only asked what would be.
        dry_run: bool,
        /// What had to be kept.
        kept: Vec<Problem>,
    }
}
small_document! {
    /// Is an item and what is the matter with it.
    Problem, "problem", {
        /// The item.
        #[serde(flatten)]
        path: PathText,
        /// What is the matter.
        message: String,
    }
}
small_document! {
    /// Is a pin that was set or taken away.
    Pinned, "pin", {
        /// The item.
        #[serde(flatten)]
        path: PathText,
        /// The state it was given.
        pin: &'static str,
        /// Bytes still to come.
        bytes_left: u64,
        /// The folder whose pin is in effect, if it is not the item's own.
        pin_from: Option<String>,
        /// The rule that pins a file, if one does.
        pin_rule: Option<String>,
    }
}
small_document! {
    /// Is one line of an item's history.
    History, "history", {
        /// The item.
        #[serde(flatten)]
        path: PathText,
        /// When.
        time: Option<String>,
        /// What happened.
        message: String,
    }
}
small_document! {
    /// Is how `sync`, `status --wait` and `umount` ended.
    SyncDocument, "sync", {
        /// Where.
        #[serde(flatten)]
        path: PathText,
        /// Whether all is in sync.
        in_sync: bool,
        /// Items left.
        left: u64,
        /// Items that wait for a person.
        attention: u64,
    }
}
small_document! {
    /// Is the end of `umount`.
    Unmounted, "unmounted", {
        /// The mountpoint.
        #[serde(flatten)]
        path: PathText,
        /// Items left.
        left: u64,
    }
}
small_document! {
    /// Is what `cache verify` found in all.
    Checked, "verified", {
        /// How many files differ.
        problems: u64,
    }
}
small_document! {
    /// Is the numbers of `cache stat`.
    Flow, "cache", {
        /// Bytes here.
        used_bytes: u64,
        /// The limit.
        limit_bytes: u64,
        /// Not yet sent.
        pending_bytes: u64,
        /// Pinned.
        pinned_bytes: u64,
        /// Items known.
        items: u64,
        /// The state directory.
        state_dir: String,
    }
}

small_document! {
    /// Is what the daemon speaks.
    ProtocolDocument, "protocol", {
        /// The version of the protocol.
        version: u32,
        /// The oldest one it understands.
        oldest: u32,
        /// The program's version.
        dewfs: &'static str,
    }
}

small_document! {
    /// Is one change that the mass-change guard holds.
    HeldDocument, "held", {
        /// The item; of a deleted one where it was.
        #[serde(flatten)]
        path: PathText,
        /// `delete` or `overwrite`.
        what: &'static str,
        /// Bytes at the remote.
        size: u64,
        /// Since when.
        since: Option<String>,
    }
}
small_document! {
    /// Is what `release` let go.
    Released, "released", {
        /// The mountpoint.
        #[serde(flatten)]
        path: PathText,
        /// Items.
        items: u64,
        /// Whether it was only asked what would be.
        dry_run: bool,
    }
}
small_document! {
    /// Is one item that `undo` brought back.
    RestoredDocument, "restored", {
        /// The item.
        #[serde(flatten)]
        path: PathText,
        /// `back`, `reverted`, or `left`: it is in use.
        what: &'static str,
        /// Where its edited content is now.
        kept: Option<String>,
        /// Whether it was only asked what would be.
        dry_run: bool,
    }
}
small_document! {
    /// Is one conflict copy that is not resolved.
    Conflict, "conflict", {
        /// The copy.
        #[serde(flatten)]
        path: PathText,
        /// The file that it is a copy of, by its name.
        original: Option<String>,
        /// Bytes.
        size: u64,
        /// When its content was last changed.
        mtime: Option<String>,
    }
}

small_document! {
    /// Is one conflict copy that was decided.
    ResolvedDocument, "resolved", {
        /// The copy, as it was called.
        #[serde(flatten)]
        path: PathText,
        /// The file that it was a copy of, by its name.
        original: Option<String>,
        /// `mine`, `theirs` or `both`.
        keep: &'static str,
        /// Where content is now that was never sent.
        kept: Option<String>,
        /// Whether it was only asked what would be.
        dry_run: bool,
    }
}

impl ResolvedDocument {
    /// One of the engine's.
    pub fn of(resolved: &Resolved, dry_run: bool, mountpoint: &Path) -> Self {
        let path = PathText::in_mount(mountpoint, &resolved.path);
        let original = (!resolved.original.is_empty())
            .then(|| PathText::in_mount(mountpoint, &resolved.original).path);
        let kept = resolved.kept.as_ref().map(|kept| kept.to_string_lossy().into_owned());
        Self::new(path, original, resolved.keep.word(), kept, dry_run)
    }
}

impl HeldDocument {
    /// One of the engine's.
    pub fn of(held: &Held, mountpoint: &Path) -> Self {
        let path = PathText::in_mount(mountpoint, &held.path);
        Self::new(path, held.what, held.size, rfc3339(held.since))
    }
}

impl RestoredDocument {
    /// One that is back.
    pub fn of(restored: &Restored, mountpoint: &Path) -> Self {
        let kept = restored.kept.as_ref().map(|kept| kept.to_string_lossy().into_owned());
        Self::new(PathText::in_mount(mountpoint, &restored.path), restored.what, kept, false)
    }

    /// One that would be back.
    pub fn would_be(held: &Held, mountpoint: &Path) -> Self {
        let what = if held.what == "delete" { "back" } else { "reverted" };
        Self::new(PathText::in_mount(mountpoint, &held.path), what, None, true)
    }
}

impl Conflict {
    /// One copy.
    pub fn of(copy: &ItemStatus, mountpoint: &Path) -> Self {
        let start = copy.path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (folder, name) = copy.path.split_at(start);
        let original = Name::new(name)
            .ok()
            .and_then(|name| original_name(&name))
            .map(|name| PathText::in_mount(mountpoint, &[folder, name.as_bytes()].concat()).path);
        let path = PathText::in_mount(mountpoint, &copy.path);
        Self::new(path, original, copy.size, rfc3339(copy.mtime))
    }
}

impl Dropped {
    /// What the engine freed.
    pub fn of(freed: &Freed, dry_run: bool, mountpoint: &Path) -> Self {
        let kept = freed
            .kept
            .iter()
            .map(|(path, why)| Problem::new(PathText::in_mount(mountpoint, path), why.clone()));
        Self::new(freed.bytes, dry_run, kept.collect())
    }
}

impl History {
    /// One line of the engine's.
    pub fn of(happened: &Happened, path: &[u8], mountpoint: &Path) -> Self {
        Self::new(
            PathText::in_mount(mountpoint, path),
            rfc3339(happened.time),
            happened.what.clone(),
        )
    }
}

impl Pinned {
    /// A pin as it is now.
    pub fn of(
        path: &[u8],
        (pin, from): (Pin, Option<&[u8]>),
        bytes_left: u64,
        mountpoint: &Path,
    ) -> Self {
        let from = from.map(|from| PathText::in_mount(mountpoint, from).path);
        Self::new(PathText::in_mount(mountpoint, path), pin_word(pin), bytes_left, from, None)
    }
}
