//! Each rule of `docs/RULES.md` with the shortest history that breaks without it, as a test of its own.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::*;
use super::author::replay;
use super::tree_rows::{Ledger, TreeRows};
use super::world::profile;

fn holds(setup: &str, history: &str) {
    let history: Vec<String> = history.split(" · ").map(str::to_owned).collect();
    if let Some(why) = replay(profile(setup), &history) {
        panic!("{why}");
    }
}

/// A remote object is replaced or removed only under a precondition on its base version.
#[test]
fn rule_conditional() {
    holds("two", "user 0 create c · remote 0 put c");
}

/// An observation that cannot be applied marks its folder look-again.
#[test]
fn rule_remember_skipped() {
    holds("lazy", "user 0 rename c c · work 0 lister 0 1 · remote 0 mkdir b");
}

/// The feed never judges an inode that has an outbox row.
#[test]
fn rule_pending_not_judged() {
    holds("two", "user 0 create a · work 0 upload 0 1 · remote 0 put a · user 0 unlink a");
}

/// Nor a place that an attempt without an answer is about.
#[test]
fn rule_attempted_place() {
    holds(
        "saves",
        "user 0 create b · work 0 upload 0 1 · user 0 unlink b · user 0 create b · crash 0 · work 0 upload 0 whole request",
    );
}

/// Whoever takes a base away takes it from everything below.
#[test]
fn rule_take_all_below() {
    holds(
        "two",
        "user 0 mkdir c · work 0 upload 0 whole · remote 0 mkdir c/a · work 0 feed 0 whole · remote 0 mv c b",
    );
}

/// The topmost local ancestor with a pending move goes first.
#[test]
fn rule_ancestors_first() {
    holds("editors", "user 0 create b · user 0 mkdir c · user 0 rename b c/b");
}

/// A cycle of occupied places is broken by one rename of an occupant to a fresh name.
#[test]
fn rule_sidestep_cycles() {
    holds(
        "quiet",
        "remote 0 put a · user 0 create b · work 0 lister 0 whole · work 0 upload 0 whole · user 0 exchange b a",
    );
}

/// That name is an ordinary visible one: should its folder move meanwhile, it is found there.
#[test]
fn rule_sidestep_visible() {
    holds(
        "crash",
        "remote 0 mkdir c · remote 0 put c/a · remote 0 put c/b · list 0 / · work 0 lister 0 whole · list 0 c · work 0 lister 0 whole · user 0 exchange c/a c/b · work 0 upload 0 whole · remote 0 mv c d",
    );
}

/// A listing whose folder moved meanwhile starts again: what is told of the old path is about another folder.
#[test]
fn rule_restart_moved_listing() {
    let mut rows = TreeRows::new('r', Rc::new(RefCell::new(Ledger::default())));
    let seen = |kind| Observed {
        kind,
        size: 7,
        mtime: None,
        version: Version("v1".into()),
        settled: true,
        id: None,
        digest: None,
        mode: None,
        extra: None,
    };
    let name = |text: &str| Name::new(text).unwrap();
    let folder = rows.new_in(Ino::ROOT, &[(name("d"), seen(Kind::Folder))]).unwrap()[0];
    let mut listing = begin_listing(&mut rows, folder).unwrap().unwrap();
    let base = rows.base(folder).unwrap().unwrap();
    let moved = Base { place: Place::new(Ino::ROOT, name("e")), ..base };
    rows.set_base(folder, Some(moved)).unwrap();
    let page = [(name("of another"), seen(Kind::File))];
    assert!(!list_page(&mut rows, &mut listing, page).unwrap());
    assert!(!rows.has_children(folder).unwrap());
}

/// A folder we moved, and the folders below it, are looked at again.
#[test]
fn rule_look_below_moved() {
    holds(
        "crash",
        "remote 0 put c · user 0 mkdir a · remote 0 mkdir b · crash 0 · work 0 upload 0 whole · user 0 mkdir a/c · remote 0 put a/b · user 0 rename a/c a/a · work 0 upload 0 whole · remote 0 mv a/a b/c · user 0 rename a c",
    );
}

/// An existing folder adopted as ours is looked at again.
#[test]
fn rule_look_into_adopted() {
    holds("ids", "remote 0 mkdir c · remote 0 put c/c · work 0 feed 0 whole · user 0 mkdir c");
}

/// The attempt is noted durably before it is sent.
#[test]
fn rule_note_before_send() {
    holds(
        "saves",
        "user 0 mkdir a · work 0 upload 0 2 answer · user 0 create b · user 0 exchange b a",
    );
}

/// An attempt without an answer is resolved by looking before anything else is planned.
#[test]
fn rule_resolve_first() {
    holds("saves", "user 0 create a · work 0 upload 0 whole request · user 0 unlink a");
}

/// An inode with an unresolved attempt is not forgotten.
#[test]
fn rule_keep_unresolved() {
    holds("saves", "user 0 create b · work 0 upload 0 1 · user 0 unlink b · user 0 create b");
}

/// A file that takes the place of a deleted one inherits its base.
#[test]
fn rule_inherit() {
    holds(
        "saves",
        "user 0 create t · user 0 rename t b · work 0 upload 0 whole · user 0 create t · user 0 rename t b",
    );
}

/// An answer is recorded only where the rows it is about are still as they were.
#[test]
fn rule_recheck_answer() {
    holds(
        "crash",
        "user 0 mkdir a · user 0 rename a b · work 0 upload 0 whole · user 0 create b/b · remote 0 mv b a · work 0 upload 0 1 · user 0 rename b/b a · work 0 lister 0 whole",
    );
}

/// The base gets the generation that was sent, not the one that is here now.
#[test]
fn rule_record_what_was_sent() {
    holds("quiet", "user 0 create b · work 0 upload 0 1 · user 0 write b");
}

/// An observation older than our own last change of that folder is not applied.
#[test]
fn rule_stale_observation() {
    holds(
        "saves",
        "user 0 mkdir a · work 0 upload 0 whole answer · work 0 lister 0 whole · user 0 rename a c · work 0 lister 0 1 · work 0 upload 0 whole",
    );
}

/// Remote edit beats local delete; local edit beats remote delete.
#[test]
fn rule_edit_beats_delete() {
    holds("crash", "user 0 create a · work 0 upload 0 whole · remote 0 rm a · user 0 write a");
}

/// A hint for a folder that is being listed is remembered.
#[test]
fn rule_hint_while_listing() {
    holds(
        "together",
        "remote 0 put b · user 0 create b · remote 0 rm b · user 1 rename b a · work 1 lister 0 1",
    );
}

/// Only a whole listing marks a folder listed and lets names vanish.
#[test]
fn rule_whole_listing() {
    holds("two", "remote 0 put a · remote 0 put b · remote 0 put c");
}

/// Only names known unchanged since the listing began can vanish by it.
#[test]
fn rule_known_before_listing() {
    holds(
        "late",
        "user 0 unlink c · remote 0 put a · work 0 lister 0 whole · user 0 write a · remote 0 put a · work 0 feed 0 whole · remote 0 rm a · work 0 lister 0 1 · user 0 unlink a · remote 0 put a",
    );
}

/// A version whose clock tick is not over is not relied on; it is confirmed by content.
#[test]
fn rule_settle_young() {
    holds("coarse", "user 0 create c · work 0 upload 0 whole · remote 0 put c");
}

/// A known id at another place is a move: inode, cache and pending edit go along.
#[test]
fn rule_follow_id() {
    holds(
        "moves",
        "remote 0 mkdir b · remote 0 mkdir a · list 0 / · work 0 lister 0 whole · remote 0 mv b a/c",
    );
}

/// With ids, a missing entry vanishes only when the feed has been drained after it was missed.
#[test]
fn rule_vanish_after_feed() {
    holds(
        "moves",
        "remote 0 mkdir c · remote 0 put c/b · remote 0 put b · list 0 / · work 0 lister 0 whole · remote 0 mv b c/a",
    );
}

/// An entry pushed from its place by a move is parked, not dropped.
#[test]
fn rule_park_displaced() {
    holds(
        "moves",
        "remote 0 mkdir c · remote 0 mkdir c/c · remote 0 put b · remote 0 put a · list 0 / · work 0 lister 0 whole · remote 0 mv a c/c/a · remote 0 mv b c/a · remote 0 mv c/c/a b",
    );
}

/// A known id is followed below an unlisted folder.
#[test]
fn rule_follow_into_unlisted() {
    holds(
        "moves",
        "remote 0 mkdir c · remote 0 put b · list 0 / · work 0 lister 0 whole · remote 0 mv b c/a",
    );
}

/// An excluded name counts as no place for the remote.
#[test]
fn rule_local_only() {
    holds("editors", "user 0 mkdir x~");
}

/// What moves to an excluded name is fetched before the remote loses it.
#[test]
fn rule_bytes_before_excluded() {
    holds(
        "editors",
        "remote 0 put b · user 0 unlink old · work 0 lister 0 whole · user 0 rename b b~",
    );
}

/// What the remote already has under an excluded name is shown and synced as any other.
#[test]
fn rule_synced_if_there() {
    holds(
        "editors",
        "remote 0 put x~ · work 0 lister 0 whole · user 0 write x~ · remote 0 mkdir y~",
    );
}

/// What is kept here only covers an entry of the remote until it goes; then that one appears.
#[test]
fn rule_uncover() {
    holds(
        "editors",
        "user 0 create x~ · remote 0 put x~ · list 0 / · work 0 lister 0 whole · user 0 unlink x~",
    );
}

/// A remote change of an open inode makes a new inode at the name.
#[test]
fn rule_open_is_snapshot() {
    holds(
        "handles",
        "user 0 create c · user 0 open c · work 0 upload 0 whole · remote 0 put c · work 0 feed 0 whole",
    );
}

/// The outbox row stays while a writer is open.
#[test]
fn rule_writer_holds_row() {
    holds(
        "handles",
        "user 0 create c · user 0 rename c b · work 0 upload 0 whole · remote 0 put b · user 0 openw b · work 0 feed 0 whole · handle write 1",
    );
}

/// What the feed told of a move while a write was under way is looked at before the entry counts as gone.
#[test]
fn regression_moved_while_its_write_is_under_way() {
    holds(
        "moves",
        "list 0 / · remote 0 put c · work 0 lister 0 3 · user 0 write c · work 0 upload 0 1 · remote 0 mv c a · work 0 feed 0 whole",
    );
}

/// What a writer has open keeps its name while nobody knows where the remote moved it: it may yet be written.
#[test]
fn regression_pushed_aside_while_a_writer_has_it_open() {
    holds(
        "everything",
        "list 1 / · remote 0 put c · work 1 lister 0 1 · remote 0 put c · work 1 lister 0 whole answer · remote 0 put c · remote 0 put b · remote 0 put b · remote 0 rm c · remote 0 put b · remote 0 put b · user 1 openw c · remote 0 mkdir c · user 1 create lock · user 1 write lock · user 0 create a · work 1 upload2 0 3 · work 1 feed 0 whole · handle write 0",
    );
}

/// An entry that went away and came back while its folder was being listed is still there afterwards.
#[test]
fn regression_back_before_the_listing_ends() {
    holds(
        "crash",
        "remote 0 put a · list 0 / · work 0 lister 0 whole · expire 0 · work 0 feed 0 whole · remote 0 mv a b · work 0 lister 0 1 · remote 0 mv b a · work 0 feed 0 whole · work 0 lister 0 whole",
    );
}
