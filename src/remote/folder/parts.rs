//! File systems mounted below the root, as far as they were seen. One that is not there now is away: what was in it is not
//! removed, nothing is put where it should be, and its place is shown as it was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::remote::{Kind, Locator, Observed, RemotePath, Version};

/// What the entry of a folder notes of itself on which another file system is mounted.
const MOUNTED: &[u8] = b"mounted";
/// The same of another volume of one file system: moves do not cross it, but it is removed like a folder.
const VOLUME: &[u8] = b"volume";

/// One that has not answered for so long is not there.
const SILENT: Duration = Duration::from_secs(3);

/// Says what begins at a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Border {
    Mount,
    Volume,
}

impl Border {
    pub(super) fn note(self) -> Vec<u8> {
        match self {
            Self::Mount => MOUNTED.to_vec(),
            Self::Volume => VOLUME.to_vec(),
        }
    }

    fn of(note: &[u8]) -> Option<Self> {
        match note {
            MOUNTED => Some(Self::Mount),
            VOLUME => Some(Self::Volume),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Part {
    border: Border,
    /// What was last seen there, for while it is away.
    seen: Observed,
    was_there: bool,
}

impl Part {
    fn new(border: Border, seen: Observed) -> Self {
        Self { border, seen, was_there: true }
    }
}

/// Is what is known of them.
#[derive(Debug, Default)]
pub(super) struct Parts {
    known: Mutex<BTreeMap<RemotePath, Part>>,
    /// Those that are being asked whether they are there, and since when.
    asked: Mutex<BTreeMap<RemotePath, Instant>>,
}

/// Says whether a file system is there, as far as that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Yes,
    No,
    /// Nobody has answered yet, for so long.
    Unanswered(Duration),
}

/// Is a question whether a file system is there, until it is answered.
pub(super) struct Asking {
    parts: Arc<Parts>,
    at: RemotePath,
}

impl Asking {
    /// One that hangs is asked once: for how long an earlier question has waited for its answer, if there is one.
    pub(super) fn begin(parts: &Arc<Parts>, at: &RemotePath) -> Result<Self, Duration> {
        let mut asked = parts.asked();
        match asked.get(at) {
            Some(since) => Err(since.elapsed()),
            None => {
                asked.insert(at.clone(), Instant::now());
                Ok(Self { parts: Arc::clone(parts), at: at.clone() })
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.parts.asked().remove(&self.at);
    }
}

impl Parts {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<RemotePath, Part>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<RemotePath, Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the catalog remembers of an earlier life.
    pub(super) fn recall(&self, at: &Locator) {
        let Some(border) = noted(at) else { return };
        let seen = folder(border);
        let part = Part::new(border, seen);
        self.locked().entry(at.path.clone()).or_insert(part);
    }

    /// It is there now.
    pub(super) fn saw(&self, at: &RemotePath, border: Border, seen: &Observed) {
        let part = Part::new(border, seen.clone());
        self.locked().insert(at.clone(), part);
    }

    /// It is a folder like others, or nobody wants it any more.
    pub(super) fn forget(&self, at: &RemotePath) {
        self.locked().remove(at);
    }

    pub(super) fn moved(&self, from: &RemotePath, to: &RemotePath) {
        let mut parts = self.locked();
        for at in below(&parts, from) {
            if let Some(part) = parts.remove(&at) {
                let rest = at.0.get(from.0.len()..).unwrap_or_default();
                let names = to.0.iter().chain(rest).cloned().collect();
                parts.insert(RemotePath(names), part);
            }
        }
    }

    /// Whether a file system was mounted at this very path.
    pub(super) fn is_mount(&self, at: &RemotePath) -> bool {
        self.locked().get(at).is_some_and(|part| part.border == Border::Mount)
    }

    /// The file systems that were mounted at `at` or above it, the innermost first.
    pub(super) fn mounts_above(&self, at: &RemotePath) -> Vec<RemotePath> {
        let parts = self.locked();
        if parts.is_empty() {
            return Vec::new();
        }
        let lengths = (1..=at.0.len()).rev();
        let above = lengths.filter_map(|length| at.0.get(..length));
        let above = above.map(|names| RemotePath(names.to_vec()));
        above.filter(|at| parts.get(at).is_some_and(|part| part.border == Border::Mount)).collect()
    }

    /// Where file systems were mounted, at `at` or below it.
    pub(super) fn mounts_below(&self, at: &RemotePath) -> Vec<RemotePath> {
        let parts = self.locked();
        let mut found = below(&parts, at);
        found.retain(|at| parts.get(at).is_some_and(|part| part.border == Border::Mount));
        found
    }

    /// What a path is shown as at which, or below which, something was mounted; `None` if nothing was.
    pub(super) fn shown(&self, at: &RemotePath) -> Option<Observed> {
        if let Some(part) = self.locked().get(at).filter(|part| part.border == Border::Mount) {
            return Some(part.seen.clone());
        }
        (!self.mounts_below(at).is_empty())
            .then(|| Observed { extra: None, ..folder(Border::Mount) })
    }

    /// Whether a path is on a file system that was not there when it was last asked.
    pub(super) fn is_away(&self, at: &RemotePath) -> bool {
        let above = self.mounts_above(at);
        let parts = self.locked();
        above.iter().any(|mount| parts.get(mount).is_some_and(|part| !part.was_there))
    }

    /// Notes whether it is there; answers whether it came or went. One that is slow for a moment did not go: that would drop
    /// all watches in it.
    pub(super) fn note_there(&self, at: &RemotePath, told: There) -> bool {
        let is_there = match told {
            There::Unanswered(long) if long < SILENT => return false,
            told => told == There::Yes,
        };
        let mut parts = self.locked();
        let Some(part) = parts.get_mut(at) else { return false };
        std::mem::replace(&mut part.was_there, is_there) != is_there
    }

    /// Whether a move of `from` into `folder` would cross a border.
    pub(super) fn divide(&self, from: &RemotePath, folder: &RemotePath) -> bool {
        let parts = self.locked();
        if parts.is_empty() {
            return false;
        }
        let inside = |path: &RemotePath| {
            let lengths = (1..=path.0.len()).rev();
            let above = lengths.filter_map(|length| path.0.get(..length));
            above.map(|names| RemotePath(names.to_vec())).find(|at| parts.contains_key(at))
        };
        inside(from) != inside(folder)
    }
}

/// What a file system is shown as that is mounted there and was never looked at.
pub(super) fn unseen() -> Observed {
    folder(Border::Mount)
}

/// What an entry noted of itself when it was seen.
pub(super) fn noted(at: &Locator) -> Option<Border> {
    at.extra.as_deref().and_then(Border::of)
}

fn below(parts: &BTreeMap<RemotePath, Part>, at: &RemotePath) -> Vec<RemotePath> {
    let below = parts.range(at.clone()..).map(|(path, _)| path);
    below.take_while(|path| path.starts_with(at)).cloned().collect()
}

fn folder(border: Border) -> Observed {
    Observed {
        kind: Kind::Folder,
        size: 0,
        mtime: None,
        version: Version(String::new()),
        settled: true,
        id: None,
        digest: None,
        mode: None,
        extra: Some(border.note()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::remote::Name;

    /// A file system that was slow once was taken for gone, and all watches in it were dropped.
    #[test]
    fn regression_a_mount_that_does_not_answer_once_did_not_go() {
        let (parts, at) = (Parts::default(), RemotePath(vec![Name::new("disk").unwrap()]));
        parts.saw(&at, Border::Mount, &unseen());
        let (slow, hangs) = (There::Unanswered(SILENT / 2), There::Unanswered(SILENT));
        for _ in 0..3 {
            assert!(!parts.note_there(&at, slow));
            assert!(!parts.note_there(&at, slow));
            assert!(!parts.note_there(&at, There::Yes), "it came although it never went");
        }
        // However many ask meanwhile: who asks while a question waits is told for how long.
        (0..9).for_each(|_| assert!(!parts.note_there(&at, slow)));
        assert!(!parts.is_away(&at));
        assert!(parts.note_there(&at, hangs), "one that hangs is there for ever");
        assert!(!parts.note_there(&at, hangs));
        assert!(parts.is_away(&at.child(Name::new("folder").unwrap())));
        assert!(parts.note_there(&at, There::Yes) && !parts.is_away(&at));
        assert!(parts.note_there(&at, There::No), "a finished look tells that it went");
    }

    /// While one question hung, each that was not asked because of it counted as one more without an answer.
    #[test]
    fn regression_what_is_not_asked_is_not_unanswered() {
        let (parts, at) = (Arc::new(Parts::default()), RemotePath::root());
        let first = Asking::begin(&parts, &at).ok().unwrap();
        let long = Asking::begin(&parts, &at).err().unwrap();
        assert!(!parts.note_there(&at, There::Unanswered(long)));
        drop(first);
        assert!(Asking::begin(&parts, &at).is_ok());
    }
}
