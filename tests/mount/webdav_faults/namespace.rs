//! `namespace=remote`: names that are made, moved or taken away here are so at the server when the call returns, or it fails.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::support::faults::{Fault, Proxy};
use crate::support::mount::{Mounted, dewfs, eventually, names, patiently};
use crate::support::servers::{Product, Server};

/// Without waiting, nothing would be sent for far longer than a test takes; nothing is learned from polling either.
const OPTIONS: &str = "namespace=remote,write_back_delay=1h,timeout=2s";

fn stage(product: Product, poll: &str) -> (Server, Proxy, Mounted) {
    let server = Server::start(product);
    server.put("old", "old");
    server.make_folder("folder");
    let proxy = Proxy::start(server.port);
    let options = format!("{OPTIONS},poll={poll}");
    let mount = Mounted::url(&proxy.url(), server.root(), &["-o", &options]);
    assert_eq!(names(&mount.places.at), ["folder", "old"]);
    assert!(names(&mount.path("folder")).is_empty());
    (server, proxy, mount)
}

fn refused<T: std::fmt::Debug>(outcome: std::io::Result<T>) -> Errno {
    Errno::from_io_error(&outcome.unwrap_err()).unwrap()
}

/// S132 "With `namespace=remote`, calls that create, move or remove names return when the remote has it, and fail with its errno."
#[test]
fn the_server_has_a_name_when_the_call_returns() {
    for product in [Product::Apache, Product::Nginx, Product::Lighttpd] {
        // A version of Apache can be relied on after two seconds; a save by rename waits for that.
        let (server, _proxy, mount) = stage(product, "1h,timeout=10s");
        let there = |name: &str| server.root().join(name);
        fs::create_dir(mount.path("new")).unwrap();
        assert!(there("new").is_dir(), "mkdir");
        let created = File::create(mount.path("new/file")).unwrap();
        assert!(there("new/file").is_file(), "create");
        drop(created);
        fs::write(mount.path("new/file.tmp"), "content").unwrap();
        fs::rename(mount.path("new/file.tmp"), mount.path("new/file")).unwrap();
        assert_eq!(fs::read(there("new/file")).unwrap(), b"content", "a save by rename");
        assert!(!there("new/file.tmp").exists());
        fs::rename(mount.path("old"), mount.path("new/moved")).unwrap();
        assert!(!there("old").exists() && there("new/moved").is_file(), "rename");
        fs::rename(mount.path("new"), mount.path("renamed")).unwrap();
        assert!(!there("new").exists() && there("renamed/file").is_file(), "rename of a folder");
        fs::remove_file(mount.path("renamed/moved")).unwrap();
        assert!(!there("renamed/moved").exists(), "unlink");
        fs::remove_dir(mount.path("folder")).unwrap();
        assert!(!there("folder").exists(), "rmdir");
        // What stays on this machine waits for nobody.
        symlink("file", mount.path("renamed/link")).unwrap();
        File::create(mount.path("renamed/.file.swp")).unwrap();
        assert_eq!(names(&mount.path("renamed")), [".file.swp", "file", "link"]);
    }
}

/// S133 "While the remote is known to be away, such a call fails with `EHOSTDOWN` and changes nothing; one that fails later undoes
/// nothing: what it made stays here, pending, and is sent when that is possible."
#[test]
fn a_call_that_cannot_arrive_fails_and_what_was_begun_arrives_later() {
    let (server, proxy, mount) = stage(Product::Lighttpd, "1s,timeout=6s");
    proxy.set(Fault::Silent, &[]);
    let begun = Instant::now();
    let outcomes = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..32)
            .map(|n| {
                scope.spawn({
                    let mount = &mount;
                    move || fs::create_dir(mount.path(format!("folder/d{n}")))
                })
            })
            .collect();
        // More of them than the daemon has threads: who asks for what is here goes on.
        while makers.iter().any(|maker| !maker.is_finished()) {
            let look = Instant::now();
            fs::metadata(mount.path("old")).unwrap();
            assert!(look.elapsed() < Duration::from_secs(5), "{:?}", look.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        makers.into_iter().map(|maker| refused(maker.join().unwrap())).collect::<Vec<_>>()
    });
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    for outcome in outcomes {
        assert!([Errno::TIMEDOUT, Errno::HOSTDOWN].contains(&outcome), "{outcome}");
    }
    // By now it is known to be away.
    eventually("it is known", || {
        refused(fs::create_dir(mount.path("never"))) == Errno::HOSTDOWN
            && !mount.path("never").exists()
    });
    let before = names(&mount.places.at);
    assert_eq!(refused(File::create(mount.path("never"))), Errno::HOSTDOWN);
    assert_eq!(refused(fs::rename(mount.path("old"), mount.path("never"))), Errno::HOSTDOWN);
    assert_eq!(refused(fs::remove_file(mount.path("old"))), Errno::HOSTDOWN);
    assert_eq!(names(&mount.places.at), before);
    assert_eq!(fs::read(server.root().join("old")).unwrap(), b"old");
    // The first of them was begun, is here, and goes on by itself.
    assert!(mount.path("folder/d0").is_dir() || names(&mount.path("folder")).len() < 32);
    let here = names(&mount.path("folder"));
    assert!(!here.is_empty(), "none was begun");
    proxy.heal();
    patiently(&format!("what was begun arrives: {here:?}"), || {
        let dir = server.root().join("folder");
        here.iter().all(|name| dir.join(name).is_dir())
    });
    eventually("a new one goes", || fs::create_dir(mount.path("again")).is_ok());
    assert!(server.root().join("again").is_dir());
}

/// S134 "With `namespace=remote`, `mkdir` and an exclusive create fail with `EEXIST` where the remote has such a name that was not seen yet."
#[test]
fn a_name_that_somebody_else_made_meanwhile_is_taken() {
    let (server, _proxy, mount) = stage(Product::Lighttpd, "1h");
    server.make_folder("lock");
    assert_eq!(refused(fs::create_dir(mount.path("lock"))), Errno::EXIST);
    assert!(mount.path("lock").is_dir(), "theirs is seen now");
    server.put("lock.file", "theirs");
    let exclusive =
        || OpenOptions::new().write(true).create_new(true).open(mount.path("lock.file"));
    assert_eq!(refused(exclusive()), Errno::EXIST);
    assert_eq!(fs::read(mount.path("lock.file")).unwrap(), b"theirs");
    assert_eq!(fs::read(server.root().join("lock.file")).unwrap(), b"theirs");
    // One that changed meanwhile is not removed.
    fs::read(mount.path("old")).unwrap();
    server.put("old", "changed by somebody else");
    assert_eq!(refused(fs::remove_file(mount.path("old"))), Errno::BUSY);
    assert_eq!(fs::read(server.root().join("old")).unwrap(), b"changed by somebody else");
    mount.shows("old", b"changed by somebody else");
}

#[test]
fn what_the_server_denies_and_what_is_paused_is_said() {
    let (server, proxy, mount) = stage(Product::Lighttpd, "1h");
    proxy.set(
        Fault::Answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n"),
        &["MKCOL", "DELETE"],
    );
    assert_eq!(refused(fs::create_dir(mount.path("denied"))), Errno::ACCESS);
    // It stays here, as an error that status tells of, until somebody takes it away.
    eventually("it is shown", || mount.path("denied").is_dir());
    proxy.heal();
    fs::remove_dir(mount.path("denied")).unwrap();
    assert!(!server.root().join("denied").exists());
    let ask = |words: &[&str]| dewfs().args(words).arg(&mount.places.at).output().unwrap();
    assert!(ask(&["pause", "--lane", "uploads"]).status.success());
    assert_eq!(refused(fs::create_dir(mount.path("paused"))), Errno::BUSY);
    assert!(!mount.path("paused").exists());
    assert!(ask(&["resume"]).status.success());
    fs::create_dir(mount.path("paused")).unwrap();
    assert!(server.root().join("paused").is_dir());
}
