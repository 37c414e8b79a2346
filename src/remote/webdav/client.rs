//! One request and its answer: signs, follows redirects, notices that nothing moves. Knows no verb and no path.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LOCATION,
};
use reqwest::redirect::Policy;
use reqwest::{Method, Response};
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use url::Url;

use super::failure::{Failure, Outcome, refusal, shown_url};
use super::options::{
    Credentials, CredentialsSource, WebDavOptions, is_loopback, is_private, parse_url,
};
use super::upload::{Progress, Sending};
use super::version::Clock;
use crate::remote::{ErrorKind, Result, commit_time};

/// The longest time from the last byte of a change to its answer, unless more was asked for.
const COMMIT: Duration = Duration::from_secs(600);
/// How often an answer may point elsewhere.
const REDIRECTS: usize = 5;

/// Is one request, as often as it must be sent.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
    /// Whether it may be about more than one file.
    is_tree: bool,
}

/// Is what a request carries.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Nothing,
    Small(Bytes),
    Upload(Sending),
}

impl Request {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Payload::Nothing, is_tree: false }
    }

    /// A request of a verb that HTTP itself does not know.
    pub(super) fn dav(verb: &'static str, url: Url) -> Outcome<Self> {
        let method = Method::from_bytes(verb.as_bytes());
        let method = method.map_err(|error| Failure::new(ErrorKind::Other, error.to_string()))?;
        Ok(Self::new(method, url))
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Outcome<Self> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            Failure::new(ErrorKind::Other, format!("a value that no {name} header can hold"))
        })?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    pub(super) fn xml(mut self, body: impl Into<Bytes>) -> Self {
        let kind = HeaderValue::from_static("application/xml; charset=utf-8");
        self.headers.insert(CONTENT_TYPE, kind);
        self.body = Payload::Small(body.into());
        self
    }

    /// A body as forms have it.
    pub(super) fn form(mut self, body: impl Into<Bytes>) -> Self {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.headers.insert(CONTENT_TYPE, kind);
        self.body = Payload::Small(body.into());
        self
    }

    /// The same, about all that is in a folder.
    pub(super) fn of_tree(self) -> Self {
        Self { is_tree: true, ..self }
    }

    /// Whether it may leave the server: it reads, and HTTP itself knows it.
    fn is_plain_read(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD")
    }

    /// Whether asking twice is the same as asking once.
    fn is_safe(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "PROPFIND" | "OPTIONS")
    }

    /// How long its answer may take once all of it was sent. Before a server answers a change it may copy, check and scan,
    /// the longer the more it is about, and who gives up then sends all of it again for ever. What is small is soon
    /// sent again.
    fn patience(&self, stall: Duration) -> Duration {
        let longest = COMMIT.max(stall);
        match (self.method.as_str(), &self.body) {
            ("PUT", Payload::Upload(sending)) => {
                let most = longest + commit_time(sending.length);
                (stall * 2 + Duration::from_secs(sending.length >> 20)).min(most)
            }
            _ if self.is_tree => longest,
            ("PUT" | "MOVE" | "COPY" | "DELETE" | "MKCOL" | "PROPPATCH", _) => {
                (stall * 4).min(longest)
            }
            _ => stall,
        }
    }
}

/// Is the connections to one server, and who we are there.
pub(super) struct Client {
    http: reqwest::Client,
    root: Url,
    source: Option<CredentialsSource>,
    signature: Mutex<Option<HeaderValue>>,
    pub(super) clock: Clock,
    pub(super) stall: Duration,
    /// What stands between, to be named where nothing answers.
    proxy: Option<String>,
}

impl Client {
    pub(super) fn new(options: &WebDavOptions) -> Result<Self> {
        let root = parse_url(&options.url)?;
        let http = connections(options, &root).map_err(|failure| failure.opening(&root))?;
        let client = Self {
            http,
            root,
            source: options.credentials.clone(),
            signature: Mutex::new(None),
            clock: Clock::default(),
            stall: options.stall,
            proxy: options.proxy.clone(),
        };
        let is_secret = client.check_secrecy(options.insecure_http);
        is_secret.map_err(|failure| failure.opening(&client.root))?;
        client.sign_again();
        Ok(client)
    }

    pub(super) fn root(&self) -> &Url {
        &self.root
    }

    /// The name to sign in with, where there is one.
    pub(super) fn user(&self) -> Option<String> {
        match self.source.as_ref().and_then(|source| source())? {
            Credentials::Basic { user, .. } => Some(user),
            Credentials::Bearer(_) => None,
        }
    }

    fn check_secrecy(&self, insecure_http: bool) -> Outcome<()> {
        if self.source.is_none() || is_private(&self.root) || insecure_http {
            return Ok(());
        }
        let url = shown_url(&self.root);
        let why = format!("{url} would get the password unencrypted: use https, or insecure_http");
        Err(Failure::new(ErrorKind::Unauthenticated, why))
    }

    /// Asks for credentials; tells whether they are others than before.
    pub(super) fn sign_again(&self) -> bool {
        let fresh = self.source.as_ref().and_then(|source| source()).and_then(|c| signature(&c));
        let mut held = self.signature.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = *held != fresh;
        *held = fresh;
        is_other
    }

    fn signature(&self) -> Option<HeaderValue> {
        self.signature.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The final answer, whatever its status; `Unauthenticated` and what the transport says are failures.
    pub(super) async fn send(&self, request: Request) -> Outcome<Response> {
        let mut request = request;
        let mut asked_again = false;
        let mut left = REDIRECTS;
        loop {
            let signed_with = self.signature();
            let answer = self.send_surely(&request).await?;
            let status = answer.status();
            if status.as_u16() == 401 && self.is_home(&request.url) {
                // Another request may have found the new secret while this one was on its way with the old one.
                let is_new = self.sign_again() || self.signature() != signed_with;
                if !asked_again && is_new {
                    asked_again = true;
                    continue;
                }
                return Err(refusal(&answer));
            }
            if !matches!(status.as_u16(), 301 | 302 | 307 | 308) {
                if self.is_home(&request.url) {
                    self.clock.note(answer.headers());
                }
                return Ok(answer);
            }
            left = left.checked_sub(1).ok_or_else(|| {
                let url = shown_url(&request.url);
                Failure::corrupt(format!("{url} leads in circles"))
            })?;
            request.url = self.redirected(&request, &answer)?;
        }
    }

    /// Where an answer points. Only reading may leave the server: a change elsewhere is not what was asked for.
    fn redirected(&self, request: &Request, answer: &Response) -> Outcome<Url> {
        let from = shown_url(&request.url);
        let target = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let target = target.and_then(|to| request.url.join(to).ok());
        let Some(target) = target.filter(|to| matches!(to.scheme(), "http" | "https")) else {
            return Err(Failure::corrupt(format!("{from} points nowhere")));
        };
        let to = shown_url(&target);
        if leaves_encryption(&request.url, &target) {
            let why = format!("{from} points to {to}, which is not encrypted");
            return Err(Failure::new(ErrorKind::Unsupported, why));
        }
        if request.is_plain_read() || self.is_home(&target) {
            return Ok(target);
        }
        let why = format!("{from} points to {to}: if that is the server, mount that address");
        Err(Failure::new(ErrorKind::Unsupported, why))
    }

    /// Whether a URL is at the server that was mounted; only there credentials go.
    pub(super) fn is_home(&self, url: &Url) -> bool {
        let same_port = url.scheme() == self.root.scheme()
            && url.port_or_known_default() == self.root.port_or_known_default();
        let is_upgrade = self.root.scheme() == "http"
            && url.scheme() == "https"
            && self.root.port().is_none()
            && url.port().is_none();
        url.host() == self.root.host() && (same_port || is_upgrade)
    }

    /// A connection kept from before may be closed by the server in the moment when it is used again. Whoever only looks
    /// asks once more; whether a change was made nobody can know.
    async fn send_surely(&self, request: &Request) -> Outcome<Response> {
        match self.send_once(request).await {
            Err(failure) if failure.is_broken_off && request.is_safe() => {
                self.send_once(request).await
            }
            other => other,
        }
    }

    async fn send_once(&self, request: &Request) -> Outcome<Response> {
        let progress = Arc::new(Progress::default());
        if !matches!(request.body, Payload::Upload(_)) {
            progress.all_out();
        }
        let mut builder = self.http.request(request.method.clone(), request.url.clone());
        builder = builder.headers(request.headers.clone());
        if let Some(signature) = self.signature().filter(|_| self.is_home(&request.url)) {
            builder = builder.header(AUTHORIZATION, signature);
        }
        builder = match &request.body {
            Payload::Nothing => builder,
            Payload::Small(bytes) => builder.body(bytes.clone()),
            Payload::Upload(sending) => builder
                .header(CONTENT_LENGTH, sending.length)
                .body(sending.body(Arc::clone(&progress))),
        };
        let answer = progress.watch(builder.send(), self.stall, request.patience(self.stall)).await;
        let answer = answer.map_err(stalled)?;
        if let (Payload::Upload(sending), Err(_)) = (&request.body, &answer) {
            sending.verdict()?;
        }
        answer.map_err(|error| match (Failure::from(error), &self.proxy) {
            (failure, Some(proxy)) if failure.kind == ErrorKind::Offline => {
                failure.by_way_of(proxy)
            }
            (failure, _) => failure,
        })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("root", &self.root.as_str()).finish_non_exhaustive()
    }
}

/// The failure that nothing came or went for too long.
pub(super) fn stalled(stall: Duration) -> Failure {
    Failure::new(ErrorKind::Offline, format!("no progress for {stall:?}"))
}

/// Whether what was asked for under encryption would come without it.
fn leaves_encryption(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

fn signature(credentials: &Credentials) -> Option<HeaderValue> {
    let text = match credentials {
        Credentials::Basic { user, password } => {
            let pair = Zeroizing::new(format!("{user}:{}", password.expose_secret()));
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(&*pair))
        }
        Credentials::Bearer(token) => format!("Bearer {}", token.expose_secret()),
    };
    let text = Zeroizing::new(text);
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn connections(options: &WebDavOptions, root: &Url) -> Outcome<reqwest::Client> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("dewfs/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(options.stall.min(Duration::from_secs(15)))
        // Apache closes after five seconds: a request must not meet that
        .pool_idle_timeout(Duration::from_secs(4))
        .tcp_keepalive(Duration::from_secs(30));
    if let Some(file) = &options.ca_file {
        builder =
            builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem("ca_file", file)?)?);
    }
    if let Some(file) = &options.client_cert {
        let mut both = pem("client_cert", file)?;
        if let Some(key) = &options.client_key {
            both.push(b'\n');
            both.extend(pem("client_key", key)?);
        }
        builder = builder.identity(reqwest::Identity::from_pem(&both)?);
    }
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy)?);
    } else if is_loopback(root) {
        builder = builder.no_proxy();
    }
    Ok(builder.build()?)
}

fn pem(option: &str, file: &std::path::Path) -> Outcome<Vec<u8>> {
    let failed = |error: std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file: look at the path".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(ErrorKind::Other, format!("{option}={}: {why}", file.display()))
    };
    std::fs::read(file).map_err(failed)
}
