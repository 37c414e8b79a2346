use super::*;

#[test]
fn an_error_rolls_back_just_its_own_change() {
    let bench = Bench::new();
    let (sender, answers) = std::sync::mpsc::channel();
    // Held up, so that the next three share a transaction.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let put = |text: &'static str, outcome: u8| {
        let sender = sender.clone();
        bench.catalog.submit(
            Durability::Soon,
            Origin::Engine,
            move |tx| {
                let ino = tx.create(new(Ino::ROOT, text, Kind::File))?.ino;
                tx.touch_folder(ino)?;
                match outcome {
                    0 => Ok(ino),
                    1 => Err(CatalogError::Closed),
                    _ => panic!("on purpose"),
                }
            },
            move |result: Result<Ino>| sender.send(result).unwrap(),
        );
    };
    bench.catalog.submit(
        Durability::Soon,
        Origin::Engine,
        move |_| {
            held.recv().ok();
            Ok::<_, CatalogError>(())
        },
        drop,
    );
    put("good", 0);
    put("bad", 1);
    put("panics", 2);
    put("good too", 0);
    hold.send(()).unwrap();
    let answers: Vec<_> = answers.iter().take(4).collect();
    assert!(answers[0].is_ok());
    assert!(matches!(answers[1], Err(CatalogError::Closed)));
    assert!(matches!(&answers[2], Err(CatalogError::Panicked(why)) if why == "on purpose"));
    assert!(answers[3].is_ok());
    let names = bench.read(|reader| reader.read_dir(Ino::ROOT, Ino(0), 10));
    let names: Vec<_> = names.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["good", "good too"]);
    assert_eq!(bench.read(|reader| reader.sums()).items, 2);
    // The bad one's number and touch are gone with it: the next one got the number anew.
    let (good, next) = (*answers[0].as_ref().unwrap(), *answers[3].as_ref().unwrap());
    let touched = bench.engine(move |tx| Ok((tx.touched(good), tx.touched(next))));
    assert!(touched.0 > Tick(0) && touched.1 > touched.0);
}

/// The first of a transaction has no savepoint: taken back, it leaves nothing, and those behind it stand.
#[test]
fn the_first_of_many_rolls_back_alone() {
    let bench = Bench::new();
    let (begin, begun) = std::sync::mpsc::channel();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let holding = move |_: &mut Tx| {
        begin.send(()).unwrap();
        held.recv().ok();
        Ok::<_, CatalogError>(())
    };
    bench.catalog.submit(Durability::Soon, Origin::Engine, holding, drop);
    begun.recv().unwrap();
    // From here on they are queued behind it, and go together.
    let (sender, answers) = std::sync::mpsc::channel();
    let before = bench.catalog.epoch();
    for (text, is_good) in [("bad", false), ("good", true), ("bad too", false), ("best", true)] {
        let sender = sender.clone();
        let change = move |tx: &mut Tx| {
            let ino = tx.create(new(Ino::ROOT, text, Kind::File))?.ino;
            if is_good { Ok(ino) } else { Err(CatalogError::Closed) }
        };
        let done = move |outcome: Result<Ino>| sender.send(outcome.is_ok()).unwrap();
        bench.catalog.submit(Durability::Soon, Origin::Engine, change, done);
    }
    hold.send(()).unwrap();
    let answers: Vec<_> = answers.iter().take(4).collect();
    assert_eq!(answers, [false, true, false, true]);
    assert_eq!(bench.catalog.epoch(), before + 2, "the held one's commit and one more");
    let entries = bench.read(|reader| reader.read_dir(Ino::ROOT, Ino(0), 10));
    let names: Vec<_> = entries.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["good", "best"]);
    assert!(entries.iter().all(|entry| entry.inode.pending));
    assert_eq!(bench.read(|reader| reader.sums()).items, 2);
}

/// What nobody waits for goes along with the next change, in one commit; alone it goes by itself.
#[test]
fn what_nobody_waits_for_shares_the_next_commit() {
    let bench = Bench::new();
    let later = || {
        let (told, heard) = std::sync::mpsc::channel();
        let done = move |outcome: Result<()>| told.send(outcome.is_ok()).unwrap();
        let change = |tx: &mut Tx| tx.set_state("later", Some(b"x"));
        bench.catalog.submit(Durability::Later, Origin::Kernel, change, done);
        heard
    };
    // A busy machine may take longer than such a change waits: once in many is enough.
    let shares = (0..100).any(|_| {
        bench.engine(|tx| tx.set_state("before", Some(b"x")));
        let before = bench.catalog.epoch();
        let heard = later();
        bench.engine(|tx| tx.set_state("next", Some(b"x")));
        heard.recv_timeout(std::time::Duration::from_secs(20)).unwrap()
            && bench.catalog.epoch() == before + 1
    });
    assert!(shares, "each had a commit of its own");
    let heard = later();
    assert!(heard.recv_timeout(std::time::Duration::from_secs(20)).unwrap(), "it waits for ever");
}

#[test]
fn a_touch_is_taken_back_with_its_change() {
    let bench = Bench::new();
    bench.engine(|tx| tx.touch_folder(Ino(7)));
    let before = bench.engine(|tx| Ok(tx.touched(Ino(7))));
    let failed: Result<()> = bench.catalog.write_blocking(Durability::Soon, Origin::Engine, |tx| {
        tx.touch_folder(Ino(7))?;
        tx.touch_folder(Ino(8))?;
        assert!(tx.touched(Ino(8)) > Tick(0));
        Err(CatalogError::Closed)
    });
    assert!(failed.is_err());
    let after = bench.engine(|tx| Ok((tx.touched(Ino(7)), tx.touched(Ino(8)))));
    assert_eq!(after, (before, Tick(0)));
}

#[test]
fn changes_are_told_in_order_before_their_answers() {
    let bench = Bench::new();
    let mut changes = bench.catalog.take_changes().unwrap();
    assert!(bench.catalog.take_changes().is_none());
    let ino = bench.create(Ino::ROOT, "a", Kind::File).ino;
    assert_eq!(changes.try_recv().unwrap(), [Change::Sync(ino), Change::Outbox]);
    bench.engine(move |tx| tx.set_local(ino, Some(place(Ino::ROOT, "b"))));
    let told = changes.try_recv().unwrap();
    let gone = Change::Name { parent: Ino::ROOT, name: name("a"), gone: Some(ino) };
    let came = Change::Name { parent: Ino::ROOT, name: name("b"), gone: None };
    assert_eq!(told, [gone.clone(), came]);
    assert!(bench.world.stale.lock().unwrap().contains(&gone));
    bench.engine(|_| Ok(()));
    assert!(changes.try_recv().is_err());
}

#[test]
fn a_full_disk_is_told_to_all_who_took_part_and_passes() {
    let bench = Bench::new();
    bench.world.has_ballast.store(true, Ordering::SeqCst);
    let limit = |pages: i64| {
        bench.engine(move |tx| {
            tx.connection.pragma_update(None, "max_page_count", pages)?;
            Ok(())
        });
    };
    let pages: i64 = bench
        .engine(|tx| Ok(tx.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?));
    limit(pages + 2);
    let fill = |text: &'static str| {
        bench.catalog.write_blocking(Durability::Soon, Origin::Engine, move |tx| {
            let ino = tx.create(new(Ino::ROOT, text, Kind::File))?.ino;
            tx.set_xattr(ino, b"user.big", &[1; 60_000])
        })
    };
    let full: Result<()> = fill("a");
    assert!(matches!(full, Err(CatalogError::DiskFull)), "{full:?}");
    assert_eq!(bench.world.asked_for_room.load(Ordering::SeqCst), 1);
    assert!(bench.read(|reader| reader.lookup(Ino::ROOT, &name("a"))).is_none());
    assert_eq!(bench.read(|reader| reader.sums()), Sums::default());
    limit(1_000_000);
    fill("a").unwrap();
    assert_eq!(bench.read(|reader| reader.sums()).items, 1);
}

#[test]
fn a_barrier_syncs_and_leaves_the_next_commit_quick() {
    let bench = Bench::new();
    let level = |durability| {
        bench.catalog.write_blocking(durability, Origin::Engine, |tx| {
            Ok::<i64, CatalogError>(
                tx.connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?,
            )
        })
    };
    assert_eq!(level(Durability::Soon).unwrap(), 1);
    assert_eq!(level(Durability::Synced).unwrap(), 2);
    assert_eq!(level(Durability::Soon).unwrap(), 1);
    let barriers = bench
        .read(|reader| reader.one("SELECT barriers FROM counter", [], |row| row.get::<_, i64>(0)));
    assert_eq!(barriers, Some(1), "a barrier writes a frame, else its commit syncs nothing");
}

#[tokio::test]
async fn writes_from_many_tasks_all_arrive() {
    let bench = Bench::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..500 {
        let catalog = bench.catalog.clone();
        tasks.spawn(async move {
            let durability = if n % 50 == 0 { Durability::Synced } else { Durability::Soon };
            let change = move |tx: &mut Tx| tx.create(new(Ino::ROOT, &format!("f{n}"), Kind::File));
            catalog.write(durability, Origin::Kernel, change).await.unwrap();
        });
    }
    tasks.join_all().await;
    bench.catalog.barrier().await.unwrap();
    assert_eq!(bench.read(|reader| reader.sums()).items, 500);
    assert_eq!(bench.read(|reader| reader.totals()).pending, 500);
}

/// Only does something as the child of the next test.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(path) = std::env::var("CATALOG_TEST_CHILD") else { return };
    let catalog = Catalog::open(path.as_ref(), Arc::new(World::default())).unwrap();
    for n in 0_u64.. {
        let change = move |tx: &mut Tx| tx.create(new(Ino::ROOT, &format!("f{n}"), Kind::File));
        catalog.write_blocking(Durability::Soon, Origin::Kernel, change).unwrap();
        // The parent counts these: each stands for an answered commit.
        println!("written {n}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_answered() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    for round in 1..=3_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "catalog::tests::writing::child_that_writes_until_it_is_killed",
            ])
            .env("CATALOG_TEST_CHILD", &path)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let mut written =
            lines.map_while(|line| line.ok()).filter(|line| line.contains("written "));
        for _ in 0..200 * round {
            assert!(written.next().is_some(), "the child died too early");
        }
        child.kill().unwrap();
        let answered = 200 * round + written.count() as u64;
        child.wait().unwrap();
        let catalog = Catalog::open(&path, Arc::new(World::default())).unwrap();
        let items = catalog.read(|reader| reader.sums()).unwrap().items;
        let rows = catalog.read(|reader| reader.read_dir(Ino::ROOT, Ino(0), 1_000_000)).unwrap();
        assert!(items >= answered, "{items} of {answered}");
        assert_eq!(rows.len() as u64, items);
        let ok = catalog
            .read(|reader| reader.one("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)));
        assert_eq!(ok.unwrap().as_deref(), Some("ok"));
        catalog.close();
        std::fs::remove_file(&path).unwrap();
    }
}
