//! A folder is hidden while another entry has its place and nobody knows yet where it went. What was made in it is not lost
//! with it.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::around::{HIDDEN, line, new_base};
use super::super::reconcile::vanish;
use super::super::touch::touch;
use super::super::verbs::recover;
use super::super::{Edition, Ino, Kind, Name, Observed, Place, RemoteId, Rows as _, Version};
use super::tree_rows::{Ledger, TreeRows};

fn a_folder() -> Observed {
    Observed {
        kind: Kind::Folder,
        size: 0,
        mtime: None,
        version: Version(String::new()),
        settled: true,
        id: None,
        digest: None,
        mode: None,
        extra: None,
    }
}

/// A folder with a new one in it, which is not sent yet.
fn folder_with_news() -> (TreeRows, Ino, Ino) {
    let mut rows = TreeRows::new('h', Rc::new(RefCell::new(Ledger::default())));
    let folder = rows.add(Kind::Folder, None);
    let new = rows.add(Kind::Folder, None);
    let name = Name::new(b"new").unwrap();
    rows.set_local(new, Some(Place::new(folder, name))).unwrap();
    touch(&mut rows, new).unwrap();
    (rows, folder, new)
}

fn is_placed(rows: &TreeRows, ino: Ino) -> bool {
    line(rows, ino).unwrap().last().is_some_and(|top| top.ino == Ino::ROOT)
}

#[test]
fn what_was_made_in_a_hidden_folder_brings_it_back_when_it_is_gone() {
    let (mut rows, folder, new) = folder_with_news();
    let hidden = Place::new(Ino::ROOT, Name::own(HIDDEN, 1));
    let seen = Observed { id: Some(RemoteId("folder".into())), ..a_folder() };
    rows.set_base(folder, Some(new_base(hidden, &seen, Edition(1)))).unwrap();
    vanish(&mut rows, folder).unwrap();
    assert!(is_placed(&rows, new), "nobody finds it any more");
    assert!(rows.outbox(new).unwrap().is_some() && rows.outbox(folder).unwrap().is_some());
}

/// As states were left before hidden folders were brought back.
#[test]
fn a_start_brings_back_a_folder_without_a_place_that_holds_what_is_not_sent() {
    let (mut rows, _folder, new) = folder_with_news();
    assert!(!is_placed(&rows, new));
    recover(&mut rows).unwrap();
    assert!(is_placed(&rows, new), "nobody finds it any more");
}
