//! A mount over a server that is away, slow, broken or lying: programs get the right bytes or a clear errno, and what was
//! written arrives when it is over.
#![allow(clippy::needless_pass_by_value)]

mod namespace;

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::faults::{Fault, Proxy};
use crate::support::mount::{Mounted, bytes, dewfs, eventually, names};
use crate::support::servers::{Product, Server};
use rustix::io::Errno;

const SIZE: usize = 3_000_000;
/// Far more than `timeout=2s` takes with all its tries, far less than for ever.
const DEADLINE: Duration = Duration::from_secs(12);

/// Answers that are no data: the remote is away, does not answer in time, denies, or cannot be right.
const CLEAR: [Errno; 5] =
    [Errno::HOSTDOWN, Errno::TIMEDOUT, Errno::ACCESS, Errno::IO, Errno::STALE];

fn stage() -> (Server, Proxy, Mounted) {
    let server = Server::start(Product::Apache);
    for file in 0..12 {
        server.put(format!("f{file}"), bytes(SIZE, file));
    }
    let proxy = Proxy::start(server.port);
    let mount = Mounted::url(&proxy.url(), server.root(), &["-o", "timeout=2s"]);
    assert_eq!(names(&mount.places.at).len(), 12);
    (server, proxy, mount)
}

/// All bytes, or the errno of the first read that fails. Bytes that come before a failure must be right, too.
fn read_all(mount: &Mounted, file: u64) -> Result<(), Errno> {
    let expected = bytes(SIZE, file);
    let outcome = File::open(mount.path(format!("f{file}"))).and_then(|mut open| {
        let (mut at, mut piece) = (0, vec![0; 100_000]);
        loop {
            let start = Instant::now();
            let read = open.read(&mut piece);
            assert!(start.elapsed() < DEADLINE, "stuck for {:?}", start.elapsed());
            match read? {
                0 => break,
                read => {
                    assert!(piece[..read] == expected[at..at + read], "wrong bytes at {at}");
                    at += read;
                }
            }
        }
        assert_eq!(at, SIZE, "a short file without an error");
        Ok(())
    });
    outcome.map_err(|error| Errno::from_io_error(&error).unwrap())
}

/// Reads under a fault, and again when it is over.
/// S14 "An answer of the wrong length, of another range, or cut short gives the right bytes after another try, or an
/// error; never short, shifted or zero-filled data."
/// S21 "A program that waits for the remote gets an answer at the latest 30 seconds (`timeout=`) after the last
/// progress: `ETIMEDOUT`, or `EHOSTDOWN` at once-ish (2 seconds) while the remote is known to be away."
fn reads_are_right_or_refused(fault: Fault, file: u64, may_work: bool) {
    let (_server, proxy, mount) = stage();
    proxy.set(fault.clone(), &["GET"]);
    match read_all(&mount, file) {
        Ok(()) => assert!(may_work, "{fault:?}: no error"),
        Err(errno) => {
            println!("{fault:?}: {errno:?}");
            assert!(CLEAR.contains(&errno), "{fault:?}: {errno:?}");
        }
    }
    assert!(proxy.count() > 0, "{fault:?} was not met");
    proxy.heal();
    eventually("the right bytes afterwards", || read_all(&mount, file).is_ok());
}

/// What waits for a server that says nothing ends with the deadline, not some tries later; afterwards it is known to be away.
/// S21 "A program that waits for the remote gets an answer at the latest 30 seconds (`timeout=`) after the last
/// progress: `ETIMEDOUT`, or `EHOSTDOWN` at once-ish (2 seconds) while the remote is known to be away."
fn ends_with_its_deadline(fault: Fault, act: impl Fn(&Mounted) -> std::io::Result<()>) {
    let timeout = Duration::from_secs(6);
    // For a machine that has other things to do.
    let slack = Duration::from_secs(2);
    let (server, proxy, _) = stage();
    server.make_folder("unseen");
    let mount = Mounted::url(&proxy.url(), server.root(), &["-o", "timeout=6s,poll=1h"]);
    assert_eq!(names(&mount.places.at).len(), 13);
    let timed = || {
        let start = Instant::now();
        let errno = Errno::from_io_error(&act(&mount).unwrap_err()).unwrap();
        (start.elapsed(), errno)
    };
    proxy.set(fault.clone(), &[]);
    let (took, errno) = timed();
    println!("{fault:?}: {errno:?} after {took:?}");
    assert!([Errno::TIMEDOUT, Errno::HOSTDOWN].contains(&errno), "{fault:?}: {errno:?}");
    assert!(took < timeout + slack, "{fault:?}: {errno:?} after {took:?}");
    let status = || dewfs().args(["status", "--short"]).arg(&mount.places.at).output().unwrap();
    eventually("it is known to be away", || status().stdout == b"offline\n");
    let (took, errno) = timed();
    println!("{fault:?}: {errno:?} after {took:?} once it is known");
    assert_eq!(errno, Errno::HOSTDOWN, "{fault:?}");
    assert!(took < Duration::from_secs(2) + slack, "{fault:?}: {took:?}");
    proxy.heal();
    eventually("what was asked for", || act(&mount).is_ok());
}

fn read_a_little(mount: &Mounted) -> std::io::Result<()> {
    File::open(mount.path("f3"))?.read_exact(&mut [0; 4096])
}

#[test]
fn one_read_of_a_silent_server_ends_with_its_deadline() {
    ends_with_its_deadline(Fault::Silent, read_a_little);
}

#[test]
fn one_listing_of_a_silent_server_ends_with_its_deadline() {
    ends_with_its_deadline(Fault::Silent, |mount| {
        fs::read_dir(mount.path("unseen"))?.try_for_each(|entry| entry.map(drop))
    });
}

#[test]
fn one_look_at_a_name_of_a_silent_server_ends_with_its_deadline() {
    ends_with_its_deadline(Fault::Silent, |mount| match fs::metadata(mount.path("unseen/none")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map(drop),
    });
}

macro_rules! reads {
    ($($name:ident: $fault:expr, $may_work:expr;)*) => { $(
        #[test]
        fn $name() {
            reads_are_right_or_refused($fault, 3, $may_work);
        }
    )* };
}

reads! {
    reads_of_a_silent_server: Fault::Silent, false;
    reads_of_a_server_that_hangs_up: Fault::Hangup, false;
    reads_of_a_server_that_stalls: Fault::Stall, true;
    reads_of_a_body_cut_short: Fault::Cut, true;
    reads_of_a_body_shorter_than_its_range: Fault::Short, false;
    reads_of_a_body_longer_than_its_range: Fault::Long, true;
    reads_of_another_range: Fault::Shifted, false;
    reads_of_another_version: Fault::Lying, false;
    reads_of_a_failing_server: Fault::Answer("HTTP/1.1 500 Broken\r\n"), false;
    reads_of_a_busy_server: Fault::Answer("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n"), false;
    reads_of_a_server_that_limits: Fault::Answer("HTTP/1.1 429 Slow down\r\nRetry-After: 3600\r\n"), false;
    reads_of_a_server_that_wants_a_password: Fault::Answer("HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"), false;
    reads_of_a_server_that_denies: Fault::Answer("HTTP/1.1 403 No\r\n"), false;
}

/// What is written under a fault waits, is read back here meanwhile, and arrives once when it is over.
fn writes_arrive_afterwards(fault: Fault, methods: &[&'static str]) {
    let (_server, proxy, mount) = stage();
    assert_eq!(read_all(&mount, 1), Ok(()));
    proxy.set(fault.clone(), methods);
    let (new, changed) = (bytes(SIZE, 50), bytes(SIZE, 51));
    fs::write(mount.path("new"), &new).unwrap();
    fs::write(mount.path("f1"), &changed).unwrap();
    fs::create_dir(mount.path("folder")).unwrap();
    fs::write(mount.path("folder/below"), b"below").unwrap();
    fs::rename(mount.path("f2"), mount.path("folder/moved")).unwrap();
    fs::remove_file(mount.path("f5")).unwrap();
    eventually("the fault", || proxy.count() > 2);
    assert!(fs::read(mount.path("new")).unwrap() == new);
    assert!(fs::read(mount.path("f1")).unwrap() == changed);
    proxy.heal();
    mount.arrives("new", &new);
    mount.arrives("f1", &changed);
    mount.arrives("folder/below", b"below");
    mount.arrives("folder/moved", &bytes(SIZE, 2));
    let mut expected: Vec<String> =
        (0..12).filter(|file| ![2, 5].contains(file)).map(|file| format!("f{file}")).collect();
    expected.extend(["folder".to_owned(), "new".to_owned()]);
    expected.sort();
    eventually("neither more nor less", || {
        names(&mount.places.remote) == expected && names(&mount.places.at) == expected
    });
    eventually("nothing private left below", || {
        names(&mount.remote("folder")) == ["below", "moved"]
    });
}

macro_rules! writes {
    ($($name:ident: $fault:expr, $methods:expr;)*) => { $(
        #[test]
        fn $name() {
            writes_arrive_afterwards($fault, $methods);
        }
    )* };
}

const CHANGES: &[&str] = &["PUT", "MOVE", "MKCOL", "DELETE"];

writes! {
    writes_to_a_silent_server: Fault::Silent, &[];
    writes_to_a_server_that_hangs_up: Fault::Hangup, &[];
    writes_whose_answers_are_lost: Fault::Lost, CHANGES;
    writes_whose_moves_answers_are_lost: Fault::Lost, &["MOVE"];
    writes_to_a_failing_server: Fault::Answer("HTTP/1.1 500 Broken\r\n"), CHANGES;
    writes_to_a_busy_server: Fault::Answer("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n"), CHANGES;
    writes_to_a_server_that_limits: Fault::Answer("HTTP/1.1 429 Slow\r\nRetry-After: 1\r\n"), CHANGES;
    writes_to_a_server_that_wants_a_password: Fault::Answer("HTTP/1.1 401 Who\r\n"), &[];
}

#[test]
fn a_server_that_comes_back_is_noticed_by_itself() {
    let mut server = Server::start(Product::Apache);
    let mount = Mounted::url(&server.url(), server.root(), &["-o", "timeout=2s"]);
    assert_eq!(names(&mount.places.at).len(), 0);
    server.stop();
    fs::write(mount.path("waits"), b"content").unwrap();
    eventually("that it is away", || mount.log().contains("Offline"));
    server.start_again();
    mount.arrives("waits", b"content");
}

/// Many programs are stuck on a frozen server: who reads what is here does not notice, and who is stuck can be killed.
/// S22 "What is here is read and listed at full speed while others wait for the remote."
#[test]
fn a_frozen_server_stops_nobody_who_needs_it_not() {
    const STUCK: usize = 300;
    let server = Server::start(Product::Apache);
    for file in 0..STUCK {
        server.put(format!("f{file}"), bytes(20_000, file as u64));
    }
    server.put("here", b"all of it");
    server.put("killed", bytes(20_000, 1));
    let mount = Mounted::url(&server.url(), server.root(), &["-o", "poll=1h"]);
    assert_eq!(fs::read(mount.path("here")).unwrap(), b"all of it");
    assert_eq!(names(&mount.places.at).len(), STUCK + 2);
    let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    server.freeze();
    std::thread::scope(|scope| {
        for file in 0..STUCK {
            let (mount, begun, done) = (&mount, &begun, &done);
            scope.spawn(move || {
                begun.fetch_add(1, Ordering::SeqCst);
                let outcome = fs::read(mount.path(format!("f{file}")));
                done.fetch_add(1, Ordering::SeqCst);
                match outcome {
                    Ok(found) => assert!(found == bytes(20_000, file as u64), "wrong bytes"),
                    Err(error) => assert!(CLEAR.contains(&Errno::from_io_error(&error).unwrap())),
                }
            });
        }
        eventually("all are at it", || begun.load(Ordering::SeqCst) == STUCK);
        let mut cat = Command::new("cat");
        let mut cat = cat.arg(mount.path("killed")).stdout(Stdio::null()).spawn().unwrap();
        let wchan = format!("/proc/{}/wchan", cat.id());
        eventually("one more is stuck", || {
            fs::read_to_string(&wchan).is_ok_and(|at| {
                at.contains("fuse") || at.contains("folio") || at.contains("request")
            })
        });
        let start = Instant::now();
        for _ in 0..20 {
            let fresh = File::open(mount.path("here")).unwrap();
            let mut content = String::new();
            (&fresh).read_to_string(&mut content).unwrap();
            assert_eq!(content, "all of it");
            assert_eq!(names(&mount.places.at).len(), STUCK + 2);
        }
        fs::write(mount.path("written"), b"here for now").unwrap();
        println!("20 local reads, listings and a write took {:?}", start.elapsed());
        assert_eq!(done.load(Ordering::SeqCst), 0, "the others are still stuck");
        cat.kill().unwrap();
        eventually("the killed one is gone", || cat.try_wait().unwrap().is_some());
        assert_eq!(done.load(Ordering::SeqCst), 0, "the others are still stuck");
        server.thaw();
    });
    assert_eq!(done.load(Ordering::SeqCst), STUCK);
    mount.arrives("written", b"here for now");
}
