//! From a specification to a remote that can be asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::{
    Credentials, Login, MountOptions, RemoteOptions, RemoteSpec, Schemes, Server, Who,
};
use crate::remote::Remote;
use crate::remote::folder::AwaitedFolder;
use crate::remote::webdav::{AddressedServer, Credentials as Signature, WebDavOptions};

use super::Failure;

/// Is a remote, and where its credentials come from if it takes any.
#[derive(Debug)]
pub struct Opened {
    /// The remote.
    pub remote: Arc<dyn Remote>,
    /// What it signs with, if it signs.
    pub signs: Option<Signs>,
}

/// Is how a remote signs.
#[derive(Clone, Debug)]
pub struct Signs {
    /// Where the secret comes from.
    pub credentials: Arc<Credentials>,
    client: Arc<AddressedServer>,
}

impl Signs {
    /// From now on nobody is asked on a terminal: the mount is up.
    pub fn stop_asking(&self) {
        self.credentials.stop_asking();
    }

    /// Reads the secret anew, as after signing in or out: from `file` if nothing else was read until now.
    pub fn again(&self, file: Option<PathBuf>) {
        let is_named = self.credentials.is_named();
        if let Some(file) = file.filter(|_| !is_named) {
            self.credentials.read_from(file);
        }
        self.client.sign_again();
    }
}

/// Opens the remote of a mount.
pub fn open_for(mount: &MountOptions) -> Result<Opened, Failure> {
    let (with, stall) = (&mount.remote_options, mount.settings.timeout);
    open(&mount.remote, with, &mount.who, stall, &mount.schemes)
}

/// Opens a remote. Asks it nothing yet; reads the credentials.
pub fn open(
    spec: &RemoteSpec,
    options: &RemoteOptions,
    who: &Who,
    stall: Duration,
    schemes: &Schemes,
) -> Result<Opened, Failure> {
    match spec {
        RemoteSpec::Folder(path) => {
            // It asks for none.
            crate::config::forget_handed_over();
            Ok(Opened { remote: Arc::new(AwaitedFolder::new(path)), signs: None })
        }
        RemoteSpec::WebDav { url, below, .. } => {
            let file = options.credentials.as_deref();
            let server = Server::of(url);
            let found = Credentials::find(file, options.username.as_deref(), server, who)?;
            open_webdav((url, *below), options, found, stall)
        }
        RemoteSpec::Added { scheme, address } => {
            let opened = schemes.open(scheme, address, options);
            let remote = opened.map_err(|why| Failure::failed(format!("{spec}: {why}")))?;
            Ok(Opened { remote, signs: None })
        }
    }
}

/// Opens a remote with this login and no other; `None` if it takes none.
pub(super) fn open_as(
    spec: &RemoteSpec,
    options: &RemoteOptions,
    login: Login,
    stall: Duration,
) -> Result<Option<Opened>, Failure> {
    match spec {
        // A store of one's own takes its options as it likes.
        RemoteSpec::Folder(_) | RemoteSpec::Added { .. } => Ok(None),
        RemoteSpec::WebDav { url, below, .. } => {
            open_webdav((url, *below), options, Credentials::given(login), stall).map(Some)
        }
    }
}

fn open_webdav(
    (url, below): (&Url, usize),
    options: &RemoteOptions,
    credentials: Credentials,
    stall: Duration,
) -> Result<Opened, Failure> {
    let credentials = Arc::new(credentials);
    let source = Arc::clone(&credentials);
    let opened_with = WebDavOptions {
        below,
        credentials: Some(Arc::new(move || source.current().map(sign))),
        ..webdav_options(url, options, stall)
    };
    let remote =
        AddressedServer::open(&opened_with).map_err(|error| Failure::failed(error.to_string()))?;
    let client = Arc::new(remote);
    Ok(Opened {
        remote: Arc::clone(&client) as Arc<dyn Remote>,
        signs: Some(Signs { credentials, client }),
    })
}

/// How a server is spoken to, but for who signs in.
pub(super) fn webdav_options(url: &Url, options: &RemoteOptions, stall: Duration) -> WebDavOptions {
    WebDavOptions {
        insecure_http: options.insecure_http,
        look_only: options.read_only,
        ca_file: options.ca_file.clone(),
        client_cert: options.client_cert.clone(),
        client_key: options.client_key.clone(),
        proxy: options.proxy.clone(),
        stall,
        ..WebDavOptions::new(url.as_str())
    }
}

fn sign(login: Login) -> Signature {
    match login {
        Login::Basic { user, password } => Signature::Basic { user, password },
        Login::Bearer(token) => Signature::Bearer(token),
    }
}
