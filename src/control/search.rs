//! Finding without fetching: the requests `find`, `usage` and `first`, and their documents.

use std::path::Path;

use serde::Serialize;

use crate::engine::{EngineError, FolderUsage, Found, Rank};
use crate::model::{Content, Ino, Kind};

use super::document::{FORMAT, PathText, kind_word, rfc3339};
use super::handler::{Handler, Outcome};
use super::outcome::small_document;
use super::protocol::{Done, Order, Scope};

/// Items that are read and shown together.
const PAGE: usize = 500;

small_document! {
    /// Is an item that was found in the catalog.
    FoundDocument, "found", {
        /// The item.
        #[serde(flatten)]
        path: PathText,
        /// Its type.
        kind: &'static str,
        /// How much is here.
        content: &'static str,
        /// Bytes; 0 for folders.
        size: u64,
        /// Bytes here.
        present_bytes: u64,
        /// When it was last changed.
        mtime: Option<String>,
    }
}
small_document! {
    /// Is what a folder holds, all that is below counted in.
    UsageDocument, "usage", {
        /// The folder.
        #[serde(flatten)]
        path: PathText,
        /// What is no folder.
        files: u64,
        /// Folders.
        folders: u64,
        /// Bytes of all files.
        size: u64,
        /// Bytes here.
        present_bytes: u64,
    }
}
small_document! {
    /// Is the end of a search.
    Searched, "searched", {
        /// Where.
        #[serde(flatten)]
        path: PathText,
        /// How many items were found.
        found: u64,
        /// Folders whose names are not known yet: what they hold was not looked at.
        unlisted: u64,
    }
}

impl FoundDocument {
    /// One of the engine's.
    pub fn of(found: &Found, mountpoint: &Path) -> Self {
        let content = match (found.kind, found.content) {
            (Kind::Folder, _) if found.listed => "listed",
            (Kind::Folder, _) => "unlisted",
            (_, Content::Hydrated) => "local",
            (_, Content::Partial) => "partial",
            (_, Content::Placeholder) => "online-only",
        };
        Self::new(
            PathText::in_mount(mountpoint, &found.path),
            kind_word(found.kind),
            content,
            found.size,
            found.present_bytes,
            rfc3339(found.mtime),
        )
    }
}

impl UsageDocument {
    /// One of the engine's.
    pub fn of(usage: &FolderUsage, mountpoint: &Path) -> Self {
        Self::new(
            PathText::in_mount(mountpoint, &usage.path),
            usage.files,
            usage.folders,
            usage.size,
            usage.present_bytes,
        )
    }
}

impl Handler {
    pub(super) async fn search(&self, scope: &Scope, pattern: Option<&Scope>) -> Outcome {
        let top = self.find_known(scope).await?;
        let bytes = pattern
            .map(|pattern| pattern.bytes().ok_or(EngineError::Invalid("no base64")))
            .transpose()?;
        let (items, unlisted) = self.engine.find(top, bytes.as_deref()).await?;
        self.say_found(scope, &items, unlisted).await
    }

    pub(super) async fn first(&self, scope: &Scope, order: Order, count: u64) -> Outcome {
        let top = self.find_known(scope).await?;
        let rank = match order {
            Order::Largest => Rank::Largest,
            Order::Recent => Rank::Recent,
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let (items, unlisted) = self.engine.first_files(top, rank, count).await?;
        self.say_found(scope, &items, unlisted).await
    }

    pub(super) async fn usage(&self, scope: &Scope, depth: u64) -> Outcome {
        let top = self.find_known(scope).await?;
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        let (folders, unlisted) = self.engine.usage(top, depth).await?;
        for one in &folders {
            self.say(&UsageDocument::of(one, &self.info.mountpoint)).await;
        }
        let found = u64::try_from(folders.len()).unwrap_or(u64::MAX);
        self.say_searched(scope, found, unlisted).await;
        Ok(Done::well())
    }

    async fn say_found(&self, scope: &Scope, items: &[Ino], unlisted: u64) -> Outcome {
        for page in items.chunks(PAGE) {
            for one in &self.engine.found(page).await? {
                self.say(&FoundDocument::of(one, &self.info.mountpoint)).await;
            }
        }
        self.say_searched(scope, u64::try_from(items.len()).unwrap_or(u64::MAX), unlisted).await;
        Ok(Done::well())
    }

    async fn say_searched(&self, scope: &Scope, found: u64, unlisted: u64) {
        let path = scope.bytes().unwrap_or_default();
        self.say(&Searched::new(self.path_text(&path), found, unlisted)).await;
    }

    /// The item at a path, without asking the remote.
    async fn find_known(&self, scope: &Scope) -> Result<Ino, EngineError> {
        let path = scope.bytes().ok_or(EngineError::Invalid("path_base64 is no base64"))?;
        self.engine.resolve(&path, false).await
    }
}
