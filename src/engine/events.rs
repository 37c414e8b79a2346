//! What happens, for those who watch: made from what the catalog says was committed, and from what the workers meet. Where
//! nobody watches, nothing is made.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;

use super::Engine;
use super::core::{Core, now};
use super::state::pin_word;
use crate::catalog::Change;
use crate::model::{Ino, Name, Pin};

/// Events kept for a watcher that is behind; what is older is lost to it, and it is told so.
pub(crate) const KEPT: usize = 4096;

/// How long who gave a command waits for the kernel to be told of its outcome.
const TELL: Duration = Duration::from_secs(2);

/// Is one thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When, nanoseconds since 1970.
    pub time: i64,
    /// `content`, `sync`, `pin`, `conflict`, `error`, `appeared`, `moved`, `removed`.
    pub event: &'static str,
    /// The item's path below the mountpoint, bytes, without a leading slash; of what was removed, where it was.
    pub path: Vec<u8>,
    /// Of what moved, where it was.
    pub from: Option<Vec<u8>>,
    /// The new word, in the words of the contract.
    pub what: Option<String>,
    /// What went wrong.
    pub message: Option<String>,
}

impl Happening {
    fn of(event: &'static str, path: Vec<u8>) -> Self {
        Self { time: now(), event, path, from: None, what: None, message: None }
    }

    fn to(mut self, word: &str) -> Self {
        self.what = Some(word.to_owned());
        self
    }
}

impl Engine {
    /// What happens from now on. Who falls behind loses the oldest and is told so.
    pub fn events(&self) -> Receiver<Happening> {
        self.core.events.subscribe()
    }

    /// Waits until the kernel was told of all that has changed so far, at most for a moment: what a program has in use for long
    /// is told later.
    pub async fn told(&self) {
        if super::open::lock(&self.invalidations).is_none() {
            let mark = self.core.catalog.mark();
            let _kept_back = tokio::time::timeout(TELL, mark.wait()).await;
        }
    }
}

impl Core {
    pub(super) fn is_watched(&self) -> bool {
        self.events.receiver_count() > 0
    }

    fn happened(&self, happening: Happening) {
        // Who watched is gone by now.
        let _gone = self.events.send(happening);
    }

    /// Tells those who watch what was committed.
    pub(crate) fn tell_watchers(self: &std::sync::Arc<Self>, changes: &[Change]) {
        if !self.is_watched() {
            return;
        }
        // What moved is told once, not as gone and come.
        let mut moved = Vec::new();
        for change in changes {
            match change {
                Change::Name { parent, name, gone: Some(ino) } => {
                    moved.extend(self.tell_gone(*parent, name, *ino));
                }
                Change::Name { parent, name, gone: None } => {
                    let path = self.path_in(*parent, name);
                    if let Some(path) = path.filter(|path| !moved.contains(path)) {
                        self.happened(Happening::of("appeared", path));
                    }
                }
                Change::Sync(ino) => self.tell_word(*ino, "sync"),
                Change::Content(ino) | Change::Forgotten { ino, .. } => {
                    self.tell_word(*ino, "content");
                }
                Change::Conflict(ino) => self.tell_word(*ino, "conflict"),
                _ => {}
            }
        }
    }

    /// Tells that a name is gone; answers where what had it is now.
    fn tell_gone(&self, parent: Ino, name: &Name, ino: Ino) -> Option<Vec<u8>> {
        let from = self.path_in(parent, name)?;
        let row = self.catalog.read(|rows| rows.inode(ino)).ok().flatten();
        let place = row.and_then(|row| row.local);
        match place.and_then(|_| self.path_bytes(ino)).filter(|path| *path != from) {
            Some(path) => {
                let moved = Happening { from: Some(from), ..Happening::of("moved", path.clone()) };
                self.happened(moved);
                Some(path)
            }
            None => {
                self.happened(Happening::of("removed", from));
                None
            }
        }
    }

    fn tell_word(self: &std::sync::Arc<Self>, ino: Ino, event: &'static str) {
        let Ok(item) = self.item_status(ino, None) else { return };
        let word = match event {
            "content" => item.content_word(),
            _ => item.sync.word(),
        };
        let happening = Happening::of(event, item.path.clone()).to(word);
        self.happened(Happening { message: item.error, ..happening });
    }

    /// An item is being sent, or fetched, from now on.
    pub(crate) fn tell_begun(self: &std::sync::Arc<Self>, ino: Ino, event: &'static str) {
        if self.is_watched() {
            match event {
                "content" => {
                    let path = self.path_bytes(ino).unwrap_or_default();
                    self.happened(Happening::of(event, path).to("hydrating"));
                }
                _ => self.tell_word(ino, event),
            }
        }
    }

    /// Nothing more of a file is on its way.
    pub(crate) fn tell_fetched(self: &std::sync::Arc<Self>, ino: Ino) {
        if self.is_watched() {
            self.tell_word(ino, "content");
        }
    }

    /// Somebody set a pin.
    pub(crate) fn tell_pin(&self, ino: Ino, pin: Pin) {
        if self.is_watched() {
            let path = self.path_bytes(ino).unwrap_or_default();
            self.happened(Happening::of("pin", path).to(pin_word(pin)));
        }
    }

    /// Something went wrong.
    pub(crate) fn tell_problem(&self, path: Option<&Vec<u8>>, message: &str) {
        if self.is_watched() {
            let happening = Happening::of("error", path.cloned().unwrap_or_default());
            self.happened(Happening { message: Some(message.to_owned()), ..happening });
        }
    }

    fn path_in(&self, parent: Ino, name: &Name) -> Option<Vec<u8>> {
        let folder = self.path_bytes(parent)?;
        let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        Some([&folder, slash, name.as_bytes()].concat())
    }
}
