//! What people do to names, as far as a file system would let them.

use super::*;

pub(super) fn user_unlink(rows: &mut TreeRows, ino: Ino, item: &Item) {
    if item.node.kind == Kind::Folder {
        let listed = is_listed(rows, ino).unwrap() && !rows.needed.contains(&ino);
        if !listed || rows.has_children(ino).unwrap() {
            return;
        }
    } else {
        rows.ledger.borrow_mut().gone.extend(item.seen);
        rows.item(ino).unlinked = true;
    }
    unlink(rows, ino).unwrap();
}

pub(super) fn user_rename(rows: &mut TreeRows, ino: Ino, item: &Item, to: Place) {
    let victim = rows.resident(&to).unwrap();
    let up = |ino, from| line(rows, from).unwrap().iter().any(|node| node.ino == ino);
    if victim == Some(ino) || up(ino, to.parent) {
        return;
    }
    if let Some(victim) = victim {
        let other = rows.items[&victim].clone();
        if other.node.kind != item.node.kind || up(victim, ino) {
            return;
        }
        user_unlink(rows, victim, &other);
        if rows.resident(&to).unwrap().is_some() {
            return;
        }
    }
    assert!(rename(rows, ino, to).unwrap());
}
