//! The people's door: a socket where commands and programs ask a mount, and are told.
//!
//! One request is one line of JSON; the answer is documents, one a line, and at last one of type `done` with the exit status
//! that a command should end with. A request that takes long sends `progress` events meanwhile, if that was asked for, and
//! ends when who asked goes away. The daemon decides by peer uid who may do what (`rights`): the mount's owner, `uid=` and
//! root may do everything, others may ask the state of what they may read. Nothing is decided here: each request is one or
//! two verbs of the engine.

mod client;
mod document;
#[cfg(any(test, fuzzing))]
pub mod doors;
mod elsewhere;
mod findings;
mod handler;
mod metrics;
mod note;
mod outcome;
mod pins;
mod protocol;
mod rights;
mod search;
mod server;
mod several;
mod watch;

pub use client::{Answer, Client, ClientError};
pub use document::{
    CacheDocument, FORMAT, Item, Mount, MountFacts, PathText, Quota, Traffic, Trouble, rfc3339,
    to_line,
};
pub use elsewhere::{forget_elsewhere, noted_elsewhere, settle_elsewhere};
pub use findings::{Found, find_daemon, find_daemons};
pub use metrics::MetricsServer;
pub use note::Note;
pub use outcome::{
    Checked, Conflict, Dropped, Event, Fetched, Flow, HeldDocument, History, Pinned, Problem,
    ProtocolDocument, Released, ResolvedDocument, RestoredDocument, SyncDocument, Unmounted,
};
pub use pins::{PinnedItem, RuleDocument};
pub use protocol::{Done, Kept, OLDEST, Order, PausedLane, Request, Scope, VERSION};
pub use search::{FoundDocument, Searched, UsageDocument};
pub use server::{Server, StopSignal};

use std::path::PathBuf;

/// Is what only the program knows of a mount.
#[derive(Clone, Debug)]
pub struct MountInfo {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The specification as given.
    pub remote: String,
    /// What people call it.
    pub name: String,
    /// Its name in the places.
    pub id: String,
    /// Who mounted it.
    pub owner: u32,
    /// The user of `uid=`.
    pub uid: u32,
    /// Whether others are let in (`allow_other`).
    pub others: bool,
}
