#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs::{File, FileTimes};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{FallocateFlags, Mode, OFlags};

use super::sys::{Lease, WritablePage};
use super::*;
use crate::model::{Generation, Ino};

const G: Generation = Generation(1);
const PLENTY: Limits = Limits { cache_size: 1 << 40, min_free: 0 };

/// A cache of its own in a directory that goes with it.
fn cache(limits: Limits) -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), limits).unwrap();
    (dir, cache)
}

fn file_with(cache: &Cache, ino: u64, bytes: &[u8]) -> DataFile {
    let data = cache.create(Ino(ino), G).unwrap();
    data.write_at(bytes, 0).unwrap();
    data
}

/// The files below `data/` by their number on the disk, and what each really occupies.
fn each(dir: &Path) -> HashMap<u64, u64> {
    let shelves = std::fs::read_dir(dir.join("data")).unwrap().flatten();
    let files = shelves.flat_map(|shelf| std::fs::read_dir(shelf.path()).unwrap().flatten());
    let known = files.filter_map(|file| file.metadata().ok());
    known.map(|file| (file.ino(), file.blocks() * 512)).collect()
}

/// What the files below `data/` really occupy.
fn truth(dir: &Path) -> u64 {
    each(dir).values().sum()
}

fn wait_counted(cache: &Cache) {
    let books = cache.ledger().books();
    drop(cache.ledger().wait_counted(books));
}

fn used(cache: &Cache) -> u64 {
    cache.usage().unwrap().used_bytes
}

#[test]
fn data_files_belong_to_their_owner_only() {
    let (dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 0x1a5, b"x");
    assert_eq!(data.path(), dir.path().join("data/a5/421.1"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(data.path()), 0o600);
    for name in ["data", "data/a5", "staging", "recovered"] {
        assert_eq!(mode(&dir.path().join(name)), 0o700, "{name}");
    }
    assert!(matches!(cache.create(Ino(0x1a5), G), Err(CacheError::Io { action: "create", .. })));
}

#[test]
fn what_is_not_there_is_none() {
    let (_dir, cache) = cache(PLENTY);
    assert!(cache.open_data(Ino(3), G, Access::Read).unwrap().is_none());
    assert_eq!(cache.remove(Ino(3), G).unwrap(), 0);
    assert!(cache.set_aside(Ino(3), G, b"x").is_err());
    assert!(cache.nobody_can_write(Ino(3), G).is_err());
}

#[test]
fn a_stamp_moves_on_a_same_length_edit_with_its_times_set_back() {
    let (_dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 3, b"before");
    let (stamp, mtime) = (cache.ripe_stamp(&data).unwrap(), data.mtime().unwrap());
    assert!(data.unmoved_since(stamp).unwrap());

    let editor = File::options().write(true).open(data.path()).unwrap();
    editor.write_all_at(b"behind", 0).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_nanos(mtime.unsigned_abs());
    editor.set_times(FileTimes::new().set_modified(then)).unwrap();

    assert_eq!((data.size().unwrap(), data.mtime().unwrap()), (6, mtime));
    assert!(!data.unmoved_since(stamp).unwrap());
}

#[test]
fn a_ripe_stamp_is_moved_by_the_very_next_write() {
    let (_dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 3, b"0");
    for round in 0..20u8 {
        let stamp = cache.ripe_stamp(&data).unwrap();
        data.write_at(&[round], 0).unwrap();
        assert!(!data.unmoved_since(stamp).unwrap(), "round {round}");
    }
}

#[test]
fn a_snapshot_is_the_file_and_its_digest() {
    let (_dir, cache) = cache(PLENTY);
    for (ino, size) in [(3, 0), (4, 5), (5, 1 << 20), (6, (1 << 20) + 1), (7, 3 << 20)] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let data = file_with(&cache, ino, &bytes);
        let snapshot = cache.snapshot(Ino(ino), 9, &data).unwrap();
        let held = match &snapshot.body {
            SnapshotBody::Memory(held) => held.to_vec(),
            SnapshotBody::File { path, .. } => std::fs::read(path).unwrap(),
        };
        assert!(held == bytes, "{size} bytes");
        assert_eq!(snapshot.digest, digest_bytes(&bytes));
        assert_eq!(matches!(snapshot.body, SnapshotBody::Memory(_)), size <= 1 << 20);
        assert!(data.unmoved_since(snapshot.stamp).unwrap());
    }
}

/// A wrong digest shows where it comes from: as long as the stamp stands nobody reads the file again.
#[test]
fn what_was_foreseen_is_not_read_again_until_it_is_written() {
    let (dir, _cache) = cache(PLENTY);
    for tick in [None, Some(Duration::from_millis(20))] {
        let cache = Cache::with_tick(dir.path(), PLENTY, tick);
        let bytes = vec![7; 3 << 20];
        let data = file_with(&cache, 3, &bytes);
        let seen = cache.foresee(&data, || true).unwrap().unwrap();
        assert_eq!(seen.digest, digest_bytes(&bytes));
        let (stamp, other) = (seen.stamp, digest_bytes(b"not read"));
        let told = Some(Foreseen { stamp, digest: other });
        assert_eq!(cache.snapshot_of(Ino(3), 1, &data, told).unwrap().digest, other);
        data.write_at(b"8", 0).unwrap();
        let now = data.digest().unwrap();
        assert_ne!(now, seen.digest);
        assert_eq!(cache.snapshot_of(Ino(3), 2, &data, told).unwrap().digest, now);
        assert_eq!(cache.snapshot_of(Ino(3), 2, &data, Some(seen)).unwrap().digest, now);
        cache.remove(Ino(3), G).unwrap();
    }
}

#[test]
fn only_what_is_large_and_at_rest_is_foreseen() {
    let (_dir, cache) = cache(PLENTY);
    let small = file_with(&cache, 3, &[7; 4096]);
    assert_eq!(cache.foresee(&small, || true).unwrap(), None);
    let large = file_with(&cache, 4, &vec![7; 40 << 20]);
    let asked = std::cell::Cell::new(0);
    let twice = || {
        asked.set(asked.get() + 1);
        asked.get() < 2
    };
    assert_eq!((cache.foresee(&large, twice).unwrap(), asked.get()), (None, 2));
    let written = || large.write_at(b"8", 0).is_ok();
    assert_eq!(cache.foresee(&large, written).unwrap(), None);
    assert!(cache.foresee(&large, || true).unwrap().is_some());
}

#[test]
fn a_snapshot_refuses_a_file_that_is_written_meanwhile() {
    let (_dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 3, b"before");
    let moved = cache.whole_moment(&data, || data.write_at(b"behind", 0));
    assert!(matches!(moved, Err(CacheError::Moving { .. })));
}

#[test]
fn a_snapshot_refuses_a_file_stored_into_through_a_dirty_mapping() {
    let (_dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 3, &[0; 4096]);
    let page = WritablePage::map(&data).unwrap();
    // The first store makes the page dirty and writable: without the sync before the stamp, the second would be unseen.
    page.store(1);
    let moved = cache.whole_moment(&data, || {
        page.store(2);
        Ok(())
    });
    assert!(matches!(moved, Err(CacheError::Moving { .. })));
    assert!(cache.whole_moment(&data, || Ok(())).is_ok(), "at rest again");
}

#[test]
fn where_ctime_moves_in_ticks_a_stamp_ripens_first() {
    let (dir, _cache) = cache(PLENTY);
    let tick = Duration::from_millis(20);
    let cache = Cache::with_tick(dir.path(), PLENTY, Some(tick));
    let data = file_with(&cache, 3, &[0; 4096]);
    let before = std::time::Instant::now();
    let stamp = cache.ripe_stamp(&data).unwrap();
    assert!(before.elapsed() >= tick);
    let page = WritablePage::map(&data).unwrap();
    page.store(1);
    assert!(!data.unmoved_since(stamp).unwrap());
    let moved = cache.whole_moment(&data, || {
        page.store(2);
        Ok(())
    });
    assert!(matches!(moved, Err(CacheError::Moving { .. })));
}

#[test]
fn a_snapshot_of_its_own_goes_when_dropped_and_leftovers_are_cleared() {
    let (dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 3, &vec![7; 2 << 20]);
    drop(cache.snapshot(Ino(3), 1, &data).unwrap());
    let staged = || std::fs::read_dir(dir.path().join("staging")).unwrap().count();
    assert_eq!(staged(), 0);
    for name in ["3.1", "3.2", "rubbish"] {
        std::fs::write(dir.path().join("staging").join(name), b"x").unwrap();
    }
    cache.clear_staging(|ino, attempt| (ino, attempt) == (Ino(3), 2)).unwrap();
    assert_eq!(staged(), 1);
}

#[test]
fn the_read_lease_is_refused_while_a_mapping_outlives_its_descriptor() {
    let (dir, cache) = cache(PLENTY);
    let found = examine(dir.path()).unwrap();
    let writer = file_with(&cache, 3, &[0; 4096]);
    assert!(!writer.nobody_can_write().unwrap());
    assert!(!cache.nobody_can_write(Ino(3), G).unwrap(), "our own writer");
    let page = WritablePage::map(&writer).unwrap();
    drop(writer);
    assert_eq!(cache.nobody_can_write(Ino(3), G).unwrap(), !found.leases_trusted);
    drop(page);
    assert!(cache.nobody_can_write(Ino(3), G).unwrap());
    let reader = cache.open_data(Ino(3), G, Access::Read).unwrap().unwrap();
    assert!(reader.nobody_can_write().unwrap(), "readers do not disturb");
    assert!(cache.nobody_can_write(Ino(3), G).unwrap());
}

/// SIGIO, which the kernel sends by default, would end this process: a daemon died of a program that opened a file for writing
/// in the moment in which it was asked who can write.
#[test]
fn regression_a_lease_that_is_broken_ends_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, [1; 10]).unwrap();
    let asked = File::open(&path).unwrap();
    assert!(sys::take_lease(&asked, Lease::Read).unwrap());
    let (open, write) = (OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
    let refused = rustix::fs::open(&path, open, write).unwrap_err();
    assert_eq!(refused, rustix::io::Errno::WOULDBLOCK, "the lease is being broken");
    drop(asked);
    rustix::fs::open(&path, open, write).unwrap();
}

#[test]
fn an_examination_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let found = examine(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{found:?}");
    assert_eq!(found.leases_trusted, found.file_system != "overlayfs", "{found:?}");
}

#[test]
fn set_aside_keeps_every_file_under_a_name_of_its_own() {
    let (dir, cache) = cache(PLENTY);
    let mut places = Vec::new();
    for ino in 3..8 {
        drop(file_with(&cache, ino, &[ino as u8]));
        places.push(cache.set_aside(Ino(ino), G, b"report.pdf").unwrap());
        assert_eq!(std::fs::read(places.last().unwrap()).unwrap(), [ino as u8]);
    }
    assert_eq!(places[0], dir.path().join("recovered/report.pdf"));
    assert_eq!(places[4], dir.path().join("recovered/report (5).pdf"));
    assert_eq!((used(&cache), truth(dir.path())), (0, 0));
}

#[test]
fn the_sweep_sees_every_data_file_and_nothing_else() {
    let (dir, cache) = cache(PLENTY);
    for ino in [3, 4, 0x103] {
        drop(file_with(&cache, ino, b"x"));
    }
    std::fs::write(dir.path().join("data/03/stranger"), b"x").unwrap();
    let mut found: Vec<u64> = cache.data_files().map(|found| found.ino.0).collect();
    found.sort_unstable();
    assert_eq!(found, [3, 4, 0x103]);
    assert!(cache.data_files().all(|found| found.generation == G && found.allocated > 0));
}

#[test]
fn holes_are_not_used() {
    let (dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 3, &vec![1; 64 << 10]);
    data.set_len(1 << 20).unwrap();
    data.punch(0..32 << 10).unwrap();
    assert_eq!(used(&cache), truth(dir.path()));
    assert_eq!(data.seek_data(0).unwrap(), Some(32 << 10));
    assert_eq!(data.seek_hole(32 << 10).unwrap(), Some(64 << 10));
    assert_eq!(data.seek_data(64 << 10).unwrap(), None);
    data.fallocate(FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
    assert_eq!(used(&cache), truth(dir.path()));
}

#[test]
fn labels_are_read_back() {
    let (_dir, cache) = cache(PLENTY);
    let data = cache.create(Ino(3), G).unwrap();
    assert_eq!(data.label().unwrap(), None);
    if data.set_label(b"3 1 docs/a.txt").unwrap() {
        assert_eq!(data.label().unwrap().as_deref(), Some(&b"3 1 docs/a.txt"[..]));
    }
}

#[test]
fn reading_ends_at_the_end() {
    let (_dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 3, b"hello");
    let mut buf = [0; 8];
    assert_eq!(data.read_at(&mut buf, 3).unwrap(), 2);
    assert!(data.read_exact_at(&mut buf, 0).is_err());
    let other = data.try_clone().unwrap();
    drop(data);
    other.read_exact_at(&mut buf[..5], 0).unwrap();
    assert_eq!(&buf[..5], b"hello");
}

#[test]
fn growth_past_us_is_counted_when_the_file_is_let_go_and_given_back_once() {
    let (dir, cache) = cache(PLENTY);
    drop(file_with(&cache, 3, &[1; 4096]));
    let open = cache.open_data(Ino(4), G, Access::Read).unwrap();
    assert!(open.is_none());
    let open = file_with(&cache, 4, &[1; 4096]);
    let passthrough = File::options().write(true).open(open.path()).unwrap();
    passthrough.write_all_at(&vec![1; 1 << 20], 0).unwrap();
    drop(open);
    assert_eq!(used(&cache), truth(dir.path()));
    cache.remove(Ino(4), G).unwrap();
    assert_eq!(used(&cache), truth(dir.path()));
}

#[test]
fn a_removed_file_counts_until_its_last_user_is_gone() {
    let (_dir, cache) = cache(PLENTY);
    let data = file_with(&cache, 3, &[1; 8192]);
    let other = data.try_clone().unwrap();
    let occupied = data.allocated().unwrap();
    assert_eq!(cache.remove(Ino(3), G).unwrap(), occupied);
    drop(data);
    assert_eq!(used(&cache), occupied);
    drop(other);
    assert_eq!(used(&cache), 0);
}

#[test]
fn what_an_earlier_run_left_is_counted_once_whatever_happens_meanwhile() {
    for round in 0..8 {
        let (dir, first) = cache(PLENTY);
        for ino in 3..300 {
            drop(file_with(&first, ino, &vec![1; (ino as usize % 7) * 3000]));
        }
        drop(first);
        let again = Cache::open(dir.path(), PLENTY).unwrap();
        let mut open = HashMap::new();
        for step in 0..100u64 {
            let ino = Ino(3 + (step * 37 + round) % 297);
            match step % 3 {
                0 => drop(again.remove(ino, G).unwrap()),
                1 => drop(open.insert(ino, again.open_or_create(ino, G).unwrap())),
                _ => again.open_or_create(ino, G).unwrap().write_at(&[2; 20_000], 0).unwrap(),
            }
        }
        open.clear();
        wait_counted(&again);
        assert_eq!(used(&again), truth(dir.path()), "round {round}");
    }
}

#[test]
fn reservations_are_counted_at_once_and_given_back() {
    let (_dir, cache) = cache(Limits { cache_size: 1 << 20, min_free: 0 });
    let first = cache.reserve(600 << 10).unwrap();
    let refused = cache.reserve(600 << 10);
    assert!(matches!(refused, Err(CacheError::OverLimit { limit: 1048576, .. })));
    drop(first);
    let mut second = cache.reserve(600 << 10).unwrap();
    let data = cache.create(Ino(3), G).unwrap();
    data.write_reserved(&mut second, &vec![1; 600 << 10], 0).unwrap();
    drop(second);
    assert!(cache.reserve(600 << 10).is_err(), "it is used now");
    let usage = cache.usage().unwrap();
    assert_eq!((usage.used_bytes, usage.reserved_bytes), (data.allocated().unwrap(), 0));
}

#[test]
fn min_free_stays_free() {
    let (_dir, cache) = cache(Limits { cache_size: 1 << 60, min_free: 1 << 60 });
    assert!(matches!(cache.reserve(1), Err(CacheError::DiskFull { .. })));
    assert!(cache.reserve(0).is_ok());
    assert_eq!(cache.usage().unwrap().room(), 0);
}

/// One lock for each inode, as the engine has them: held to open and to remove, not to write.
type InodeLocks = [Mutex<()>; 24];

/// One of the eight: writes under reservations, punches, removes; whatever is refused is let be.
fn work(cache: &Cache, locks: &InodeLocks, dice: &mut fastrand::Rng, refused: &AtomicU64) {
    for _ in 0..400 {
        let which = dice.usize(..locks.len());
        let ino = Ino(3 + which as u64);
        match dice.u8(..10) {
            0..=6 => {
                let bytes = vec![1; dice.usize(1..60_000)];
                let Ok(mut room) = cache.reserve(bytes.len() as u64) else {
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let lock = locks[which].lock().unwrap();
                let data = cache.open_or_create(ino, G).unwrap();
                drop(lock);
                let at = dice.u64(..200_000);
                // Others reserve before this one writes: were it not counted at once, all would find the same room.
                (0..20).for_each(|_| std::thread::yield_now());
                if dice.bool() {
                    data.write_reserved(&mut room, &bytes, at).unwrap();
                } else {
                    data.write_at(&bytes, at).unwrap();
                    room.used(bytes.len() as u64);
                }
            }
            7 => {
                let lock = locks[which].lock().unwrap();
                let data = cache.open_data(ino, G, Access::Write).unwrap();
                drop(lock);
                if let Some(data) = data {
                    data.punch(0..dice.u64(1..200_000)).unwrap();
                }
            }
            _ => {
                let _lock = locks[which].lock().unwrap();
                cache.remove(ino, G).unwrap();
            }
        }
    }
}

#[test]
fn eight_writers_at_once_never_pass_the_limit() {
    let limit = 512 << 10;
    let (dir, cache) = cache(Limits { cache_size: limit, min_free: 0 });
    let (done, refused) = (AtomicBool::new(false), AtomicU64::new(0));
    let locks = InodeLocks::default();
    std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let (mut looks, mut most) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                // One look takes time; only if a second one sees the same was it all there at once.
                let look = each(dir.path());
                if look == each(dir.path()) {
                    looks += 1;
                    most = most.max(look.values().sum());
                }
            }
            (looks, most)
        });
        let writers: Vec<_> = (0..8)
            .map(|seed| {
                let (cache, locks, refused) = (&cache, &locks, &refused);
                scope
                    .spawn(move || work(cache, locks, &mut fastrand::Rng::with_seed(seed), refused))
            })
            .collect();
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        let (looks, most) = seen.join().unwrap();
        assert!(results.iter().all(|result| result.is_ok()));
        assert!(looks > 0 && most <= limit, "{most} of {limit} in {looks} looks");
        println!("{most} of {limit} bytes at most in {looks} looks");
    });
    assert!(refused.into_inner() > 0, "the limit was never reached: nothing was tested");
    let usage = cache.usage().unwrap();
    assert_eq!((usage.used_bytes, usage.reserved_bytes), (truth(dir.path()), 0));
}

#[test]
fn a_ballast_is_made_once_and_given_up() {
    let (dir, cache) = cache(PLENTY);
    let size = cache.restore_ballast().unwrap();
    assert!(size > 0);
    assert_eq!(cache.restore_ballast().unwrap(), size);
    let again = Cache::open(dir.path(), PLENTY).unwrap();
    assert_eq!(again.usage().unwrap().ballast_bytes, size);
    assert_eq!(cache.give_up_ballast().unwrap(), size);
    assert_eq!(cache.give_up_ballast().unwrap(), 0);
    assert!(!dir.path().join("ballast").exists());
}
