//! Versions of files: a normalised ETag, else mtime and size; and when they can be relied on.
//!
//! A version says itself what it is, so that one noted long ago is compared in the same way: `e:` and an ETag without
//! quotes and weakness, or `t:`, the mtime in seconds and the size.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{AGE, DATE, ETAG, HeaderMap, LAST_MODIFIED};

use crate::remote::Version;

const NANOS: i64 = 1_000_000_000;

/// Is an ETag as told: its opaque part, and whether it may stay the same over a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Etag {
    pub(super) opaque: String,
    pub(super) weak: bool,
}

impl Etag {
    /// Reads `"x"`, `W/"x"` and, as some servers write in listings, `x`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (weak, rest) = match text.strip_prefix("W/").or_else(|| text.strip_prefix("w/")) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let opaque = match rest.strip_prefix('"') {
            Some(inner) => inner.strip_suffix('"')?,
            None => rest,
        };
        let is_plain = opaque.chars().all(|c| c != '"' && !c.is_control());
        (!opaque.is_empty() && is_plain).then(|| Self { opaque: opaque.to_owned(), weak })
    }

    pub(super) fn version(&self) -> Version {
        Version(format!("e:{}", self.opaque))
    }
}

/// The version of a file that has no ETag.
pub(super) fn by_time(mtime: i64, size: u64) -> Version {
    Version(format!("t:{mtime:x}-{size:x}"))
}

/// The ETag in the form of `If-Match`, if the version is one.
pub(super) fn condition(version: &Version) -> Option<String> {
    version.0.strip_prefix("e:").map(|opaque| format!("\"{opaque}\""))
}

/// What the headers of a GET or HEAD say the version is, in the form that `like` has. `None` if they do not say.
pub(super) fn told(headers: &HeaderMap, size: Option<u64>, like: &Version) -> Option<Version> {
    if like.0.starts_with("e:") {
        let etag = headers.get(ETAG)?;
        return Some(Etag::parse(&String::from_utf8_lossy(etag.as_bytes()))?.version());
    }
    let modified = headers.get(LAST_MODIFIED)?.to_str().ok()?;
    Some(by_time(parse_date(modified)?, size?))
}

/// Seconds since 1970 of an HTTP date.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(text).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

pub(super) fn nanos(seconds: i64) -> i64 {
    seconds.saturating_mul(NANOS)
}

/// Is how far the server's clock is from ours, as its answers tell.
#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead: AtomicI64,
    told: AtomicBool,
}

impl Clock {
    /// Notes the date of an answer. One that a cache kept is of an earlier time.
    pub(super) fn note(&self, headers: &HeaderMap) {
        if headers.contains_key(AGE) {
            return;
        }
        let date = headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_date);
        if let Some(date) = date {
            self.ahead.store(date - here(), Ordering::Relaxed);
            self.told.store(true, Ordering::Relaxed);
        }
    }

    /// How many seconds it is ahead of ours, if any answer told.
    pub(super) fn ahead(&self) -> Option<i64> {
        self.told.load(Ordering::Relaxed).then(|| self.ahead.load(Ordering::Relaxed))
    }

    /// The server's time now, in seconds since 1970; never later than it really is there.
    pub(super) fn now(&self) -> i64 {
        here() + self.ahead.load(Ordering::Relaxed)
    }
}

fn here() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// An mtime that is further ahead than this was set by somebody; waiting for it would help nobody.
const AHEAD: i64 = 10;

/// How long until a version of this mtime can be relied on: nothing can get the same one once the clock tick is over.
pub(super) fn young_for(mtime: Option<i64>, now: i64, tick: Duration) -> Option<Duration> {
    let tick = i64::try_from(tick.as_secs()).unwrap_or(i64::MAX);
    if tick == 0 {
        return None;
    }
    let Some(mtime) = mtime else { return Some(Duration::from_secs(2)) };
    let age = now.saturating_sub(mtime);
    if age >= tick || age < -AHEAD {
        return None;
    }
    let left = tick.saturating_sub(age.max(0)).max(1);
    Some(Duration::from_secs(left.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn etags_of_every_form_are_one_version() {
        for text in ["\"a-1\"", "W/\"a-1\"", "a-1", " \"a-1\" "] {
            assert_eq!(Etag::parse(text).unwrap().version(), Version("e:a-1".into()));
        }
        assert!(Etag::parse("W/\"x\"").unwrap().weak);
        for text in ["", "\"\"", "\"a", "a\"b", "W/"] {
            assert_eq!(Etag::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_version_is_young_until_its_tick_is_over_by_the_servers_clock() {
        let tick = Duration::from_secs(2);
        assert_eq!(young_for(Some(100), 100, tick), Some(tick));
        assert_eq!(young_for(Some(100), 101, tick), Some(Duration::from_secs(1)));
        assert_eq!(young_for(Some(100), 102, tick), None);
        assert_eq!(young_for(Some(100), 100, Duration::ZERO), None);
        assert_eq!(young_for(Some(101), 100, tick), Some(tick));
        assert_eq!(young_for(Some(500), 100, tick), None);
    }

    #[test]
    fn regression_a_cached_answer_sets_no_clock_back() {
        let clock = Clock::default();
        let told = |when: SystemTime, age: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            let date = httpdate::fmt_http_date(when);
            headers.insert(DATE, date.parse().unwrap());
            if let Some(age) = age {
                headers.insert(AGE, age.parse().unwrap());
            }
            clock.note(&headers);
        };
        let now = SystemTime::now();
        told(now, None);
        told(now - Duration::from_secs(3600), Some("3600"));
        assert!(clock.ahead().unwrap().abs() <= 1, "{:?}", clock.ahead());
        told(now - Duration::from_secs(3600), None);
        assert!((clock.ahead().unwrap() + 3600).abs() <= 1);
    }
}
