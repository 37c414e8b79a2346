//! What every remote promises: each function is a sentence of the trait's contract. Backends and decorators run them all.
//!
//! A sentence is left out only where the capabilities say that the remote has no such thing; `run_all` prints which.

#[path = "conformance/changes.rs"]
mod changes;
#[path = "conformance/metadata.rs"]
mod metadata;

use super::wait::{LIMIT, found_soon, holds_soon};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use changes::*;
use dewfs::remote::{
    AttemptTag, Body, Conditional, Cursor, Digest, ErrorKind, Expect, Extended, FeedKind, Hint,
    Kind, Locator, Metadata, Name, Observed, Remote, RemotePath, Result, Upload, Version, names,
};
use futures_util::StreamExt;
use metadata::*;

/// Changes a remote behind its back, and looks at it without asking it. Paths are like `a/b`.
#[async_trait]
pub trait Actor: Send + Sync {
    /// Writes a file in place, whatever was there.
    async fn put(&self, path: &str, content: &[u8]);
    /// Makes a folder.
    async fn mkdir(&self, path: &str);
    /// Removes a file or an empty folder.
    async fn rm(&self, path: &str);
    /// Moves a file or folder.
    async fn mv(&self, from: &str, to: &str);
    /// The bytes of a file; `None` if there is none.
    async fn content(&self, path: &str) -> Option<Vec<u8>>;
    /// All names in a folder, hidden ones included.
    async fn names(&self, folder: &str) -> BTreeSet<String>;
    /// Lets the store's clock tick, where a test can; elsewhere it does so by itself.
    async fn tick(&self) {}
}

/// A remote with an empty root, and a way to change it behind its back.
pub struct Subject {
    /// The remote.
    pub remote: Arc<dyn Remote>,
    /// The other side.
    pub actor: Box<dyn Actor>,
}

static NONCE: AtomicU64 = AtomicU64::new(1);

fn tag() -> AttemptTag {
    AttemptTag { mount: "test".into(), item: 5, nonce: NONCE.fetch_add(1, Ordering::Relaxed) }
}

fn at(path: &str) -> Locator {
    let names = path.split('/').filter(|name| !name.is_empty());
    Locator::at(RemotePath(names.map(|name| Name::new(name).unwrap()).collect()))
}

fn digest(content: &[u8]) -> Digest {
    Digest { size: content.len() as u64, hash: *blake3::hash(content).as_bytes() }
}

/// An upload from memory, with no more than it needs.
pub fn upload(content: &[u8]) -> Upload {
    Upload {
        body: Body::Memory(Bytes::copy_from_slice(content)),
        digest: digest(content),
        mtime: None,
        mode: None,
        extended: Default::default(),
        tag: tag(),
        still_whole: None,
        pace: None,
        progress: None,
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("must be refused").kind
}

impl Subject {
    /// What is there once its version can be relied on.
    async fn settled(&self, path: &str) -> Observed {
        let look = async || {
            let seen = self.remote.stat(&at(path)).await.unwrap().expect("is there");
            if !seen.settled {
                self.actor.tick().await;
            }
            seen.settled.then_some(seen)
        };
        found_soon(LIMIT, look).await.unwrap_or_else(|| panic!("{path} never settles"))
    }

    async fn write(&self, path: &str, content: &[u8], expect: Expect) -> Result<Observed> {
        self.remote.write(&at(path), upload(content), expect).await
    }

    async fn bytes(&self, path: &str, version: &Version, from: u64, to: u64) -> Result<Vec<u8>> {
        let mut stream = self.remote.read(&at(path), version, from..to).await?;
        assert_eq!(stream.length, to - from, "the length is told beforehand");
        let mut all = Vec::new();
        while let Some(piece) = stream.bytes.next().await {
            all.extend_from_slice(&piece?);
        }
        assert_eq!(all.len() as u64, to - from, "no stream ends early in silence");
        Ok(all)
    }

    async fn listed(&self, path: &str) -> Vec<(Vec<u8>, Observed)> {
        let (mut all, mut page) = (Vec::new(), None);
        loop {
            let listed = self.remote.list(&at(path), page).await.unwrap();
            all.extend(listed.entries.into_iter().map(|e| (e.name.as_bytes().to_vec(), e.entry)));
            page = listed.next;
            if page.is_none() {
                all.sort_by(|a, b| a.0.cmp(&b.0));
                return all;
            }
        }
    }

    async fn seen(&self, path: &str) -> Vec<String> {
        let listed = self.listed(path).await;
        listed.into_iter().map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect()
    }

    async fn is_left(&self, folder: &str, names: &[&str]) {
        let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut left = self.actor.names(folder).await;
        if !self.remote.capabilities().dot_names {
            // what such a remote hides may be in a removed folder: it is kept
            left.retain(|name| !name.starts_with(".dewfs-removed."));
        }
        assert_eq!(left, names, "nothing private stays behind");
    }
}

fn version(seen: &Observed) -> Expect {
    Expect::Version(seen.version.clone())
}

async fn nothing_is_where_nothing_is(s: &Subject) {
    assert_eq!(s.remote.stat(&at("a")).await.unwrap(), None);
    assert_eq!(s.remote.stat(&at("a/b/c")).await.unwrap(), None);
    assert_eq!(kind(s.remote.list(&at("a"), None).await), ErrorKind::NotFound);
    let unknown = Version("unknown".into());
    assert_eq!(kind(s.bytes("a", &unknown, 0, 0).await), ErrorKind::NotFound);
    let root = s.remote.stat(&at("")).await.unwrap().expect("the root is there");
    assert_eq!(root.kind, Kind::Folder);
}

async fn a_listing_shows_every_name_once_and_agrees_with_stat(s: &Subject) {
    s.actor.mkdir("f").await;
    for n in 0..7 {
        s.actor.put(&format!("f/file {n}"), format!("content {n}").as_bytes()).await;
    }
    s.actor.mkdir("f/folder").await;
    s.actor.put("f/.dewfs-tmp.other.1.2--x", b"private").await;
    s.actor.put("f/.hidden", b"ordinary").await;
    let listed = s.listed("f").await;
    let dots = s.remote.capabilities().dot_names;
    if !dots {
        println!("  left out: the remote lists no names that begin with a dot");
    }
    assert_eq!(listed.len(), 8 + usize::from(dots));
    for (name, entry) in listed {
        let name = String::from_utf8(name).unwrap();
        let seen = s.remote.stat(&at(&format!("f/{name}"))).await.unwrap().expect("listed");
        assert_eq!((seen.kind, seen.size), (entry.kind, entry.size), "{name}");
        assert_eq!((&seen.version, &seen.id), (&entry.version, &entry.id), "{name}");
    }
}

async fn a_file_is_no_folder(s: &Subject) {
    s.actor.put("a", b"file").await;
    assert_eq!(kind(s.remote.list(&at("a"), None).await), ErrorKind::NotFound);
    assert_eq!(s.remote.stat(&at("a/b")).await.unwrap(), None);
    assert_eq!(kind(s.write("a/b", b"x", Expect::Absent).await), ErrorKind::NoParent);
    assert_eq!(kind(s.remote.make_folder(&at("a/b")).await), ErrorKind::NoParent);
}

async fn what_is_written_is_read(s: &Subject) {
    let content: Vec<u8> = (0..700_001u32).map(|n| (n % 251) as u8).collect();
    let written = s.write("a", &content, Expect::Absent).await.unwrap();
    assert_eq!((written.kind, written.size), (Kind::File, content.len() as u64));
    let seen = s.settled("a").await;
    assert_eq!(s.bytes("a", &seen.version, 0, seen.size).await.unwrap(), content);
    assert_eq!(s.bytes("a", &seen.version, 300_000, 700_001).await.unwrap(), content[300_000..]);
    assert_eq!(s.bytes("a", &seen.version, 5, 6).await.unwrap(), content[5..6]);
    assert_eq!(s.bytes("a", &seen.version, 9, 9).await.unwrap(), b"");
    s.is_left("", &["a"]).await;
}

async fn an_empty_file_is_a_file(s: &Subject) {
    s.write("a", b"", Expect::Absent).await.unwrap();
    let seen = s.settled("a").await;
    assert_eq!((seen.kind, seen.size), (Kind::File, 0));
    assert_eq!(s.bytes("a", &seen.version, 0, 0).await.unwrap(), b"");
}

async fn a_body_may_be_a_file_and_tells_its_progress(s: &Subject) {
    let content = vec![7u8; 600_000];
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    let body = Upload {
        body: Body::File(file.path().to_owned()),
        progress: Some(Arc::new(move |sent| note.lock().unwrap().push(sent))),
        ..upload(&content)
    };
    s.remote.write(&at("a"), body, Expect::Absent).await.unwrap();
    assert_eq!(s.actor.content("a").await.unwrap(), content);
    let told = told.lock().unwrap();
    assert!(told.is_sorted(), "{told:?}");
    assert_eq!(told.last(), Some(&600_000));
}

async fn a_write_of_something_new_replaces_nothing(s: &Subject) {
    s.actor.put("a", b"theirs").await;
    s.actor.mkdir("f").await;
    assert_eq!(kind(s.write("a", b"ours", Expect::Absent).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(s.write("f", b"ours", Expect::Absent).await), ErrorKind::AlreadyExists);
    assert_eq!(s.actor.content("a").await.unwrap(), b"theirs");
    s.is_left("", &["a", "f"]).await;
}

async fn a_write_needs_its_folder(s: &Subject) {
    assert_eq!(kind(s.write("f/a", b"ours", Expect::Absent).await), ErrorKind::NoParent);
    s.is_left("", &[]).await;
}

async fn a_write_replaces_the_version_it_expects(s: &Subject) {
    s.actor.put("a", b"old").await;
    let old = s.settled("a").await;
    let new = s.write("a", b"new content", version(&old)).await.unwrap();
    assert_ne!(new.version, old.version);
    assert_eq!(new.size, 11);
    assert_eq!(s.actor.content("a").await.unwrap(), b"new content");
    s.is_left("", &["a"]).await;
}

async fn a_write_never_replaces_another_version(s: &Subject) {
    s.actor.put("a", b"old").await;
    let old = s.settled("a").await;
    s.actor.put("a", b"new").await;
    assert_eq!(kind(s.write("a", b"ours", version(&old)).await), ErrorKind::VersionMismatch);
    assert_eq!(s.actor.content("a").await.unwrap(), b"new");
    s.actor.rm("a").await;
    assert_eq!(kind(s.write("a", b"ours", version(&old)).await), ErrorKind::NotFound);
    s.actor.mkdir("a").await;
    assert_eq!(kind(s.write("a", b"ours", version(&old)).await), ErrorKind::VersionMismatch);
    s.is_left("", &["a"]).await;
}

async fn a_write_without_expectation_replaces_files_only(s: &Subject) {
    s.write("a", b"one", Expect::Any).await.unwrap();
    s.write("a", b"two", Expect::Any).await.unwrap();
    assert_eq!(s.actor.content("a").await.unwrap(), b"two");
    s.actor.mkdir("f").await;
    assert_eq!(kind(s.write("f", b"x", Expect::Any).await), ErrorKind::AlreadyExists);
    s.is_left("", &["a", "f"]).await;
}

async fn an_upload_that_is_not_whole_any_more_leaves_nothing(s: &Subject) {
    let body = || Upload { still_whole: Some(Arc::new(|| false)), ..upload(b"half") };
    let refused = s.remote.write(&at("a"), body(), Expect::Absent).await;
    assert_eq!(kind(refused), ErrorKind::Other);
    s.is_left("", &[]).await;
    s.actor.put("a", b"old").await;
    let old = s.settled("a").await;
    assert_eq!(kind(s.remote.write(&at("a"), body(), version(&old)).await), ErrorKind::Other);
    assert_eq!(s.actor.content("a").await.unwrap(), b"old");
    s.is_left("", &["a"]).await;
}

async fn an_upload_of_the_wrong_length_leaves_nothing(s: &Subject) {
    let body = Upload { digest: digest(b"longer than that"), ..upload(b"short") };
    assert_eq!(kind(s.remote.write(&at("a"), body, Expect::Absent).await), ErrorKind::Other);
    s.is_left("", &[]).await;
}

async fn a_read_gives_the_version_asked_for_or_nothing(s: &Subject) {
    s.actor.put("a", b"one").await;
    let one = s.settled("a").await;
    s.actor.put("a", b"two").await;
    assert_eq!(kind(s.bytes("a", &one.version, 0, 3).await), ErrorKind::VersionMismatch);
    s.actor.rm("a").await;
    assert_eq!(kind(s.bytes("a", &one.version, 0, 3).await), ErrorKind::NotFound);
    s.actor.mkdir("a").await;
    assert_eq!(kind(s.bytes("a", &one.version, 0, 3).await), ErrorKind::VersionMismatch);
}

async fn a_read_under_way_never_mixes_versions(s: &Subject) {
    let (one, two) = (vec![1u8; 2_000_000], vec![2u8; 2_000_000]);
    s.actor.put("a", &one).await;
    let seen = s.settled("a").await;
    let mut stream = s.remote.read(&at("a"), &seen.version, 0..seen.size).await.unwrap();
    let mut all = stream.bytes.next().await.expect("a first piece").unwrap().to_vec();
    s.actor.put("a", &two).await;
    while let Some(piece) = stream.bytes.next().await {
        match piece {
            Ok(piece) => all.extend_from_slice(&piece),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::VersionMismatch);
                break;
            }
        }
    }
    assert!(all.iter().all(|byte| *byte == 1), "bytes of another version");
}

async fn any_legal_name_is_kept_or_refused_by_name(s: &Subject) {
    let long = vec![b'n'; 255];
    let long_utf8 = "€".repeat(85).into_bytes();
    let legal: [&[u8]; 14] = [
        b"with space",
        b"new\nline",
        b"tab\tand \x01 control",
        b"per%cent %2F %00",
        b"question?hash#semi;colon:",
        b"back\\slash \"quoted\" 'too'",
        b"...",
        b"..a",
        b"-rf *",
        b"%dewfs%a%2Fb",
        "umlaut ä, a\u{308}".as_bytes(),
        b"not \xff\xfe utf-8",
        &long,
        &long_utf8,
    ];
    for bytes in legal {
        let name = Name::new(bytes).unwrap();
        let place = Locator::at(RemotePath(vec![name.clone()]));
        let written = match s.remote.write(&place, upload(bytes), Expect::Absent).await {
            Ok(written) => written,
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::NameRejected, "{name:?}: {error}");
                println!("  the remote cannot hold {name:?}");
                continue;
            }
        };
        let listed = s.listed("").await;
        assert_eq!(listed.len(), 1, "{name:?}: {listed:?}");
        assert_eq!(listed[0].0, bytes, "{name:?}");
        let to = Locator::at(RemotePath(vec![Name::new(&b"plain"[..]).unwrap()]));
        s.remote.rename(&place, &to, Expect::Any, &tag()).await.unwrap();
        let back = s.remote.rename(&to, &place, Expect::Any, &tag()).await.unwrap();
        assert_eq!(back.size, written.size);
        s.remote.remove(&place, Expect::Any, &tag()).await.unwrap();
    }
    s.is_left("", &[]).await;
}

async fn tidy_takes_away_only_what_an_attempt_left(s: &Subject) {
    let (own, other) = (tag(), tag());
    let name = Name::new(&b"a"[..]).unwrap();
    let private = |name: Name| name.lossy().into_owned();
    s.actor.put("a", b"content").await;
    let seen = s.settled("a").await;
    s.actor.put(&private(names::temp(&own, &name)), b"half").await;
    s.actor.put(&private(names::temp(&other, &name)), b"somebody's").await;
    if s.remote.capabilities().conditional == Conditional::Atomic {
        s.actor.rm(&private(names::temp(&own, &name))).await;
    }
    s.remote.tidy(&at("a"), &version(&seen), &own).await.unwrap();
    s.remote.tidy(&at("x/y"), &Expect::Absent, &own).await.unwrap();
    assert_eq!(s.actor.content("a").await.unwrap(), b"content");
    s.is_left("", &["a", &private(names::temp(&other, &name))]).await;
}

async fn a_probe_leaves_nothing_behind(s: &Subject) {
    s.actor.put("a", b"content").await;
    let found = s.remote.probe().await.unwrap();
    assert_eq!(found.identity, s.remote.capabilities().identity);
    assert!(!found.product.is_empty());
    s.is_left("", &["a"]).await;
    s.remote.space().await.unwrap();
}

async fn changes_by_others_are_hinted_at(s: &Subject) {
    if matches!(s.remote.capabilities().feed, FeedKind::None | FeedKind::Walk) {
        println!("  no feed: changes are found by looking");
        assert_eq!(kind(s.remote.changes(None).await), ErrorKind::Unsupported);
        return;
    }
    s.actor.mkdir("f").await;
    s.listed("").await;
    s.listed("f").await;
    s.remote.interested(&at(""));
    s.remote.interested(&at("f"));
    let start = s.remote.changes(None).await.unwrap();
    assert_eq!(start.hints, []);
    s.actor.put("f/a", b"new").await;
    s.actor.mkdir("g").await;
    s.actor.mv("f/a", "g/b").await;
    let mut wanted: BTreeSet<RemotePath> = ["f/a", "g"].iter().map(|p| at(p).path).collect();
    let mut cursor = start.cursor;
    let all_told = holds_soon(LIMIT, async || {
        let page = s.remote.changes(Some(&cursor)).await.unwrap();
        for hint in page.hints {
            wanted.retain(|path| match &hint {
                Hint::Entry(entry) => entry != path,
                Hint::Folder(folder) => path.parent().as_ref() != Some(folder),
            });
        }
        cursor = page.cursor;
        wanted.is_empty()
    })
    .await;
    assert!(all_told, "no hint about {wanted:?}");
    let unknown = Cursor("of another life".into());
    assert_eq!(kind(s.remote.changes(Some(&unknown)).await), ErrorKind::CursorExpired);
}

macro_rules! sentences {
    ($make:ident: $($sentence:ident)*) => {
        $(
            println!("{}", stringify!($sentence).replace('_', " "));
            $sentence(&$make().await).await;
        )*
    };
}

#[path = "conformance/reading.rs"]
pub mod reading;

/// Runs every sentence, each with a fresh remote from `make`.
pub async fn run_all<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Subject>,
{
    sentences!(make:
        nothing_is_where_nothing_is
        a_listing_shows_every_name_once_and_agrees_with_stat
        a_file_is_no_folder
        what_is_written_is_read
        an_empty_file_is_a_file
        a_body_may_be_a_file_and_tells_its_progress
        a_write_of_something_new_replaces_nothing
        a_write_needs_its_folder
        a_write_replaces_the_version_it_expects
        a_write_never_replaces_another_version
        a_write_without_expectation_replaces_files_only
        an_upload_that_is_not_whole_any_more_leaves_nothing
        an_upload_of_the_wrong_length_leaves_nothing
        a_read_gives_the_version_asked_for_or_nothing
        a_read_under_way_never_mixes_versions
        a_folder_is_made_once
        a_rename_moves_and_keeps_the_version
        a_rename_takes_all_below_along
        a_rename_never_replaces
        a_rename_moves_only_what_it_expects
        a_removal_removes_only_what_it_expects
        a_folder_is_removed_only_if_empty
        of_writers_with_one_expectation_one_wins
        any_legal_name_is_kept_or_refused_by_name
        owners_and_attributes_are_no_error
        tidy_takes_away_only_what_an_attempt_left
        a_probe_leaves_nothing_behind
        changes_by_others_are_hinted_at
    );
    let subject = make().await;
    let can = subject.remote.capabilities();
    if can.settable_mtime || can.settable_mode {
        println!("metadata is set without touching the content");
        metadata_is_set_without_touching_the_content(&subject).await;
    } else {
        println!("left out: this remote keeps neither mtime nor mode");
    }
}
