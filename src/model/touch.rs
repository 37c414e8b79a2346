//! Keeps the outbox true: whoever changes a place, a base or a content touches the inode afterwards.

use super::around::{is_edited, is_in_sync, is_kept_here, wanted};
use super::{Ino, Kind, Node, OutboxRow, Rows};

/// Inserts or drops the outbox row as the inode needs it; forgets the inode if nothing holds it any more.
pub fn touch<R: Rows>(rows: &mut R, ino: Ino) -> Result<(), R::Error> {
    let Some(node) = rows.node(ino)?.filter(|_| ino != Ino::ROOT) else { return Ok(()) };
    let in_sync = is_in_sync(rows, &node)?;
    let handles = rows.handles(ino);
    let may_change = handles.writers > 0 && may_be_sent(rows, &node)?;
    let row = rows.outbox(ino)?;
    let mut has_row = row.is_some();
    match row {
        None if !in_sync || may_change => {
            rows.set_outbox(ino, OutboxRow::default())?;
            has_row = true;
        }
        Some(row) if in_sync && !may_change && row.attempt.is_none() => {
            rows.drop_outbox(ino)?;
            has_row = false;
        }
        _ => {}
    }
    let held = has_row || handles.open > 0 || node.local.is_some();
    if !held && rows.base(ino)?.is_none() && !rows.has_children(ino)? {
        rows.forget(ino)?;
    }
    Ok(())
}

fn may_be_sent<R: Rows>(rows: &R, node: &Node) -> Result<bool, R::Error> {
    Ok(rows.base(node.ino)?.is_some() || wanted(rows, node)?.is_some())
}

/// Touches the inode after its local place changed; all below it only if being kept here only began or ended with that. Where a
/// pattern tells paths, that may have become so for some of it: for what the remote never had, and what is in that.
pub(super) fn touch_moved<R: Rows>(
    rows: &mut R,
    ino: Ino,
    was_kept_here: bool,
) -> Result<(), R::Error> {
    let is_same = is_kept_here(rows, ino)? == was_kept_here;
    if is_same && !rows.excludes_paths() {
        return touch(rows, ino);
    }
    let mut all = vec![ino];
    let tops = if is_same { rows.new_below(ino)? } else { rows.children(ino)? };
    for top in tops {
        let mut waiting = vec![top];
        while let Some(at) = waiting.pop() {
            waiting.extend(rows.children(at)?);
            all.push(at);
        }
    }
    // The lowest first: a folder is judged when all in it has been.
    all.into_iter().rev().try_for_each(|at| touch(rows, at))
}

/// Whether sending this item removes or overwrites a file at the remote.
pub(super) fn is_destructive<R: Rows>(rows: &R, node: &Node) -> Result<bool, R::Error> {
    let Some(base) = rows.base(node.ino)?.filter(|_| node.kind == Kind::File) else {
        return Ok(false);
    };
    Ok(is_edited(node, Some(&base)) || wanted(rows, node)?.is_none())
}
