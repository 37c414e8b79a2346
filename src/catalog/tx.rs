//! A write transaction, as one change sees it, and what it keeps in memory beside the rows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::lists::Lists;
use super::memo::Memo;
use super::pending::{Counting, Kept};
use super::{Change, Memory, Origin, Reader, Result};
use crate::model::{Generation, Ino, Name, Place, Tick};

/// Ticks given out per write of the counter's row.
const TICKS: u64 = 1000;

/// Is a write transaction: implements [`crate::model::Rows`] and the engine's own verbs on rows, and derefs to
/// [`Reader`] for everything that can be asked.
pub struct Tx {
    pub(super) reader: Reader,
    pub(super) lists: Arc<Lists>,
    /// Single rows as they were read.
    pub(super) memo: RefCell<Memo>,
    /// What changes of the counts of what is not in sync.
    pub(super) counting: RefCell<Counting>,
    pub(super) origin: Origin,
    /// The machine's clock, for what is shown to people.
    pub(super) now: i64,
    /// For what is put off and what is due.
    pub(super) steady: i64,
    pub(super) host: String,
    /// Conflict names given out by this change.
    pub(super) conflict_names: Vec<Place>,
    /// Data files kept for their owner by this change: not told as forgotten.
    rescued: Vec<(Ino, Generation)>,
    changes: Vec<Change>,
    /// Folders that a user removes with this change.
    pub(super) removed: Vec<Ino>,
    woken: Woken,
    touched: HashMap<Ino, Tick>,
    /// What `touched` held before, the last first.
    touched_before: Vec<(Ino, Option<Tick>)>,
    tick: u64,
    counted: Counted,
}

/// Is what the counter's row will say at the commit.
#[derive(Clone, Copy)]
struct Counted {
    /// Ticks below this one may be given out.
    ticks: u64,
    /// Items come and gone since the last commit.
    items: i64,
    /// Bytes come and gone since the last commit.
    bytes: i64,
}

/// Is whom a transaction wakes; told once, however often it happens.
#[derive(Clone, Copy, Default)]
struct Woken {
    outbox: bool,
    listing: bool,
    pins: bool,
}

/// Is where a change began, to go back to.
pub(super) struct Mark {
    changes: usize,
    removed: usize,
    woken: Woken,
    touched: usize,
    counted: Counted,
}

impl std::ops::Deref for Tx {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Tx {
    pub(super) fn new(
        connection: Connection,
        memory: Arc<dyn Memory>,
        lists: Arc<Lists>,
        kept: Kept,
    ) -> Result<Self> {
        let reader = Reader::new(connection, memory);
        let ticks = reader.one("SELECT ticks FROM counter", [], |row| row.get::<_, i64>(0))?;
        let tick = ticks.unwrap_or(1).cast_unsigned();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Self {
            reader,
            lists,
            memo: RefCell::default(),
            counting: RefCell::new(Counting::new(kept)),
            origin: Origin::Engine,
            now: super::now(),
            steady: super::steady(),
            host,
            conflict_names: Vec::new(),
            rescued: Vec::new(),
            changes: Vec::new(),
            removed: Vec::new(),
            woken: Woken::default(),
            touched: HashMap::new(),
            touched_before: Vec::new(),
            tick,
            counted: Counted { ticks: tick, items: 0, bytes: 0 },
        })
    }

    /// Begins a change.
    pub(super) fn begin(&mut self, origin: Origin) -> Mark {
        self.origin = origin;
        self.now = super::now();
        self.steady = super::steady();
        self.conflict_names.clear();
        self.rescued.clear();
        self.mark()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            changes: self.changes.len(),
            removed: self.removed.len(),
            woken: self.woken,
            touched: self.touched_before.len(),
            counted: self.counted,
        }
    }

    /// Takes back in memory what was done since the mark; the caller takes back the rows. Ticks stay given out.
    pub(super) fn go_back(&mut self, mark: &Mark) {
        self.memo().clear();
        self.changes.truncate(mark.changes);
        self.removed.truncate(mark.removed);
        self.woken = mark.woken;
        for (folder, before) in self.touched_before.drain(mark.touched..).rev() {
            match before {
                Some(tick) => self.touched.insert(folder, tick),
                None => self.touched.remove(&folder),
            };
        }
        self.counted = mark.counted;
    }

    /// Writes the counters that moved, as the last thing before the commit; with `barrier` something is written in any
    /// case, since a commit without a frame syncs nothing.
    pub(super) fn write_counters(&mut self, barrier: bool) -> Result<()> {
        if barrier || self.counted.items != 0 || self.counted.bytes != 0 {
            self.run(
                "UPDATE counter SET items = items + ?1, barriers = barriers + ?3,
                     bytes = min(max(bytes + ?2, -4611686018427387904), 4611686018427387904)",
                (self.counted.items, self.counted.bytes, barrier),
            )?;
        }
        Ok(())
    }

    /// What will have changed at the commit, without whom it wakes.
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Begins anew after a commit; answers what changed.
    pub(super) fn committed(&mut self) -> Vec<Change> {
        self.settle_counts();
        self.touched_before.clear();
        self.counted.items = 0;
        self.counted.bytes = 0;
        self.removed.drain(..).for_each(|folder| self.reader.memory.note_removed(folder));
        let mut changes = std::mem::take(&mut self.changes);
        let woken = std::mem::take(&mut self.woken);
        changes.extend(woken.outbox.then_some(Change::Outbox));
        changes.extend(woken.listing.then_some(Change::Listing));
        changes.extend(woken.pins.then_some(Change::Pins));
        changes
    }

    /// Records a change. What only wakes somebody is recorded once.
    pub(super) fn tell(&mut self, change: Change) {
        match change {
            Change::Outbox => self.woken.outbox = true,
            Change::Listing => self.woken.listing = true,
            Change::Pins => self.woken.pins = true,
            Change::Rescued { ino, generation } => {
                self.rescued.push((ino, generation));
                self.changes.push(change);
            }
            Change::Forgotten { ino, generation } if self.rescued.contains(&(ino, generation)) => {}
            other => self.changes.push(other),
        }
    }

    /// Records changed attributes, unless the kernel asked for them.
    pub(super) fn tell_attributes(&mut self, ino: Ino) {
        if self.origin == Origin::Engine {
            self.tell(Change::Attributes(ino));
        }
    }

    /// Whether this change gave out that name for a conflict copy.
    pub(super) fn gave_conflict_name(&self, folder: Ino, name: &Name) -> bool {
        self.conflict_names.iter().any(|place| place.parent == folder && place.name == *name)
    }

    /// Counts items and bytes that came (or went, when negative).
    pub(super) fn count(&mut self, items: i64, bytes: i64) {
        self.counted.items += items;
        // What a remote says of sizes may be anything.
        self.counted.bytes = self.counted.bytes.saturating_add(bytes);
    }

    /// The next tick. The row says which may have been given out, so that none is given twice after a restart.
    pub(super) fn next_tick(&mut self) -> Result<Tick> {
        if self.tick >= self.counted.ticks {
            let ticks = self.tick + TICKS;
            self.run("UPDATE counter SET ticks = ?1", [ticks.cast_signed()])?;
            self.counted.ticks = ticks;
        }
        let tick = Tick(self.tick);
        self.tick += 1;
        Ok(tick)
    }

    pub(super) fn touched_at(&self, folder: Ino) -> Tick {
        self.touched.get(&folder).copied().unwrap_or_default()
    }

    pub(super) fn touch_now(&mut self, folder: Ino) -> Result<()> {
        let tick = self.next_tick()?;
        let before = self.touched.insert(folder, tick);
        self.touched_before.push((folder, before));
        Ok(())
    }
}
