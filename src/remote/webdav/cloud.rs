//! Nextcloud, ownCloud and OpenCloud: whether an address as the browser shows it is one of theirs, and where a user's files
//! are there.

use reqwest::{Method, Response as Answer};
use serde::Deserialize;
use url::Url;

use super::client::{Client, Request, stalled};
use super::failure::{Failure, Outcome, refusal, shown_url};
use super::xml_stream::read_multistatus;
use crate::remote::ErrorKind;

/// What the paths of their pages go on with, below the place where the server itself is.
const PAGES: &[&str] =
    &["/index.php", "/remote.php", "/status.php", "/apps/", "/login", "/files/", "/f/", "/s/"];
/// More folders above a page than any server is in.
const PREFIXES: usize = 6;
/// More bytes than any of these small documents has.
const SMALL: usize = 1 << 20;

const ASK_WHO: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<d:propfind xmlns:d="DAV:"><d:prop><d:current-user-principal/></d:prop></d:propfind>"#;

/// Is such a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cloud {
    /// Where it is: ends with a slash.
    pub(super) base: Url,
    /// Its name and version, for people.
    pub(super) product: String,
}

/// Is what `status.php` tells.
#[derive(Debug, Deserialize)]
struct Status {
    installed: bool,
    #[serde(default)]
    maintenance: bool,
    versionstring: Option<String>,
    productname: Option<String>,
}

impl Cloud {
    /// The server that an address belongs to, if it is of this kind, and the folder of the user's files that the address
    /// names: empty if it is a page or the server itself.
    pub(super) async fn find(client: &Client, address: &Url) -> Outcome<Option<(Self, String)>> {
        for base in bases(address) {
            let Ok(url) = base.join("status.php") else { continue };
            let answer = client.send(Request::new(Method::GET, url)).await?;
            if answer.status().is_server_error() {
                return Err(refusal(&answer));
            }
            if !answer.status().is_success() {
                continue;
            }
            let Ok(told) = serde_json::from_slice::<Status>(&small(answer, client).await?) else {
                continue;
            };
            let folder = folder_of(address, &base).to_owned();
            return Self::told(base, &told).map(|cloud| Some((cloud, folder)));
        }
        Ok(None)
    }

    fn told(base: Url, told: &Status) -> Outcome<Self> {
        let name = told.productname.as_deref().unwrap_or("ownCloud");
        let version = told.versionstring.as_deref().unwrap_or_default();
        let product = format!("{name} {version}").trim_end().to_owned();
        let shown = shown_url(&base);
        if !told.installed {
            let why = format!("{shown} is a {name} that is not set up yet");
            return Err(Failure::new(ErrorKind::Unsupported, why));
        }
        if told.maintenance {
            let why = format!("{shown} is in maintenance");
            return Err(Failure::new(ErrorKind::Offline, why));
        }
        Ok(Self { base, product })
    }

    /// A URL of this server.
    pub(super) fn url(&self, path: &str) -> Outcome<Url> {
        let url = self.base.join(path);
        url.map_err(|error| Failure::new(ErrorKind::Other, format!("{path}: {error}")))
    }

    /// Where the files of whoever is signed in are; `login` is the name that was signed in with.
    pub(super) async fn files(&self, client: &Client, login: Option<&str>) -> Outcome<Url> {
        // Who signs in with an e-mail address is called something else in the path.
        let told = self.who(client).await?;
        let Some(user) = told.or_else(|| login.map(str::to_owned)) else {
            let shown = shown_url(&self.base);
            let why = format!("{shown} wants a user name: give it with username=");
            return Err(Failure::new(ErrorKind::Unauthenticated, why));
        };
        let mut url = self.url("remote.php/dav/files/")?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(&user).push("");
        }
        Ok(url)
    }

    /// The user's id, where the server tells it.
    async fn who(&self, client: &Client) -> Outcome<Option<String>> {
        let request = Request::dav("PROPFIND", self.url("remote.php/dav/")?)?;
        let answer = client.send(request.header("depth", "0")?.xml(ASK_WHO)).await?;
        if answer.status().as_u16() != 207 {
            return Ok(None);
        }
        let found = read_multistatus(answer, client.stall).await?;
        let told = found.into_iter().find_map(|one| one.props.principal);
        Ok(told.as_deref().and_then(user_of))
    }
}

/// The last name of `/remote.php/dav/principals/users/NAME/`.
fn user_of(principal: &str) -> Option<String> {
    let (_, rest) = principal.split_once("/principals/users/")?;
    let name = rest.trim_matches('/');
    if name.is_empty() || name.contains('/') {
        return None;
    }
    let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
    Some(name.into_owned())
}

/// Where the server may be that an address is a page of: the likeliest first.
fn bases(address: &Url) -> Vec<Url> {
    let path = address.path();
    let cut = PAGES.iter().filter_map(|page| path.find(page)).min().unwrap_or(path.len());
    let mut found = Vec::new();
    let mut rest = path.get(..cut).unwrap_or_default().trim_end_matches('/');
    loop {
        let mut base = address.clone();
        base.set_path(&format!("{rest}/"));
        base.set_query(None);
        base.set_fragment(None);
        found.push(base);
        match rest.rsplit_once('/') {
            Some((above, _)) if found.len() < PREFIXES => rest = above,
            _ => return found,
        }
    }
}

/// What follows the server's place in an address, unless that is one of its pages.
fn folder_of<'a>(address: &'a Url, base: &Url) -> &'a str {
    let Some(rest) = address.path().strip_prefix(base.path()) else { return "" };
    let is_page = |page: &&str| {
        let after = rest.strip_prefix(page.trim_start_matches('/'));
        after.is_some_and(|after| page.ends_with('/') || after.is_empty() || after.starts_with('/'))
    };
    if PAGES.iter().any(is_page) { "" } else { rest }
}

/// The whole of an answer that must be small.
pub(super) async fn small(mut answer: Answer, client: &Client) -> Outcome<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let chunk = tokio::time::timeout(client.stall, answer.chunk()).await;
        let Ok(chunk) = chunk else { return Err(stalled(client.stall)) };
        let Some(chunk) = chunk? else { return Ok(all) };
        if all.len() + chunk.len() > SMALL {
            let url = shown_url(answer.url());
            return Err(Failure::corrupt(format!("{url} answers without end")));
        }
        all.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pages_of_the_browser_lead_to_the_server() {
        for (address, first) in [
            ("https://c.example/", "https://c.example/"),
            ("https://c.example/index.php/apps/files/?dir=/A", "https://c.example/"),
            ("https://c.example/apps/files/files/12?dir=/", "https://c.example/"),
            ("https://c.example/cloud/apps/dashboard/#x", "https://c.example/cloud/"),
            ("https://c.example/cloud/index.php/login", "https://c.example/cloud/"),
            ("https://c.example/files/spaces/personal/alice", "https://c.example/"),
            ("https://c.example/oc/remote.php/dav/files/a/", "https://c.example/oc/"),
        ] {
            let found = bases(&Url::parse(address).unwrap());
            assert_eq!(found.first().unwrap().as_str(), first, "{address}");
            assert_eq!(found.last().unwrap().as_str(), "https://c.example/", "{address}");
        }
        for (address, base, folder) in [
            ("https://c.example/Photos/s/", "https://c.example/", "Photos/s/"),
            ("https://c.example/cloud/a%20b/", "https://c.example/cloud/", "a%20b/"),
            ("https://c.example/cloud/login/x/", "https://c.example/cloud/", ""),
            ("https://c.example/logins/", "https://c.example/", "logins/"),
            ("https://c.example/files/spaces/", "https://c.example/", ""),
            ("https://c.example/", "https://c.example/", ""),
        ] {
            let (address, base) = (Url::parse(address).unwrap(), Url::parse(base).unwrap());
            assert_eq!(folder_of(&address, &base), folder, "{address}");
        }
        let deep = Url::parse("https://h/a/b/c/d/e/f/g/h").unwrap();
        assert_eq!(bases(&deep).len(), PREFIXES);
    }

    #[test]
    fn the_users_name_is_the_last_of_the_principal() {
        for (principal, user) in [
            ("/remote.php/dav/principals/users/al%20ice/", Some("al ice")),
            ("/nc/remote.php/dav/principals/users/bob", Some("bob")),
            ("/remote.php/dav/principals/users/", None),
            ("/remote.php/dav/principals/users/a/b", None),
            ("/principals/groups/x", None),
        ] {
            assert_eq!(user_of(principal).as_deref(), user, "{principal}");
        }
    }
}
