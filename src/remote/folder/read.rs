//! Reading one version: each piece is handed out only after a look that the file is still that version.

use std::ops::Range;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use rustix::io::Errno;

use super::disk::{Meta, look, look_open, open_entry, refused};
use super::threads::Threads;
use super::{FolderRemote, not_run};
use crate::remote::{ByteStream, ErrorKind, Kind, RemoteError, RemotePath, Result, Version};

const PIECE: u64 = 256 * 1024;
const READ: &str = "read";

/// Is an open file. Closing it may hang like everything else, so that happens where it may.
struct Opened {
    file: Option<OwnedFd>,
    threads: Threads,
}

impl Opened {
    fn file(&self) -> rustix::io::Result<&OwnedFd> {
        self.file.as_ref().ok_or(Errno::BADF)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.threads.leave(move || drop(file));
        }
    }
}

struct Reading {
    file: Opened,
    opened: Meta,
    at: RemotePath,
    rest: Range<u64>,
}

fn open(remote: &FolderRemote, at: &RemotePath, version: &Version) -> Result<(OwnedFd, Meta)> {
    let fail = |error: Errno| refused(error, READ, at);
    let mismatch = || RemoteError::new(ErrorKind::VersionMismatch, READ, at);
    let (folder, name) = remote.state().root.parent(at).map_err(fail)?;
    match look(&folder, name).map_err(fail)?.entry() {
        None => return Err(fail(Errno::NOENT)),
        Some(meta) if meta.kind != Kind::File || meta.version() != *version => {
            return Err(mismatch());
        }
        Some(_) => {}
    }
    let file = open_entry(&folder, name).map_err(fail)?;
    let opened = folder.opened(&file).map_err(fail)?.ok_or_else(mismatch)?;
    if opened.kind != Kind::File || opened.version() != *version {
        return Err(mismatch());
    }
    Ok((file, opened))
}

pub(super) fn read(
    remote: &FolderRemote,
    at: &RemotePath,
    version: &Version,
    range: Range<u64>,
) -> Result<ByteStream> {
    let (file, opened) = open(remote, at, version)?;
    if range.start > range.end || range.end > opened.size {
        let error = RemoteError::new(ErrorKind::Unsupported, READ, at);
        return Err(error.because("the range lies outside the file"));
    }
    let (length, total) = (range.end - range.start, Some(opened.size));
    let file = Opened { file: Some(file), threads: remote.shared.threads.clone() };
    let reading = Reading { file, opened, at: at.clone(), rest: range };
    let bytes = stream::unfold(Some(reading), |reading| async move {
        let reading = reading.filter(|reading| !reading.rest.is_empty())?;
        match piece(reading).await {
            Ok((bytes, reading)) => Some((Ok(bytes), Some(reading))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(ByteStream { length, total, bytes: bytes.boxed() })
}

async fn piece(mut reading: Reading) -> Result<(Bytes, Reading)> {
    let (at, threads) = (reading.at.clone(), reading.file.threads.clone());
    let done = threads.run(move |_| {
        let bytes = read_piece(&reading)?;
        reading.rest.start += bytes.len() as u64;
        Ok((bytes, reading))
    });
    done.await.unwrap_or_else(|| Err(not_run(READ, &at)))
}

fn read_piece(reading: &Reading) -> Result<Bytes> {
    let fail = |error: Errno| refused(error, READ, &reading.at);
    let file = reading.file.file().map_err(fail)?;
    let wanted = (reading.rest.end - reading.rest.start).min(PIECE);
    let mut buffer = vec![0; usize::try_from(wanted).unwrap_or(0)];
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match rustix::io::pread(file, free, reading.rest.start + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(fail(error)),
        }
    }
    let now = look_open(file, reading.opened.numbered).map_err(fail)?;
    if now.is_none_or(|now| now.version() != reading.opened.version()) {
        return Err(RemoteError::new(ErrorKind::VersionMismatch, READ, &reading.at));
    }
    if filled < buffer.len() {
        return Err(RemoteError::new(ErrorKind::Corrupt, READ, &reading.at).because("a short read"));
    }
    Ok(Bytes::from(buffer))
}
