//! The tree of a memory store and the requests that a server answers in one step.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::fault::{FaultRule, Gate, HintFaults, Operation, RandomFaults};
use super::store::{MemoryOptions, VersionKind};
use crate::remote::{
    Digest, ErrorKind, Expect, Extended, Hint, Kind, Name, Observed, RemoteError, RemoteId,
    RemotePath, Result, Version,
};

/// Is one entry of the tree.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) version: String,
    /// The store's clock when the version was given.
    pub(super) since: u64,
    pub(super) content: Bytes,
    pub(super) id: u64,
    pub(super) mtime: i64,
    pub(super) mode: Option<u32>,
    pub(super) extended: Extended,
}

impl Entry {
    /// Has what was set besides its content; what was not stays.
    pub(super) fn set(&mut self, mode: Option<u32>, extended: &Extended) {
        self.mode = mode.or(self.mode);
        let held = &mut self.extended;
        held.uid = extended.uid.or(held.uid);
        held.gid = extended.gid.or(held.gid);
        for (name, value) in &extended.attributes {
            match value {
                Some(_) => drop(held.attributes.insert(name.clone(), value.clone())),
                None => drop(held.attributes.remove(name)),
            }
        }
    }
}

/// Is a request believed lost.
pub(super) type Late = Box<dyn FnOnce(&mut Tree) + Send>;

/// Is what an upload puts into the tree.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) content: Bytes,
    pub(super) mtime: Option<i64>,
    pub(super) mode: Option<u32>,
    pub(super) extended: Extended,
}

/// Is all that a memory store knows.
pub(super) struct Tree {
    pub(super) options: MemoryOptions,
    pub(super) entries: BTreeMap<RemotePath, Entry>,
    pub(super) clock: u64,
    counter: u64,
    pub(super) random: fastrand::Rng,
    pub(super) hints: Vec<Hint>,
    pub(super) forgotten: usize,
    free_ids: Vec<u64>,
    pub(super) rules: Vec<FaultRule>,
    pub(super) random_faults: Option<RandomFaults>,
    pub(super) hint_faults: HintFaults,
    pub(super) gate: Option<Gate>,
    pub(super) late: VecDeque<Late>,
    pub(super) counts: BTreeMap<Operation, u64>,
    pub(super) online: bool,
    /// What was taken away for a while.
    pub(super) away: Option<BTreeMap<RemotePath, Entry>>,
    /// It does not say who it is.
    pub(super) nameless: bool,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

pub(super) fn fail<T>(kind: ErrorKind, operation: Operation, at: &RemotePath) -> Result<T> {
    Err(RemoteError::new(kind, operation.words(), at))
}

impl Tree {
    pub(super) fn new(options: MemoryOptions) -> Self {
        let mut tree = Self {
            random: fastrand::Rng::with_seed(options.seed),
            options,
            entries: BTreeMap::new(),
            clock: 1,
            counter: 0,
            hints: Vec::new(),
            forgotten: 0,
            free_ids: Vec::new(),
            rules: Vec::new(),
            random_faults: None,
            hint_faults: HintFaults::default(),
            gate: None,
            late: VecDeque::new(),
            counts: BTreeMap::new(),
            online: true,
            away: None,
            nameless: false,
        };
        let root = tree.new_entry(Kind::Folder, Bytes::new(), None);
        tree.entries.insert(RemotePath::root(), root);
        tree
    }

    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn new_id(&mut self) -> u64 {
        let reused = if self.options.reuse_ids { self.free_ids.pop() } else { None };
        reused.unwrap_or_else(|| self.next())
    }

    pub(super) fn new_version(&mut self, id: u64) -> String {
        match self.options.versions {
            VersionKind::Unique => format!("v{}", self.next()),
            VersionKind::TickAndIdentity => format!("t{}-{id}", self.clock),
            VersionKind::Tick => format!("t{}", self.clock),
        }
    }

    fn new_entry(&mut self, kind: Kind, content: Bytes, old: Option<&Entry>) -> Entry {
        let id = old.map_or_else(|| self.new_id(), |old| old.id);
        let version = match kind {
            Kind::Folder => String::new(),
            _ => self.new_version(id),
        };
        let extended = old.map(|old| old.extended.clone()).unwrap_or_default();
        let mtime = i64::try_from(self.clock).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        Entry { kind, version, since: self.clock, content, id, mtime, mode: None, extended }
    }

    pub(super) fn observe(&self, entry: &Entry) -> Observed {
        let digest = || Digest {
            size: entry.content.len() as u64,
            hash: *blake3::hash(&entry.content).as_bytes(),
        };
        Observed {
            kind: entry.kind,
            size: entry.content.len() as u64,
            mtime: Some(entry.mtime),
            version: Version(entry.version.clone()),
            settled: self.options.versions == VersionKind::Unique
                || entry.kind == Kind::Folder
                || entry.since < self.clock,
            id: self.options.stable_ids.then(|| RemoteId(format!("id{}", entry.id))),
            digest: (self.options.digests && entry.kind == Kind::File).then(digest),
            mode: entry.mode,
            extra: None,
        }
    }

    pub(super) fn stat(&self, at: &RemotePath) -> Option<Observed> {
        self.entries.get(at).map(|entry| self.observe(entry))
    }

    pub(super) fn is_folder(&self, at: &RemotePath) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.kind == Kind::Folder)
    }

    fn below<'a>(&'a self, at: &'a RemotePath) -> impl Iterator<Item = &'a RemotePath> {
        self.entries
            .range(at.clone()..)
            .map(|(path, _)| path)
            .take_while(move |path| path.starts_with(at))
    }

    pub(super) fn children(&self, folder: &RemotePath) -> Vec<Name> {
        let depth = folder.0.len() + 1;
        let deep = |path: &&RemotePath| path.0.len() == depth;
        self.below(folder).filter(deep).filter_map(|path| path.name().cloned()).collect()
    }

    /// The names of a folder in an order that the seed and this listing shuffle; equal for all pages of one listing.
    pub(super) fn shuffled(&self, folder: &RemotePath, listing: u64) -> Vec<(u64, Name)> {
        let key = |name: &Name| {
            let mut hasher = DefaultHasher::new();
            (self.options.seed, listing, name).hash(&mut hasher);
            hasher.finish()
        };
        let mut names: Vec<_> =
            self.children(folder).into_iter().map(|name| (key(&name), name)).collect();
        names.sort();
        names
    }

    pub(super) fn hint(&mut self, at: &RemotePath) {
        let HintFaults { duplicate, drop, .. } = self.hint_faults;
        if self.random.u32(0..1000) < drop {
            return;
        }
        let hint = match at.parent() {
            Some(folder) if self.options.folder_hints => Hint::Folder(folder),
            _ => Hint::Entry(at.clone()),
        };
        self.hints.push(hint.clone());
        if self.random.u32(0..1000) < duplicate {
            self.hints.push(hint);
        }
    }

    pub(super) fn check(&self, op: Operation, at: &RemotePath, expect: &Expect) -> Result<()> {
        let entry = self.entries.get(at);
        match (expect, entry) {
            (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
            (Expect::Absent, Some(_)) => fail(ErrorKind::AlreadyExists, op, at),
            (_, None) => fail(ErrorKind::NotFound, op, at),
            (Expect::Folder, Some(entry)) if entry.kind == Kind::Folder => Ok(()),
            (Expect::Version(version), Some(entry))
                if entry.kind == Kind::File && entry.version == version.0 =>
            {
                Ok(())
            }
            _ => fail(ErrorKind::VersionMismatch, op, at),
        }
    }

    pub(super) fn need_parent(&self, op: Operation, at: &RemotePath) -> Result<()> {
        match at.parent() {
            Some(parent) if self.is_folder(&parent) => Ok(()),
            Some(_) => fail(ErrorKind::NoParent, op, at),
            None => fail(ErrorKind::Denied, op, at),
        }
    }

    pub(super) fn write(&mut self, at: &RemotePath, put: Put, expect: &Expect) -> Result<Observed> {
        let op = Operation::Write;
        self.need_parent(op, at)?;
        self.check(op, at, expect)?;
        let old = self.entries.get(at).cloned();
        if old.as_ref().is_some_and(|old| old.kind == Kind::Folder) {
            return fail(ErrorKind::AlreadyExists, op, at);
        }
        let mut entry = self.new_entry(Kind::File, put.content, old.as_ref());
        entry.mtime = put.mtime.unwrap_or(entry.mtime);
        entry.mode = old.and_then(|old| old.mode);
        entry.set(put.mode, &put.extended);
        let seen = self.observe(&entry);
        self.entries.insert(at.clone(), entry);
        self.hint(at);
        Ok(seen)
    }

    pub(super) fn make_folder(&mut self, at: &RemotePath) -> Result<Observed> {
        let op = Operation::MakeFolder;
        self.need_parent(op, at)?;
        self.check(op, at, &Expect::Absent)?;
        let entry = self.new_entry(Kind::Folder, Bytes::new(), None);
        let seen = self.observe(&entry);
        self.entries.insert(at.clone(), entry);
        self.hint(at);
        Ok(seen)
    }

    /// Removes with all in it if `recursive`.
    pub(super) fn remove(
        &mut self,
        at: &RemotePath,
        expect: &Expect,
        recursive: bool,
    ) -> Result<()> {
        let op = Operation::Remove;
        if at.is_root() {
            return fail(ErrorKind::Denied, op, at);
        }
        if !self.entries.contains_key(at) {
            return fail(ErrorKind::NotFound, op, at);
        }
        self.check(op, at, expect)?;
        let all: Vec<_> = self.below(at).cloned().collect();
        if all.len() > 1 && !recursive {
            return fail(ErrorKind::NotEmpty, op, at);
        }
        for path in all {
            if let Some(gone) = self.entries.remove(&path) {
                self.free_ids.push(gone.id);
            }
            self.hint(&path);
        }
        Ok(())
    }

    /// Moves with all in it; what is at `to` is destroyed if `replace`.
    pub(super) fn rename(
        &mut self,
        from: &RemotePath,
        to: &RemotePath,
        expect: &Expect,
        replace: bool,
    ) -> Result<Observed> {
        let op = Operation::Rename;
        if !self.entries.contains_key(from) {
            return fail(ErrorKind::NotFound, op, from);
        }
        self.check(op, from, expect)?;
        self.need_parent(op, to)?;
        if to.starts_with(from) && to != from {
            return fail(ErrorKind::NameRejected, op, from);
        }
        if self.entries.contains_key(to) {
            if !replace || to == from {
                return fail(ErrorKind::AlreadyExists, op, to);
            }
            self.remove(to, &Expect::Any, true)?;
        }
        let all: Vec<_> = self.below(from).cloned().collect();
        for path in all {
            let Some(entry) = self.entries.remove(&path) else { continue };
            let mut moved = to.clone();
            moved.0.extend(path.0.iter().skip(from.0.len()).cloned());
            self.hint(&path);
            self.hint(&moved);
            self.entries.insert(moved, entry);
        }
        match self.stat(to) {
            Some(seen) => Ok(seen),
            None => fail(ErrorKind::NotFound, op, to),
        }
    }
}
