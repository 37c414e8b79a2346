//! The limits and those who write past us: they ask nobody for room, so it is looked at while they write, freed for them,
//! and where the file system can do that they are stopped before it is used up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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
/// With less room than this, writers are stopped: what they write until it is looked at again.
const LEAST: u64 = 64 << 20;
/// How often is looked at what is only mapped.
const MAPPED: Duration = Duration::from_secs(1);
/// How long after nothing could be freed it is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Is a data file that somebody may write past us.
struct Written {
    ino: Ino,
    data: Arc<DataFile>,
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
            let mut freed_nothing = None;
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
                core.hold_limits(&written, &mut freed_nothing).await;
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
    async fn hold_limits(
        self: &Arc<Self>,
        written: &[Written],
        freed_nothing: &mut Option<Instant>,
    ) {
        let Ok(usage) = self.cache.usage() else { return };
        let least = LEAST.min(usage.limit_bytes / 8);
        if usage.room() < least / 2 {
            // Before anything is freed: that may take longer than it takes to use up the rest.
            self.set_brake(written, true);
        }
        if usage.room() < least && freed_nothing.is_none_or(|when| when.elapsed() > AGAIN) {
            let freed =
                self.evict(least + overrun(&usage), Search::Anew).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "cannot free what is written past the limit");
                    0
                });
            *freed_nothing = (freed == 0).then(Instant::now);
        }
        let Ok(usage) = self.cache.usage() else { return };
        match usage.room() {
            room if room < least / 2 => self.set_brake(written, true),
            room if room >= least => self.set_brake(written, false),
            _ => {}
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
