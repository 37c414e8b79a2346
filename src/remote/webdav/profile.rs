//! What is known of one server beyond what the engine asks for; the careful assumption until it was probed.

use crate::remote::{Capabilities, Conditional, FeedKind};

use super::look::TICK;

/// Is how a server behaves, as far as the steps of a change depend on it.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// PUT and DELETE honour conditions, and a PUT is seen whole or not at all.
    pub(super) straight: bool,
    /// MOVE honours `Overwrite: F`.
    pub(super) no_overwrite: bool,
    /// MOVE keeps the version.
    pub(super) keeps_version: bool,
    /// MKCOL refuses where something is.
    pub(super) honest_mkcol: bool,
    /// MOVE makes missing parents.
    pub(super) move_makes_parents: bool,
    /// PUT makes missing parents.
    pub(super) put_makes_parents: bool,
    /// Whether listings show names that begin with a dot, once that is known.
    pub(super) lists_dots: Option<bool>,
    /// Names with control characters are kept as they are.
    pub(super) keeps_control: bool,
    /// Names that are no UTF-8 are kept as they are.
    pub(super) keeps_bytes: bool,
    /// HEAD tells of a file all that a listing does; whether that is an ETag, too.
    pub(super) heads: Option<bool>,
    /// PUT takes an mtime with it.
    pub(super) mtime_by_put: bool,
    /// Two contents of one size sent with one mtime have one version.
    pub(super) mtime_is_version: bool,
    /// PROPPATCH sets an mtime.
    pub(super) mtime_by_proppatch: bool,
    /// What it calls an id stays with an entry over edits and moves.
    pub(super) keeps_ids: bool,
    /// A folder's ETag changes whenever anything below it does.
    pub(super) folder_versions: bool,
    /// Changes since a token can be asked for (RFC 6578).
    pub(super) syncs: bool,
}

/// Is all that is known of a server.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) capabilities: Capabilities,
    pub(super) profile: Profile,
}

impl Known {
    /// What is safe with every server.
    pub(super) fn careful() -> Self {
        let capabilities = Capabilities {
            ranges: true,
            conditional: Conditional::None,
            writable: true,
            stable_ids: false,
            rename: true,
            server_copy: false,
            settable_mtime: false,
            settable_mode: false,
            settable_extended: false,
            version_tick: TICK,
            feed: FeedKind::Walk,
            folder_versions: false,
            product: "WebDAV".to_owned(),
            identity: None,
            dot_names: true,
        };
        let profile = Profile {
            straight: false,
            no_overwrite: false,
            keeps_version: false,
            honest_mkcol: false,
            move_makes_parents: true,
            put_makes_parents: true,
            lists_dots: None,
            keeps_control: true,
            keeps_bytes: true,
            heads: None,
            mtime_by_put: false,
            mtime_is_version: false,
            mtime_by_proppatch: false,
            keeps_ids: false,
            folder_versions: false,
            syncs: false,
        };
        Self { capabilities, profile }
    }
}
