//! What `stat`, `lookup` and a folder's pages show: a row, and the live content of what is open.

use std::time::Duration;

use super::EngineError;
use super::core::Core;
use super::live::Live;
use super::verbs::{Page, PageEntry, Reach, Stat};
use crate::catalog::Inode;
use crate::model::{Content, Ino, Kind, Name};

/// How long the kernel believes what it was told: it is told when something changes.
pub(super) const BELIEVE: Duration = Duration::from_secs(4 * 3600);

/// How often who reads a folder is given what is new by the end. That is so little, mostly, that it goes into one answer: then no
/// name is missed, however often the file behind it is replaced.
const ROUNDS: u8 = 2;

impl Core {
    /// What is shown of a row just read or written.
    pub(crate) fn stat_now(&self, inode: &Inode, believe: Duration) -> Stat {
        let live = self.open.live(inode.ino);
        self.stat_of(inode, live.as_deref(), believe)
    }

    /// What is known of an inode.
    pub(super) fn stat_here(&self, ino: Ino) -> Result<Stat, EngineError> {
        self.open.steady(|believe| {
            let inode = self.catalog.read_row(|rows| rows.inode(ino))?;
            Ok(self.stat_now(&inode.ok_or(EngineError::Stale)?, believe))
        })
    }

    /// The entry, if its name is known here; `None` if the folder must be listed to know.
    pub(super) fn lookup_here(
        &self,
        parent: Ino,
        name: &Name,
    ) -> Result<Option<Stat>, EngineError> {
        let (stat, folder) = self.open.steady(|believe| {
            let (inode, folder) = self.catalog.read(|rows| {
                let inode = rows.lookup(parent, name)?;
                let folder = match inode {
                    Some(_) => None,
                    None => rows.inode(parent)?,
                };
                Ok((inode, folder))
            })?;
            Ok::<_, EngineError>((inode.map(|inode| self.stat_now(&inode, believe)), folder))
        })?;
        match (stat, folder) {
            (Some(stat), _) => Ok(Some(stat)),
            (None, None) => Err(EngineError::Stale),
            (None, Some(folder)) if folder.kind != Kind::Folder => Err(EngineError::NotFolder),
            (None, Some(folder)) if !folder.listed => Ok(None),
            // Noted before it is answered, and looked at once more: from now on the kernel is told of what appears here.
            (None, Some(_)) if super::open::lock(&self.negatives).insert(parent) => {
                self.lookup_here(parent, name)
            }
            (None, Some(_)) => Err(EngineError::NotFound),
        }
    }

    /// A page of a folder, of what is within reach.
    pub(super) fn page(
        &self,
        folder: Ino,
        cookie: u64,
        reach: Option<Reach>,
        most: usize,
    ) -> Result<Page, EngineError> {
        self.open.steady(|believe| {
            let (entries, reach) = self.catalog.read(|rows| {
                let newest = |rounds| rows.newest().map(|until| Reach { until, rounds });
                let mut reach = reach.map_or_else(|| newest(ROUNDS), Ok)?;
                let entries = rows.read_dir(folder, Ino(cookie), most)?;
                let is_beyond = entries.first().is_some_and(|entry| entry.inode.ino > reach.until);
                if is_beyond && reach.rounds > 0 {
                    reach = newest(reach.rounds - 1)?;
                }
                Ok((entries, reach))
            })?;
            let known = entries.into_iter().take_while(|entry| entry.inode.ino <= reach.until);
            let page = known.map(|entry| PageEntry {
                cookie: entry.inode.ino.0,
                stat: self.stat_now(&entry.inode, believe),
                name: entry.name,
            });
            Ok(Page { entries: page.collect(), reach })
        })
    }

    /// What `stat` shows of a row, and of its live content while it is open.
    pub(crate) fn stat_of(&self, inode: &Inode, live: Option<&Live>, believe: Duration) -> Stat {
        let shown = &inode.attributes;
        let settings = &self.settings;
        let is_folder = inode.kind == Kind::Folder;
        let (mut size, mut mtime, mut ctime) = (shown.size, shown.mtime, shown.ctime);
        let live = live.filter(|live| live.generation == inode.generation);
        let mut present = match inode.content {
            Content::Hydrated => size,
            Content::Partial if live.is_none() => {
                let here = self.catalog.read(|rows| rows.presence(inode.ino));
                here.map_or(0, |here| here.blocks.present_bytes(size))
            }
            _ => 0,
        };
        let mut believe = believe;
        if self.open.is_mapped(inode.ino) {
            believe = Duration::ZERO;
        }
        if let Some(live) = live {
            let has_writers = self.open.handles(inode.ino).writers > 0;
            let state = live.state();
            present = state.present();
            size = state.size;
            // Until the catalog has it, the data file alone knows of a write.
            let wrote = state.wrote || state.recording > 0;
            if wrote || has_writers {
                believe = Duration::ZERO;
            }
            drop(state);
            if let (true, Some(data)) = (wrote, live.open_data())
                && let Ok(moved) = data.mtime()
                && inode.mtime_of_data != Some(moved)
            {
                mtime = moved;
                ctime = ctime.max(moved);
            }
        }
        if let Some(target) = &inode.target {
            size = target.len() as u64;
        }
        Stat {
            ino: inode.ino,
            kind: inode.kind,
            life: if is_folder { self.open.removals(inode.ino) } else { 0 },
            size: if is_folder { 4096 } else { size },
            // Archivers read 0 as "all zeros": a file with bytes has at least one.
            blocks: if is_folder { 8 } else { present.div_ceil(512).max(u64::from(size > 0)) },
            mtime,
            atime: shown.atime,
            ctime,
            mode: shown.mode.unwrap_or(match inode.kind {
                Kind::Folder => settings.dir_mode,
                Kind::Symlink => 0o777,
                _ => settings.file_mode,
            }),
            uid: shown.uid.unwrap_or(settings.uid),
            gid: shown.gid.unwrap_or(settings.gid),
            links: if is_folder { 2 } else { u32::from(inode.local.is_some()) },
            believe,
        }
    }
}
