//! What a content is for certain.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{CacheError, DataFile, Result};
use crate::model::Digest;

/// How much of a file is held in memory while it is hashed.
const PIECE: usize = 256 * 1024;

/// The digest of bytes in memory.
pub fn digest_bytes(bytes: &[u8]) -> Digest {
    Digest { size: bytes.len() as u64, hash: *blake3::hash(bytes).as_bytes() }
}

impl DataFile {
    /// Reads the whole file and returns its digest; of a file that is written to meanwhile it means nothing.
    pub fn digest(&self) -> Result<Digest> {
        digest_file(&self.file, self.path())
    }
}

pub(super) fn digest_file(file: &File, path: &Path) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; PIECE];
    let mut size = 0;
    loop {
        match file.read_at(&mut buf, size) {
            Ok(0) => return Ok(Digest { size, hash: *hasher.finalize().as_bytes() }),
            Ok(read) => {
                hasher.update(buf.get(..read).unwrap_or_default());
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CacheError::io("read", path, error)),
        }
    }
}
