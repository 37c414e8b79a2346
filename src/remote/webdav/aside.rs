//! Changing what is on a server that honours no conditions: move aside, look, act; and tidying up after it.
//!
//! What is moved aside has a hidden name that nobody else knows: shown in a listing, it would be taken for somebody's new
//! file, for whose sake a folder that is being removed stays. Until it was looked at it may be the only copy of somebody's
//! content, so it is removed only when it is what was expected, else brought back, and no folder that holds it is removed.

use std::time::{Duration, Instant};

use reqwest::Method;
use url::Url;

use super::WebDavRemote;
use super::client::Request;
use super::failure::{Failure, Outcome, refusal};
use super::paths::RawPath;
use crate::remote::{AttemptTag, ErrorKind, Expect, Kind, Name, Observed, names};

/// How much of a name a temporary's name repeats; some servers add to names while they write.
const SHORT: usize = 100;
/// How often a move is sent that is refused for a reason which cannot be seen any more.
const TRIES: usize = 3;
/// How long requests of others to the same name take.
const SHORTLY: Duration = Duration::from_millis(100);

/// Is one place that a change is about, with the private names beside it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) path: RawPath,
    pub(super) temp: RawPath,
    pub(super) aside: RawPath,
    pub(super) removed: RawPath,
    kept: RawPath,
}

impl Site {
    /// `None` for the root, which nobody can replace.
    pub(super) fn new(path: RawPath, name: Option<&Name>, tag: &AttemptTag) -> Outcome<Self> {
        let Some(name) = name else {
            return Err(Failure::new(ErrorKind::Denied, "the remote's root cannot be changed"));
        };
        let temp = path.beside(&names::temp(tag, &shortened(name)));
        let aside = path.beside(&names::held(tag, name));
        let removed = path.beside(&names::removed(tag, name));
        let kept = path.beside(&names::kept(tag, name));
        Ok(Self { path, temp, aside, removed, kept })
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
            return Err(taken());
        }
        let destination = self.url_of(to, kind)?;
        let request = Request::dav("MOVE", self.url_of(from, kind)?)?
            .header("destination", destination.as_str())?
            .header("overwrite", "F")?;
        let request = if kind == Kind::Folder { request.of_tree() } else { request };
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let answer = self.client.send(request.clone()).await?;
            match answer.status().as_u16() {
                200 | 201 | 204 => return Ok(()),
                412 => return Err(taken()),
                // 207 is no success either: it names what could not be moved
                _ => {}
            }
            let refused = refusal(&answer);
            if matches!(refused.kind, ErrorKind::Locked { after: None }) && tries > 0 {
                // some servers lock what another request is about just now
                tokio::time::sleep(SHORTLY).await;
                continue;
            }
            match self.why_not_moved(from, to, &refused).await {
                Some(failure) => return Err(failure),
                // what was in the way has gone by now, or has come back
                None if tries > 0 => {}
                None if refused.kind == ErrorKind::NoParent => {
                    return Err(Failure::new(ErrorKind::Other, refused.why));
                }
                None => return Err(refused),
            }
        }
    }

    /// Servers refuse in many ways what cannot be moved: a look tells which it was, if it still can.
    async fn why_not_moved(
        &self,
        from: &RawPath,
        to: &RawPath,
        refused: &Failure,
    ) -> Option<Failure> {
        let unclear = || refused.kind.is_unanswered().then(|| refused.clone());
        let is_definite = match refused.kind {
            ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::NoParent => true,
            ErrorKind::NameRejected | ErrorKind::Unsupported => true,
            // some servers fail, or tell of a part, where they mean to refuse
            ErrorKind::Offline | ErrorKind::Unavailable | ErrorKind::Other => false,
            _ => return Some(refused.clone()),
        };
        match self.look(from).await {
            Ok(None) if is_definite => {
                return Some(Failure::new(ErrorKind::NotFound, "nothing is there"));
            }
            Ok(Some(_)) => {}
            _ => return Some(refused.clone()),
        }
        if let Ok(Some(_)) = self.look(to).await {
            return Some(taken());
        }
        match self.has_parent(to).await {
            Ok(false) => Some(Failure::new(ErrorKind::NoParent, "the new folder is not there")),
            Ok(true) => unclear(),
            Err(_) => Some(refused.clone()),
        }
    }

    pub(super) async fn has_parent(&self, path: &RawPath) -> Outcome<bool> {
        let Some(parent) = path.parent() else { return Ok(true) };
        Ok(self.look(&parent).await?.is_some_and(|seen| seen.kind == Kind::Folder))
    }

    /// The same, for what is sent file after file: a folder that was there a moment ago is not looked at again. Who removes
    /// it in that moment finds it made again, as it would be for the sake of what is sent.
    pub(super) async fn had_parent(&self, path: &RawPath) -> Outcome<bool> {
        let Some(parent) = path.parent() else { return Ok(true) };
        if self.parents.was_there(&parent) {
            return Ok(true);
        }
        let seen = Instant::now();
        let is_there = self.has_parent(path).await?;
        if is_there {
            self.parents.note(parent, seen);
        }
        Ok(is_there)
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
        let Some(moved) = self.look(&site.aside).await.map_err(Failure::halfway)? else {
            return Err(Failure::new(ErrorKind::NotFound, "it vanished while it was moved"));
        };
        if self.is_same(before, &moved) {
            return Ok(());
        }
        self.give_back(&site.aside, site, moved.kind).await?;
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

    /// Brings back what was moved aside, under its old name or, if that is taken, under a visible one beside it. Whatever
    /// keeps it from coming back leaves the attempt open: `tidy` tries again.
    pub(super) async fn give_back(&self, away: &RawPath, site: &Site, kind: Kind) -> Outcome<()> {
        let back = match self.move_to(away, &site.path, kind).await {
            Err(failure) if failure.kind == ErrorKind::AlreadyExists => {
                match self.move_to(away, &site.kept, kind).await {
                    Err(failure) if failure.kind == ErrorKind::AlreadyExists => Ok(()),
                    other => other,
                }
            }
            other => other,
        };
        back.map_err(|failure| match failure.kind.is_unanswered() {
            true => failure,
            false => {
                let why = format!("what was moved aside does not come back: {failure}");
                Failure::new(ErrorKind::Other, why)
            }
        })
    }

    /// Removes a file under a private name. While it cannot be removed the attempt is open: `tidy` tries again.
    pub(super) async fn drop_private(&self, path: &RawPath) -> Outcome<()> {
        self.delete(path, Kind::File, None).await.map_err(Failure::halfway)
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
        if kind == Kind::Folder {
            request = request.of_tree();
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
        if matches!(expect, Expect::Folder) {
            self.sweep_removed(site).await?;
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
        self.give_back(&site.aside, site, old.kind).await
    }

    /// A folder whose removal nobody saw through comes back if something is in it.
    async fn sweep_removed(&self, site: &Site) -> Outcome<()> {
        match self.is_empty(&site.removed).await {
            Ok(true) => Ok(()),
            Ok(false) => self.give_back(&site.removed, site, Kind::Folder).await,
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Whether a folder holds nothing but temporaries of uploads, whose contents are at their owners, too.
    pub(super) async fn is_empty(&self, folder: &RawPath) -> Outcome<bool> {
        let children = self.children(folder).await?;
        let is_ours = |raw: &[u8], kind| kind == Kind::File && names::parse_temp(raw).is_some();
        Ok(children.iter().all(|child| is_ours(&child.raw, child.entry.kind)))
    }
}

fn taken() -> Failure {
    Failure::new(ErrorKind::AlreadyExists, "the new name is taken")
}
