use std::time::Instant;

use rusqlite::StatementStatus;

use super::*;

/// Fills a folder with files that the remote has.
fn fill(bench: &Bench, folders: u64, files: u64) -> Vec<Ino> {
    let mut made = Vec::new();
    for f in 0..folders {
        made.push(bench.engine(move |tx| {
            let folder = appear(tx, place(Ino::ROOT, &format!("d{f}")), &seen(Kind::Folder, 0))?;
            for n in 0..files {
                appear(tx, place(folder, &format!("file-{n:06}.dat")), &seen(Kind::File, n))?;
            }
            Ok(folder)
        }));
    }
    made
}

#[test]
fn a_hundred_thousand_rows_in_reasonable_time() {
    let bench = Bench::new();
    let start = Instant::now();
    let folders = fill(&bench, 100, 1000);
    let rate = |what: &str, count: u64, start: Instant| {
        let took = start.elapsed();
        let each = took.as_secs_f64() * 1e6 / count as f64;
        println!("{what}: {count} in {took:.2?}, {each:.1} µs each");
    };
    rate("rows appear (node, place, base)", 100_000, start);
    let start = Instant::now();
    let read: usize = folders
        .iter()
        .map(|folder| bench.read(|reader| reader.read_dir(*folder, Ino(0), 10_000)).len())
        .sum();
    rate("read_dir entries", 100_000, start);
    assert_eq!(read, 100_000);
    let start = Instant::now();
    for n in 0..100_000_u64 {
        let folder = folders[(n * 7919 % 100) as usize];
        let name = name(&format!("file-{:06}.dat", n * 104_729 % 1000));
        assert!(bench.read(|reader| reader.lookup(folder, &name)).is_some());
    }
    rate("lookups, one transaction each", 100_000, start);
    let start = Instant::now();
    for n in 0..5_000 {
        bench.create(folders[0], &format!("new{n}"), Kind::File);
    }
    rate("creates, one commit each", 5_000, start);
    let start = Instant::now();
    let (sender, answers) = std::sync::mpsc::channel();
    for n in 0..20_000 {
        let (sender, folder) = (sender.clone(), folders[1]);
        bench.catalog.submit(
            Durability::Soon,
            Origin::Kernel,
            move |tx| tx.create(new(folder, &format!("new{n}"), Kind::File)),
            move |made: Result<Inode>| sender.send(made.is_ok()).unwrap(),
        );
    }
    assert!(answers.iter().take(20_000).all(|made| made));
    rate("creates, queued", 20_000, start);
    let start = Instant::now();
    for _ in 0..200 {
        bench
            .catalog
            .write_blocking(Durability::Synced, Origin::Kernel, |tx| tx.touch_times(Ino::ROOT, 5))
            .unwrap();
    }
    rate("synced commits", 200, start);
    bench.kernel({
        let folder = folders[5];
        move |tx| tx.set_pin(folder, Pin::Pinned)
    });
    let start = Instant::now();
    assert_eq!(bench.read(|reader| reader.pinned_not_hydrated(Ino(0), 2000)).len(), 1000);
    rate("pinned files below one folder", 1000, start);
    bench.kernel(|tx| tx.set_pin(Ino::ROOT, Pin::Pinned));
    let start = Instant::now();
    assert_eq!(bench.read(|reader| reader.pinned_not_hydrated(Ino(50_000), 1000)).len(), 1000);
    rate("pinned files of a whole mount, a page", 1000, start);
    let start = Instant::now();
    assert_eq!(bench.read(|reader| reader.totals()).items, 125_100);
    rate("totals", 1, start);
    bench.catalog.close();
    let size = std::fs::metadata(&bench.path).unwrap().len();
    println!("file: {} MiB for 125,100 items, {} B each", size >> 20, size / 125_100);
}

#[test]
fn no_statement_is_compiled_twice() {
    let bench = Bench::new();
    let folder = fill(&bench, 1, 50)[0];
    let prepared = |reader: &Reader, sql: &str| {
        let statement = reader.connection.prepare_cached(sql)?;
        Ok(statement.get_status(StatementStatus::RePrepare))
    };
    for n in 0..50 {
        let name = name(&format!("file-{n:06}.dat"));
        bench.read(|reader| {
            reader.lookup(folder, &name)?;
            reader.read_dir(folder, Ino(0), 10)
        });
        bench.create(folder, &format!("{n}"), Kind::File);
    }
    let count = bench.read(|reader| {
        let lookup = codec::inode_sql!("WHERE i.parent = ?1 AND i.name = ?2");
        let runs = reader.connection.prepare_cached(lookup)?.get_status(StatementStatus::Run);
        assert!(runs >= 50, "the statement asked about must be the one used: {runs}");
        prepared(reader, lookup)
    });
    assert_eq!(count, 0);
    let count = bench.engine(move |tx| {
        let sql = "UPDATE inode SET mtime = ?2, ctime = ?2 WHERE ino = ?1 AND kind = 1";
        let runs = tx.connection.prepare_cached(sql)?.get_status(StatementStatus::Run);
        assert!(runs >= 50, "{runs}");
        prepared(tx, sql)
    });
    assert_eq!(count, 0);
}

#[test]
fn hot_questions_use_an_index_and_never_sort() {
    let bench = Bench::new();
    let plan = |sql: &str| -> String {
        bench.read(|reader| {
            let mut statement = reader.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let nothing = vec![None::<i64>; statement.parameter_count()];
            let lines = statement
                .query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(lines.join("; "))
        })
    };
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sources = one_line(concat!(
        include_str!("../codec.rs"),
        include_str!("../reader_names.rs"),
        include_str!("../reader_sync.rs"),
        include_str!("../pending.rs"),
        include_str!("../reader_files.rs"),
        include_str!("../tx_rows.rs"),
        include_str!("../tx_verbs.rs"),
    ));
    let hot = [
        (codec::inode_sql!("WHERE i.ino = ?1"), "SEARCH i USING INTEGER PRIMARY KEY"),
        (
            codec::inode_sql!("WHERE i.parent = ?1 AND i.name = ?2"),
            "USING INDEX inode_place (parent=? AND name=?)",
        ),
        (
            codec::inode_sql!(
                "INDEXED BY inode_folder WHERE i.parent = ?1 AND i.ino > ?2 ORDER BY i.ino LIMIT ?3"
            ),
            "USING INDEX inode_folder (parent=? AND rowid>?)",
        ),
        (
            concat!(
                codec::inode_sql!(
                    "INDEXED BY inode_use WHERE i.content > 0 AND i.kind = 0 AND i.parent IS NOT NULL
                     AND EXISTS (SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = i.ino)
                     AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino AND "
                ),
                super::super::reader_sync::to_send!(),
                ") ORDER BY i.last_use"
            ),
            "USING INDEX inode_use",
        ),
        (
            "SELECT ino FROM inode INDEXED BY inode_folder WHERE parent = ?1 ORDER BY ino",
            "inode_folder (parent=?)",
        ),
        (
            "SELECT ino FROM inode WHERE parent = ?1 AND name = ?2",
            "USING COVERING INDEX inode_place",
        ),
        ("SELECT 1 FROM inode WHERE parent = ?1 LIMIT 1", "USING COVERING INDEX"),
        (codec::BASE, "SEARCH base USING PRIMARY KEY (endpoint=? AND ino=?)"),
        (
            "SELECT ino FROM base WHERE endpoint = 0 AND parent = ?1 AND name = ?2",
            "base_place (endpoint=? AND parent=? AND name=?)",
        ),
        (
            "SELECT ino FROM base WHERE endpoint = 0 AND parent = ?1",
            "base_place (endpoint=? AND parent=?)",
        ),
        (
            "SELECT ino FROM base WHERE endpoint = 0 AND remote_id = ?1 ORDER BY ino LIMIT 1",
            "base_id (endpoint=? AND remote_id=?)",
        ),
        (
            "SELECT ino FROM outbox WHERE endpoint = 0 AND due <= ?1 ORDER BY due LIMIT ?2",
            "outbox_due (endpoint=? AND due<?)",
        ),
        ("SELECT due FROM outbox WHERE endpoint = 0 AND due > ?1 ORDER BY due LIMIT 1", "outbox_due"),
        (
            codec::attempt_sql!(
                "ino FROM outbox INDEXED BY outbox_attempt WHERE endpoint = 0 AND attempt IS NOT NULL"
            ),
            "outbox_attempt",
        ),
        (
            "SELECT folder, since FROM look_again WHERE endpoint = 0 AND due <= ?1 ORDER BY due, since LIMIT ?2",
            "COVERING INDEX look_again_due",
        ),
        (
            "SELECT ino, looked FROM base WHERE endpoint = 0 AND listed = 1 ORDER BY looked LIMIT ?1",
            "base_looked",
        ),
        ("SELECT COUNT(*) FROM base WHERE endpoint = 0 AND listed = 0", "base_unlisted"),
        (
            "SELECT COUNT(*) FROM outbox INDEXED BY outbox_error WHERE endpoint = 0 AND error IS NOT NULL",
            "outbox_error",
        ),
        ("SELECT COUNT(*) FROM inode WHERE conflict = 1", "inode_conflict"),
        (
            "SELECT ino, parent, kind, pin, content FROM inode INDEXED BY inode_pin WHERE pin IN (?1, ?2) AND pin > 0",
            "inode_pin",
        ),
        (
            "SELECT ino FROM inode i WHERE parent IS NULL AND ino > 2
             AND NOT EXISTS (SELECT 1 FROM base b WHERE b.endpoint = 0 AND b.ino = i.ino)
             AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino)
             ORDER BY ino LIMIT ?1",
            "inode_folder (parent=? AND rowid>?)",
        ),
        ("DELETE FROM history WHERE ino = ?1", "history_ino"),
        (
            super::super::pending::STANDING,
            "SEARCH i USING INTEGER PRIMARY KEY (rowid=?); SCALAR SUBQUERY 2; SEARCH b USING",
        ),
    ];
    for (sql, expected) in hot {
        let own = sql.rsplit("FROM inode i ").next().unwrap_or(sql);
        let own = own.rsplit("pin, content FROM inode ").next().unwrap_or(own);
        let own = own.rsplit("expect_version, nonce, ").next().unwrap_or(own);
        let own = own.split("AND (o.attempt IS NOT NULL OR").next().unwrap_or(own);
        assert!(sources.contains(&one_line(own)), "no longer asked like this: {own}");
        let plan = plan(sql);
        assert!(plan.contains(expected), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN i;"), "{sql}\n{plan}");
    }
}

#[test]
fn connections_are_small_and_do_not_map_the_file() {
    let bench = Bench::new();
    let ask = |pragma: &'static str| {
        let sql = format!("PRAGMA {pragma}");
        let ask = sql.clone();
        let read = bench.read(move |reader| reader.one(&ask, [], |row| row.get::<_, i64>(0)));
        let written = bench.engine(move |tx| tx.one(&sql, [], |row| row.get::<_, i64>(0)));
        (read, written)
    };
    assert_eq!(ask("cache_size"), (Some(-3072), Some(-16384)));
    assert_eq!(ask("mmap_size"), (Some(0), Some(0)));
}
