//! The counts of what is not in sync below folders: what is kept with each commit is what the rows say.

use std::sync::mpsc::channel;

use proptest::prelude::*;

use super::*;
use crate::model::{Attempt, Expect, StepKind, Touched};

impl Bench {
    fn count(&self) -> PendingCounts {
        let waiting = tokio::runtime::Builder::new_current_thread().build().unwrap();
        waiting.block_on(self.catalog.count_pending()).unwrap()
    }

    /// The counts of these folders, after a comparison of all that is kept with the rows.
    fn counted<const N: usize>(&self, folders: [Ino; N]) -> [u64; N] {
        let counts = self.count();
        assert_eq!(counts.all(), self.read(|reader| reader.pending_folders()));
        folders.map(|folder| counts.below(folder))
    }
}

#[test]
fn pending_below_counts_at_any_depth_and_what_was_deleted() {
    let bench = Bench::new();
    let folder = bench.create(Ino::ROOT, "folder", Kind::Folder).ino;
    let below = bench.create(folder, "below", Kind::Folder).ino;
    bench.create(below, "file", Kind::File);
    bench.create(Ino::ROOT, "beside", Kind::File);
    let deleted = bench.appear(below, "deleted", seen(Kind::File, 1));
    assert!(bench.catalog.pending_counts().is_none(), "nobody asked yet");
    assert_eq!(bench.counted([below, folder, Ino::ROOT]), [1, 2, 4]);
    bench.kernel(move |tx| {
        tx.set_local(deleted, None)?;
        assert!(tx.mark_pending(deleted)?);
        Ok(())
    });
    assert_eq!(bench.counted([below, folder, Ino::ROOT]), [2, 3, 5]);
}

#[test]
fn a_moved_folder_carries_its_count() {
    let bench = Bench::new();
    let [from, to] =
        ["from", "to"].map(|text| bench.appear(Ino::ROOT, text, seen(Kind::Folder, 0)));
    let folder = bench.appear(from, "folder", seen(Kind::Folder, 0));
    let below = bench.appear(folder, "below", seen(Kind::Folder, 0));
    bench.create(below, "one", Kind::File);
    let two = bench.create(below, "two", Kind::File).ino;
    let all = [Ino::ROOT, from, to, folder, below];
    assert_eq!(bench.counted(all), [2, 2, 0, 2, 2]);
    bench.kernel(move |tx| tx.set_local(folder, Some(place(to, "folder"))));
    assert_eq!(bench.counted(all), [2, 0, 2, 2, 2]);
    // It moves back, what is below it moves out, and one of the files is sent, all at once.
    bench.kernel(move |tx| {
        tx.set_local(folder, Some(place(from, "folder")))?;
        tx.set_local(below, Some(place(to, "below")))?;
        tx.drop_outbox(two)
    });
    assert_eq!(bench.counted(all), [1, 0, 1, 0, 1]);
    // Two that change places, one below the other.
    bench.kernel(move |tx| {
        tx.set_local(below, Some(place(Ino::ROOT, "below")))?;
        tx.set_local(to, Some(place(below, "to")))?;
        tx.create(new(to, "three", Kind::File)).map(drop)
    });
    assert_eq!(bench.counted(all), [2, 0, 1, 0, 2]);
}

#[test]
fn a_rolled_back_transaction_leaves_no_count() {
    let bench = Bench::new();
    let folder = bench.appear(Ino::ROOT, "folder", seen(Kind::Folder, 0));
    bench.create(folder, "file", Kind::File);
    assert_eq!(bench.counted([folder, Ino::ROOT]), [1, 1]);
    // One change is taken back and another stays, then a whole transaction is.
    let (begin, answers) = grouped(&bench);
    for (text, fate) in [("taken back", Fate::Refused), ("stays", Fate::Kept)] {
        let change = move |tx: &mut Tx| tx.create(new(folder, text, Kind::File)).map(drop);
        submit(&bench, fate, &answers, change);
    }
    begin.send(()).unwrap();
    drop((begin, answers));
    bench.engine(|_| Ok(()));
    assert_eq!(bench.counted([folder, Ino::ROOT]), [2, 2]);
    let lost: Result<()> =
        bench.catalog.write_blocking(Durability::Soon, Origin::Kernel, move |tx| {
            tx.create(new(folder, "lost", Kind::File))?;
            tx.set_local(folder, Some(place(Ino::ROOT, "elsewhere")))?;
            tx.connection.execute_batch("ROLLBACK")?;
            Ok(())
        });
    assert!(lost.is_err());
    assert_eq!(bench.counted([folder, Ino::ROOT]), [2, 2]);
    // A commit that fails tells of nothing either, though what grows was told before it.
    let full = full_disk(&bench, move |tx| {
        tx.create(new(folder, "no room", Kind::File))?;
        tx.set_xattr(folder, b"user.big", &[1; 60_000])
    });
    assert!(full.is_err());
    assert_eq!(bench.counted([folder, Ino::ROOT]), [2, 2]);
}

/// Runs a change while the database may not grow.
fn full_disk(
    bench: &Bench,
    change: impl FnOnce(&mut Tx) -> Result<()> + Send + 'static,
) -> Result<()> {
    let limit = |most: i64| {
        bench.engine(move |tx| {
            let pages: i64 = tx.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            tx.connection.pragma_update(None, "max_page_count", pages + most)?;
            Ok(())
        });
    };
    limit(1);
    let outcome = bench.catalog.write_blocking(Durability::Soon, Origin::Kernel, change);
    limit(1_000_000);
    outcome
}

/// Who sees the row of an item that waits is told of it by its folders, also while the commit is under way.
#[test]
fn what_waits_is_counted_before_anybody_can_see_it_and_as_long_as_somebody_can() {
    let bench = Bench::new();
    let folder = bench.appear(Ino::ROOT, "folder", seen(Kind::Folder, 0));
    *bench.world.counts.lock().unwrap() = Some(bench.count());
    let before_commit = || bench.world.counted.lock().unwrap().last().copied();
    let file = bench.create(folder, "file", Kind::File).ino;
    assert_eq!((before_commit(), bench.counted([Ino::ROOT])), (Some(1), [1]));
    bench.engine(move |tx| tx.drop_outbox(file));
    assert_eq!((before_commit(), bench.counted([Ino::ROOT])), (Some(1), [0]));
}

/// A mount whose folders nobody asks pays nothing.
#[test]
fn nothing_is_noted_before_somebody_asks() {
    let bench = Bench::new();
    let cost = |text: &'static str| {
        bench.engine(move |tx| {
            let before = tx.statements();
            let ino = tx.create(new(Ino::ROOT, text, Kind::File))?.ino;
            tx.mark_edited(ino)?;
            Ok(tx.statements() - before)
        })
    };
    cost("first");
    let unasked = cost("a");
    bench.count();
    assert_eq!(cost("b"), unasked, "of what is new nothing has to be asked");
    assert_eq!(bench.counted([Ino::ROOT]), [3]);
}

/// No rows should be so; if they are, what is told is what the rows say, and nobody goes round for ever.
#[test]
fn folders_in_a_circle_are_counted_anew() {
    let bench = Bench::new();
    let a = bench.create(Ino::ROOT, "a", Kind::Folder).ino;
    let b = bench.create(a, "b", Kind::Folder).ino;
    bench.create(b, "file", Kind::File);
    assert_eq!(bench.counted([Ino::ROOT, a, b]), [3, 2, 1]);
    bench.kernel(move |tx| tx.set_local(a, Some(place(b, "a"))));
    assert_eq!(bench.counted([Ino::ROOT, a, b]), [0, 3, 3]);
    bench.create(b, "more", Kind::File);
    assert_eq!(bench.counted([Ino::ROOT, a, b]), [0, 4, 4]);
    assert!(!bench.read(|reader| reader.is_below(b, Ino(4711))));
    bench.kernel(move |tx| tx.set_local(a, Some(place(Ino::ROOT, "a"))));
    assert_eq!(bench.counted([Ino::ROOT, a, b]), [4, 3, 2]);
}

/// Rows that changed without anybody saying which ones are all looked at.
#[test]
fn what_is_written_past_the_writer_is_counted_with_its_next_commit() {
    let bench = Bench::new();
    let file = bench.create(Ino::ROOT, "file", Kind::File).ino;
    bench.create(Ino::ROOT, "other", Kind::File);
    assert_eq!(bench.counted([Ino::ROOT]), [2]);
    let other = rusqlite::Connection::open(&bench.path).unwrap();
    other.execute("DELETE FROM outbox WHERE ino = ?1", [file.0.cast_signed()]).unwrap();
    bench.engine(|_| Ok(()));
    assert_eq!(bench.counted([Ino::ROOT]), [1]);
    bench.engine(|tx| tx.run("DELETE FROM outbox", []).map(drop));
    assert_eq!(bench.counted([Ino::ROOT]), [0]);
}

/// Is one step on the rows. Numbers choose among what was made so far.
#[derive(Clone, Debug)]
enum Act {
    Create {
        folder: u8,
        kind: Kind,
    },
    Edit(u8),
    Move {
        item: u8,
        folder: u8,
    },
    Unlink(u8),
    Attempt(u8),
    Retouch(u8),
    /// The remote has it: where it is here, or in this folder.
    Base {
        item: u8,
        folder: Option<u8>,
        young: bool,
        ours: bool,
    },
    Sent(u8),
    NoBase(u8),
    Forget(u8),
    List {
        folder: u8,
        names: u8,
    },
    Vanish(u8),
}

/// Says what becomes of a change.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Kept,
    Refused,
    /// The whole transaction is lost.
    Breaks,
}

fn acts() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![2 => Just(Kind::Folder), 3 => Just(Kind::File)];
    let some = any::<u8>;
    prop_oneof![
        4 => (some(), kind).prop_map(|(folder, kind)| Act::Create { folder, kind }),
        2 => some().prop_map(Act::Edit),
        4 => (some(), some()).prop_map(|(item, folder)| Act::Move { item, folder }),
        2 => some().prop_map(Act::Unlink),
        1 => some().prop_map(Act::Attempt),
        1 => some().prop_map(Act::Retouch),
        2 => (some(), any::<Option<u8>>(), any::<bool>(), any::<bool>())
            .prop_map(|(item, folder, young, ours)| Act::Base { item, folder, young, ours }),
        2 => some().prop_map(Act::Sent),
        1 => some().prop_map(Act::NoBase),
        1 => some().prop_map(Act::Forget),
        1 => (some(), 1..40_u8).prop_map(|(folder, names)| Act::List { folder, names }),
        1 => some().prop_map(Act::Vanish),
    ]
}

/// Is a change with its fate; several are one commit.
type Group = Vec<(Vec<Act>, Fate)>;

fn groups() -> impl Strategy<Value = Vec<Group>> {
    let fate =
        prop_oneof![8 => Just(Fate::Kept), 2 => Just(Fate::Refused), 1 => Just(Fate::Breaks)];
    let change = (prop::collection::vec(acts(), 1..8), fate);
    prop::collection::vec(prop::collection::vec(change, 1..4), 1..16)
}

/// Is what was made so far, also what was taken back.
#[derive(Clone, Default)]
struct Made {
    items: Vec<Ino>,
    folders: Vec<Ino>,
    names: u32,
}

impl Made {
    /// An item that is there.
    fn item(&self, tx: &Tx, number: u8) -> Result<Option<Ino>> {
        let made = self.items.get(usize::from(number) % self.items.len().max(1));
        let node = made.map(|ino| tx.node(*ino)).transpose()?;
        Ok(node.flatten().map(|node| node.ino))
    }

    /// A folder that is there.
    fn folder(&self, tx: &Tx, number: u8) -> Result<Ino> {
        let nth = usize::from(number) % (self.folders.len() + 1);
        let folder = nth.checked_sub(1).map_or(Ino::ROOT, |nth| self.folders[nth]);
        Ok(tx.node(folder)?.map_or(Ino::ROOT, |node| node.ino))
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    /// Does it; what cannot be done is not.
    fn act(&mut self, tx: &mut Tx, act: &Act) -> Result<()> {
        match *act {
            Act::Create { folder, kind } => {
                let made = tx.create(new(self.folder(tx, folder)?, &self.name(), kind))?;
                self.made(made.ino, kind);
                Ok(())
            }
            Act::List { folder, names } => {
                let names: Vec<_> =
                    (0..names).map(|_| (name(&self.name()), seen(Kind::File, 1))).collect();
                let made = tx.new_in(self.folder(tx, folder)?, &names)?;
                made.into_iter().for_each(|ino| self.made(ino, Kind::File));
                Ok(())
            }
            Act::Edit(item) => self.on(tx, item, |tx, ino| tx.mark_edited(ino).map(drop)),
            Act::Move { item, folder } => {
                let place = place(self.folder(tx, folder)?, &self.name());
                self.on(tx, item, |tx, ino| match tx.is_below(place.parent, ino)? {
                    true => Ok(()),
                    false => tx.set_local(ino, Some(place)),
                })
            }
            Act::Unlink(item) => self.on(tx, item, |tx, ino| {
                tx.set_local(ino, None)?;
                tx.mark_pending(ino).map(drop)
            }),
            Act::Attempt(item) => self.on(tx, item, |tx, ino| {
                let attempt = Attempt {
                    kind: StepKind::Write,
                    source: None,
                    target: None,
                    expect: Expect::Absent,
                    nonce: 7,
                };
                let row = OutboxRow { attempt: Some(attempt), ..OutboxRow::default() };
                tx.set_outbox(ino, row)
            }),
            Act::Retouch(item) => self.on(tx, item, |tx, ino| tx.retouch(ino, Touched::MODE)),
            Act::Base { item, folder, young, ours } => {
                let name = self.name();
                let other = folder.map(|folder| self.folder(tx, folder)).transpose()?;
                let other = other.map(|folder| place(folder, &name));
                self.on(tx, item, |tx, ino| {
                    let Some(node) = tx.node(ino)? else { return Ok(()) };
                    let Some(place) = other.or(node.local) else { return Ok(()) };
                    let edition = if ours { node.edition } else { Edition(0) };
                    tx.set_base(ino, Some(Base { young, ..based(place, edition, 1) }))
                })
            }
            Act::Sent(item) => self.on(tx, item, |tx, ino| tx.drop_outbox(ino)),
            Act::NoBase(item) => self.on(tx, item, |tx, ino| tx.set_base(ino, None)),
            Act::Forget(item) => self.on(tx, item, |tx, ino| tx.forget(ino)),
            Act::Vanish(item) => self.on(tx, item, |tx, ino| {
                tx.set_base(ino, None)?;
                tx.drop_outbox(ino)?;
                tx.set_local(ino, None)
            }),
        }
    }

    fn on(
        &self,
        tx: &mut Tx,
        item: u8,
        act: impl FnOnce(&mut Tx, Ino) -> Result<()>,
    ) -> Result<()> {
        self.item(tx, item)?.map_or(Ok(()), |ino| act(tx, ino))
    }

    fn made(&mut self, ino: Ino, kind: Kind) {
        self.items.push(ino);
        if kind == Kind::Folder {
            self.folders.push(ino);
        }
    }
}

type Answers = std::sync::mpsc::Sender<()>;

/// Holds the writer until it is told to begin: what is queued meanwhile is one commit.
fn grouped(bench: &Bench) -> (Answers, Answers) {
    let (begin, held) = channel::<()>();
    let (answers, _) = channel();
    let hold = move |_: &mut Tx| -> Result<()> {
        held.recv().ok();
        Ok(())
    };
    bench.catalog.submit(Durability::Soon, Origin::Engine, hold, drop);
    (begin, answers)
}

fn submit(
    bench: &Bench,
    fate: Fate,
    answers: &Answers,
    change: impl FnOnce(&mut Tx) -> Result<()> + Send + 'static,
) {
    let answers = answers.clone();
    let change = move |tx: &mut Tx| {
        change(tx)?;
        match fate {
            Fate::Kept => Ok(()),
            Fate::Refused => Err(CatalogError::Closed),
            Fate::Breaks => Ok(tx.connection.execute_batch("ROLLBACK")?),
        }
    };
    bench.catalog.submit(Durability::Soon, Origin::Kernel, change, move |_| drop(answers));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is done, taken back or lost, alone or with others in a commit: what is kept is what the rows say.
    #[test]
    fn what_is_kept_is_what_the_rows_say(groups in groups(), asked in 0..6_usize) {
        let bench = Bench::new();
        let made = Arc::new(Mutex::new(Made::default()));
        for (nth, group) in groups.into_iter().enumerate() {
            if nth == asked {
                bench.count();
            }
            let (begin, answers) = grouped(&bench);
            for (acts, fate) in group {
                let made = made.clone();
                submit(&bench, fate, &answers, move |tx| {
                    let mut made = made.lock().unwrap();
                    // One that fails leaves what it did until then.
                    acts.iter().for_each(|act| drop(made.act(tx, act)));
                    Ok(())
                });
            }
            begin.send(()).unwrap();
            drop(answers);
            bench.engine(|_| Ok(()));
            if nth >= asked {
                bench.counted([]);
            }
        }
    }
}
