//! A file for bytes that come for a name, until it is known whether they get it: on the disk that they are for.

use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Mode, OFlags};

use super::FolderRemote;
use super::disk::Folder;
use super::threads::Threads;
use super::write::{Spot, create_temp};
use crate::remote::{AttemptTag, ErrorKind, Locator, Name, Result};

const OPERATION: &str = "write";

/// Is an open file that nobody sees.
pub(in crate::remote) struct Waiting {
    pub(in crate::remote) file: OwnedFd,
    pub(in crate::remote) name: Option<HiddenName>,
}

/// Is the hidden name that a file has where none can be without; it goes when this is dropped.
#[derive(Debug)]
pub(in crate::remote) struct HiddenName {
    place: Option<(Folder, Name)>,
    threads: Threads,
}

impl Drop for HiddenName {
    fn drop(&mut self) {
        let Some((folder, name)) = self.place.take() else { return };
        self.threads.leave(move || {
            if let Err(error) = fs::unlinkat(&folder, name.as_bytes(), AtFlags::empty()) {
                tracing::debug!(%error, %name, "a temporary stays behind");
            }
        });
    }
}

impl FolderRemote {
    /// Makes one for what is to come to a name.
    pub(in crate::remote) async fn waiting(
        &self,
        at: &Locator,
        tag: AttemptTag,
    ) -> Result<Waiting> {
        let path = at.path.clone();
        self.blocking(OPERATION, &at.path, move |this, _| {
            let spot = Spot::open(this, &path, &tag, OPERATION, ErrorKind::NoParent)?;
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            match fs::openat(&spot.folder, ".", flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => Ok(Waiting { file, name: None }),
                // Many file systems have no files without names; any other refusal is met again.
                Err(_) => named(this, spot),
            }
        })
        .await
    }
}

fn named(remote: &FolderRemote, spot: Spot<'_>) -> Result<Waiting> {
    let made = create_temp(&spot, Mode::RUSR | Mode::WUSR);
    let file = made.map_err(|error| spot.fail(error))?;
    let threads = remote.shared.threads.clone();
    let name = HiddenName { place: Some((spot.folder, spot.temp)), threads };
    Ok(Waiting { file, name: Some(name) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, Instant};

    use super::*;
    use crate::remote::RemotePath;
    use crate::remote::names::parse_temp;

    /// Where no file can be without a name, uploads of any size were held in memory.
    #[test]
    fn regression_a_file_that_must_have_a_name_has_a_hidden_one_until_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let remote = FolderRemote::open(dir.path()).unwrap();
        let at = RemotePath::root().child(Name::new("upload").unwrap());
        let tag = AttemptTag { mount: "serve".to_owned(), item: 0, nonce: 7 };
        let names = || -> Vec<_> {
            let all = std::fs::read_dir(dir.path()).unwrap();
            all.map(|entry| entry.unwrap().file_name().into_encoded_bytes()).collect()
        };
        let spot = Spot::open(&remote, &at, &tag, OPERATION, ErrorKind::NoParent).unwrap();
        let waiting = named(&remote, spot).unwrap();
        let there = names();
        assert_eq!(there.iter().map(|name| parse_temp(name).unwrap().0).collect::<Vec<_>>(), [tag]);
        drop(waiting);
        let end = Instant::now() + Duration::from_secs(10);
        while !names().is_empty() {
            assert!(Instant::now() < end, "{:?}", names());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
