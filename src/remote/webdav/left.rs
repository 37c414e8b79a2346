//! Removing what nobody comes back for: uploads untouched for a month by the server's clock, and the folder of a probe that
//! did not end. Found in listings that are made anyway.

use super::WebDavRemote;
use super::look::Child;
use super::paths::RawPath;
use crate::remote::{Kind, names};

/// How the folder begins in which a server is tried.
pub(super) const PROBE: &str = ".dewfs-probe-";
/// No probe takes this long, in seconds.
const PROBE_OVER: i64 = 3600;
/// Nobody goes on with an upload after so many seconds.
const UPLOAD_OVER: i64 = 30 * 86_400;
/// So many are removed after one listing.
const AT_ONCE: usize = 4;

impl WebDavRemote {
    pub(super) async fn remove_left(&self, folder: &RawPath, children: &[Child]) {
        // whoever may not write is told so by the probe
        if self.client.clock.ahead().is_none() || self.profile().lists_dots.is_none() {
            return;
        }
        let now = self.client.clock.now();
        let is_over = |child: &Child| {
            let is_probe = child.entry.kind == Kind::Folder
                && folder.0.is_empty()
                && child.raw.starts_with(PROBE.as_bytes());
            let is_upload =
                child.entry.kind == Kind::File && names::parse_temp(&child.raw).is_some();
            let limit = match (is_probe, is_upload) {
                (true, _) => PROBE_OVER,
                (_, true) => UPLOAD_OVER,
                _ => return false,
            };
            let since = child.entry.mtime.map(|mtime| mtime.div_euclid(1_000_000_000));
            since.is_some_and(|since| now.saturating_sub(since) > limit)
        };
        for child in children.iter().filter(|child| is_over(child)).take(AT_ONCE) {
            let path = folder.child(&child.raw);
            match self.delete(&path, child.entry.kind, None).await {
                Ok(()) => tracing::info!(?path, "removed what an upload or a probe left behind"),
                Err(failure) => tracing::debug!(?path, %failure, "what was left behind stays"),
            }
        }
    }
}
