//! A WebDAV server as a remote: an own client, since no server keeps all that the protocol promises.
//!
//! What a server can do is found by trying (`probe`); what it says is checked on every answer. A listing counts only when
//! it is a whole `207`; a part of a file only when range, length and version are those asked for. A write is seen whole or
//! not at all: straight to the place where the server is known to replace in one step under a condition, else to a hidden
//! name beside it, and what is in the way is moved aside, looked at, and only then removed (`publish`). Nothing is followed
//! to another server but reads, and those without credentials.

mod address;
mod aside;
mod client;
mod cloud;
#[cfg(any(test, fuzzing))]
pub mod doors;
mod failure;
mod left;
mod login_flow;
mod look;
mod multistatus;
mod options;
mod paths;
mod places;
mod probe;
mod profile;
mod publish;
mod read;
mod sync;
mod upload;
mod verbs;
mod version;
mod xml_stream;

use std::ops::Range;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;

use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, ErrorKind, Expect, ListPage, Locator,
    Metadata, Observed, PageToken, Remote, RemoteError, RemotePath, Result, Space, Upload, Version,
};
pub use address::AddressedServer;
use aside::Site;
use client::Client;
use cloud::Cloud;
use failure::Outcome;
use left::Attempts;
pub use login_flow::{Granted, LoginFlow};
#[doc(hidden)]
pub use multistatus::count_entries;
pub use options::{Credentials, CredentialsSource, WebDavOptions};
use paths::Root;
use places::{Marked, Parents};
use profile::{Known, Profile};

/// Is a folder on a WebDAV server.
#[derive(Debug)]
pub struct WebDavRemote {
    client: Client,
    root: Root,
    known: RwLock<Known>,
    marked: Marked,
    attempts: Attempts,
    parents: Parents,
    /// Whether nothing is changed there.
    look_only: bool,
    /// What kind of server it is, if it is one that is known by more than WebDAV.
    cloud: Option<Cloud>,
}

impl WebDavRemote {
    /// Opens a server without asking it anything yet. Until [`probe`](Remote::probe) has looked, every change is made in
    /// the most careful way.
    pub fn open(options: &WebDavOptions) -> Result<Self> {
        let client = Client::new(options)?;
        let root = Root::new(client.root().clone());
        let (known, parents) = (RwLock::new(Known::careful()), Parents::default());
        let (marked, attempts) = (Marked::default(), Attempts::default());
        let look_only = options.look_only;
        Ok(Self { client, root, known, marked, attempts, parents, look_only, cloud: None })
    }

    /// Asks for credentials now, not only when the server refuses the last ones.
    pub fn sign_again(&self) {
        let _others = self.client.sign_again();
    }

    fn profile(&self) -> Profile {
        self.known.read().unwrap_or_else(PoisonError::into_inner).profile.clone()
    }

    fn tick(&self) -> Duration {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.capabilities.version_tick
    }

    async fn site(&self, at: &Locator, tag: &AttemptTag) -> Outcome<Site> {
        Site::new(self.place(at).await?, at.path.name(), tag)
    }

    fn learn(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// The server gave a whole file instead of a part.
    fn forget_ranges(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.capabilities.ranges = false;
    }
}

#[async_trait]
impl Remote for WebDavRemote {
    fn capabilities(&self) -> Capabilities {
        self.known.read().unwrap_or_else(PoisonError::into_inner).capabilities.clone()
    }

    async fn probe(&self) -> Result<Capabilities> {
        self.find_out().await.map_err(|f| f.opening(self.root.url()))
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        let seen = async { self.look(&self.place(at).await?).await };
        let seen = seen.await.map_err(|f| f.at("stat", &at.path))?;
        Ok(seen.map(|seen| Observed { extra: at.extra.clone(), ..seen }))
    }

    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
        if page.is_some() {
            let error = RemoteError::new(ErrorKind::Unsupported, "list", &folder.path);
            return Err(error.because("a listing here has one page"));
        }
        let listed = async { self.list_folder(&self.place(folder).await?).await };
        listed.await.map_err(|f| f.at("list", &folder.path))
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        let read = async {
            let path = self.place(at).await?;
            self.read_range(&path, &at.path, version, range).await
        };
        read.await.map_err(|f| f.at("read", &at.path))
    }

    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        let _under_way = self.attempts.begin(&body.tag);
        let written = async {
            let site = self.site(at, &body.tag).await?;
            self.write_file(&site, &body, &expect).await
        };
        let seen = written.await.map_err(|f| f.at("write", &at.path))?;
        Ok(Observed { extra: at.extra.clone(), digest: Some(body.digest), ..seen })
    }

    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        let made = async { self.create_folder(&self.place(at).await?).await };
        made.await.map_err(|f| f.at("make folder", &at.path))
    }

    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        _tag: &AttemptTag,
    ) -> Result<Observed> {
        if to.path.starts_with(&from.path) && to.path != from.path {
            let error = RemoteError::new(ErrorKind::NameRejected, "rename", &from.path);
            return Err(error.because("a folder cannot be moved into itself"));
        }
        let moved = async {
            self.parents.forget();
            let (from, to) = (self.place(from).await?, self.place_of(&to.path).await?);
            self.move_entry(&from, &to, &expect).await
        };
        moved.await.map_err(|f| f.at("rename", &from.path))
    }

    async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
        self.parents.forget();
        let removed = async { self.remove_entry(&self.site(at, tag).await?, &expect).await };
        removed.await.map_err(|f| f.at("remove", &at.path))
    }

    async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
        // From here on what comes late of it is known as ours.
        let _under_way = self.attempts.begin(tag);
        let tidied = async { self.sweep(&self.site(at, tag).await?, expect).await };
        tidied.await.map_err(|f| f.at("tidy", &at.path))
    }

    async fn set_metadata(
        &self,
        at: &Locator,
        metadata: &Metadata,
        expect: Expect,
    ) -> Result<Observed> {
        let seen = async { self.set_times(&self.place(at).await?, metadata, &expect).await };
        seen.await.map_err(|f| f.at("set metadata of", &at.path))
    }

    async fn identity(&self) -> Result<Option<String>> {
        let fail = |failure: failure::Failure| failure.at("identity", &RemotePath::root());
        match self.ask(&paths::RawPath(Vec::new())).await.map_err(fail)? {
            Some((root, _)) if root.collection => Ok(root.file_id),
            _ => Err(RemoteError::new(ErrorKind::NotFound, "identity", RemotePath::root())),
        }
    }

    async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
        self.changes_since(since).await.map_err(|f| f.at("changes of", &RemotePath::root()))
    }

    fn clock_ahead(&self) -> Option<i64> {
        self.client.clock.ahead()
    }

    async fn space(&self) -> Result<Option<Space>> {
        self.quota().await.map_err(|f| f.at("space", &RemotePath::root()))
    }
}
