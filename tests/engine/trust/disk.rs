//! What the local disk lost is not believed, and what it did not lose is not given up.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use dewfs::cache::{fail_next_sync, is_sync_to_fail};

use super::*;

/// The one data file that holds so many bytes.
fn data_file(world: &World, size: u64) -> PathBuf {
    let data = world.state.path().join("state/data");
    let shelves = std::fs::read_dir(data).unwrap().map(|shelf| shelf.unwrap().path());
    let files = shelves.flat_map(|shelf| std::fs::read_dir(shelf).unwrap());
    let mut sized = files
        .map(|file| file.unwrap().path())
        .filter(|file| std::fs::metadata(file).unwrap().len() == size);
    let found = sized.next().unwrap();
    assert_eq!(sized.next(), None);
    found
}

async fn error_of(world: &World, path: &str) -> Option<String> {
    world.engine.item_status(world.ino(path).await).await.unwrap().error
}

/// S3: Linux tells of bytes that it could not write once, and has forgotten them then: a second try that goes well says
/// nothing of them.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_disk_that_failed_once_is_not_believed() {
    let world = World::new().await;
    world.store.put("doc", "good and old").unwrap();
    world.read("doc").await.unwrap();
    world.in_sync().await;
    world.store.set_online(false);
    world.write("doc", &pattern(70_000, 1)).await;
    fail_next_sync(&data_file(&world, 70_000));
    world.store.set_online(true);
    let is_lost = async |world: &World| {
        error_of(world, "doc").await.is_some_and(|why| why.contains("save it anew"))
    };
    world.until("it is told", async || is_lost(&world).await).await;
    // Neither asked for by a person nor by the next daemon is it sent.
    world.engine.sync_now(Ino::ROOT).await.unwrap();
    world.until("it is told again", async || is_lost(&world).await).await;
    let world = world.restart().await;
    world.until("it is told by the next one", async || is_lost(&world).await).await;
    assert_eq!(world.content_there("doc").unwrap(), b"good and old");
    // What is written anew is whole.
    world.write("doc", b"saved anew").await;
    world.until("it is sent", async || world.content_there("doc").unwrap() == b"saved anew").await;
    world.in_sync().await;
    assert_eq!(error_of(&world, "doc").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_fetched_bytes_that_the_disk_lost_are_fetched_again() {
    let world = World::new().await;
    let content = pattern(300_000, 2);
    world.store.put("doc", content.clone()).unwrap();
    let (ino, handle) = world.open("doc", READ).await;
    world.engine.read(ino, handle, 0, 1000).wait().await.unwrap();
    let file = data_file(&world, 300_000);
    fail_next_sync(&file);
    let here = async |world: &World| world.engine.item_status(ino).await.unwrap().present_bytes;
    world.until("what came is not believed", async || here(&world).await == 0).await;
    assert!(!is_sync_to_fail(&file));
    let lost = OpenOptions::new().write(true).open(&file).unwrap();
    lost.write_all_at(&[0; 65_536], 0).unwrap();
    world.engine.release(ino, handle);
    same(&world.read("doc").await.unwrap(), &content);
    world
        .until("all of it is known to be here", async || {
            let item = world.engine.item_status(ino).await.unwrap();
            item.present_bytes == 300_000 && item.error.is_none()
        })
        .await;
    let world = world.restart().await;
    world.store.set_online(false);
    same(&world.read("doc").await.unwrap(), &content);
}

/// Leaves an edit that no catalog knows of, whose time is before that of the one that the catalog knows of.
async fn an_edit_after_the_clock_was_set_back() -> World {
    let world = World::new().await;
    world.store.put("doc", "theirs").unwrap();
    world.read("doc").await.unwrap();
    world.in_sync().await;
    world.store.set_online(false);
    // What was tried to be sent is looked for at the remote first, whatever is left of it here.
    world.engine.pause(Lane::Uploads).await.unwrap();
    world.write("doc", &pattern(70_000, 3)).await;
    world.until("it is recorded", async || world.stat("doc").await.size == 70_000).await;
    let file = data_file(&world, 70_000);
    world.engine.stop().await;
    append(&file);
    let an_hour = 3_600_000_000_000_i64;
    let rows = rusqlite::Connection::open(world.state.path().join("state/catalog.db")).unwrap();
    let sql = "UPDATE inode SET stamp_ctime = stamp_ctime + ?1 WHERE stamp_size = 70000";
    assert_eq!(rows.execute(sql, [an_hour]).unwrap(), 1);
    world
}

fn append(file: &Path) {
    let mut file = OpenOptions::new().append(true).open(file).unwrap();
    file.write_all(b", and its end").unwrap();
}

/// S1: only a machine that went down loses what was written; a clock that was set back tells nothing of that.
#[tokio::test(flavor = "multi_thread")]
async fn regression_the_last_edit_before_a_kill_survives_a_clock_that_was_set_back() {
    let world = an_edit_after_the_clock_was_set_back().await;
    let world = World::start(world.store, world.state, world.settings).await;
    let whole = [&pattern(70_000, 3)[..], b", and its end"].concat();
    same(&world.read("doc").await.unwrap(), &whole);
    world.store.set_online(true);
    world.engine.resume().await.unwrap();
    world.in_sync().await;
    same(&world.content_there("doc").unwrap(), &whole);
}

/// Says that the disk that the state lies on was another one.
fn went_down(state: &Path) {
    let rows = rusqlite::Connection::open(state.join("catalog.db")).unwrap();
    let sql = "UPDATE state SET value = x'00' WHERE key = 'disk'";
    assert_eq!(rows.execute(sql, []).unwrap(), 1);
}

/// The same after another machine's boot, or on a disk that was mounted anew: what was synced last may be gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_content_after_the_machine_went_down_is_not_believed() {
    let world = an_edit_after_the_clock_was_set_back().await;
    let state = world.state.path().join("state");
    went_down(&state);
    world.store.set_online(true);
    let world = World::start(world.store, world.state, world.settings).await;
    assert_eq!(&world.read("doc").await.unwrap()[..], b"theirs");
    let kept = || std::fs::read_dir(state.join("recovered")).unwrap().count();
    world.until("it is kept", async || kept() == 1).await;
}

/// A power cut takes rows back, and the numbers that they gave: a data file may have stayed.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_number_that_a_power_cut_took_back_is_not_given_again() {
    let world = World::new().await;
    let last = world.write("last", b"with a row").await.0;
    world.in_sync().await;
    world.engine.stop().await;
    let state = world.state.path().join("state");
    went_down(&state);
    let shelf = state.join(format!("data/{:02x}", (last + 1) & 0xff));
    std::fs::create_dir_all(&shelf).unwrap();
    std::fs::write(shelf.join(format!("{}.0", last + 1)), "without a row").unwrap();
    let world = World::start(world.store, world.state, world.settings).await;
    world.write("new", b"").await;
    assert_eq!(world.read("new").await.unwrap().len(), 0);
    world.in_sync().await;
    assert_eq!(world.content_there("new").unwrap(), b"");
    let kept = async || {
        let kept = std::fs::read_dir(state.join("recovered")).unwrap();
        let mut kept = kept.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        kept.any(|content| content == b"without a row")
    };
    world.until("it is kept", kept).await;
}

/// Moves the ctime of every data file, as `chown`, `chmod` or a copy of the state directory does.
fn touched(state: &Path) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let shelves = std::fs::read_dir(state.join("state/data")).unwrap();
    for file in shelves.flat_map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap()) {
        let file = file.unwrap().path();
        let before = std::fs::metadata(&file).unwrap();
        while std::fs::metadata(&file).unwrap().ctime_nsec() == before.ctime_nsec() {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// A state directory that was copied, restored or given to another user made every file that was opened an edit, with
/// another time and sent again, and nothing that was not opened could go.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_state_directory_that_was_copied_is_no_edit_of_every_file() {
    let world = World::new().await;
    for index in 0..4u8 {
        world.write(&format!("f{index}"), &pattern(50_000 + usize::from(index), index)).await;
    }
    world.in_sync().await;
    let times = async |world: &World| {
        let mut times = Vec::new();
        for index in 0..4 {
            times.push(world.stat(&format!("f{index}")).await.mtime);
        }
        times
    };
    let before = times(&world).await;
    world.engine.stop().await;
    touched(world.state.path());
    let world = World::start(world.store, world.state, world.settings).await;
    let written = asked(&world, Operation::Write);
    for index in 0..2u8 {
        let content = world.read(&format!("f{index}")).await.unwrap();
        same(&content, &pattern(50_000 + usize::from(index), index));
    }
    // Opened for writing and not written; and one that is really edited.
    let (ino, handle) = world.open("f1", WRITE).await;
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(times(&world).await, before);
    assert_eq!(asked(&world, Operation::Write), written);
    let freed = world.engine.free(Ino::ROOT, false).await.unwrap();
    assert!(freed.kept.is_empty(), "{:?}", freed.kept);
    assert!(freed.bytes >= 4 * 50_000);
    same(&world.read("f3").await.unwrap(), &pattern(50_003, 3));
}

/// What was edited past the catalog is still found then, also where as many bytes are there as before.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_edited_without_its_row_is_found_by_its_content() {
    let world = World::new().await;
    world.write("doc", &pattern(70_000, 3)).await;
    world.write("other", &pattern(80_000, 3)).await;
    world.in_sync().await;
    let (opened, freed) = (data_file(&world, 70_000), data_file(&world, 80_000));
    world.engine.stop().await;
    for file in [opened, freed] {
        OpenOptions::new().write(true).open(file).unwrap().write_all_at(b"edited", 100).unwrap();
    }
    let world = World::start(world.store, world.state, world.settings).await;
    let mut wanted = pattern(70_000, 3);
    wanted[100..106].copy_from_slice(b"edited");
    same(&world.read("doc").await.unwrap(), &wanted);
    world.until("it is sent", async || world.content_there("doc").unwrap() == wanted).await;
    let freed = world.engine.free(world.ino("other").await, false).await.unwrap();
    assert_eq!(freed.kept.len(), 1);
    let mut wanted = pattern(80_000, 3);
    wanted[100..106].copy_from_slice(b"edited");
    world.until("it is sent, too", async || world.content_there("other").unwrap() == wanted).await;
}

/// S65 asks for a limit that holds at every instant, also when nothing is counted yet: what the last daemon knew serves for that,
/// but only if it ended of itself.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_a_daemon_knew_of_its_data_files_is_believed_once() {
    let world = World::new().await;
    for n in 0..20 {
        world.store.put(&format!("f{n}"), pattern(100_000, n)).unwrap();
    }
    for n in 0..20 {
        world.read(&format!("f{n}")).await.unwrap();
    }
    world.in_sync().await;
    let told = |world: &World| -> Option<Vec<u8>> {
        let file = world.state.path().join("state/catalog.db");
        let rows = rusqlite::Connection::open(file).unwrap();
        let sql = "SELECT value FROM state WHERE key = 'books'";
        rows.query_row(sql, [], |row| row.get(0)).ok()
    };
    assert_eq!(told(&world), None);
    let used = world.engine.mount_status().await.unwrap().cache_used;
    assert!(used >= 2_000_000);
    world.engine.stop().await;
    let known = u64::from_le_bytes(told(&world).unwrap()[..8].try_into().unwrap());
    assert_eq!(known, used);
    let world = World::start(world.store, world.state, world.settings).await;
    assert_eq!(told(&world), None, "whatever ends it, this daemon writes");
    assert_eq!(world.engine.mount_status().await.unwrap().cache_used, used);
}

/// While one large file was compared with what it must be, nobody got room: who needed some waited until it was read to its end.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_room_is_made_while_what_came_is_compared() {
    use std::sync::{Mutex, mpsc};

    let settings = Settings { cache_size: 4 << 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    for n in 0..60 {
        world.store.put(&format!("f{n}"), pattern(100_000, n)).unwrap();
    }
    world.store.put("large", pattern(1 << 20, 99)).unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(AtomicBool::new(false));
    let (go_on, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let (is_armed, has_begun) = (armed.clone(), begun.clone());
    world.engine.on_crash_point(Arc::new(move |place| {
        let is_it = place == "record: before the content that came is known";
        if is_it && is_armed.swap(false, Ordering::SeqCst) {
            has_begun.store(true, Ordering::SeqCst);
            let _ended = held.lock().unwrap().recv();
        }
        false
    }));
    for n in 0..30 {
        world.read(&format!("f{n}")).await.unwrap();
    }
    world.in_sync().await;
    armed.store(true, Ordering::SeqCst);
    world.read("large").await.unwrap();
    world.until("it is compared", async || begun.load(Ordering::SeqCst)).await;
    for n in 30..60 {
        let path = format!("f{n}");
        let read = tokio::time::timeout(Duration::from_secs(10), world.read(&path)).await;
        same(&read.expect("it waits").unwrap(), &pattern(100_000, n));
    }
    let kept = world.engine.mount_status().await.unwrap().cache_used;
    assert!(kept > 3 << 20, "what is read is kept: {kept}");
    drop(go_on);
    world.in_sync().await;
}

/// An edited file whose rest finds no room never learned that the remote has another one by now: it stayed an error for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_file_without_room_for_its_rest_learns_what_the_remote_has() {
    let settings = Settings { cache_size: 4 << 20, ..quick_settings() };
    let world = World::with(MemoryOptions::default(), settings).await;
    world.store.put("f", pattern(8 << 20, 1)).unwrap();
    world.names("").await;
    let (ino, handle) = world.open("f", WRITE).await;
    world.write_at(ino, handle, 5, b"edit").await;
    world.close(ino, handle).await;
    world
        .until("it is told", async || world.engine.mount_status().await.unwrap().errors == 1)
        .await;
    world.store.put("f", "small").unwrap();
    world
        .until("what the remote has is shown", async || {
            world.engine.sync_now(Ino::ROOT).await.unwrap();
            world.read("f").await.is_ok_and(|read| &read[..] == b"small")
        })
        .await;
    world.in_sync().await;
    assert_eq!(world.content_there("f").unwrap(), b"small");
    let kept = std::fs::read_dir(world.state.path().join("state/recovered")).unwrap();
    assert!(kept.count() >= 1, "the edit is kept");
}
