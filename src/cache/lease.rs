//! Who can still write into a data file. A lease is asked for and given back at once: a question, not a lock.

use rustix::io::Errno;

use super::sys::{Lease, ask_lease};
use super::{Access, Cache, CacheError, DataFile, Result};
use crate::model::{Generation, Ino};

impl Cache {
    /// Whether nobody has the data file open or mapped for writing, this process included.
    ///
    /// Asked with the inode's lock held, and only where [`Examination`](super::Examination) says that leases are trusted.
    /// No file is an error.
    pub fn nobody_can_write(&self, ino: Ino, generation: Generation) -> Result<bool> {
        match self.open_data(ino, generation, Access::Read)? {
            Some(data) => data.nobody_can_write(),
            None => {
                let path = self.data_path(ino, generation);
                Err(CacheError::io("ask about", &path, Errno::NOENT))
            }
        }
    }
}

impl DataFile {
    /// Whether nobody has the file open or mapped for writing; `false` of a descriptor that is itself for writing, and
    /// where the file system has no leases.
    pub fn nobody_can_write(&self) -> Result<bool> {
        if self.access() == Access::Write {
            return Ok(false);
        }
        match ask_lease(self, Lease::Read) {
            Ok(granted) => Ok(granted),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(CacheError::io("ask about", self.path(), error)),
        }
    }

    /// Whether nobody else has the file open or mapped at all, not even for reading; `false` where the file system has no
    /// leases.
    pub fn is_only_ours(&self) -> Result<bool> {
        match ask_lease(self, Lease::Write) {
            Ok(granted) => Ok(granted),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(CacheError::io("ask about", self.path(), error)),
        }
    }
}
