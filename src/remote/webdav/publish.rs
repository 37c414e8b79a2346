//! Writing: readers see the old file or the new one, and what somebody else put there is never replaced unseen.

use reqwest::{Method, Response};

use super::WebDavRemote;
use super::aside::Site;
use super::client::{Payload, Request};
use super::failure::{Failure, Outcome, refusal};
use super::look::TICK;
use super::paths::RawPath;
use super::upload::{Sending, changed};
use super::version::{Etag, condition};
use crate::remote::{ErrorKind, Expect, Kind, Observed, Upload, is_still_whole};

/// How often `Expect::Any` tries again when the place is taken or freed at the same time.
const TRIES: usize = 3;
/// Up to here a body is sent without a look whether its name is still free, where the move into place finds out.
const SMALL: u64 = 256 << 10;
/// How fine the times are that go with an upload, nanoseconds.
const TIMES: i64 = 1_000_000_000;
/// Servers that write straight add to a name while they do.
const LONGEST_STRAIGHT: usize = 230;

impl WebDavRemote {
    pub(super) async fn write_file(
        &self,
        site: &Site,
        upload: &Upload,
        expect: &Expect,
    ) -> Outcome<Observed> {
        if matches!(expect, Expect::Folder) {
            return Err(Failure::new(ErrorKind::VersionMismatch, "a file replaces no folder"));
        }
        self.check_name(&site.path)?;
        let profile = self.profile();
        let name_length = site.path.0.last().map_or(0, Vec::len);
        let is_condition = !matches!(expect, Expect::Version(v) if condition(v).is_none());
        if profile.straight && is_condition && name_length <= LONGEST_STRAIGHT {
            return self.write_straight(site, upload, expect).await;
        }
        if profile.put_makes_parents && !self.had_parent(&site.path).await? {
            return Err(Failure::new(ErrorKind::NoParent, "its folder is not there"));
        }
        // What is small is not looked at in vain: the move finds out.
        let mut before = None;
        if !self.is_decided_by_move(expect) || upload.digest.size > SMALL {
            before = self.check(&site.path, expect).await?;
        }
        let mtime = self.mtime_of(upload, before.as_ref());
        let sent = self.send_temporary(site, upload, mtime).await?;
        if !is_still_whole(upload.still_whole.as_ref()).await {
            self.drop_private(&site.temp).await?;
            return Err(changed());
        }
        self.publish(site, expect, sent).await
    }

    /// To a server that compares and replaces in one step.
    async fn write_straight(
        &self,
        site: &Site,
        upload: &Upload,
        expect: &Expect,
    ) -> Outcome<Observed> {
        let sending = Sending::new(upload, true).await?;
        let request = self.put(&site.path, upload.mtime, &sending)?;
        let request = match expect {
            Expect::Absent => request.header("if-none-match", "*")?,
            Expect::Version(version) => {
                request.header("if-match", &condition(version).unwrap_or_default())?
            }
            _ => request,
        };
        let answer = self.client.send(request).await?;
        if !answer.status().is_success() {
            return Err(self.why_not_written(&site.path, expect, &answer).await);
        }
        let etag = answer.headers().get("etag").and_then(|value| value.to_str().ok());
        let written = etag.and_then(Etag::parse);
        let seen = self.look(&site.path).await.map_err(Failure::halfway)?;
        let Some(seen) = seen.filter(|seen| seen.kind == Kind::File) else {
            return Err(Failure::new(ErrorKind::Other, "it is gone right after it was written"));
        };
        match written {
            Some(etag) if etag.version() != seen.version => {
                // somebody was there after us: what we wrote had this version
                Ok(Observed { version: etag.version(), size: sending.length, ..seen })
            }
            _ if seen.size != sending.length => Err(wrong_length(sending.length, seen.size)),
            _ => Ok(seen),
        }
    }

    async fn why_not_written(&self, path: &RawPath, expect: &Expect, answer: &Response) -> Failure {
        let refused = refusal(answer);
        match answer.status().as_u16() {
            412 => self.why_precondition(path, expect).await,
            400 | 403 | 404 | 405 | 409 | 500 => match self.check(path, expect).await {
                Err(failure) => failure,
                Ok(Some(seen)) if seen.kind == Kind::Folder => folder_there(expect),
                Ok(_) => self.or_no_parent(path, refused).await,
            },
            _ => refused,
        }
    }

    /// A condition that does not hold although a look says it does: the version is too young for the server.
    pub(super) async fn why_precondition(&self, path: &RawPath, expect: &Expect) -> Failure {
        match self.check(path, expect).await {
            Err(failure) => failure,
            Ok(_) => {
                Failure::new(ErrorKind::Unsettled { after: TICK }, "the server is not sure of it")
            }
        }
    }

    async fn or_no_parent(&self, path: &RawPath, refused: Failure) -> Failure {
        match self.has_parent(path).await {
            Ok(false) => Failure::new(ErrorKind::NoParent, "its folder is not there"),
            Ok(true) if refused.kind == ErrorKind::NoParent => {
                Failure::new(ErrorKind::Other, refused.why)
            }
            _ => refused,
        }
    }

    /// The mtime to be sent. Where versions are made of it and of the size, a content that replaces another of its size gets a
    /// later one: under the version that everybody knows already nobody would see it.
    fn mtime_of(&self, upload: &Upload, before: Option<&Observed>) -> Option<i64> {
        let mtime = upload.mtime?;
        let before = before
            .filter(|before| self.profile().mtime_is_version && before.size == upload.digest.size);
        let next = before.and_then(|before| before.mtime?.checked_add(TIMES));
        Some(next.filter(|next| mtime.div_euclid(TIMES) < next.div_euclid(TIMES)).unwrap_or(mtime))
    }

    fn put(&self, path: &RawPath, mtime: Option<i64>, sending: &Sending) -> Outcome<Request> {
        let mut request = Request::new(Method::PUT, self.root.file(path)?)
            .header("content-type", "application/octet-stream")?;
        if let Some(mtime) = mtime.filter(|_| self.profile().mtime_by_put) {
            request = request.header("x-oc-mtime", &mtime.div_euclid(TIMES).to_string())?;
        }
        request.body = Payload::Upload(sending.clone());
        Ok(request)
    }

    /// Sends everything to the hidden name and looks whether it arrived whole.
    async fn send_temporary(
        &self,
        site: &Site,
        upload: &Upload,
        mtime: Option<i64>,
    ) -> Outcome<Observed> {
        let sending = Sending::new(upload, false).await?;
        let answer = self.client.send(self.put(&site.temp, mtime, &sending)?).await?;
        if !answer.status().is_success() {
            let refused = refusal(&answer);
            return Err(match answer.status().as_u16() {
                400 | 403 | 404 | 405 | 409 | 500 => self.or_no_parent(&site.path, refused).await,
                _ => refused,
            });
        }
        let seen = self.look_at_sent(&site.temp, sending.length).await;
        match seen.map_err(Failure::halfway)? {
            Some(seen) if seen.kind == Kind::File && seen.size == sending.length => Ok(seen),
            Some(seen) => {
                self.drop_private(&site.temp).await?;
                Err(wrong_length(sending.length, seen.size))
            }
            None => Err(Failure::corrupt("what was sent is not there")),
        }
    }

    /// Moves the temporary into place; what is there is moved aside, looked at, and removed only then.
    async fn publish(&self, site: &Site, expect: &Expect, sent: Observed) -> Outcome<Observed> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let done = self.replace(site, expect).await;
            let raced = match &done {
                Err(failure) => matches!(
                    failure.kind,
                    ErrorKind::AlreadyExists | ErrorKind::NotFound | ErrorKind::VersionMismatch
                ),
                Ok(()) => false,
            };
            match done {
                Ok(()) => return self.published(site, sent).await,
                Err(_) if raced && matches!(expect, Expect::Any) && tries > 0 => {}
                Err(failure) => {
                    if !failure.kind.is_unanswered() {
                        self.drop_private(&site.temp).await?;
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// Whether the move into place itself tells if it was free.
    fn is_decided_by_move(&self, expect: &Expect) -> bool {
        matches!(expect, Expect::Absent) && self.profile().no_overwrite
    }

    async fn replace(&self, site: &Site, expect: &Expect) -> Outcome<()> {
        if self.is_decided_by_move(expect) {
            return self.move_to(&site.temp, &site.path, Kind::File).await;
        }
        let before = self.check(&site.path, expect).await?;
        let Some(before) = before else {
            return self.move_to(&site.temp, &site.path, Kind::File).await;
        };
        if before.kind != Kind::File {
            return Err(folder_there(expect));
        }
        self.take_file_aside(site, &before).await?;
        match self.move_to(&site.temp, &site.path, Kind::File).await {
            Ok(()) => self.drop_private(&site.aside).await,
            Err(failure) if failure.kind == ErrorKind::AlreadyExists => {
                // the newcomer has replaced what we were to replace
                self.drop_private(&site.aside).await?;
                Err(Failure::new(ErrorKind::VersionMismatch, "there is another version now"))
            }
            Err(failure) if failure.kind.is_unanswered() => Err(failure),
            Err(failure) => {
                self.give_back(&site.aside, site, Kind::File).await?;
                Err(failure)
            }
        }
    }

    /// What is known of it after the move; looked at again only where a move gives it another version.
    async fn published(&self, site: &Site, sent: Observed) -> Outcome<Observed> {
        if self.profile().keeps_version {
            return Ok(sent);
        }
        match self.look(&site.path).await.map_err(Failure::halfway)? {
            Some(seen) if seen.version == sent.version => Ok(seen),
            Some(seen) if seen.kind == Kind::File && seen.size == sent.size => {
                // perhaps somebody else's already: only a look at its content can tell
                Ok(Observed { settled: false, ..seen })
            }
            _ => Ok(sent),
        }
    }
}

/// A folder is no version of a file; without any expectation it is just in the way.
fn folder_there(expect: &Expect) -> Failure {
    let kind = match expect {
        Expect::Version(_) => ErrorKind::VersionMismatch,
        _ => ErrorKind::AlreadyExists,
    };
    Failure::new(kind, "a file replaces no folder")
}

fn wrong_length(sent: u64, there: u64) -> Failure {
    Failure::corrupt(format!("{there} bytes arrived of {sent}"))
}
