//! What users do to names, in terms of rows. The checks that POSIX asks for are made before, in the same transaction.

use super::around::{is_above, is_kept_here, line};
use super::reconcile::mark;
use super::revive::revive;
use super::touch::{touch, touch_moved};
use super::{Ino, Kind, Place, Rows};

/// Whether all names in the folder are known; if not, they will be fetched.
pub fn is_listed<R: Rows>(rows: &mut R, folder: Ino) -> Result<bool, R::Error> {
    let listed = rows.base(folder)?.is_none_or(|base| base.listed);
    if !listed {
        rows.need_list(folder);
    }
    Ok(listed)
}

/// Takes the inode's name away.
pub fn unlink<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let uncovers = is_kept_here(rows, ino)?;
    let place = rows.node(ino)?.and_then(|node| node.local);
    // However long an edit of it waits already: many removals at once are many at once.
    rows.renew_outbox(ino)?;
    rows.set_local(ino, None)?;
    if let Some(place) = place.filter(|_| uncovers) {
        uncovered(rows, &place)?;
    }
    touch(rows, ino)
}

/// What was kept here only left this place: an entry of the remote may have waited for it.
fn uncovered<R: Rows>(rows: &mut R, place: &Place) -> Result<(), R::Error> {
    if rows.is_covered(place.parent)? {
        rows.set_covered(place.parent, false)?;
        mark(rows, place.parent)?;
    }
    Ok(())
}

/// Moves an inode to another place, over whoever is there; `false` if that place is in the inode itself.
pub fn rename<R: Rows>(rows: &mut R, ino: Ino, to: Place) -> Result<bool, R::Error> {
    if is_above(rows, ino, to.parent)? {
        return Ok(false);
    }
    match rows.resident(&to)? {
        Some(victim) if victim == ino => return Ok(true),
        Some(victim) => unlink(rows, victim)?,
        None => {}
    }
    let was_kept_here = is_kept_here(rows, ino)?;
    let from = rows.node(ino)?.and_then(|node| node.local);
    rows.set_local(ino, Some(to))?;
    if let Some(from) = from.filter(|_| was_kept_here) {
        uncovered(rows, &from)?;
    }
    touch_moved(rows, ino, was_kept_here)?;
    Ok(true)
}

/// Exchanges the places of two inodes; `false` if one is in the other.
pub fn exchange<R: Rows>(rows: &mut R, one: Ino, two: Ino) -> Result<bool, R::Error> {
    if is_above(rows, one, two)? || is_above(rows, two, one)? {
        return Ok(one == two);
    }
    let place = |ino| Ok(rows.node(ino)?.and_then(|node| node.local));
    let (first, second) = (place(one)?, place(two)?);
    let kept_here = (is_kept_here(rows, one)?, is_kept_here(rows, two)?);
    rows.set_local(one, None)?;
    rows.set_local(two, first)?;
    rows.set_local(one, second)?;
    touch_moved(rows, one, kept_here.0)?;
    touch_moved(rows, two, kept_here.1)?;
    Ok(true)
}

/// After a start no handle is open: what only a handle held is let go. Nothing that waits to be sent stays in a folder
/// without a place, where nobody would find it.
pub fn recover<R: Rows>(rows: &mut R) -> Result<(), R::Error> {
    for ino in rows.outbox_all()? {
        handled(rows, ino)?;
        let lost = line(rows, ino)?.pop().filter(|top| top.ino != ino && top.ino != Ino::ROOT);
        if let Some(top) = lost
            && rows.base(top.ino)?.is_none()
        {
            revive(rows, top.ino)?;
        }
    }
    Ok(())
}

/// A handle was opened or closed, or the inode was created or edited: the outbox is made true.
pub fn handled<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let Some(node) = rows.node(ino)? else { return Ok(()) };
    let idle = rows.handles(ino).writers == 0 && node.kind == Kind::File;
    if idle && !node.hydrated && node.local.is_some() && rows.base(ino)?.is_none() {
        // It vanished from the remote while a writer had it open: what is not here is nowhere.
        rows.rescue(ino)?;
        rows.set_local(ino, None)?;
    }
    touch(rows, ino)
}
