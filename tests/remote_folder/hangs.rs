//! A directory on a file system that hangs in the kernel, as a network share without its server.

use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dewfs::remote::folder::{AwaitedFolder, FolderRemote};
use dewfs::remote::{Expect, Remote};
use rustix::process::Signal;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::support::{LIMIT, Mounted};
use crate::{at, names_in, open, upload};

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
    share.signal(Signal::STOP);
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
        share.signal(Signal::STOP);
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
    share.signal(Signal::STOP);
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
    let start = Instant::now();
    while !names_in(root.path()).is_empty() {
        assert!(start.elapsed() < LIMIT, "{:?}", names_in(root.path()));
        assert!(!root.path().join("file").exists(), "it came although nobody waits for it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
