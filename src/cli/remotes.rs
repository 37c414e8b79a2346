//! From a specification to a remote that can be asked.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::{Credentials, Login, MountOptions, RemoteOptions, RemoteSpec, Who};
use crate::remote::Remote;
use crate::remote::folder::AwaitedFolder;
use crate::remote::webdav::{Credentials as Signature, WebDavOptions, WebDavRemote};

use super::Failure;

/// Is a remote, and where its credentials come from if it takes any.
#[derive(Debug)]
pub struct Opened {
    /// The remote.
    pub remote: Arc<dyn Remote>,
    /// To be told when nobody may be asked on a terminal any more.
    pub credentials: Option<Arc<Credentials>>,
}

/// Opens the remote of a mount.
pub fn open_for(mount: &MountOptions) -> Result<Opened, Failure> {
    open(&mount.remote, &mount.remote_options, &mount.who, mount.settings.timeout)
}

/// Opens a remote. Asks it nothing yet; reads the credentials.
pub fn open(
    spec: &RemoteSpec,
    options: &RemoteOptions,
    who: &Who,
    stall: Duration,
) -> Result<Opened, Failure> {
    match spec {
        RemoteSpec::Folder(path) => {
            Ok(Opened { remote: Arc::new(AwaitedFolder::new(path)), credentials: None })
        }
        RemoteSpec::WebDav { url, .. } => open_webdav(url, options, who, stall),
        RemoteSpec::Added { scheme, address } => {
            let opened = super::schemes::open(scheme, address, options);
            let remote = opened.map_err(|why| Failure::failed(format!("{spec}: {why}")))?;
            Ok(Opened { remote, credentials: None })
        }
    }
}

fn open_webdav(
    url: &Url,
    options: &RemoteOptions,
    who: &Who,
    stall: Duration,
) -> Result<Opened, Failure> {
    let file = options.credentials.as_deref();
    let place = url.host_str().unwrap_or_default();
    let credentials = Arc::new(Credentials::find(file, options.username.as_deref(), place, who)?);
    let source = Arc::clone(&credentials);
    let opened_with = WebDavOptions {
        credentials: Some(Arc::new(move || source.current().map(sign))),
        insecure_http: options.insecure_http,
        ca_file: options.ca_file.clone(),
        client_cert: options.client_cert.clone(),
        client_key: options.client_key.clone(),
        proxy: options.proxy.clone(),
        stall,
        ..WebDavOptions::new(url.as_str())
    };
    let remote =
        WebDavRemote::open(&opened_with).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(Opened { remote: Arc::new(remote), credentials: Some(credentials) })
}

fn sign(login: Login) -> Signature {
    match login {
        Login::Basic { user, password } => Signature::Basic { user, password },
        Login::Bearer(token) => Signature::Bearer(token),
    }
}
