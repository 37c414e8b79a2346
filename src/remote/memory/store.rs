//! The store: its options, its clock, its faults, and the handles it gives out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::client::MemoryRemote;
use super::fault::{FaultRule, Gate, HintFaults, Operation, RandomFaults};
use super::tree::Tree;
use crate::remote::{Conditional, FeedKind, Name, RemotePath};

/// Says what the store's versions are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionKind {
    /// Never twice the same.
    Unique,
    /// The store's clock and which file it is, as mtime and inode make them: unsettled until the clock ticks.
    TickAndIdentity,
    /// Only the store's clock, as bare mtimes make them: unsettled until the clock ticks.
    Tick,
}

/// Says how a store behaves.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// Shuffles listings and throws the dice for faults.
    pub seed: u64,
    /// How sure its conditions are.
    pub conditional: Conditional,
    /// What its versions are made of.
    pub versions: VersionKind,
    /// Whether entries keep an identity.
    pub stable_ids: bool,
    /// Whether the identity of something removed is given to the next new thing.
    pub reuse_ids: bool,
    /// Whether it tells the digest of files.
    pub digests: bool,
    /// Whether hints name the folder instead of the entry.
    pub folder_hints: bool,
    /// Entries in a page of a listing.
    pub page: usize,
    /// Hints in a page of changes.
    pub hint_page: usize,
    /// Bytes in a piece of a stream.
    pub piece: usize,
    /// How changes are learnt: `Push`, `Poll` or `None`.
    pub feed: FeedKind,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether a file whose times or mode are set gets another version.
    pub metadata_versions: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            conditional: Conditional::Atomic,
            versions: VersionKind::Unique,
            stable_ids: false,
            reuse_ids: false,
            digests: false,
            folder_hints: false,
            page: 2,
            hint_page: 4,
            piece: 16 * 1024,
            feed: FeedKind::Push,
            writable: true,
            metadata_versions: false,
        }
    }
}

/// Is a remote's tree in memory, shared by all its handles.
#[derive(Debug)]
pub struct MemoryStore {
    tree: Mutex<Tree>,
    handles: Mutex<u64>,
    pub(super) moved: watch::Sender<u64>,
}

/// The path of a text like `a/b`; `""` is the root. What is no legal name is left out.
pub fn path(text: &str) -> RemotePath {
    RemotePath(text.split('/').filter_map(|name| Name::new(name).ok()).collect())
}

impl MemoryStore {
    /// An empty store.
    pub fn new(options: MemoryOptions) -> Arc<Self> {
        Arc::new(Self {
            tree: Mutex::new(Tree::new(options)),
            handles: Mutex::new(0),
            moved: watch::Sender::new(0),
        })
    }

    /// A new handle: online, not cut off.
    pub fn remote(self: &Arc<Self>) -> MemoryRemote {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        *handles += 1;
        MemoryRemote::new(Arc::clone(self), *handles)
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one thing to the tree and wakes the watchers if it left hints.
    pub(super) fn act<T>(&self, act: impl FnOnce(&mut Tree) -> T) -> T {
        let mut tree = self.tree();
        let before = tree.hints.len();
        let result = act(&mut tree);
        let after = tree.hints.len();
        drop(tree);
        if after != before {
            self.moved.send_modify(|count| *count += 1);
        }
        result
    }

    /// Lets the store's clock tick once: what was young is settled.
    pub fn tick(&self) {
        self.tree().clock += 1;
    }

    /// What the store's options are now, to be changed.
    pub fn configure(&self, change: impl FnOnce(&mut MemoryOptions)) {
        change(&mut self.tree().options);
    }

    /// Adds a scripted fault; rules strike in the order they were added, one for a request.
    pub fn inject(&self, rule: FaultRule) {
        self.tree().rules.push(rule);
    }

    /// Sets or ends random faults.
    pub fn random_faults(&self, faults: Option<RandomFaults>) {
        self.tree().random_faults = faults;
    }

    /// Sets how hints come wrong from now on.
    pub fn hint_faults(&self, faults: HintFaults) {
        self.tree().hint_faults = faults;
    }

    /// Ends all faults, opens the gate and brings the store online. Late requests stay late.
    pub fn heal(&self) {
        let mut tree = self.tree();
        tree.rules.clear();
        tree.random_faults = None;
        tree.hint_faults = HintFaults::default();
        tree.gate = None;
        tree.online = true;
    }

    /// Puts every request through this gate, or opens it.
    pub fn gate(&self, gate: Option<Gate>) {
        self.tree().gate = gate;
    }

    /// Parts the store from everybody (`Offline` for all), or ends that.
    pub fn set_online(&self, online: bool) {
        self.tree().online = online;
    }

    /// Forgets the hints so far: older cursors are expired.
    pub fn expire_cursors(&self) {
        let mut tree = self.tree();
        tree.hints.push(crate::remote::Hint::Folder(RemotePath::root()));
        tree.forgotten = tree.hints.len();
    }

    /// Lets the oldest request believed lost arrive after all; whether there was one.
    pub fn deliver_late(&self) -> bool {
        let late = self.tree().late.pop_front();
        match late {
            Some(request) => {
                self.act(request);
                true
            }
            None => false,
        }
    }

    /// How many requests of each kind all handles sent.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        self.tree().counts.clone()
    }

    /// How many requests all handles sent.
    pub fn requests(&self) -> u64 {
        self.tree().counts.values().sum()
    }

    /// How long two changes may share a version; what the capabilities say.
    pub(super) fn version_tick(&self) -> Duration {
        match self.tree().options.versions {
            VersionKind::Unique => Duration::ZERO,
            _ => Duration::from_secs(1),
        }
    }
}
