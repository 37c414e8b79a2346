//! What a content is for certain.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{CacheError, DataFile, Result};
use crate::model::Digest;

/// How much of a file is held in memory while it is hashed.
const PIECE: usize = 256 * 1024;

/// How many pieces are read between two questions whether to go on.
const PIECES: u32 = 64;

/// The digest of bytes in memory.
pub fn digest_bytes(bytes: &[u8]) -> Digest {
    Digest { size: bytes.len() as u64, hash: *blake3::hash(bytes).as_bytes() }
}

impl DataFile {
    /// Reads the whole file and returns its digest; of a file that is written to meanwhile it means nothing.
    pub fn digest(&self) -> Result<Digest> {
        digest_file(&self.file, self.path())
    }

    /// The same; `None` as soon as `go_on` says no.
    pub fn digest_while(&self, go_on: impl Fn() -> bool) -> Result<Option<Digest>> {
        read_through(&self.file, self.path(), go_on)
    }
}

pub(super) fn digest_file(file: &File, path: &Path) -> Result<Digest> {
    match read_through(file, path, || true)? {
        Some(digest) => Ok(digest),
        None => Err(CacheError::Moving { path: path.to_owned() }),
    }
}

fn read_through(file: &File, path: &Path, go_on: impl Fn() -> bool) -> Result<Option<Digest>> {
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; PIECE];
    let (mut size, mut pieces) = (0, 0_u32);
    loop {
        if pieces.is_multiple_of(PIECES) && !go_on() {
            return Ok(None);
        }
        match file.read_at(&mut buf, size) {
            Ok(0) => return Ok(Some(Digest { size, hash: *hasher.finalize().as_bytes() })),
            Ok(read) => {
                hasher.update(buf.get(..read).unwrap_or_default());
                size += read as u64;
                pieces = pieces.wrapping_add(1);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CacheError::io("read", path, error)),
        }
    }
}
