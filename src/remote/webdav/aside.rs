//! Changing what is on a server that honours no conditions: move aside, look, act; and tidying up after it.
//!
//! What is moved aside keeps a visible name that nobody else knows. Until it was looked at it may be the only copy of
//! somebody's content, so it is removed only when it is what was expected, else brought back.

use reqwest::Method;
use url::Url;

use super::WebDavRemote;
use super::client::Request;
use super::failure::{Failure, Outcome, refusal};
use super::paths::RawPath;
use crate::remote::{AttemptTag, ErrorKind, Expect, Kind, Name, OWN_PREFIX, Observed, names};

/// How much of a name a temporary's name repeats; some servers add to names while they write.
const SHORT: usize = 100;

/// Is one place that a change is about, with the private names beside it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) path: RawPath,
    pub(super) temp: RawPath,
    pub(super) aside: RawPath,
    kept: RawPath,
}

impl Site {
    /// `None` for the root, which nobody can replace.
    pub(super) fn new(path: RawPath, name: Option<&Name>, tag: &AttemptTag) -> Outcome<Self> {
        let Some(name) = name else {
            return Err(Failure::new(ErrorKind::Denied, "the remote's root cannot be changed"));
        };
        let temp = path.beside(&names::temp(tag, &shortened(name)));
        let aside = path.beside(&names::aside(tag, name));
        let kept = path.beside(&names::kept(tag, name));
        Ok(Self { path, temp, aside, kept })
    }
}

fn shortened(name: &Name) -> Name {
    let bytes = name.as_bytes();
    let is_inside = |at: usize| bytes.get(at).is_some_and(|b| b & 0xC0 == 0x80);
    let end = (1..=SHORT.min(bytes.len())).rev().find(|at| !is_inside(*at)).unwrap_or(SHORT);
    let short = bytes.get(..end).and_then(|short| Name::new(short).ok());
    short.unwrap_or_else(|| name.clone())
}

impl WebDavRemote {
    fn url_of(&self, path: &RawPath, kind: Kind) -> Outcome<Url> {
        if kind == Kind::Folder { self.root.folder(path) } else { self.root.file(path) }
    }

    /// Moves to a name that must be free: `AlreadyExists`, `NotFound` or `NoParent` if that is why not.
    pub(super) async fn move_to(&self, from: &RawPath, to: &RawPath, kind: Kind) -> Outcome<()> {
        if !self.profile().no_overwrite && self.look(to).await?.is_some() {
            return Err(Failure::new(ErrorKind::AlreadyExists, "the new name is taken"));
        }
        let destination = self.url_of(to, kind)?;
        let request = Request::dav("MOVE", self.url_of(from, kind)?)?
            .header("destination", destination.as_str())?
            .header("overwrite", "F")?;
        let answer = self.client.send(request).await?;
        match answer.status().as_u16() {
            200 | 201 | 204 => Ok(()),
            412 => Err(Failure::new(ErrorKind::AlreadyExists, "the new name is taken")),
            // 207 is no success either: it names what could not be moved
            _ => Err(self.why_not_moved(from, to, refusal(&answer)).await),
        }
    }

    /// Servers refuse in many ways what cannot be moved: a look tells which it was.
    async fn why_not_moved(&self, from: &RawPath, to: &RawPath, refused: Failure) -> Failure {
        use ErrorKind::{AlreadyExists, Locked, NoParent, NoSpace, NotFound, RateLimited};
        if matches!(refused.kind, Locked { .. } | RateLimited { .. } | NoSpace) {
            return refused;
        }
        if matches!(refused.kind, ErrorKind::Unauthenticated) {
            return refused;
        }
        if let Ok(None) = self.look(from).await {
            return Failure::new(NotFound, "nothing is there");
        }
        if let Ok(Some(_)) = self.look(to).await {
            return Failure::new(AlreadyExists, "the new name is taken");
        }
        match self.has_parent(to).await {
            Ok(false) => Failure::new(NoParent, "the new folder is not there"),
            // a 404 with the folder there means the source, even if it is back by now
            Ok(true) if refused.kind == NoParent => Failure::new(ErrorKind::Other, refused.why),
            _ => refused,
        }
    }

    pub(super) async fn has_parent(&self, path: &RawPath) -> Outcome<bool> {
        let Some(parent) = path.parent() else { return Ok(true) };
        Ok(self.look(&parent).await?.is_some_and(|seen| seen.kind == Kind::Folder))
    }

    /// What is there now, if it is what was expected.
    pub(super) async fn check(&self, path: &RawPath, expect: &Expect) -> Outcome<Option<Observed>> {
        let seen = self.look(path).await?;
        let refuse = |kind, why: &str| Err(Failure::new(kind, why));
        match (expect, &seen) {
            (Expect::Absent, Some(_)) => refuse(ErrorKind::AlreadyExists, "something is there"),
            (Expect::Version(_) | Expect::Folder, None) => {
                refuse(ErrorKind::NotFound, "nothing is there")
            }
            (Expect::Version(version), Some(seen))
                if seen.kind != Kind::File || seen.version != *version =>
            {
                refuse(ErrorKind::VersionMismatch, "there is another version now")
            }
            (Expect::Folder, Some(seen)) if seen.kind != Kind::Folder => {
                refuse(ErrorKind::VersionMismatch, "it is a file now")
            }
            _ => Ok(seen),
        }
    }

    /// Moves a file that was seen as `before` aside; if it is another one, gives it back and reports a mismatch.
    pub(super) async fn take_file_aside(&self, site: &Site, before: &Observed) -> Outcome<()> {
        self.move_to(&site.path, &site.aside, Kind::File).await?;
        let Some(moved) = self.look(&site.aside).await? else {
            return Err(Failure::new(ErrorKind::NotFound, "it vanished while it was moved"));
        };
        if self.is_same(before, &moved) {
            return Ok(());
        }
        self.give_back(site, moved.kind).await?;
        Err(Failure::new(ErrorKind::VersionMismatch, "there is another version now"))
    }

    /// Whether what was moved is what was seen before it.
    pub(super) fn is_same(&self, before: &Observed, moved: &Observed) -> bool {
        if moved.kind != before.kind || moved.kind == Kind::Folder {
            return moved.kind == before.kind;
        }
        if self.profile().keeps_version || before.version == moved.version {
            return before.version == moved.version;
        }
        before.size == moved.size && before.mtime.is_some() && before.mtime == moved.mtime
    }

    /// Brings back what was moved aside, under its old name or, if that is taken, under a visible one beside it.
    pub(super) async fn give_back(&self, site: &Site, kind: Kind) -> Outcome<()> {
        match self.move_to(&site.aside, &site.path, kind).await {
            Err(failure) if failure.kind == ErrorKind::AlreadyExists => {
                match self.move_to(&site.aside, &site.kept, kind).await {
                    Err(failure) if failure.kind != ErrorKind::AlreadyExists => Err(failure),
                    _ => Ok(()),
                }
            }
            other => other,
        }
    }

    /// Removes a file under a private name. What cannot be removed is found by the next `tidy`.
    pub(super) async fn drop_private(&self, path: &RawPath) {
        if let Err(failure) = self.delete(path, Kind::File, None).await {
            tracing::debug!(%failure, "a private file stays behind");
        }
    }

    /// One DELETE; nothing there is as good.
    pub(super) async fn delete(
        &self,
        path: &RawPath,
        kind: Kind,
        condition: Option<&str>,
    ) -> Outcome<()> {
        let mut request = Request::new(Method::DELETE, self.url_of(path, kind)?);
        if let Some(condition) = condition {
            request = request.header("if-match", condition)?;
        }
        let answer = self.client.send(request).await?;
        match answer.status().as_u16() {
            200 | 202 | 204 | 404 | 410 => Ok(()),
            207 => Err(Failure::new(ErrorKind::Other, "only a part was removed")),
            _ => Err(refusal(&answer)),
        }
    }

    /// After an attempt without an answer: no private name of it stays, and nothing unknown is removed.
    pub(super) async fn sweep(&self, site: &Site, expect: &Expect) -> Outcome<()> {
        match self.delete(&site.temp, Kind::File, None).await {
            Err(failure) if failure.kind != ErrorKind::NoParent => return Err(failure),
            _ => {}
        }
        let Some(old) = self.look(&site.aside).await? else { return Ok(()) };
        let is_replaced = match expect {
            Expect::Version(version) if old.kind == Kind::File && old.version == *version => {
                self.look(&site.path).await?.is_some()
            }
            _ => false,
        };
        if is_replaced {
            return self.delete(&site.aside, Kind::File, None).await;
        }
        self.give_back(site, old.kind).await
    }

    /// Whether a folder holds nothing but temporaries of uploads, whose contents are at their owners, too.
    pub(super) async fn is_empty(&self, folder: &RawPath) -> Outcome<bool> {
        let children = self.children(folder).await?;
        let is_ours = |raw: &[u8], kind| kind == Kind::File && raw.starts_with(OWN_PREFIX);
        Ok(children.iter().all(|child| is_ours(&child.raw, child.entry.kind)))
    }
}
