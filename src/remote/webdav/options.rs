//! What somebody who mounts a WebDAV server says about it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::{Host, Url};

use crate::remote::{ErrorKind, RemoteError, RemotePath, Result};

/// Is how requests are signed.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// User name and password.
    Basic {
        /// The user name.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A bearer token.
    Bearer(SecretString),
}

/// Is asked for credentials at first, and again when the server refuses the last ones; `None` asks without any.
pub type CredentialsSource = Arc<dyn Fn() -> Option<Credentials> + Send + Sync>;

/// Is what a WebDAV remote is opened with.
#[derive(Clone)]
pub struct WebDavOptions {
    /// The folder that is the remote's root: `http`, `https`, `dav` or `davs`.
    pub url: String,
    /// Whether nothing is changed there: what it could do is not tried, and nothing that was left behind is removed.
    pub look_only: bool,
    /// How many of the URL's last names are a folder below the address that people know the server by.
    pub below: usize,
    /// Where credentials come from.
    pub credentials: Option<CredentialsSource>,
    /// Whether a password may go over plain http to another machine.
    pub insecure_http: bool,
    /// A PEM file with authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with a client certificate.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with its key, if that is not in the same file.
    pub client_key: Option<PathBuf>,
    /// A proxy for all requests; otherwise the environment's.
    pub proxy: Option<String>,
    /// How long a request may make no progress.
    pub stall: Duration,
}

impl WebDavOptions {
    /// Options for `url` with everything else as usual.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            look_only: false,
            below: 0,
            credentials: None,
            insecure_http: false,
            ca_file: None,
            client_cert: None,
            client_key: None,
            proxy: None,
            stall: Duration::from_secs(30),
        }
    }

    /// Signs with the same user name and password every time.
    #[must_use]
    pub fn basic(mut self, user: &str, password: impl Into<SecretString>) -> Self {
        let credentials = Credentials::Basic { user: user.to_owned(), password: password.into() };
        self.credentials = Some(Arc::new(move || Some(credentials.clone())));
        self
    }
}

impl fmt::Debug for WebDavOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = parse_url(&self.url).map(|url| url.to_string()).unwrap_or_default();
        f.debug_struct("WebDavOptions").field("url", &url).finish_non_exhaustive()
    }
}

/// The root's URL, as http or https and with a slash at its end; refused if it carries a password.
pub(super) fn parse_url(spec: &str) -> Result<Url> {
    let refuse = |why: &str| {
        Err(RemoteError::new(ErrorKind::Unsupported, "open", RemotePath::root())
            .because(why.to_owned()))
    };
    let lower = spec.get(..7).unwrap_or(spec).to_ascii_lowercase();
    let http = match spec.split_once("://") {
        Some((_, rest)) if lower.starts_with("davs://") => format!("https://{rest}"),
        Some((_, rest)) if lower.starts_with("dav://") => format!("http://{rest}"),
        Some(_) => spec.to_owned(),
        None => return refuse("a WebDAV address begins with http://, https://, dav:// or davs://"),
    };
    let Ok(mut url) = Url::parse(&http) else {
        return refuse("this is no address of a WebDAV server");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return refuse("a WebDAV address begins with http://, https://, dav:// or davs://");
    }
    if url.password().is_some() {
        return refuse("an address must not carry a password: use a credentials file");
    }
    let _unchanged = url.set_username("");
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// Whether nobody between here and there can listen.
pub(super) fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

/// Whether the server is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn specs_become_folder_urls_without_user_and_query() {
        for (spec, url) in [
            ("dav://host/a", "http://host/a/"),
            ("DAVS://alice@Host:8443", "https://host:8443/"),
            ("https://host/a%20b/?x#y", "https://host/a%20b/"),
        ] {
            assert_eq!(parse_url(spec).unwrap().as_str(), url);
        }
    }

    #[test]
    fn passwords_and_other_schemes_are_refused() {
        for spec in ["https://a:b@host/", "ftp://host/", "host/path", ""] {
            let refused = parse_url(spec).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Unsupported);
            assert!(!refused.to_string().contains("a:b"));
        }
    }
}
