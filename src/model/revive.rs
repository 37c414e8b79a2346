//! Gives places back and takes other ones: resurrect, step aside, split, inherit, undo.

use super::around::{is_above, is_edited, is_kept_here, line, new_base, path_of, wanted};
use super::plan::heir;
use super::reconcile::{Trust, mark, reconcile, refresh, rescue_if_cut, succeed};
use super::touch::{is_destructive, touch, touch_moved};
use super::verbs::unlink;
use super::{Base, Ino, Kind, Name, Observed, Place, Rows};

/// The remote has `seen` at `place` and it is not ours: the remote keeps the base, and our file another name.
pub(super) fn conflict<R: Rows>(
    rows: &mut R,
    ino: Ino,
    place: &Place,
    seen: &Observed,
) -> Result<(), R::Error> {
    let Some(node) = rows.node(ino)? else { return Ok(()) };
    let base = rows.base(ino)?;
    let was_kept_here = is_kept_here(rows, ino)?;
    let ours = base.is_some_and(|base| base.place == *place);
    if ours && wanted(rows, &node)?.as_ref() == Some(place) {
        if node.kind == Kind::File && !node.hydrated && seen.kind == Kind::File {
            return refresh(rows, ino, seen);
        }
        rescue_if_cut(rows, ino)?;
        rows.set_base(ino, None)?;
    }
    if node.local.as_ref() == Some(place) {
        let copy = rows.conflict_name(place)?;
        rows.note(ino, "changed here and at the remote: kept under another name")?;
        rows.set_local(ino, Some(copy))?;
    }
    if let Some(path) = path_of(rows, place)? {
        reconcile(rows, &path, Some(seen), Trust::NOW)?;
    }
    mark(rows, place.parent)?;
    touch_moved(rows, ino, was_kept_here)
}

/// Takes another name here: its place belongs to an entry in sync.
pub fn step_aside<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let Some(place) = rows.node(ino)?.and_then(|node| node.local) else { return Ok(()) };
    let was_kept_here = is_kept_here(rows, ino)?;
    let copy = rows.conflict_name(&place)?;
    rows.note(ino, "the remote has an entry of this name: kept under another name")?;
    rows.set_local(ino, Some(copy))?;
    touch_moved(rows, ino, was_kept_here)
}

/// Gives a deleted inode, and the deleted folders it needs, a place again.
pub(super) fn revive<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let place = match rows.base(ino)?.map(|base| base.place) {
        Some(place) if !place.name.is_own() => place,
        _ => Place::new(Ino::ROOT, Name::found()),
    };
    if let Some(lost) = line(rows, place.parent)?.last().filter(|top| top.ino != Ino::ROOT)
        && lost.ino != ino
    {
        revive(rows, lost.ino)?;
    }
    let unusable = place.parent != Ino::ROOT
        && (rows.node(place.parent)?.is_none_or(|folder| folder.local.is_none())
            || is_kept_here(rows, place.parent)?
            || is_above(rows, ino, place.parent)?);
    let place = if unusable { Place::new(Ino::ROOT, place.name) } else { place };
    let place = match rows.resident(&place)? {
        Some(_) => rows.conflict_name(&place)?,
        None => place,
    };
    let was_kept_here = is_kept_here(rows, ino)?;
    rows.set_local(ino, Some(place))?;
    rows.note(ino, "brought back: the remote still needs it")?;
    touch_moved(rows, ino, was_kept_here)
}

/// The remote still needs, or changed, what was deleted here or goes on under a name kept here only.
pub fn resurrect<R: Rows>(rows: &mut R, ino: Ino, seen: Option<&Observed>) -> Result<(), R::Error> {
    let Some(node) = rows.node(ino)? else { return Ok(()) };
    let base = rows.base(ino)?;
    if node.local.is_some() {
        // It lives on here: the remote's part becomes another inode.
        let Some(base) = base else { return Ok(()) };
        forget_base(rows, ino)?;
        return mark(rows, base.place.parent);
    }
    let open = node.kind == Kind::File && rows.handles(ino).open > 0;
    let ino = if open { succeed(rows, ino)? } else { ino };
    revive(rows, ino)?;
    match (seen, base) {
        (Some(seen), Some(base)) if node.kind == Kind::File => {
            let edition = rows.become_placeholder(ino, seen)?;
            rows.set_base(ino, Some(new_base(base.place, seen, edition)))?;
        }
        (_, Some(_)) => mark(rows, ino)?,
        _ => {}
    }
    touch(rows, ino)
}

/// Takes the base from an inode and all below it; what was never here stays with the remote's part.
pub(super) fn forget_base<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    for child in rows.base_children(ino)? {
        forget_base(rows, child)?;
    }
    rescue_if_cut(rows, ino)?;
    rows.set_base(ino, None)?;
    if rows.node(ino)?.is_some_and(|node| node.kind == Kind::File && !node.hydrated) {
        rows.set_local(ino, None)?;
    }
    touch(rows, ino)
}

/// The file takes the base of the deleted one whose place it has, which gets the file's own base to be removed.
pub fn inherit<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let Some(place) = rows.node(ino)?.and_then(|node| node.local) else { return Ok(()) };
    let Some(old) = rows.base_at(&place)?.filter(|old| *old != ino) else { return Ok(()) };
    let (base, other) = (rows.base(old)?, rows.base(ino)?);
    rows.set_base(old, None)?;
    rows.set_base(ino, None)?;
    rows.set_base(ino, base)?;
    rows.renew_touched(ino)?;
    if other.is_some() {
        rows.set_base(old, other)?;
    }
    // What was held for the old file is held for its next content.
    if let (Some(old), Some(mut row)) = (rows.outbox(old)?, rows.outbox(ino)?) {
        row.held |= old.held && !row.released;
        rows.set_outbox(ino, row)?;
    }
    touch(rows, old)?;
    touch(rows, ino)
}

/// Takes a file's name away for good; what of its content was never sent is kept in `recovered/`.
pub fn discard<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let Some(node) = rows.node(ino)? else { return Ok(()) };
    let base = rows.base(ino)?;
    let mut last = ino;
    if is_edited(&node, base.as_ref()) {
        rows.rescue(ino)?;
        last = if rows.handles(ino).open > 0 { succeed(rows, ino)? } else { ino };
        if let Some(base) = rows.base(last)? {
            let back = Base { known: None, ..base };
            rows.revert_to(last, &back)?;
            rows.set_base(last, Some(back))?;
        }
    }
    unlink(rows, last)
}

/// Is what `undo` did to one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It is back under its name.
    Back,
    /// The remote's part of it comes back as an entry of its own; what was moved to where it is kept here only stays there.
    Apart,
    /// It stands for the remote's content again; the edited data file of this inode is kept in `recovered/`.
    Reverted,
    /// Nothing: its edited content is open, or its sending is under way.
    Left,
}

/// Takes back what the guard holds: deleted entries return, overwritten ones become placeholders of the remote's content.
pub fn undo<R: Rows>(rows: &mut R) -> Result<Vec<(Ino, Undone)>, R::Error> {
    let mut all = Vec::new();
    for ino in rows.outbox_all()? {
        let Some(mut row) = rows.outbox(ino)?.filter(|row| row.held) else { continue };
        let Some(node) = rows.node(ino)? else { continue };
        let heir = if node.local.is_none() { heir(rows, &node)? } else { None };
        let last = heir.unwrap_or(ino);
        let tries = |ino| Ok(rows.outbox(ino)?.is_some_and(|row| row.attempt.is_some()));
        let edited = heir.is_some() || is_edited(&node, rows.base(ino)?.as_ref());
        if tries(ino)? || tries(last)? || edited && rows.handles(last).open > 0 {
            all.push((last, Undone::Left));
            continue;
        }
        row.held = false;
        rows.set_outbox(ino, row)?;
        if let Some(heir) = heir {
            // Saved over: what was deleted is the base of what has its name now.
            inherit(rows, heir)?;
        }
        all.extend(undo_one(rows, last)?);
    }
    Ok(all)
}

fn undo_one<R: Rows>(rows: &mut R, ino: Ino) -> Result<Option<(Ino, Undone)>, R::Error> {
    let Some(node) = rows.node(ino)? else { return Ok(None) };
    let Some(base) = rows.base(ino)?.filter(|base| !base.place.name.is_own()) else {
        return Ok(None);
    };
    if !is_destructive(rows, &node)? {
        return Ok(None);
    }
    if node.local.is_some() && wanted(rows, &node)?.is_none() {
        rows.note(ino, "taken back: the remote keeps what was moved out of it here")?;
        resurrect(rows, ino, None)?;
        return Ok(Some((ino, Undone::Apart)));
    }
    let edited = is_edited(&node, Some(&base));
    if edited {
        rows.rescue(ino)?;
    }
    let ino = if rows.handles(ino).open > 0 { succeed(rows, ino)? } else { ino };
    if node.local.is_none() {
        revive(rows, ino)?;
    }
    if edited {
        let back = Base { known: None, ..base };
        rows.revert_to(ino, &back)?;
        rows.set_base(ino, Some(back))?;
    }
    rows.note(ino, "taken back: it is again what the remote has")?;
    touch(rows, ino)?;
    Ok(Some((ino, if edited { Undone::Reverted } else { Undone::Back })))
}
