//! Which rows go next.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::catalog::Durability;
use crate::catalog::{Catalog, NewInode, Origin};
use crate::model::Kind;
use crate::model::{Exclude, Handles, Place};

struct Nobody(Exclude, Handles);

impl crate::catalog::Memory for Nobody {
    fn handles(&self, _ino: Ino) -> Handles {
        self.1
    }

    fn exclude(&self) -> &Exclude {
        &self.0
    }
}

fn new(number: usize) -> NewInode {
    let name = crate::model::Name::new(format!("new-{number}")).unwrap();
    let place = Place::new(Ino::ROOT, name);
    let kind = Kind::File;
    NewInode { kind, place, mode: 0o644, uid: None, gid: None, now: 1, target: None, rests: None }
}

fn catalog() -> (tempfile::TempDir, Catalog) {
    catalog_with(Handles::default())
}

/// One that takes every file for being held so.
fn catalog_with(handles: Handles) -> (tempfile::TempDir, Catalog) {
    let dir = tempfile::tempdir().unwrap();
    let memory = Arc::new(Nobody(Exclude::new::<&str>(&[]), handles));
    let catalog = Catalog::open(&dir.path().join("catalog.db"), memory).unwrap();
    (dir, catalog)
}

fn in_one<T: Send + 'static>(
    catalog: &Catalog,
    work: impl FnOnce(&mut Tx) -> Result<T, CatalogError> + Send + 'static,
) -> T {
    catalog.write_blocking(Durability::Soon, Origin::Engine, work).unwrap()
}

/// As many new files, of so many bytes.
fn fill(catalog: &Catalog, numbers: std::ops::Range<usize>, bytes: u64) -> Vec<Ino> {
    in_one(catalog, move |tx| {
        let make = |number| {
            let made = tx.create(new(number))?.ino;
            tx.set_size(made, bytes)?;
            Ok(made)
        };
        numbers.map(make).collect()
    })
}

fn choosing(room: Room, busy: Busy, heavy: &crate::engine::due::Heavy) -> Choosing {
    Choosing {
        now: i64::MAX,
        busy,
        urgent: Arc::default(),
        writers_rest: 0,
        room,
        limit: 0,
        guard: crate::engine::guard::Shared::default(),
        heavy: heavy.clone(),
        open: Arc::default(),
    }
}

/// Each step that ends makes room for one: what waits is not planned for that again and again.
#[test]
fn what_waits_for_room_is_planned_once() {
    let (_dir, catalog) = catalog();
    fill(&catalog, 0..LOOKED_AT, 0);
    let heavy = crate::engine::due::Heavy::default();
    let choose = |(heavy_room, light): (usize, usize), steps: usize| {
        let room = Room { light, tiny: heavy_room, line: heavy_room, ..Room::default() };
        let choosing = choosing(room, Busy::default(), &heavy);
        in_one(&catalog, move |tx| {
            let before = tx.statements();
            let chosen = choosing.run(tx)?;
            assert_eq!(chosen.steps.len(), steps);
            assert!(chosen.skipped, "there is more than there is room for");
            Ok(tx.statements() - before)
        })
    };
    let all = choose((1, 4), 1);
    assert_eq!(lock(&heavy).loads.len(), LOOKED_AT - 1);
    let next = choose((1, 4), 1);
    assert!(next * 8 < all, "{next} statements for one step, {all} for all");
    let none = choose((0, 4), 0);
    assert!(none * 16 < all, "{none} statements for nothing");
}

const ROOM: Room = Room { light: 9, tiny: 9, heavy: 9, large: 3, line: 9, first_large: true };

fn chosen(catalog: &Catalog, choosing: Choosing) -> Vec<Ino> {
    in_one(catalog, move |tx| {
        Ok(choosing.run(tx)?.steps.into_iter().map(|(step, ..)| step.ino).collect())
    })
}

/// Rows under way are the oldest: as many as are looked at in one choice kept all others from being seen, and the choice
/// was made again at once.
#[test]
fn regression_what_is_under_way_hides_nothing_that_may_go() {
    let (_dir, catalog) = catalog();
    let busy: Busy = fill(&catalog, 0..LOOKED_AT, 0).into_iter().collect();
    let free = fill(&catalog, 100..101, 0);
    assert_eq!(chosen(&catalog, choosing(ROOM, busy, &Default::default())), free);
}

/// Who waits for a file waited for all that was pending before it.
#[test]
fn regression_what_somebody_waits_for_goes_first() {
    let (_dir, catalog) = catalog();
    fill(&catalog, 0..2 * LOOKED_AT, 0);
    let last = fill(&catalog, 200..201, 0);
    let urgent = Arc::new(last.iter().copied().collect());
    let room = Room { tiny: 1, heavy: 1, ..ROOM };
    let choosing = Choosing { urgent, ..choosing(room, Busy::default(), &Default::default()) };
    assert_eq!(chosen(&catalog, choosing), last);
}

/// While small files kept coming no large one ever began.
#[test]
fn regression_a_large_file_that_waits_long_begins_beside_small_ones() {
    let (_dir, catalog) = catalog();
    let large = fill(&catalog, 0..2, 10 * BULK);
    let room = Room { line: 0, ..ROOM };
    let heavy = crate::engine::due::Heavy::default();
    let since = large.iter().map(|ino| catalog.read(|rows| rows.outbox_item(*ino)).unwrap());
    let since = since.flatten().map(|item| item.since).max().unwrap();
    let at = |after: Duration, room| Choosing {
        now: since + nanos(after),
        ..choosing(room, Busy::default(), &heavy)
    };
    let soon = Duration::from_secs(5);
    assert!(chosen(&catalog, at(soon, room)).is_empty());
    assert_eq!(chosen(&catalog, at(LARGE_WAITS + soon, room)).len(), 1);
    let beside = Room { first_large: false, ..room };
    assert!(chosen(&catalog, at(LARGE_WAITS + soon, beside)).is_empty());
}

/// A small file behind many large ones is found, and the large ones are not walked over with each choice.
#[test]
fn regression_large_files_are_walked_over_once() {
    let (_dir, catalog) = catalog();
    fill(&catalog, 0..4 * LOOKED_AT, 10 * BULK);
    let small = fill(&catalog, 1000..1001, 10);
    let heavy = crate::engine::due::Heavy::default();
    let room = Room { large: 0, ..ROOM };
    assert_eq!(chosen(&catalog, choosing(room, Busy::default(), &heavy)), small);
    let until = lock(&heavy).large_until;
    let left = catalog.read(|rows| rows.outbox_due_small(until, i64::MAX, u64::MAX, 9)).unwrap();
    assert_eq!(left.into_iter().map(|(row, _)| row).collect::<Vec<_>>(), small);
}

/// Who is in a new folder waited for half a minute when that rested itself in the moment in which it was planned: the folder's
/// end woke nobody.
#[test]
fn regression_who_is_behind_a_resting_folder_is_woken_with_its_end() {
    let (_dir, catalog) = catalog();
    let (folder, file) = in_one(&catalog, |tx| {
        let folder = tx.create(NewInode { kind: Kind::Folder, ..new(0) })?.ino;
        let place = Place::new(folder, crate::model::Name::new("in it").unwrap());
        let file = tx.create(NewInode { place, ..new(1) })?.ino;
        Ok((folder, file))
    });
    let due = catalog.read(|rows| rows.next_due_after(i64::MIN)).unwrap().unwrap();
    let now = due + nanos(Duration::from_secs(60));
    let choosing = Choosing { now, ..choosing(ROOM, Busy::default(), &Default::default()) };
    let behind = in_one(&catalog, move |tx| {
        tx.outbox_defer(folder, now + nanos(WOKEN))?;
        Ok(choosing.run(tx)?.behind)
    });
    assert_eq!(behind, [(file, folder)]);
}

/// What was written and could not be told counts as a writer, and the step that would tell it was put off for that writer: nobody
/// ever did.
#[test]
fn regression_what_could_not_be_told_is_looked_at() {
    let (_dir, catalog) = catalog_with(Handles { open: 0, writers: 1 });
    let ino = fill(&catalog, 0..1, 0)[0];
    in_one(&catalog, move |tx| {
        let node = tx.node(ino)?.unwrap();
        let base = model::Base {
            place: node.local.unwrap(),
            version: model::Version("v1".to_owned()),
            id: None,
            edition: node.edition,
            known: None,
            young: false,
            listed: false,
            size: 0,
            extra: None,
        };
        tx.set_base(ino, Some(base))
    });
    assert_eq!(chosen(&catalog, choosing(ROOM, Busy::default(), &Default::default())), [ino]);
}
