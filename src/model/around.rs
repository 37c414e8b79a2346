//! What is asked about the rows around an inode: its lines of folders, its wanted place, who is in its way.

use std::collections::HashSet;

use super::{Attempt, Base, Edition, Ino, Kind, Name, Node, Observed, Place, RemotePath, Rows};

/// Longer than any path a kernel can name; a line this long is a circle in damaged rows.
const DEEPEST: usize = 1 << 16;

/// The word in the name of a base place that is unknown, while the inode keeps its local place.
pub(super) const PARKED: &str = "parked";
/// The word in the name of a base place that is unknown, while the inode has no local place.
pub(super) const HIDDEN: &str = "hidden";

/// Inodes whose step is under way in this process.
pub type Busy = HashSet<Ino>;

/// The inode and its folders here, ending at the root or at one without a place.
pub(super) fn line<R: Rows>(rows: &R, ino: Ino) -> Result<Vec<Node>, R::Error> {
    let mut line = Vec::new();
    let mut next = Some(ino);
    while let Some(at) = next.filter(|_| line.len() < DEEPEST) {
        let Some(node) = rows.node(at)? else { break };
        next = node.local.as_ref().filter(|_| at != Ino::ROOT).map(|place| place.parent);
        line.push(node);
    }
    Ok(line)
}

/// Whether `ino` is `folder` or is above it here.
pub(super) fn is_above<R: Rows>(rows: &R, ino: Ino, folder: Ino) -> Result<bool, R::Error> {
    Ok(line(rows, folder)?.iter().any(|node| node.ino == ino))
}

/// Whether the inode is kept here only: by its kind, or by an excluded name on its way.
pub(super) fn is_kept_here<R: Rows>(rows: &R, ino: Ino) -> Result<bool, R::Error> {
    let line = line(rows, ino)?;
    if line.first().is_some_and(|node| node.kind.is_local_only()) {
        return Ok(true);
    }
    for node in &line {
        if is_excluded(rows, node)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether its own name is one that is kept here only. What the remote has under such a name is synced as any other.
pub(super) fn is_excluded<R: Rows>(rows: &R, node: &Node) -> Result<bool, R::Error> {
    match &node.local {
        Some(place) if rows.is_excluded(place, node.kind)? => match rows.base(node.ino)? {
            Some(base) => Ok(!rows.is_excluded(&base.place, node.kind)?),
            None => Ok(true),
        },
        _ => Ok(false),
    }
}

/// Where the remote should have it: its local place, or `None` if it is deleted or kept here only.
pub(super) fn wanted<R: Rows>(rows: &R, node: &Node) -> Result<Option<Place>, R::Error> {
    if node.local.is_none() || is_kept_here(rows, node.ino)? {
        return Ok(None);
    }
    Ok(node.local.clone())
}

/// Whether its content is another one than the remote's.
pub(super) fn is_edited(node: &Node, base: Option<&Base>) -> bool {
    node.kind == Kind::File && base.is_none_or(|base| base.edition != node.edition)
}

/// Whether what is seen is the content that the base is about: a young version may be the same for two of them.
pub(super) fn is_version_of(base: &Base, seen: &Observed) -> bool {
    base.version == seen.version && base.size == seen.size
}

/// Whether what is seen at this place is another inode's entry of the same folder, whose name the remote does not tell from
/// this one.
pub(super) fn is_of_another<R: Rows>(
    rows: &R,
    ino: Ino,
    place: &Place,
    seen: &Observed,
) -> Result<bool, R::Error> {
    let folded = |name: &Name| name.lossy().to_lowercase();
    let is_alike = |base: &Base| {
        let is_beside = base.place.parent == place.parent && base.place.name != place.name;
        is_beside && folded(&base.place.name) == folded(&place.name)
    };
    if let Some(id) = &seen.id {
        return match rows.base_by_id(id)?.filter(|other| *other != ino) {
            Some(other) => Ok(rows.base(other)?.is_some_and(|base| is_alike(&base))),
            None => Ok(false),
        };
    }
    let beside = rows.bases_in(place.parent)?;
    Ok(beside
        .iter()
        .any(|(other, base)| *other != ino && is_version_of(base, seen) && is_alike(base)))
}

/// Whether nothing differs between here and the remote.
pub(super) fn is_in_sync<R: Rows>(rows: &R, node: &Node) -> Result<bool, R::Error> {
    let base = rows.base(node.ino)?;
    Ok(match (wanted(rows, node)?, base) {
        (None, base) => base.is_none_or(|base| base.place.name.is_own_for(HIDDEN)),
        (Some(_), None) => false,
        (Some(want), Some(base)) => {
            base.place == want && !is_edited(node, Some(&base)) && !base.young && !node.retouched
        }
    })
}

/// Its path at the remote; `None` if it has none.
pub fn path<R: Rows>(rows: &R, ino: Ino) -> Result<Option<RemotePath>, R::Error> {
    let mut names: Vec<Name> = Vec::new();
    let mut at = ino;
    while at != Ino::ROOT {
        let Some(base) = rows.base(at)?.filter(|_| names.len() < DEEPEST) else {
            return Ok(None);
        };
        names.push(base.place.name);
        at = base.place.parent;
    }
    names.reverse();
    Ok(Some(RemotePath(names)))
}

/// The remote path of a base place; `None` if its folder has none.
pub fn path_of<R: Rows>(rows: &R, place: &Place) -> Result<Option<RemotePath>, R::Error> {
    Ok(path(rows, place.parent)?.map(|folder| folder.child(place.name.clone())))
}

/// Whose base is at this remote path.
pub fn by_path<R: Rows>(rows: &R, path: &RemotePath) -> Result<Option<Ino>, R::Error> {
    by_names(rows, &path.0)
}

/// Whose base is at the remote path of these names.
pub(super) fn by_names<R: Rows>(rows: &R, names: &[Name]) -> Result<Option<Ino>, R::Error> {
    let mut at = Ino::ROOT;
    for name in names {
        match rows.base_at(&Place::new(at, name.clone()))? {
            Some(ino) => at = ino,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// The inode and the base folders above it, without the root.
pub(super) fn base_line<R: Rows>(rows: &R, ino: Ino) -> Result<Vec<Ino>, R::Error> {
    let mut line = Vec::new();
    let mut at = ino;
    while at != Ino::ROOT && line.len() < DEEPEST {
        let Some(base) = rows.base(at)? else { break };
        line.push(at);
        at = base.place.parent;
    }
    Ok(line)
}

/// The base folders that its old and its new remote path go through, itself included.
fn ways<R: Rows>(rows: &R, node: &Node) -> Result<Vec<Ino>, R::Error> {
    let mut ways = base_line(rows, node.ino)?;
    if let Some(place) = &node.local {
        ways.extend(base_line(rows, place.parent)?);
    }
    Ok(ways)
}

/// Whether the inode or a folder on its ways is missing: nothing can be said about its path.
pub(super) fn is_parked<R: Rows>(rows: &R, node: &Node) -> Result<bool, R::Error> {
    for ino in ways(rows, node)? {
        if rows.missing(ino)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A folder on its ways whose own attempt has no answer yet.
pub(super) fn unresolved_above<R: Rows>(rows: &R, node: &Node) -> Result<Option<Ino>, R::Error> {
    let attempts = rows.attempts()?;
    if attempts.is_empty() {
        return Ok(None);
    }
    let ways = ways(rows, node)?;
    let open = |ino: &Ino| *ino != node.ino && attempts.iter().any(|(at, _)| at == ino);
    Ok(ways.into_iter().find(open))
}

/// The places that an attempt may change.
pub(super) fn places(attempt: &Attempt) -> impl Iterator<Item = &Place> {
    attempt.source.iter().chain(attempt.target.iter())
}

/// The inode (other than `but`) with an attempt without an answer that is about this place.
pub(super) fn attempted<R: Rows>(
    rows: &R,
    place: &Place,
    but: Option<Ino>,
) -> Result<Option<Ino>, R::Error> {
    let about = |(ino, attempt): &(Ino, Attempt)| {
        Some(*ino) != but && places(attempt).any(|known| known == place)
    };
    Ok(rows.attempts()?.into_iter().find(about).map(|(ino, _)| ino))
}

/// Whether a base folder on the way is being changed: its paths mean nothing until the answer is known.
pub fn is_attempted_above<R: Rows>(rows: &R, folder: Ino) -> Result<bool, R::Error> {
    let attempts = rows.attempts()?;
    if attempts.is_empty() {
        return Ok(false);
    }
    let above = base_line(rows, folder)?;
    Ok(attempts.iter().any(|(ino, _)| above.contains(ino)))
}

/// Whether observations may be applied to it: it has no outbox row.
pub(super) fn is_judged<R: Rows>(rows: &R, ino: Ino) -> Result<bool, R::Error> {
    Ok(rows.outbox(ino)?.is_none())
}

/// The base that an observation gives.
pub(super) fn new_base(place: Place, seen: &Observed, edition: Edition) -> Base {
    Base {
        place,
        version: seen.version.clone(),
        id: seen.id.clone(),
        edition,
        known: seen.digest,
        young: seen.kind == Kind::File && !seen.settled,
        listed: false,
        size: seen.size,
        extra: seen.extra.clone(),
    }
}

/// Whether the remote path of `ino` is still `known`.
pub(super) fn is_still_at<R: Rows>(
    rows: &R,
    ino: Ino,
    known: &RemotePath,
) -> Result<bool, R::Error> {
    Ok(path(rows, ino)?.as_ref() == Some(known))
}
