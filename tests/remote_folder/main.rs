//! What only a directory can do to us: links, pipes, races, leftovers, strange names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod disks;
mod hangs;
#[path = "../support/mount.rs"]
mod support;
#[path = "../support/disk.rs"]
mod tools;

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use dewfs::remote::folder::FolderRemote;
use dewfs::remote::{
    AttemptTag, Body, Conditional, Cursor, Digest, ErrorKind, Expect, FeedKind, Hint, Listed,
    Locator, Name, Observed, Remote, RemotePath, Upload, names,
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
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = remote.stat(&at(path)).await.unwrap().unwrap();
        if seen.settled {
            return seen;
        }
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_that_slips_in_before_the_commit_step_survives() {
    let (root, remote) = open();
    let file = root.path().join("a");
    for replace in [false, true] {
        std::fs::write(&file, b"base").unwrap();
        let base = settled(&remote, "a").await;
        let (slip, from) = (file.clone(), root.path().join("theirs"));
        let body = Upload {
            // Asked between the last look of the upload and its commit.
            still_whole: Some(Arc::new(move || {
                if replace {
                    std::fs::write(&from, b"theirs!").unwrap();
                    std::fs::rename(&from, &slip).unwrap();
                } else {
                    std::fs::write(&slip, b"theirs!").unwrap();
                }
                true
            })),
            ..upload(b"ours", 1)
        };
        let written = remote.write(&at("a"), body, version(&base)).await;
        assert_eq!(written.unwrap_err().kind, ErrorKind::VersionMismatch);
        assert_eq!(std::fs::read(&file).unwrap(), b"theirs!");
        assert_eq!(names_in(root.path()).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_others_save_meanwhile_is_never_lost() {
    // Somebody replaces the file by rename again and again, knowing of nothing. Their last content is there in the end, or
    // beside it, or was replaced by a write of ours that had read it.
    let (root, remote) = open();
    let (file, from) = (root.path().join("a"), root.path().join("from"));
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    std::fs::write(&file, b"theirs 0").unwrap();
    let theirs = std::thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            count += 1;
            std::fs::write(&from, format!("theirs {count}")).unwrap();
            std::fs::rename(&from, &file).unwrap();
            std::thread::sleep(Duration::from_micros(19_000 + count % 11 * 1_000));
        }
        count
    });
    let (mut replaced, mut lost_races) = (std::collections::BTreeMap::new(), 0);
    let end = Instant::now() + Duration::from_secs(30);
    let mut n = 0;
    while replaced.len() + lost_races < 60 && Instant::now() < end {
        n += 1;
        let seen = match remote.stat(&at("a")).await.unwrap() {
            Some(seen) if seen.settled => seen,
            _ => continue,
        };
        let Ok(mut stream) = remote.read(&at("a"), &seen.version, 0..seen.size).await else {
            continue;
        };
        let Some(Ok(content)) = futures_util::StreamExt::next(&mut stream.bytes).await else {
            continue;
        };
        let ours = format!("ours {n}");
        match remote.write(&at("a"), upload(ours.as_bytes(), n), version(&seen)).await {
            Ok(_) => drop(replaced.insert(ours, String::from_utf8(content.to_vec()).unwrap())),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::VersionMismatch, "{error}");
                lost_races += 1;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    let last = format!("theirs {}", theirs.join().unwrap());
    let beside: Vec<_> = names_in(root.path()).into_iter().filter(|name| name != "a").collect();
    assert!(beside.iter().all(|name| name.starts_with("a (kept ")), "{beside:?}");
    let mut content = std::fs::read_to_string(root.path().join("a")).unwrap();
    while let Some(before) = replaced.get(&content) {
        content.clone_from(before);
    }
    let kept = |name: &String| std::fs::read_to_string(root.path().join(name)).unwrap() == last;
    assert!(content == last || beside.iter().any(kept), "{content} but not {last}");
    println!("{} won, {lost_races} lost, {} kept beside, {last}", replaced.len(), beside.len());
}

#[tokio::test]
async fn an_upload_cut_short_is_hidden_and_tidied() {
    let (root, remote) = open();
    let name = Name::new(&b"a"[..]).unwrap();
    let temp = |n| root.path().join(names::temp(&tag(n), &name).to_string());
    let aside = |n| root.path().join(names::held(&tag(n), &name).to_string());
    std::fs::write(root.path().join("a"), b"base").unwrap();
    let base = settled(&remote, "a").await;

    // Died while it sent.
    std::fs::write(temp(1), b"ha").unwrap();
    std::fs::write(temp(2), b"of another attempt").unwrap();
    assert_eq!(list(&remote, "").await.len(), 1);
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    assert!(!temp(1).exists() && temp(2).exists());

    // Died between the exchange and the removal of what came out.
    std::fs::rename(root.path().join("a"), aside(1)).unwrap();
    std::fs::write(root.path().join("a"), b"ours").unwrap();
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    assert!(!aside(1).exists());
    assert_eq!(std::fs::read(root.path().join("a")).unwrap(), b"ours");

    // The same, but what came out is unknown: it stays, where people see it.
    std::fs::write(aside(1), b"unknown").unwrap();
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    assert_eq!(std::fs::read(root.path().join("a (kept 3-1)")).unwrap(), b"unknown");

    // Died while it removed: what was moved aside comes back.
    std::fs::rename(root.path().join("a"), aside(1)).unwrap();
    remote.tidy(&at("a"), &Expect::Absent, &tag(1)).await.unwrap();
    assert_eq!(std::fs::read(root.path().join("a")).unwrap(), b"ours");
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
async fn mode_and_owner_of_a_replaced_file_are_kept() {
    let (root, remote) = open();
    let file = root.path().join("a");
    std::fs::write(&file, b"base").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o751)).unwrap();
    let before = std::fs::metadata(&file).unwrap();
    let base = settled(&remote, "a").await;
    remote.write(&at("a"), upload(b"new", 1), version(&base)).await.unwrap();
    let after = std::fs::metadata(&file).unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.gid()),
        (before.mode(), before.uid(), before.gid())
    );
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

#[tokio::test]
async fn a_folder_that_moves_is_watched_under_its_new_name() {
    let (root, remote) = open();
    std::fs::create_dir(root.path().join("f")).unwrap();
    list(&remote, "").await;
    list(&remote, "f").await;
    let mut cursor = remote.changes(None).await.unwrap().cursor;
    std::fs::rename(root.path().join("f"), root.path().join("g")).unwrap();
    list(&remote, "g").await;
    let end = Instant::now() + Duration::from_secs(10);
    let (mut heard, mut count) = (BTreeSet::new(), 0);
    while !heard.contains("/g/late") {
        assert!(Instant::now() < end, "{heard:?}");
        count += 1;
        let page = remote.changes(Some(&cursor)).await.unwrap();
        for hint in page.hints {
            let (Hint::Entry(path) | Hint::Folder(path)) = hint;
            heard.insert(path.to_string());
        }
        cursor = page.cursor;
        if heard.contains("/f") {
            std::fs::write(root.path().join("g/late"), count.to_string()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Follows a remote as an engine does, until a hint is about `path`.
async fn hear(remote: &FolderRemote, cursor: &mut Cursor, path: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let page = remote.changes(Some(cursor)).await.unwrap();
        *cursor = page.cursor;
        let mut heard = false;
        for hint in page.hints {
            let (Hint::Entry(about) | Hint::Folder(about)) = &hint;
            heard |= about.to_string() == path;
            if matches!(hint, Hint::Folder(_)) {
                list(remote, &about.to_string()).await;
            }
        }
        if heard {
            return;
        }
        assert!(Instant::now() < end, "{path} is not heard of");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The watcher took the watch back when it read that the name went; the folder at it counted as watched for ever, and what
/// others removed there was shown for ever.
#[tokio::test]
async fn regression_a_folder_that_moved_away_and_back_is_still_watched() {
    let (root, remote) = open();
    let path = |name: &str| root.path().join(name);
    std::fs::create_dir_all(path("f/below")).unwrap();
    for folder in ["", "f", "f/below"] {
        list(&remote, folder).await;
    }
    let mut cursor = remote.changes(None).await.unwrap().cursor;
    std::fs::rename(path("f"), path("g")).unwrap();
    std::fs::rename(path("g"), path("f")).unwrap();
    std::fs::write(path("then"), "").unwrap();
    hear(&remote, &mut cursor, "/then").await;
    for late in ["f/late", "f/below/late"] {
        std::fs::write(path(late), "").unwrap();
        hear(&remote, &mut cursor, &format!("/{late}")).await;
    }
}

/// The same, when a folder was made and watched at the name before the watcher had read that the one before it went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_made_where_another_one_was_is_watched() {
    let (root, remote) = open();
    let path = |name: &str| root.path().join(name);
    list(&remote, "").await;
    let mut cursor = remote.changes(None).await.unwrap().cursor;
    for round in 0..50 {
        // Many changes keep the watcher busy.
        for other in 0..50 {
            std::fs::write(path(&format!("other{other}")), "").unwrap();
        }
        std::fs::create_dir(path("f")).unwrap();
        list(&remote, "f").await;
        std::fs::remove_dir(path("f")).unwrap();
        std::fs::create_dir(path("f")).unwrap();
        list(&remote, "f").await;
        let then = format!("then{round}");
        std::fs::write(path(&then), "").unwrap();
        hear(&remote, &mut cursor, &format!("/{then}")).await;
        std::fs::write(path("f/late"), "").unwrap();
        hear(&remote, &mut cursor, "/f/late").await;
        std::fs::remove_dir_all(path("f")).unwrap();
    }
}

/// A process killed between preparing a write and exchanging it left our own new bytes under the private name; they stood
/// beside the file as if they were somebody else's.
#[tokio::test]
async fn regression_our_own_bytes_of_a_broken_write_are_no_copy_beside_the_file() {
    let (dir, remote) = open();
    std::fs::write(dir.path().join("a"), "base").unwrap();
    let base = remote.stat(&at("a")).await.unwrap().unwrap();
    let held = dir.path().join(".dewfs-held.m1.3.1--a");
    std::fs::write(&held, "ours").unwrap();
    let mark = std::process::Command::new("setfattr")
        .args(["-n", "user.dewfs.attempt", "-v", "m1.3.1"])
        .arg(&held)
        .status()
        .unwrap();
    assert!(mark.success());
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"base");
    // Of another attempt, or unmarked: it may be somebody's only copy.
    std::fs::write(&held, "not ours").unwrap();
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// Access lists and attributes of users were lost with the inode that a write replaces, and the group of the list got what
/// only the list had.
#[tokio::test]
async fn regression_a_replaced_file_keeps_its_access_list_and_attributes() {
    use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
    const ACCESS: &str = "system.posix_acl_access";
    let root = tempfile::tempdir().unwrap();
    let remote = FolderRemote::open(root.path()).unwrap();
    let file = root.path().join("f");
    std::fs::write(&file, "old").unwrap();
    // acl(5) as the kernel has it: who, what, whose. The user, another user, the group, the mask, all others.
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 6, 1), (4, 0, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (who, what, whose) in entries {
        list.extend([who.to_le_bytes(), what.to_le_bytes()].concat());
        list.extend(whose.to_le_bytes());
    }
    setxattr(&file, ACCESS, &list, XattrFlags::empty()).unwrap();
    setxattr(&file, "user.colour", b"green", XattrFlags::empty()).unwrap();
    let seen = settled(&remote, "f").await;
    remote.write(&at("f"), upload(b"new", 1), version(&seen)).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    let mut value = [0; 256];
    let length = getxattr(&file, ACCESS, &mut value).unwrap();
    assert_eq!(value[..length], list);
    let length = getxattr(&file, "user.colour", &mut value).unwrap();
    assert_eq!(value[..length], *b"green");
    let length = listxattr(&file, &mut value).unwrap();
    assert!(!String::from_utf8_lossy(&value[..length]).contains("dewfs"));
}
