//! What was deleted here is removed there only if it is what was known when it was deleted: a late answer about it does not
//! make it stand for something that nobody saw.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::look::{found_to_fetch, look, resolve};
use super::super::metadata::metadata_refused;
use super::super::settle::{begin, begin_write, write_refused};
use super::super::touch::touch;
use super::super::{
    Expect, Ino, Kind, Name, Observed, Place, Refusal, RemoteId, Rows as _, Sent, StepKind, Version,
};
use super::tree_rows::{Ledger, TreeRows, digest};

fn a_file(version: &str, content: u32) -> Observed {
    Observed {
        kind: Kind::File,
        size: 7,
        mtime: None,
        version: Version(version.into()),
        settled: true,
        id: None,
        digest: Some(digest(content)),
        mode: None,
        extra: None,
    }
}

/// A file of the remote without its content.
fn known() -> (TreeRows, Ino) {
    let mut rows = TreeRows::new('u', Rc::new(RefCell::new(Ledger::default())));
    let seen = [(Name::new("a").unwrap(), a_file("v1", 1))];
    let made = rows.new_in(Ino::ROOT, &seen).unwrap();
    (rows, made[0])
}

fn version(rows: &TreeRows, ino: Ino) -> String {
    rows.base(ino).unwrap().unwrap().version.0
}

#[test]
fn regression_a_refused_time_does_not_renew_what_was_deleted() {
    let (mut rows, ino) = known();
    let expect = Expect::Version(Version("v1".into()));
    let begun = begin(&mut rows, ino, StepKind::Metadata, None, expect).unwrap();
    rows.set_local(ino, None).unwrap();
    touch(&mut rows, ino).unwrap();
    let theirs = a_file("v2", 2);
    metadata_refused(&mut rows, ino, &begun, Refusal::Mismatch, Some(&theirs)).unwrap();
    assert_eq!(version(&rows, ino), "v1");
}

#[test]
fn regression_a_late_look_for_bytes_does_not_renew_what_was_deleted() {
    let (mut rows, ino) = known();
    rows.set_local(ino, None).unwrap();
    touch(&mut rows, ino).unwrap();
    let looked = look(&rows, ino).unwrap().unwrap();
    let theirs = a_file("v2", 2);
    assert!(!found_to_fetch(&mut rows, ino, &looked, Some(&theirs)).unwrap());
    assert_eq!(version(&rows, ino), "v1");
}

/// Two of our files became one at a remote that does not tell their names apart: the next edit of one replaced the other.
#[test]
fn regression_what_is_another_files_is_not_taken_for_this_ones() {
    for id in [None, Some(RemoteId("one".into()))] {
        let seen = Observed { id, ..a_file("v1", 1) };
        let mut rows = TreeRows::new('u', Rc::new(RefCell::new(Ledger::default())));
        let upper = Name::new("Makefile").unwrap();
        let first = rows.new_in(Ino::ROOT, &[(upper, seen.clone())]).unwrap()[0];
        let second = rows.add(Kind::File, Some(1));
        rows.fill(second, 1, None);
        let place = Place::new(Ino::ROOT, Name::new("makefile").unwrap());
        rows.set_local(second, Some(place.clone())).unwrap();
        touch(&mut rows, second).unwrap();
        let edition = rows.node(second).unwrap().unwrap().edition;
        let sent = Sent { digest: digest(1), edition };
        let begun = begin_write(&mut rows, second, place.clone(), Expect::Absent, sent).unwrap();
        write_refused(&mut rows, second, &begun, Refusal::Other, Some(&seen)).unwrap();
        assert_eq!(rows.base(second).unwrap(), None);
        assert_eq!(version(&rows, first), "v1");
        let name = rows.node(second).unwrap().unwrap().local.unwrap().name;
        assert_ne!(name, place.name, "it has a name of its own");
        // The same where the answer was lost.
        rows.set_local(second, Some(place.clone())).unwrap();
        let begun = begin_write(&mut rows, second, place, Expect::Absent, sent).unwrap();
        resolve(&mut rows, second, &begun.attempt, None, Some(&seen)).unwrap();
        assert_eq!(rows.base(second).unwrap(), None);
    }
}
