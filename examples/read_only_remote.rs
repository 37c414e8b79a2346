//! A remote that is only read, in four methods: what the store of `custom_remote` has saved, looked up at each question.
//!
//! `read_only_remote mount archive:///srv/notes ~/Archive` mounts it read-only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use async_trait::async_trait;
use dewfs::remote::{
    ByteStream, Capabilities, Expect, ListPage, Locator, Observed, PageToken, Remote, RemoteError,
    RemotePath, Result, Version,
};

/// What is under a key: its version, and its bytes; a folder has none.
type Entry = (u64, Option<Vec<u8>>);

/// A store in one file, which somebody else writes.
#[derive(Debug)]
pub struct Archive {
    /// The file.
    pub file: PathBuf,
}

fn observed((version, bytes): &Entry) -> Observed {
    match bytes {
        Some(bytes) => Observed::file(version.to_string(), bytes.len() as u64),
        None => Observed::folder(""),
    }
}

impl Archive {
    fn pairs(&self) -> Result<BTreeMap<RemotePath, Entry>> {
        let failed = |error: io::Error| RemoteError::io("open", self.file.display(), error);
        let saved = fs::read(&self.file).map_err(failed)?;
        let pairs: Vec<_> = serde_json::from_slice(&saved).map_err(|error| failed(error.into()))?;
        Ok(pairs.into_iter().collect())
    }
}

#[async_trait]
impl Remote for Archive {
    fn capabilities(&self) -> Capabilities {
        Capabilities::read_only("archive")
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        Ok(self.pairs()?.get(&at.path).map(observed))
    }

    async fn list(&self, folder: &Locator, _page: Option<PageToken>) -> Result<ListPage> {
        let pairs = self.pairs()?;
        ListPage::of(&folder.path, pairs.iter().map(|(path, entry)| (path, observed(entry))))
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        let pairs = self.pairs()?;
        let found = pairs.get(&at.path);
        Expect::Version(version.clone()).check("read", &at.path, found.map(observed).as_ref())?;
        let bytes = found.and_then(|(_, bytes)| bytes.as_deref()).unwrap_or_default();
        let part = bytes.get(range.start as usize..range.end as usize).unwrap_or_default();
        Ok(part.to_vec().into())
    }
}

fn main() -> ExitCode {
    let open = |address: &str, _: &_| Ok::<_, io::Error>(Archive { file: address.into() });
    dewfs::main_with(&dewfs::Schemes::new().with("archive", open))
}
