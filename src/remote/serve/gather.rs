//! A content as it comes: in memory, and in a hidden file of the disk that it is for when it grows.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use bytes::BytesMut;
use hyper::StatusCode;
use tokio::io::AsyncWriteExt as _;

use super::request::{Answer, refused, said};
use super::write::tag;
use crate::remote::folder::{FolderRemote, HiddenName};
use crate::remote::{Body, Digest, Locator};

/// Contents up to this size wait in memory.
const SMALL: usize = 256 << 10;

/// Is a content that came, before it is made visible.
pub(super) struct Came {
    pub(super) body: Body,
    pub(super) digest: Digest,
    /// Keeps the file that `body` names.
    _file: Option<(OwnedFd, Option<HiddenName>)>,
}

/// Gathers a content.
pub(super) struct Gathering<'a> {
    remote: &'a FolderRemote,
    /// For which it comes.
    at: &'a Locator,
    small: BytesMut,
    file: Option<(tokio::fs::File, Option<HiddenName>)>,
    hasher: blake3::Hasher,
    size: u64,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(remote: &'a FolderRemote, at: &'a Locator) -> Self {
        let (small, hasher) = (BytesMut::new(), blake3::Hasher::new());
        Self { remote, at, small, file: None, hasher, size: 0 }
    }

    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<(), Answer> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if let Some((file, _)) = &mut self.file {
            return file.write_all(bytes).await.map_err(|error| failed(&error));
        }
        self.small.extend_from_slice(bytes);
        if self.small.len() > SMALL {
            let waiting = self.remote.waiting(self.at, tag()).await;
            let waiting = waiting.map_err(|error| refused(&error))?;
            let mut file = tokio::fs::File::from_std(waiting.file.into());
            file.write_all(&self.small).await.map_err(|error| failed(&error))?;
            self.small = BytesMut::new();
            self.file = Some((file, waiting.name));
        }
        Ok(())
    }

    pub(super) async fn end(self) -> Result<Came, Answer> {
        let digest = Digest { size: self.size, hash: *self.hasher.finalize().as_bytes() };
        let Some((mut file, name)) = self.file else {
            return Ok(Came { body: Body::Memory(self.small.freeze()), digest, _file: None });
        };
        file.flush().await.map_err(|error| failed(&error))?;
        let file: OwnedFd = file.into_std().await.into();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Came { body: Body::File(path), digest, _file: Some((file, name)) })
    }
}

fn failed(error: &std::io::Error) -> Answer {
    use std::io::ErrorKind::{
        FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let status = match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => StatusCode::INSUFFICIENT_STORAGE,
        PermissionDenied | ReadOnlyFilesystem => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    said(status, &error.to_string())
}
