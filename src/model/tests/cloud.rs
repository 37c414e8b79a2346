//! A remote in memory for histories: every change is conditional, hints are paths, an answer may get lost.

use std::collections::BTreeMap;

use super::super::*;
use super::tree_rows::digest;

#[derive(Clone, Debug)]
pub struct Entry {
    pub folder: bool,
    /// The clock tick and which file it is, or a number that is never used again.
    pub version: (u64, u64),
    pub content: Option<u32>,
    pub id: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    NotFound,
    Exists,
    Mismatch,
    NotEmpty,
    NoParent,
    Expired,
    IntoItself,
}

#[derive(Clone, Debug)]
pub enum Ask {
    Stat(RemotePath),
    List(RemotePath, Option<Name>),
    Changes(usize),
    Write(RemotePath, u32, Expect),
    MakeFolder(RemotePath),
    Rename(RemotePath, RemotePath, Expect),
    Remove(RemotePath, Expect),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Entry(Option<Observed>),
    Page(Vec<(Name, Observed)>, bool, Option<Version>),
    Hints(Vec<RemotePath>, usize),
}

pub struct Cloud {
    pub coarse: bool,
    pub ids: bool,
    pub reuse_ids: bool,
    pub entries: BTreeMap<RemotePath, Entry>,
    pub clock: u64,
    counter: u64,
    pub hints: Vec<RemotePath>,
    pub forgotten: usize,
    free_ids: Vec<u64>,
    pub removed: Vec<RemotePath>,
    pub late: Vec<Ask>,
    /// Versions of folders move with everything below; there are no hints.
    pub walks: bool,
}

impl Cloud {
    pub fn new(coarse: bool, ids: bool, reuse_ids: bool) -> Self {
        let mut cloud = Self {
            coarse,
            ids,
            reuse_ids,
            entries: BTreeMap::new(),
            clock: 1,
            counter: 0,
            hints: Vec::new(),
            forgotten: 0,
            free_ids: Vec::new(),
            removed: Vec::new(),
            late: Vec::new(),
            walks: false,
        };
        let root = Entry { folder: true, version: (0, 0), content: None, id: None };
        cloud.entries.insert(RemotePath::root(), root);
        cloud
    }

    fn new_id(&mut self) -> Option<u64> {
        self.counter += 1;
        if !self.ids {
            return None;
        }
        Some(self.free_ids.pop().filter(|_| self.reuse_ids).unwrap_or(self.counter))
    }

    fn new_version(&mut self, old: Option<&Entry>) -> (u64, u64) {
        self.counter += 1;
        if self.coarse {
            (self.clock, old.map_or(self.counter, |old| old.version.1))
        } else {
            (0, self.counter)
        }
    }

    pub fn version(entry: &Entry) -> Version {
        Version(format!("{}.{}", entry.version.0, entry.version.1))
    }

    pub fn stat(&self, path: &RemotePath) -> Option<Observed> {
        let entry = self.entries.get(path)?;
        Some(Observed {
            kind: if entry.folder { Kind::Folder } else { Kind::File },
            size: 7,
            mtime: None,
            version: Self::version(entry),
            settled: entry.folder || !self.coarse || entry.version.0 < self.clock,
            id: entry.id.map(|id| RemoteId(format!("id{id}"))),
            digest: entry.content.map(digest),
            mode: None,
            extra: None,
        })
    }

    pub fn children(&self, path: &RemotePath) -> Vec<Name> {
        let below = self.entries.keys().filter(|p| p.parent().as_ref() == Some(path));
        below.filter_map(|p| p.name().cloned()).collect()
    }

    fn list(&self, path: &RemotePath, after: Option<&Name>) -> Result<Answer, Fail> {
        if !self.entries.get(path).is_some_and(|entry| entry.folder) {
            return Err(Fail::NotFound);
        }
        let names: Vec<Name> =
            self.children(path).into_iter().filter(|name| Some(name) > after).collect();
        let last = names.len() <= 2;
        let entry = |name: Name| Some((name.clone(), self.stat(&path.child(name))?));
        let version = self.entries.get(path).filter(|_| self.walks).map(Self::version);
        Ok(Answer::Page(names.into_iter().take(2).filter_map(entry).collect(), last, version))
    }

    fn changed(&mut self, path: &RemotePath) {
        self.hints.push(path.clone());
        let mut above = path.parent().filter(|_| self.walks);
        while let Some(folder) = above {
            self.counter += 1;
            let version = (0, self.counter);
            if let Some(entry) = self.entries.get_mut(&folder) {
                entry.version = version;
            }
            above = folder.parent();
        }
    }

    fn check(&self, path: &RemotePath, expect: &Expect) -> Result<(), Fail> {
        match (self.entries.get(path), expect) {
            (Some(_), Expect::Absent) => Err(Fail::Exists),
            (None, Expect::Absent | Expect::Any) | (Some(_), Expect::Any) => Ok(()),
            (None, _) => Err(Fail::NotFound),
            (Some(entry), Expect::Folder) if entry.folder => Ok(()),
            (Some(entry), Expect::Version(version))
                if !entry.folder && Self::version(entry) == *version =>
            {
                Ok(())
            }
            _ => Err(Fail::Mismatch),
        }
    }

    fn need_parent(&self, path: &RemotePath) -> Result<(), Fail> {
        let parent = path.parent().and_then(|parent| self.entries.get(&parent));
        if parent.is_some_and(|parent| parent.folder) { Ok(()) } else { Err(Fail::NoParent) }
    }

    pub fn write(&mut self, path: &RemotePath, content: u32, expect: &Expect) -> Result<(), Fail> {
        self.need_parent(path)?;
        self.check(path, expect)?;
        let old = self.entries.get(path).cloned();
        if old.as_ref().is_some_and(|old| old.folder) {
            return Err(Fail::Exists);
        }
        let version = self.new_version(old.as_ref());
        let id = match old {
            Some(old) => old.id,
            None => self.new_id(),
        };
        let entry = Entry { folder: false, version, content: Some(content), id };
        self.entries.insert(path.clone(), entry);
        self.changed(path);
        Ok(())
    }

    pub fn make_folder(&mut self, path: &RemotePath) -> Result<(), Fail> {
        self.need_parent(path)?;
        self.check(path, &Expect::Absent)?;
        let (version, id) = (self.new_version(None), self.new_id());
        let entry = Entry { folder: true, version, content: None, id };
        self.entries.insert(path.clone(), entry);
        self.changed(path);
        Ok(())
    }

    pub fn remove(&mut self, path: &RemotePath, expect: &Expect) -> Result<(), Fail> {
        if !self.entries.contains_key(path) {
            return Err(Fail::NotFound);
        }
        self.check(path, expect)?;
        if !self.children(path).is_empty() {
            return Err(Fail::NotEmpty);
        }
        let gone = self.entries.remove(path).unwrap();
        self.free_ids.extend(gone.id.filter(|_| self.reuse_ids));
        self.removed.push(path.clone());
        self.changed(path);
        Ok(())
    }

    pub fn rename(
        &mut self,
        old: &RemotePath,
        new: &RemotePath,
        expect: &Expect,
    ) -> Result<(), Fail> {
        if !self.entries.contains_key(old) {
            return Err(Fail::NotFound);
        }
        self.check(old, expect)?;
        self.need_parent(new)?;
        if new.starts_with(old) {
            return Err(Fail::IntoItself);
        }
        if self.entries.contains_key(new) {
            return Err(Fail::Exists);
        }
        let all: Vec<RemotePath> =
            self.entries.keys().filter(|p| p.starts_with(old)).cloned().collect();
        for path in all {
            let entry = self.entries.remove(&path).unwrap();
            let mut names = new.0.clone();
            names.extend_from_slice(&path.0[old.0.len()..]);
            self.entries.insert(RemotePath(names.clone()), entry);
            self.changed(&path);
            self.changed(&RemotePath(names));
        }
        Ok(())
    }

    pub fn serve(&mut self, ask: &Ask) -> Result<Answer, Fail> {
        let at = match ask {
            Ask::Stat(path) => path,
            Ask::List(path, after) => return self.list(path, after.as_ref()),
            Ask::Changes(cursor) => {
                if *cursor < self.forgotten {
                    return Err(Fail::Expired);
                }
                let page: Vec<_> = self.hints.iter().skip(*cursor).take(4).cloned().collect();
                let next = cursor + page.len();
                return Ok(Answer::Hints(page, next));
            }
            Ask::Write(path, content, expect) => {
                self.write(path, *content, expect)?;
                path
            }
            Ask::MakeFolder(path) => {
                self.make_folder(path)?;
                path
            }
            Ask::Rename(old, new, expect) => {
                self.rename(old, new, expect)?;
                new
            }
            Ask::Remove(path, expect) => {
                self.remove(path, expect)?;
                path
            }
        };
        Ok(Answer::Entry(self.stat(at)))
    }

    /// A request believed lost arrives after all.
    pub fn deliver_late(&mut self) {
        if !self.late.is_empty() {
            let ask = self.late.remove(0);
            let _refused = self.serve(&ask);
        }
    }
}
