//! The remote of a history as somebody else sees it: a store in memory, or a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dewfs::remote::folder::FolderRemote;
use dewfs::remote::memory::{Fault, MemoryOptions, MemoryRemote, MemoryStore, RandomFaults};
use dewfs::remote::{ErrorKind, FeedKind, Kind, Remote};
use tempfile::TempDir;

use super::Profile;
use super::flaky::{Dice, Flaky};

/// Is where everything is sent to.
pub(super) enum There {
    Memory(Arc<MemoryStore>),
    /// With whether nobody tells of changes.
    Folder(TempDir, Arc<Dice>, bool),
}

/// Is one engine's way to the remote.
#[derive(Clone)]
pub(super) struct Line {
    way: Flaky,
    /// What knows by itself when it is away.
    memory: Option<MemoryRemote>,
}

impl Line {
    pub(super) fn remote(&self) -> Arc<dyn Remote> {
        Arc::new(self.way.clone())
    }

    /// For ever, as a crash does.
    pub(super) fn cut_off(&self) {
        match &self.memory {
            Some(remote) => remote.cut_off(),
            None => self.way.cut_off(),
        }
        self.way.hold(false);
    }

    pub(super) fn set_online(&self, online: bool) {
        match &self.memory {
            Some(remote) => remote.set_online(online),
            None => self.way.set_online(online),
        }
    }

    /// Lets no change begin, or lets those that wait go on.
    pub(super) fn hold(&self, held: bool) {
        self.way.hold(held);
    }
}

impl There {
    pub(super) fn new(profile: Profile, seed: u64, scratch: &Path) -> Self {
        if profile.folder {
            let dir = tempfile::tempdir_in(scratch).unwrap();
            std::fs::create_dir(dir.path().join("remote")).unwrap();
            return Self::Folder(dir, Dice::new(seed), profile.feed == FeedKind::None);
        }
        Self::Memory(MemoryStore::new(MemoryOptions {
            seed,
            stable_ids: profile.ids,
            versions: profile.versions,
            conditional: profile.conditional,
            feed: profile.feed,
            metadata_versions: profile.touches && seed.is_multiple_of(2),
            ..MemoryOptions::default()
        }))
    }

    /// A way to it for another incarnation of an engine.
    pub(super) fn line(&self) -> Line {
        match self {
            Self::Memory(store) => {
                let remote = store.remote();
                let way = Flaky::new(Arc::new(remote.clone()), Dice::new(0), false);
                Line { way, memory: Some(remote) }
            }
            Self::Folder(dir, dice, deaf) => {
                let remote = FolderRemote::open(&dir.path().join("remote")).unwrap();
                let way = Flaky::new(Arc::new(remote), dice.clone(), *deaf);
                Line { way, memory: None }
            }
        }
    }

    pub(super) fn store(&self) -> Option<&Arc<MemoryStore>> {
        match self {
            Self::Memory(store) => Some(store),
            Self::Folder(..) => None,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        match self {
            Self::Memory(_) => PathBuf::new(),
            Self::Folder(dir, ..) => dir.path().join("remote").join(path),
        }
    }

    pub(super) fn faults(&self, per_mille: u32, late: bool) {
        match self {
            Self::Memory(store) => {
                let mut faults = vec![
                    Fault::Fail(ErrorKind::Offline),
                    Fault::LoseAnswer,
                    Fault::LoseAnswer,
                    Fault::Fail(ErrorKind::RateLimited { after: Some(Duration::from_millis(2)) }),
                    Fault::Truncate(5),
                    Fault::Delay(Duration::from_millis(3)),
                    Fault::DelayAnswer(Duration::from_millis(3)),
                ];
                faults.extend(late.then_some(Fault::DeliverLate));
                store.random_faults((per_mille > 0).then_some(RandomFaults { per_mille, faults }));
            }
            Self::Folder(_, dice, _) => dice.faults(per_mille),
        }
    }

    /// All that is there; `None` for folders.
    pub(super) fn tree(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        match self {
            Self::Memory(store) => {
                let all = store.snapshot_text().into_iter();
                all.map(|(path, content)| (path, content.map(|bytes| bytes.to_vec()))).collect()
            }
            Self::Folder(..) => {
                let (root, mut tree) = (self.at(""), BTreeMap::new());
                let mut folders = vec![root.clone()];
                while let Some(folder) = folders.pop() {
                    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                        let path = entry.path();
                        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                        if name.contains(".dewfs-tmp.probe.") {
                            continue;
                        }
                        if path.is_dir() {
                            folders.push(path);
                            tree.insert(name, None);
                        } else if let Ok(bytes) = std::fs::read(&path) {
                            tree.insert(name, Some(bytes));
                        }
                    }
                }
                tree
            }
        }
    }

    /// Replaces a file in one step; what it held before, if that is certain.
    pub(super) fn put(&self, path: &str, content: &[u8]) -> Option<Option<Vec<u8>>> {
        match self {
            Self::Memory(store) => {
                // In one step: an engine may write it in this very moment.
                let over = store.swap(path, content.to_vec()).ok()?;
                Some(over.map(|content| content.to_vec()))
            }
            Self::Folder(dir, ..) => {
                let (temp, at) = (dir.path().join("put"), self.at(path));
                std::fs::write(&temp, content).unwrap();
                // Exchanged, so that what was there is known for certain.
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                if at.is_dir() {
                    return None;
                }
                match renameat_with(CWD, &temp, CWD, &at, RenameFlags::NOREPLACE) {
                    Ok(()) => Some(None),
                    Err(_) => {
                        renameat_with(CWD, &temp, CWD, &at, RenameFlags::EXCHANGE).ok()?;
                        let over = std::fs::read(&temp).ok();
                        if over.is_none() {
                            // A folder came in between.
                            renameat_with(CWD, &temp, CWD, &at, RenameFlags::EXCHANGE).unwrap();
                            return None;
                        }
                        Some(over)
                    }
                }
            }
        }
    }

    pub(super) fn mkdir(&self, path: &str) {
        match self {
            Self::Memory(store) => drop(store.mkdir(path)),
            Self::Folder(..) => drop(std::fs::create_dir(self.at(path))),
        }
    }

    /// Removes a file or an empty folder; what the file held.
    pub(super) fn rm(&self, path: &str) -> Option<Vec<u8>> {
        match self {
            Self::Memory(store) => {
                let is_file = store.peek(path).is_some_and(|seen| seen.kind == Kind::File);
                // In one step: an engine may write it in this very moment.
                store.take(path).ok().filter(|_| is_file).map(|content| content.to_vec())
            }
            Self::Folder(dir, ..) => {
                let at = self.at(path);
                if at.is_dir() {
                    drop(std::fs::remove_dir(at));
                    return None;
                }
                let gone = dir.path().join("gone");
                std::fs::rename(at, &gone).ok()?;
                std::fs::read(gone).ok()
            }
        }
    }

    /// Moves a file or a folder; never replaces.
    pub(super) fn mv(&self, from: &str, to: &str) {
        match self {
            Self::Memory(store) => drop(store.mv(from, to)),
            Self::Folder(..) => {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                let (from, to) = (self.at(from), self.at(to));
                let _refused = renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
            }
        }
    }
}
