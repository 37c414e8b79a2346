//! Telling how things are holds up nobody.

use futures_util::FutureExt as _;

use super::*;

/// The threads that answer the kernel, and the two that run everything else, walk no rows: with every thread that may wait
/// taken, the answers are still out.
#[test]
fn regression_what_walks_many_rows_is_not_told_where_it_is_asked() {
    let one_may_wait = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    one_may_wait.block_on(many_rows_are_walked_elsewhere());
}

async fn many_rows_are_walked_elsewhere() {
    let world = World::new().await;
    world.mkdir("folder").await;
    world.store.set_online(false);
    for number in 0..10 {
        world.write(&format!("folder/{number}"), b"not sent").await;
    }
    let (folder, file) = (world.ino("folder").await, world.ino("folder/3").await);
    let engine = &world.engine;
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let taken = tokio::task::spawn_blocking(move || {
        begin.send(()).unwrap();
        ended.recv().unwrap();
    });
    begun.await.unwrap();
    assert!(engine.mount_status().now_or_never().is_none());
    assert!(engine.item_status(folder).now_or_never().is_none());
    assert!(engine.folder_status(folder, false).now_or_never().is_none());
    assert!(engine.pending(Ino::ROOT, 100).now_or_never().is_none());
    end.send(()).unwrap();
    taken.await.unwrap();
    assert_eq!(engine.folder_status(folder, false).await.unwrap().len(), 10);
    assert_eq!(engine.pending(folder, 100).await.unwrap().len(), 11);
    for word in ["state", "pending_below"] {
        let answer = engine.get_xattr(folder, format!("user.dewfs.{word}").as_bytes());
        assert!(matches!(answer, Answer::Pending(_)), "{word}");
        let told = String::from_utf8(answer.wait().await.unwrap()).unwrap();
        assert!(["pending", "uploading", "10"].contains(&told.as_str()), "{word}: {told}");
    }
    // What is known at once is told at once: a file manager asks for each file that it shows.
    for (ino, word, expected) in
        [(folder, "pin", "unspecified"), (file, "pin", "unspecified"), (file, "pending", "8")]
    {
        let answer = engine.get_xattr(ino, format!("user.dewfs.{word}").as_bytes());
        let Answer::Ready(told) = answer else { panic!("{word} is waited for") };
        assert_eq!(told.unwrap(), expected.as_bytes(), "{word}");
    }
    // The kernel tells of a close after close() has returned, and the size is recorded after that.
    world
        .until("all ten sizes are recorded", async || {
            engine.mount_status().await.unwrap().cache_pending == 80
        })
        .await;
}

/// Only the first ones were added up.
#[tokio::test(flavor = "multi_thread")]
async fn regression_all_pinned_bytes_are_told_however_many_files_are_pinned() {
    let world = World::new().await;
    for number in 0..1001 {
        world.store.put(&format!("f{number}"), b"12".to_vec()).unwrap();
    }
    world.engine.hydrate(Ino::ROOT).await.unwrap();
    world.engine.set_pin(Ino::ROOT, Pin::Pinned).await.unwrap();
    world
        .until("all pinned bytes are told", async || {
            world.engine.mount_status().await.unwrap().cache_pinned == 2002
        })
        .await;
}

/// A lock file or an index that is replaced all the time was in no page: it was always beyond what the reader was still given.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_name_that_is_replaced_before_each_page_is_in_one() {
    const MOST: usize = 8;
    // Of what is asked for a kernel's buffer takes the first few.
    for fitting in 1..=MOST {
        let world = World::new().await;
        world.mkdir("d").await;
        for number in 0..40 {
            world.write(&format!("d/f{number:02}"), b"x").await;
        }
        let folder = world.ino("d").await;
        let (mut cookie, mut reach, mut names) = (0, None, Vec::new());
        loop {
            world.write("new", b"x").await;
            world.rename("new", "d/f39").await.unwrap();
            let page = world.engine.read_page(folder, cookie, reach, MOST).wait().await.unwrap();
            reach = Some(page.reach);
            let fit: Vec<_> = page.entries.into_iter().take(fitting).collect();
            let Some(last) = fit.last() else { break };
            cookie = last.cookie;
            names.extend(fit.into_iter().map(|entry| entry.name.lossy().into_owned()));
            assert!(names.len() < 100, "the walk goes on and on");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 40, "{fitting}: {names:?}");
    }
}
