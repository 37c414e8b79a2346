//! Applies what became of a step. An answer is recorded only where the rows it is about are still as they were when the
//! attempt was noted; else the attempt stays, and is resolved by looking.

use super::around::{is_edited, is_of_another, is_version_of, new_base, path_of, places, wanted};
use super::reconcile::{Trust, look_below, mark, miss_by_settle, reconcile, refresh};
use super::revive::{conflict, forget_base, resurrect, step_aside};
use super::touch::touch;
use super::{
    Attempt, Base, Digest, Edition, Expect, Ino, Kind, Observed, Place, RemotePath, Rows, Sent,
    StepKind, Version,
};

/// Is an attempt with the rows it is about, as they were when it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// What was noted.
    pub attempt: Attempt,
    /// The base then.
    pub base: Option<Base>,
    /// The remote path of the source then.
    pub source: Option<RemotePath>,
    /// The remote path of the target then.
    pub target: Option<RemotePath>,
}

/// Says why the remote did not do it; every one of them means that nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The folder is not there.
    NoParent,
    /// What is there is another version, or of another kind.
    Mismatch,
    /// Something is there, or nothing is.
    Other,
}

/// Notes the attempt, to be sent after the commit.
pub fn begin<R: Rows>(
    rows: &mut R,
    ino: Ino,
    kind: StepKind,
    target: Option<Place>,
    expect: Expect,
) -> Result<Begun, R::Error> {
    let base = rows.base(ino)?;
    let nonce = rows.tick()?.0;
    let source = base.as_ref().map(|base| base.place.clone());
    let attempt = Attempt { kind, source, target, expect, nonce };
    let mut row = rows.outbox(ino)?.unwrap_or_default();
    row.attempt = Some(attempt.clone());
    rows.set_outbox(ino, row)?;
    let path = |place: &Option<Place>| match place {
        Some(place) => path_of(rows, place),
        None => Ok(None),
    };
    let (source, target) = (path(&attempt.source)?, path(&attempt.target)?);
    Ok(Begun { attempt, base, source, target })
}

/// A fresh visible place for the occupant of a place in a circle.
pub fn sidestep_place<R: Rows>(rows: &mut R, place: &Place) -> Result<Place, R::Error> {
    let number = rows.tick()?.0;
    Ok(Place::new(place.parent, place.name.fresh(number)))
}

/// Notes the attempt to write `sent`, which counts as ours from now on.
pub fn begin_write<R: Rows>(
    rows: &mut R,
    ino: Ino,
    target: Place,
    expect: Expect,
    sent: Sent,
) -> Result<Begun, R::Error> {
    let begun = begin(rows, ino, StepKind::Write, Some(target), expect)?;
    let mut row = rows.outbox(ino)?.unwrap_or_default();
    row.remember(sent.digest, sent.edition);
    rows.set_outbox(ino, row)?;
    Ok(begun)
}

/// Whether the rows that an answer is about are as they were; ends the attempt if so.
pub fn current<R: Rows>(rows: &mut R, ino: Ino, begun: &Begun) -> Result<bool, R::Error> {
    let now = rows.base(ino)?;
    let mut same =
        rows.node(ino)?.is_some() && identity(now.as_ref()) == identity(begun.base.as_ref());
    if let Some(target) = &begun.attempt.target {
        let owner = rows.base_at(target)?;
        same &= path_of(rows, target)? == begun.target && owner.is_none_or(|owner| owner == ino);
    }
    if !same {
        let noted: Vec<Ino> = places(&begun.attempt).map(|place| place.parent).collect();
        noted.into_iter().try_for_each(|folder| mark(rows, folder))?;
        return Ok(false);
    }
    if rows.outbox(ino)?.is_some_and(|row| row.attempt.as_ref() == Some(&begun.attempt)) {
        answered(rows, ino)?;
    }
    Ok(true)
}

fn identity(base: Option<&Base>) -> Option<(&Place, &super::Version, Option<&super::RemoteId>)> {
    base.map(|base| (&base.place, &base.version, base.id.as_ref()))
}

/// Ends the attempt: observations begun before are too old for its folders.
pub(super) fn answered<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let Some(mut row) = rows.outbox(ino)? else { return Ok(()) };
    if let Some(attempt) = row.attempt.take() {
        let folders: Vec<Ino> = places(&attempt).map(|place| place.parent).collect();
        rows.set_outbox(ino, row)?;
        folders.into_iter().try_for_each(|folder| rows.touch_folder(folder))?;
    }
    Ok(())
}

/// The remote refused for a reason that says nothing about names or contents: the item is tried again later.
pub fn put_off<R: Rows>(rows: &mut R, ino: Ino, begun: &Begun) -> Result<(), R::Error> {
    current(rows, ino, begun)?;
    touch(rows, ino)
}

/// The remote is known to hold this content of ours at `place`.
fn adopt<R: Rows>(rows: &mut R, ino: Ino, base: Base) -> Result<(), R::Error> {
    if rows.base_at(&base.place)?.is_some_and(|holder| holder != ino) {
        return Ok(());
    }
    rows.set_base(ino, Some(base))?;
    if let Some(mut row) = rows.outbox(ino)? {
        row.ours.clear();
        rows.set_outbox(ino, row)?;
    }
    touch(rows, ino)
}

pub(super) fn adopt_file<R: Rows>(
    rows: &mut R,
    ino: Ino,
    place: &Place,
    seen: &Observed,
    edition: Edition,
    known: Option<Digest>,
) -> Result<(), R::Error> {
    adopt(rows, ino, Base { known, ..new_base(place.clone(), seen, edition) })
}

/// A write succeeded: the remote holds `sent`.
pub fn written<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
    seen: &Observed,
    sent: Sent,
) -> Result<(), R::Error> {
    let Some(place) = &begun.attempt.target else { return Ok(()) };
    if current(rows, ino, begun)? {
        adopt_file(rows, ino, place, seen, sent.edition, Some(sent.digest))?;
    }
    Ok(())
}

/// A write was refused; `seen` is what is there now, with its digest if it may be ours.
pub fn write_refused<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
    refusal: Refusal,
    seen: Option<&Observed>,
) -> Result<(), R::Error> {
    let Some(place) = &begun.attempt.target else { return Ok(()) };
    if current(rows, ino, begun)? {
        settle_write(rows, ino, place, refusal, seen)?;
        touch(rows, ino)?;
    }
    Ok(())
}

pub(super) fn settle_write<R: Rows>(
    rows: &mut R,
    ino: Ino,
    place: &Place,
    refusal: Refusal,
    seen: Option<&Observed>,
) -> Result<(), R::Error> {
    let base = rows.base(ino)?;
    let Some(seen) = seen else {
        return match base {
            _ if refusal == Refusal::NoParent => folder_gone(rows, place),
            Some(_) => miss_by_settle(rows, ino),
            None => Ok(()),
        };
    };
    let unmoved = |base: &Base| base.place == *place && !base.young && is_version_of(base, seen);
    if refusal != Refusal::Mismatch && base.as_ref().is_some_and(unmoved) {
        // It is what we know: whatever stood in the way was not another content.
        return Ok(());
    }
    let mut row = rows.outbox(ino)?.unwrap_or_default();
    if let Some((known, edition)) = base.and_then(|base| Some((base.known?, base.edition))) {
        row.remember(known, edition);
    }
    match row.edition_of(seen.digest).filter(|_| seen.kind == Kind::File) {
        // Two of ours would be one there, and the next edit of one would replace the other.
        Some(_) if is_of_another(rows, ino, place, seen)? => step_aside(rows, ino),
        Some(edition) => adopt_file(rows, ino, place, seen, edition, seen.digest),
        None => conflict(rows, ino, place, seen),
    }
}

/// The folder of a target place is not there.
fn folder_gone<R: Rows>(rows: &mut R, place: &Place) -> Result<(), R::Error> {
    if place.parent == Ino::ROOT { Ok(()) } else { miss_by_settle(rows, place.parent) }
}

/// Says how a folder that we wanted to make came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// We made it, and nothing was heard of the remote meanwhile: it is empty.
    JustNow,
    /// It was there, or may have got content.
    Before,
}

/// `make_folder` was answered: `seen` is what is there.
pub fn made_folder<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
    made: Made,
    seen: Option<&Observed>,
) -> Result<(), R::Error> {
    let Some(place) = &begun.attempt.target else { return Ok(()) };
    if !current(rows, ino, begun)? {
        return Ok(());
    }
    match seen {
        Some(seen) if seen.kind == Kind::Folder => adopt_folder(rows, ino, place, seen, made)?,
        Some(seen) => conflict(rows, ino, place, seen)?,
        None => {}
    }
    touch(rows, ino)
}

/// `make_folder` found no folder to make it in.
pub fn make_folder_refused<R: Rows>(rows: &mut R, ino: Ino, begun: &Begun) -> Result<(), R::Error> {
    let Some(place) = &begun.attempt.target else { return Ok(()) };
    if current(rows, ino, begun)? {
        folder_gone(rows, place)?;
    }
    Ok(())
}

pub(super) fn adopt_folder<R: Rows>(
    rows: &mut R,
    ino: Ino,
    place: &Place,
    seen: &Observed,
    made: Made,
) -> Result<(), R::Error> {
    let Some(edition) = rows.node(ino)?.map(|node| node.edition) else { return Ok(()) };
    // Somebody may have been in it before it was looked at.
    let version = Version(String::new());
    adopt(rows, ino, Base { listed: true, version, ..new_base(place.clone(), seen, edition) })?;
    if made == Made::Before { mark(rows, ino) } else { Ok(()) }
}

/// A rename succeeded; `seen` is what is at the target.
pub fn moved<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
    seen: &Observed,
) -> Result<(), R::Error> {
    let Some(place) = &begun.attempt.target else { return Ok(()) };
    if current(rows, ino, begun)? {
        apply_move(rows, ino, place, seen)?;
    }
    Ok(())
}

pub(super) fn apply_move<R: Rows>(
    rows: &mut R,
    ino: Ino,
    place: &Place,
    seen: &Observed,
) -> Result<(), R::Error> {
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    let (id, extra) = (seen.id.clone(), seen.extra.clone());
    let mut now = Base { place: place.clone(), id, extra, ..base.clone() };
    let other = node.kind == Kind::File && !is_version_of(&base, seen);
    let same_content = base.known.is_some() && base.known == seen.digest;
    if other && same_content {
        // The store gives a new version with a move.
        now.version = seen.version.clone();
        now.young = !seen.settled;
    }
    rows.set_base(ino, Some(now))?;
    look_below(rows, &node)?;
    if other && !same_content {
        if is_edited(&node, Some(&base)) {
            conflict(rows, ino, place, seen)?;
        } else if wanted(rows, &node)?.is_some() {
            refresh(rows, ino, seen)?;
        }
    }
    touch(rows, ino)
}

/// A rename was refused; `here` is what is at its source now, `there` what is at its target.
pub fn move_refused<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
    refusal: Refusal,
    here: Option<&Observed>,
    there: Option<&Observed>,
) -> Result<(), R::Error> {
    let Some(target) = &begun.attempt.target else { return Ok(()) };
    if !current(rows, ino, begun)? {
        return Ok(());
    }
    let Some(here) = here else { return miss_by_settle(rows, ino) };
    let Some(node) = rows.node(ino)? else { return Ok(()) };
    match (refusal, there) {
        (Refusal::NoParent, _) => return folder_gone(rows, target),
        (Refusal::Mismatch, _) if here.kind != node.kind => miss_by_settle(rows, ino)?,
        (Refusal::Mismatch, _) => move_mismatched(rows, ino, here)?,
        (Refusal::Other, Some(there)) if node.local.as_ref() == Some(target) => {
            conflict(rows, ino, target, there)?;
        }
        (Refusal::Other, _) => {}
    }
    touch(rows, ino)
}

/// What should be moved changed at the remote.
fn move_mismatched<R: Rows>(rows: &mut R, ino: Ino, here: &Observed) -> Result<(), R::Error> {
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    if wanted(rows, &node)?.is_none() {
        // Of a deleted one, the conditional remove will find it.
        return Ok(());
    }
    if !is_edited(&node, Some(&base)) || !node.hydrated {
        return refresh(rows, ino, here);
    }
    conflict(rows, ino, &base.place, here)?;
    if rows.base(ino)?.is_some() {
        rows.set_base(ino, None)?;
        if let Some(path) = path_of(rows, &base.place)? {
            reconcile(rows, &path, Some(here), Trust::NOW)?;
        }
    }
    mark(rows, base.place.parent)
}

/// A removal succeeded.
pub fn removed<R: Rows>(rows: &mut R, ino: Ino, begun: &Begun) -> Result<(), R::Error> {
    if current(rows, ino, begun)? {
        rows.set_base(ino, None)?;
        touch(rows, ino)?;
    }
    Ok(())
}

/// A removal was refused; `seen` is what is there now.
pub fn remove_refused<R: Rows>(
    rows: &mut R,
    ino: Ino,
    begun: &Begun,
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
            forget_base(rows, ino)?;
        }
        Some(seen) => resurrect(rows, ino, Some(seen))?,
    }
    touch(rows, ino)
}
