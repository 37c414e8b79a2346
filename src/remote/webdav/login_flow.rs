//! Signing in by the browser: login flow v2 of Nextcloud and its relatives. The server gives a link, a person signs in
//! there and grants access, and meanwhile the server is asked whether that happened. No password of that person is seen
//! here; what comes is one for this program alone.

use std::time::Duration;

use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::client::{Client, Request};
use super::cloud::{Cloud, small};
use super::failure::{Failure, Outcome, refusal, shown_url};
use super::options::{WebDavOptions, is_private};
use crate::remote::{ErrorKind, Result};

/// How often the server is asked whether somebody has signed in.
const PAUSE: Duration = Duration::from_secs(1);

/// Is a login that waits for a person.
pub struct LoginFlow {
    client: Client,
    server: Url,
    product: String,
    link: Url,
    endpoint: Url,
    token: SecretString,
}

/// Is what a person granted.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Where the server is: this, or the address that was given, is what to mount.
    pub server: String,
    /// The name to sign in with.
    pub user: String,
    /// A password for this program alone.
    pub password: SecretString,
}

#[derive(Deserialize)]
struct Begun {
    poll: Poll,
    login: String,
}

#[derive(Deserialize)]
struct Poll {
    token: String,
    endpoint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    login_name: String,
    app_password: String,
}

impl LoginFlow {
    /// Begins a login at the server that an address belongs to; `None` if that is no server that people sign in to by the
    /// browser. Credentials in the options are not used.
    pub async fn begin(options: &WebDavOptions) -> Result<Option<Self>> {
        let options = WebDavOptions { credentials: None, ..options.clone() };
        let client = Client::new(&options)?;
        let root = client.root().clone();
        let begun = Self::ask(client, options.insecure_http).await;
        begun.map_err(|failure| failure.opening(&root))
    }

    async fn ask(client: Client, insecure_http: bool) -> Outcome<Option<Self>> {
        let address = client.root().clone();
        let Some((cloud, _)) = Cloud::find(&client, &address).await? else { return Ok(None) };
        if !is_private(&cloud.base) && !insecure_http {
            let shown = shown_url(&cloud.base);
            let why = format!("{shown} would send the password unencrypted: use https");
            return Err(Failure::new(ErrorKind::Unauthenticated, why));
        }
        let request = Request::new(Method::POST, cloud.url("index.php/login/v2")?);
        let answer = client.send(request).await?;
        match answer.status().as_u16() {
            200..300 => {}
            404 | 405 | 501 => return Ok(None),
            _ => return Err(refusal(&answer)),
        }
        // Its relatives have no such login: what answers is their page of the browser.
        let told = small(answer, &client).await?;
        let Ok(begun) = serde_json::from_slice::<Begun>(&told) else { return Ok(None) };
        let (link, endpoint) =
            (named(&client, &begun.login)?, named(&client, &begun.poll.endpoint)?);
        let (server, product, token) =
            (cloud.base, cloud.product, SecretString::from(begun.poll.token));
        Ok(Some(Self { client, server, product, link, endpoint, token }))
    }

    /// What a person opens in a browser to sign in.
    pub fn link(&self) -> &str {
        self.link.as_str()
    }

    /// The server's name and version, for people.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// Asks once whether somebody has signed in; `None`: not yet. `NotFound` never comes: a login that is over looks like
    /// one that nobody answered (the server forgets it after twenty minutes).
    pub async fn poll(&self) -> Result<Option<Granted>> {
        self.ask_again().await.map_err(|failure| failure.opening(&self.server))
    }

    async fn ask_again(&self) -> Outcome<Option<Granted>> {
        use secrecy::ExposeSecret as _;
        let token = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", self.token.expose_secret())
            .finish();
        let request = Request::new(Method::POST, self.endpoint.clone()).form(token);
        let answer = self.client.send(request).await?;
        match answer.status().as_u16() {
            200..300 => {}
            404 => return Ok(None),
            _ => return Err(refusal(&answer)),
        }
        let told: Answered = serde_json::from_slice(&small(answer, &self.client).await?)
            .map_err(|_| Failure::corrupt("the server's answer to a login is none"))?;
        // What the server calls itself may be another host, to which the password was not granted.
        let server = self.server.to_string();
        let password = SecretString::from(told.app_password);
        Ok(Some(Granted { server, user: told.login_name, password }))
    }

    /// Waits until somebody has signed in; `None` when `limit` is over. A server that cannot be reached meanwhile is asked
    /// again.
    pub async fn wait(&self, limit: Duration) -> Result<Option<Granted>> {
        let end = Instant::now() + limit;
        loop {
            match self.poll().await {
                Ok(Some(granted)) => return Ok(Some(granted)),
                Ok(None) => {}
                Err(error)
                    if matches!(
                        error.kind,
                        ErrorKind::Offline | ErrorKind::Unavailable | ErrorKind::RateLimited { .. }
                    ) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() + PAUSE > end {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl std::fmt::Debug for LoginFlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginFlow").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

/// A URL that the server names: only on the same host a person and a token are sent there.
fn named(client: &Client, text: &str) -> Outcome<Url> {
    let url = Url::parse(text).ok().filter(|url| client.is_home(url));
    url.ok_or_else(|| {
        let shown = Url::parse(text).map(|url| shown_url(&url)).unwrap_or_default();
        let why = format!("the server sends to {shown} to sign in, which is another server");
        Failure::new(ErrorKind::Denied, why)
    })
}
