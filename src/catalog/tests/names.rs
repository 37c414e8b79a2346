use super::*;
use crate::model::{rename, touch};

#[test]
fn two_inodes_cannot_sit_in_one_place() {
    let bench = Bench::new();
    bench.create(Ino::ROOT, "a", Kind::File);
    let twin: Result<Inode> =
        bench.catalog.write_blocking(Durability::Soon, Origin::Kernel, |tx| {
            tx.create(new(Ino::ROOT, "a", Kind::Folder))
        });
    assert!(matches!(&twin, Err(CatalogError::Taken(what)) if what == "a"), "{twin:?}");
    let other = bench.create(Ino::ROOT, "b", Kind::File).ino;
    let moved: Result<()> =
        bench.catalog.write_blocking(Durability::Soon, Origin::Kernel, move |tx| {
            tx.set_local(other, Some(place(Ino::ROOT, "a")))
        });
    assert!(matches!(moved, Err(CatalogError::Taken(_))));
    let based: Result<()> =
        bench.catalog.write_blocking(Durability::Soon, Origin::Engine, move |tx| {
            let first = tx.resident(&place(Ino::ROOT, "a"))?.unwrap();
            tx.set_base(first, Some(based(place(Ino::ROOT, "x"), Edition(1), 0)))?;
            tx.set_base(other, Some(based(place(Ino::ROOT, "x"), Edition(1), 0)))
        });
    assert!(matches!(based, Err(CatalogError::Taken(_))));
}

#[test]
fn a_folder_is_read_in_pages_by_number() {
    let bench = Bench::new();
    let folder = bench.create(Ino::ROOT, "folder", Kind::Folder).ino;
    let mut made: Vec<Ino> =
        (0..25).map(|n| bench.create(folder, &format!("{}", 99 - n), Kind::File).ino).collect();
    let gone = made.remove(3);
    let mut found = Vec::new();
    let mut after = Ino(0);
    loop {
        let page = bench.read(|reader| reader.read_dir(folder, after, 10));
        let Some(last) = page.last() else { break };
        after = last.inode.ino;
        found.extend(page.iter().map(|entry| entry.inode.ino));
        bench.kernel(move |tx| tx.set_local(gone, None));
    }
    assert_eq!(found.iter().filter(|ino| **ino != gone).copied().collect::<Vec<_>>(), made);
}

#[test]
fn creating_says_who_is_to_be_sent() {
    let bench = Bench::new();
    let folder = bench.create(Ino::ROOT, "kept~", Kind::Folder);
    assert!(!folder.pending);
    assert!(!bench.create(folder.ino, "below", Kind::File).pending);
    assert!(bench.create(Ino::ROOT, "file", Kind::File).pending);
    let link = bench.create(Ino::ROOT, "link", Kind::Symlink);
    assert!(!link.pending);
    assert_eq!(bench.inode(link.ino).target.as_deref(), Some(&b"else/where"[..]));
    assert_eq!(bench.read(|reader| reader.totals()).pending, 1);
    let root = bench.inode(Ino::ROOT).attributes;
    assert_eq!((root.mtime, root.ctime), (1_000, 1_000));
    let orphan: Result<Inode> =
        bench.catalog.write_blocking(Durability::Soon, Origin::Kernel, move |tx| {
            tx.create(new(link.ino, "x", Kind::File))
        });
    assert!(matches!(orphan, Err(CatalogError::NoInode(_))));
}

#[test]
fn what_create_answers_is_what_the_row_says() {
    let bench = Bench::new();
    for kind in [Kind::File, Kind::Folder, Kind::Symlink, Kind::Fifo, Kind::Socket] {
        let told = bench.create(Ino::ROOT, &format!("{kind:?}"), kind);
        assert_eq!(format!("{told:?}"), format!("{:?}", bench.inode(told.ino)));
    }
}

#[test]
fn paths_follow_the_folders_that_were_renamed() {
    let bench = Bench::new();
    let folder = bench.appear(Ino::ROOT, "old", seen(Kind::Folder, 0));
    let file = bench.appear(folder, "file", seen(Kind::File, 5));
    bench.kernel(move |tx| tx.set_local(folder, Some(place(Ino::ROOT, "new"))));
    bench.read(|reader| {
        assert_eq!(reader.local_path(file)?.unwrap(), [name("new"), name("file")]);
        let there = RemotePath(vec![name("old"), name("file")]);
        assert_eq!(reader.base_path(file)?.unwrap(), there);
        assert_eq!(reader.base_path(Ino::ROOT)?, Some(RemotePath::root()));
        assert_eq!(reader.local_path(Ino::ROOT)?, Some(vec![]));
        Ok(())
    });
    bench.kernel(move |tx| tx.set_local(folder, None));
    assert_eq!(bench.read(|reader| reader.local_path(file)), None);
}

#[test]
fn an_open_file_keeps_its_row_until_it_is_forgotten() {
    let bench = Bench::new();
    let mut changes = bench.catalog.take_changes().unwrap();
    let ino = bench.create(Ino::ROOT, "a", Kind::File).ino;
    bench.kernel(move |tx| {
        tx.set_local(ino, None)?;
        tx.drop_outbox(ino)
    });
    assert_eq!(bench.inode(ino).local, None);
    assert_eq!(bench.read(|reader| reader.unnamed(10)), [ino]);
    while changes.try_recv().is_ok() {}
    bench.kernel(move |tx| tx.forget(ino));
    assert!(bench.read(|reader| reader.inode(ino)).is_none());
    let forgotten = Change::Forgotten { ino, generation: Generation(0) };
    assert_eq!(changes.try_recv().unwrap(), [forgotten]);
    assert_eq!(bench.read(|reader| reader.sums()), Sums::default());
}

#[test]
fn conflict_names_are_free_and_counted_until_renamed() {
    let bench = Bench::new();
    let (one, two) = bench.engine(|tx| {
        let mut copy = || -> Result<(Ino, Place)> {
            let ino = tx.create(new(Ino::ROOT, "a.tar.gz", Kind::File))?.ino;
            let to = tx.conflict_name(&place(Ino::ROOT, "a.tar.gz"))?;
            tx.set_local(ino, Some(to.clone()))?;
            Ok((ino, to))
        };
        Ok((copy()?, copy()?))
    });
    let (first, second) = (one.1.name.to_string(), two.1.name.to_string());
    assert!(first.starts_with("a (conflict 20") && first.ends_with(").tar.gz"), "{first}");
    assert_eq!(second, first.replace(").tar.gz", " 2).tar.gz"));
    assert_eq!(bench.read(|reader| reader.conflicts(10)), [one.0, two.0]);
    bench.kernel(move |tx| tx.set_local(one.0, Some(place(Ino::ROOT, "mine.tar.gz"))));
    assert_eq!(bench.read(|reader| reader.totals()).conflicts, 1);
}

#[test]
fn extended_attributes_are_kept() {
    let mut bench = Bench::new();
    let ino = bench.create(Ino::ROOT, "a", Kind::File).ino;
    bench.kernel(move |tx| {
        tx.set_xattr(ino, b"user.one", b"1")?;
        tx.set_xattr(ino, b"user.two", b"2")?;
        tx.set_xattr(ino, b"user.one", b"")?;
        assert!(tx.remove_xattr(ino, b"user.two")?);
        assert!(!tx.remove_xattr(ino, b"user.two")?);
        Ok(())
    });
    bench.reopen();
    assert_eq!(bench.read(|reader| reader.xattr(ino, b"user.one")), Some(vec![]));
    assert_eq!(bench.read(|reader| reader.xattrs(ino)), [b"user.one".to_vec()]);
}

#[test]
fn history_keeps_the_last_fifty() {
    let bench = Bench::new();
    bench.engine(|tx| (0..60).try_for_each(|n| tx.note(Ino(9), &format!("{n}"))));
    let events = bench.read(|reader| reader.history(Ino(9)));
    assert_eq!((events.len(), events[0].what.as_str(), events[49].what.as_str()), (50, "10", "59"));
}

use crate::model::RemotePath;

/// Where a pattern tells paths, a folder that moved was walked with all that is in it, in one transaction.
#[test]
fn regression_a_large_folder_moves_with_few_statements_under_a_pattern_of_paths() {
    let bench = Bench::of(World { exclude: Exclude::new(&["top/a/*"]), ..World::default() });
    let top = bench.appear(Ino::ROOT, "top", seen(Kind::Folder, 0));
    let deep = bench.appear(top, "a", seen(Kind::Folder, 0));
    bench.engine(move |tx| {
        let place = |number: u32| place(deep, &format!("there {number}"));
        (0..6000).try_for_each(|n| appear(tx, place(n), &seen(Kind::File, 3)).map(drop))
    });
    let new = bench.create(deep, "new", Kind::File).ino;
    let folder = bench.create(deep, "folder", Kind::Folder).ino;
    let inside = bench.create(folder, "inside", Kind::File).ino;
    let beside = bench.create(Ino::ROOT, "beside", Kind::File).ino;
    // Kept here only, as nothing of it is to be sent.
    let row = move |tx: &mut Tx, ino| tx.outbox(ino);
    let rows = move |tx: &mut Tx| -> Result<Vec<bool>> {
        [new, folder, inside, beside].into_iter().map(|ino| Ok(row(tx, ino)?.is_some())).collect()
    };
    bench.engine(move |tx| [new, folder, inside].into_iter().try_for_each(|ino| touch(tx, ino)));
    assert_eq!(bench.engine(rows), [false, false, false, true]);
    let took = bench.engine(move |tx| {
        let before = tx.statements();
        assert!(rename(tx, top, place(Ino::ROOT, "moved"))?);
        Ok(tx.statements() - before)
    });
    assert!(took < 100, "{took} statements");
    assert_eq!(bench.engine(rows), [true, true, true, true]);
    // And back: nothing of it is to be sent any more.
    bench.engine(move |tx| rename(tx, top, place(Ino::ROOT, "top")));
    assert_eq!(bench.engine(rows), [false, false, false, true]);
}
