//! From a place here to the raw path on the server. Names that cannot be turned back are looked for where they were listed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::WebDavRemote;
use super::failure::Outcome;
use super::paths::RawPath;
use crate::remote::{ErrorKind, Locator, Name, RemotePath, names};

/// More marked names than anybody has; beyond it they are looked for again.
const REMEMBERED: usize = 10_000;

/// Is a raw folder and the name shown in it.
type Shown = (Vec<Vec<u8>>, Name);

/// Remembers which raw name a marked name stands for. A marked name holds a hash of its raw one, so this never goes stale.
#[derive(Debug, Default)]
pub(super) struct Marked(Mutex<HashMap<Shown, Vec<u8>>>);

impl Marked {
    fn get(&self, folder: &RawPath, name: &Name) -> Option<Vec<u8>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(folder.0.clone(), name.clone())).cloned()
    }

    fn note(&self, folder: &RawPath, name: &Name, raw: &[u8]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((folder.0.clone(), name.clone()), raw.to_vec());
    }
}

/// For how long a folder that was there is taken to be there still.
const LATELY: Duration = Duration::from_secs(1);

/// Remembers which folders were there a moment ago.
#[derive(Debug, Default)]
pub(super) struct Parents(Mutex<HashMap<RawPath, Instant>>);

impl Parents {
    pub(super) fn was_there(&self, folder: &RawPath) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(folder).is_some_and(|when| when.elapsed() < LATELY)
    }

    /// A folder was seen in an answer to what was asked then.
    pub(super) fn note(&self, folder: RawPath, asked: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(folder, asked);
    }

    /// Something is moved or removed: what was seen before tells nothing any more.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl WebDavRemote {
    /// The raw path of an entry; its own raw name may be in what was noted of it.
    pub(super) async fn place(&self, at: &Locator) -> Outcome<RawPath> {
        let (Some(extra), Some(above)) = (&at.extra, at.path.parent()) else {
            return self.place_of(&at.path).await;
        };
        Ok(self.place_of(&above).await?.child(extra))
    }

    /// The raw path of something that is known by its path alone.
    pub(super) async fn place_of(&self, path: &RemotePath) -> Outcome<RawPath> {
        let mut raw = RawPath(Vec::with_capacity(path.0.len()));
        for name in &path.0 {
            let next = match names::may_be_marked(name) {
                true => self.marked(&raw, name).await?,
                false => names::raw(name),
            };
            raw.0.push(next);
        }
        Ok(raw)
    }

    /// The raw name that a name stands for in a folder; the name itself if the folder has none that is shown so.
    async fn marked(&self, folder: &RawPath, name: &Name) -> Outcome<Vec<u8>> {
        if let Some(raw) = self.marked.get(folder, name) {
            return Ok(raw);
        }
        let children = match self.children_shown(folder).await {
            Ok(children) => children,
            Err(failure) if failure.kind == ErrorKind::NotFound => Vec::new(),
            Err(failure) => return Err(failure),
        };
        for (child, shown) in children {
            if shown.name == *name && shown.raw.is_some() {
                self.marked.note(folder, name, &child.raw);
                return Ok(child.raw);
            }
        }
        Ok(names::raw(name))
    }
}
