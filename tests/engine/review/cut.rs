//! Content that is cut off, and what is recorded of it meanwhile.

use std::collections::HashMap;

use super::*;

/// A world of which a part of one file is here and recorded, and what that file holds.
async fn partly_here() -> (World, Vec<u8>) {
    let world = World::new().await;
    let content = pattern(1 << 20, 1).to_vec();
    world.store.put("f", content.clone()).unwrap();
    let (ino, handle) = world.open("f", READ).await;
    world.engine.read(ino, handle, 0, 100 << 10).wait().await.unwrap();
    world.close(ino, handle).await;
    let catalog = rusqlite::Connection::open(world.engine.state_dir().join("catalog.db")).unwrap();
    let recorded = || -> u32 {
        let sql = "SELECT count(*) FROM presence WHERE ino = ?1";
        catalog.query_row(sql, [i64::try_from(ino.0).unwrap()], |row| row.get(0)).unwrap()
    };
    world.until("it is recorded", async || recorded() == 1).await;
    (world, content)
}

/// What was cut off went before the row forgot it: after a kill zeros, or bytes of two contents, were read for the remote's.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_kill_behind_a_cut_leaves_one_content() {
    for written in [&b""[..], b"ten bytes."] {
        let (world, content) = partly_here().await;
        let ino = world.ino("f").await;
        let opened = world.engine.open(ino, TRUNCATE).wait().await.unwrap();
        if !written.is_empty() {
            world.write_at(ino, opened.handle, 0, written).await;
        }
        let again = killed(&world).await;
        again.in_sync().await;
        // The cut may have been recorded by then: that is the edit that it is.
        let here = again.read("f").await.unwrap();
        assert!(here == content || here == written, "{} bytes of two contents", here.len());
        same(&again.content_there("f").unwrap(), &here);
    }
}

/// The same of a file that was shortened: zeros took the place of what had been here, and were sent.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_kill_behind_a_shortening_sends_no_zeros() {
    let (world, content) = partly_here().await;
    let ino = world.ino("f").await;
    let state = Arc::new(tempfile::tempdir().unwrap());
    let (from, to) = (world.state.path().join("state"), state.path().join("state"));
    let remote = world.remote.clone();
    world.engine.on_crash_point(Arc::new(move |point| {
        if point == "cut: after the bytes" && !to.exists() {
            remote.cut_off();
            copy(&from, &to);
        }
        false
    }));
    let cut = SetAttributes { size: Some(50_000), ..SetAttributes::default() };
    world.engine.set_attributes(ino, None, cut, ME).wait().await.unwrap();
    world.engine.stop().await;
    let again = World::start(world.store.clone(), state, world.settings.clone()).await;
    again.in_sync().await;
    same(&again.read("f").await.unwrap(), &content[..50_000]);
    same(&again.content_there("f").unwrap(), &content[..50_000]);
}

/// The blocks that the recorder had in hand were noted after the row had forgotten them: after a kill zeros were read for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_being_recorded_does_not_undo_a_cut() {
    for was_recorded in [true, false] {
        let (world, content) = partly_here().await;
        let name = if was_recorded { "f" } else { "g" };
        world.store.put("g", content.clone()).unwrap();
        world.until("it is shown", async || world.try_ino(name).await.is_ok()).await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        world.engine.on_crash_point(Arc::new(move |point| {
            if point == "record: before the rows" {
                let _nobody_waits = tell.send(point);
                let _gone = held.lock().unwrap().recv_timeout(PATIENCE);
            } else if point == "record: told" {
                let _nobody_waits = tell.send(point);
            }
            false
        }));
        let (ino, handle) = world.open(name, READ).await;
        world.engine.read(ino, handle, 500_000, 100_000).wait().await.unwrap();
        comes_to(&mut told, "record: before the rows").await;
        world.engine.open(ino, TRUNCATE).wait().await.unwrap();
        go_on.send(()).unwrap();
        comes_to(&mut told, "record: told").await;
        let again = killed(&world).await;
        drop(go_on);
        again.in_sync().await;
        let here = again.read(name).await.unwrap();
        assert!(here == content || here.is_empty(), "{} bytes of two contents", here.len());
        same(&again.content_there(name).unwrap(), &here);
    }
}

type Gates = HashMap<&'static str, std::sync::mpsc::Receiver<()>>;
type Told = tokio::sync::mpsc::UnboundedReceiver<&'static str>;

/// Holds the engine the first time it comes to each of these places, and tells of that and of each record that ended.
fn gated(world: &World, points: [&'static str; 2]) -> ([std::sync::mpsc::Sender<()>; 2], Told) {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let (first, second) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let gates = Gates::from([(points[0], first.1), (points[1], second.1)]);
    let gates = std::sync::Mutex::new(gates);
    world.engine.on_crash_point(Arc::new(move |point| {
        let gate = gates.lock().unwrap().remove(point);
        if let Some(gate) = gate {
            let _nobody_waits = tell.send(point);
            let _gone = gate.recv_timeout(PATIENCE);
        } else if point == "record: told" {
            let _nobody_waits = tell.send(point);
        }
        false
    }));
    ([first.0, second.0], told)
}

/// Waits until the engine comes to a place. Before it does, records that began earlier may end.
async fn comes_to(told: &mut Told, place: &str) {
    loop {
        let came = told.recv().await.unwrap();
        if came == place {
            return;
        }
        assert_eq!(came, "record: told", "before {place}");
    }
}

/// `fsync` answered although blocks that a user had written were left out, because another program was just cutting the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn regression_what_is_synced_while_another_cuts_is_there_after_a_kill() {
    let (world, mut content) = partly_here().await;
    let (ino, handle) = world.open("f", WRITE).await;
    let ([cut, record], mut told) =
        gated(&world, ["cut: after the bytes", "record: before the rows"]);
    let written = pattern(128 << 10, 9);
    world.write_at(ino, handle, 512 << 10, &written).await;
    content[512 << 10..640 << 10].copy_from_slice(&written);
    let engine = world.engine.clone();
    let mut syncing = tokio::spawn(async move { engine.sync_file(ino, handle).wait().await });
    comes_to(&mut told, "record: before the rows").await;
    let engine = world.engine.clone();
    let cutting = tokio::spawn(async move {
        let cut = SetAttributes { size: Some(1_000_000), ..SetAttributes::default() };
        engine.set_attributes(ino, None, cut, ME).wait().await.map(drop)
    });
    comes_to(&mut told, "cut: after the bytes").await;
    record.send(()).unwrap();
    comes_to(&mut told, "record: told").await;
    let early = tokio::time::timeout(Duration::from_millis(300), &mut syncing).await;
    assert!(early.is_err(), "fsync has answered, and what was written was left out");
    cut.send(()).unwrap();
    syncing.await.unwrap().unwrap();
    let again = killed(&world).await;
    cutting.await.unwrap().unwrap();
    again.in_sync().await;
    let here = again.read("f").await.unwrap();
    assert!([1_000_000, 1 << 20].contains(&here.len()), "{}", here.len());
    content.truncate(here.len());
    same(&here, &content);
}

/// What was taken to be recorded while a cut was under way was as old as what was taken before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn regression_what_is_recorded_of_a_file_that_is_being_cut_does_not_undo_it() {
    let (world, content) = partly_here().await;
    let (ino, handle) = world.open("f", READ).await;
    let ([cut, record], mut told) =
        gated(&world, ["cut: before the bytes", "record: before the rows"]);
    let engine = world.engine.clone();
    let cutting = tokio::spawn(async move { engine.open(ino, TRUNCATE).wait().await.map(drop) });
    comes_to(&mut told, "cut: before the bytes").await;
    world.engine.read(ino, handle, 500_000, 100_000).wait().await.unwrap();
    comes_to(&mut told, "record: before the rows").await;
    cut.send(()).unwrap();
    cutting.await.unwrap().unwrap();
    record.send(()).unwrap();
    comes_to(&mut told, "record: told").await;
    let again = killed(&world).await;
    again.in_sync().await;
    let here = again.read("f").await.unwrap();
    assert!(here == content || here.is_empty(), "{} bytes of two contents", here.len());
    same(&again.content_there("f").unwrap(), &here);
}

/// A cut that ended while a record was under way: of its length, and of what was written since, the catalog was never told.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn regression_the_length_of_a_cut_beside_a_record_is_told() {
    for (length, read, cut) in [(1000, 1000, 100), (1 << 20, 100, 512 << 10)] {
        let world = World::new().await;
        let mut content = pattern(length, 1).to_vec();
        world.store.put("f", content.clone()).unwrap();
        let (ino, handle) = world.open("f", WRITE).await;
        let ([record, cutting], mut told) =
            gated(&world, ["record: synced", "cut: after the bytes"]);
        world.engine.read(ino, handle, 0, read).wait().await.unwrap();
        comes_to(&mut told, "record: synced").await;
        let engine = world.engine.clone();
        let ended = tokio::spawn(async move {
            let set = SetAttributes { size: Some(cut), ..SetAttributes::default() };
            engine.set_attributes(ino, None, set, ME).wait().await.map(drop)
        });
        comes_to(&mut told, "cut: after the bytes").await;
        cutting.send(()).unwrap();
        record.send(()).unwrap();
        ended.await.unwrap().unwrap();
        world.close(ino, handle).await;
        content.truncate(usize::try_from(cut).unwrap());
        assert_eq!(world.stat("f").await.size, cut);
        let world = world.restart().await;
        assert_eq!(world.stat("f").await.size, cut);
        world.in_sync().await;
        same(&world.read("f").await.unwrap(), &content);
        same(&world.content_there("f").unwrap(), &content);
    }
}

/// What a record left out because a cut was under way was told by no later one when that cut failed: after a restart the file
/// ended where it had ended before it was written to.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn regression_what_was_left_out_for_a_cut_that_failed_is_told_later() {
    let world = World::new().await;
    let mut content = pattern(1 << 20, 1).to_vec();
    world.store.put("f", content.clone()).unwrap();
    let (ino, handle) = world.open("f", WRITE).await;
    let (gate, held) = Gate::holding(|step: &Step| step.operation == Operation::Read);
    world.store.gate(Some(gate));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (record, goes_on) = std::sync::mpsc::channel::<()>();
    let (cut, fails) = std::sync::mpsc::channel::<()>();
    let gates = std::sync::Mutex::new((Some(goes_on), fails));
    world.engine.on_crash_point(Arc::new(move |point| {
        match point {
            "record: before the rows" => {
                if let Some(goes_on) = gates.lock().unwrap().0.take() {
                    let _nobody_waits = tell.send(point);
                    let _gone = goes_on.recv_timeout(PATIENCE);
                }
            }
            "record: told" => drop(tell.send(point)),
            "cut: before the bytes" => {
                let _nobody_waits = tell.send(point);
                let _gone = gates.lock().unwrap().1.recv_timeout(PATIENCE);
                panic!("the disk fails");
            }
            _ => {}
        }
        false
    }));
    world.write_at(ino, handle, 1 << 20, b"and more").await;
    content.extend_from_slice(b"and more");
    let engine = world.engine.clone();
    let syncing = tokio::spawn(async move { engine.sync_file(ino, handle).wait().await });
    comes_to(&mut told, "record: before the rows").await;
    let engine = world.engine.clone();
    let cutting = tokio::spawn(async move {
        let set = SetAttributes { size: Some(512 << 10), ..SetAttributes::default() };
        engine.set_attributes(ino, None, set, ME).wait().await.map(drop)
    });
    comes_to(&mut told, "cut: before the bytes").await;
    record.send(()).unwrap();
    comes_to(&mut told, "record: told").await;
    cut.send(()).unwrap();
    assert!(!matches!(cutting.await, Ok(Ok(()))), "the cut was to fail");
    syncing.await.unwrap().unwrap();
    let again = killed(&world).await;
    world.store.gate(None);
    drop(held);
    assert_eq!(again.stat("f").await.size, 8 + (1 << 20));
    again.in_sync().await;
    same(&again.read("f").await.unwrap(), &content);
    same(&again.content_there("f").unwrap(), &content);
}

/// A cut that fetched what it touches while other blocks came, which were in the rows and not committed yet, found nothing to tell;
/// then they were: after a kill zeros were read for what had been cut off, and sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn regression_a_cut_beside_rows_that_are_not_committed_is_told() {
    let world = World::new().await;
    let content = pattern(1 << 20, 1).to_vec();
    world.store.put("f", content.clone()).unwrap();
    let (ino, handle) = world.open("f", WRITE).await;
    let ([record, cut], mut told) = gated(&world, ["record: in the rows", "cut: after the bytes"]);
    let (gate, mut held) = Gate::holding(|step: &Step| {
        (step.operation, step.moment) == (Operation::Read, Moment::Arrives)
    });
    world.store.gate(Some(gate));
    let engine = world.engine.clone();
    let cutting = tokio::spawn(async move {
        let set = SetAttributes { size: Some(50_001), ..SetAttributes::default() };
        engine.set_attributes(ino, None, set, ME).wait().await.map(drop)
    });
    let edge = held.recv().await.unwrap();
    world.store.gate(None);
    world.engine.read(ino, handle, 512 << 10, 100 << 10).wait().await.unwrap();
    comes_to(&mut told, "record: in the rows").await;
    edge.pass();
    // Time must pass: it is about what does not happen in it.
    let early = tokio::time::timeout(Duration::from_millis(500), told.recv()).await.is_ok();
    record.send(()).unwrap();
    let mut waits = vec!["record: told"];
    waits.extend((!early).then_some("cut: after the bytes"));
    while !waits.is_empty() {
        let came = told.recv().await.unwrap();
        waits.retain(|place| *place != came);
    }
    let again = killed(&world).await;
    cut.send(()).unwrap();
    cutting.await.unwrap().unwrap();
    again.in_sync().await;
    let here = again.read("f").await.unwrap();
    assert!(here == content || here == content[..50_001], "{} bytes of two contents", here.len());
    same(&again.content_there("f").unwrap(), &here);
    assert!(!early, "the bytes went before the rows knew");
}
