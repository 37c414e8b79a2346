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
    // Nothing is just being tried: that would be another state.
    world.engine.pause(Lane::All).await.unwrap();
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
    // What is known at once is told at once: a file manager asks for each file and folder that it shows.
    for (ino, word, expected) in [
        (folder, "state", "pending"),
        (folder, "pending_below", "10"),
        (folder, "pin", "unspecified"),
        (file, "pin", "unspecified"),
        (file, "pending", "8"),
    ] {
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

/// Of folders it is told at once what is below them, as new as the last verb that was answered; only who asks first of all waits
/// until it is counted.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_below_a_folder_is_told_at_once_and_always_true() {
    let rests = Settings { write_back_delay: Duration::from_secs(3600), ..quick_settings() };
    let world = World::with(MemoryOptions::default(), rests).await;
    for folder in ["one", "two", "one/inner"] {
        world.store.mkdir(folder).unwrap();
    }
    let [one, two, inner] =
        [world.ino("one").await, world.ino("two").await, world.ino("one/inner").await];
    let engine = &world.engine;
    let first = engine.get_xattr(one, b"user.dewfs.pending_below");
    assert!(matches!(first, Answer::Pending(_)), "it is counted on the kernel's thread");
    assert_eq!(first.wait().await.unwrap(), b"0");
    let told = |folders: &[Ino]| -> Vec<String> {
        let told = folders.iter().map(|folder| {
            let word = |word: &[u8]| match engine.get_xattr(*folder, word) {
                Answer::Ready(told) => String::from_utf8(told.unwrap()).unwrap(),
                _ => panic!("it is waited for"),
            };
            let state = word(b"user.dewfs.state");
            let below = word(b"user.dewfs.pending_below");
            assert_eq!(state == "pending", below != "0", "{state} with {below} below");
            below
        });
        told.collect()
    };
    for number in 1..=20 {
        world.write(&format!("one/inner/{number}"), b"not sent").await;
        let number = number.to_string();
        assert_eq!(told(&[one, two, inner]), [number.as_str(), "0", &number]);
    }
    // The folder itself waits from now on as well.
    world.rename("one/inner", "two/inner").await.unwrap();
    assert_eq!(told(&[one, two]), ["0", "21"]);
    assert_eq!(engine.item_status(inner).await.unwrap().pending_below, 20);
    world.remove("two/inner/7").await.unwrap();
    assert_eq!(engine.item_status(two).await.unwrap().pending_below, 20);
    let file = world.ino("two/inner/8").await;
    let none = engine.get_xattr(file, b"user.dewfs.pending_below").wait().await;
    assert!(matches!(none, Err(EngineError::NoAttribute)));
}

/// It was told only of the whole mount, as the mount itself.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_was_deleted_below_a_folder_is_pending_there_under_its_name() {
    let world = World::new().await;
    world.store.mkdir("folder").unwrap();
    for path in ["folder/gone", "folder/here", "beside"] {
        world.store.put(path, "content").unwrap();
    }
    let folder = world.ino("folder").await;
    world.ino("folder/gone").await;
    world.store.set_online(false);
    world.remove("folder/gone").await.unwrap();
    for top in [folder, Ino::ROOT] {
        let left = world.engine.pending(top, 100).await.unwrap();
        let paths: Vec<_> = left.into_iter().map(|item| item.path).collect();
        assert_eq!(paths, [b"folder/gone".to_vec()]);
    }
    let waited = world.engine.wait_in_sync(folder, Some(Duration::ZERO)).await;
    assert!(!matches!(waited, Ok(true)), "nobody waits for it");
    world.store.set_online(true);
    assert!(world.engine.wait_in_sync(folder, Some(PATIENCE)).await.unwrap());
    assert!(world.store.content("folder/gone").is_none());
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
