//! Times and modes set here after the content was sent: the remote gets them by a step of their own.

use std::collections::BTreeMap;

use super::around::{is_edited, wanted};
use super::reconcile::{mark, miss_by_settle, refresh};
use super::settle::{Begun, Refusal, current};
use super::touch::touch;
use super::{Base, Ino, Kind, Observed, Rows};

/// How far the mtime that a remote keeps may be from the one sent, nanoseconds: many keep seconds.
const COARSE: u64 = 2_000_000_000;

/// Says what besides content was set here and is still to be sent: a set of bits, none of them at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched(pub u8);

impl Touched {
    /// The mtime.
    pub const MTIME: Self = Self(1);
    /// Permission bits.
    pub const MODE: Self = Self(2);
    /// The owner.
    pub const OWNER: Self = Self(4);
    /// The group.
    pub const GROUP: Self = Self(8);
    /// Some of its user attributes.
    pub const ATTRIBUTES: Self = Self(16);
    /// It was made here: whatever was set goes with its first content, even if that replaces what somebody else made.
    pub const NEW: Self = Self(32);
    /// All that a step of its own sends.
    pub const ALL: Self = Self(31);

    /// Whether one of these is among them.
    pub fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    /// These and those, if `so`.
    pub fn with(self, those: Self, so: bool) -> Self {
        if so { Self(self.0 | those.0) } else { self }
    }
}

/// Is what was sent besides content, as it was shown here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Which of the following were sent, or will never be held there.
    pub sent: Touched,
    /// Mtime, nanoseconds since 1970.
    pub mtime: i64,
    /// Permission bits, if any were set.
    pub mode: Option<u32>,
    /// Owner, if one was set.
    pub uid: Option<u32>,
    /// Group, if one was set.
    pub gid: Option<u32>,
    /// User attributes by name; those without a value were removed.
    pub attributes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// The remote has, or will never hold, what was sent: of that there is nothing more to send if it is shown still.
pub fn metadata_sent<R: Rows>(rows: &mut R, ino: Ino, shown: &Shown) -> Result<(), R::Error> {
    rows.set_sent(ino, shown)?;
    touch(rows, ino)
}

/// Setting it succeeded; `seen` is what is there now, with the mtime that was sent, if one was.
pub fn metadata_set<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
    seen: &Observed,
    mtime: Option<i64>,
    shown: &Shown,
) -> Result<(), R::Error> {
    if !current(rows, ino, begun)? {
        return Ok(());
    }
    let Some(base) = rows.base(ino)? else { return Ok(()) };
    let near = |sent: i64| seen.mtime.is_none_or(|seen| seen.abs_diff(sent) < COARSE);
    let ours = seen.kind == Kind::File && seen.size == base.size && mtime.is_none_or(near);
    if ours {
        rows.set_base(ino, Some(moved_on(base, seen)))?;
        rows.set_sent(ino, shown)?;
    } else if is_same_version_of_another(rows, ino, &base, seen)? {
        rows.set_sent(ino, shown)?;
        refresh(rows, ino, seen)?;
    } else {
        // Somebody changed it in the same moment: the next step goes under the old version, and finds that.
        mark(rows, base.place.parent)?;
    }
    touch(rows, ino)
}

/// The remote cannot hold all of it; `seen` is what is there now. What it could may have been set, and shows where it notes that.
pub fn metadata_not_held<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
    seen: Option<&Observed>,
    shown: &Shown,
) -> Result<(), R::Error> {
    let (Some(base), Some(seen)) = (rows.base(ino)?, seen) else {
        return metadata_refused(rows, ino, begun, Refusal::Mismatch, seen);
    };
    if (seen.kind, seen.size, &seen.version) != (Kind::File, base.size, &base.version) {
        // What was set was set on another one.
        return metadata_refused(rows, ino, begun, Refusal::Mismatch, Some(seen));
    }
    if !current(rows, ino, begun)? {
        return Ok(());
    }
    rows.set_base(ino, Some(moved_on(base, seen)))?;
    metadata_sent(rows, ino, shown)
}

/// Whether the remote has another content under the version that we know, as there are while versions are young: no step finds
/// that by the version.
fn is_same_version_of_another<R: Rows>(
    rows: &R,
    ino: Ino,
    base: &Base,
    seen: &Observed,
) -> Result<bool, R::Error> {
    let Some(node) = rows.node(ino)?.filter(|node| node.kind == seen.kind) else {
        return Ok(false);
    };
    let is_another = seen.version == base.version && seen.size != base.size;
    Ok(is_another && !is_edited(&node, Some(base)) && wanted(rows, &node)?.is_some())
}

/// It was refused; `seen` is what is there now, with its digest if it may be the content that we know.
pub fn metadata_refused<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
    refusal: Refusal,
    seen: Option<&Observed>,
) -> Result<(), R::Error> {
    if !current(rows, ino, begun)? {
        return Ok(());
    }
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    match seen {
        None => miss_by_settle(rows, ino)?,
        Some(seen) if seen.kind != node.kind => {
            mark(rows, base.place.parent)?;
            miss_by_settle(rows, ino)?;
        }
        Some(_) if refusal != Refusal::Mismatch => {}
        Some(seen) if is_known(&base, seen) => rows.set_base(ino, Some(moved_on(base, seen)))?,
        // Of an edited or a deleted one, the conditional write or remove will find it: what nobody saw is not removed.
        Some(_) if is_edited(&node, Some(&base)) || wanted(rows, &node)?.is_none() => {}
        Some(seen) => refresh(rows, ino, seen)?,
    }
    touch(rows, ino)
}

/// Setting it has no answer: the content that we know, under another version, is our doing.
pub(super) fn resolve_metadata<R: Rows>(
    rows: &mut R,
    ino: Ino,
    base: Base,
    here: Option<&Observed>,
) -> Result<(), R::Error> {
    match here {
        Some(seen) if seen.version != base.version && is_known(&base, seen) => {
            rows.set_base(ino, Some(moved_on(base, seen)))
        }
        _ => Ok(()),
    }
}

fn is_known(base: &Base, seen: &Observed) -> bool {
    seen.kind == Kind::File && base.known.is_some() && seen.digest == base.known
}

fn moved_on(base: Base, seen: &Observed) -> Base {
    Base {
        version: seen.version.clone(),
        id: seen.id.clone(),
        extra: seen.extra.clone(),
        // What was not to be relied on is no surer under the version that came of it: its content is compared later.
        young: base.young || !seen.settled,
        ..base
    }
}
