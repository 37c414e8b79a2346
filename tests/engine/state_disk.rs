//! State directories on small and on other disks. Mounting needs root; what cannot run here says why.

use crate::support::wait::until;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::disk::{Disk, image, image_with, mounted, run, tmpfs};
use crate::support::world::{WRITE, World, quick_settings};
use dewfs::cache::{Cache, CacheError, Limits, SnapshotBody, examine};
use dewfs::model::{Generation, Ino};
use dewfs::remote::memory::{MemoryOptions, MemoryStore};

const G: Generation = Generation(1);
const PLENTY: Limits = Limits { cache_size: 1 << 40, min_free: 0 };

/// Writes until the disk is full, past all reservations, as a passthrough writer would.
fn fill(cache: &Cache) -> CacheError {
    let data = cache.create(Ino(3), G).unwrap();
    loop {
        let mut last = None;
        // What a file system holds back for its own bookkeeping comes free at a sync: on until not even a block fits then.
        for piece in [1 << 20, 1 << 16, 1 << 12] {
            let before = data.size().unwrap();
            last =
                (before..).step_by(piece).find_map(|at| data.write_at(&vec![1; piece], at).err());
        }
        let before = data.allocated().unwrap();
        if data.sync_data().is_err() || data.write_at(&[1; 4096], data.size().unwrap()).is_err() {
            assert_eq!(data.allocated().unwrap(), before);
            return last.unwrap();
        }
    }
}

fn a_full_disk_is_said_and_the_ballast_frees_room(disk: &Disk) {
    let cache = Cache::open(&disk.root().join("state"), PLENTY).unwrap();
    let ballast = cache.restore_ballast().unwrap();
    assert!(ballast > 0);
    let error = fill(&cache);
    assert!(matches!(error, CacheError::DiskFull { .. }), "{error}");
    assert!(matches!(cache.reserve(1 << 20), Err(CacheError::DiskFull { .. })));
    let note = disk.root().join("state/note");
    assert!(std::fs::write(&note, vec![1; 64 << 10]).is_err());

    assert_eq!(cache.give_up_ballast().unwrap(), ballast);
    std::fs::write(&note, vec![1; 64 << 10]).unwrap();
    assert_eq!(cache.restore_ballast().unwrap(), 0, "no room for it yet");

    assert!(cache.remove(Ino(3), G).unwrap() > 0);
    assert_eq!(cache.usage().unwrap().used_bytes, 0);
    assert_eq!(cache.restore_ballast().unwrap(), ballast);
    drop(cache.reserve(1 << 20).unwrap());
}

/// Reserved writers stop at `min_free`, to which the ballast counts, and never meet a full disk.
fn min_free_holds_for_reserved_writers(disk: &Disk) {
    let min_free = 8 << 20;
    let limits = Limits { cache_size: 1 << 40, min_free };
    let cache = Cache::open(&disk.root().join("state"), limits).unwrap();
    cache.restore_ballast().unwrap();
    let data = cache.open_or_create(Ino(3), G).unwrap();
    let mut at = 0;
    while let Ok(mut room) = cache.reserve(100_000) {
        data.write_reserved(&mut room, &[1; 100_000], at).unwrap();
        at += 100_000;
    }
    data.sync_data().unwrap();
    let usage = cache.usage().unwrap();
    let free = usage.free_bytes + usage.ballast_bytes;
    assert!(free >= min_free && free < min_free + 200_000, "{usage:?}");
    drop(data);
    cache.remove(Ino(3), G).unwrap();
}

#[test]
fn a_small_tmpfs() {
    let Some(disk) = tmpfs("size=32M") else { return };
    a_full_disk_is_said_and_the_ballast_frees_room(&disk);
    min_free_holds_for_reserved_writers(&disk);
    let found = examine(&disk.root()).unwrap();
    // Nothing tells of the second store into a page: what is written past us could not be seen.
    assert!(found.leases_trusted && !found.stores_seen, "{found:?}");
}

#[test]
fn a_small_ext4() {
    let Some(disk) = image("ext4", 64) else { return };
    a_full_disk_is_said_and_the_ballast_frees_room(&disk);
    min_free_holds_for_reserved_writers(&disk);
    let found = examine(&disk.root()).unwrap();
    assert!(found.leases_trusted && found.brake && !found.reflink, "{found:?}");
    assert_eq!(found.stores_seen, found.stamp_tick.is_none(), "{found:?}");
}

#[test]
fn a_snapshot_on_xfs_shares_blocks_and_stays_as_it_was() {
    let Some(disk) = image("xfs", 320) else { return };
    let found = examine(&disk.root()).unwrap();
    assert!(found.leases_trusted && found.reflink, "{found:?}");
    assert_eq!(found.stores_seen, found.stamp_tick.is_none(), "{found:?}");
    let cache = Cache::open(&disk.root().join("state"), PLENTY).unwrap();
    let data = cache.create(Ino(3), G).unwrap();
    data.write_at(&vec![1; 3 << 20], 0).unwrap();
    let snapshot = cache.snapshot(Ino(3), 7, &data).unwrap();
    data.write_at(&vec![2; 3 << 20], 0).unwrap();
    let SnapshotBody::File { path, owned: true } = &snapshot.body else { panic!("{snapshot:?}") };
    assert_eq!(path, &disk.root().join("state/staging/3.7"));
    assert!(std::fs::read(path).unwrap() == vec![1; 3 << 20]);
    assert_eq!(snapshot.digest, dewfs::cache::digest_bytes(&vec![1; 3 << 20]));
    let path = path.clone();
    drop(snapshot);
    assert!(!path.exists());
}

#[test]
fn leases_on_overlayfs_are_not_trusted() {
    let disk = mounted(|dir, root| {
        // An overlay cannot lie on another one, where containers have their temporary directories.
        let layers = dir.join("layers");
        std::fs::create_dir(&layers).unwrap();
        let layers = layers.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "dewfs-test", layers])?;
        for layer in ["lower", "upper", "work"] {
            std::fs::create_dir(format!("{layers}/{layer}")).unwrap();
        }
        let options =
            format!("lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work");
        let done = run("mount", &["-t", "overlay", "-o", &options, "dewfs-test", root]);
        // The overlay holds on to the layers; nobody else needs to see them.
        run("umount", &["-l", layers])?;
        done
    });
    let Some(disk) = disk else { return };
    let found = examine(&disk.root()).unwrap();
    assert_eq!(found.file_system, "overlayfs");
    assert!(!found.leases_trusted, "{found:?}");
    drop(Cache::open(&disk.root().join("state"), PLENTY).unwrap());
}

/// Ext4 with inodes of 128 bytes, as small and old disks have them.
fn whole_seconds() -> Option<Disk> {
    image_with("ext4", &["-I", "128"], 64)
}

#[test]
fn how_far_apart_times_lie_is_measured() {
    let Some(disk) = whole_seconds() else { return };
    let tick = examine(&disk.root()).unwrap().stamp_tick.unwrap();
    assert!(tick > Duration::from_secs(1) && tick < Duration::from_secs(4), "{tick:?}");
    let Some(usual) = image("ext4", 64) else { return };
    let tick = examine(&usual.root()).unwrap().stamp_tick;
    assert!(tick.is_none_or(|tick| tick < Duration::from_secs(1)), "{tick:?}");
}

/// A daemon that started on a full disk took the longest tick for its own, for as long as it lived.
#[test]
fn regression_how_far_apart_times_lie_is_measured_on_a_full_disk() {
    for disk in [tmpfs("size=8M"), image("ext4", 16)].into_iter().flatten() {
        let state = disk.root().join("state");
        let cache = Cache::open(&state, PLENTY).unwrap();
        let why = fill(&cache);
        assert!(matches!(why, CacheError::DiskFull { .. }), "{why:?}");
        let tick = Cache::open(&state, PLENTY).unwrap().stamp_tick();
        assert!(tick.is_none_or(|tick| tick < Duration::from_secs(1)), "{tick:?}");
    }
}

/// Waits for the beginning of a second, so that what is done at once is done within one.
fn a_second_begins() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = now().as_secs();
    until(Duration::from_secs(3), "the next second", || now().as_secs() != seconds);
}

/// S3: such an edit moves neither the length nor the time of the data file.
#[tokio::test(flavor = "multi_thread")]
async fn regression_an_edit_in_the_second_of_the_fetch_is_sent() {
    let Some(disk) = whole_seconds() else { return };
    let store = MemoryStore::new(MemoryOptions::default());
    store.put("doc", "as it was").unwrap();
    let state = Arc::new(tempfile::tempdir_in(disk.root()).unwrap());
    let world = World::start(store, state, quick_settings()).await;
    world.names("").await;
    a_second_begins();
    world.read("doc").await.unwrap();
    let rows = world.state.path().join("state/catalog.db");
    let rows = rusqlite::Connection::open(rows).unwrap();
    let is_known = || {
        let sql = "SELECT content FROM inode WHERE name = CAST('doc' AS BLOB)";
        rows.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() == 2
    };
    world.until("it is known to be here", async || is_known()).await;
    drop(rows);
    let (ino, handle) = world.open("doc", WRITE).await;
    world.write_at(ino, handle, 0, b"AS IT IS!").await;
    world.close(ino, handle).await;
    world.in_sync().await;
    assert_eq!(world.content_there("doc").unwrap(), b"AS IT IS!");
    world.engine.stop().await;
}
