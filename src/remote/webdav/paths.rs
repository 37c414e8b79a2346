//! Between paths here, URLs and the hrefs of answers. Names are bytes: nothing is normalised on the way.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use url::Url;

use super::failure::{Failure, Outcome};
use crate::remote::{ErrorKind, Name};

/// Everything but the unreserved characters is encoded: servers differ in what they take literally.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Is where something is on the server: the raw names below the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RawPath(pub(super) Vec<Vec<u8>>);

impl RawPath {
    /// The path beside this one with another last name.
    pub(super) fn beside(&self, name: &Name) -> Self {
        let mut raw = self.0.clone();
        raw.pop();
        raw.push(name.as_bytes().to_vec());
        Self(raw)
    }

    pub(super) fn child(&self, name: &[u8]) -> Self {
        let mut raw = self.0.clone();
        raw.push(name.to_vec());
        Self(raw)
    }

    /// The folder it is in; `None` for the root.
    pub(super) fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }
}

/// Is the root's URL and what hrefs below it begin with.
#[derive(Clone, Debug)]
pub(super) struct Root {
    url: Url,
    segments: Vec<Vec<u8>>,
}

impl Root {
    pub(super) fn new(url: Url) -> Self {
        let segments = segments(url.path().as_bytes());
        Self { url, segments }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The URL of a file, or of something whose kind is not known.
    pub(super) fn file(&self, path: &RawPath) -> Outcome<Url> {
        let mut text = self.url.path().trim_end_matches('/').to_owned();
        for name in &path.0 {
            text.push('/');
            text.extend(percent_encode(name, ENCODED));
        }
        let mut url = self.url.clone();
        if path.0.is_empty() {
            return Ok(url);
        }
        url.set_path(&text);
        if url.path() != text {
            // `.` and `..` would be taken for steps
            return Err(Failure::new(ErrorKind::NameRejected, "no URL can hold this name"));
        }
        Ok(url)
    }

    /// The URL of a folder: with a slash at its end, which several servers insist on.
    pub(super) fn folder(&self, path: &RawPath) -> Outcome<Url> {
        let mut url = self.file(path)?;
        if !url.path().ends_with('/') {
            let text = format!("{}/", url.path());
            url.set_path(&text);
        }
        Ok(url)
    }

    /// The raw path that an href of an answer names; `None` if it lies outside the root.
    pub(super) fn locate(&self, href: &str) -> Option<RawPath> {
        let path = match href.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => {
                rest.find('/').map_or("/", |at| &rest[at..])
            }
            _ => href,
        };
        let names = segments(path.as_bytes());
        let below = names.strip_prefix(self.segments.as_slice())?;
        Some(RawPath(below.to_vec()))
    }
}

fn is_scheme(text: &str) -> bool {
    text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("https")
}

/// The names of a URL path: cut at slashes first, then decoded, so that an encoded slash stays in its name.
fn segments(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode(segment).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn root() -> Root {
        Root::new(Url::parse("https://h:8443/re%20mote/dav/").unwrap())
    }

    fn raw(names: &[&[u8]]) -> RawPath {
        RawPath(names.iter().map(|n| n.to_vec()).collect())
    }

    #[test]
    fn every_byte_comes_back_through_a_url() {
        for byte in 1..=255u8 {
            let path = raw(&[b"a", &[b'x', byte]]);
            let url = root().file(&path).unwrap();
            assert_eq!(root().locate(url.as_str()), Some(path.clone()));
            assert_eq!(root().locate(url.path()), Some(path));
        }
    }

    #[test]
    fn names_that_look_like_escapes_or_steps_stay_names() {
        for name in [&b"%2e%2e"[..], b"%41", b"a%2Fb", b"...", b"a?b#c", b"a\\b", b" "] {
            let path = raw(&[name]);
            let url = root().file(&path).unwrap();
            assert_eq!(root().locate(url.path()), Some(path));
        }
        for name in [&b"."[..], b".."] {
            assert_eq!(root().file(&raw(&[name])).unwrap_err().kind, ErrorKind::NameRejected);
        }
    }

    #[test]
    fn hrefs_may_be_urls_paths_or_badly_encoded() {
        for href in
            ["/re%20mote/dav/a b", "http://elsewhere/re%20mote/dav/a%20b/", "//re mote/dav//a%20b"]
        {
            assert_eq!(root().locate(href), Some(raw(&[b"a b"])), "{href}");
        }
        assert_eq!(root().locate("/re%20mote/dav"), Some(raw(&[])));
        assert_eq!(root().locate("/re%20mote/other/x"), None);
    }
}
