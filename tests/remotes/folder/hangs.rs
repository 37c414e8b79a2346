//! A directory on a file system that hangs in the kernel, as a network share without its server.

use crate::support::wait::holds_soon;
use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dewfs::remote::folder::{AwaitedFolder, FolderRemote};
use dewfs::remote::{Expect, Hint, Locator, Remote};
use rustix::process::Signal;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{at, names_in, open, upload};
use crate::support::mount::{LIMIT, Mounted};

const SHORT: Duration = Duration::from_millis(20);

/// Few threads for all that waits for a disk, so that it shows soon when they are gone.
fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn share() -> Mounted {
    Mounted::of(|remote| {
        fs::create_dir(remote.join("folder")).unwrap();
        fs::write(remote.join("folder/file"), b"content").unwrap();
        fs::write(remote.join("file"), b"content").unwrap();
    })
}

#[test]
fn requests_that_hang_in_the_kernel_keep_no_thread_that_others_need() {
    let share = share();
    let runtime = runtime();
    let remote = FolderRemote::open(&share.places.at).unwrap();
    share.freeze();
    runtime.block_on(async {
        for n in 0..60 {
            let late = timeout(SHORT, remote.stat(&at(&format!("nobody knows {n}")))).await;
            assert!(late.is_err(), "{late:?}");
        }
        let other = timeout(LIMIT, tokio::task::spawn_blocking(|| 7)).await;
        assert_eq!(other.expect("work with the local disk waits").unwrap(), 7);
        let asked = Instant::now();
        assert!(remote.capabilities().writable);
        remote.interested(&at("folder"));
        assert!(asked.elapsed() < LIMIT / 4);
    });
    share.signal(Signal::CONT);
    runtime.block_on(async {
        let back = timeout(LIMIT, remote.stat(&at("file"))).await.expect("it answers again");
        assert_eq!(back.unwrap().unwrap().size, 7);
    });
}

#[test]
fn a_stream_that_is_given_up_while_it_hangs_holds_nobody_up() {
    let share = share();
    let runtime = runtime();
    let remote = FolderRemote::open(&share.places.at).unwrap();
    runtime.block_on(async {
        let seen = remote.stat(&at("file")).await.unwrap().unwrap();
        let stream = remote.read(&at("file"), &seen.version, 0..7).await.unwrap();
        share.freeze();
        // To close it is a question to the file system as well.
        let asked = Instant::now();
        drop(stream);
        assert!(asked.elapsed() < LIMIT / 4);
    });
    share.signal(Signal::CONT);
}

#[test]
fn a_directory_that_hangs_when_it_is_first_opened_is_awaited() {
    let share = share();
    let runtime = runtime();
    share.freeze();
    let asked = Instant::now();
    let remote = AwaitedFolder::new(&share.path("folder"));
    assert!(asked.elapsed() < LIMIT / 4, "the start waited {:?}", asked.elapsed());
    assert_eq!(remote.capabilities().identity, None, "it was opened although it hangs");
    runtime.block_on(async {
        assert!(timeout(SHORT, remote.stat(&at("file"))).await.is_err());
    });
    share.signal(Signal::CONT);
    runtime.block_on(async {
        let back = timeout(LIMIT, remote.stat(&at("file"))).await.expect("it answers again");
        assert_eq!(back.unwrap().unwrap().size, 7);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_hung_until_nobody_waited_for_it_is_not_done_late() {
    let (root, remote) = open();
    let (tell, told) = mpsc::channel();
    let (go, hangs) = mpsc::channel::<()>();
    let hangs = std::sync::Mutex::new(hangs);
    let mut body = upload(b"late", 1);
    body.still_whole = Some(std::sync::Arc::new(move || {
        tell.send(()).unwrap();
        hangs.lock().unwrap().recv().unwrap();
        true
    }));
    let place = at("file");
    let mut asked = Box::pin(remote.write(&place, body, Expect::Absent));
    assert!(timeout(SHORT, &mut asked).await.is_err());
    told.recv_timeout(LIMIT).unwrap();
    drop(asked);
    go.send(()).unwrap();
    let is_cleared = async || {
        assert!(!root.path().join("file").exists(), "it came although nobody waits for it");
        names_in(root.path()).is_empty()
    };
    assert!(holds_soon(LIMIT, is_cleared).await, "{:?}", names_in(root.path()));
}

/// The mount, and a folder that holds its place.
fn beside(share: &Mounted) -> (FolderRemote, String) {
    let place = share.places.at.canonicalize().unwrap();
    let above = place.parent().unwrap();
    fs::create_dir_all(above.join("beside/below")).unwrap();
    let name = place.file_name().unwrap().to_string_lossy().into_owned();
    (FolderRemote::open(above).unwrap(), name)
}

/// Has the kernel forget what it knows of the mount's root: it asks the mount again.
fn forget(share: &Mounted) {
    fs::write(share.path("something new"), b"").unwrap();
}

/// One entry that answers `ENOTCONN` (its server was killed) or `EACCES` (another user's mount) kept its whole folder from
/// being listed.
#[test]
fn regression_a_dead_mount_in_a_folder_leaves_the_folder_listed() {
    let mut share = share();
    let (known, name) = beside(&share);
    runtime().block_on(async {
        let before = super::list(&known, "").await;
        let mounted = before.iter().find(|entry| entry.name.to_string() == name).unwrap();
        forget(&share);
        share.kill();
        assert!(fs::metadata(&share.places.at).is_err(), "it is looked at all the same");
        let (new, _) = beside(&share);
        for remote in [known, new] {
            let listed = super::list(&remote, "").await;
            let names = |all: &[dewfs::remote::Listed]| -> Vec<_> {
                all.iter().map(|entry| (entry.name.clone(), entry.entry.kind)).collect()
            };
            assert_eq!(names(&listed), names(&before));
            let dead = listed.iter().find(|entry| entry.name.to_string() == name).unwrap();
            assert_eq!(dead.entry.extra, mounted.entry.extra);
            let seen = remote.stat(&at(&name)).await.unwrap().unwrap();
            assert_eq!(seen.extra, mounted.entry.extra);
            assert!(remote.list(&at(&name), None).await.is_err());
        }
    });
}

/// S140 "A directory as remote that hangs in the kernel (a network share without its server) holds up nothing but what is in it":
/// who asked for changes waited for a mount that hangs, and whoever listed any other folder behind him.
#[test]
fn regression_a_mount_that_hangs_holds_up_nothing_beside_it() {
    let share = share();
    let (remote, name) = beside(&share);
    let runtime = runtime();
    let noted = runtime.block_on(async {
        let listed = super::list(&remote, "").await;
        // What is watched in it is not to be looked at either when it is taken for gone.
        for inside in [name.clone(), format!("{name}/folder")] {
            super::list(&remote, &inside).await;
        }
        let cursor = remote.changes(None).await.unwrap().cursor;
        let noted = listed.into_iter().find(|one| one.name.to_string() == name).unwrap();
        (noted.entry.extra, cursor)
    });
    forget(&share);
    share.freeze();
    runtime.block_on(async {
        remote.interested(&Locator { extra: noted.0, ..at(&name) });
        for nobody in 0..3 {
            remote.interested(&at(&format!("{name}/nobody knows {nobody}")));
        }
        let (mut cursor, mut is_gone, mut more) = (noted.1, false, 2);
        let start = Instant::now();
        while !is_gone || more > 0 {
            let told = timeout(LIMIT, remote.changes(Some(&cursor))).await;
            let told = told.expect("who asks for changes waits for the mount").unwrap();
            is_gone |= told.hints.contains(&Hint::Folder(at(&name).path));
            more -= i32::from(is_gone);
            cursor = told.cursor;
            let listed = timeout(LIMIT, remote.list(&at("beside/below"), None)).await;
            listed.expect("a folder beside it waits").unwrap();
            assert!(start.elapsed() < LIMIT, "a mount that hangs is there for ever");
        }
        share.signal(Signal::CONT);
        let inside = Hint::Folder(at(&format!("{name}/folder")).path);
        let is_told = async || {
            let told = timeout(LIMIT, remote.changes(Some(&cursor))).await;
            let told = told.expect("it answers again").unwrap();
            cursor = told.cursor;
            told.hints.contains(&inside)
        };
        assert!(holds_soon(LIMIT, is_told).await, "what is in it is watched no more");
    });
}
