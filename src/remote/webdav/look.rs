//! Looking: PROPFIND of one entry or one folder, and what its properties mean.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, LAST_MODIFIED};

use super::WebDavRemote;
use super::client::Request;
use super::failure::{Failure, Outcome, refusal};
use super::multistatus::{Props, Response};
use super::paths::RawPath;
use super::version::{Etag, by_time, nanos, parse_date, young_for};
use super::xml_stream::read_multistatus;
use crate::remote::{
    ErrorKind, Kind, ListPage, Listed, Observed, RemoteId, Version, names, names::Shown,
};

/// Just what is needed: some servers compute the others.
const ASK: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop><d:resourcetype/><d:getcontentlength/><d:getlastmodified/><d:getetag/><oc:fileid/><oc:permissions/><oc:size/></d:prop></d:propfind>"#;
const ASK_SPACE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<d:propfind xmlns:d="DAV:"><d:prop><d:resourcetype/><d:quota-available-bytes/><d:quota-used-bytes/></d:prop></d:propfind>"#;

/// How long an ETag may stay weak, and the clock tick where it is not known.
pub(super) const TICK: Duration = Duration::from_secs(2);

/// The mode of a file, and of a folder, that the server lets nobody of us change.
const READ_ONLY_FILE: u32 = 0o444;
const READ_ONLY_FOLDER: u32 = 0o555;

/// Is one entry of a folder as the server names it.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) raw: Vec<u8>,
    pub(super) entry: Observed,
}

impl WebDavRemote {
    /// What is there; `None` if nothing is.
    pub(super) async fn look(&self, path: &RawPath) -> Outcome<Option<Observed>> {
        match self.ask(path).await? {
            Some((props, headers)) => self.observed(&props, &headers).map(Some),
            None => Ok(None),
        }
    }

    /// A file of this length that was just sent. Where HEAD tells enough, that is the shortest question; whatever it does not
    /// tell, or tells otherwise, is asked for as usual.
    pub(super) async fn look_at_sent(
        &self,
        path: &RawPath,
        length: u64,
    ) -> Outcome<Option<Observed>> {
        if let Some(has_etag) = self.profile().heads
            && let Some((props, headers)) = self.head(path).await?
        {
            // A listing without one has versions of another kind.
            let etag = props.etag.filter(|_| has_etag);
            let seen = self.observed(&Props { etag, ..props }, &headers)?;
            if seen.size == length {
                return Ok(Some(seen));
            }
        }
        self.look(path).await
    }

    /// What the headers of a file tell, if they tell what a listing would.
    pub(super) async fn head(&self, path: &RawPath) -> Outcome<Option<(Props, HeaderMap)>> {
        let request = Request::new(Method::HEAD, self.root.file(path)?);
        let answer = self.client.send(request).await?;
        let headers = answer.headers();
        let is_plain = answer.status().as_u16() == 200
            && self.client.is_home(answer.url())
            && !headers.contains_key(CONTENT_ENCODING);
        let text = |name| headers.get(name).and_then(|text| text.to_str().ok()).map(str::to_owned);
        let (length, modified) = (text(CONTENT_LENGTH), text(LAST_MODIFIED));
        if !is_plain || length.is_none() || modified.is_none() {
            return Ok(None);
        }
        let props = Props { length, modified, etag: text(ETAG), ..Props::default() };
        Ok(Some((props, headers.clone())))
    }

    /// What the server says of an entry; `None` if nothing is there.
    pub(super) async fn ask(&self, path: &RawPath) -> Outcome<Option<(Props, HeaderMap)>> {
        let url = if path.0.is_empty() { self.root.folder(path)? } else { self.root.file(path)? };
        let request = Request::dav("PROPFIND", url)?.header("depth", "0")?.xml(ASK);
        let answer = self.client.send(request).await?;
        match answer.status().as_u16() {
            404 | 410 => return Ok(None),
            207 => {}
            400 | 403 | 405 | 409 => return self.look_above(path, refusal(&answer)).await,
            _ => return Err(refusal(&answer)),
        }
        let headers = answer.headers().clone();
        let found = read_multistatus(answer, self.client.stall).await?;
        let own = found.into_iter().find(|one| self.root.locate(&one.href).as_ref() == Some(path));
        let Some(own) = own else {
            return Err(Failure::corrupt("the answer is about something else"));
        };
        match own.status {
            Some(404 | 410) => Ok(None),
            _ => Ok(Some((own.props, headers))),
        }
    }

    /// Below a file there is nothing; servers refuse to say so in many ways.
    async fn look_above<T>(&self, path: &RawPath, refused: Failure) -> Outcome<Option<T>> {
        let Some(parent) = path.parent().filter(|parent| !parent.0.is_empty()) else {
            return Err(refused);
        };
        match Box::pin(self.look(&parent)).await? {
            Some(seen) if seen.kind == Kind::Folder => Err(refused),
            _ => Ok(None),
        }
    }

    /// All that is in a folder, hidden names too. `NotFound` if there is no folder.
    pub(super) async fn children(&self, folder: &RawPath) -> Outcome<Vec<Child>> {
        Ok(self.folder(folder).await?.1)
    }

    /// A folder and all that is in it, hidden names too.
    async fn folder(&self, folder: &RawPath) -> Outcome<(Observed, Vec<Child>)> {
        let url = self.root.folder(folder)?;
        let request = Request::dav("PROPFIND", url)?.header("depth", "1")?.xml(ASK);
        let answer = self.client.send(request).await?;
        if answer.status().as_u16() != 207 {
            return Err(self.no_folder(folder, refusal(&answer)).await);
        }
        let headers = answer.headers().clone();
        let found = read_multistatus(answer, self.client.stall).await?;
        let mut children = Vec::with_capacity(found.len());
        let mut own = None;
        for one in found {
            let Some(path) = self.root.locate(&one.href) else {
                tracing::debug!(href = one.href, "an entry outside the remote is left out");
                continue;
            };
            if path == *folder {
                if !one.props.collection {
                    return Err(Failure::new(ErrorKind::NotFound, "it is a file"));
                }
                own = Some(self.observed(&one.props, &headers)?);
            } else if let Some(raw) = name_in(&path, folder) {
                self.take_child(raw, &one, &headers, &mut children)?;
            } else {
                tracing::debug!(href = one.href, "an entry outside the folder is left out");
            }
        }
        let own = own.ok_or_else(|| Failure::corrupt("the listing lacks the folder itself"))?;
        Ok((own, children))
    }

    /// Servers refuse to list a file in many ways.
    async fn no_folder(&self, folder: &RawPath, refused: Failure) -> Failure {
        use ErrorKind::{Denied, NameRejected, NoParent, NotFound, Unsupported};
        if !matches!(refused.kind, Denied | NameRejected | NoParent | NotFound | Unsupported) {
            return refused;
        }
        match self.look(folder).await {
            Ok(Some(seen)) if seen.kind == Kind::Folder => refused,
            Ok(_) => Failure::new(NotFound, "there is no folder"),
            Err(failure) => failure,
        }
    }

    fn take_child(
        &self,
        raw: Vec<u8>,
        one: &Response,
        headers: &HeaderMap,
        children: &mut Vec<Child>,
    ) -> Outcome<()> {
        if one.status.is_some_and(|status| status >= 400) {
            // a listing without it would look as if it were gone
            return Err(Failure::corrupt(format!("{} answered {:?}", one.href, one.status)));
        }
        children.push(Child { raw, entry: self.observed(&one.props, headers)? });
        Ok(())
    }

    /// A whole listing under legal names, without hidden ones.
    pub(super) async fn list_folder(&self, folder: &RawPath) -> Outcome<ListPage> {
        let (own, children) = self.folder(folder).await?;
        self.remove_left(folder, &children).await;
        let children = shown(children);
        let listed = |(child, shown): (Child, Shown)| {
            let entry = Observed { extra: shown.raw, ..child.entry };
            Listed { name: shown.name, entry }
        };
        let entries = children.into_iter().map(listed).collect();
        let version = Some(own.version).filter(|version| !version.0.is_empty());
        Ok(ListPage { entries, next: None, folder: version })
    }

    /// What is in a folder, with the names under which it is shown; without hidden ones.
    pub(super) async fn children_shown(&self, folder: &RawPath) -> Outcome<Vec<(Child, Shown)>> {
        Ok(shown(self.children(folder).await?))
    }

    pub(super) fn observed(&self, props: &Props, headers: &HeaderMap) -> Outcome<Observed> {
        let mtime = props.modified.as_deref().and_then(parse_date);
        let profile = self.profile();
        let id = props.file_id.clone().filter(|_| profile.keeps_ids).map(RemoteId);
        let etag = props.etag.as_deref().and_then(Etag::parse);
        let mut seen = Observed {
            kind: Kind::Folder,
            size: 0,
            mtime: mtime.map(nanos),
            version: Version(String::new()),
            settled: true,
            id,
            digest: None,
            mode: None,
            extra: None,
        };
        if props.collection {
            if let Some(etag) = etag.filter(|_| profile.folder_versions) {
                seen.version = etag.version();
            }
            seen.mode = unwritable(props, "CK").then_some(READ_ONLY_FOLDER);
            return Ok(seen);
        }
        seen.kind = Kind::File;
        seen.mode = unwritable(props, "W").then_some(READ_ONLY_FILE);
        seen.size = match props.length.as_ref().or(props.whole_size.as_ref()) {
            Some(text) => length(text).ok_or_else(|| Failure::corrupt("a length that is none"))?,
            None => return Err(Failure::corrupt("a file without a length")),
        };
        self.client.clock.note(headers);
        let now = self.client.clock.now();
        match etag {
            Some(etag) => {
                // Some servers have weak ones only: then time alone tells when they are sure.
                let tick = if etag.weak { self.tick().max(TICK) } else { self.tick() };
                let is_young = mtime.is_some() && young_for(mtime, now, tick).is_some();
                seen.settled = !is_young && (mtime.is_some() || !etag.weak);
                seen.version = etag.version();
            }
            None => {
                seen.settled = young_for(mtime, now, self.tick().max(TICK)).is_none();
                seen.version = by_time(mtime.unwrap_or_default(), seen.size);
            }
        }
        Ok(seen)
    }

    /// Used and free bytes, where the server tells them.
    pub(super) async fn quota(&self) -> Outcome<Option<crate::remote::Space>> {
        let root = self.root.url().clone();
        let request = Request::dav("PROPFIND", root)?.header("depth", "0")?.xml(ASK_SPACE);
        let answer = self.client.send(request).await?;
        if answer.status().as_u16() != 207 {
            return Err(refusal(&answer));
        }
        let found = read_multistatus(answer, self.client.stall).await?;
        let Some(own) = found.first() else { return Ok(None) };
        let number = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<u64>().ok());
        let (used, free) = (number(&own.props.used), number(&own.props.available));
        if used.is_none() && free.is_none() {
            return Ok(None);
        }
        let limit = free.map(|free| free.saturating_add(used.unwrap_or_default()));
        Ok(Some(crate::remote::Space { used, limit }))
    }
}

/// A length that a file can have.
fn length(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| is_number);
    length.filter(|length| i64::try_from(*length).is_ok())
}

/// Whether the server says that the user may do none of these things there.
fn unwritable(props: &Props, letters: &str) -> bool {
    props.permissions.as_ref().is_some_and(|may| !may.contains(|letter| letters.contains(letter)))
}

/// The names under which entries are shown; without hidden ones.
pub(super) fn shown(mut children: Vec<Child>) -> Vec<(Child, Shown)> {
    children.sort_by(|a, b| a.raw.cmp(&b.raw));
    children.dedup_by(|a, b| a.raw == b.raw);
    let items: Vec<_> = children.iter().map(|child| (child.raw.as_slice(), &[][..])).collect();
    let shown = names::show_all(&items);
    let pairs = children.into_iter().zip(shown);
    pairs.filter_map(|(child, shown)| Some((child, shown?))).collect()
}

/// The last name of `path`, if it lies directly in `folder`.
fn name_in(path: &RawPath, folder: &RawPath) -> Option<Vec<u8>> {
    let (name, above) = path.0.split_last()?;
    (above == folder.0).then(|| name.clone())
}
