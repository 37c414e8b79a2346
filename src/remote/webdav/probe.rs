//! Finding out what a server can do, by trying it in a hidden folder that is removed afterwards.

use std::time::Duration;

use reqwest::header::SERVER;
use reqwest::{Method, Response};

use super::WebDavRemote;
use super::client::{Payload, Request};
use super::failure::{Failure, Outcome, refusal, shown_url};
use super::left::PROBE;
use super::look::{Child, TICK};
use super::multistatus::Props;
use super::paths::RawPath;
use super::profile::{Known, Profile};
use super::upload::Sending;
use super::version::{Etag, condition, nanos, parse_date};
use crate::remote::names::is_hidden;
use crate::remote::{Capabilities, Conditional, ErrorKind, FeedKind, Kind, Observed, Version};

/// An ETag that no file has.
const WRONG: &str = "\"dewfs-is-not-this\"";
/// An mtime that no clock says any more.
const LONG_AGO: i64 = 1_000_000_000;
/// How often two conditional writes race for one version.
const RACES: usize = 4;
/// The longest tick of a local file system's clock.
const FILE_TICK: Duration = Duration::from_millis(11);
/// So many folders of a root that takes none itself are tried.
const SHARES: usize = 8;
/// How many writes in a row must get versions of their own.
const REWRITES: usize = 5;

/// Is what the tries showed.
#[derive(Default)]
struct Tried {
    ranges: bool,
    conditions: bool,
    wins_alone: bool,
    fine: bool,
    /// What a write replaces can be brought back there, and an entry that is replaced keeps its shares.
    keeps_history: bool,
}

impl WebDavRemote {
    pub(super) async fn find_out(&self) -> Outcome<Capabilities> {
        let mut known = Known::careful();
        let root = self.greet(&mut known.capabilities).await?;
        let cloud = self.cloud.as_ref();
        if let Some(cloud) = cloud {
            known.capabilities.product.clone_from(&cloud.product);
        }
        known.capabilities.identity.clone_from(&root.file_id);
        // What these servers are known for holds also where nothing can be tried.
        known.profile.keeps_ids = cloud.is_some() && root.file_id.is_some();
        known.profile.folder_versions = cloud.is_some() && root.etag.is_some();
        known.profile.syncs = self.try_sync().await?;
        if !self.look_only {
            self.try_somewhere(&mut known).await?;
        }
        known.feed();
        let capabilities = known.capabilities.clone();
        self.learn(known);
        Ok(capabilities)
    }

    /// Tries everything in the root or, where that takes no new folder, in one of its folders: the root of some servers is
    /// a fixed list of shares.
    async fn try_somewhere(&self, known: &mut Known) -> Outcome<()> {
        let root = RawPath(Vec::new());
        if self.try_in(&root, known).await? {
            return Ok(());
        }
        let is_share = |child: &Child| child.entry.kind == Kind::Folder && !is_hidden(&child.raw);
        for share in self.children(&root).await?.into_iter().filter(is_share).take(SHARES) {
            if self.try_in(&root.child(&share.raw), known).await? {
                return Ok(());
            }
        }
        known.capabilities.writable = false;
        Ok(())
    }

    /// Whether this folder could be written; what was learnt there is in `known`.
    async fn try_in(&self, place: &RawPath, known: &mut Known) -> Outcome<bool> {
        let folder = place.child(format!("{PROBE}{:016x}", fastrand::u64(..)).as_bytes());
        let made = self.send_dav("MKCOL", &self.root.folder(&folder)?).await?;
        if !made.status().is_success() {
            return is_only_full(&made);
        }
        known.capabilities.writable = true;
        let found = self.try_all(&folder, known).await;
        let removed = self.delete(&folder, Kind::Folder, None).await;
        found?;
        if let Err(failure) = removed {
            tracing::warn!(%failure, "the probe's hidden folder stays behind");
        }
        Ok(known.capabilities.writable)
    }

    /// Whether there is a WebDAV folder at all, and who serves it.
    pub(super) async fn greet(&self, capabilities: &mut Capabilities) -> Outcome<Props> {
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
                let why = format!(
                    "{shown} is served, but not as a WebDAV folder: many servers have that below /dav/, /webdav/ or the like"
                );
                return Err(Failure::new(ErrorKind::Unsupported, why));
            }
            _ => return Err(refusal(&answer)),
        }
        match self.ask(&RawPath(Vec::new())).await? {
            Some((root, _)) if root.collection => Ok(root),
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
        known.profile.heads = self.try_head(&file).await?;
        self.try_moves(folder, &mut known.profile).await?;
        if !known.profile.folder_versions {
            known.profile.folder_versions = self.try_folders(folder).await?;
        }
        self.try_names(folder, &mut known.profile).await?;
        self.try_times(folder, &mut known.profile).await?;
        let product = known.capabilities.product.to_ascii_lowercase();
        if tried.conditions && has_etag && is_exact(&product) {
            tried.wins_alone = self.try_races(folder).await?;
        }
        tried.keeps_history = self.cloud.as_ref().is_some();
        known.settle(&tried);
        Ok(())
    }

    /// Whether a folder's ETag tells of every change below it: two writes and a removal, in a folder of it, right after each
    /// other. Where nothing changes it must stay.
    async fn try_folders(&self, folder: &RawPath) -> Outcome<bool> {
        let below = folder.child(b"deep");
        let file = below.child(b"x");
        let made = self.send_dav("MKCOL", &self.root.folder(&below)?).await?;
        let (before, again) = (self.etag(folder).await?, self.etag(folder).await?);
        if !made.status().is_success() || before.is_none() || before != again {
            return Ok(false);
        }
        let mut seen = vec![before];
        for content in ["0123", "4567", ""] {
            match content {
                "" => self.delete(&file, Kind::File, None).await?,
                content => self.put_small(&file, content).await?,
            }
            let now = self.etag(folder).await?;
            if now.is_none() || seen.contains(&now) {
                return Ok(false);
            }
            seen.push(now);
        }
        Ok(true)
    }

    async fn etag(&self, path: &RawPath) -> Outcome<Option<String>> {
        let told = self.ask(path).await?;
        Ok(told.and_then(|(props, _)| Some(Etag::parse(props.etag.as_deref()?)?.opaque)))
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

    /// Whether HEAD tells of a file what a listing does, and that is all that a listing tells.
    async fn try_head(&self, file: &RawPath) -> Outcome<Option<bool>> {
        let (Some((short, _)), Some((long, _))) = (self.head(file).await?, self.ask(file).await?)
        else {
            return Ok(None);
        };
        let etag = |props: &Props| props.etag.as_deref().and_then(Etag::parse);
        let modified = |props: &Props| props.modified.as_deref().and_then(parse_date);
        let is_all = long.file_id.is_none() && long.permissions.is_none();
        let has_etag = etag(&long).is_some();
        let is_same = (!has_etag || etag(&short) == etag(&long))
            && short.length == long.length
            && modified(&short) == modified(&long);
        Ok((is_all && is_same).then_some(has_etag))
    }

    async fn try_moves(&self, folder: &RawPath, profile: &mut Profile) -> Outcome<()> {
        let [a, b, c] = [b"a", b"b", b"c"].map(|name| folder.child(name));
        self.put_small(&b, "else").await?;
        let refused = self.try_move(&b, &a).await?;
        profile.no_overwrite = refused == 412 && self.look(&b).await?.is_some();
        self.put_small(&a, "0123").await?;
        let before = self.look(&a).await?;
        let id = self.file_id(&a).await?;
        let moved = self.try_move(&a, &c).await?;
        let after = self.look(&c).await?;
        profile.keeps_ids = id.is_some() && id == self.file_id(&c).await?;
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
        let dated = [("x-oc-mtime", &*LONG_AGO.to_string())];
        self.try_put(&file, "0123", &dated).await?;
        let first = self.look(&file).await?;
        let mtime = first.as_ref().and_then(|seen| seen.mtime);
        profile.mtime_by_put = mtime == Some(nanos(LONG_AGO));
        if profile.mtime_by_put {
            self.try_put(&file, "4567", &dated).await?;
            let version = |seen: Option<Observed>| seen.map(|seen| seen.version);
            profile.mtime_is_version = version(first) == version(self.look(&file).await?);
        }
        let patched = self.patch_mtime(&file, LONG_AGO + 1, None).await;
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

    async fn file_id(&self, path: &RawPath) -> Outcome<Option<String>> {
        Ok(self.ask(path).await?.and_then(|(props, _)| props.file_id))
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
    /// How changes by others are learnt, as far as it is known.
    fn feed(&mut self) {
        self.capabilities.stable_ids = self.profile.keeps_ids;
        self.capabilities.folder_versions = self.profile.folder_versions;
        if self.profile.syncs {
            self.capabilities.feed = FeedKind::Poll;
        }
    }

    fn settle(&mut self, tried: &Tried) {
        let capabilities = &mut self.capabilities;
        let is_atomic = tried.conditions && tried.wins_alone;
        self.profile.straight = is_atomic || tried.conditions && tried.keeps_history;
        capabilities.ranges = tried.ranges;
        capabilities.dot_names = self.profile.lists_dots != Some(false);
        capabilities.conditional = match (is_atomic, self.profile.no_overwrite) {
            (true, true) => Conditional::Atomic,
            (_, true) => Conditional::Checked,
            (_, false) => Conditional::None,
        };
        capabilities.version_tick = if tried.fine { Duration::ZERO } else { TICK };
        capabilities.settable_mtime = self.profile.mtime_by_put;
    }
}

/// Whether a server of this product is known to compare and change in one step; it must show it as well.
fn is_exact(product: &str) -> bool {
    ["lighttpd", "dewfs/"].iter().any(|known| product.starts_with(known))
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
