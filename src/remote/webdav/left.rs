//! Removing what nobody comes back for, found in listings that are made anyway: uploads of this mount that no attempt of its
//! is about (a killed daemon's, come late), those of anybody that were untouched for a month by the server's clock, and the
//! folder of a probe that did not end. Where an upload brings its mtime with it, that says nothing of when it came: there
//! those of others are removed that were seen here for a day.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::WebDavRemote;
use super::look::Child;
use super::paths::RawPath;
use crate::remote::{AttemptTag, Kind, names};

/// How the folder begins in which a server is tried.
pub(super) const PROBE: &str = ".dewfs-probe-";
/// No probe takes this long, in seconds.
const PROBE_OVER: i64 = 3600;
/// Nobody goes on with an upload after so many seconds.
const UPLOAD_OVER: i64 = 30 * 86_400;
/// The same after it was first seen here, where mtimes are those of the files sent.
const SEEN_OVER: i64 = 86_400;
/// So many are remembered as seen.
const MOST_SEEN: usize = 1_000;
/// So many are removed after one listing.
const AT_ONCE: usize = 4;

/// Knows which attempts are under way here.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The identity of this mount, once an attempt told it.
    mount: Option<String>,
    /// Items and nonces.
    under_way: HashSet<(u64, u64)>,
    /// When uploads of others were first seen, by their place.
    seen: HashMap<RawPath, i64>,
}

/// Is an attempt while it is under way.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    all: &'a Attempts,
    this: (u64, u64),
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an attempt is under way until what is returned is dropped.
    pub(super) fn begin(&self, tag: &AttemptTag) -> UnderWay<'_> {
        let (mut known, this) = (self.lock(), (tag.item, tag.nonce));
        if known.mount.as_ref() != Some(&tag.mount) {
            known.mount = Some(tag.mount.clone());
        }
        known.under_way.insert(this);
        UnderWay { all: self, this }
    }

    /// Whether an attempt of this mount is over; `None` if it is none of this mount.
    fn is_over(&self, tag: &AttemptTag) -> Option<bool> {
        let known = self.lock();
        let ours = known.mount.as_ref().is_some_and(|mount| {
            names::is_same_mount(tag, &AttemptTag { mount: mount.clone(), ..*tag })
        });
        ours.then(|| !known.under_way.contains(&(tag.item, tag.nonce)))
    }

    /// When this upload was first seen here.
    fn first_seen(&self, path: RawPath, now: i64) -> i64 {
        let mut known = self.lock();
        if known.seen.len() >= MOST_SEEN {
            known.seen.clear();
        }
        *known.seen.entry(path).or_insert(now)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.lock().under_way.remove(&self.this);
    }
}

impl WebDavRemote {
    pub(super) async fn remove_left(&self, folder: &RawPath, children: &[Child]) {
        // whoever may not write is told so by the probe
        if self.look_only
            || self.client.clock.ahead().is_none()
            || self.profile().lists_dots.is_none()
        {
            return;
        }
        let left = children.iter().filter(|child| self.is_left(folder, child));
        for child in left.take(AT_ONCE) {
            let path = folder.child(&child.raw);
            match self.delete(&path, child.entry.kind, None).await {
                Ok(()) => tracing::info!(?path, "removed what an upload or a probe left behind"),
                Err(failure) => tracing::debug!(?path, %failure, "what was left behind stays"),
            }
        }
    }

    fn is_left(&self, folder: &RawPath, child: &Child) -> bool {
        let is_file = child.entry.kind == Kind::File;
        let limit = match names::parse_temp(&child.raw) {
            Some((tag, _)) if is_file => {
                if let Some(is_over) = self.attempts.is_over(&tag) {
                    return is_over;
                }
                if self.profile().mtime_by_put {
                    let now = self.client.clock.now();
                    let since = self.attempts.first_seen(folder.child(&child.raw), now);
                    return now.saturating_sub(since) > SEEN_OVER;
                }
                UPLOAD_OVER
            }
            _ if !is_file && folder.0.len() <= 1 && child.raw.starts_with(PROBE.as_bytes()) => {
                PROBE_OVER
            }
            _ => return false,
        };
        let since = child.entry.mtime.map(|mtime| mtime.div_euclid(1_000_000_000));
        since.is_some_and(|since| self.client.clock.now().saturating_sub(since) > limit)
    }
}
