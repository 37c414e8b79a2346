//! Tests of the room through its own door, and of what only SQLite can tell.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod files;
mod find;
mod listing;
mod memo;
mod names;
mod opening;
mod pending;
mod plans;
mod sync;
mod writing;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::{
    Base, Content, Digest, Edition, Generation, Kind, Name, Observed, OutboxRow, Place, RemoteId,
    Rows, Stamp, Tick, Version,
};

/// Answers what is set; names that end in `~` are kept local only.
struct World {
    exclude: Exclude,
    handles: Mutex<HashMap<Ino, Handles>>,
    asked_for_room: AtomicU32,
    has_ballast: AtomicBool,
    stale: Mutex<Vec<Change>>,
    /// What is looked at before each commit, and what was seen there of the root.
    counts: Mutex<Option<PendingCounts>>,
    counted: Mutex<Vec<u64>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            exclude: Exclude::new(&["*~"]),
            handles: Mutex::default(),
            asked_for_room: AtomicU32::default(),
            has_ballast: AtomicBool::default(),
            stale: Mutex::default(),
            counts: Mutex::default(),
            counted: Mutex::default(),
        }
    }
}

impl Memory for World {
    fn handles(&self, ino: Ino) -> Handles {
        self.handles.lock().unwrap().get(&ino).copied().unwrap_or_default()
    }

    fn exclude(&self) -> &Exclude {
        &self.exclude
    }

    fn before_commit(&self, changes: &[Change]) {
        self.stale.lock().unwrap().extend_from_slice(changes);
        let counts = self.counts.lock().unwrap();
        let seen = counts.iter().map(|counts| counts.below(Ino::ROOT));
        self.counted.lock().unwrap().extend(seen);
    }

    fn on_disk_full(&self) -> bool {
        self.asked_for_room.fetch_add(1, Ordering::SeqCst);
        self.has_ballast.swap(false, Ordering::SeqCst)
    }
}

struct Bench {
    catalog: Catalog,
    world: Arc<World>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::of(World::default())
    }

    fn of(world: World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.db");
        let world = Arc::new(world);
        let catalog = Catalog::open(&path, world.clone()).unwrap();
        Self { catalog, world, path, _folder: folder }
    }

    fn reopen(&mut self) {
        self.catalog.close();
        self.catalog = Catalog::open(&self.path, self.world.clone()).unwrap();
    }

    fn engine<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tx) -> Result<T> + Send + 'static,
    ) -> T {
        self.catalog.write_blocking(Durability::Soon, Origin::Engine, change).unwrap()
    }

    fn kernel<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tx) -> Result<T> + Send + 'static,
    ) -> T {
        self.catalog.write_blocking(Durability::Soon, Origin::Kernel, change).unwrap()
    }

    fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T>) -> T {
        self.catalog.read(read).unwrap()
    }

    fn inode(&self, ino: Ino) -> Inode {
        self.read(|reader| reader.inode(ino)).unwrap()
    }

    fn create(&self, parent: Ino, name: &str, kind: Kind) -> Inode {
        let new = new(parent, name, kind);
        self.kernel(move |tx| tx.create(new))
    }

    /// A file or folder that the remote has and that is in sync.
    fn appear(&self, parent: Ino, name: &str, seen: Observed) -> Ino {
        let place = place(parent, name);
        self.engine(move |tx| appear(tx, place, &seen))
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn place(parent: Ino, text: &str) -> Place {
    Place::new(parent, name(text))
}

fn new(parent: Ino, text: &str, kind: Kind) -> NewInode {
    NewInode {
        kind,
        place: place(parent, text),
        mode: 0o644,
        uid: None,
        gid: None,
        now: 1_000,
        target: (kind == Kind::Symlink).then(|| b"else/where".to_vec()),
        rests: None,
    }
}

fn seen(kind: Kind, size: u64) -> Observed {
    Observed {
        kind,
        size,
        mtime: Some(77),
        version: Version("v1".to_owned()),
        settled: true,
        id: None,
        digest: None,
        mode: None,
        extra: None,
    }
}

fn based(place: Place, edition: Edition, size: u64) -> Base {
    Base {
        place,
        version: Version("v1".to_owned()),
        id: None,
        edition,
        known: None,
        young: false,
        listed: false,
        size,
        extra: None,
    }
}

fn appear(tx: &mut Tx, place: Place, seen: &Observed) -> Result<Ino> {
    let ino = tx.new_node(seen)?;
    let edition = tx.node(ino)?.unwrap().edition;
    tx.set_local(ino, Some(place.clone()))?;
    tx.set_base(ino, Some(based(place, edition, seen.size)))?;
    Ok(ino)
}
