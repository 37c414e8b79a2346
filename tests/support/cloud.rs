//! A server in the tests' own process that answers as Nextcloud does, or ownCloud or OpenCloud, stricter than these: ETags are random and move up to the
//! root with every change below, ids stay over edits and moves, what was not asked for is not told. In another mode it is a
//! plain WebDAV server that tells what changed since a token (RFC 6578), and folder ETags that tell nothing.

#[path = "cloud/answers.rs"]
mod answers;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use answers::serve;

/// Who may use it.
pub const LOGIN: &str = "alice@example.org";
pub const USER: &str = "alice";
pub const PASSWORD: &str = "app-1234";

/// As what a cloud answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Nextcloud,
    /// No login by the browser: nothing is there.
    OwnCloud,
    /// No login by the browser: the page of its web programs is everywhere. Ids have three parts.
    OpenCloud,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// As such a cloud; else plain WebDAV below `/dav/`.
    pub cloud: Option<Product>,
    /// Tells changes since a token.
    pub sync: bool,
    /// Folder ETags move with everything below; else they stay for ever.
    pub propagates: bool,
    /// Tells who is signed in.
    pub principal: bool,
    /// Changes told in one answer.
    pub page: usize,
}

impl Options {
    pub fn nextcloud() -> Self {
        Self::cloud(Product::Nextcloud)
    }

    pub fn cloud(product: Product) -> Self {
        let cloud = Some(product);
        Self { cloud, sync: false, propagates: true, principal: true, page: 1000 }
    }

    pub fn sync() -> Self {
        Self { cloud: None, sync: true, propagates: false, principal: false, page: 1000 }
    }
}

#[derive(Clone, Debug)]
struct Node {
    content: Option<Vec<u8>>,
    id: u64,
    etag: String,
    mtime: i64,
    permissions: &'static str,
}

/// One request as it was answered.
#[derive(Clone)]
pub struct Asked {
    pub at: Instant,
    pub method: String,
    /// Below the user's files, decoded; or the whole path of anything else.
    pub path: String,
    pub depth: String,
    pub status: u16,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?} {}", self.method, self.depth, self.path, self.status)
    }
}

struct State {
    options: Options,
    nodes: BTreeMap<String, Node>,
    /// What changed, in order.
    changes: Vec<String>,
    /// Tokens below this are not known any more.
    forgotten: usize,
    hears_nothing: bool,
    /// What it answers who asks for a token.
    refuses_tokens: Option<u16>,
    next_id: u64,
    asked: Vec<Asked>,
    granted: bool,
    port: u16,
    signed_in: bool,
    /// Something in front answers that nothing is there.
    away: bool,
    /// What somebody else puts there right before the next request of this verb.
    before: Option<(&'static str, String, Vec<u8>)>,
}

pub struct CloudServer {
    pub port: u16,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for CloudServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn parent(path: &str) -> Option<&str> {
    if path.is_empty() { None } else { Some(path.rsplit_once('/').map_or("", |(above, _)| above)) }
}

fn below(path: &str, folder: &str) -> bool {
    folder.is_empty() && !path.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn etag() -> String {
    format!("{:016x}", fastrand::u64(..))
}

impl State {
    fn prefix(&self) -> String {
        match self.options.cloud.is_some() {
            true => format!("/remote.php/dav/files/{USER}"),
            false => "/dav".to_owned(),
        }
    }

    fn changed(&mut self, path: &str) {
        self.changes.push(path.to_owned());
        let mut at = path;
        while let Some(above) = parent(at) {
            if let Some(node) = self.nodes.get_mut(above).filter(|_| self.options.propagates) {
                node.etag = etag();
            }
            at = above;
        }
    }

    fn put(&mut self, path: &str, content: &[u8], mtime: Option<i64>) -> bool {
        let mtime = mtime.unwrap_or_else(now);
        let is_new = !self.nodes.contains_key(path);
        self.next_id += 1;
        let fresh = Node {
            content: None,
            id: self.next_id,
            etag: String::new(),
            mtime,
            permissions: "RGDNVW",
        };
        let node = self.nodes.entry(path.to_owned()).or_insert(fresh);
        node.content = Some(content.to_vec());
        (node.etag, node.mtime) = (etag(), mtime);
        self.changed(path);
        is_new
    }

    fn make_folder(&mut self, path: &str) {
        self.next_id += 1;
        let folder = Node {
            content: None,
            id: self.next_id,
            etag: etag(),
            mtime: now(),
            permissions: "RGDNVCK",
        };
        self.nodes.insert(path.to_owned(), folder);
        self.changed(path);
    }

    fn remove(&mut self, path: &str) {
        self.nodes.retain(|one, _| one != path && !below(one, path));
        self.changed(path);
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.nodes.retain(|one, _| one != to && !below(one, to));
        let moved: Vec<String> =
            self.nodes.keys().filter(|one| *one == from || below(one, from)).cloned().collect();
        for one in moved {
            let node = self.nodes.remove(&one).unwrap();
            let new = format!("{to}{}", &one[from.len()..]);
            self.nodes.insert(new.clone(), node);
            self.changes.push(new);
        }
        self.changed(from);
        self.changed(to);
    }

    fn size(&self, path: &str) -> usize {
        let all = self.nodes.iter().filter(|(one, _)| *one == path || below(one, path));
        all.filter_map(|(_, node)| node.content.as_ref()).map(Vec::len).sum()
    }
}

impl CloudServer {
    pub async fn start(options: Options) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut state = State {
            nodes: BTreeMap::new(),
            changes: Vec::new(),
            forgotten: 0,
            hears_nothing: false,
            refuses_tokens: None,
            next_id: 10,
            asked: Vec::new(),
            granted: false,
            signed_in: options.cloud.is_some(),
            away: false,
            before: None,
            options,
            port,
        };
        state.make_folder("");
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { port, state, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The address that a browser shows, or the WebDAV folder.
    pub fn url(&self) -> String {
        let page = match self.state().options.cloud {
            Some(Product::OpenCloud) => "files/spaces/personal/alice",
            Some(_) => "index.php/apps/files/?dir=/",
            None => "dav/",
        };
        format!("http://127.0.0.1:{}/{page}", self.port)
    }

    pub fn put(&self, path: &str, content: &[u8]) {
        self.state().put(path, content, None);
    }

    pub fn put_old(&self, path: &str, content: &[u8], mtime: i64) {
        self.state().put(path, content, Some(mtime));
    }

    /// Somebody else puts this there right before the next request of this verb.
    pub fn put_before(&self, verb: &'static str, path: &str, content: &[u8]) {
        self.state().before = Some((verb, path.to_owned(), content.to_vec()));
    }

    /// Whether something in front answers that nothing is there.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    pub fn make_folder(&self, path: &str) {
        self.state().make_folder(path);
    }

    pub fn remove(&self, path: &str) {
        self.state().remove(path);
    }

    pub fn rename(&self, from: &str, to: &str) {
        self.state().rename(from, to);
    }

    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.state().nodes.get(path)?.content.clone()
    }

    pub fn mtime(&self, path: &str) -> Option<i64> {
        Some(self.state().nodes.get(path)?.mtime)
    }

    pub fn id(&self, path: &str) -> Option<u64> {
        Some(self.state().nodes.get(path)?.id)
    }

    pub fn set_permissions(&self, path: &str, letters: &'static str) {
        let mut state = self.state();
        state.nodes.get_mut(path).unwrap().permissions = letters;
        state.changed(path);
    }

    /// The names in a folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let state = self.state();
        let inside = state.nodes.keys().filter(|one| parent(one) == Some(folder));
        inside.map(|one| one.rsplit('/').next().unwrap().to_owned()).collect()
    }

    /// A person signs in at the link.
    pub fn grant(&self) {
        self.state().granted = true;
    }

    /// Older tokens are not known any more.
    pub fn forget_tokens(&self) {
        let mut state = self.state();
        state.forgotten = state.changes.len() + 1;
        state.changes.push(String::new());
    }

    /// No token is known, those that are given from now on included.
    pub fn know_no_token(&self) {
        self.state().forgotten = usize::MAX;
    }

    /// No token is known, and none is given any more: nobody tells the server of changes.
    pub fn hear_nothing(&self) {
        let mut state = self.state();
        state.forgotten = usize::MAX;
        state.hears_nothing = true;
    }

    /// Who asks for a token is answered so from now on.
    pub fn refuse_tokens(&self, status: u16) {
        self.state().refuses_tokens = Some(status);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// How many requests were answered so far.
    pub fn count(&self) -> usize {
        self.state().asked.len()
    }

    /// What was asked since `before` requests were answered.
    pub fn since(&self, before: usize) -> Vec<Asked> {
        self.state().asked[before..].to_vec()
    }

    /// The most requests that were answered within any such time since `before`.
    pub fn most_within(&self, window: Duration, before: usize) -> usize {
        let asked = self.since(before);
        let within = |from: usize| {
            asked[from..].iter().take_while(|one| one.at - asked[from].at < window).count()
        };
        (0..asked.len()).map(within).max().unwrap_or(0)
    }
}
