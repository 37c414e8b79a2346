//! A remote of one's own: a small key-value store, with the whole of dewfs around it.
//!
//! `custom_remote mount mystore:///srv/notes ~/Notes` mounts it. Each change puts a new file in the place of the old one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dewfs::remote::{
    AttemptTag, ByteStream, Capabilities, Expect, ListPage, Locator, Observed, PageToken, Remote,
    RemoteError, RemotePath, Result, Upload, Version, store,
};

/// What is under a key: its version, and its bytes; a folder has none. The root's version counts all changes.
type Entry = (u64, Option<Vec<u8>>);
type Pairs = BTreeMap<RemotePath, Entry>;

/// A store whose keys are paths.
#[derive(Debug)]
pub struct KeyValue {
    file: PathBuf,
    pairs: Mutex<Pairs>,
}

fn observed((version, bytes): &Entry) -> Observed {
    match bytes {
        Some(bytes) => Observed::file(version.to_string(), bytes.len() as u64),
        None => Observed::folder(""),
    }
}

fn look(pairs: &Pairs) -> impl Fn(&RemotePath) -> Option<Observed> {
    |path| pairs.get(path).map(observed)
}

fn put(pairs: &mut Pairs, at: &RemotePath, bytes: Option<Vec<u8>>) -> Observed {
    let count = pairs.get(&RemotePath::root()).map_or(0, |(count, _)| *count) + 1;
    let entry = (count, bytes);
    let seen = observed(&entry);
    pairs.extend([(RemotePath::root(), (count, None)), (at.clone(), entry)]);
    seen
}

impl KeyValue {
    /// Opens the store in this file, or begins it.
    pub fn open(file: &str) -> io::Result<Self> {
        let mut pairs = BTreeMap::from([(RemotePath::root(), (0, None))]);
        if fs::exists(file)? {
            let saved: Vec<(RemotePath, Entry)> = serde_json::from_slice(&fs::read(file)?)?;
            pairs.extend(saved);
        }
        Ok(Self { file: file.into(), pairs: Mutex::new(pairs) })
    }

    fn pairs(&self) -> MutexGuard<'_, Pairs> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change, whole or not at all, while nobody else looks.
    fn change<T>(&self, change: impl FnOnce(&mut Pairs) -> Result<T>) -> Result<T> {
        let mut pairs = self.pairs();
        let mut next = pairs.clone();
        let answer = change(&mut next)?;
        self.save(&next).map_err(|error| RemoteError::io("save", self.file.display(), error))?;
        *pairs = next;
        Ok(answer)
    }

    fn save(&self, pairs: &Pairs) -> io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_vec(&pairs.iter().collect::<Vec<_>>())?)?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, &self.file)
    }
}

#[async_trait]
impl Remote for KeyValue {
    // These four are all that a store needs which is only read.
    fn capabilities(&self) -> Capabilities {
        let identity = Some(self.file.display().to_string());
        Capabilities { identity, ..Capabilities::read_write("key-value store") }
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        Ok(look(&self.pairs())(&at.path))
    }

    async fn list(&self, folder: &Locator, _page: Option<PageToken>) -> Result<ListPage> {
        ListPage::of(&folder.path, self.pairs().iter().map(|(path, entry)| (path, observed(entry))))
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        let pairs = self.pairs();
        let found = pairs.get(&at.path);
        Expect::Version(version.clone()).check("read", &at.path, found.map(observed).as_ref())?;
        let bytes = found.and_then(|(_, bytes)| bytes.as_deref()).unwrap_or_default();
        let part = bytes.get(range.start as usize..range.end as usize).unwrap_or_default();
        Ok(part.to_vec().into())
    }

    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        let bytes = body.whole(at).await?;
        self.change(|pairs| {
            store::may_write(&at.path, &expect, look(pairs))?;
            Ok(put(pairs, &at.path, Some(bytes.into())))
        })
    }

    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        self.change(|pairs| {
            store::may_make_folder(&at.path, look(pairs))?;
            Ok(put(pairs, &at.path, None))
        })
    }

    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        _tag: &AttemptTag,
    ) -> Result<Observed> {
        self.change(|pairs| {
            let seen = store::may_rename(&from.path, &to.path, &expect, look(pairs))?;
            for (path, entry) in std::mem::take(pairs) {
                pairs.insert(path.moved(&from.path, &to.path).unwrap_or(path), entry);
            }
            Ok(seen)
        })
    }

    async fn remove(&self, at: &Locator, expect: Expect, _tag: &AttemptTag) -> Result<()> {
        self.change(|pairs| {
            store::may_remove(&at.path, &expect, pairs.keys(), look(pairs))?;
            pairs.remove(&at.path);
            Ok(())
        })
    }
}

fn main() -> ExitCode {
    dewfs::main_with(&dewfs::Schemes::new().with("mystore", |address, _| KeyValue::open(address)))
}
