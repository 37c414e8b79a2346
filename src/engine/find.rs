//! Finding without fetching: names, sizes and times as the catalog knows them. The remote is never asked.

use super::core::Core;
use super::{Engine, EngineError};
use crate::catalog::Rank;
use crate::model::{Content, Glob, Ino, Kind, Name};

type Ready<T> = Result<T, EngineError>;

/// Is what a search shows of an item.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path below the mountpoint, bytes, without a leading slash.
    pub path: Vec<u8>,
    /// Its type.
    pub kind: Kind,
    /// Length in bytes; 0 for folders.
    pub size: u64,
    /// Bytes here.
    pub present_bytes: u64,
    /// Shown mtime, nanoseconds since 1970.
    pub mtime: i64,
    /// How much is here (files).
    pub content: Content,
    /// Whether all names are known (folders).
    pub listed: bool,
}

/// Is what a folder holds, all that is below counted in.
#[derive(Clone, Debug)]
pub struct FolderUsage {
    /// Its path below the mountpoint, bytes, without a leading slash.
    pub path: Vec<u8>,
    /// Files and other things that are no folders.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Length of all files, bytes.
    pub size: u64,
    /// Bytes here.
    pub present_bytes: u64,
}

impl Engine {
    /// What lies below `top` and fits the pattern (of a name, or with a slash of a path below `top`), and how many folders
    /// there are not listed yet.
    pub async fn find(&self, top: Ino, pattern: Option<&[u8]>) -> Ready<(Vec<Ino>, u64)> {
        let glob = pattern.map(Glob::new);
        self.search(move |core| {
            let mut found = core.catalog.read(|rows| rows.find(top, glob.as_ref()))?;
            if let Some(itself) = core.no_folder(top)?
                && glob.as_ref().is_none_or(|glob| {
                    itself.last().is_some_and(|name| glob.matches_name(name.as_bytes()))
                })
            {
                found.push(top);
            }
            Ok((found, core.unlisted(top)?))
        })
        .await
    }

    /// The largest files below `top`, or those changed last, at most `count`, and how many folders there are not listed yet.
    pub async fn first_files(&self, top: Ino, rank: Rank, count: usize) -> Ready<(Vec<Ino>, u64)> {
        self.search(move |core| {
            let mut found = core.catalog.read(|rows| rows.first_files(top, rank, count))?;
            if count > 0 && core.no_folder(top)?.is_some() {
                found.push(top);
            }
            Ok((found, core.unlisted(top)?))
        })
        .await
    }

    /// What `top` and the folders down to `depth` below it hold, `top` first, and how many folders there are not listed yet.
    pub async fn usage(&self, top: Ino, depth: usize) -> Ready<(Vec<FolderUsage>, u64)> {
        self.search(move |core| {
            if core.no_folder(top)?.is_some() {
                return Ok((core.usage_of_one(top)?, 0));
            }
            let all = core.catalog.read(|rows| rows.usage(top))?;
            let deep = |path: &[u8]| match path {
                [] => 0,
                path => 1 + path.iter().filter(|byte| **byte == b'/').count(),
            };
            let above = deep(&core.path_bytes(top).unwrap_or_default());
            let mut folders = Vec::new();
            for one in all {
                let Some(path) = core.path_bytes(one.folder) else { continue };
                if deep(&path) <= above.saturating_add(depth) {
                    let (files, folders_in) = (one.files, one.folders);
                    let (size, present_bytes) = (one.size, one.present);
                    folders.push(FolderUsage {
                        path,
                        files,
                        folders: folders_in,
                        size,
                        present_bytes,
                    });
                }
            }
            Ok((folders, core.unlisted(top)?))
        })
        .await
    }

    /// What a search shows of these items; those that are gone by now are left out.
    pub async fn found(&self, items: &[Ino]) -> Ready<Vec<Found>> {
        let items = items.to_vec();
        self.search(move |core| {
            let rows = core.catalog.read(|rows| {
                items.iter().map(|ino| rows.found(*ino)).collect::<Result<Vec<_>, _>>()
            })?;
            let found = rows.into_iter().flatten().map(|one| {
                let names: Vec<&[u8]> = one.path.iter().map(Name::as_bytes).collect();
                Found {
                    path: names.join(&b'/'),
                    kind: one.kind,
                    size: one.size,
                    present_bytes: one.present,
                    mtime: one.mtime,
                    content: one.content,
                    listed: one.listed,
                }
            });
            Ok(found.collect())
        })
        .await
    }

    /// A pass over the catalog is longer than a runtime thread may be busy.
    async fn search<T: Send + 'static>(
        &self,
        search: impl FnOnce(&Core) -> Ready<T> + Send + 'static,
    ) -> Ready<T> {
        let core = self.core.clone();
        self.core.blocking(move || search(&core)).await
    }
}

impl Core {
    /// The path of what is no folder: it has nothing below it, and counts as itself. `None` for folders.
    fn no_folder(&self, top: Ino) -> Ready<Option<Vec<Name>>> {
        let found = self.catalog.read(|rows| rows.found(top))?;
        Ok(found.filter(|one| one.kind != Kind::Folder).map(|one| one.path))
    }

    /// What one that is no folder holds.
    fn usage_of_one(&self, ino: Ino) -> Ready<Vec<FolderUsage>> {
        let found = self.catalog.read(|rows| rows.found(ino))?;
        let one = found.into_iter().map(|one| FolderUsage {
            path: one.path.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/'),
            files: 1,
            folders: 0,
            size: if one.kind == Kind::File { one.size } else { 0 },
            present_bytes: one.present,
        });
        Ok(one.collect())
    }

    fn unlisted(&self, top: Ino) -> Ready<u64> {
        Ok(self.catalog.read(|rows| rows.unlisted_below(top))?)
    }
}
