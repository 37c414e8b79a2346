//! Finding out what a server can do, by trying it in a hidden folder that is removed afterwards.

use std::time::Duration;

use reqwest::header::SERVER;
use reqwest::{Method, Response};

use super::WebDavRemote;
use super::client::{Payload, Request};
use super::failure::{Failure, Outcome, refusal, shown_url};
use super::left::PROBE;
use super::look::TICK;
use super::paths::RawPath;
use super::profile::{Known, Profile};
use super::upload::Sending;
use super::version::{Etag, condition, nanos};
use crate::remote::{Capabilities, Conditional, ErrorKind, Kind, Observed, Version};

/// An ETag that no file has.
const WRONG: &str = "\"dewfs-is-not-this\"";
/// An mtime that no clock says any more.
const LONG_AGO: i64 = 1_000_000_000;
/// How often two conditional writes race for one version.
const RACES: usize = 4;
/// The longest tick of a local file system's clock.
const FILE_TICK: Duration = Duration::from_millis(11);
/// How many writes in a row must get versions of their own.
const REWRITES: usize = 5;

/// Is what the tries showed.
#[derive(Default)]
struct Tried {
    ranges: bool,
    conditions: bool,
    wins_alone: bool,
    fine: bool,
}

impl WebDavRemote {
    pub(super) async fn find_out(&self) -> Outcome<Capabilities> {
        let mut known = Known::careful();
        let root = self.greet(&mut known.capabilities).await?;
        known.capabilities.stable_ids = root.id.is_some();
        known.capabilities.identity = root.id.map(|id| id.0);
        let name = format!("{PROBE}{:016x}", fastrand::u64(..));
        let folder = RawPath(vec![name.into_bytes()]);
        let made = self.send_dav("MKCOL", &self.root.folder(&folder)?).await?;
        if made.status().is_success() {
            let found = self.try_all(&folder, &mut known).await;
            let removed = self.delete(&folder, Kind::Folder, None).await;
            found?;
            if let Err(failure) = removed {
                tracing::warn!(%failure, "the probe's hidden folder stays behind");
            }
        } else {
            known.capabilities.writable = is_only_full(&made)?;
        }
        let capabilities = known.capabilities.clone();
        self.learn(known);
        Ok(capabilities)
    }

    /// Whether there is a WebDAV folder at all, and who serves it.
    async fn greet(&self, capabilities: &mut Capabilities) -> Outcome<Observed> {
        let url = self.root.url().clone();
        let shown = shown_url(&url);
        let request = Request::dav("PROPFIND", url)?.header("depth", "0")?;
        let answer = self
            .client
            .send(request)
            .await
            .map_err(|failure| Failure { why: format!("{shown}: {}", failure.why), ..failure })?;
        if let Some(server) = answer.headers().get(SERVER).and_then(|value| value.to_str().ok()) {
            server.split(' ').next().unwrap_or_default().clone_into(&mut capabilities.product);
        }
        match answer.status().as_u16() {
            207 => {}
            404 | 410 => {
                let why = format!("{shown} does not exist: check the path of the address");
                return Err(Failure::new(ErrorKind::NotFound, why));
            }
            200..300 | 405 | 501 => {
                let why = format!("{shown} is served, but not as a WebDAV folder");
                return Err(Failure::new(ErrorKind::Unsupported, why));
            }
            _ => return Err(refusal(&answer)),
        }
        match self.look(&RawPath(Vec::new())).await? {
            Some(root) if root.kind == Kind::Folder => Ok(root),
            Some(_) => Err(Failure::new(ErrorKind::NotFound, format!("{shown} is a file"))),
            None => Err(Failure::new(ErrorKind::NotFound, format!("{shown} does not exist"))),
        }
    }

    async fn try_all(&self, folder: &RawPath, known: &mut Known) -> Outcome<()> {
        let file = folder.child(b"a");
        let answer = self.try_put(&file, "0123", &[]).await?;
        if !answer.status().is_success() {
            known.capabilities.writable = is_only_full(&answer)?;
            return Ok(());
        }
        let mut tried = Tried::default();
        let has_etag = answer.headers().contains_key("etag");
        self.try_content(&file, &mut tried).await?;
        self.try_moves(folder, &mut known.profile).await?;
        self.try_names(folder, &mut known.profile).await?;
        self.try_times(folder, &mut known.profile).await?;
        let product = known.capabilities.product.to_ascii_lowercase();
        if tried.conditions && has_etag && product.starts_with("lighttpd") {
            tried.wins_alone = self.try_races(folder).await?;
        }
        known.settle(&tried);
        Ok(())
    }

    async fn try_content(&self, file: &RawPath, tried: &mut Tried) -> Outcome<()> {
        let request = Request::new(Method::GET, self.root.file(file)?);
        let part = self.client.send(request.header("range", "bytes=1-2")?).await?;
        tried.ranges = part.status().as_u16() == 206;
        drop(part);
        let mut honoured = 0;
        for (header, value) in [("if-match", WRONG), ("if-none-match", "*")] {
            let answer = self.try_put(file, "4567", &[(header, value)]).await?;
            honoured += usize::from(answer.status().as_u16() == 412);
        }
        let delete = self.delete(file, Kind::File, Some(WRONG)).await;
        honoured += usize::from(matches!(&delete, Err(f) if f.kind == ErrorKind::VersionMismatch));
        tried.conditions = honoured == 3;
        let mut versions: Vec<Version> = Vec::new();
        for count in 0..REWRITES {
            // a file system's own clock ticks that often; what is asked here is whether the server's is coarser
            tokio::time::sleep(FILE_TICK).await;
            self.put_small(file, &format!("{count:04}")).await?;
            let seen = self.look(file).await?;
            versions.extend(seen.map(|seen| seen.version));
        }
        versions.sort();
        versions.dedup();
        tried.fine = versions.len() == REWRITES;
        Ok(())
    }

    async fn try_moves(&self, folder: &RawPath, profile: &mut Profile) -> Outcome<()> {
        let [a, b, c] = [b"a", b"b", b"c"].map(|name| folder.child(name));
        self.put_small(&b, "else").await?;
        let refused = self.try_move(&b, &a).await?;
        profile.no_overwrite = refused == 412 && self.look(&b).await?.is_some();
        self.put_small(&a, "0123").await?;
        let before = self.look(&a).await?;
        let moved = self.try_move(&a, &c).await?;
        let after = self.look(&c).await?;
        profile.keeps_version = (200..300).contains(&moved)
            && before.is_some()
            && before.map(|seen| seen.version) == after.map(|seen| seen.version);
        let sub = folder.child(b"sub");
        self.send_dav("MKCOL", &self.root.folder(&sub)?).await?;
        let again = self.send_dav("MKCOL", &self.root.folder(&sub)?).await?;
        profile.honest_mkcol = again.status().as_u16() == 405;
        let lost = folder.child(b"none");
        self.try_move(&c, &lost.child(b"c")).await?;
        profile.move_makes_parents = self.look(&lost).await?.is_some();
        let lost = folder.child(b"nothing");
        self.try_put(&lost.child(b"c"), "0123", &[]).await?;
        profile.put_makes_parents = self.look(&lost).await?.is_some();
        Ok(())
    }

    /// Which names come back as they were sent: some servers hide some and write others in their own way.
    async fn try_names(&self, folder: &RawPath, profile: &mut Profile) -> Outcome<()> {
        let [dot, control, bytes]: [&[u8]; 3] = [b".dot", b"c\t\n\x01", b"b\xff"];
        self.put_small(&folder.child(dot), "0123").await?;
        for odd in [control, bytes] {
            if let Err(failure) = self.try_put(&folder.child(odd), "0123", &[]).await {
                tracing::debug!(%failure, "a name that the server does not take");
            }
        }
        let children = self.children(folder).await?;
        let is_listed = |name: &[u8]| children.iter().any(|child| child.raw == name);
        profile.lists_dots = Some(is_listed(dot));
        profile.keeps_control =
            is_listed(control) && self.look(&folder.child(control)).await?.is_some();
        profile.keeps_bytes = is_listed(bytes) && self.look(&folder.child(bytes)).await?.is_some();
        Ok(())
    }

    async fn try_times(&self, folder: &RawPath, profile: &mut Profile) -> Outcome<()> {
        let file = folder.child(b"t");
        self.try_put(&file, "0123", &[("x-oc-mtime", &LONG_AGO.to_string())]).await?;
        let mtime = self.look(&file).await?.and_then(|seen| seen.mtime);
        profile.mtime_by_put = mtime == Some(nanos(LONG_AGO));
        let patched = self.patch_mtime(&file, LONG_AGO + 1).await;
        let mtime = self.look(&file).await?.and_then(|seen| seen.mtime);
        profile.mtime_by_proppatch = patched.is_ok() && mtime == Some(nanos(LONG_AGO + 1));
        Ok(())
    }

    /// Whether of two writes under one condition exactly one wins, every time, and a right condition is honoured at once.
    async fn try_races(&self, folder: &RawPath) -> Outcome<bool> {
        let file = folder.child(b"race");
        for _ in 0..RACES {
            let answer = self.try_put(&file, "0123", &[]).await?;
            let Some(seen) = self.look(&file).await? else { return Ok(false) };
            let Some(etag) = condition(&seen.version) else { return Ok(false) };
            let told = answer.headers().get("etag").and_then(|value| value.to_str().ok());
            if told.and_then(Etag::parse).is_none_or(|told| told.version() != seen.version) {
                return Ok(false);
            }
            let right = [("if-match", etag.as_str())];
            let (one, two) = tokio::join!(
                self.try_put(&file, "4567", &right),
                self.try_put(&file, "89ab", &right)
            );
            let won = [one?, two?].iter().filter(|answer| answer.status().is_success()).count();
            if won != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn put_small(&self, path: &RawPath, content: &str) -> Outcome<()> {
        let answer = self.try_put(path, content, &[]).await?;
        if answer.status().is_success() { Ok(()) } else { Err(refusal(&answer)) }
    }

    async fn try_put(
        &self,
        path: &RawPath,
        content: &str,
        headers: &[(&'static str, &str)],
    ) -> Outcome<Response> {
        let mut request = Request::new(Method::PUT, self.root.file(path)?);
        for (name, value) in headers {
            request = request.header(name, value)?;
        }
        request.body = Payload::Upload(Sending::small(content.to_owned()));
        self.client.send(request).await
    }

    async fn try_move(&self, from: &RawPath, to: &RawPath) -> Outcome<u16> {
        let destination = self.root.file(to)?;
        let request = Request::dav("MOVE", self.root.file(from)?)?
            .header("destination", destination.as_str())?
            .header("overwrite", "F")?;
        Ok(self.client.send(request).await?.status().as_u16())
    }

    async fn send_dav(&self, verb: &'static str, url: &url::Url) -> Outcome<Response> {
        self.client.send(Request::dav(verb, url.clone())?).await
    }
}

impl Known {
    fn settle(&mut self, tried: &Tried) {
        let capabilities = &mut self.capabilities;
        self.profile.straight = tried.conditions && tried.wins_alone;
        capabilities.ranges = tried.ranges;
        capabilities.dot_names = self.profile.lists_dots != Some(false);
        capabilities.conditional = match (self.profile.straight, self.profile.no_overwrite) {
            (true, true) => Conditional::Atomic,
            (_, true) => Conditional::Checked,
            (_, false) => Conditional::None,
        };
        capabilities.version_tick = if tried.fine { Duration::ZERO } else { TICK };
        capabilities.settable_mtime = self.profile.mtime_by_put;
    }
}

/// Whether a server that refuses to hold anything new can be written in principle.
fn is_only_full(answer: &Response) -> Outcome<bool> {
    let refused = refusal(answer);
    match refused.kind {
        ErrorKind::NoSpace => Ok(true),
        ErrorKind::Denied
        | ErrorKind::Unsupported
        | ErrorKind::ReadOnly
        | ErrorKind::NoParent
        | ErrorKind::NotFound
        | ErrorKind::NameRejected => Ok(false),
        _ => Err(refused),
    }
}
