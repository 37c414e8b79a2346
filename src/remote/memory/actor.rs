//! Somebody else at the store: verbs for tests that change the tree at once, without faults, gates or counts.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::store::{MemoryStore, path};
use super::tree::Put;
use crate::remote::{Expect, Extended, Observed, RemotePath, Result};

impl MemoryStore {
    /// Writes a file, whatever was there.
    pub fn put(&self, at: &str, content: impl Into<Bytes>) -> Result<Observed> {
        let put =
            Put { content: content.into(), mtime: None, mode: None, extended: Extended::default() };
        self.act(|tree| tree.write(&path(at), put, &Expect::Any))
    }

    /// The same, and what was there in that moment.
    pub fn swap(&self, at: &str, content: impl Into<Bytes>) -> Result<Option<Bytes>> {
        let put =
            Put { content: content.into(), mtime: None, mode: None, extended: Extended::default() };
        self.act(|tree| {
            let held = tree.entries.get(&path(at)).map(|entry| entry.content.clone());
            tree.write(&path(at), put, &Expect::Any)?;
            Ok(held)
        })
    }

    /// What is held of a file besides content and mode, if it is there.
    pub fn extended(&self, at: &str) -> Option<Extended> {
        self.tree().entries.get(&path(at)).map(|entry| entry.extended.clone())
    }

    /// Makes a folder.
    pub fn mkdir(&self, at: &str) -> Result<Observed> {
        self.act(|tree| tree.make_folder(&path(at)))
    }

    /// Removes a file or a folder with all in it.
    pub fn rm(&self, at: &str) -> Result<()> {
        self.act(|tree| tree.remove(&path(at), &Expect::Any, true))
    }

    /// The same of a file, and what it held in that moment.
    pub fn take(&self, at: &str) -> Result<Bytes> {
        self.act(|tree| {
            let held = tree.entries.get(&path(at)).map(|entry| entry.content.clone());
            tree.remove(&path(at), &Expect::Any, true)?;
            Ok(held.unwrap_or_default())
        })
    }

    /// Moves a file or a folder; never replaces.
    pub fn mv(&self, from: &str, to: &str) -> Result<Observed> {
        self.act(|tree| tree.rename(&path(from), &path(to), &Expect::Any, false))
    }

    /// Moves a file or a folder over whatever is there.
    pub fn mv_over(&self, from: &str, to: &str) -> Result<Observed> {
        self.act(|tree| tree.rename(&path(from), &path(to), &Expect::Any, true))
    }

    /// Takes everything away as an unmounted disk does: nobody is told. With `root` the root stays, empty.
    pub fn take_away(&self, root: bool) {
        let mut tree = self.tree();
        let all = std::mem::take(&mut tree.entries);
        if root && let Some(top) = all.get(&RemotePath::root()).cloned() {
            tree.entries.insert(RemotePath::root(), top);
        }
        tree.away = Some(all);
    }

    /// Brings everything back that was taken away; what came meanwhile is gone.
    pub fn bring_back(&self) {
        let mut tree = self.tree();
        if let Some(all) = tree.away.take() {
            tree.entries = all;
        }
    }

    /// Does not say any more who it is, as plain WebDAV servers do not.
    pub fn be_nameless(&self) {
        self.tree().nameless = true;
    }

    /// Says from now on that it is another one.
    pub fn become_another(&self, seed: u64) {
        self.tree().options.seed = seed;
    }

    /// What is there now, without a request.
    pub fn peek(&self, at: &str) -> Option<Observed> {
        self.tree().stat(&path(at))
    }

    /// The bytes of a file, without a request.
    pub fn content(&self, at: &str) -> Option<Bytes> {
        self.tree().entries.get(&path(at)).map(|entry| entry.content.clone())
    }

    /// Everything but the root: files with their bytes, folders with `None`. Private names are in it, too.
    pub fn snapshot(&self) -> BTreeMap<RemotePath, Option<Bytes>> {
        let tree = self.tree();
        let entries = tree.entries.iter().filter(|(path, _)| !path.is_root());
        entries
            .map(|(path, entry)| {
                let is_file = entry.kind == crate::remote::Kind::File;
                (path.clone(), is_file.then(|| entry.content.clone()))
            })
            .collect()
    }

    /// The same with paths like `a/b`.
    pub fn snapshot_text(&self) -> BTreeMap<String, Option<Bytes>> {
        let text = |path: RemotePath| path.to_string().trim_start_matches('/').to_owned();
        self.snapshot().into_iter().map(|(path, content)| (text(path), content)).collect()
    }
}
