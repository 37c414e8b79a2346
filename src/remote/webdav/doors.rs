//! What a server sends, as the fuzzer and the tests of what it found give it to the parsers.

use std::io::{self, BufRead, Read};
use std::sync::LazyLock;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};

use super::failure::{Outcome, kind_of};
use super::look::{Child, shown};
use super::multistatus::{Bounded, Response, parse};
use super::read::{parse_range, told_length};
use super::version::{Clock, Etag, condition, parse_date, told, young_for};
use super::{WebDavOptions, WebDavRemote};
use crate::remote::{ErrorKind, Version};

static REMOTE: LazyLock<Option<WebDavRemote>> =
    LazyLock::new(|| WebDavRemote::open(&WebDavOptions::new("http://127.0.0.1:1/base")).ok());

/// An answer that comes in pieces of one length.
struct Pieces<'a> {
    left: &'a [u8],
    piece: usize,
}

impl Bounded for Pieces<'_> {
    fn refill(&mut self) {}
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.left.get(..self.piece).unwrap_or(self.left))
    }

    fn consume(&mut self, amount: usize) {
        self.left = self.left.get(amount..).unwrap_or_default();
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.read(buffer)?;
        self.consume(amount);
        Ok(amount)
    }
}

fn read(bytes: &[u8], piece: usize) -> Outcome<Vec<Response>> {
    let mut found = Vec::new();
    parse(Pieces { left: bytes, piece }, &mut |response| {
        found.push(response);
        Ok(())
    })?;
    Ok(found)
}

/// A listing; its first byte says in which pieces it comes.
pub fn multistatus(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, usize::MAX);
    let pieces = read(bytes, usize::from(*first).max(1));
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok(), "pieces make a difference");
    let (Ok(found), Some(remote)) = (whole, REMOTE.as_ref()) else { return };
    let headers = HeaderMap::new();
    let mut children = Vec::new();
    for response in found {
        assert!(!response.href.is_empty());
        let Some(mut path) = remote.root.locate(&response.href) else { continue };
        if let Ok(entry) = remote.observed(&response.props, &headers) {
            assert!(i64::try_from(entry.size).is_ok(), "a size that nobody can be shown");
            children.extend(path.0.pop().map(|raw| Child { raw, entry }));
        }
    }
    let mut names: Vec<Vec<u8>> =
        shown(children).into_iter().map(|(_, shown)| shown.name.as_bytes().to_vec()).collect();
    for name in &names {
        assert!(!name.is_empty() && name.len() <= 255 && !name.contains(&b'/'));
        assert!(!name.contains(&0) && name != b"." && name != b"..");
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "two of one name");
}

/// Headers of an answer, one a line; the first two bytes are its status.
pub fn headers(bytes: &[u8]) {
    let Some((status, lines)) = bytes.split_first_chunk::<2>() else { return };
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line.get(..at).unwrap_or_default(), line.get(at + 1..));
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value.unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let status = 100 + u16::from_be_bytes(*status) % 900;
    if let Ok(status) = StatusCode::from_u16(status) {
        let after = match kind_of(status, &headers) {
            ErrorKind::RateLimited { after } | ErrorKind::Locked { after } => after,
            _ => None,
        };
        assert!(after.is_none_or(|wait| wait <= Duration::from_secs(86_400)), "{after:?}");
    }
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let length = told_length(&headers);
    if let Some((first, last, total)) = text(CONTENT_RANGE).and_then(parse_range) {
        assert!(first <= last && total.is_none_or(|total| last < total));
    }
    if let Some(etag) = text(ETAG).and_then(Etag::parse) {
        let version = etag.version();
        let sent = condition(&version).unwrap_or_default();
        assert_eq!(Etag::parse(&sent).map(|etag| etag.version()), Some(version.clone()));
        assert!(HeaderValue::from_str(&sent).is_ok(), "it cannot be sent back");
        assert_eq!(told(&headers, length, &version), Some(version));
    }
    let clock = Clock::default();
    clock.note(&headers);
    let mtime = text(LAST_MODIFIED).and_then(parse_date);
    let tick = Duration::from_secs(u64::from(lines.len() as u32 % 4));
    let rest = young_for(mtime, clock.now(), tick);
    assert!(rest.is_none_or(|rest| rest <= Duration::from_secs(4)), "{rest:?}");
    let _version = told(&headers, length, &Version("t:0-0".into()));
}
