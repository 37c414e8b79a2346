#![allow(unused_variables, unused_imports, dead_code)]
//! What the catalog answers about names, places and inodes.

use super::{DirEntry, Event, Inode, Reader, Result};
use crate::model::{Ino, Name, Place, RemotePath};

impl Reader {
    /// The inode of this number.
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>> {
        todo!()
    }

    /// Who has this name in this folder.
    pub fn lookup(&self, parent: Ino, name: &Name) -> Result<Option<Inode>> {
        todo!()
    }

    /// The entries of a folder in the order of their numbers, those beyond `after`.
    pub fn read_dir(&self, folder: Ino, after: Ino, limit: usize) -> Result<Vec<DirEntry>> {
        todo!()
    }

    /// Whether anything is in this folder here.
    pub fn has_entries(&self, folder: Ino) -> Result<bool> {
        todo!()
    }

    /// Whether all names of this folder are known: it has no base, or its base is listed.
    pub fn is_listed(&self, folder: Ino) -> Result<bool> {
        todo!()
    }

    /// Where users see it, as names from the root; `None` if it or a folder above has no place.
    pub fn local_path(&self, ino: Ino) -> Result<Option<Vec<Name>>> {
        todo!()
    }

    /// Whether it or a folder above it has a name that is kept local only.
    pub fn is_below_excluded(&self, ino: Ino) -> Result<bool> {
        todo!()
    }

    /// Whether something placed here would be kept local only by its name or a folder above.
    pub fn is_excluded_place(&self, place: &Place) -> Result<bool> {
        todo!()
    }

    /// Where the remote has it; `None` without base.
    pub fn base_path(&self, ino: Ino) -> Result<Option<RemotePath>> {
        todo!()
    }

    /// The remote path of a base place; `None` if its folder has no base.
    pub fn base_path_of(&self, place: &Place) -> Result<Option<RemotePath>> {
        todo!()
    }

    /// Whose base is at this remote path.
    pub fn by_base_path(&self, path: &RemotePath) -> Result<Option<Ino>> {
        todo!()
    }

    /// Inodes that nothing names any more: no local place, no base, no outbox row (kept only while open).
    pub fn unnamed(&self, limit: usize) -> Result<Vec<Ino>> {
        todo!()
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
        todo!()
    }

    /// The names of all extended attributes.
    pub fn xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        todo!()
    }

    /// What happened to an inode, oldest first; the last 50 things are kept.
    pub fn history(&self, ino: Ino) -> Result<Vec<Event>> {
        todo!()
    }
}
