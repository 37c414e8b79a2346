use super::*;

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn a_new_catalog_has_a_root_with_an_unlisted_base() {
    let bench = Bench::new();
    let root = bench.inode(Ino::ROOT);
    assert_eq!((root.kind, root.listed, root.local), (Kind::Folder, false, None));
    let base = bench.read(|reader| reader.base(Ino::ROOT)).unwrap();
    assert_eq!((base.place.parent, base.listed), (Ino(0), false));
    assert_eq!(bench.create(Ino::ROOT, "first", Kind::File).ino, Ino(3));
}

#[test]
fn numbers_are_never_given_again() {
    let mut bench = Bench::new();
    let first = bench.create(Ino::ROOT, "a", Kind::Fifo).ino;
    bench.kernel(move |tx| {
        tx.set_local(first, None)?;
        tx.forget(first)
    });
    bench.reopen();
    assert!(bench.create(Ino::ROOT, "b", Kind::Fifo).ino > first);
}

#[test]
fn ticks_grow_over_restarts_and_rollbacks() {
    let mut bench = Bench::new();
    let first = bench.engine(|tx| tx.tick());
    let failed: Result<()> = bench.catalog.write_blocking(Durability::Soon, Origin::Engine, |tx| {
        for _ in 0..2_500 {
            tx.tick()?;
        }
        Err(CatalogError::Closed)
    });
    assert!(failed.is_err());
    let second = bench.engine(|tx| tx.tick());
    assert!(second.0 > first.0 + 2_500);
    bench.reopen();
    let third = bench.engine(|tx| tx.tick());
    assert!(third > second, "{third} {second}");
}

#[test]
fn a_newer_format_is_refused_and_untouched() {
    let bench = Bench::new();
    bench.catalog.close();
    let mut bytes = std::fs::read(&bench.path).unwrap();
    assert_eq!(&bytes[68..72], b"\x64\x65\x77\x66");
    let newer = number_at(&bytes, 60) + 5;
    bytes[60..64].copy_from_slice(&newer.to_be_bytes());
    std::fs::write(&bench.path, &bytes).unwrap();
    let refused = Catalog::open(&bench.path, bench.world.clone()).err().unwrap();
    assert!(matches!(refused, CatalogError::Newer { found, .. } if found == newer), "{refused}");
    assert_eq!(std::fs::read(&bench.path).unwrap(), bytes);
    assert!(!bench.path.with_extension("db-wal").exists());
}

#[test]
fn an_older_format_is_copied_before_it_is_migrated() {
    let bench = Bench::new();
    bench.catalog.close();
    let connection = rusqlite::Connection::open(&bench.path).unwrap();
    let copied = schema::copy_aside(&bench.path, &connection, 1);
    copied.unwrap();
    let copy = bench.path.with_extension("db.format-1");
    let copied = rusqlite::Connection::open(copy).unwrap();
    let rows: i64 = copied.query_row("SELECT COUNT(*) FROM inode", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

/// The catalog itself is whole: whoever reads "damaged" sets it aside with everything that was not sent.
#[test]
fn regression_a_copy_that_cannot_be_kept_is_no_damage() {
    let bench = Bench::new();
    let connection = rusqlite::Connection::open(&bench.path).unwrap();
    // The name of the copy is longer than any may be; what it is made as is not.
    let path = bench.path.with_file_name(format!("{}.db", "x".repeat(235)));
    let failed = schema::copy_aside(&path, &connection, 4_294_967_295).unwrap_err();
    assert!(matches!(failed, CatalogError::NoCopy { .. }), "{failed}");
}

#[test]
fn a_damaged_file_is_told_and_can_be_set_aside() {
    let bench = Bench::new();
    bench.create(Ino::ROOT, "a", Kind::File);
    bench.catalog.close();
    let recovered = bench.path.with_file_name("recovered");
    let whole = std::fs::read(&bench.path).unwrap();
    let mut torn = whole.clone();
    torn[100..8192].fill(0x5a);
    for bytes in [b"no database at all".to_vec(), vec![7; 20_000], torn] {
        std::fs::write(&bench.path, &bytes).unwrap();
        let refused = Catalog::open(&bench.path, bench.world.clone()).err().unwrap();
        let told =
            matches!(&refused, CatalogError::Corrupt { path, .. } if path.ends_with("catalog.db"));
        assert!(told, "{refused}");
        let moved = Catalog::set_aside(&bench.path, &recovered).unwrap();
        assert_eq!(std::fs::read(moved).unwrap(), bytes);
    }
    let anew = Catalog::open(&bench.path, bench.world.clone()).unwrap();
    assert_eq!(anew.read(|reader| reader.sums()).unwrap(), Sums::default());
}

#[test]
fn close_empties_the_wal_and_ends_everything() {
    let bench = Bench::new();
    for n in 0..100 {
        bench.create(Ino::ROOT, &format!("f{n}"), Kind::File);
    }
    bench.catalog.close();
    let wal = std::fs::metadata(bench.path.with_file_name("catalog.db-wal"));
    assert!(wal.map_or(0, |wal| wal.len()) == 0);
    let read = bench.catalog.read(|reader| reader.sums());
    assert!(matches!(read, Err(CatalogError::Closed)));
    let written: Result<()> =
        bench.catalog.write_blocking(Durability::Soon, Origin::Engine, |_| Ok(()));
    assert!(matches!(written, Err(CatalogError::Closed)));
}
