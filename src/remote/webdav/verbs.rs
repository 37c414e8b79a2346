//! The changes besides writing: folders, renames, removals, times.

use super::WebDavRemote;
use super::aside::Site;
use super::client::Request;
use super::failure::{Failure, Outcome, refusal};
use super::paths::RawPath;
use super::version::condition;
use super::xml_stream::read_multistatus;
use crate::remote::{ErrorKind, Expect, Kind, Metadata, Observed};

impl WebDavRemote {
    /// Whether a new name can be sent: one that no listing shows would look removed as soon as it is there.
    pub(super) fn check_name(&self, path: &RawPath) -> Outcome<()> {
        let name = path.0.last().map_or(&[][..], Vec::as_slice);
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            // many servers take an encoded slash for a step into a folder
            return Err(Failure::new(
                ErrorKind::NameRejected,
                "no server is trusted with this name",
            ));
        }
        let profile = self.profile();
        let refused = if name.starts_with(b".") && profile.lists_dots == Some(false) {
            "the server lists no names that begin with a dot"
        } else if !profile.keeps_control && name.iter().any(u8::is_ascii_control) {
            "the server does not keep names with control characters as they are"
        } else if !profile.keeps_bytes && std::str::from_utf8(name).is_err() {
            "the server does not keep names that are no UTF-8 as they are"
        } else {
            return Ok(());
        };
        Err(Failure::new(ErrorKind::NameRejected, refused))
    }

    pub(super) async fn create_folder(&self, path: &RawPath) -> Outcome<Observed> {
        self.check_name(path)?;
        if !self.profile().honest_mkcol {
            self.check(path, &Expect::Absent).await?;
        }
        let request = Request::dav("MKCOL", self.root.folder(path)?)?;
        let answer = self.client.send(request).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(match status.as_u16() {
                400 | 403 | 404 | 405 | 409 | 500 => {
                    self.why_no_folder(path, refusal(&answer)).await
                }
                _ => refusal(&answer),
            });
        }
        match self.look(path).await.map_err(Failure::halfway)? {
            Some(seen) if seen.kind == Kind::Folder => Ok(seen),
            _ => Err(Failure::new(ErrorKind::Other, "it is gone right after it was made")),
        }
    }

    async fn why_no_folder(&self, path: &RawPath, refused: Failure) -> Failure {
        if let Err(taken) = self.check(path, &Expect::Absent).await {
            return taken;
        }
        match self.has_parent(path).await {
            Ok(false) => Failure::new(ErrorKind::NoParent, "its folder is not there"),
            _ if refused.kind == ErrorKind::NoParent => Failure::new(ErrorKind::Other, refused.why),
            _ => refused,
        }
    }

    /// Looks, moves, looks again: what was moved and is not what was expected is moved back.
    pub(super) async fn move_entry(
        &self,
        from: &RawPath,
        to: &RawPath,
        expect: &Expect,
    ) -> Outcome<Observed> {
        self.check_name(to)?;
        let Some(before) = self.check(from, expect).await? else {
            return Err(Failure::new(ErrorKind::NotFound, "nothing is there"));
        };
        if self.profile().move_makes_parents && !self.has_parent(to).await? {
            return Err(Failure::new(ErrorKind::NoParent, "the new folder is not there"));
        }
        // lighttpd moves a file into a folder of the new name instead of refusing
        self.check(to, &Expect::Absent).await?;
        self.move_to(from, to, before.kind).await?;
        let Some(moved) = self.look(to).await.map_err(Failure::halfway)? else {
            return Err(Failure::new(ErrorKind::Other, "it is gone right after it was moved"));
        };
        if moved.kind != before.kind {
            let why = "something else came to the new name meanwhile";
            return Err(Failure::new(ErrorKind::Other, why));
        }
        if matches!(expect, Expect::Any) || self.is_same(&before, &moved) {
            return Ok(moved);
        }
        self.move_to(to, from, moved.kind).await.map_err(|failure| {
            let why = format!("another version was moved, and back it cannot: {failure}");
            Failure::new(ErrorKind::Other, why)
        })?;
        Err(Failure::new(ErrorKind::VersionMismatch, "there is another version now"))
    }

    pub(super) async fn remove_entry(&self, site: &Site, expect: &Expect) -> Outcome<()> {
        let Some(seen) = self.check(&site.path, expect).await? else {
            return Err(Failure::new(ErrorKind::NotFound, "nothing is there"));
        };
        if seen.kind == Kind::Folder {
            return self.remove_folder(site).await;
        }
        match condition(&seen.version).filter(|_| self.profile().straight) {
            Some(etag) => match self.delete(&site.path, Kind::File, Some(&etag)).await {
                Err(failure) if failure.kind == ErrorKind::VersionMismatch => {
                    let now = Expect::Version(seen.version);
                    Err(self.why_precondition(&site.path, &now).await)
                }
                other => other,
            },
            None => {
                self.take_file_aside(site, &seen).await?;
                self.drop_private(&site.aside).await
            }
        }
    }

    /// No server removes a folder only if it is empty: it is moved to a name that nobody knows, listed there, and only
    /// then removed. Where listings do not show everything, it stays under that name, which is a hidden one.
    async fn remove_folder(&self, site: &Site) -> Outcome<()> {
        let not_empty = || Failure::new(ErrorKind::NotEmpty, "the folder is not empty");
        if !self.is_empty(&site.path).await? {
            return Err(not_empty());
        }
        let sees_all = self.profile().lists_dots == Some(true);
        let away = if sees_all { &site.aside } else { &site.removed };
        self.move_to(&site.path, away, Kind::Folder).await?;
        match self.is_empty(away).await {
            Ok(true) if sees_all => {
                self.delete(away, Kind::Folder, None).await.map_err(Failure::halfway)
            }
            Ok(true) => Ok(()),
            Ok(false) => {
                self.give_back(away, site, Kind::Folder).await?;
                Err(not_empty())
            }
            Err(failure) => {
                self.give_back(away, site, Kind::Folder).await?;
                Err(failure)
            }
        }
    }

    pub(super) async fn set_times(
        &self,
        path: &RawPath,
        metadata: &Metadata,
        expect: &Expect,
    ) -> Outcome<Observed> {
        let unsupported = || Failure::new(ErrorKind::Unsupported, "the server sets no such times");
        let seconds = metadata.mtime.map(|mtime| mtime.div_euclid(1_000_000_000));
        let Some(seconds) = seconds.filter(|_| self.profile().mtime_by_proppatch) else {
            return Err(unsupported());
        };
        let Some(before) = self.check(path, expect).await? else {
            return Err(Failure::new(ErrorKind::NotFound, "nothing is there"));
        };
        // What was put there meanwhile would get these times, and by them and its size be taken for what we know.
        let etag = condition(&before.version).filter(|_| self.profile().straight);
        match self.patch_mtime(path, seconds, etag.as_deref()).await {
            Err(failure) if etag.is_some() && failure.kind == ErrorKind::VersionMismatch => {
                return Err(self.why_precondition(path, expect).await);
            }
            other => other?,
        }
        match self.look(path).await? {
            Some(seen) if seen.mtime == Some(super::version::nanos(seconds)) => Ok(seen),
            Some(_) => Err(unsupported()),
            None => Err(Failure::new(ErrorKind::NotFound, "nothing is there")),
        }
    }

    /// Asks for an mtime, of just this ETag if one is given; whether it was set only a look can tell.
    pub(super) async fn patch_mtime(
        &self,
        path: &RawPath,
        seconds: i64,
        etag: Option<&str>,
    ) -> Outcome<()> {
        let body = format!(
            r#"<?xml version="1.0" encoding="utf-8"?><d:propertyupdate xmlns:d="DAV:"><d:set><d:prop><d:lastmodified>{seconds}</d:lastmodified></d:prop></d:set></d:propertyupdate>"#
        );
        let mut request = Request::dav("PROPPATCH", self.root.file(path)?)?.xml(body);
        if let Some(etag) = etag {
            request = request.header("if-match", etag)?;
        }
        let answer = self.client.send(request).await?;
        if answer.status().as_u16() != 207 {
            return Err(refusal(&answer));
        }
        read_multistatus(answer, self.client.stall).await.map(drop)
    }
}
