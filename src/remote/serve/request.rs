//! From a request to its answer: who may, which verb, and what an error is in HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER, WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode};

use super::Share;
use super::paths::located;
use super::places::Placing;
use super::props::etag;
use crate::remote::{ErrorKind, Expect, Kind, Locator, Observed, Remote as _, RemoteError};

const VERBS: &str =
    "OPTIONS, GET, HEAD, PROPFIND, PROPPATCH, REPORT, PUT, MKCOL, DELETE, MOVE, COPY";
/// A question of XML is never longer.
const QUESTION: usize = 1 << 20;

pub(super) type Body = UnsyncBoxBody<Bytes, RemoteError>;
pub(super) type Answer = Box<Response<Body>>;
/// An answer, or the one that says why there is none.
pub(super) type Outcome = Result<Answer, Answer>;

/// Marks an answer that says only that the served directory is not at its path.
#[derive(Clone, Copy)]
struct Missing;

/// Is a request whose path is known.
pub(super) struct Asked {
    pub(super) at: Locator,
    pub(super) headers: HeaderMap,
    pub(super) body: Incoming,
}

impl Share {
    pub(super) async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let mut answer = match self.attempt(request).await {
            Ok(answer) | Err(answer) => answer,
        };
        if answer.extensions().get::<Missing>().is_some() {
            answer = self.find_again().await;
        }
        let server = HeaderValue::from_static(concat!("dewfs/", env!("CARGO_PKG_VERSION")));
        answer.headers_mut().insert(SERVER, server);
        *answer
    }

    /// What was served is not at its path. If it is there again, as a disk that was unplugged, it is opened anew; another
    /// directory is not served in its place.
    async fn find_again(&self) -> Answer {
        let known = self.remote.capabilities().identity;
        let path = self.remote.path();
        let why = match (self.remote.known_identity().await, known) {
            (Ok(Some(told)), Some(known)) if self.remote.is_same(&known, &told) => {
                format!("{} was away and is there again: ask again", path.display())
            }
            // On some file systems, as FUSE, no directory can be told from another one.
            (Ok(None), None) => format!(
                "{} was away, and nobody can tell whether it is what is there now: start dewfs serve again to serve that",
                path.display()
            ),
            (Ok(_), _) => format!(
                "another directory is at {} than the one that is served: bring that back, or start dewfs serve again to serve this one",
                path.display()
            ),
            (Err(error), _) => format!("what is served is away: {error}"),
        };
        tracing::warn!("{why}");
        said(StatusCode::SERVICE_UNAVAILABLE, &why)
    }

    async fn attempt(self: &Arc<Self>, request: Request<Incoming>) -> Outcome {
        let (parts, body) = request.into_parts();
        if !self.sign_in.lets_in(&parts.headers) {
            if !self.sign_in.is_asked() {
                return Err(said(StatusCode::FORBIDDEN, "asked for under another machine's name"));
            }
            let mut answer = said(StatusCode::UNAUTHORIZED, "sign in");
            let challenge = HeaderValue::from_static(self.sign_in.challenge());
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return Err(answer);
        }
        let verb = parts.method.as_str();
        if verb == "OPTIONS" {
            return Ok(options());
        }
        let Some(at) = located(parts.uri.path()) else {
            return Err(said(StatusCode::BAD_REQUEST, "no name that can be here"));
        };
        let changes = matches!(verb, "PUT" | "MKCOL" | "DELETE" | "MOVE" | "COPY" | "PROPPATCH");
        if changes && self.read_only {
            return Err(said(StatusCode::FORBIDDEN, "read-only"));
        }
        if changes && parts.headers.contains_key("if") {
            return Err(said(StatusCode::PRECONDITION_FAILED, "there are no locks here: If-Match"));
        }
        let asked = Asked { at, headers: parts.headers, body };
        match verb {
            "GET" => self.get(&asked, false).await,
            "HEAD" => self.get(&asked, true).await,
            "PROPFIND" => self.propfind(&asked).await,
            "REPORT" => self.report(asked).await,
            "PUT" => self.put(asked).await,
            "MKCOL" => self.make_folder(&asked).await,
            "DELETE" => self.delete(&asked).await,
            "MOVE" => self.place(asked, Placing::Move).await,
            "COPY" => self.place(asked, Placing::Copy).await,
            "PROPPATCH" => self.set_times(asked).await,
            _ => {
                let mut answer = said(StatusCode::METHOD_NOT_ALLOWED, "not here");
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static(VERBS));
                Err(answer)
            }
        }
    }
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A question in XML, whole.
    pub(super) async fn question(self) -> Result<Bytes, Answer> {
        let limited = http_body_util::Limited::new(self.body, QUESTION);
        let whole = limited.collect().await;
        let whole = whole.map_err(|_| said(StatusCode::BAD_REQUEST, "too long, or cut short"))?;
        Ok(whole.to_bytes())
    }

    /// The condition that the headers make of what is there now.
    pub(super) fn expect(&self, now: Option<&Observed>) -> Result<Expect, Answer> {
        let failed = || said(StatusCode::PRECONDITION_FAILED, "it is not what was expected");
        let version = now.map(|seen| match seen.kind {
            Kind::File => Expect::Version(seen.version.clone()),
            _ => Expect::Folder,
        });
        if self.headers.contains_key("if-match") {
            let fits = now.is_some_and(|seen| self.names_version("if-match", seen));
            return version.filter(|_| fits).ok_or_else(failed);
        }
        if self.headers.contains_key("if-none-match") {
            return match now {
                Some(seen) if self.names_version("if-none-match", seen) => Err(failed()),
                _ => Ok(version.unwrap_or(Expect::Absent)),
            };
        }
        Ok(Expect::Any)
    }

    /// Whether a header of tags names what is there now. Weak tags name nothing: nothing here has one.
    pub(super) fn names_version(&self, header: &str, seen: &Observed) -> bool {
        let own = etag(&seen.version);
        let values = self.headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
        let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || own.as_deref() == Some(tag))
    }
}

fn options() -> Answer {
    let mut answer = empty(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(VERBS));
    headers.insert(HeaderName::from_static("dav"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("ms-author-via"), HeaderValue::from_static("DAV"));
    answer
}

/// An answer with this body.
pub(super) fn with_body(status: StatusCode, body: Body) -> Answer {
    let mut answer = Box::new(Response::new(body));
    *answer.status_mut() = status;
    answer
}

pub(super) fn whole(status: StatusCode, bytes: impl Into<Bytes>, kind: &'static str) -> Answer {
    let body = Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
    let mut answer = with_body(status, body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

pub(super) fn empty(status: StatusCode) -> Answer {
    with_body(status, http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync())
}

pub(super) fn said(status: StatusCode, why: &str) -> Answer {
    whole(status, format!("{why}\n"), "text/plain; charset=utf-8")
}

/// What a refusal of the directory is in HTTP.
pub(super) fn refused(error: &RemoteError) -> Answer {
    if error.kind == ErrorKind::RootMissing {
        let mut answer = empty(StatusCode::SERVICE_UNAVAILABLE);
        answer.extensions_mut().insert(Missing);
        return answer;
    }
    let status = match error.kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::VersionMismatch => StatusCode::PRECONDITION_FAILED,
        ErrorKind::NoParent | ErrorKind::NotEmpty => StatusCode::CONFLICT,
        ErrorKind::Denied | ErrorKind::ReadOnly | ErrorKind::NameRejected => StatusCode::FORBIDDEN,
        ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Offline
        | ErrorKind::Unavailable
        | ErrorKind::Locked { .. }
        | ErrorKind::Unsettled { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() {
        tracing::warn!(%error, "a request failed");
    }
    said(status, &error.to_string())
}
