//! The sync machine: programs, somebody else at the remote, lost requests and answers, cut lines, crashes, over the real
//! engine, a remote in memory and a directory. At rest every tree is the same, every file is one content as a whole, and
//! every acknowledged content is there, or was replaced or removed by somebody who saw it.
//!
//! A history is a list of events written from a seed alone (`script`). `DEWFS_SEED` replays one, `DEWFS_KEEP=0,3,4` only
//! these events of it, `DEWFS_REPEAT` so often; `DEWFS_HISTORIES` says how many are run altogether, `DEWFS_FIRST` from which
//! seed on, `DEWFS_PROFILE` of which profile. What fails is shrunk to few events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::needless_pass_by_value)]

#[path = "../support/mod.rs"]
mod support;

mod flaky;
mod ledger;
mod machine;
mod others;
mod process;
mod profile;
mod rest;
mod rules;
mod run;
mod script;
mod there;
mod verbs;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dewfs::engine::{
    Answer, Engine, EngineError, Handle, RenameMode, SetAttributes, Settings, SyncState,
};
use dewfs::model::{Content, Ino, Kind, Name};
use dewfs::remote::memory::{Gate, HintFaults, MemoryStore, Moment, Operation, Step, VersionKind};
use dewfs::remote::{Conditional, FeedKind};
use futures_util::FutureExt as _;
use support::world::{ME, READ, WRITE, name, split};

use ledger::{Patched, label, note_version};
use process::Process;
use profile::PROFILES;
use script::{Act, Author, Event, Fill, Verb};
use there::{Line, There};

#[derive(Clone, Copy, Debug)]
struct Profile {
    name: &'static str,
    /// How many of all histories are of this one, as a weight.
    share: u64,
    engines: usize,
    actor: f64,
    faults: u32,
    crashes: f64,
    /// The remote is a directory.
    folder: bool,
    ids: bool,
    versions: VersionKind,
    conditional: Conditional,
    saves: bool,
    hints: HintFaults,
    expire: bool,
    /// Requests believed lost arrive later.
    late: bool,
    /// Lines are cut and mended.
    lines: bool,
    feed: FeedKind,
    /// Some names are kept local only.
    excludes: bool,
    /// Files are held open over several events.
    handles: bool,
    /// Names are exchanged, and files that are not here are written in part.
    editors: bool,
    /// Content is freed, and read in part.
    frees: bool,
    /// Times are set.
    touches: bool,
    cache_size: u64,
}

/// A seventh of the time of a history was glibc's `malloc`; SQLite's is replaced with it.
#[global_allocator]
static MALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Is an engine with its way to the remote and its state directory.
struct Desk {
    engine: Engine,
    line: Line,
    state: Arc<tempfile::TempDir>,
    process: Process,
}

/// Is a file held open over several events.
struct Held {
    who: usize,
    ino: Ino,
    handle: Handle,
    writer: bool,
    /// What was in it when it was opened to be read.
    content: Option<Vec<u8>>,
}

/// Who wrote which content over which, and what was destroyed by somebody who saw it; contents by their first word.
#[derive(Default)]
struct Ledger {
    children: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    gone: HashSet<Vec<u8>>,
    acknowledged: Vec<Vec<u8>>,
    /// Versions overwritten (by this content) or removed unread: whatever they stand for.
    blind: Vec<(String, Option<Vec<u8>>)>,
}

/// Which contents each version at the remote stands for.
type Versions = Mutex<HashMap<String, Vec<Vec<u8>>>>;

struct Machine {
    profile: Profile,
    there: There,
    desks: Vec<Option<Desk>>,
    ledger: Ledger,
    versions: Arc<Versions>,
    /// Each content as a whole, by its first word.
    whole: HashMap<String, Vec<u8>>,
    /// What each content may be instead, by its first word: it was written over a step of another one.
    also: HashMap<String, Vec<Vec<u8>>>,
    /// What each content was on the way, by its first word.
    steps: HashMap<String, Vec<Vec<u8>>>,
    /// Contents of which nobody was told that they are whole.
    doubtful: HashSet<String>,
    /// Events and requests, as they happened.
    history: Arc<Mutex<Vec<String>>>,
    /// A user hit something else than they looked at: nobody can tell what they meant to destroy.
    unsure: bool,
    held: Vec<Held>,
    /// How long it may take to come to rest.
    patience: Duration,
    /// What is still to happen.
    ahead: VecDeque<Event>,
    /// Whether it is asked from the start what is pending below folders: then that is kept, and compared with the rows.
    counts: bool,
}
