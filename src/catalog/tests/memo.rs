//! Rows that the writer remembers: what they spare, and that they are never others than those that are there.

use super::*;
use crate::model::{
    Busy, Expect, Sent, Shown, StepKind, Touched, begin_write, confirmed, handled, look,
    metadata_sent, plan, written,
};

const FILES: usize = 20;

/// A folder, two levels down, with new files in it.
fn new_files(bench: &Bench) -> Vec<Ino> {
    let top = bench.appear(Ino::ROOT, "top", seen(Kind::Folder, 0));
    let folder = bench.appear(top, "folder", seen(Kind::Folder, 0));
    (0..FILES).map(|n| bench.create(folder, &format!("new {n}"), Kind::File).ino).collect()
}

/// Plans what is to be done for an inode; answers how many statements that took.
fn planned(tx: &Tx, ino: Ino, kind: StepKind) -> Result<u64> {
    let before = tx.statements();
    let step = plan(tx, ino, &Busy::default())?;
    assert_eq!((step.kind, step.ino), (kind, ino));
    Ok(tx.statements() - before)
}

/// Notes that a file is being sent, then that it was; answers how many statements each took.
fn send(bench: &Bench, ino: Ino) -> (u64, u64) {
    let digest = Digest { size: 3, hash: [7; 32] };
    let (begun, sent, noting) = bench.engine(move |tx| {
        let before = tx.statements();
        planned(tx, ino, StepKind::Write)?;
        let node = tx.node(ino)?.unwrap();
        let sent = Sent { digest, edition: node.edition };
        let begun = begin_write(tx, ino, node.local.unwrap(), Expect::Absent, sent)?;
        Ok((begun, sent, tx.statements() - before))
    });
    let recording = bench.engine(move |tx| {
        let before = tx.statements();
        let there = Observed { settled: false, ..seen(Kind::File, 3) };
        written(tx, ino, &begun, &there, sent)?;
        metadata_sent(tx, ino, &Shown { sent: Touched::MTIME, ..Shown::default() })?;
        tx.outbox_rest(ino, i64::MAX)?;
        Ok(tx.statements() - before)
    });
    (noting, recording)
}

#[test]
fn the_folders_of_many_files_are_read_once() {
    let bench = Bench::new();
    let files = new_files(&bench);
    let (first, rest) = (files[0], files[1..].to_vec());
    bench.engine(move |tx| {
        let alone = planned(tx, first, StepKind::Write)?;
        let after: u64 = rest.iter().map(|ino| planned(tx, *ino, StepKind::Write).unwrap()).sum();
        let each = after as f64 / rest.len() as f64;
        assert!(alone <= 12, "{alone} statements to plan the first");
        assert!(each <= 4.0, "{each} statements to plan each of the others");
        let again = planned(tx, first, StepKind::Write)?;
        assert!(again <= 1, "{again} statements to plan the same once more");
        Ok(())
    });
}

/// What programs wait for when they make small files, beside the looks at name and folder.
#[test]
fn making_and_closing_one_of_many_files_takes_few_statements() {
    let bench = Bench::new();
    let files = new_files(&bench);
    let folder = bench.inode(files[0]).local.unwrap().parent;
    for n in 0..FILES {
        let made = NewInode { rests: Some(7), ..new(folder, &format!("next {n}"), Kind::File) };
        let (ino, making) = bench.engine(move |tx| {
            let before = tx.statements();
            let ino = tx.create(made)?.ino;
            Ok((ino, tx.statements() - before))
        });
        let closing = bench.engine(move |tx| {
            let before = tx.statements();
            let stamp = Stamp { size: 3, ctime: 2_000 };
            assert!(tx.observe(ino, Generation(0), stamp, 2_000)?);
            handled(tx, ino)?;
            tx.outbox_item(ino)?;
            tx.outbox_defer(ino, 7)?;
            Ok(tx.statements() - before)
        });
        let due = bench.read(|rows| rows.outbox_item(ino)).unwrap().not_before;
        assert_eq!(due, Some(7));
        if n > 0 {
            assert!(making <= 3, "{making} statements to make a file");
            assert!(closing <= 7, "{closing} statements to tell of a close");
        }
    }
}

#[test]
fn sending_one_of_many_files_takes_few_statements() {
    let bench = Bench::new();
    let files = new_files(&bench);
    send(&bench, files[0]);
    for ino in &files[1..] {
        let (noting, recording) = send(&bench, *ino);
        assert!(noting <= 6, "{noting} statements to note that it is sent");
        assert!(recording <= 16, "{recording} statements to record that it was");
    }
    let ino = files[1];
    let confirming = bench.engine(move |tx| {
        let before = tx.statements();
        planned(tx, ino, StepKind::Confirm)?;
        let looked = look(tx, ino)?.unwrap();
        let digest = Some(Digest { size: 3, hash: [7; 32] });
        let there = Observed { digest, ..seen(Kind::File, 3) };
        confirmed(tx, ino, &looked, Some(&there))?;
        assert!(tx.outbox(ino)?.is_none(), "it is in sync now");
        Ok(tx.statements() - before)
    });
    assert!(confirming <= 12, "{confirming} statements to confirm it");
}

#[test]
fn what_is_taken_back_is_not_remembered() {
    let bench = Bench::new();
    let ino = new_files(&bench)[0];
    let failed: Result<()> =
        bench.catalog.write_blocking(Durability::Soon, Origin::Engine, move |tx| {
            let node = tx.node(ino)?.unwrap();
            tx.mark_edited(ino)?;
            tx.set_base(ino, Some(based(node.local.unwrap(), node.edition, 3)))?;
            tx.set_outbox(ino, OutboxRow { held: true, ..OutboxRow::default() })?;
            assert!(tx.base(ino)?.is_some() && tx.outbox(ino)?.unwrap().held);
            assert!(tx.node(ino)?.unwrap().edition > node.edition);
            Err(CatalogError::Closed)
        });
    assert!(failed.is_err());
    bench.engine(move |tx| {
        assert!(tx.base(ino)?.is_none() && !tx.outbox(ino)?.unwrap().held);
        assert_eq!(Some(tx.node(ino)?.unwrap().edition), tx.inode(ino)?.map(|row| row.edition));
        Ok(())
    });
}

/// Nobody else writes; if somebody did all the same, what is decided afterwards is decided on the rows that are there.
#[test]
fn what_another_connection_wrote_is_read() {
    let bench = Bench::new();
    let ino = new_files(&bench)[0];
    let before = bench.engine(move |tx| Ok(tx.node(ino)?.unwrap().edition));
    let other = rusqlite::Connection::open(&bench.path).unwrap();
    other
        .execute("UPDATE inode SET edition = edition + 1000 WHERE ino = ?1", [ino.0.cast_signed()])
        .unwrap();
    let after = bench.engine(move |tx| Ok(tx.node(ino)?.unwrap().edition));
    assert_eq!(after.0, before.0 + 1000);
}

/// What the remembered rows are compared with, in builds for tests, are those that are there.
#[test]
#[cfg(debug_assertions)]
fn a_row_that_is_not_as_remembered_is_found() {
    let bench = Bench::new();
    let ino = new_files(&bench)[0];
    let found: Result<()> =
        bench.catalog.write_blocking(Durability::Soon, Origin::Engine, move |tx| {
            tx.node(ino)?;
            let sql = "UPDATE inode SET edition = edition + 1 WHERE ino = ?1";
            tx.run_beside(sql, [ino.0.cast_signed()])?;
            tx.node(ino).map(drop)
        });
    assert!(matches!(found, Err(CatalogError::Panicked(why)) if why.contains("remembered")));
}
