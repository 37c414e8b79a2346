//! A WebDAV server as a remote: an own client, since no server keeps all that the protocol promises.
//!
//! What a server can do is found by trying (`probe`); what it says is checked on every answer. A listing counts only when
//! it is a whole `207`; a part of a file only when range, length and version are those asked for. A write is seen whole or
//! not at all: straight to the place where the server is known to replace in one step under a condition, else to a hidden
//! name beside it, and what is in the way is moved aside, looked at, and only then removed (`publish`). Nothing is followed
//! to another server but reads, and those without credentials.

mod client;
mod failure;
mod look;
mod multistatus;
mod options;
mod paths;
mod read;
mod upload;
mod version;
mod xml_stream;

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;

use crate::remote::{
    ByteStream, Capabilities, Conditional, ErrorKind, FeedKind, ListPage, Locator, Observed,
    PageToken, Remote, RemoteError, Result, Space, Version,
};
use client::Client;
pub use options::{Credentials, CredentialsSource, WebDavOptions};
use paths::{RawPath, Root};

/// Is a folder on a WebDAV server.
#[derive(Debug)]
pub struct WebDavRemote {
    client: Client,
    root: Root,
    known: Arc<RwLock<Capabilities>>,
}

impl WebDavRemote {
    /// Opens a server without asking it anything yet.
    pub fn open(options: &WebDavOptions) -> Result<Self> {
        let client = Client::new(options)?;
        let root = Root::new(client.root().clone());
        let known = Arc::new(RwLock::new(assumed()));
        Ok(Self { client, root, known })
    }

    fn known(&self) -> Capabilities {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tick(&self) -> Duration {
        self.known.read().unwrap_or_else(PoisonError::into_inner).version_tick
    }

    /// The server gave a whole file instead of a part.
    fn forget_ranges(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).ranges = false;
    }
}

/// What every server can do, until it was probed.
fn assumed() -> Capabilities {
    Capabilities {
        ranges: true,
        conditional: Conditional::None,
        writable: true,
        stable_ids: false,
        rename: true,
        server_copy: false,
        settable_mtime: false,
        settable_mode: false,
        version_tick: look::TICK,
        feed: FeedKind::Walk,
        product: "WebDAV".to_owned(),
        identity: None,
    }
}

#[async_trait]
impl Remote for WebDavRemote {
    fn capabilities(&self) -> Capabilities {
        self.known()
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        let seen = self.look(&RawPath::of(at)).await.map_err(|f| f.at("stat", &at.path))?;
        Ok(seen.map(|seen| Observed { extra: at.extra.clone(), ..seen }))
    }

    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
        if page.is_some() {
            let error = RemoteError::new(ErrorKind::Unsupported, "list", &folder.path);
            return Err(error.because("a listing here has one page"));
        }
        let listed = self.list_folder(&RawPath::of(folder)).await;
        let entries = listed.map_err(|f| f.at("list", &folder.path))?;
        Ok(ListPage { entries, next: None })
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        let path = RawPath::of(at);
        let read = self.read_range(&path, &at.path, version, range).await;
        read.map_err(|f| f.at("read", &at.path))
    }

    async fn space(&self) -> Result<Option<Space>> {
        self.quota().await.map_err(|f| f.at("space", &crate::remote::RemotePath::root()))
    }
}
