//! Searches below a folder: what is found there and only there.

use super::*;
use crate::model::{BlockSet, Glob};

/// `a/one.txt` (3 bytes), `a/b/two.txt` (30, here), `a/b/three.jpg` (300, a block here), `c/four.txt` (7), `unlisted/`.
fn tree(bench: &Bench) -> HashMap<&'static str, Ino> {
    let mut known = HashMap::from([("", Ino::ROOT)]);
    for (path, size) in [
        ("a", None),
        ("a/b", None),
        ("c", None),
        ("unlisted", None),
        ("a/one.txt", Some(3)),
        ("a/b/two.txt", Some(30)),
        ("a/b/three.jpg", Some(300_000)),
        ("c/four.txt", Some(7)),
    ] {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let kind = if size.is_some() { Kind::File } else { Kind::Folder };
        let mtime = Some(i64::try_from(known.len()).unwrap());
        let seen = Observed { mtime, ..seen(kind, size.unwrap_or(0)) };
        let ino = bench.appear(known[folder], name, seen);
        if kind == Kind::Folder && path != "unlisted" {
            bench.engine(move |tx| {
                let base = tx.base(ino)?.map(|base| Base { listed: true, ..base });
                tx.set_base(ino, base)
            });
        }
        known.insert(path, ino);
    }
    bench.engine(|tx| {
        let base = tx.base(Ino::ROOT)?.map(|base| Base { listed: true, ..base });
        tx.set_base(Ino::ROOT, base)
    });
    known
}

fn names(bench: &Bench, items: &[Ino]) -> Vec<String> {
    let path = |ino: &Ino| {
        let path = bench.read(|rows| rows.found(*ino)).unwrap().path;
        path.iter().map(|name| name.lossy().into_owned()).collect::<Vec<_>>().join("/")
    };
    items.iter().map(path).collect()
}

#[test]
fn what_is_called_so_is_found_below_the_folder_and_nowhere_else() {
    let bench = Bench::new();
    let known = tree(&bench);
    let find = |top: &str, pattern: Option<&str>| {
        let glob = pattern.map(|pattern| Glob::new(pattern.as_bytes()));
        let mut found = names(&bench, &bench.read(|rows| rows.find(known[top], glob.as_ref())));
        found.sort();
        found
    };
    assert_eq!(find("", Some("*.txt")), ["a/b/two.txt", "a/one.txt", "c/four.txt"]);
    assert_eq!(find("a", Some("*.txt")), ["a/b/two.txt", "a/one.txt"]);
    assert_eq!(find("a", Some("b/*")), ["a/b/three.jpg", "a/b/two.txt"]);
    assert_eq!(find("", Some("a/**/*.txt")), ["a/b/two.txt", "a/one.txt"]);
    assert_eq!(find("", Some("b/*")), Vec::<String>::new());
    assert_eq!(find("c", None), ["c/four.txt"]);
    assert_eq!(find("a/b", Some("b")), Vec::<String>::new(), "not the folder itself");
}

#[test]
fn a_removed_folder_hides_what_was_in_it() {
    let bench = Bench::new();
    let known = tree(&bench);
    let gone = known["a"];
    bench.engine(move |tx| tx.set_local(gone, None));
    let glob = Glob::new(b"*.txt");
    let found = bench.read(|rows| rows.find(Ino::ROOT, Some(&glob)));
    assert_eq!(names(&bench, &found), ["c/four.txt"]);
    let largest = bench.read(|rows| rows.first_files(Ino::ROOT, Rank::Largest, 9));
    assert_eq!(names(&bench, &largest), ["c/four.txt"]);
    assert_eq!(bench.read(|rows| rows.usage(Ino::ROOT))[0].files, 1);
}

#[test]
fn the_first_files_come_in_order_and_only_so_many() {
    let bench = Bench::new();
    let known = tree(&bench);
    let first = |top: &str, rank, count| {
        names(&bench, &bench.read(|rows| rows.first_files(known[top], rank, count)))
    };
    assert_eq!(first("", Rank::Largest, 2), ["a/b/three.jpg", "a/b/two.txt"]);
    assert_eq!(first("", Rank::Recent, 2), ["c/four.txt", "a/b/three.jpg"]);
    assert_eq!(first("a", Rank::Recent, 9), ["a/b/three.jpg", "a/b/two.txt", "a/one.txt"]);
    assert_eq!(first("c", Rank::Largest, 0), Vec::<String>::new());
}

#[test]
fn folders_hold_what_is_below_them() {
    let bench = Bench::new();
    let known = tree(&bench);
    let (two, three) = (known["a/b/two.txt"], known["a/b/three.jpg"]);
    bench.engine(move |tx| {
        tx.set_content(two, Generation(0), Content::Hydrated, None)?;
        let mut blocks = BlockSet::default();
        blocks.insert(0..1);
        tx.set_presence(three, Generation(0), &blocks)
    });
    let sums = |top: &str| {
        let usage = bench.read(|rows| rows.usage(known[top]));
        let show = |one: &Usage| (one.folder, one.files, one.folders, one.size, one.present);
        usage.iter().map(show).collect::<Vec<_>>()
    };
    let here = 30 + 16_384;
    assert_eq!(sums("")[0], (Ino::ROOT, 4, 4, 300_040, here));
    assert_eq!(sums("a")[0], (known["a"], 3, 1, 300_033, here));
    assert_eq!(sums("a")[1..], [(known["a/b"], 2, 0, 300_030, here)]);
    assert_eq!(bench.read(|rows| rows.unlisted_below(Ino::ROOT)), 1);
    assert_eq!(bench.read(|rows| rows.unlisted_below(known["a"])), 0);
}

/// Over a million entries what is found takes no longer than the table is read once: the statements are as many as the folders,
/// however many files they hold.
#[test]
fn the_statements_of_a_search_are_not_as_many_as_the_entries() {
    const FOLDERS: u64 = 5;
    let bench = Bench::new();
    let folders: Vec<Ino> = (0..FOLDERS)
        .map(|n| bench.appear(Ino::ROOT, &format!("d{n}"), seen(Kind::Folder, 0)))
        .collect();
    let cost = |bench: &Bench| {
        bench.read(|rows| {
            let mut before = rows.statements();
            let mut spent = || {
                let now = rows.statements();
                now - std::mem::replace(&mut before, now)
            };
            let by_name = Glob::new(b"f1*");
            let by_path = Glob::new(b"d1/*");
            let _found = rows.find(Ino::ROOT, Some(&by_name))?;
            let name = spent();
            let _found = rows.find(Ino::ROOT, Some(&by_path))?;
            let path = spent();
            let _found = rows.first_files(Ino::ROOT, Rank::Largest, 10)?;
            let largest = spent();
            let _found = rows.usage(Ino::ROOT)?;
            Ok([name, path, largest, spent()])
        })
    };
    let fill = |from: u64, to: u64| {
        for folder in folders.clone() {
            bench.engine(move |tx| {
                for n in from..to {
                    appear(tx, place(folder, &format!("f{n}")), &seen(Kind::File, n))?;
                }
                Ok(())
            });
        }
    };
    fill(0, 20);
    let few = cost(&bench);
    fill(20, 200);
    let many = cost(&bench);
    assert_eq!(few, many, "ten times as many files");
    assert!(many.iter().all(|one| (1..=4 * FOLDERS + 4).contains(one)), "{many:?}");
}
