//! Passthrough: the kernel reads and writes a data file itself, and nothing of it comes by here.
//!
//! The first open of an inode decides how the kernel does its I/O, and that holds until the last one is gone: another mode
//! or another backing fails with EIO. What a writer does past us is seen by the data file's stamp, whenever somebody asks
//! for the state of the live content, and by the lease on it before anything relies on nobody writing.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex};

use super::core::Core;
use super::live::Live;
use super::open::{IoMode, lock};
use super::{Engine, EngineError};
use crate::cache::{Access, DataFile};
use crate::model::Generation;

/// How much room there must be for an inode to be opened past us: its writer does not ask for any.
const MARGIN: u64 = 1 << 30;

/// Registers data files with the kernel.
pub trait Backings: Send + Sync {
    /// Lets the kernel use a file for passthrough, and answers under which number.
    fn register(&self, file: BorrowedFd<'_>) -> io::Result<u32>;
    /// Ends that; opens that use it keep it until they are closed.
    fn unregister(&self, id: u32);

    /// Which program does it.
    fn by(&self) -> &'static str {
        "dewfs"
    }

    /// Why it cannot be done now, though it could before.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// Is a data file that the kernel reads and writes itself. Ends with the last handle.
pub(crate) struct Backing {
    pub(crate) id: u32,
    pub(crate) generation: Generation,
    /// The one descriptor kept of it, for reading only: another would stand in the way of the lease.
    pub(crate) data: Arc<DataFile>,
    registrar: Arc<dyn Backings>,
}

impl Drop for Backing {
    fn drop(&mut self) {
        self.registrar.unregister(self.id);
    }
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "backing {} of generation {}", self.id, self.generation.0)
    }
}

/// Says whether the kernel can be told to go past us, or why not.
#[derive(Default)]
pub(crate) struct Through(Mutex<Possible>);

#[derive(Clone)]
enum Possible {
    Yes(Arc<dyn Backings>),
    No(String),
}

impl Default for Possible {
    fn default() -> Self {
        Self::No("not mounted yet".to_owned())
    }
}

impl Through {
    fn registrar(&self) -> Option<Arc<dyn Backings>> {
        match &*lock(&self.0) {
            Possible::Yes(registrar) => Some(registrar.clone()),
            Possible::No(_) => None,
        }
    }

    fn set(&self, possible: Possible) {
        *lock(&self.0) = possible;
    }

    /// Why it is not possible; `None` if it is.
    pub(crate) fn why_not(&self) -> Option<String> {
        match &*lock(&self.0) {
            Possible::Yes(registrar) => registrar.trouble(),
            Possible::No(why) => Some(why.clone()),
        }
    }

    /// Which program tells the kernel, if one does.
    pub(crate) fn by(&self) -> Option<&'static str> {
        self.registrar().map(|registrar| registrar.by())
    }
}

impl Engine {
    /// Lets hydrated files be read and written by the kernel itself, if kernel, rights and disk allow it: that is tried
    /// once, now. Answers why not, in words for people.
    pub fn use_backings(&self, registrar: Arc<dyn Backings>) -> Result<(), String> {
        let outcome = self.core.try_backings(&*registrar);
        self.core.through.set(match &outcome {
            Ok(()) => Possible::Yes(registrar),
            Err(why) => Possible::No(why.clone()),
        });
        outcome
    }
}

impl Core {
    fn try_backings(&self, registrar: &dyn Backings) -> Result<(), String> {
        if !self.settings.passthrough {
            return Err("switched off (passthrough=off)".to_owned());
        }
        if !self.leases_trusted {
            return Err(
                "the file system of the state directory does not tell who still writes to a file"
                    .into(),
            );
        }
        if self.cache.stamp_tick().is_some() {
            return Err("this kernel's file times are too coarse to see every write (Linux 6.13 is the first whose are not)".into());
        }
        if !self.stores_seen {
            return Err("the file system of the state directory does not tell of what is written through a mapping".into());
        }
        let lock_file = lock(&self.lock);
        let Some(file) = &*lock_file else { return Err("stopped".to_owned()) };
        match registrar.register(file.as_fd()) {
            Ok(id) => {
                registrar.unregister(id);
                Ok(())
            }
            Err(error) => Err(reason(&error)),
        }
    }

    /// How the kernel does the I/O of an inode that is being opened: as the first of its opens decided.
    pub(crate) fn io_of(&self, live: &Arc<Live>) -> Result<Option<Arc<Backing>>, EngineError> {
        let mode = match self.open.io_mode(live.ino) {
            Some(mode) => mode,
            None => self.open.settle_io_mode(live.ino, self.propose(live)),
        };
        match mode {
            IoMode::Cached => Ok(None),
            IoMode::Through(backing) if backing.generation == live.generation => {
                live.go_through(&backing);
                Ok(Some(backing))
            }
            // Content is only replaced while nothing is open.
            IoMode::Through(_) => Err(EngineError::Stale),
        }
    }

    /// Past us, if all is here and the catalog knows it, and if there is room enough for a writer who does not ask.
    fn propose(&self, live: &Live) -> IoMode {
        let Some(registrar) = self.through.registrar() else { return IoMode::Cached };
        // While somebody writes past us, everybody else must see what is written, and goes past us, too.
        if !(live.is_known_whole() || self.open.is_mapped(live.ino) && live.state().hydrated) {
            return IoMode::Cached;
        }
        match self.back(live, registrar) {
            Ok(Some(backing)) => IoMode::Through(Arc::new(backing)),
            Ok(None) => IoMode::Cached,
            Err(EngineError::Disk(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::debug!(ino = live.ino.0, %error, "the daemon reads and writes a data file itself");
                IoMode::Cached
            }
            Err(error) => {
                tracing::warn!(ino = live.ino.0, %error, "cannot let the kernel use a data file itself");
                IoMode::Cached
            }
        }
    }

    fn back(
        &self,
        live: &Live,
        registrar: Arc<dyn Backings>,
    ) -> Result<Option<Backing>, EngineError> {
        let (ino, generation) = (live.ino, live.generation);
        // An empty file has most often just been created.
        let made = match live.state().size {
            0 => self.cache.create_to_read(ino, generation)?,
            _ => None,
        };
        let data = match made {
            Some(data) => {
                // Making it is no writing.
                live.state().seen = Some(data.stamp()?);
                data
            }
            None => match self.cache.open_data(ino, generation, Access::Read)? {
                Some(data) => data,
                None => return Ok(None),
            },
        };
        let usage = self.cache.usage()?;
        let roomy = usage.counted && usage.room() >= MARGIN;
        if !roomy {
            // Ours would be taken for somebody else's; whoever is at it keeps it.
            live.close_data();
            // A mapping that outlived its handles writes past us in any case.
            if data.nobody_can_write()? {
                return Ok(None);
            }
        }
        let data = Arc::new(data);
        match registrar.register((*data).as_fd()) {
            Ok(id) => Ok(Some(Backing { id, generation, data, registrar })),
            Err(error) => {
                if is_lasting(&error) {
                    self.through.set(Possible::No(reason(&error)));
                }
                Err(EngineError::Disk(error))
            }
        }
    }
}

fn is_lasting(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::ENOTTY | libc::EOPNOTSUPP | libc::ELOOP | libc::ENOSYS)
    )
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "needs the capability CAP_SYS_ADMIN".to_owned(),
        Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::ENOSYS) => {
            "this kernel has none (Linux 6.9 is the first that does)".to_owned()
        }
        Some(libc::ELOOP) => "the state directory lies on a stacked file system".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cache::{Cache, Limits};
    use crate::model::{BlockSet, Content, Ino};

    struct Nobody;

    impl Backings for Nobody {
        fn register(&self, _file: BorrowedFd<'_>) -> io::Result<u32> {
            Ok(1)
        }

        fn unregister(&self, _id: u32) {}
    }

    /// A file that is opened again in the moment in which its last handle is let go of: both backings live for a while.
    #[test]
    fn what_is_written_past_us_is_seen_through_the_newer_of_two_backings() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { cache_size: 1 << 40, min_free: 0 };
        let cache = Cache::open(dir.path(), limits).unwrap();
        let (ino, generation) = (Ino(7), Generation(1));
        let file = cache.create(ino, generation).unwrap();
        let blocks = BlockSet::default();
        let live = Live::new(ino, generation, 0, Content::Hydrated, blocks, None, false);
        let backing = || {
            let data = Arc::new(cache.open_data(ino, generation, Access::Read).unwrap().unwrap());
            Arc::new(Backing { id: 1, generation, data, registrar: Arc::new(Nobody) })
        };
        let (older, newer) = (backing(), backing());
        live.go_through(&older);
        live.go_through(&newer);
        drop(older);
        file.write_at(b"past us", 0).unwrap();
        assert_eq!(live.state().size, 7);
        assert!(live.has_news());
    }
}
