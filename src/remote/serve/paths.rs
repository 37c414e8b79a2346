//! Between paths in URLs and names in the directory. Names are bytes.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use crate::remote::{Locator, Name, RemotePath};

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a URL's path names; `None` if it is none that can be here. Steps (`.`, `..`) and encoded slashes are no names.
pub(super) fn located(path: &str) -> Option<Locator> {
    let mut found = RemotePath::root();
    for segment in path.strip_prefix('/')?.split('/').filter(|segment| !segment.is_empty()) {
        let name: Vec<u8> = percent_decode(segment.as_bytes()).collect();
        found = found.child(Name::new(name).ok()?);
    }
    Some(Locator::at(found))
}

/// What a `Destination` header names: a path, or a URL of whatever host leads here.
pub(super) fn destination(value: &str) -> Option<Locator> {
    let path = match value.split_once("://") {
        Some((_, rest)) => rest.get(rest.find('/')?..)?,
        None => value,
    };
    located(path.split(['?', '#']).next()?)
}

/// The path of an entry as answers name it; folders end with a slash.
pub(super) fn href(path: &RemotePath, is_folder: bool) -> String {
    let mut text = String::new();
    for name in &path.0 {
        text.push('/');
        text.extend(percent_encode(name.as_bytes(), ENCODED));
    }
    if is_folder {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_any_bytes_go_there_and_back() {
        let at = located("/a%20b/c%2Bd%FF").unwrap().path;
        assert_eq!(at.0.last().unwrap().as_bytes(), b"c+d\xff");
        assert_eq!(href(&at, false), "/a%20b/c%2Bd%FF");
        assert_eq!(href(&RemotePath::root(), true), "/");
        assert_eq!(located("//a//").unwrap().path.0.len(), 1);
    }

    #[test]
    fn nothing_leads_out() {
        for path in ["/..", "/a/../b", "/%2e%2e/x", "/a%2Fb", "/a%00", "a", "/."] {
            assert!(located(path).is_none(), "{path}");
        }
        let at = destination("http://h:1/x/y?z").unwrap().path;
        assert_eq!(href(&at, false), "/x/y");
        assert!(destination("http://h").is_none());
        assert!(destination("http://h/../x").is_none());
    }
}
