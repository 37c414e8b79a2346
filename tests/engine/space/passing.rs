//! Content that passes through because the cache is full of what must stay.

use super::*;

/// What cannot be kept is fetched in large parts for a reader in order, and in small ones for others.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_in_order_makes_few_requests() {
    let (world, sampler) = world(limited(4 * MIB)).await;
    let far = pattern(8 * MIB, 1);
    // Nothing of what is not confirmed is given back while it is open.
    world.store.configure(|options| options.versions = VersionKind::Tick);
    world.store.put("far", far.clone()).unwrap();
    let reads = || world.remote.counts().get(&Operation::Read).copied().unwrap_or(0);
    let (ino, handle) = world.open("far", READ).await;
    read_through(&world, ino, handle, 0, &far[..4 * MIB + MIB / 2]).await;
    let before = reads();
    read_through(&world, ino, handle, 4 * MIB + MIB / 2, &far[4 * MIB + MIB / 2..]).await;
    let in_order = reads() - before;
    assert!(in_order <= 3, "28 reads made {in_order} requests");
    read_through(&world, ino, handle, 0, &far).await;
    // Here and there: what was asked for, and no more.
    let (_, second) = world.open("far", READ).await;
    let counted = world.engine.mount_status().await.unwrap().bytes_down;
    for number in [5, 7, 6] {
        let at = number * MIB;
        same(&read_at(&world, ino, second, at, 16 << 10).await, &far[at..at + (16 << 10)]);
    }
    let fetched = world.engine.mount_status().await.unwrap().bytes_down - counted;
    assert_eq!(fetched, 3 * (16 << 10));
    world.close(ino, second).await;
    world.close(ino, handle).await;
    sampler.end(0);
}

/// What was found to be here was given back before it was read, and zeros went over the right bytes that had come.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_what_is_found_here_while_bytes_pass_through_is_read() {
    // Of what is read from there on some is here and some is not.
    let half = 3 * MIB;
    let (world, sampler) = world(limited(4 * MIB)).await;
    let world = Arc::new(world);
    let (far, other) = (pattern(8 * MIB, 1), pattern(4 * MIB, 2));
    world.store.put("far", far.clone()).unwrap();
    world.store.put("other", other.clone()).unwrap();
    let (ino, handle) = world.open("far", READ).await;
    read_through(&world, ino, handle, 0, &far[..7 * MIB / 2]).await;
    world.in_sync().await;
    // Nothing of it may go: for a moment from now on what is read of the rest passes through without a look for room.
    world.engine.set_pin(ino, Pin::Pinned).await.unwrap();
    same(&read_at(&world, ino, handle, 5 * MIB, 2 * MIB).await, &far[5 * MIB..7 * MIB]);
    let (reached, is_reached) = std::sync::mpsc::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some((reached, goes_on)));
    world.engine.on_crash_point(Arc::new(move |point| {
        let hit = gate.lock().unwrap().take_if(|_| point == "passing: parts are known");
        if let Some((reached, goes_on)) = hit {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| goes_on.recv().unwrap_or_default());
        }
        false
    }));
    let reader = world.clone();
    let reading = tokio::spawn(async move { read_at(&reader, ino, handle, half, MIB).await });
    world.until("parts are known", async || is_reached.try_recv().is_ok()).await;
    world.engine.set_pin(ino, Pin::Unspecified).await.unwrap();
    let (second, others) = world.open("other", READ).await;
    world
        .until("others take its room", async || {
            read_through(&world, second, others, 0, &other).await;
            here(&world, "far").await <= MIB as u64
        })
        .await;
    go_on.send(()).unwrap();
    same(&reading.await.unwrap(), &far[half..half + MIB]);
    world.close(second, others).await;
    world.close(ino, handle).await;
    sampler.end(0);
}

/// What had been fetched for a reader of one version was given to him when the file had become another one.
#[tokio::test(flavor = "multi_thread")]
async fn regression_bytes_that_passed_through_are_those_of_the_version() {
    let (world, sampler) = world(limited(4 * MIB)).await;
    let mut far = pattern(3 * MIB, 1);
    world.store.put("far", far.clone()).unwrap();
    world.store.put("stays", pattern(3 * MIB, 2)).unwrap();
    world.store.put("other", pattern(4 * MIB, 3)).unwrap();
    let stays = world.ino("stays").await;
    world.engine.set_pin(stays, Pin::Pinned).await.unwrap();
    same(&world.read("stays").await.unwrap(), &pattern(3 * MIB, 2));
    world.in_sync().await;
    let (ino, handle) = world.open("far", READ).await;
    let next = 5 * MIB / 2..5 * MIB / 2 + (128 << 10);
    read_through(&world, ino, handle, 0, &far[..MIB / 2]).await;
    world.in_sync().await;
    world.engine.set_pin(ino, Pin::Pinned).await.unwrap();
    read_through(&world, ino, handle, MIB / 2, &far[MIB / 2..next.start]).await;
    // He has what comes next in memory; it is written anew, sent, and given back.
    let reads = || world.remote.counts().get(&Operation::Read).copied().unwrap_or(0);
    let before = reads();
    read_through(&world, ino, handle, next.start, &far[next.clone()]).await;
    assert_eq!(reads(), before, "it is not in memory");
    world.engine.free(stays, false).await.unwrap();
    world.engine.set_pin(ino, Pin::Unspecified).await.unwrap();
    far[next.clone()].copy_from_slice(&pattern(next.len(), 9));
    let (_, writer) = world.open("far", WRITE).await;
    world.write_at(ino, writer, next.start as u64, &far[next.clone()]).await;
    world.close(ino, writer).await;
    world.until("it is sent", async || world.content_there("far").unwrap() == far).await;
    world.in_sync().await;
    let (other, second) = world.open("other", READ).await;
    world
        .until("its room is taken", async || {
            read_through(&world, other, second, 0, &pattern(4 * MIB, 3)).await;
            here(&world, "far").await <= 16 << 10
        })
        .await;
    same(&read_at(&world, ino, handle, next.start, next.len()).await, &far[next]);
    world.close(other, second).await;
    world.close(ino, handle).await;
    sampler.end(0);
}
