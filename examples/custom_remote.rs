//! A remote of one's own: a small key-value store, with the whole of dewfs around it.
//!
//! `custom_remote mount mystore:///var/lib/notes.db ~/Notes` mounts it. The store is a log of changes in one file: it is read at
//! the start, and every change is appended to it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dewfs::remote::{
    AttemptTag, Body, ByteStream, Capabilities, Conditional, ErrorKind, Expect, FeedKind, Kind,
    ListPage, Listed, Locator, OWN_PREFIX, Observed, PageToken, Remote, RemoteError, RemotePath,
    Result, Upload, Version,
};
use futures_util::{StreamExt as _, stream};

/// What is under a key: its version, and its bytes; a folder has none.
type Entry = (u64, Option<Bytes>);

/// A store whose keys are paths.
#[derive(Debug)]
pub struct KeyValue {
    name: String,
    state: Mutex<(u64, BTreeMap<RemotePath, Entry>, File)>,
}

fn refuse<T>(kind: ErrorKind, operation: &'static str, at: &RemotePath) -> Result<T> {
    Err(RemoteError::new(kind, operation, at))
}

fn observed((version, bytes): &Entry) -> Observed {
    Observed {
        kind: if bytes.is_some() { Kind::File } else { Kind::Folder },
        size: bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
        mtime: None,
        version: Version(version.to_string()),
        settled: true,
        id: None,
        digest: None,
        mode: None,
        extra: None,
    }
}

impl KeyValue {
    /// Opens the store in this file, or makes it.
    pub fn open(path: &str) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(Path::new(path))?;
        let mut log = Vec::new();
        file.read_to_end(&mut log)?;
        let state = (0, BTreeMap::from([(RemotePath::root(), (0, None))]), file);
        let store = Self { name: path.to_owned(), state: Mutex::new(state) };
        let mut lines =
            serde_json::Deserializer::from_slice(&log)
                .into_iter::<(Vec<Vec<u8>>, bool, Option<Vec<u8>>)>();
        // What was only half written when the machine stopped was promised to nobody.
        while let Some(Ok((key, exists, bytes))) = lines.next() {
            let names = key.into_iter().filter_map(|name| dewfs::remote::Name::new(name).ok());
            let entry = exists.then(|| bytes.map(Bytes::from));
            store.lock().set(RemotePath(names.collect()), entry);
        }
        Ok(store)
    }

    /// Every key.
    pub fn keys(&self) -> Vec<RemotePath> {
        self.lock().0.1.keys().cloned().collect()
    }

    fn lock(&self) -> Locked<'_> {
        Locked(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Locked<'a>(MutexGuard<'a, (u64, BTreeMap<RemotePath, Entry>, File)>);

impl Locked<'_> {
    fn get(&self, at: &RemotePath) -> Option<&Entry> {
        self.0.1.get(at)
    }

    fn set(&mut self, at: RemotePath, entry: Option<Option<Bytes>>) {
        self.0.0 += 1;
        let version = self.0.0;
        match entry {
            Some(bytes) => self.0.1.insert(at, (version, bytes)),
            None => self.0.1.remove(&at),
        };
    }

    /// Changes an entry, in the log first.
    fn change(
        &mut self,
        operation: &'static str,
        at: &RemotePath,
        entry: Option<Option<Bytes>>,
    ) -> Result<()> {
        let key: Vec<&[u8]> = at.0.iter().map(dewfs::remote::Name::as_bytes).collect();
        let line =
            serde_json::to_vec(&(key, entry.is_some(), entry.as_ref().and_then(Option::as_deref)));
        let written = line.map_err(io::Error::other).and_then(|line| self.0.2.write_all(&line));
        written
            .map_err(|error| RemoteError::new(ErrorKind::NoSpace, operation, at).because(error))?;
        self.set(at.clone(), entry);
        Ok(())
    }

    fn below(&self, at: &RemotePath) -> Vec<(RemotePath, Entry)> {
        let inside = |path: &RemotePath| path.0.len() > at.0.len() && path.0.starts_with(&at.0);
        self.0
            .1
            .iter()
            .filter(|(path, _)| inside(path))
            .map(|(path, entry)| (path.clone(), entry.clone()))
            .collect()
    }

    fn expect(&self, operation: &'static str, at: &RemotePath, expect: &Expect) -> Result<()> {
        match (expect, self.get(at)) {
            (Expect::Absent, Some(_)) => refuse(ErrorKind::AlreadyExists, operation, at),
            (Expect::Version(_) | Expect::Folder, None) => {
                refuse(ErrorKind::NotFound, operation, at)
            }
            (Expect::Version(wanted), Some(entry))
                if observed(entry).version != *wanted || entry.1.is_none() =>
            {
                refuse(ErrorKind::VersionMismatch, operation, at)
            }
            (Expect::Folder, Some((_, Some(_)))) => {
                refuse(ErrorKind::VersionMismatch, operation, at)
            }
            _ => self.has_folder(operation, at),
        }
    }

    fn has_folder(&self, operation: &'static str, at: &RemotePath) -> Result<()> {
        match at.parent().and_then(|parent| self.get(&parent)) {
            Some((_, None)) => Ok(()),
            _ => refuse(ErrorKind::NoParent, operation, at),
        }
    }
}

#[async_trait]
impl Remote for KeyValue {
    // These four are all that a store needs which is only read.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ranges: true,
            conditional: Conditional::Atomic,
            writable: true,
            stable_ids: false,
            rename: true,
            server_copy: false,
            settable_mtime: false,
            settable_mode: false,
            version_tick: Duration::ZERO,
            feed: FeedKind::Walk,
            product: "key-value store".into(),
            identity: Some(self.name.clone()),
            dot_names: true,
            folder_versions: false,
        }
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        Ok(self.lock().get(&at.path).map(observed))
    }

    async fn list(&self, folder: &Locator, _page: Option<PageToken>) -> Result<ListPage> {
        let store = self.lock();
        let Some((_, None)) = store.get(&folder.path) else {
            return refuse(ErrorKind::NotFound, "list", &folder.path);
        };
        let here = store
            .below(&folder.path)
            .into_iter()
            .filter(|(path, _)| path.parent().as_ref() == Some(&folder.path));
        let listed = here.filter_map(|(path, entry)| {
            let name = path.name().filter(|name| !name.as_bytes().starts_with(OWN_PREFIX))?;
            Some(Listed { name: name.clone(), entry: observed(&entry) })
        });
        Ok(ListPage { entries: listed.collect(), ..ListPage::default() })
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        let found = self.lock().get(&at.path).cloned();
        let Some(entry) = found else { return refuse(ErrorKind::NotFound, "read", &at.path) };
        let same = observed(&entry).version == *version;
        let Some(bytes) = entry.1.filter(|_| same) else {
            return refuse(ErrorKind::VersionMismatch, "read", &at.path);
        };
        let part = bytes.slice(range.start as usize..range.end as usize);
        Ok(ByteStream { length: part.len() as u64, bytes: stream::iter([Ok(part)]).boxed() })
    }

    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        let bytes = match &body.body {
            Body::Memory(bytes) => bytes.clone(),
            Body::File(path) => std::fs::read(path).map(Bytes::from).map_err(|error| {
                RemoteError::new(ErrorKind::Other, "write", &at.path).because(error)
            })?,
        };
        let whole = bytes.len() as u64 == body.digest.size
            && body.still_whole.as_ref().is_none_or(|whole| whole());
        if let Some(progress) = body.progress.filter(|_| whole) {
            progress(bytes.len() as u64);
        }
        let mut store = self.lock();
        store.expect("write", &at.path, &expect)?;
        if !whole {
            return refuse(ErrorKind::Other, "write", &at.path);
        }
        if let Some((_, None)) = store.get(&at.path) {
            return refuse(ErrorKind::AlreadyExists, "write", &at.path);
        }
        store.change("write", &at.path, Some(Some(bytes)))?;
        store
            .get(&at.path)
            .map(observed)
            .ok_or_else(|| RemoteError::new(ErrorKind::Other, "write", &at.path))
    }

    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        let mut store = self.lock();
        store.expect("make folder", &at.path, &Expect::Absent)?;
        store.change("make folder", &at.path, Some(None))?;
        Ok(observed(&(store.0.0, None)))
    }

    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        _tag: &AttemptTag,
    ) -> Result<Observed> {
        let mut store = self.lock();
        store.expect("rename", &from.path, &expect)?;
        let Some(entry) = store.get(&from.path).cloned() else {
            return refuse(ErrorKind::NotFound, "rename", &from.path);
        };
        store.expect("rename", &to.path, &Expect::Absent)?;
        if to.path.0.starts_with(&from.path.0) {
            return refuse(ErrorKind::Denied, "rename", &to.path);
        }
        let mut moving = store.below(&from.path);
        moving.push((from.path.clone(), entry.clone()));
        for (old, (version, bytes)) in moving {
            let new = RemotePath(
                to.path.0.iter().chain(old.0.iter().skip(from.path.0.len())).cloned().collect(),
            );
            store.change("rename", &new, Some(bytes.clone()))?;
            store.change("rename", &old, None)?;
            // The content is the same: so is its version.
            store.0.1.insert(new, (version, bytes));
        }
        Ok(observed(&entry))
    }

    async fn remove(&self, at: &Locator, expect: Expect, _tag: &AttemptTag) -> Result<()> {
        let mut store = self.lock();
        if store.get(&at.path).is_none() {
            return refuse(ErrorKind::NotFound, "remove", &at.path);
        }
        store.expect("remove", &at.path, &expect)?;
        match store.get(&at.path) {
            Some((_, None)) if !store.below(&at.path).is_empty() => {
                refuse(ErrorKind::NotEmpty, "remove", &at.path)
            }
            _ => store.change("remove", &at.path, None),
        }
    }
}

fn main() -> ExitCode {
    dewfs::main_with(dewfs::Schemes::new().with(
        "mystore",
        |address, _options| match KeyValue::open(address) {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(error.to_string()),
        },
    ))
}
