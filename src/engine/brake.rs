//! The limits and those who write past us: they ask nobody for room, so it is looked at while they write, freed for them,
//! and where the file system can do that they are stopped before it is used up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::barren::Search;
use super::core::Core;
use super::open::OpenFile;
use crate::cache::{Access, DataFile, Usage};
use crate::model::Ino;

/// How often the room is looked at while there is at least so much of it.
const WATCH: [(u64, Duration); 4] = [
    (4 << 30, Duration::from_millis(200)),
    (1 << 30, Duration::from_millis(50)),
    (256 << 20, Duration::from_millis(10)),
    (0, Duration::from_millis(3)),
];
/// With less room than this, more is made, and with half of it writers are stopped: what they write until it is looked at
/// again, and at most as much.
const LEAST: u64 = 64 << 20;
const MOST: u64 = 256 << 20;
/// The limit is a multiple of what may be held back of it.
const PART: u64 = 8;
/// For how long a look may come too late, on a machine that is busy, without what is written meanwhile passing the limits.
const LATE: Duration = Duration::from_millis(50);
/// What is written is measured over at least so long: a single write says nothing.
const MEASURED: Duration = Duration::from_millis(2);
/// How often is looked at what is only mapped.
const MAPPED: Duration = Duration::from_secs(1);
/// How long after nothing could be freed it is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Is a data file that somebody may write past us.
struct Written {
    ino: Ino,
    data: Arc<DataFile>,
}

/// Says what is to be done about the room that is left, from look to look.
#[derive(Debug, Default)]
struct Guard {
    /// The last look, and the room there was.
    seen: Option<(Instant, u64)>,
    /// How fast room was lately used up, in bytes per second.
    pace: u64,
}

/// Is what is to be done about those who write past us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    /// Bytes that should be made free.
    wanted: u64,
    /// Whether they are to be stopped, or let go on.
    stop: Option<bool>,
}

impl Guard {
    /// What is to be done with so much room left, of so large a limit.
    fn look(&mut self, now: Instant, room: u64, limit: u64) -> Verdict {
        self.measure(now, room);
        let late = u128::from(self.pace) * LATE.as_micros() / 1_000_000;
        let needed = u64::try_from(late * 2).unwrap_or(u64::MAX);
        let least = needed.clamp(LEAST, MOST).min(limit / PART);
        let stop = match room {
            room if room < least / 2 => Some(true),
            room if room >= least => Some(false),
            _ => None,
        };
        Verdict { wanted: if room < least { least } else { 0 }, stop }
    }

    fn measure(&mut self, now: Instant, room: u64) {
        let Some((then, before)) = self.seen else {
            self.seen = Some((now, room));
            return;
        };
        let passed = now.saturating_duration_since(then);
        if passed < MEASURED {
            return;
        }
        let used = u128::from(before.saturating_sub(room));
        let pace = u64::try_from(used * 1_000_000 / passed.as_micros().max(1)).unwrap_or(u64::MAX);
        // Who was kept waiting by the disk for a moment is soon as fast again.
        self.pace = pace.max(self.pace - self.pace / 8);
        self.seen = Some((now, room));
    }
}

/// Is what goes on from look to look while anybody writes past us.
#[derive(Default)]
struct Watch {
    guard: Guard,
    /// What frees room, while it does.
    freeing: Option<JoinHandle<u64>>,
    freed_nothing: Option<Instant>,
}

impl Watch {
    /// Whether something may be freed, and is not being freed already.
    async fn may_free(&mut self) -> bool {
        if let Some(freeing) = self.freeing.take_if(|freeing| freeing.is_finished()) {
            let freed = freeing.await.unwrap_or(0);
            self.freed_nothing = (freed == 0).then(Instant::now);
        }
        self.freeing.is_none() && self.freed_nothing.is_none_or(|when| when.elapsed() > AGAIN)
    }
}

impl Core {
    /// Counts, while anybody writes past us, the room that is taken, frees what may go if it gets short, and stops the
    /// writers where that does not help; ends with the last such writer.
    pub(crate) fn watch_room(self: &Arc<Self>) {
        if !self.open.begin_watch() {
            // Else it is looked at soon enough.
            if self.space.watch_rests.load(Ordering::SeqCst) {
                self.space.writer_came.notify_one();
            }
            return;
        }
        let core = self.clone();
        self.runtime.spawn(async move {
            let mut watch = Watch::default();
            loop {
                let looked = tokio::time::Instant::now();
                let pause = core.pause_of_watch();
                let _either = tokio::time::timeout(pause, core.space.writer_came.notified()).await;
                // Who comes is looked at as soon as one who has been here, and no sooner: many may come.
                tokio::time::sleep_until(looked + pause.min(core.pause_of_watch())).await;
                let written = core.written_past();
                if written.is_empty() && core.open.end_watch() || core.is_stopped() {
                    return;
                }
                written.iter().for_each(|one| one.data.recount());
                core.hold_limits(&written, &mut watch).await;
            }
        });
    }

    fn pause_of_watch(&self) -> Duration {
        let room = self.cache.usage().map_or(0, |usage| usage.room());
        let fits = WATCH.iter().find(|(least, _)| room >= *least);
        let pause = fits.map_or(MAPPED, |(_, pause)| *pause);
        // In this order: a writer who comes after the look at the table rings.
        self.space.watch_rests.store(true, Ordering::SeqCst);
        if self.open.written_through().is_empty() {
            return pause.max(MAPPED);
        }
        self.space.watch_rests.store(false, Ordering::SeqCst);
        pause
    }

    /// The last writer of a file closes it: it is stopped no longer, so that it can be told of, sent and removed.
    pub(crate) fn end_brake(&self, file: &OpenFile) {
        let Some(backing) = file.backing.as_ref().filter(|_| file.mode.write && self.space.brake)
        else {
            return;
        };
        if self.open.handles(file.live.ino).writers <= 1
            && let Err(error) = backing.data.brake(false)
        {
            tracing::debug!(%error, "writers that were stopped stay so until somebody needs the file");
        }
    }

    fn written_past(&self) -> Vec<Written> {
        let through = self.open.written_through().into_iter();
        let mut written: Vec<Written> =
            through.map(|(ino, backing)| Written { ino, data: backing.data.clone() }).collect();
        for ino in self.open.all_mapped() {
            let Ok(Some(inode)) = self.catalog.read(|rows| rows.inode(ino)) else { continue };
            if let Ok(Some(data)) = self.cache.open_data(ino, inode.generation, Access::Read) {
                written.push(Written { ino, data: Arc::new(data) });
            }
        }
        written
    }

    /// Frees what may go while room is short, and stops writers or lets them go on. What freed nothing is not tried again
    /// at once.
    async fn hold_limits(self: &Arc<Self>, written: &[Written], watch: &mut Watch) {
        let Ok(usage) = self.cache.usage() else { return };
        let verdict = watch.guard.look(Instant::now(), usage.room(), usage.limit_bytes);
        if let Some(stop) = verdict.stop {
            self.set_brake(written, stop);
        }
        if verdict.wanted > 0 && watch.may_free().await {
            let (core, wanted) = (self.clone(), verdict.wanted + overrun(&usage));
            // Beside the looks: on a disk that is busy it takes longer than to use up the rest.
            watch.freeing = Some(self.runtime.spawn(async move {
                core.evict(wanted, Search::Anew).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "cannot free what is written past the limit");
                    0
                })
            }));
        }
    }

    fn set_brake(&self, written: &[Written], stop: bool) {
        if !self.space.brake {
            return;
        }
        for one in written {
            match one.data.brake(stop) {
                Ok(()) if stop => {
                    tracing::debug!(ino = one.ino.0, "its writers are stopped: no room is left");
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(ino = one.ino.0, %error, "cannot stop who writes past the limit");
                }
            }
        }
    }
}

/// By how much the limits are passed.
fn overrun(usage: &Usage) -> u64 {
    let over = usage.used_bytes.saturating_sub(usage.limit_bytes);
    let short = usage.min_free.saturating_sub(usage.free_bytes.saturating_add(usage.ballast_bytes));
    over.max(short)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMIT: u64 = 9 << 30;

    /// Room that is left when a writer of that pace is stopped, looked at after pauses of so many milliseconds.
    fn left_of(pace_mib: u64, pauses: impl Iterator<Item = u64>) -> i64 {
        let (mut guard, mut now, mut room) = (Guard::default(), Instant::now(), 1000 * MIB as i64);
        for pause in pauses {
            now += Duration::from_millis(pause);
            room -= (pace_mib * MIB * pause / 1000) as i64;
            let verdict = guard.look(now, room.max(0) as u64, LIMIT);
            if verdict.stop == Some(true) {
                return room;
            }
        }
        panic!("it is never stopped");
    }

    #[test]
    fn regression_a_look_that_comes_late_does_not_let_a_fast_writer_pass_the_limit() {
        for pace in [100, 800, 1600, 2400] {
            // Every look could be the last one in time.
            for punctual in 0..1000 * 1000 / pace / 3 {
                let punctual = std::iter::repeat_n(3, punctual as usize);
                let left = left_of(pace, punctual.chain([48]).chain(std::iter::repeat(3)));
                assert!(left >= 0, "{left} bytes of room at {pace} MiB/s");
            }
        }
    }

    #[test]
    fn a_slow_writer_may_use_nearly_all() {
        let left = left_of(50, std::iter::repeat_n(10, 100_000));
        assert!((0..LEAST as i64 / 2).contains(&left), "{left}");
    }

    #[test]
    fn a_small_cache_is_not_held_back() {
        let mut guard = Guard::default();
        let (now, limit) = (Instant::now(), 64 * MIB);
        assert_eq!(guard.look(now, limit, limit), Verdict { wanted: 0, stop: Some(false) });
        let now = now + Duration::from_millis(10);
        let verdict = guard.look(now, limit / PART, limit);
        assert_eq!(verdict, Verdict { wanted: 0, stop: Some(false) }, "{guard:?}");
        assert_eq!(guard.look(now, limit / PART - 1, limit).stop, None);
        assert_eq!(guard.look(now, limit / PART / 2 - 1, limit).stop, Some(true));
    }

    #[test]
    fn who_was_stopped_goes_on_when_nothing_is_written_any_more() {
        let (mut guard, mut now) = (Guard::default(), Instant::now());
        guard.look(now, 1000 * MIB, LIMIT);
        now += Duration::from_millis(100);
        assert_eq!(guard.look(now, 100 * MIB, LIMIT).stop, Some(true));
        let mut stop = None;
        for _ in 0..100 {
            now += Duration::from_millis(10);
            stop = guard.look(now, 100 * MIB, LIMIT).stop;
        }
        assert_eq!(stop, Some(false));
    }
}
