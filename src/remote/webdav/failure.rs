//! What an HTTP answer means for the caller, before it is known which verb of which path asked.

use std::error::Error;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use crate::remote::{ErrorKind, RemoteError, RemotePath};

/// Is a kind of error and the reason in words; becomes a [`RemoteError`] where verb and path are known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) why: String,
    /// Whether a connection ended without any answer: whoever only looks can ask once more.
    pub(super) is_broken_off: bool,
}

/// What layers say that only pass on what another one said: no news for people.
const PASSED_ON: &[&str] = &[
    "error sending request",
    "client error (Connect)",
    "client error (SendRequest)",
    "tcp connect error",
    "connection error",
    "dns error",
    "error resolving DNS",
];

/// What the steps below the trait answer.
pub(super) type Outcome<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn new(kind: ErrorKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), is_broken_off: false }
    }

    pub(super) fn corrupt(why: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, why)
    }

    /// The same after something was changed there already: no error may say any more that nothing was.
    pub(super) fn halfway(self) -> Self {
        if self.kind.is_unanswered() { self } else { Self::new(ErrorKind::Other, self.why) }
    }

    /// The same of a request that a proxy should have passed on, which may be the one that is not there.
    pub(super) fn by_way_of(self, proxy: &str) -> Self {
        Self { why: format!("{}, by way of proxy={proxy}: look at that as well", self.why), ..self }
    }

    /// The public error where the server itself does not answer as it should.
    pub(super) fn opening(self, server: &url::Url) -> RemoteError {
        let server = shown_url(server);
        let mut why = self.why.as_str();
        // It is said once where it is, whoever said it before.
        while let Some(rest) =
            why.strip_prefix(&server).filter(|rest| rest.is_empty() || rest.starts_with([':', ' ']))
        {
            why = rest.trim_start_matches(':').trim_start();
        }
        RemoteError::new(self.kind, "open", &server).because(why)
    }

    /// The public error for `operation` on `path`.
    pub(super) fn at(self, operation: &'static str, path: &RemotePath) -> RemoteError {
        RemoteError::new(self.kind, operation, path).because(self.why)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if PASSED_ON.iter().any(|known| why.ends_with(known)) {
                why = text;
            } else if !why.contains(&text) {
                why = format!("{why}: {text}");
            }
            cause = inner.source();
        }
        if error.is_builder() {
            return Self::new(ErrorKind::Other, why);
        }
        if why.contains("CaUsedAsEndEntity") {
            why.push_str(
                "; a server's certificate must not be one of an authority: make it with CA:FALSE",
            );
        } else if why.to_ascii_lowercase().contains("certificate") {
            why.push_str("; if the server has its own authority, name its file with ca_file=");
        }
        let is_broken_off = error.is_request() && !error.is_connect() && !error.is_timeout();
        Self { is_broken_off, ..Self::new(ErrorKind::Offline, why) }
    }
}

/// The failure that a refusing answer means, where the verb has no better reading of it.
pub(super) fn refusal(answer: &Response) -> Failure {
    let kind = kind_of(answer.status(), answer.headers());
    let (url, status) = (shown_url(answer.url()), answer.status());
    let means = match kind {
        ErrorKind::Unauthenticated => ": user name, password or token is missing or not accepted",
        _ => "",
    };
    Failure::new(kind, format!("{url} answered {status}{means}"))
}

/// A URL for people: never with a user name, password or query.
pub(super) fn shown_url(url: &url::Url) -> String {
    let mut url = url.clone();
    let _unchanged = url.set_username("");
    let _unchanged = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

pub(super) fn kind_of(status: StatusCode, headers: &HeaderMap) -> ErrorKind {
    match status.as_u16() {
        401 | 407 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        409 => ErrorKind::NoParent,
        405 | 501 => ErrorKind::Unsupported,
        412 => ErrorKind::VersionMismatch,
        400 | 414 | 422 => ErrorKind::NameRejected,
        413 | 507 => ErrorKind::NoSpace,
        423 => ErrorKind::Locked { after: retry_after(headers) },
        429 => ErrorKind::RateLimited { after: retry_after(headers) },
        503 if headers.contains_key(RETRY_AFTER) => {
            ErrorKind::RateLimited { after: retry_after(headers) }
        }
        // Who answers is in front of the server, which did not.
        408 | 425 | 502 | 504 => ErrorKind::Offline,
        500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

/// How long to wait, told in seconds or as a date; never more than a day.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(Duration::from_secs(86_400)))
}
