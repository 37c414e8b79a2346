//! Changes since a token: RFC 6578, where the server offers it for everything below the root.

use std::collections::HashMap;

use quick_xml::escape::escape;

use super::WebDavRemote;
use super::client::Request;
use super::cloud::small;
use super::failure::{Failure, Outcome, refusal};
use super::multistatus::Response;
use super::paths::RawPath;
use super::xml_stream::{read_multistatus, read_report};
use crate::remote::{ChangePage, Cursor, ErrorKind, Hint, RemotePath, names};

const ASK_TOKEN: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<d:propfind xmlns:d="DAV:"><d:prop><d:sync-token/><d:supported-report-set/></d:prop></d:propfind>"#;
/// Of more entries than this in one folder, a listing of it tells with fewer requests.
const MANY: usize = 8;

impl WebDavRemote {
    /// Whether the server tells what changed anywhere below the root since a token.
    pub(super) async fn try_sync(&self) -> Outcome<bool> {
        let token = match self.ask_token().await {
            Ok(Some((token, true))) => token,
            Ok(_) => return Ok(false),
            // Whoever refuses this question for good is a remote all the same.
            Err(failure) if is_of_the_moment(&failure.kind) => return Err(failure),
            Err(_) => return Ok(false),
        };
        match self.report(&token).await {
            Ok(_) => Ok(true),
            // Many know only what is directly in a folder.
            Err(failure) if failure.kind.is_unanswered() => Err(failure),
            Err(_) => Ok(false),
        }
    }

    /// The token of now, if there is one, and whether changes since it can be asked for.
    async fn ask_token(&self) -> Outcome<Option<(String, bool)>> {
        let request = Request::dav("PROPFIND", self.root.url().clone())?.header("depth", "0")?;
        let answer = self.client.send(request.xml(ASK_TOKEN)).await?;
        match answer.status().as_u16() {
            207 => {}
            // For good, unlike other refusals: after this nobody asks again.
            405 | 415 | 501 => return Ok(None),
            _ => return Err(refusal(&answer)),
        }
        let found = read_multistatus(answer, self.client.stall).await?;
        let root = found.into_iter().next();
        Ok(root.and_then(|root| Some((root.props.sync_token?, root.props.syncs))))
    }

    pub(super) async fn changes_since(&self, since: Option<&Cursor>) -> Outcome<ChangePage> {
        if !self.profile().syncs {
            return Err(Failure::new(ErrorKind::Unsupported, "the server tells no changes"));
        }
        let Some(since) = since else {
            let Some((token, _)) = self.ask_token().await? else {
                return Err(Failure::new(
                    ErrorKind::Unsupported,
                    "the server tells no changes any more",
                ));
            };
            return Ok(ChangePage { hints: Vec::new(), cursor: Cursor(token), more: false });
        };
        let (found, token) = self.report(&since.0).await?;
        let mut more = false;
        let mut changed = Vec::new();
        for one in found {
            let root = self.root.locate(&one.href).is_some_and(|path| path.0.is_empty());
            match (root, one.status) {
                (true, Some(507)) => more = true,
                (true, _) => {}
                _ => changed.push(one),
            }
        }
        if more && token == since.0 {
            return Err(Failure::corrupt("the server tells the same changes again and again"));
        }
        let hints = self.hints(changed);
        Ok(ChangePage { hints, cursor: Cursor(token), more })
    }

    async fn report(&self, token: &str) -> Outcome<(Vec<Response>, String)> {
        let token = escape(token);
        let body = format!(
            r#"<?xml version="1.0" encoding="utf-8"?>
<d:sync-collection xmlns:d="DAV:"><d:sync-token>{token}</d:sync-token><d:sync-level>infinite</d:sync-level><d:prop><d:resourcetype/><d:getetag/></d:prop></d:sync-collection>"#
        );
        let request = Request::dav("REPORT", self.root.url().clone())?.header("depth", "0")?;
        let answer = self.client.send(request.xml(body)).await?;
        match answer.status().as_u16() {
            207 => {}
            403 | 409 => {
                let refused = refusal(&answer);
                let why = small(answer, &self.client).await?;
                return Err(match String::from_utf8_lossy(&why).contains("valid-sync-token") {
                    true => expired("the sync token is not known any more"),
                    false => refused,
                });
            }
            410 => return Err(expired("the sync token is not known any more")),
            507 => return Err(expired("more changed than the server can tell")),
            _ => return Err(refusal(&answer)),
        }
        let (found, token) = read_report(answer, self.client.stall).await?;
        let token = token.ok_or_else(|| Failure::corrupt("changes without a sync token"))?;
        Ok((found, token))
    }

    fn hints(&self, changed: Vec<Response>) -> Vec<Hint> {
        let mut folders: HashMap<RemotePath, Vec<Hint>> = HashMap::new();
        for one in changed {
            let is_folder = one.props.collection;
            for href in std::iter::once(&one.href).chain(&one.more) {
                let Some(path) = self.root.locate(href) else {
                    tracing::debug!(href, "a change outside the remote is left out");
                    continue;
                };
                let Some(hint) = hint(&path) else { continue };
                let (Hint::Entry(at) | Hint::Folder(at)) = &hint;
                let inside = folders.entry(at.parent().unwrap_or_default()).or_default();
                // What is in a folder that came from elsewhere is not told by every server.
                inside.extend(is_folder.then(|| Hint::Folder(at.clone())));
                inside.push(hint);
            }
        }
        let mut hints = Vec::new();
        for (folder, mut inside) in folders {
            if inside.len() > MANY {
                inside.retain(|hint| matches!(hint, Hint::Folder(_)));
                hints.push(Hint::Folder(folder));
            }
            hints.append(&mut inside);
        }
        hints
    }
}

/// Whether it tells nothing of what the server can do.
fn is_of_the_moment(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Offline | ErrorKind::RateLimited { .. } | ErrorKind::Corrupt)
}

fn expired(why: &str) -> Failure {
    Failure::new(ErrorKind::CursorExpired, why)
}

/// What a change at a raw path is a reason to look at. Names that cannot be told from the path alone are found by listing
/// their folder.
fn hint(path: &RawPath) -> Option<Hint> {
    let mut shown = RemotePath::root();
    for raw in &path.0 {
        if names::is_hidden(raw) {
            return None;
        }
        let one = names::show(raw);
        if one.raw.is_some() {
            return Some(Hint::Folder(shown));
        }
        shown = shown.child(one.name);
    }
    if shown.is_root() {
        return None;
    }
    Some(Hint::Entry(shown))
}
