//! A server by the address that people know: a WebDAV folder, or any page of a Nextcloud, ownCloud or OpenCloud. Which of
//! these it is, is found out at the first request; until then nothing is assumed.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use url::Url;

use super::WebDavRemote;
use super::cloud::Cloud;
use super::failure::{Failure, Outcome};
use super::options::WebDavOptions;
use super::profile::Known;
use crate::remote::behind::Behind;
use crate::remote::{Capabilities, ErrorKind, Remote, RemoteError, Result};

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
        for server in std::iter::once(self.plain.clone()).chain(self.found()) {
            server.sign_again();
        }
    }

    /// What people know the server by: without the folder that was asked for below it.
    fn address(&self) -> Url {
        let mut address = self.plain.client.root().clone();
        if let Ok(mut names) = address.path_segments_mut() {
            names.pop_if_empty();
            for _ in 0..self.options.below {
                names.pop();
            }
            names.push("");
        }
        address
    }

    fn found(&self) -> Option<Arc<WebDavRemote>> {
        self.found.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Only what was seen is remembered: a proxy in front of a server that is just away answers anything.
    async fn ask(&self) -> Outcome<Arc<WebDavRemote>> {
        let client = &self.plain.client;
        let (whole, address) = (client.root(), self.address());
        let inside = address.path().contains("/remote.php/");
        let greet = async || self.plain.greet(&mut Known::careful().capabilities).await;
        let mut refused = None;
        if !inside {
            match greet().await {
                Ok(_) => return Ok(self.plain.clone()),
                Err(failure) if is_passing(&failure) => return Err(failure),
                Err(failure) => refused = Some(failure),
            }
        }
        let Some((cloud, folder)) = Cloud::find(client, &address).await? else {
            return match refused {
                Some(failure) => Err(failure),
                None => greet().await.map(|_| self.plain.clone()),
            };
        };
        let url = if inside {
            whole.clone()
        } else {
            let below = whole.path().strip_prefix(address.path()).unwrap_or_default();
            let mut files = cloud.files(client, client.user().as_deref()).await?;
            files.set_path(&[files.path(), &folder, below].concat());
            files
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
impl Behind for AddressedServer {
    fn known(&self) -> Option<Arc<dyn Remote>> {
        Some(self.found().unwrap_or_else(|| self.plain.clone()))
    }

    fn assumed(&self) -> Capabilities {
        self.plain.capabilities()
    }

    async fn find(&self) -> Result<Arc<dyn Remote>> {
        if let Some(found) = self.found() {
            return Ok(found);
        }
        let _only_one = self.finding.lock().await;
        if let Some(found) = self.found() {
            return Ok(found);
        }
        let found = self.ask().await.map_err(|f| f.opening(self.plain.client.root()))?;
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        Ok(found)
    }

    /// Neither what is asked about is missing nor may it not be: there is nothing that could tell.
    async fn there(&self) -> Result<Arc<dyn Remote>> {
        self.find().await.map_err(|error| match error.kind {
            ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Denied => {
                RemoteError { kind: ErrorKind::RootMissing, ..error }
            }
            _ => error,
        })
    }
}
