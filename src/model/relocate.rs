//! Follows what the remote moved: a known identity at another place is the same inode.

use super::around::HIDDEN;
use super::around::{base_line, is_above, is_edited, is_kept_here, is_version_of, wanted};
use super::reconcile::{look_below, mark, park, refresh, vanish};
use super::touch::touch_moved;
use super::{Base, Ino, Kind, Node, Observed, Place, Rows};

/// The remote moved `ino` to `place`, where the base of `occupant` was.
pub(super) fn relocate<R: Rows>(
    rows: &mut R,
    ino: Ino,
    occupant: Option<Ino>,
    place: Place,
    seen: &Observed,
) -> Result<(), R::Error> {
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    let blocked = has_attempt(rows, ino)?
        || base_line(rows, place.parent)?.contains(&ino)
        || !make_room(rows, occupant)?;
    let was_hidden = base.place.name.is_own_for(HIDDEN) && node.local.is_none();
    let follow = node.local.as_ref() == Some(&base.place) || was_hidden;
    if blocked || rows.base_at(&place)?.is_some() || follow && !has_room(rows, ino, &place)? {
        mark(rows, place.parent)?;
        return mark(rows, base.place.parent);
    }
    let was_kept_here = is_kept_here(rows, ino)?;
    let moved = Base { place: place.clone(), id: seen.id.clone(), ..base.clone() };
    rows.set_base(ino, Some(Base { extra: seen.extra.clone(), ..moved }))?;
    rows.set_missing(ino, None)?;
    if follow {
        rows.set_local(ino, Some(place))?;
    }
    look_below(rows, &node)?;
    if is_plain_change(rows, &node, &base, seen)? {
        refresh(rows, ino, seen)?;
    }
    touch_moved(rows, ino, was_kept_here)
}

fn has_attempt<R: Rows>(rows: &R, ino: Ino) -> Result<bool, R::Error> {
    Ok(rows.outbox(ino)?.is_some_and(|row| row.attempt.is_some()))
}

/// Parks or drops who was there; `false` if that cannot be done now.
fn make_room<R: Rows>(rows: &mut R, occupant: Option<Ino>) -> Result<bool, R::Error> {
    let Some(occupant) = occupant else { return Ok(true) };
    if has_attempt(rows, occupant)? {
        return Ok(false);
    }
    if rows.base(occupant)?.is_some_and(|base| base.id.is_some()) {
        park(rows, occupant)?;
    } else {
        vanish(rows, occupant)?;
    }
    Ok(true)
}

/// Whether the inode can be shown at `place`: nobody else is, and it is not above it.
fn has_room<R: Rows>(rows: &R, ino: Ino, place: &Place) -> Result<bool, R::Error> {
    let taken = rows.resident(place)?.is_some_and(|resident| resident != ino);
    Ok(!taken && !is_above(rows, ino, place.parent)?)
}

/// Whether its content changed there and not here.
fn is_plain_change<R: Rows>(
    rows: &R,
    node: &Node,
    base: &Base,
    seen: &Observed,
) -> Result<bool, R::Error> {
    let changed = !is_version_of(base, seen) && node.kind == Kind::File;
    if !changed || is_edited(node, Some(base)) {
        return Ok(false);
    }
    let Some(now) = rows.node(node.ino)? else { return Ok(false) };
    Ok(wanted(rows, &now)?.is_some())
}
