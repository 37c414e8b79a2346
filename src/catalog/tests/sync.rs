use super::*;
use crate::model::{Attempt, Expect, Sent, StepKind};

#[test]
fn a_base_reads_as_it_was_written() {
    let mut bench = Bench::new();
    let ino = bench.appear(Ino::ROOT, "a", seen(Kind::File, 10));
    let base = Base {
        place: place(Ino::ROOT, "elsewhere"),
        version: Version("\"etag\"".to_owned()),
        id: Some(RemoteId("id1".to_owned())),
        edition: Edition(u64::MAX),
        known: Some(Digest { size: u64::MAX, hash: [7; 32] }),
        young: true,
        listed: false,
        size: 10,
        extra: Some(vec![0, 1, 2]),
    };
    let written = base.clone();
    bench.engine(move |tx| tx.set_base(ino, Some(written)));
    bench.reopen();
    assert_eq!(bench.read(|reader| reader.base(ino)), Some(base.clone()));
    bench.engine(move |tx| {
        assert_eq!(tx.base_by_id(&RemoteId("id1".to_owned()))?, Some(ino));
        assert_eq!(tx.base_at(&base.place)?, Some(ino));
        assert_eq!(tx.base_children(Ino::ROOT)?, [ino]);
        tx.set_look_again(ino, Some(Tick(4)))?;
        tx.set_missing(ino, Some(Tick(5)))?;
        assert_eq!((tx.look_again(ino)?, tx.missing(ino)?), (Some(Tick(4)), Some(Tick(5))));
        tx.set_base(ino, None)?;
        assert_eq!((tx.look_again(ino)?, tx.missing(ino)?), (None, None));
        tx.set_look_again(ino, Some(Tick(4)))?;
        assert_eq!(tx.look_again(ino)?, None, "without a base nothing is marked");
        Ok(())
    });
}

#[test]
fn an_outbox_row_reads_as_it_was_written_and_keeps_its_times() {
    let mut bench = Bench::new();
    let ino = bench.create(Ino::ROOT, "a", Kind::File).ino;
    let since = bench.read(|reader| reader.outbox_item(ino)).unwrap().since;
    let sent = |n| Sent { digest: Digest { size: n, hash: [3; 32] }, edition: Edition(n) };
    for expect in
        [Expect::Absent, Expect::Folder, Expect::Any, Expect::Version(Version("v".into()))]
    {
        let row = OutboxRow {
            attempt: Some(Attempt {
                kind: StepKind::Sidestep,
                source: None,
                target: Some(place(Ino(9), "to")),
                expect,
                nonce: u64::MAX,
            }),
            ours: vec![sent(1), sent(u64::MAX)],
            released: true,
            held: true,
        };
        let written = row.clone();
        bench.engine(move |tx| tx.set_outbox(ino, written));
        assert_eq!(bench.read(|reader| reader.outbox(ino)), Some(row.clone()));
        assert_eq!(bench.read(|reader| reader.attempts()), [(ino, row.attempt.unwrap())]);
    }
    bench.reopen();
    assert_eq!(bench.read(|reader| reader.outbox_item(ino)).unwrap().since, since);
    bench.engine(move |tx| tx.set_outbox(ino, OutboxRow::default()));
    assert_eq!(bench.read(|reader| reader.outbox(ino)), Some(OutboxRow::default()));
    assert!(bench.read(|reader| reader.attempts()).is_empty());
    bench.engine(move |tx| tx.drop_outbox(ino));
    assert_eq!(bench.read(|reader| reader.outbox(ino)), None);
}

#[test]
fn every_kind_of_step_can_be_noted() {
    use StepKind::*;
    let bench = Bench::new();
    let ino = bench.create(Ino::ROOT, "a", Kind::File).ino;
    for kind in [
        MakeFolder, Write, Rename, Remove, Sidestep, Settled, Wait, Held, Resolve, Confirm,
        NeedList, Fetch, Inherit, StepAside, Resurrect, Cycle,
    ] {
        let attempt = Attempt { kind, source: None, target: None, expect: Expect::Any, nonce: 1 };
        let row = OutboxRow { attempt: Some(attempt), ..Default::default() };
        let found = bench.engine(move |tx| {
            tx.set_outbox(ino, row)?;
            tx.outbox(ino)
        });
        assert_eq!(found.unwrap().attempt.unwrap().kind, kind);
    }
}

#[test]
fn the_outbox_is_fair() {
    let bench = Bench::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| bench.create(Ino::ROOT, name, Kind::File).ino);
    let due = |now: i64| bench.read(|reader| reader.outbox_due(now, 10));
    let soon = super::super::now() + 1_000_000_000;
    assert_eq!(due(soon), [a, b, c]);
    assert_eq!(bench.engine(move |tx| tx.outbox_failed(a, "no room", "NoSpace", 0)), 1);
    assert_eq!(due(soon), [b, c, a]);
    let later = soon + 1_000_000_000_000;
    assert_eq!(bench.engine(move |tx| tx.outbox_failed(b, "no room", "NoSpace", later)), 1);
    assert_eq!(bench.engine(move |tx| tx.outbox_failed(b, "no room", "NoSpace", later)), 2);
    assert_eq!(due(soon), [c, a]);
    assert_eq!(due(later), [c, a, b]);
    let totals = bench.read(|reader| reader.totals());
    assert_eq!((totals.items, totals.pending, totals.errors), (3, 3, 2));
    // A new name is a new chance.
    bench.kernel(move |tx| tx.set_local(b, Some(place(Ino::ROOT, "b2"))));
    let soon = super::super::now() + 1_000_000_000;
    assert_eq!(due(soon), [c, a, b]);
    assert_eq!(bench.read(|reader| reader.pending(10)).len(), 3);
    assert_eq!(bench.read(|reader| reader.totals()).errors, 1);
    bench.engine(move |tx| [a, b, c].into_iter().try_for_each(|ino| tx.drop_outbox(ino)));
    assert_eq!(bench.read(|reader| reader.next_due_after(i64::MIN)), None);
}

/// A look at a folder of many names ends with one question, whoever is in the way of it.
#[test]
fn regression_what_keeps_a_large_folder_from_being_settled_is_found_in_a_few_statements() {
    let bench = Bench::new();
    let folder = bench.create(Ino::ROOT, "folder", Kind::Folder).ino;
    bench.engine(move |tx| {
        for number in 0..3_000 {
            let made = tx.create(new(folder, &format!("{number}"), Kind::File))?;
            tx.drop_outbox(made.ino)?;
        }
        Ok(())
    });
    let asked = || {
        bench.read(|reader| {
            let before = reader.statements();
            Ok((reader.blocker_in(folder)?, reader.statements() - before))
        })
    };
    let (blocker, statements) = asked();
    assert!(blocker.is_none() && statements <= 4, "{blocker:?} {statements}");
    let last = bench.create(folder, "last", Kind::File).ino;
    let (blocker, statements) = asked();
    assert!(blocker == Some((last, true)) && statements <= 4, "{blocker:?} {statements}");
    let more = bench.create(folder, "one more", Kind::File).ino;
    let (blocker, statements) = asked();
    assert!(
        blocker.is_some_and(|(_, alone)| !alone) && statements <= 4,
        "{blocker:?} {statements}"
    );
    // The folder itself is not in its own way, nor is what is elsewhere.
    bench.engine(move |tx| {
        tx.drop_outbox(more)?;
        tx.drop_outbox(last)
    });
    bench.create(Ino::ROOT, "elsewhere", Kind::File);
    assert_eq!(asked().0, None);
}

#[test]
fn a_mark_comes_back_when_what_caused_it_goes() {
    let bench = Bench::new();
    let folder = bench.appear(Ino::ROOT, "folder", seen(Kind::Folder, 0));
    let cause = bench.create(folder, "stuck", Kind::File).ino;
    let hour = super::super::now() + 3_600_000_000_000;
    let tries = bench.engine(move |tx| {
        let tick = tx.tick()?;
        tx.set_look_again(folder, Some(tick))?;
        tx.look_defer(folder, hour, (0, 0), Some(cause))?;
        tx.look_defer(folder, hour, (0, 0), Some(cause))
    });
    assert_eq!(tries, 2);
    assert!(bench.catalog.folders_to_list(10).unwrap().is_empty());
    assert_eq!(bench.read(|reader| reader.next_look()), Some(hour));
    bench.engine(move |tx| tx.drop_outbox(cause));
    assert_eq!(bench.catalog.folders_to_list(10).unwrap()[0].0, folder);
}

#[test]
fn a_deep_mark_stays_deep_until_it_goes() {
    let bench = Bench::new();
    let folder = bench.appear(Ino::ROOT, "folder", seen(Kind::Folder, 0));
    bench.engine(move |tx| {
        tx.set_look_again(folder, Some(Tick(1)))?;
        assert!(!tx.looks_deep(folder)?);
        let now = tx.tick()?;
        tx.set_look_deep(folder, now)?;
        let tick = tx.tick()?;
        tx.set_look_again(folder, Some(tick))?;
        assert!(tx.looks_deep(folder)?);
        tx.set_look_again(folder, None)?;
        assert!(!tx.looks_deep(folder)?);
        Ok(())
    });
}

#[test]
fn folders_somebody_waits_for_come_first() {
    let bench = Bench::new();
    let [a, b, c] =
        ["a", "b", "c"].map(|text| bench.appear(Ino::ROOT, text, seen(Kind::Folder, 0)));
    let mut changes = bench.catalog.take_changes().unwrap();
    bench.engine(move |tx| {
        for folder in [a, b] {
            let tick = tx.tick()?;
            tx.set_look_again(folder, Some(tick))?;
        }
        Ok(())
    });
    bench.catalog.need_list(c);
    bench.catalog.need_list(Ino(4711));
    let mut told = Vec::new();
    while let Ok(some) = changes.try_recv() {
        told.extend(some);
    }
    assert!(told.contains(&Change::Listing));
    let folders = || -> Vec<Ino> {
        bench.catalog.folders_to_list(2).unwrap().into_iter().map(|one| one.0).collect()
    };
    assert_eq!(folders(), [c, a]);
    assert!(bench.catalog.begin_listing(c) && !bench.catalog.begin_listing(c));
    assert_eq!(folders(), [a, b]);
    assert!(bench.engine(move |tx| Ok(tx.is_listing(c) && !tx.is_needed(c))));
    bench.engine(move |tx| {
        let base = tx.base(c)?.unwrap();
        tx.set_base(c, Some(Base { listed: true, ..base }))
    });
    bench.catalog.end_listing(c);
    assert_eq!(changes.try_recv().unwrap(), [Change::Listed(c)]);
    assert!(bench.read(|reader| reader.is_listed(c)) && bench.inode(c).listed);
    assert!(!bench.inode(a).listed);
    assert_eq!(bench.read(|reader| reader.totals()).unlisted, 3);
    assert_eq!(bench.read(|reader| reader.oldest_looks(10)), [(c, 0)]);
}

#[test]
fn endpoint_and_state_are_kept() {
    let mut bench = Bench::new();
    bench.engine(|tx| {
        tx.set_cursor(Some("c1"))?;
        tx.set_identity(Some("root-id"))?;
        tx.set_state("key", Some(b"value"))
    });
    bench.reopen();
    let known = bench.read(|reader| reader.endpoint());
    let expected = Endpoint { cursor: Some("c1".into()), identity: Some("root-id".into()) };
    assert_eq!(known, expected);
    assert_eq!(bench.read(|reader| reader.state("key")), Some(b"value".to_vec()));
    bench.engine(|tx| tx.set_state("key", None));
    assert_eq!(bench.read(|reader| reader.state("key")), None);
}

/// A clock that was ahead in an earlier life: folders were not looked at until the time that was noted then had come.
#[test]
fn regression_what_was_noted_by_a_clock_ahead_is_of_no_time_to_come() {
    let bench = Bench::new();
    let folder = bench.appear(Ino::ROOT, "folder", seen(Kind::Folder, 0));
    let hour = super::super::now() + 3_600_000_000_000;
    bench.engine(move |tx| {
        let base = tx.base(folder)?.unwrap();
        tx.set_base(folder, Some(Base { listed: true, ..base }))?;
        tx.looked_at(folder, hour)?;
        let tick = tx.tick()?;
        tx.set_look_again(folder, Some(tick))?;
        tx.look_defer(folder, hour, (0, 0), None).map(drop)
    });
    assert!(bench.catalog.folders_to_list(10).unwrap().is_empty());
    assert_eq!(bench.read(|reader| reader.oldest_looks(10)), [(folder, hour)]);
    bench.engine(|tx| tx.outbox_recover());
    assert_eq!(bench.catalog.folders_to_list(10).unwrap()[0].0, folder);
    assert_eq!(bench.read(|reader| reader.oldest_looks(10)), [(folder, 0)]);
    let then = super::super::now() - 3_600_000_000_000;
    bench.engine(move |tx| {
        tx.looked_at(folder, then)?;
        tx.outbox_recover()
    });
    assert_eq!(bench.read(|reader| reader.oldest_looks(10)), [(folder, then)]);
}
