//! A server by the address that people know: a WebDAV folder, or any page of a Nextcloud, ownCloud or OpenCloud. Which of
//! these it is, is found out at the first request; until then nothing is assumed.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::WebDavRemote;
use super::cloud::Cloud;
use super::failure::{Failure, Outcome};
use super::options::WebDavOptions;
use super::profile::Known;
use crate::remote::{
    AttemptTag, ByteStream, Capabilities, ChangePage, Cursor, ErrorKind, Expect, ListPage, Locator,
    Metadata, Observed, PageToken, Remote, RemotePath, Result, Space, Upload, Version,
};

/// Is the server behind an address.
#[derive(Debug)]
pub struct AddressedServer {
    options: WebDavOptions,
    /// The address as it was given, which may be a WebDAV folder itself.
    plain: Arc<WebDavRemote>,
    found: RwLock<Option<Arc<WebDavRemote>>>,
    /// Only one finds out.
    finding: tokio::sync::Mutex<()>,
}

impl AddressedServer {
    /// Opens an address without asking anything yet.
    pub fn open(options: &WebDavOptions) -> Result<Self> {
        let plain = Arc::new(WebDavRemote::open(options)?);
        let (found, finding) = (RwLock::default(), tokio::sync::Mutex::default());
        Ok(Self { options: options.clone(), plain, found, finding })
    }

    /// Reads the secret anew, as after signing in or out.
    pub fn sign_again(&self) {
        for server in std::iter::once(self.plain.clone()).chain(self.known()) {
            server.sign_again();
        }
    }

    fn known(&self) -> Option<Arc<WebDavRemote>> {
        self.found.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn server(&self) -> Result<Arc<WebDavRemote>> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let _only_one = self.finding.lock().await;
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let found = self.find().await.map_err(|f| f.at("open", &RemotePath::root()))?;
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        Ok(found)
    }

    async fn find(&self) -> Outcome<Arc<WebDavRemote>> {
        let client = &self.plain.client;
        let address = client.root().clone();
        let inside = address.path().contains("/remote.php/");
        if !inside {
            match self.plain.greet(&mut Known::careful().capabilities).await {
                Ok(_) => return Ok(self.plain.clone()),
                Err(failure) if is_passing(&failure) => return Err(failure),
                Err(_) => {}
            }
        }
        let Some(cloud) = Cloud::find(client, &address).await? else {
            return Ok(self.plain.clone());
        };
        let url = match inside {
            true => address,
            false => cloud.files(client, client.user().as_deref()).await?,
        };
        let options = WebDavOptions { url: url.to_string(), ..self.options.clone() };
        let server = WebDavRemote::open(&options);
        let server = server.map_err(|error| Failure::new(error.kind.clone(), error.to_string()))?;
        Ok(Arc::new(WebDavRemote { cloud: Some(cloud), ..server }))
    }
}

/// Whether a failure says nothing about what the address is.
fn is_passing(failure: &Failure) -> bool {
    failure.kind.is_unanswered()
        || matches!(
            failure.kind,
            ErrorKind::Unauthenticated | ErrorKind::RateLimited { .. } | ErrorKind::Locked { .. }
        )
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Remote for AddressedServer {
    fn capabilities(&self) -> Capabilities {
        self.known().unwrap_or_else(|| self.plain.clone()).capabilities()
    }

    async fn probe(&self) -> Result<Capabilities> {
        self.server().await?.probe().await
    }

    async fn identity(&self) -> Result<Option<String>> {
        self.server().await?.identity().await
    }

    async fn stat(&self, at: &Locator) -> Result<Option<Observed>> {
        self.server().await?.stat(at).await
    }

    async fn list(&self, folder: &Locator, page: Option<PageToken>) -> Result<ListPage> {
        self.server().await?.list(folder, page).await
    }

    async fn read(&self, at: &Locator, version: &Version, range: Range<u64>) -> Result<ByteStream> {
        self.server().await?.read(at, version, range).await
    }

    async fn write(&self, at: &Locator, body: Upload, expect: Expect) -> Result<Observed> {
        self.server().await?.write(at, body, expect).await
    }

    async fn make_folder(&self, at: &Locator) -> Result<Observed> {
        self.server().await?.make_folder(at).await
    }

    async fn rename(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        tag: &AttemptTag,
    ) -> Result<Observed> {
        self.server().await?.rename(from, to, expect, tag).await
    }

    async fn remove(&self, at: &Locator, expect: Expect, tag: &AttemptTag) -> Result<()> {
        self.server().await?.remove(at, expect, tag).await
    }

    async fn tidy(&self, at: &Locator, expect: &Expect, tag: &AttemptTag) -> Result<()> {
        self.server().await?.tidy(at, expect, tag).await
    }

    async fn set_metadata(
        &self,
        at: &Locator,
        metadata: &Metadata,
        expect: Expect,
    ) -> Result<Observed> {
        self.server().await?.set_metadata(at, metadata, expect).await
    }

    fn clock_ahead(&self) -> Option<i64> {
        self.known().unwrap_or_else(|| self.plain.clone()).clock_ahead()
    }

    async fn space(&self) -> Result<Option<Space>> {
        self.server().await?.space().await
    }

    async fn changes(&self, since: Option<&Cursor>) -> Result<ChangePage> {
        self.server().await?.changes(since).await
    }

    fn watch(&self) -> Option<BoxStream<'static, ()>> {
        self.plain.watch()
    }

    fn interested(&self, _folder: &Locator) {}
}
