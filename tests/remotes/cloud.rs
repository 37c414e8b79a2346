//! Nextcloud and its relatives, and servers that tell changes since a token: against servers in this process that answer
//! strictly as theirs do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::cloud::{self, CloudServer, LOGIN, Options, PASSWORD, Product};
use crate::support::conformance::{Actor, Subject, run_all, upload};
use async_trait::async_trait;
use dewfs::remote::webdav::{AddressedServer, LoginFlow, WebDavOptions};
use dewfs::remote::{
    Conditional, ErrorKind, Expect, FeedKind, Locator, Metadata, Name, Remote, RemotePath,
};
use secrecy::ExposeSecret;

fn remote(server: &CloudServer) -> AddressedServer {
    AddressedServer::open(&WebDavOptions::new(server.url()).basic(LOGIN, PASSWORD)).unwrap()
}

fn at(path: &str) -> Locator {
    let names = path.split('/').filter(|name| !name.is_empty());
    Locator::at(RemotePath(names.map(|name| Name::new(name).unwrap()).collect()))
}

#[tokio::test]
async fn a_person_signs_in_by_the_browser() {
    let server = CloudServer::start(Options::nextcloud()).await;
    let options = WebDavOptions::new(server.url());
    let flow = LoginFlow::begin(&options).await.unwrap().expect("is such a server");
    assert_eq!(flow.link(), format!("http://127.0.0.1:{}/login/v2/flow/x1", server.port));
    assert_eq!(flow.product(), "Nextcloud 31.0.4");
    assert!(flow.poll().await.unwrap().is_none());
    server.grant();
    let granted = flow.wait(Duration::from_secs(20)).await.unwrap().expect("is granted");
    assert_eq!((granted.user.as_str(), granted.password.expose_secret()), (LOGIN, PASSWORD));
    assert_eq!(granted.server, format!("http://127.0.0.1:{}/", server.port));
    // what was granted is what the server lets in
    let options = WebDavOptions::new(granted.server).basic(&granted.user, granted.password);
    AddressedServer::open(&options).unwrap().probe().await.unwrap();
    assert!(flow.poll().await.unwrap().is_none(), "it is granted once");
}

#[tokio::test]
async fn where_nobody_signs_in_by_the_browser_no_login_begins() {
    let server = CloudServer::start(Options::sync()).await;
    assert!(LoginFlow::begin(&WebDavOptions::new(server.url())).await.unwrap().is_none());
    let nobody = WebDavOptions::new("http://127.0.0.1:9/");
    assert_eq!(LoginFlow::begin(&nobody).await.unwrap_err().kind, ErrorKind::Offline);
}

/// A page of the browser that answers where a login would begin ended the setup of an OpenCloud.
#[tokio::test]
async fn regression_owncloud_and_opencloud_want_a_password_and_are_known_by_name() {
    for (product, name) in
        [(Product::OwnCloud, "ownCloud 10.15.0"), (Product::OpenCloud, "OpenCloud 10.11.0")]
    {
        let server = CloudServer::start(Options::cloud(product)).await;
        server.make_folder("Photos");
        server.put("Photos/a.jpg", b"a picture");
        assert!(LoginFlow::begin(&WebDavOptions::new(server.url())).await.unwrap().is_none());
        let remote = remote(&server);
        let can = remote.probe().await.unwrap();
        assert_eq!(can.product, name);
        assert!(can.stable_ids && can.folder_versions && can.settable_mtime && can.writable);
        assert_eq!((can.feed, can.conditional), (FeedKind::Walk, Conditional::Checked));
        let listed = remote.list(&at("Photos"), None).await.unwrap();
        let names: Vec<_> =
            listed.entries.iter().map(|one| one.name.lossy().into_owned()).collect();
        assert_eq!(names, ["a.jpg"], "{name}");
    }
}

#[tokio::test]
async fn an_address_as_the_browser_shows_it_is_the_users_files() {
    let server = CloudServer::start(Options::nextcloud()).await;
    server.make_folder("Photos");
    server.put("Photos/a.jpg", b"a picture");
    let base = format!("http://127.0.0.1:{}/", server.port);
    for page in
        ["", "index.php/apps/files/?dir=/Photos", "apps/dashboard/", "remote.php/dav/files/alice/"]
    {
        let options = WebDavOptions::new(format!("{base}{page}")).basic(LOGIN, PASSWORD);
        let remote = AddressedServer::open(&options).unwrap();
        let can = remote.probe().await.unwrap();
        assert_eq!(can.product, "Nextcloud 31.0.4", "{page}");
        assert!(can.stable_ids && can.folder_versions && can.settable_mtime && can.writable);
        assert_eq!((can.feed, can.conditional), (FeedKind::Walk, Conditional::Checked));
        assert_eq!(can.identity, server.id("").map(|id| id.to_string()));
        let listed = remote.list(&at("Photos"), None).await.unwrap();
        let names: Vec<_> =
            listed.entries.iter().map(|one| one.name.lossy().into_owned()).collect();
        assert_eq!(names, ["a.jpg"], "{page}");
        let space = remote.space().await.unwrap().unwrap();
        assert_eq!((space.used, space.limit), (Some(9), Some(1_000_000_009)));
    }
}

/// What a proxy answered while its server was being started anew was believed until the mount ended.
#[tokio::test]
async fn regression_a_server_that_is_away_at_first_is_found_later() {
    let server = CloudServer::start(Options::nextcloud()).await;
    server.put("f", b"x");
    for page in ["", "remote.php/dav/files/alice/"] {
        let url = format!("http://127.0.0.1:{}/{page}", server.port);
        let options = WebDavOptions::new(url).basic(LOGIN, PASSWORD);
        let remote = AddressedServer::open(&options).unwrap();
        server.set_away(true);
        let refused = remote.stat(&at("f")).await.unwrap_err();
        // Of "f" nobody may believe that it is gone.
        assert_eq!(refused.kind, ErrorKind::RootMissing, "{page}: {refused}");
        assert_eq!(remote.list(&at("f"), None).await.unwrap_err().kind, ErrorKind::RootMissing);
        assert_eq!(remote.probe().await.unwrap_err().kind, ErrorKind::NotFound, "{page}");
        server.set_away(false);
        assert!(remote.stat(&at("f")).await.unwrap().is_some(), "{page}");
        assert_eq!(remote.probe().await.unwrap().product, "Nextcloud 31.0.4", "{page}");
    }
}

/// A folder behind the address of a cloud was not seen: all of the user's files were mounted.
#[tokio::test]
async fn regression_a_folder_below_the_address_is_what_is_mounted() {
    let server = CloudServer::start(Options::nextcloud()).await;
    server.make_folder("Photos");
    server.make_folder("Photos/s");
    server.put("Photos/s/a.jpg", b"a picture");
    server.put("elsewhere", b"x");
    for (page, below) in [
        ("Photos/s", 0),
        ("Photos/s", 1),
        ("Photos/s/", 2),
        ("index.php/apps/files/Photos/s", 2),
        ("remote.php/dav/files/alice/Photos/s", 2),
    ] {
        let url = format!("http://127.0.0.1:{}/{page}", server.port);
        let mut options = WebDavOptions::new(url).basic(LOGIN, PASSWORD);
        options.below = below;
        let remote = AddressedServer::open(&options).unwrap();
        remote.probe().await.unwrap();
        let listed = remote.list(&at(""), None).await.unwrap();
        let names: Vec<_> =
            listed.entries.iter().map(|one| one.name.lossy().into_owned()).collect();
        assert_eq!(names, ["a.jpg"], "{page}");
    }
    let url = format!("http://127.0.0.1:{}/nowhere", server.port);
    let remote = AddressedServer::open(&WebDavOptions::new(url).basic(LOGIN, PASSWORD)).unwrap();
    let refused = remote.probe().await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound, "{refused}");
}

/// Where a PUT brings the file's mtime, an old file's upload was taken for one that nobody had gone on with for a month, and
/// removed from under whoever sent it.
#[tokio::test(flavor = "multi_thread")]
async fn regression_uploads_of_old_files_are_not_removed_under_way() {
    let server = CloudServer::start(Options::nextcloud()).await;
    let remote = Arc::new(remote(&server));
    remote.probe().await.unwrap();
    let others = ".dewfs-tmp.other.1.2--x";
    server.put_old(others, b"under way there", 1_000_000_000);
    let mut old = upload(b"an old photo");
    old.mtime = Some(1_000_000_000_000_000_000);
    let (lister, runtime) = (remote.clone(), tokio::runtime::Handle::current());
    // Asked between the upload and its move into place.
    old.still_whole = Some(Arc::new(move || {
        tokio::task::block_in_place(|| {
            runtime.block_on(lister.list(&at(""), None)).unwrap();
        });
        true
    }));
    // Too long to be written straight.
    let name = "photo".repeat(48);
    let written = remote.write(&at(&name), old, Expect::Absent).await.unwrap();
    assert_eq!((written.size, server.mtime(&name)), (12, Some(1_000_000_000)));
    assert_eq!(server.names(""), [others, &name]);
    let puts = server.asked().into_iter().filter(|one| one.method == "PUT" && one.status < 300);
    assert_eq!(puts.filter(|one| one.path.contains(".dewfs-tmp.test.")).count(), 1, "sent once");
}

#[tokio::test]
async fn without_a_told_name_the_one_signed_in_with_is_the_users() {
    let server = CloudServer::start(Options { principal: false, ..Options::nextcloud() }).await;
    server.put("f", b"x");
    let options = WebDavOptions::new(server.url()).basic(cloud::USER, PASSWORD);
    let remote = AddressedServer::open(&options).unwrap();
    remote.probe().await.unwrap();
    assert!(remote.stat(&at("f")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_wrong_password_is_told_as_such() {
    let server = CloudServer::start(Options::nextcloud()).await;
    let options = WebDavOptions::new(server.url()).basic(LOGIN, "wrong".to_owned());
    let refused = AddressedServer::open(&options).unwrap().probe().await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unauthenticated);
}

/// Somebody else's content of the same size, put there between our look and our times, got these and was taken for what we know: it
/// was never fetched, and the next save replaced it.
#[tokio::test]
async fn regression_times_are_set_on_the_version_that_was_seen_only() {
    let server = CloudServer::start(Options::nextcloud()).await;
    server.put("doc", b"ours00");
    let remote = remote(&server);
    remote.probe().await.unwrap();
    let before = remote.stat(&at("doc")).await.unwrap().unwrap();
    let metadata = Metadata { mtime: Some(1_234_567_890_000_000_000), ..Metadata::default() };
    server.put_before("PROPPATCH", "doc", b"theirs");
    let expect = Expect::Version(before.version);
    let refused = remote.set_metadata(&at("doc"), &metadata, expect).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::VersionMismatch, "{refused}");
    let theirs = remote.stat(&at("doc")).await.unwrap().unwrap();
    assert_ne!(theirs.mtime, metadata.mtime);
    let set = remote.set_metadata(&at("doc"), &metadata, Expect::Version(theirs.version)).await;
    assert_eq!(set.unwrap().mtime, metadata.mtime);
}

#[tokio::test]
async fn a_saved_file_keeps_its_id_and_its_mtime() {
    let server = CloudServer::start(Options::nextcloud()).await;
    server.put("doc", b"first");
    let (id, remote) = (server.id("doc"), remote(&server));
    remote.probe().await.unwrap();
    let before = remote.stat(&at("doc")).await.unwrap().unwrap();
    let mut second = upload(b"second");
    second.mtime = Some(1_234_567_890_000_000_000);
    let expect = Expect::Version(before.version.clone());
    let after = remote.write(&at("doc"), second, expect.clone()).await.unwrap();
    assert_eq!((server.id("doc"), server.mtime("doc")), (id, Some(1_234_567_890)));
    assert_eq!((after.id, after.settled), (before.id, true));
    assert_eq!(server.names(""), ["doc"]);
    server.put("doc", b"theirs");
    let refused = remote.write(&at("doc"), upload(b"third"), expect).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::VersionMismatch);
    assert_eq!(server.content("doc").unwrap(), b"theirs");
}

#[tokio::test]
async fn what_may_not_be_changed_is_shown_so() {
    let server = CloudServer::start(Options::nextcloud()).await;
    server.make_folder("shared");
    server.put("shared/f", b"x");
    server.put("mine", b"x");
    server.set_permissions("shared", "SRG");
    server.set_permissions("shared/f", "SRGD");
    let remote = remote(&server);
    remote.probe().await.unwrap();
    let mode = async |path: &str| remote.stat(&at(path)).await.unwrap().unwrap().mode;
    assert_eq!(mode("shared").await, Some(0o555));
    assert_eq!(mode("shared/f").await, Some(0o444));
    assert_eq!(mode("mine").await, None);
    let refused = remote.write(&at("shared/new"), upload(b"x"), Expect::Absent).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
}

/// Changes the server's tree itself.
struct Inside(Arc<CloudServer>);

#[async_trait]
impl Actor for Inside {
    async fn put(&self, path: &str, content: &[u8]) {
        self.0.put(path, content);
    }
    async fn mkdir(&self, path: &str) {
        self.0.make_folder(path);
    }
    async fn rm(&self, path: &str) {
        self.0.remove(path);
    }
    async fn mv(&self, from: &str, to: &str) {
        self.0.rename(from, to);
    }
    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.0.content(path)
    }
    async fn names(&self, folder: &str) -> BTreeSet<String> {
        self.0.names(folder).into_iter().collect()
    }
}

async fn conforms(options: Options) {
    run_all(|| async {
        let server = Arc::new(CloudServer::start(options.clone()).await);
        let remote = remote(&server);
        remote.probe().await.unwrap();
        Subject { remote: Arc::new(remote), actor: Box::new(Inside(server)) }
    })
    .await;
}

#[tokio::test]
async fn nextcloud_conforms() {
    conforms(Options::nextcloud()).await;
}

#[tokio::test]
async fn a_server_with_sync_tokens_conforms() {
    conforms(Options { page: 2, ..Options::sync() }).await;
}

/// Any refusal of the moment was taken for a server that tells no changes, and folders were listed for the rest of the mount's life.
#[tokio::test]
async fn regression_a_token_refused_for_the_moment_is_asked_for_again() {
    let server = CloudServer::start(Options::sync()).await;
    let remote = remote(&server);
    remote.probe().await.unwrap();
    for status in [403, 429, 500, 503] {
        server.refuse_tokens(status);
        let error = remote.changes(None).await.unwrap_err();
        assert_ne!(error.kind, ErrorKind::Unsupported, "{status}: {error}");
    }
    for status in [405, 415, 501] {
        server.refuse_tokens(status);
        let error = remote.changes(None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{status}: {error}");
    }
}
