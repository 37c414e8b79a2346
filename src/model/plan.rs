//! Decides the next remote step for one inode that is not in sync, or for another one that must go first.

use std::collections::HashSet;

use super::around::{
    Busy, attempted, base_line, is_edited, is_parked, line, places, unresolved_above, wanted,
};
use super::{Base, Ino, Kind, Node, OutboxRow, Place, Rows, StepKind};

/// Is what is to be done next, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub kind: StepKind,
    /// For whom; not always the one that was asked about.
    pub ino: Ino,
}

impl Step {
    fn new(kind: StepKind, ino: Ino) -> Self {
        Self { kind, ino }
    }
}

/// Where the search goes on.
enum Next {
    Done(Step),
    /// This one first; if the search comes back to where it was, the owner of a wanted place steps out of the circle.
    First {
        ino: Ino,
        owner: bool,
    },
}

/// The next step that brings `ino` nearer to being in sync. `busy` are those with a step under way in this process.
///
/// Reads rows only: what was true before does not matter, and nothing is remembered between two calls.
pub fn plan<R: Rows>(rows: &R, ino: Ino, busy: &Busy) -> Result<Step, R::Error> {
    let mut passed = HashSet::new();
    let mut owner = None;
    let mut at = ino;
    loop {
        let Some(node) = rows.node(at)? else { return Ok(Step::new(StepKind::Settled, at)) };
        if !passed.insert(at) {
            let out = owner.map_or((StepKind::Wait, at), |owner| (StepKind::Sidestep, owner));
            return free(rows, Step::new(out.0, out.1), busy);
        }
        match look(rows, &node)? {
            Next::Done(step) => return free(rows, step, busy),
            Next::First { ino, owner: is_owner } => {
                at = ino;
                if is_owner {
                    owner = Some(ino);
                }
            }
        }
    }
}

/// The step, or `Wait` if it meets one that is under way.
fn free<R: Rows>(rows: &R, step: Step, busy: &Busy) -> Result<Step, R::Error> {
    let waits = step.kind != StepKind::Wait
        && (busy.contains(&step.ino)
            || moves_paths(step.kind) && is_busy_below(rows, step.ino, busy)?);
    Ok(if waits { Step::new(StepKind::Wait, step.ino) } else { step })
}

fn moves_paths(kind: StepKind) -> bool {
    matches!(kind, StepKind::Rename | StepKind::Remove | StepKind::Sidestep)
}

/// Whether a step under way is about something below this folder: its path must not change under it.
fn is_busy_below<R: Rows>(rows: &R, folder: Ino, busy: &Busy) -> Result<bool, R::Error> {
    if rows.node(folder)?.is_none_or(|node| node.kind != Kind::Folder) {
        return Ok(false);
    }
    for ino in busy {
        let row = rows.outbox(*ino)?.and_then(|row| row.attempt);
        let parents = row.iter().flat_map(places).map(|place| place.parent);
        for start in std::iter::once(*ino).chain(parents) {
            if base_line(rows, start)?.contains(&folder) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn look<R: Rows>(rows: &R, node: &Node) -> Result<Next, R::Error> {
    let row = rows.outbox(node.ino)?;
    let done = |kind, ino| Ok(Next::Done(Step::new(kind, ino)));
    if is_parked(rows, node)? {
        return done(StepKind::Wait, node.ino);
    }
    if row.as_ref().is_some_and(|row| row.attempt.is_some()) {
        return done(StepKind::Resolve, node.ino);
    }
    if let Some(above) = unresolved_above(rows, node)? {
        return done(StepKind::Resolve, above);
    }
    let base = rows.base(node.ino)?;
    let Some(want) = wanted(rows, node)? else {
        return look_at_removal(rows, node, base, row.as_ref());
    };
    if let Some(next) = look_above(rows, node)? {
        return Ok(next);
    }
    let Some(base) = base.as_ref().filter(|base| base.place == want) else {
        return look_at_place(rows, node, base.is_some(), &want);
    };
    if is_edited(node, Some(base)) {
        return guarded(rows, row.as_ref(), base, Step::new(sending(node), node.ino));
    }
    let kind = match node.retouched {
        true => StepKind::Metadata,
        false if base.young => StepKind::Confirm,
        false => StepKind::Settled,
    };
    done(kind, node.ino)
}

/// The topmost folder here that must be given a place, be made or be moved first.
fn look_above<R: Rows>(rows: &R, node: &Node) -> Result<Option<Next>, R::Error> {
    let line = line(rows, node.ino)?;
    if let Some(lost) = line.last().filter(|top| top.ino != Ino::ROOT) {
        return Ok(Some(Next::Done(Step::new(StepKind::Resurrect, lost.ino))));
    }
    let folders = line.iter().skip(1).rev().skip(1);
    for above in folders {
        let base = rows.base(above.ino)?;
        let moved = base.is_none_or(|base| Some(&base.place) != above.local.as_ref());
        if moved && rows.outbox(above.ino)?.is_some() {
            return Ok(Some(Next::First { ino: above.ino, owner: false }));
        }
    }
    Ok(None)
}

/// The remote has it elsewhere, or not at all: who is in the way?
fn look_at_place<R: Rows>(
    rows: &R,
    node: &Node,
    has_base: bool,
    want: &Place,
) -> Result<Next, R::Error> {
    let done = |kind, ino| Ok(Next::Done(Step::new(kind, ino)));
    if let Some(other) = attempted(rows, want, Some(node.ino))? {
        return done(StepKind::Resolve, other);
    }
    let owner = match rows.base_at(want)? {
        Some(owner) => rows.node(owner)?,
        None => None,
    };
    if let Some(owner) = owner {
        if heir(rows, &owner)? == Some(node.ino) {
            let first = bytes_first(rows, &owner)?;
            return Ok(Next::Done(first.unwrap_or(Step::new(StepKind::Inherit, node.ino))));
        }
        if rows.outbox(owner.ino)?.is_some() {
            return Ok(Next::First { ino: owner.ino, owner: true });
        }
        return done(StepKind::StepAside, node.ino);
    }
    match node.kind {
        _ if has_base => done(StepKind::Rename, node.ino),
        Kind::Folder => done(StepKind::MakeFolder, node.ino),
        _ => done(sending(node), node.ino),
    }
}

fn look_at_removal<R: Rows>(
    rows: &R,
    node: &Node,
    base: Option<Base>,
    row: Option<&OutboxRow>,
) -> Result<Next, R::Error> {
    let done = |kind, ino| Ok(Next::Done(Step::new(kind, ino)));
    let Some(base) = base else { return done(StepKind::Settled, node.ino) };
    if let Some(first) = bytes_first(rows, node)? {
        return Ok(Next::Done(first));
    }
    if let Some(child) = rows.first_base_child(node.ino)? {
        if rows.outbox(child)?.is_some() {
            return Ok(Next::First { ino: child, owner: false });
        }
        return done(StepKind::Resurrect, node.ino);
    }
    if let Some(heir) = heir(rows, node)? {
        let open = rows.outbox(heir)?.is_some_and(|row| row.attempt.is_some());
        return done(if open { StepKind::Resolve } else { StepKind::Inherit }, heir);
    }
    guarded(rows, row, &base, Step::new(StepKind::Remove, node.ino))
}

/// What lives on under an excluded name must be here before the remote loses it.
fn bytes_first<R: Rows>(rows: &R, node: &Node) -> Result<Option<Step>, R::Error> {
    if node.local.is_none() {
        return Ok(None);
    }
    let unlisted = rows.base(node.ino)?.is_some_and(|base| !base.listed);
    Ok(match node.kind {
        Kind::Folder if unlisted => Some(Step::new(StepKind::NeedList, node.ino)),
        Kind::File if !node.hydrated => Some(Step::new(StepKind::Fetch, node.ino)),
        _ => None,
    })
}

/// The new file that took the place of this deleted one: its next content.
pub(super) fn heir<R: Rows>(rows: &R, node: &Node) -> Result<Option<Ino>, R::Error> {
    let Some(base) = rows.base(node.ino)?.filter(|base| !base.place.name.is_own()) else {
        return Ok(None);
    };
    let Some(heir) = rows.resident(&base.place)? else { return Ok(None) };
    let Some(heir) = rows.node(heir)? else { return Ok(None) };
    let fits = node.kind == Kind::File
        && heir.kind == Kind::File
        && heir.hydrated
        && wanted(rows, node)?.is_none()
        && wanted(rows, &heir)?.is_some();
    Ok(fits.then_some(heir.ino))
}

/// A step that destroys what the remote has: not on a young version, and not while it is held.
fn guarded<R: Rows>(
    rows: &R,
    row: Option<&OutboxRow>,
    base: &Base,
    step: Step,
) -> Result<Next, R::Error> {
    let file = rows.node(step.ino)?.is_some_and(|node| node.kind == Kind::File);
    let kind = match step.kind {
        _ if base.young => StepKind::Confirm,
        _ if file && row.is_some_and(|row| row.held) => StepKind::Held,
        kind => kind,
    };
    Ok(Next::Done(Step::new(kind, step.ino)))
}

fn sending(node: &Node) -> StepKind {
    if node.hydrated { StepKind::Write } else { StepKind::Fetch }
}
