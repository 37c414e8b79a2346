//! Listings: few statements, and the same rows as one observation after the other.

use super::*;
use crate::model::{RemotePath, Trust, begin_listing, end_listing, list_page, reconcile};

fn entry(number: u32, id: bool) -> (Name, Observed) {
    let kind = if number.is_multiple_of(10) { Kind::Folder } else { Kind::File };
    let id = id.then(|| RemoteId(format!("id {number}")));
    (name(&format!("name {number}")), Observed { id, ..seen(kind, u64::from(number)) })
}

/// Lists the folder with these entries; answers how many statements that took.
fn list(bench: &Bench, folder: Ino, entries: Vec<(Name, Observed)>) -> u64 {
    bench.engine(move |tx| {
        let before = tx.statements();
        let mut listing = begin_listing(tx, folder)?.unwrap();
        assert!(list_page(tx, &mut listing, entries)?);
        end_listing(tx, listing)?;
        Ok(tx.statements() - before)
    })
}

#[test]
fn a_listing_takes_few_statements_an_entry() {
    for id in [false, true] {
        let bench = Bench::new();
        let top = bench.appear(Ino::ROOT, "top", seen(Kind::Folder, 0));
        let folder = bench.appear(top, "folder", seen(Kind::Folder, 0));
        let entries = || (0..2000).map(|number| entry(number, id)).collect();
        let first = list(&bench, folder, entries());
        assert!(first <= 3 * 2000, "{first} statements for 2,000 new names");
        let again = list(&bench, folder, entries());
        assert!(again <= 2000 / 2, "{again} statements for 2,000 names that are known");
        assert!(bench.read(|rows| rows.is_listed(folder)));
        assert_eq!(bench.read(|rows| rows.read_dir(folder, Ino(0), 3000)).len(), 2000);
        assert_eq!(bench.read(|rows| rows.totals()).pending, 0);
    }
}

/// S151 "What others add, move or remove in a folder that was listed before moves its times, as on a disk." Who keeps what a folder
/// holds by its time (updatedb, git, Python) never saw it.
#[test]
fn regression_what_others_do_in_a_folder_moves_its_time() {
    let bench = Bench::new();
    let folder = bench.appear(Ino::ROOT, "folder", seen(Kind::Folder, 0));
    let time = || bench.inode(folder).attributes.mtime;
    let before = time();
    list(&bench, folder, vec![entry(1, true), entry(2, true)]);
    assert_eq!(time(), before, "what the first listing brings was there before");
    list(&bench, folder, vec![entry(1, true), entry(2, true)]);
    assert_eq!(time(), before, "nothing came");
    list(&bench, folder, vec![entry(1, true), entry(2, true), entry(3, true)]);
    let added = time();
    assert_ne!(added, before);
    let gone = bench.read(|rows| rows.lookup(folder, &name("name 3"))).unwrap().ino;
    let other = bench.create(Ino::ROOT, "other", Kind::Folder).ino;
    bench.engine(move |tx| tx.set_local(gone, Some(place(other, "moved"))));
    let moved = time();
    assert_ne!(moved, added);
    assert_eq!(bench.inode(other).attributes.mtime, moved);
    bench.engine(move |tx| tx.forget(gone));
    assert_ne!(bench.inode(other).attributes.mtime, moved);
}

/// Everything that a listing may meet in a folder.
fn crowd(bench: &Bench) -> Ino {
    let folder = bench.appear(Ino::ROOT, "folder", seen(Kind::Folder, 0));
    bench.create(folder, "name 1", Kind::File);
    bench.create(folder, "name 10", Kind::Folder);
    bench.create(folder, "name 3", Kind::Symlink);
    let renamed = bench.appear(folder, "name 4", entry(4, true).1);
    let gone = bench.appear(folder, "name 5", entry(5, true).1);
    bench.appear(folder, "name 6", seen(Kind::File, 1));
    bench.appear(folder, "name 20", seen(Kind::File, 1));
    bench.appear(folder, "elsewhere", entry(7, true).1);
    let same = bench.appear(folder, "name 8", entry(8, true).1);
    let to = place(folder, "renamed");
    bench.kernel(move |tx| {
        let base = tx.base(same)?.map(|base| Base { id: Some(RemoteId("id 8".into())), ..base });
        tx.set_base(same, base)?;
        crate::model::rename(tx, renamed, to)?;
        crate::model::unlink(tx, gone)
    });
    folder
}

fn shown() -> Vec<(Name, Observed)> {
    let mut all: Vec<_> = (0..100).map(|number| entry(number, true)).collect();
    all.push(entry(30, true));
    all.push((name("twin"), entry(31, true).1));
    all.push((name("kept~"), entry(200, true).1));
    all.push((name(".dewfs-own"), entry(201, true).1));
    all.push((name("young"), Observed { settled: false, ..entry(202, true).1 }));
    all.push((name("renamed"), entry(203, true).1));
    let digest = Some(Digest { size: 7, hash: [9; 32] });
    all.push((name("told"), Observed { digest, mode: Some(0o600), ..entry(204, true).1 }));
    all
}

/// Every row that is not about time.
fn dump(bench: &Bench) -> Vec<String> {
    bench.read(|rows| {
        let mut lines = Vec::new();
        for sql in [
            "SELECT printf('i %d %d %s %d %d %d %d', ino, ifnull(parent, 0), ifnull(name, ''), kind, content, size, conflict) FROM inode ORDER BY ino",
            "SELECT printf('b %d %d %s %s %s %d %d %d', ino, parent, name, version, remote_id, young, listed, size) FROM base ORDER BY ino",
            "SELECT printf('k %d %d %s %s', ino, known_size, hex(known_hash), hex(extra)) FROM base ORDER BY ino",
            "SELECT printf('a %d %d %d', ino, mode, retouched) FROM inode ORDER BY ino",
            "SELECT printf('o %d', ino) FROM outbox ORDER BY ino",
            "SELECT printf('l %d %d', folder, deep) FROM look_again ORDER BY folder",
            "SELECT printf('m %d', ino) FROM missing ORDER BY ino",
            "SELECT printf('c %d %d', items, bytes) FROM counter",
        ] {
            lines.extend(rows.all(sql, [], |row| row.get::<_, String>(0))?);
        }
        let without_time = |line: String| match line.split_once(" (conflict") {
            Some((before, _)) => before.to_owned(),
            None => line,
        };
        Ok(lines.into_iter().map(without_time).collect())
    })
}

#[test]
fn many_at_a_time_leave_the_rows_that_one_by_one_leave() {
    let (together, single) = (Bench::new(), Bench::new());
    let (folder, other) = (crowd(&together), crowd(&single));
    assert_eq!((folder, dump(&together)), (other, dump(&single)));
    together.engine(move |tx| {
        let mut listing = begin_listing(tx, folder)?.unwrap();
        assert!(list_page(tx, &mut listing, shown())?);
        Ok(())
    });
    single.engine(move |tx| {
        begin_listing(tx, folder)?.unwrap();
        let at = RemotePath(vec![name("folder")]);
        for (name, seen) in shown() {
            let trust = Trust { fresh: true, forced: true };
            reconcile(tx, &at.child(name), Some(&seen), trust)?;
        }
        Ok(())
    });
    let (together, single) = (dump(&together), dump(&single));
    assert!(together.iter().any(|line| line.starts_with("l ")), "{together:?}");
    assert_eq!(together, single);
}
