//! What a `207 Multi-Status` says.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use quick_xml::escape::escape;

use super::paths::href;
use crate::remote::{Kind, Observed, RemotePath, Space, Version};

pub(super) const BEGIN: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<d:multistatus xmlns:d=\"DAV:\" xmlns:oc=\"http://owncloud.org/ns\">";
pub(super) const END: &str = "</d:multistatus>\n";

/// Is what only the root tells.
pub(super) struct RootProps {
    pub(super) space: Option<Space>,
    pub(super) identity: Option<String>,
    /// Where changes begin, if they are told.
    pub(super) token: Option<String>,
}

/// The ETag of a file; folders have none.
pub(super) fn etag(version: &Version) -> Option<String> {
    (!version.0.is_empty()).then(|| format!("\"{}\"", version.0))
}

/// A time as HTTP says it.
pub(super) fn http_date(nanos: i64) -> Option<String> {
    let since = Duration::from_nanos(u64::try_from(nanos).ok()?);
    Some(httpdate::fmt_http_date(SystemTime::UNIX_EPOCH.checked_add(since)?))
}

/// One entry as it is.
pub(super) fn entry(
    into: &mut String,
    path: &RemotePath,
    seen: &Observed,
    root: Option<&RootProps>,
) {
    let is_folder = seen.kind == Kind::Folder;
    let href = href(path, is_folder);
    let _infallible = write!(into, "<d:response><d:href>{href}</d:href><d:propstat><d:prop>");
    if is_folder {
        into.push_str("<d:resourcetype><d:collection/></d:resourcetype>");
    } else {
        let _infallible =
            write!(into, "<d:resourcetype/><d:getcontentlength>{}</d:getcontentlength>", seen.size);
    }
    if let Some(etag) = etag(&seen.version) {
        let _infallible = write!(into, "<d:getetag>{}</d:getetag>", escape(&etag));
    }
    if let Some(date) = seen.mtime.and_then(http_date) {
        let _infallible = write!(into, "<d:getlastmodified>{date}</d:getlastmodified>");
    }
    if let Some(root) = root {
        of_the_root(into, root);
    }
    into.push_str("</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>");
}

fn of_the_root(into: &mut String, root: &RootProps) {
    if let Some(Space { used, limit: Some(limit) }) = root.space {
        let used = used.unwrap_or(0);
        let _infallible = write!(
            into,
            "<d:quota-used-bytes>{used}</d:quota-used-bytes><d:quota-available-bytes>{}</d:quota-available-bytes>",
            limit.saturating_sub(used)
        );
    }
    if let Some(identity) = &root.identity {
        let _infallible = write!(into, "<oc:fileid>{}</oc:fileid>", escape(identity));
    }
    if let Some(token) = &root.token {
        let _infallible = write!(
            into,
            "<d:sync-token>{}</d:sync-token><d:supported-report-set><d:supported-report><d:report><d:sync-collection/></d:report></d:supported-report></d:supported-report-set>",
            escape(token)
        );
    }
}

/// One entry that is gone, or could not be done.
pub(super) fn status(into: &mut String, path: &RemotePath, status: &str) {
    let href = href(path, false);
    let _infallible = write!(
        into,
        "<d:response><d:href>{href}</d:href><d:status>HTTP/1.1 {status}</d:status></d:response>"
    );
}
