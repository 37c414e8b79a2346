//! Changes at real servers that refuse, lose or break off any one of the requests that a change consists of.

use crate::support::wait::{LIMIT, holds_soon};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::support::faults::{Fault, Proxy};
use crate::support::servers::{Product, Server};
use crate::support::tried;
use dewfs::remote::webdav::{WebDavOptions, WebDavRemote};
use dewfs::remote::{
    AttemptTag, Body, Digest, Expect, Locator, Name, Remote, RemoteError, RemotePath, Upload,
};

/// More than any change sends.
const REQUESTS: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Create,
    CreateLarge,
    Replace,
    Rename,
    Remove,
    MakeFolder,
    RemoveFolder,
}

const CHANGES: [Change; 7] = [
    Change::Create,
    Change::CreateLarge,
    Change::Replace,
    Change::Rename,
    Change::Remove,
    Change::MakeFolder,
    Change::RemoveFolder,
];

const FAULTS: [Fault; 8] = [
    Fault::Answer("HTTP/1.1 401 Who\r\n"),
    Fault::Answer("HTTP/1.1 403 No\r\n"),
    Fault::Answer("HTTP/1.1 423 Locked\r\nRetry-After: 1\r\n"),
    Fault::Answer("HTTP/1.1 429 Slow down\r\nRetry-After: 1\r\n"),
    Fault::Answer("HTTP/1.1 500 Broken\r\n"),
    Fault::Answer("HTTP/1.1 507 Full\r\n"),
    Fault::Hangup,
    Fault::Lost,
];

const OLD: &[u8] = b"what was there";

fn at(path: &str) -> Locator {
    let names = path.split('/').filter(|name| !name.is_empty());
    Locator::at(RemotePath(names.map(|name| Name::new(name.as_bytes()).unwrap()).collect()))
}

fn tag(nonce: u64) -> AttemptTag {
    AttemptTag { mount: "halfway".into(), item: 7, nonce }
}

fn upload(bytes: Vec<u8>, nonce: u64) -> Upload {
    let hash = *blake3::hash(&bytes).as_bytes();
    Upload {
        pace: None,
        digest: Digest { size: bytes.len() as u64, hash },
        body: Body::Memory(bytes.into()),
        mtime: None,
        mode: None,
        extended: Default::default(),
        tag: tag(nonce),
        still_whole: None,
        progress: None,
    }
}

/// What is in the folder of one try: names with contents, folders with `None`.
type Tree = Vec<(String, Option<Vec<u8>>)>;

impl Change {
    fn before(self) -> Tree {
        let old = || Some(OLD.to_vec());
        match self {
            Self::Create | Self::CreateLarge | Self::MakeFolder => vec![],
            Self::Replace | Self::Rename | Self::Remove => vec![("f".into(), old())],
            Self::RemoveFolder => vec![("f".into(), None)],
        }
    }

    fn after(self) -> Tree {
        match self {
            Self::Create | Self::CreateLarge | Self::Replace => {
                vec![("f".into(), Some(self.content()))]
            }
            Self::Rename => vec![("to".into(), Some(OLD.to_vec()))],
            Self::Remove | Self::RemoveFolder => vec![],
            Self::MakeFolder => vec![("f".into(), None)],
        }
    }

    fn content(self) -> Vec<u8> {
        let length = if self == Self::CreateLarge { 300_000 } else { 3_000 };
        (0..length).map(|at: usize| (at % 251) as u8).collect()
    }

    /// What it expects of what is there before it.
    async fn expects(self, remote: &WebDavRemote, file: &Locator) -> Expect {
        match self {
            Self::Create | Self::CreateLarge | Self::MakeFolder => Expect::Absent,
            Self::RemoveFolder => Expect::Folder,
            _ => Expect::Version(remote.stat(file).await.unwrap().unwrap().version),
        }
    }

    async fn run(
        self,
        remote: &WebDavRemote,
        [file, to]: [&Locator; 2],
        expect: Expect,
        nonce: u64,
    ) -> Result<(), RemoteError> {
        match self {
            Self::Create | Self::CreateLarge | Self::Replace => {
                remote.write(file, upload(self.content(), nonce), expect).await.map(drop)
            }
            Self::Rename => remote.rename(file, to, expect, &tag(nonce)).await.map(drop),
            Self::Remove | Self::RemoveFolder => remote.remove(file, expect, &tag(nonce)).await,
            Self::MakeFolder => remote.make_folder(file).await.map(drop),
        }
    }
}

struct Stage {
    server: Server,
    proxy: Proxy,
    remote: WebDavRemote,
    tries: u64,
}

impl Stage {
    async fn new(product: Product) -> Self {
        let server = Server::start(product);
        let proxy = Proxy::start(server.port);
        let mut options = WebDavOptions::new(proxy.url());
        options.stall = Duration::from_secs(5);
        let remote = WebDavRemote::open(&options).unwrap();
        remote.probe().await.unwrap();
        Self { server, proxy, remote, tries: 0 }
    }

    fn place(&self, folder: &str) -> PathBuf {
        self.server.root().join(folder)
    }

    fn make(&self, folder: &str, tree: &Tree) {
        self.server.make_folder(folder);
        for (name, content) in tree {
            let path = format!("{folder}/{name}");
            let Some(content) = content else {
                self.server.make_folder(path);
                continue;
            };
            self.server.put(&path, content);
            let file = fs::File::options().write(true).open(self.place(&path)).unwrap();
            // old enough for its version to be sure
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
    }

    fn tree(&self, folder: &str) -> Tree {
        let entries = fs::read_dir(self.place(folder)).unwrap();
        let mut tree: Tree = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let content = entry.file_type().unwrap().is_file();
                let content = content.then(|| fs::read(entry.path()).unwrap());
                (entry.file_name().into_string().unwrap(), content)
            })
            .collect();
        // a server whose listings hide names keeps removed folders so
        tree.retain(|(name, _)| {
            self.server.product != Product::Nginx || !name.starts_with(".dewfs-removed.")
        });
        tree.sort();
        tree
    }

    /// One change with one fault; whether the fault was met.
    async fn attempt(&mut self, change: Change, fault: Fault) -> bool {
        self.tries += 1;
        let (nonce, folder) = (self.tries, format!("t{}", self.tries));
        self.make(&folder, &change.before());
        let (file, to) = (at(&format!("{folder}/f")), at(&format!("{folder}/to")));
        let expect = change.expects(&self.remote, &file).await;
        self.proxy.set(fault.clone(), &[]);
        let outcome = change.run(&self.remote, [&file, &to], expect.clone(), nonce).await;
        let is_met = self.proxy.count() > 0;
        self.proxy.heal();
        let what = format!("{change:?}, {fault:?}: {outcome:?}");
        let untouched = outcome.as_ref().is_err_and(|error| !error.kind.is_unanswered());
        if outcome.as_ref().is_err_and(|error| error.kind.is_unanswered()) {
            for place in [&file, &to] {
                self.remote.tidy(place, &expect, &tag(nonce)).await.unwrap();
            }
        }
        let found = self.tree(&folder);
        let shown = |tree: &Tree| tree.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let is_before = found == change.before() && outcome.is_err();
        let is_after = found == change.after() && !untouched;
        assert!(is_before || is_after, "{what}\nthere is {:?}", shown(&found));
        is_met
    }
}

/// Whatever one request, or all from it on, come to: a change was made or not, an error that says it was not is right, and
/// after the tidying that follows any other error no private name is left.
async fn every_request_of_every_change(product: Product) {
    let mut stage = Stage::new(product).await;
    let mut met = 0;
    for change in CHANGES {
        for fault in FAULTS {
            for kind in [Fault::Next, Fault::After] {
                let mut well = 0;
                while stage.attempt(change, kind(well, Box::new(fault.clone()))).await {
                    well += 1;
                    assert!(well < REQUESTS, "{change:?}, {fault:?}: no end");
                }
                assert!(well > 0, "{change:?}, {fault:?} was not met");
                met += well as u64;
            }
        }
    }
    println!("{product:?}: {met} faults");
    tried::tried(met, "faults between a mount and a server");
}

macro_rules! servers {
    ($($name:ident: $product:ident;)*) => { $(
        #[tokio::test]
        async fn $name() {
            every_request_of_every_change(Product::$product).await;
        }
    )* };
}

servers! {
    any_request_fails_at_apache: Apache;
    any_request_fails_at_nginx: Nginx;
    any_request_fails_at_lighttpd: Lighttpd;
}

/// Uploads that nobody goes on with and folders of probes that did not end are removed by whoever lists them; what may still
/// be somebody's stays.
#[tokio::test]
async fn what_nobody_comes_back_for_is_removed() {
    let stage = Stage::new(Product::Apache).await;
    let age = |path: &str, days: u64| {
        let then = SystemTime::now() - Duration::from_secs(days * 86_400 + 7_200);
        fs::File::open(stage.place(path)).unwrap().set_modified(then).unwrap();
    };
    let temp = ".dewfs-tmp.other.1.2--x";
    for (folder, days) in [("old", 30), ("new", 29)] {
        stage.server.make_folder(folder);
        for name in [temp, ".dewfs-held.other.1.2--x", ".dewfs-other"] {
            let path = format!("{folder}/{name}");
            stage.server.put(&path, b"x");
            age(&path, days);
        }
    }
    stage.server.make_folder("new/in");
    for name in [".dewfs-probe-1", ".dewfs-probe-2", "new/.dewfs-probe-3", "new/in/.dewfs-probe-4"]
    {
        stage.server.make_folder(name);
        stage.server.put(format!("{name}/a"), b"0123");
    }
    age(".dewfs-probe-1", 0);
    age("new/.dewfs-probe-3", 0);
    age("new/in/.dewfs-probe-4", 0);
    for folder in ["", "old", "new", "new/in"] {
        stage.remote.list(&at(folder), None).await.unwrap();
    }
    let names = |folder: &str| -> Vec<String> {
        stage.tree(folder).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(""), [".dewfs-probe-2", "new", "old"]);
    assert_eq!(names("old"), [".dewfs-held.other.1.2--x", ".dewfs-other"]);
    let kept = [".dewfs-held.other.1.2--x", ".dewfs-other", temp, "in"];
    assert_eq!(names("new"), kept);
    // Nobody tries a server deeper than in a folder of its root.
    assert_eq!(names("new/in"), [".dewfs-probe-4"]);
}

/// What a killed daemon had handed to the network came after the next one had tidied up, and stayed, hidden, for a month.
#[tokio::test(flavor = "multi_thread")]
async fn regression_an_upload_of_ours_that_comes_late_is_removed_when_it_is_seen() {
    let stage = Stage::new(Product::Apache).await;
    stage.make("f", &vec![]);
    let late = ".dewfs-tmp.halfway.7.1--a";
    let others = ".dewfs-tmp.other.7.1--a";
    let names = || stage.tree("f").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    stage.remote.tidy(&at("f/a"), &Expect::Absent, &tag(1)).await.unwrap();
    for name in [late, others] {
        stage.server.put(format!("f/{name}"), b"late");
    }
    // One of ours that is under way stays.
    stage.proxy.set(Fault::Slow(Duration::from_secs(1)), &["PUT"]);
    let (file, content) = (at("f/b"), b"under way".to_vec());
    let writing = stage.remote.write(&file, upload(content.clone(), 2), Expect::Absent);
    let listing = async {
        let all = || names().iter().any(|name| name.contains(".7.2--"));
        assert!(holds_soon(LIMIT, async || all()).await, "the upload does not begin");
        stage.remote.list(&at("f"), None).await.unwrap();
    };
    let (written, ()) = tokio::join!(writing, listing);
    written.unwrap();
    assert_eq!(names(), [others, "b"]);
    assert_eq!(fs::read(stage.place("f/b")).unwrap(), content);
}
