//! What only a directory can do to us: links, pipes, races, leftovers, strange names.

mod disks;
mod hangs;
mod told;
mod writes;

use crate::support::wait::{LIMIT, found_soon};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use dewfs::remote::folder::FolderRemote;
use dewfs::remote::{
    AttemptTag, Body, Conditional, Digest, ErrorKind, Expect, FeedKind, Listed, Locator, Name,
    Observed, Remote, RemotePath, Upload,
};
use tempfile::TempDir;

fn at(path: &str) -> Locator {
    let names = path.split('/').filter(|name| !name.is_empty());
    Locator::at(RemotePath(names.map(|name| Name::new(name).unwrap()).collect()))
}

fn tag(nonce: u64) -> AttemptTag {
    AttemptTag { mount: "m1".into(), item: 3, nonce }
}

fn upload(content: &[u8], nonce: u64) -> Upload {
    Upload {
        body: Body::Memory(Bytes::copy_from_slice(content)),
        digest: Digest { size: content.len() as u64, hash: *blake3::hash(content).as_bytes() },
        mtime: None,
        mode: None,
        extended: Default::default(),
        tag: tag(nonce),
        still_whole: None,
        pace: None,
        progress: None,
    }
}

fn open() -> (TempDir, FolderRemote) {
    let root = tempfile::tempdir().unwrap();
    let remote = FolderRemote::open(root.path()).unwrap();
    (root, remote)
}

async fn list(remote: &FolderRemote, folder: &str) -> Vec<Listed> {
    let (mut all, mut page) = (Vec::new(), None);
    loop {
        let listed = remote.list(&at(folder), page).await.unwrap();
        all.extend(listed.entries);
        page = listed.next;
        if page.is_none() {
            return all;
        }
    }
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

async fn settled(remote: &FolderRemote, path: &str) -> Observed {
    let look =
        async || Some(remote.stat(&at(path)).await.unwrap().unwrap()).filter(|seen| seen.settled);
    found_soon(LIMIT, look).await.unwrap_or_else(|| panic!("{path} never settles"))
}

fn version(seen: &Observed) -> Expect {
    Expect::Version(seen.version.clone())
}

#[test]
fn opening_what_is_no_directory_says_so() {
    let root = tempfile::tempdir().unwrap();
    let kind = |path: &Path| FolderRemote::open(path).unwrap_err().kind;
    assert_eq!(kind(&root.path().join("missing")), ErrorKind::NotFound);
    std::fs::write(root.path().join("file"), b"").unwrap();
    assert_eq!(kind(&root.path().join("file")), ErrorKind::Unsupported);
}

#[tokio::test]
async fn no_link_is_ever_followed_or_shown() {
    let (root, remote) = open();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    std::fs::create_dir(root.path().join("real")).unwrap();
    std::fs::write(root.path().join("real/file"), b"inside").unwrap();
    symlink(outside.path(), root.path().join("out")).unwrap();
    symlink("real", root.path().join("in")).unwrap();
    symlink("../../../../etc", root.path().join("real/up")).unwrap();
    symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();

    let shown: Vec<_> = list(&remote, "").await.into_iter().map(|e| e.name.to_string()).collect();
    assert_eq!(shown, ["real"]);
    for hidden in
        ["out", "out/secret", "in", "in/file", "real/up", "real/up/passwd", "link", "pipe"]
    {
        assert_eq!(remote.stat(&at(hidden)).await.unwrap(), None, "{hidden}");
    }
    for folder in ["out", "in", "real/up", "link"] {
        assert_eq!(remote.list(&at(folder), None).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    let inside = remote.stat(&at("real/file")).await.unwrap().unwrap();
    for file in ["in/file", "out/secret", "link", "pipe"] {
        let read = remote.read(&at(file), &inside.version, 0..1).await;
        assert_eq!(read.unwrap_err().kind, ErrorKind::NotFound, "{file}");
    }
    for (file, kind) in [
        ("out/new", ErrorKind::NoParent),
        ("in/new", ErrorKind::NoParent),
        ("link", ErrorKind::NameRejected),
        ("pipe", ErrorKind::NameRejected),
    ] {
        for expect in [Expect::Absent, Expect::Any] {
            let written = remote.write(&at(file), upload(b"x", 1), expect).await;
            assert_eq!(written.unwrap_err().kind, kind, "{file}");
        }
        assert_eq!(remote.make_folder(&at(file)).await.unwrap_err().kind, kind, "{file}");
        let removed = remote.remove(&at(file), Expect::Any, &tag(1)).await;
        assert_eq!(removed.unwrap_err().kind, ErrorKind::NotFound, "{file}");
    }
    let moved = remote.rename(&at("real/file"), &at("link"), version(&inside), &tag(1)).await;
    assert_eq!(moved.unwrap_err().kind, ErrorKind::NameRejected);
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(names_in(outside.path()).len(), 1);
    assert_eq!(names_in(root.path()).len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_swapped_for_a_link_leads_nowhere() {
    let (root, remote) = open();
    let outside = tempfile::tempdir().unwrap();
    let (folder, spare) = (root.path().join("f"), root.path().join("spare"));
    std::fs::create_dir(&folder).unwrap();
    symlink(outside.path(), &spare).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let swapper = std::thread::spawn(move || {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        while !stop.load(Ordering::Relaxed) {
            renameat_with(CWD, &folder, CWD, &spare, RenameFlags::EXCHANGE).unwrap();
        }
    });
    for n in 0..300 {
        drop(remote.write(&at(&format!("f/{n}")), upload(b"x", n), Expect::Absent).await);
        drop(remote.make_folder(&at(&format!("f/d{n}"))).await);
    }
    over.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(names_in(outside.path()).len(), 0, "written outside the root");
}

#[tokio::test]
async fn names_of_any_bytes_are_kept() {
    let (root, remote) = open();
    let strange: [&[u8]; 7] = [
        b"new\nline",
        b"\xff\xfe not utf-8",
        b"%00 like NUL \\0",
        b"%dewfs%a%2Fb",
        b" ",
        b"~",
        &[b'n'; 255],
    ];
    for bytes in strange {
        std::fs::write(root.path().join(std::ffi::OsStr::from_bytes(bytes)), bytes).unwrap();
    }
    let listed: BTreeSet<_> =
        list(&remote, "").await.into_iter().map(|e| e.name.as_bytes().to_vec()).collect();
    assert_eq!(listed, strange.iter().map(|bytes| bytes.to_vec()).collect());
    for bytes in strange {
        let place = Locator::at(RemotePath(vec![Name::new(bytes).unwrap()]));
        let seen = remote.stat(&place).await.unwrap().unwrap();
        let body = upload(b"replaced", 1);
        remote.write(&place, body, version(&seen)).await.unwrap();
        let seen = remote.stat(&place).await.unwrap().unwrap();
        remote.remove(&place, version(&seen), &tag(2)).await.unwrap();
    }
    assert_eq!(names_in(root.path()).len(), 0);
}

#[tokio::test]
async fn paths_longer_than_the_kernel_takes_are_walked() {
    let (_root, remote) = open();
    let mut path = RemotePath::root();
    for _ in 0..30 {
        path = path.child(Name::new(vec![b'd'; 250]).unwrap());
        remote.make_folder(&Locator::at(path.clone())).await.unwrap();
    }
    let file = Locator::at(path.child(Name::new(&b"file"[..]).unwrap()));
    remote.write(&file, upload(b"deep", 1), Expect::Absent).await.unwrap();
    assert_eq!(remote.stat(&file).await.unwrap().unwrap().size, 4);
}

#[tokio::test]
async fn a_big_folder_comes_in_pages_that_stay_true_under_changes() {
    let (root, remote) = open();
    for n in 0..2500 {
        std::fs::write(root.path().join(format!("{n:05}")), b"").unwrap();
    }
    let first = remote.list(&at(""), None).await.unwrap();
    assert!(first.next.is_some());
    std::fs::remove_file(root.path().join("02000")).unwrap();
    let (mut all, mut page) = (first.entries, first.next);
    while let Some(next) = page {
        let listed = remote.list(&at(""), Some(next)).await.unwrap();
        all.extend(listed.entries);
        page = listed.next;
    }
    let names: BTreeSet<_> = all.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!((all.len(), names.len()), (2499, 2499));
}

#[tokio::test]
async fn a_young_version_is_unsettled_and_an_old_one_is_not() {
    let (root, remote) = open();
    let file = std::fs::File::create(root.path().join("a")).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        file.set_modified(SystemTime::now()).unwrap();
        if !remote.stat(&at("a")).await.unwrap().unwrap().settled {
            break;
        }
        assert!(Instant::now() < end, "never young, however soon it is looked at");
    }
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    assert!(remote.stat(&at("a")).await.unwrap().unwrap().settled);
}

#[tokio::test]
async fn an_identity_survives_a_rename_and_is_not_given_again() {
    let (root, remote) = open();
    std::fs::write(root.path().join("a"), b"one").unwrap();
    let one = remote.stat(&at("a")).await.unwrap().unwrap();
    std::fs::rename(root.path().join("a"), root.path().join("b")).unwrap();
    assert_eq!(remote.stat(&at("b")).await.unwrap().unwrap().id, one.id);
    let born = std::fs::metadata(root.path().join("b")).unwrap().created().unwrap();
    std::fs::remove_file(root.path().join("b")).unwrap();
    // The disk may give the number again at once; its clock has to have moved on by then.
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        std::fs::write(root.path().join("c"), b"one").unwrap();
        if std::fs::metadata(root.path().join("c")).unwrap().created().unwrap() > born {
            break;
        }
        assert!(Instant::now() < end, "the clock of the file system stands still");
        std::fs::remove_file(root.path().join("c")).unwrap();
    }
    assert_ne!(remote.stat(&at("c")).await.unwrap().unwrap().id, one.id);
}

#[tokio::test]
async fn a_probe_finds_what_the_file_system_can() {
    let (root, remote) = open();
    let found = remote.probe().await.unwrap();
    assert_eq!(found.conditional, Conditional::Atomic);
    assert_eq!(found.feed, FeedKind::Inotify);
    let moved = root.path().with_extension("moved");
    std::fs::rename(root.path(), &moved).unwrap();
    assert_eq!(remote.probe().await.unwrap_err().kind, ErrorKind::NotFound);
    std::fs::create_dir(root.path()).unwrap();
    assert_ne!(remote.probe().await.unwrap().identity, found.identity, "it is another directory");
    std::fs::remove_dir_all(moved).unwrap();
}

#[tokio::test]
async fn a_root_that_is_gone_is_missing_and_not_empty() {
    let (root, remote) = open();
    std::fs::remove_dir(root.path()).unwrap();
    assert_eq!(remote.list(&at(""), None).await.unwrap_err().kind, ErrorKind::RootMissing);
    assert_eq!(remote.stat(&at("a")).await.unwrap_err().kind, ErrorKind::RootMissing);
}
