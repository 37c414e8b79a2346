//! Applies what was observed at the remote. What cannot be applied now marks its folder look-again, so nothing is forgotten.

use super::around::{
    HIDDEN, PARKED, attempted, by_names, is_attempted_above, is_edited, is_judged, is_version_of,
    new_base, wanted,
};
use super::relocate::relocate;
use super::revive::revive;
use super::touch::touch;
use super::{Base, Ino, Kind, Name, Node, Observed, Place, RemotePath, Rows, Tick, Version};

/// Says how far an observation can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// No base in that folder changed since the look began.
    pub fresh: bool,
    /// It counts even in a folder that is not listed: it comes from a listing, or is about a known identity.
    pub forced: bool,
}

impl Trust {
    /// Seen just now, in answer to a step of ours.
    pub const NOW: Self = Self { fresh: true, forced: false };
}

/// Applies `seen` (`None`: nothing is there) at the remote path `at`.
pub fn reconcile<R: Rows>(
    rows: &mut R,
    at: &RemotePath,
    seen: Option<&Observed>,
    trust: Trust,
) -> Result<(), R::Error> {
    let Some((name, above)) = at.0.split_last() else { return Ok(()) };
    if name.is_own() {
        return Ok(());
    }
    let folder = match by_names(rows, above)? {
        Some(ino) => rows.node(ino)?.filter(|node| node.kind == Kind::Folder),
        None => None,
    };
    match folder {
        Some(folder) => {
            reconcile_in(rows, folder.ino, Place::new(folder.ino, name.clone()), seen, trust)
        }
        None => unknown_folder(rows, above),
    }
}

fn reconcile_in<R: Rows>(
    rows: &mut R,
    folder: Ino,
    place: Place,
    seen: Option<&Observed>,
    trust: Trust,
) -> Result<(), R::Error> {
    let Some(above) = rows.base(folder)? else { return Ok(()) };
    let known = rows.base_at(&place)?;
    if attempted(rows, &place, None)?.is_some() || is_attempted_above(rows, folder)? {
        return mark(rows, folder);
    }
    if !above.listed && known.is_none() && !trust.forced {
        return hint_while_listing(rows, folder, seen);
    }
    if !trust.fresh {
        return mark(rows, folder);
    }
    let Some(seen) = seen else {
        // An older listing under way must not bring it back.
        rows.touch_folder(folder)?;
        return known.map_or(Ok(()), |ino| miss(rows, ino, Replaced::No));
    };
    judge(rows, place, known, seen)
}

/// A hint for a name nobody knows matters only if the folder is being listed.
fn hint_while_listing<R: Rows>(
    rows: &mut R,
    folder: Ino,
    seen: Option<&Observed>,
) -> Result<(), R::Error> {
    if !rows.is_listing(folder) {
        return Ok(());
    }
    if seen.is_none() {
        // A page under way must not bring it back.
        rows.touch_folder(folder)?;
    }
    mark(rows, folder)
}

fn judge<R: Rows>(
    rows: &mut R,
    place: Place,
    known: Option<Ino>,
    seen: &Observed,
) -> Result<(), R::Error> {
    let mover = match &seen.id {
        Some(id) => rows.base_by_id(id)?,
        None => None,
    };
    if let Some(mover) = mover.filter(|mover| Some(*mover) != known)
        && rows.node(mover)?.is_some_and(|node| node.kind == seen.kind)
    {
        return relocate(rows, mover, known, place, seen);
    }
    let Some(ino) = known else { return appear(rows, place, seen) };
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    let other_id = base.is_other_than(seen) && mover != Some(ino) && is_judged(rows, ino)?;
    if rows.is_listing(place.parent) {
        // A page under way may be older, and without it.
        rows.touch_folder(place.parent)?;
    }
    if node.kind != seen.kind || other_id {
        miss(rows, ino, Replaced::Yes)?;
        if rows.base_at(&place)?.is_some() {
            return mark(rows, place.parent);
        }
        return appear(rows, place, seen);
    }
    changed(rows, &node, &base, seen)
}

/// Marks a folder look-again; nothing happens to one that the remote has not.
pub(super) fn mark<R: Rows>(rows: &mut R, folder: Ino) -> Result<(), R::Error> {
    if rows.base(folder)?.is_some() {
        let since = mark_since(rows, folder)?;
        rows.set_look_again(folder, Some(since))?;
    }
    Ok(())
}

/// Marks a folder and all known ones below it.
pub(super) fn mark_deep<R: Rows>(rows: &mut R, folder: Ino) -> Result<(), R::Error> {
    let since = mark_since(rows, folder)?;
    rows.set_look_deep(folder, since)
}

/// Since when a folder that is marked now waits: a look that is still to come is for the first reason as well.
fn mark_since<R: Rows>(rows: &mut R, folder: Ino) -> Result<Tick, R::Error> {
    let now = rows.tick()?;
    let waits = if rows.is_listing(folder) { None } else { rows.look_again(folder)? };
    Ok(waits.unwrap_or(now))
}

/// Marks a folder and all known ones below it: hints about their old paths may have been passed over.
pub(super) fn look_below<R: Rows>(rows: &mut R, node: &Node) -> Result<(), R::Error> {
    if node.kind == Kind::Folder && rows.base(node.ino)?.is_some() {
        mark_deep(rows, node.ino)?;
    }
    Ok(())
}

/// Everything known is to be looked at again: hints were lost.
pub fn look_at_everything<R: Rows>(rows: &mut R) -> Result<(), R::Error> {
    mark_deep(rows, Ino::ROOT)
}

/// The lowest known folder above an unknown path is looked at, if its names matter.
fn unknown_folder<R: Rows>(rows: &mut R, folder: &[Name]) -> Result<(), R::Error> {
    let mut above = folder;
    while let Some((_, shorter)) = above.split_last() {
        above = shorter;
        if let Some(known) = by_names(rows, above)? {
            let listed = rows.base(known)?.is_some_and(|base| base.listed);
            return if listed || rows.is_listing(known) { mark(rows, known) } else { Ok(()) };
        }
    }
    Ok(())
}

/// An entry is there that no base is about.
fn appear<R: Rows>(rows: &mut R, place: Place, seen: &Observed) -> Result<(), R::Error> {
    if let Some(ino) = rows.resident(&place)? {
        let Some(resident) = rows.node(ino)? else { return Ok(()) };
        if !resident.kind.is_local_only() {
            return meet(rows, place, &resident, seen);
        }
        let aside = rows.conflict_name(&place)?;
        rows.set_local(ino, Some(aside))?;
        rows.note(ino, "took another name: the remote has an entry of this name")?;
    }
    let made = rows.new_in(place.parent, &[(place.name, seen.clone())])?;
    made.into_iter().try_for_each(|ino| touch(rows, ino))
}

/// Something is here already: folders merge, anything else is left to a step that finds the conflict.
fn meet<R: Rows>(
    rows: &mut R,
    place: Place,
    resident: &Node,
    seen: &Observed,
) -> Result<(), R::Error> {
    let ino = resident.ino;
    if rows.base(ino)?.is_none() && wanted(rows, resident)?.is_none() {
        // It stays covered until what is kept here only goes: a look before that would find the same.
        return match rows.is_covered(place.parent)? {
            true => Ok(()),
            false => rows.set_covered(place.parent, true),
        };
    }
    let attempt = rows.outbox(ino)?.is_some_and(|row| row.attempt.is_some());
    let folders = resident.kind == Kind::Folder && seen.kind == Kind::Folder;
    if !folders || rows.base(ino)?.is_some() || attempt || wanted(rows, resident)?.is_none() {
        return mark(rows, place.parent);
    }
    let base = Base { listed: true, ..new_base(place, seen, resident.edition) };
    rows.set_base(ino, Some(base))?;
    mark(rows, ino)?;
    touch(rows, ino)
}

fn changed<R: Rows>(
    rows: &mut R,
    node: &Node,
    base: &Base,
    seen: &Observed,
) -> Result<(), R::Error> {
    if base.is_other_than(seen) {
        return mark(rows, base.place.parent);
    }
    let named = Base { id: seen.id.clone(), extra: seen.extra.clone(), ..base.clone() };
    if base.id != seen.id || base.extra != seen.extra {
        // A second name of it came or went there: while it has several, none of them tells who it is. Or the remote has
        // something else to note.
        rows.set_base(node.ino, Some(named.clone()))?;
    }
    let is_doubted = base.extra.is_some() && seen.extra.is_some() && base.extra != seen.extra;
    let base = &named;
    if node.kind == Kind::Folder {
        return folder_changed(rows, node.ino, base, seen);
    }
    if is_version_of(base, seen) {
        return if is_doubted { doubt(rows, node, base, seen) } else { Ok(()) };
    }
    if !is_judged(rows, node.ino)? {
        return mark(rows, base.place.parent);
    }
    refresh(rows, node.ino, seen)
}

/// The remote noted something else of a file of the same version: perhaps only its attributes changed, perhaps its content
/// did although the version does not tell. One look at the content does, where there is any here.
fn doubt<R: Rows>(rows: &mut R, node: &Node, base: &Base, seen: &Observed) -> Result<(), R::Error> {
    let is_used = rows.handles(node.ino).open > 0;
    if !node.hydrated && !is_used && is_judged(rows, node.ino)? {
        return refresh(rows, node.ino, seen);
    }
    rows.set_base(node.ino, Some(Base { young: true, ..base.clone() }))?;
    touch(rows, node.ino)
}

/// Where versions of folders tell of everything below, one look at the root tells whether anything changed: `true` if nothing
/// did since the root was listed. Else it is to be listed again, if its names matter.
pub fn look_from_the_root<R: Rows>(rows: &mut R, version: &Version) -> Result<bool, R::Error> {
    let Some(base) = rows.base(Ino::ROOT)? else { return Ok(false) };
    if base.version == *version {
        return Ok(true);
    }
    // A listing under way notes its own version, and the next look compares with that.
    let matters = base.listed || rows.first_base_child(Ino::ROOT)?.is_some();
    if matters && !rows.is_listing(Ino::ROOT) {
        mark(rows, Ino::ROOT)?;
    }
    Ok(false)
}

/// Something below a folder changed since it was listed: that matters only if its names do.
fn folder_changed<R: Rows>(
    rows: &mut R,
    folder: Ino,
    base: &Base,
    seen: &Observed,
) -> Result<(), R::Error> {
    if seen.version.0.is_empty() || seen.version == base.version {
        return Ok(());
    }
    if base.listed || rows.is_listing(folder) || rows.first_base_child(folder)?.is_some() {
        return mark(rows, folder);
    }
    rows.set_folder_version(folder, seen.version.clone())
}

/// The remote has new content and there is none of our own to keep: becomes a placeholder of it.
pub(super) fn refresh<R: Rows>(rows: &mut R, ino: Ino, seen: &Observed) -> Result<(), R::Error> {
    let Some(base) = rows.base(ino)? else { return Ok(()) };
    let handles = rows.handles(ino);
    if handles.writers > 0 {
        // It may yet be written: judged when it is closed.
        return mark(rows, base.place.parent);
    }
    // Before another inode takes over: the bytes, and that they were edited, stay with the old one.
    rescue_if_cut(rows, ino)?;
    let ino = if handles.open > 0 { succeed(rows, ino)? } else { ino };
    if base.id != seen.id {
        rows.forget_touched(ino)?;
    }
    let edition = rows.become_placeholder(ino, seen)?;
    rows.set_base(ino, Some(new_base(base.place, seen, edition)))?;
    touch(rows, ino)
}

/// Edits of a file that was never all here, and whose rest is gone, are kept for their owner.
pub(super) fn rescue_if_cut<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let Some(node) = rows.node(ino)?.filter(|node| !node.hydrated) else { return Ok(()) };
    if rows.base(ino)?.is_some_and(|base| is_edited(&node, Some(&base))) {
        rows.rescue(ino)?;
        rows.note(ino, "the remote's version changed before the rest of this file was here")?;
    }
    Ok(())
}

/// A new inode takes over all places of an open one, which lives on without a name until it is closed.
pub(super) fn succeed<R: Rows>(rows: &mut R, old: Ino) -> Result<Ino, R::Error> {
    let place = rows.node(old)?.and_then(|node| node.local);
    let new = rows.succeed(old)?;
    rows.set_local(old, None)?;
    rows.set_local(new, place)?;
    if let Some(base) = rows.base(old)? {
        rows.set_base(old, None)?;
        rows.set_base(new, Some(base))?;
    }
    if let Some(row) = rows.outbox(old)? {
        rows.drop_outbox(old)?;
        rows.set_outbox(new, row)?;
    }
    touch(rows, old)?;
    Ok(new)
}

/// Says whether another entry is where the missing one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    Yes,
    No,
}

/// The remote no longer has it at its base place.
pub(super) fn miss<R: Rows>(rows: &mut R, ino: Ino, replaced: Replaced) -> Result<(), R::Error> {
    let Some(base) = rows.base(ino)? else { return Ok(()) };
    if !is_judged(rows, ino)? && rows.missing(ino)?.is_none() {
        return mark(rows, base.place.parent);
    }
    if base.id.is_none() {
        return vanish(rows, ino);
    }
    if rows.missing(ino)?.is_none() {
        // Missed again, it is missed for as long as before.
        let now = rows.tick()?;
        rows.set_missing(ino, Some(now))?;
    }
    if replaced == Replaced::Yes { park(rows, ino) } else { Ok(()) }
}

/// A step found nothing at the base place: with identities the feed may still tell of a move, else it is gone.
pub(super) fn miss_by_settle<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let Some(base) = rows.base(ino)? else { return Ok(()) };
    if base.id.is_none() {
        return vanish(rows, ino);
    }
    let now = rows.tick()?;
    rows.set_missing(ino, Some(now))
}

/// Another entry has its base place: it keeps an impossible one until the feed tells where it went.
pub(super) fn park<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    let hide = node.local.as_ref() == Some(&base.place)
        && !is_edited(&node, Some(&base))
        && rows.handles(ino).writers == 0;
    if hide {
        rows.set_local(ino, None)?;
    }
    let now = rows.tick()?;
    rows.set_missing(ino, Some(now))?;
    let name = Name::own(if hide { HIDDEN } else { PARKED }, now.0);
    rows.set_base(ino, Some(Base { place: Place::new(Ino::ROOT, name), ..base }))
}

/// Takes the base away, from everything below as well; what has content of its own stays here and is sent as new.
pub(super) fn vanish<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    if node.kind == Kind::Folder {
        for child in rows.base_children(ino)? {
            vanish(rows, child)?;
        }
        rows.set_base(ino, None)?;
        match (node.local.is_some(), rows.has_children(ino)?) {
            (true, false) => rows.set_local(ino, None)?,
            // It was hidden while its move was awaited: what is in it here, and is nowhere else, keeps it.
            (false, true) => revive(rows, ino)?,
            _ => {}
        }
    } else {
        vanish_file(rows, &node, &base)?;
    }
    touch(rows, ino)
}

fn vanish_file<R: Rows>(rows: &mut R, node: &Node, base: &Base) -> Result<(), R::Error> {
    let ino = node.ino;
    let elsewhere = node.local.as_ref().is_some_and(|place| *place != base.place);
    let edited = is_edited(node, Some(base));
    let own = edited || elsewhere || wanted(rows, node)?.is_none();
    let writing = rows.handles(ino).writers > 0 && node.local.is_some();
    let keep = own && node.hydrated || writing;
    if !keep {
        rescue_if_cut(rows, ino)?;
        rows.set_base(ino, None)?;
        return rows.set_local(ino, None);
    }
    rows.set_base(ino, None)?;
    if let (Some(digest), Some(mut row)) = (base.known, rows.outbox(ino)?) {
        row.remember(digest, base.edition);
        rows.set_outbox(ino, row)?;
    }
    Ok(())
}
