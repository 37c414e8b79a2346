//! Changes made by others appear by themselves, at the cost that each kind of feed has: folder versions that tell of all that
//! is below, changes since a token, and listing again in turn.

use crate::support::wait::holds_soon;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::cloud::{Asked, CloudServer, LOGIN, Options, PASSWORD};
use bytes::Bytes;
use dewfs::engine::{Caller, Engine, EngineError, OpenMode, Settings};
use dewfs::model::{Ino, Name};
use dewfs::remote::webdav::{AddressedServer, WebDavOptions};

const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(300);
const ME: Caller = Caller { uid: 0, gid: 0, pid: 1 };
const READ: OpenMode =
    OpenMode { read: true, write: false, append: false, truncate: false, exclusive: false };

/// An engine on a server in this process.
struct Here {
    server: CloudServer,
    engine: Engine,
    state: tempfile::TempDir,
    settings: Settings,
}

fn settings() -> Settings {
    Settings { poll: POLL, write_back_delay: Duration::from_millis(10), ..Settings::default() }
}

async fn engine(server: &CloudServer, state: &tempfile::TempDir, settings: &Settings) -> Engine {
    let options = WebDavOptions::new(server.url()).basic(LOGIN, PASSWORD);
    let remote = Arc::new(AddressedServer::open(&options).unwrap());
    Engine::start(settings.clone(), &state.path().join("state"), remote).await.unwrap()
}

impl Here {
    async fn new(options: Options, fill: impl FnOnce(&CloudServer)) -> Self {
        Self::with(options, settings(), fill).await
    }

    async fn with(options: Options, settings: Settings, fill: impl FnOnce(&CloudServer)) -> Self {
        let server = CloudServer::start(options).await;
        fill(&server);
        let state = tempfile::tempdir().unwrap();
        let engine = engine(&server, &state, &settings).await;
        Self { server, engine, state, settings }
    }

    async fn stop(&self) {
        self.engine.stop().await;
    }

    /// Lets a stopped engine forget which folders were used.
    fn forget_uses(&self) {
        let catalog =
            rusqlite::Connection::open(self.state.path().join("state/catalog.db")).unwrap();
        catalog.execute("DELETE FROM state WHERE key = 'used'", []).unwrap();
    }

    async fn start_again(&mut self) {
        self.engine = engine(&self.server, &self.state, &self.settings).await;
    }

    async fn ino(&self, path: &str) -> Option<Ino> {
        self.engine.resolve(path.as_bytes(), true).await.ok()
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let folder = self.ino(path).await.unwrap();
        let page = self.engine.read_dir(folder, 0, 1000).wait().await.unwrap();
        let mut names: Vec<_> = page.iter().map(|entry| entry.name.lossy().into_owned()).collect();
        names.sort();
        names
    }

    async fn read(&self, path: &str) -> Result<Bytes, EngineError> {
        let ino = self.engine.resolve(path.as_bytes(), true).await?;
        let opened = self.engine.open(ino, READ).wait().await?;
        let bytes = self.engine.read(ino, opened.handle, 0, 131_072).wait().await;
        self.engine.release(ino, opened.handle);
        bytes
    }

    /// Whether a read gives this; what is being replaced cannot be read.
    async fn holds(&self, path: &str, content: &str) -> bool {
        self.read(path).await.is_ok_and(|found| found == content)
    }

    async fn write(&self, folder: &str, name: &str, content: &[u8]) -> Ino {
        let parent = self.ino(folder).await.unwrap();
        let mode = OpenMode { read: true, write: true, truncate: true, ..OpenMode::default() };
        let name = Name::new(name).unwrap();
        let made = self.engine.create(parent, name, 0o644, mode, ME).wait().await;
        let (stat, opened) = made.unwrap();
        let data = Bytes::copy_from_slice(content);
        self.engine.write(stat.ino, opened.handle, 0, data, false).wait().await.unwrap();
        self.engine.flush(stat.ino, opened.handle).wait().await.unwrap();
        self.engine.release(stat.ino, opened.handle);
        stat.ino
    }

    async fn in_sync(&self) {
        let all = self.engine.wait_in_sync(Ino::ROOT, Some(PATIENCE)).await;
        assert!(matches!(all, Ok(true)), "not in sync: {all:?}");
    }

    async fn until(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        let came = holds_soon(PATIENCE, holds).await;
        assert!(came, "never came: {what}; asked {:#?}", self.tail());
    }

    fn tail(&self) -> Vec<Asked> {
        self.server.since(self.server.count().saturating_sub(20))
    }

    /// Waits until the server was asked nothing but `quiet` so many times in a row; answers how many requests came before.
    async fn quiet(&self, rounds: usize, quiet: impl Fn(&Asked) -> bool) -> usize {
        self.until("a quiet remote", async || {
            let asked = self.server.asked();
            asked.len() >= rounds && asked[asked.len() - rounds..].iter().all(&quiet)
        })
        .await;
        self.server.count()
    }
}

fn is_root_look(asked: &Asked) -> bool {
    asked.method == "PROPFIND" && asked.path.is_empty() && asked.depth == "0"
}

fn is_report(asked: &Asked) -> bool {
    asked.method == "REPORT"
}

/// Folders a to j, each with folders x and y, each with a file.
fn plant(server: &CloudServer) {
    for one in 'a'..='j' {
        server.make_folder(&one.to_string());
        for two in ["x", "y"] {
            server.make_folder(&format!("{one}/{two}"));
            server.put(&format!("{one}/{two}/f"), b"first");
        }
    }
}

async fn list_all(here: &Here) {
    for one in here.names("").await {
        for two in here.names(&one).await {
            here.names(&format!("{one}/{two}")).await;
        }
    }
}

/// What others do to a tree shows here, whatever kind of feed there is.
async fn all_that_others_do_appears(here: &Here, ids: bool) {
    list_all(here).await;
    here.names("a/x").await;
    assert_eq!(here.read("b/x/f").await.unwrap(), "first");
    let server = &here.server;
    server.put("a/x/new", b"new");
    here.until("a new file", async || here.names("a/x").await == ["f", "new"]).await;
    assert_eq!(here.read("a/x/new").await.unwrap(), "new");
    server.put("b/x/f", b"the second");
    here.until("a changed file", async || here.holds("b/x/f", "the second").await).await;
    server.remove("c/y/f");
    here.until("a removed file", async || here.names("c/y").await.is_empty()).await;
    let before = here.ino("d/x/f").await.unwrap();
    server.rename("d/x/f", "e/y/moved");
    here.until("a moved file", async || {
        here.names("d/x").await.is_empty() && here.names("e/y").await == ["f", "moved"]
    })
    .await;
    assert_eq!(here.ino("e/y/moved").await == Some(before), ids, "followed by its id");
    let before = here.ino("f/x").await.unwrap();
    server.rename("f/x", "g/from f");
    here.until("a moved folder", async || {
        here.names("f").await == ["y"] && here.names("g").await == ["from f", "x", "y"]
    })
    .await;
    assert_eq!(here.ino("g/from f").await == Some(before), ids, "followed by its id");
    assert_eq!(here.read("g/from f/f").await.unwrap(), "first");
    server.remove("h");
    here.until("a removed folder", async || here.ino("h").await.is_none()).await;
    server.make_folder("k");
    server.put("k/f", b"k");
    here.until("a new folder", async || here.ino("k").await.is_some()).await;
    assert_eq!(here.read("k/f").await.unwrap(), "k");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_appears_where_folder_versions_tell() {
    let here = Here::new(Options::nextcloud(), plant).await;
    all_that_others_do_appears(&here, true).await;
    assert_eq!(here.engine.mount_status().await.unwrap().feed_detail, "folder-versions");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_appears_where_changes_are_told_since_a_token() {
    for page in [1000, 2] {
        let here = Here::new(Options { page, ..Options::sync() }, plant).await;
        all_that_others_do_appears(&here, false).await;
        let status = here.engine.mount_status().await.unwrap();
        assert_eq!((status.feed, status.feed_detail), ("poll", "changes"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_appears_where_folders_are_listed_again() {
    let plain = Options { sync: false, ..Options::sync() };
    let here = Here::with(plain, Settings { requests: 500, ..settings() }, plant).await;
    all_that_others_do_appears(&here, false).await;
    let status = here.engine.mount_status().await.unwrap();
    assert_eq!((status.feed, status.feed_detail), ("walk", "listing"));
}

/// S51 "Only listed folders cost anything, and below a folder whose version stayed nothing is asked."
#[tokio::test(flavor = "multi_thread")]
async fn below_a_folder_whose_version_stayed_nothing_is_asked() {
    let here = Here::new(Options::nextcloud(), plant).await;
    list_all(&here).await;
    let before = here.quiet(3, is_root_look).await;
    let begun = Instant::now();
    here.until("five rounds", async || here.server.count() >= before + 5).await;
    let asked = here.server.since(before);
    assert!(asked.iter().all(is_root_look), "{:?}", here.server.asked());
    assert!(begun.elapsed() >= 4 * POLL, "one request an interval: {:?}", begun.elapsed());
    let before = here.server.count();
    here.server.put("c/y/new", b"new");
    here.until("the new file", async || here.names("c/y").await == ["f", "new"]).await;
    here.quiet(3, is_root_look).await;
    let asked = here.server.since(before);
    let listed: Vec<_> = asked.iter().filter(|one| !is_root_look(one)).collect();
    let paths: Vec<_> = listed.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["", "c", "c/y"], "{listed:#?}");
    assert!(listed.iter().all(|one| one.method == "PROPFIND" && one.depth == "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_folder_costs_nothing_however_it_changes() {
    let here = Here::new(Options::nextcloud(), plant).await;
    assert_eq!(here.names("").await.len(), 10);
    here.quiet(3, is_root_look).await;
    for round in 0..3 {
        let before = here.server.count();
        here.server.put("c/y/new", format!("{round}").as_bytes());
        here.until("a listing of the root", async || {
            here.server.since(before).iter().any(|one| one.depth == "1")
        })
        .await;
        here.quiet(3, is_root_look).await;
        let asked = here.server.since(before);
        let below: Vec<_> = asked.iter().filter(|one| !one.path.is_empty()).collect();
        assert!(below.is_empty(), "{below:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_nobody_looked_is_found_by_the_versions_alone() {
    let mut here = Here::new(Options::nextcloud(), plant).await;
    list_all(&here).await;
    here.quiet(3, is_root_look).await;
    here.stop().await;
    here.server.put("e/x/f", b"changed meanwhile");
    here.server.remove("i/y");
    let before = here.server.count();
    here.start_again().await;
    here.until("the change", async || here.holds("e/x/f", "changed meanwhile").await).await;
    here.until("the removal", async || here.names("i").await == ["x"]).await;
    here.quiet(3, is_root_look).await;
    let asked = here.server.since(before);
    let listed: BTreeSet<_> = asked
        .iter()
        .filter(|one| one.depth == "1" && !one.path.starts_with(".dewfs-"))
        .map(|one| one.path.as_str())
        .collect();
    assert_eq!(listed, BTreeSet::from(["", "e", "e/x", "i"]));
}

/// What was sent is not fetched, listed as new, or taken for somebody else's.
async fn what_we_send_does_not_come_back(here: &Here, quiet: fn(&Asked) -> bool) {
    list_all(here).await;
    here.quiet(3, quiet).await;
    let before = here.server.count();
    let ino = here.write("a/x", "ours", b"our own words").await;
    here.in_sync().await;
    here.quiet(3, quiet).await;
    for content in ["our second words", "our third words"] {
        here.write("a/x", "ours", content.as_bytes()).await;
        here.in_sync().await;
        here.quiet(3, quiet).await;
        assert_eq!(here.ino("a/x/ours").await, Some(ino));
        assert_eq!(here.read("a/x/ours").await.unwrap(), content);
        assert_eq!(here.server.content("a/x/ours").unwrap(), content.as_bytes());
    }
    let asked = here.server.since(before);
    assert!(asked.iter().all(|one| one.method != "GET"), "{asked:#?}");
    assert_eq!(here.names("a/x").await, ["f", "ours"]);
    assert_eq!(here.server.names("a/x"), ["f", "ours"]);
    assert_eq!(here.engine.mount_status().await.unwrap().conflicts, 0);
}

/// S52 "What we sent does not come back as a change made by somebody else."
#[tokio::test(flavor = "multi_thread")]
async fn what_we_send_does_not_come_back_by_folder_versions() {
    let here = Here::new(Options::nextcloud(), plant).await;
    what_we_send_does_not_come_back(&here, is_root_look).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_send_does_not_come_back_by_a_token() {
    let here = Here::new(Options::sync(), plant).await;
    what_we_send_does_not_come_back(&here, is_report).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_tree_costs_one_question_an_interval_where_there_are_tokens() {
    let here = Here::new(Options::sync(), plant).await;
    list_all(&here).await;
    let before = here.quiet(3, is_report).await;
    let begun = Instant::now();
    here.until("five rounds", async || here.server.count() >= before + 5).await;
    assert!(here.server.since(before).iter().all(is_report));
    assert!(begun.elapsed() >= 4 * POLL, "one request an interval: {:?}", begun.elapsed());
    let status = here.engine.mount_status().await.unwrap();
    assert!(age(status.oldest_look) < 10 * POLL, "{status:?}");
}

fn age(oldest: Option<i64>) -> Duration {
    let then = std::time::UNIX_EPOCH + Duration::from_nanos(oldest.unwrap().unsigned_abs());
    then.elapsed().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_token_is_not_known_any_more_everything_is_compared() {
    let here = Here::with(Options::sync(), Settings { requests: 500, ..settings() }, plant).await;
    list_all(&here).await;
    here.quiet(3, is_report).await;
    here.server.put("d/x/new", b"new");
    here.server.remove("e/y/f");
    here.server.forget_tokens();
    here.until("the new file", async || here.names("d/x").await == ["f", "new"]).await;
    here.until("the removal", async || here.names("e/y").await.is_empty()).await;
    here.quiet(3, is_report).await;
}

/// A server that knew none of the tokens it gave was listed from top to bottom without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_server_that_knows_none_of_its_tokens_is_asked_with_pauses() {
    let here = Here::with(Options::sync(), Settings { requests: 500, ..settings() }, plant).await;
    list_all(&here).await;
    here.quiet(3, is_report).await;
    let before = here.server.count();
    here.server.know_no_token();
    let reports = || here.server.since(before).into_iter().filter(is_report).collect::<Vec<_>>();
    here.until("some reports", async || reports().len() >= 8).await;
    let reports = reports();
    for four in reports.windows(4) {
        let took = four[3].at - four[0].at;
        assert!(took >= POLL, "{four:?} within {took:?}");
    }
    // What changes is seen all the same.
    here.server.put("d/x/new", b"new");
    here.until("the new file", async || here.names("d/x").await == ["f", "new"]).await;
}

/// Who had asked since tokens asked for one for ever, and looked at nothing (`dewfs serve` once its watches are used up).
#[tokio::test(flavor = "multi_thread")]
async fn regression_where_changes_are_told_no_more_folders_are_listed_again() {
    let here = Here::with(Options::sync(), Settings { requests: 500, ..settings() }, plant).await;
    list_all(&here).await;
    here.quiet(3, is_report).await;
    here.server.hear_nothing();
    here.server.put("d/x/new", b"new");
    here.server.remove("e/y/f");
    here.until("the new file", async || here.names("d/x").await == ["f", "new"]).await;
    here.until("the removal", async || here.names("e/y").await.is_empty()).await;
    assert_eq!(here.engine.mount_status().await.unwrap().feed_detail, "listing");
}

/// How many requests there were from one listing of a folder to the next one: told by these, a second is as long on a machine that
/// stood still meanwhile.
fn most_between_looks(asked: &[Asked], path: &str) -> usize {
    let at = |(at, one): (usize, &Asked)| (one.path == path && one.depth == "1").then_some(at);
    let looks: Vec<usize> = asked.iter().enumerate().filter_map(at).collect();
    looks.windows(2).map(|two| two[1] - two[0]).max().unwrap()
}

/// S50 "What others do at the remote shows by itself, also in open folders: within one `poll=` where the remote tells of
/// changes or its folder versions do; elsewhere in folders used within the last hour once per `poll=`, and in all others in
/// turn, never with more than `requests=` background requests a second."
#[tokio::test(flavor = "multi_thread")]
async fn folders_are_listed_again_in_turn_and_never_faster_than_allowed() {
    const FOLDERS: usize = 60;
    let plain = Options { sync: false, ..Options::sync() };
    let settings = Settings { requests: 20, poll: Duration::from_secs(1), ..settings() };
    let mut here = Here::with(plain, settings, |server| {
        for number in 0..FOLDERS {
            server.make_folder(&format!("folder {number:02}"));
        }
    })
    .await;
    for folder in here.names("").await {
        here.names(&folder).await;
    }
    // All were used just now: of the next life, only one is.
    here.stop().await;
    here.forget_uses();
    here.start_again().await;
    assert!(here.names("folder 33").await.is_empty());
    // Finding out what the server can do is over once folders are listed again.
    let before = here.server.count();
    here.until("a listing", async || {
        here.server.since(before).iter().any(|one| one.path == "folder 00" && one.depth == "1")
    })
    .await;
    let before = here.server.count();
    let begun = Instant::now();
    let looks = |path: &str| {
        let asked = here.server.since(before);
        asked.into_iter().filter(|one| one.path == path && one.depth == "1").collect::<Vec<_>>()
    };
    here.until("two rounds over all", async || {
        (0..FOLDERS).all(|number| looks(&format!("folder {number:02}")).len() >= 2)
    })
    .await;
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_secs(12), "{FOLDERS} folders at 20 a second took {elapsed:?}");
    let most = here.server.most_within(Duration::from_secs(1), before);
    assert!(most <= 21, "{most} requests within a second");
    let longest = most_between_looks(&here.server.since(before), "folder 33");
    assert!(longest < 30, "looked at after {longest} requests, 20 in a second");
    println!(
        "{FOLDERS} folders twice in {elapsed:?}, at most {most} requests within a second, the used one every {longest} requests"
    );
    let status = here.engine.mount_status().await.unwrap();
    assert!(age(status.oldest_look) < elapsed + Duration::from_secs(1), "{status:?}");
    assert_eq!(status.feed_detail, "listing");
}

/// More folders in use than requests a second: the folders used last took every turn, and the others, the root with them,
/// were not looked at any more.
#[tokio::test(flavor = "multi_thread")]
async fn regression_all_folders_have_their_turn_and_the_root_every_interval_however_many_are_used()
{
    const FOLDERS: usize = 60;
    let plain = Options { sync: false, ..Options::sync() };
    let settings = Settings { requests: 20, poll: Duration::from_secs(1), ..settings() };
    let here = Here::with(plain, settings, |server| {
        for number in 0..FOLDERS {
            server.make_folder(&format!("folder {number:02}"));
        }
    })
    .await;
    for folder in here.names("").await {
        here.names(&folder).await;
    }
    let before = here.server.count();
    let looks = |path: &str| {
        let asked = here.server.since(before);
        asked.into_iter().filter(|one| one.path == path && one.depth == "1").collect::<Vec<_>>()
    };
    here.until("a round over all", async || {
        (0..FOLDERS).all(|number| !looks(&format!("folder {number:02}")).is_empty())
    })
    .await;
    let longest = most_between_looks(&here.server.since(before), "");
    assert!(longest < 30, "looked at after {longest} requests, 20 in a second");
}
