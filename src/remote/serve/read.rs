//! Reading: contents, listings, what changed.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED,
};
use quick_xml::NsReader;
use quick_xml::events::Event;

use super::Share;
use super::props::{self, RootProps, etag, http_date};
use super::request::{Answer, Asked, Outcome, refused, said, whole, with_body};
use crate::remote::{Kind, Locator, Observed, PageToken, Remote as _, RemoteError};

const XML: &str = "application/xml; charset=utf-8";

impl Share {
    /// What is there now; 404 if nothing is.
    pub(super) async fn found(&self, at: &Locator) -> Result<Observed, Answer> {
        let seen = self.remote.stat(at).await.map_err(|error| refused(&error))?;
        seen.ok_or_else(|| said(StatusCode::NOT_FOUND, "nothing is there"))
    }

    pub(super) async fn get(&self, asked: &Asked, head: bool) -> Outcome {
        let seen = self.found(&asked.at).await?;
        if seen.kind != Kind::File {
            return Err(said(StatusCode::METHOD_NOT_ALLOWED, "a folder: PROPFIND lists it"));
        }
        let mut status = StatusCode::OK;
        let mut range = 0..seen.size;
        if asked.headers.contains_key("if-match") && !asked.names_version("if-match", &seen) {
            return Err(said(StatusCode::PRECONDITION_FAILED, "it is another version"));
        }
        if asked.headers.contains_key("if-none-match")
            && asked.names_version("if-none-match", &seen)
        {
            let mut answer = super::request::empty(StatusCode::NOT_MODIFIED);
            validators(&mut answer, &seen);
            return Ok(answer);
        }
        let same =
            !asked.headers.contains_key("if-range") || asked.names_version("if-range", &seen);
        if let Some(wanted) = asked.header("range").filter(|_| same) {
            match part_of(wanted, seen.size) {
                Some(Ok(part)) => (status, range) = (StatusCode::PARTIAL_CONTENT, part),
                Some(Err(())) => {
                    let mut answer = said(StatusCode::RANGE_NOT_SATISFIABLE, "beyond the end");
                    insert(&mut answer, CONTENT_RANGE, &format!("bytes */{}", seen.size));
                    return Err(answer);
                }
                None => {}
            }
        }
        let mut answer = self.bytes(asked, &seen, range.clone(), head, status).await?;
        validators(&mut answer, &seen);
        insert(&mut answer, CONTENT_LENGTH, &(range.end - range.start).to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            let last = range.end.saturating_sub(1);
            let value = format!("bytes {}-{last}/{}", range.start, seen.size);
            insert(&mut answer, CONTENT_RANGE, &value);
        }
        insert(&mut answer, CONTENT_TYPE, "application/octet-stream");
        insert(&mut answer, ACCEPT_RANGES, "bytes");
        Ok(answer)
    }

    async fn bytes(
        &self,
        asked: &Asked,
        seen: &Observed,
        range: Range<u64>,
        head: bool,
        status: StatusCode,
    ) -> Outcome {
        if head {
            return Ok(super::request::empty(status));
        }
        let read = self.remote.read(&asked.at, &seen.version, range).await;
        // A version that is gone by now is asked for again by the client.
        let read = read.map_err(|error| refused(&error))?;
        let frames = read.bytes.map(|piece| piece.map(Frame::data));
        Ok(with_body(status, StreamBody::new(frames).boxed_unsync()))
    }

    pub(super) async fn propfind(&self, asked: &Asked) -> Outcome {
        let seen = self.found(&asked.at).await?;
        let is_folder = seen.kind == Kind::Folder;
        let lists = match asked.header("depth") {
            Some("0") => false,
            Some("1") => is_folder,
            _ if is_folder => {
                let why = "<?xml version=\"1.0\"?><d:error xmlns:d=\"DAV:\"><d:propfind-finite-depth/></d:error>";
                return Err(whole(StatusCode::FORBIDDEN, why, XML));
            }
            _ => false,
        };
        let mut begin = props::BEGIN.to_owned();
        let root = match is_folder {
            true => Some(self.root_props(&asked.at, &seen).await),
            false => None,
        };
        props::entry(&mut begin, &asked.at.path, &seen, root.as_ref());
        if !lists {
            begin.push_str(props::END);
            return Ok(whole(StatusCode::MULTI_STATUS, begin, XML));
        }
        // The first page is waited for: a folder that cannot be listed is no answer.
        let first = self.page(&asked.at, None).await.map_err(|error| refused(&error))?;
        let (remote, at) = (self.remote.clone(), asked.at.clone());
        let rest = stream::unfold(first.1, move |next| {
            let (remote, at) = (remote.clone(), at.clone());
            async move {
                let page = match next? {
                    Some(token) => page(&remote, &at, Some(token)).await,
                    None => return Some((Ok(props::END.to_owned()), None)),
                };
                Some(match page {
                    Ok((text, next)) => (Ok(text), Some(next)),
                    // Cut short, it is not taken for a whole listing.
                    Err(error) => (Err(error), None),
                })
            }
        });
        let all = stream::iter([Ok(begin), Ok(first.0)]).chain(rest.map(|one| one));
        let frames = all.map(|text: Result<String, RemoteError>| {
            text.map(|text| Frame::data(Bytes::from(text)))
        });
        let mut answer =
            with_body(StatusCode::MULTI_STATUS, StreamBody::new(frames).boxed_unsync());
        insert(&mut answer, CONTENT_TYPE, XML);
        Ok(answer)
    }

    async fn page(&self, at: &Locator, token: Option<PageToken>) -> crate::remote::Result<Page> {
        let (text, next) = page(&self.remote, at, token).await?;
        Ok((text, Some(next)))
    }

    /// What is told of the folder that was asked about: it may be somebody's root.
    async fn root_props(&self, at: &Locator, seen: &Observed) -> RootProps {
        let told = self.remote.space().await;
        let identity = match at.path.is_root() {
            true => self.remote.identity().await.ok().flatten(),
            false => seen.id.as_ref().map(|id| id.0.clone()),
        };
        let token = self.changes.now(&self.remote).await;
        RootProps { space: told.ok().flatten(), identity, token }
    }

    /// What changed since a token: RFC 6578, for everything below a folder.
    pub(super) async fn report(&self, asked: Asked) -> Outcome {
        let top = asked.at.path.clone();
        let question = asked.question().await?;
        let Some(token) = sync_token(&question) else {
            return Err(said(StatusCode::FORBIDDEN, "only sync-collection, with a token"));
        };
        let Some((paths, token)) = self.changes.since(&self.remote, &top, &token).await else {
            let why =
                "<?xml version=\"1.0\"?><d:error xmlns:d=\"DAV:\"><d:valid-sync-token/></d:error>";
            return Err(whole(StatusCode::FORBIDDEN, why, XML));
        };
        let mut text = props::BEGIN.to_owned();
        for path in paths {
            match self.remote.stat(&Locator::at(path.clone())).await {
                Ok(Some(seen)) => props::entry(&mut text, &path, &seen, None),
                Ok(None) => props::status(&mut text, &path, "404 Not Found"),
                Err(error) => return Err(refused(&error)),
            }
        }
        text.push_str("<d:sync-token>");
        text.push_str(&token);
        text.push_str("</d:sync-token>");
        text.push_str(props::END);
        Ok(whole(StatusCode::MULTI_STATUS, text, XML))
    }
}

/// The text of a page, and what comes after it: `None` when all was given.
type Page = (String, Option<Option<PageToken>>);

async fn page(
    remote: &crate::remote::folder::FolderRemote,
    at: &Locator,
    token: Option<PageToken>,
) -> crate::remote::Result<(String, Option<PageToken>)> {
    let page = remote.list(at, token).await?;
    let mut text = String::new();
    for one in page.entries {
        props::entry(&mut text, &at.path.child(one.name), &one.entry, None);
    }
    Ok((text, page.next))
}

/// The part that a `Range` header asks for: `None` if all is to be sent, an error if none of it is there.
fn part_of(value: &str, size: u64) -> Option<Result<Range<u64>, ()>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>();
    match (number(first), number(last)) {
        (Ok(first), Ok(last)) if first > last => None,
        (Ok(first), _) if first >= size => Some(Err(())),
        (Ok(first), Ok(last)) => Some(Ok(first..last.saturating_add(1).min(size))),
        (Ok(first), Err(_)) if last.trim().is_empty() => Some(Ok(first..size)),
        (Err(_), Ok(0)) if first.trim().is_empty() => Some(Err(())),
        (Err(_), Ok(count)) if first.trim().is_empty() && size > 0 => {
            Some(Ok(size.saturating_sub(count)..size))
        }
        _ => None,
    }
}

fn sync_token(question: &[u8]) -> Option<String> {
    let mut reader = NsReader::from_reader(question);
    let mut inside = false;
    let mut is_sync = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) if tag.local_name().as_ref() == "sync-collection" => is_sync = true,
            Event::Start(tag) if is_sync && tag.local_name().as_ref() == "sync-token" => {
                inside = true;
            }
            Event::Text(text) if inside => {
                return Some(text.trim().to_owned());
            }
            Event::End(_) if inside => return None,
            Event::Eof => return None,
            _ => {}
        }
    }
}

pub(super) fn validators(answer: &mut Answer, seen: &Observed) {
    if let Some(etag) = etag(&seen.version) {
        insert(answer, ETAG, &etag);
    }
    if let Some(date) = seen.mtime.and_then(http_date) {
        insert(answer, LAST_MODIFIED, &date);
    }
}

pub(super) fn insert(answer: &mut Answer, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_within_the_file() {
        let all = [
            ("bytes=0-3", 10, Some(Ok(0..4))),
            ("bytes=5-", 10, Some(Ok(5..10))),
            ("bytes=-3", 10, Some(Ok(7..10))),
            ("bytes=-30", 10, Some(Ok(0..10))),
            ("bytes=8-99", 10, Some(Ok(8..10))),
            ("bytes=10-", 10, Some(Err(()))),
            ("bytes=-0", 10, Some(Err(()))),
            ("bytes=3-1", 10, None),
            ("bytes=0-1,4-5", 10, None),
            ("lines=1-2", 10, None),
        ];
        for (value, size, part) in all {
            assert_eq!(part_of(value, size), part, "{value}");
        }
    }

    #[test]
    fn a_token_is_found_in_its_question() {
        let asked = br#"<?xml version="1.0"?><d:sync-collection xmlns:d="DAV:"><d:sync-token>urn:x:1</d:sync-token></d:sync-collection>"#;
        assert_eq!(sync_token(asked).as_deref(), Some("urn:x:1"));
        assert_eq!(
            sync_token(b"<d:sync-collection xmlns:d=\"DAV:\"><d:sync-token/></d:sync-collection>"),
            None
        );
        assert_eq!(sync_token(b"<a>"), None);
    }
}
