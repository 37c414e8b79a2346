//! Offline as a normal state: a machine that is suspended, another network, a server that stands still or goes silent. Who
//! needs the remote gets an answer in time, who does not is not held up, and being back online is noticed.

mod asleep;

use crate::support::wait::holds_within;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::line::Line;
use crate::support::mount::{self, LIMIT, Mounted, bytes, dewfs, eventually, names};
use crate::support::servers::{Product, Server};
use rustix::io::Errno;
use rustix::process::Signal;

const TIMEOUT: &str = "timeout=6s";
/// Longer than that: for so long a machine is suspended.
const ASLEEP: Duration = Duration::from_secs(7);
/// What a program that waits is given at most: a few tries of `timeout=6s`.
const DEADLINE: Duration = Duration::from_secs(30);
/// What takes no request; who waits for a single one waits longer. The rest is for a machine that stands still for a moment.
const AT_ONCE: Duration = Duration::from_secs(5);
const CLEAR: [Errno; 4] = [Errno::HOSTDOWN, Errno::TIMEDOUT, Errno::IO, Errno::STALE];

fn plant(server: &Server) {
    for file in 0..12 {
        server.put(format!("f{file}"), bytes(100_000, file));
    }
    for folder in 0..6 {
        server.make_folder(format!("d{folder}"));
        server.put(format!("d{folder}/in"), format!("in {folder}").into_bytes());
    }
}

/// Looks at what is here; nobody waits for that.
fn local_is_fast(mount: &Mounted) {
    let begun = Instant::now();
    for _ in 0..20 {
        assert!(names(&mount.places.at).len() >= 18);
        assert!(fs::read(mount.path("f0")).unwrap() == bytes(100_000, 0));
        assert_eq!(fs::metadata(mount.path("f5")).unwrap().len(), 100_000);
        assert!(fs::metadata(mount.path("f none")).is_err());
    }
    assert!(begun.elapsed() < AT_ONCE, "local work took {:?}", begun.elapsed());
}

/// Answered in time, with the right bytes or a clear errno.
fn in_time<T>(what: &str, act: impl FnOnce() -> io::Result<T>) -> Option<T> {
    let begun = Instant::now();
    let outcome = act();
    let took = begun.elapsed();
    println!("{what}: {} after {took:?}", if outcome.is_ok() { "done" } else { "refused" });
    assert!(took < DEADLINE, "{what} took {took:?}");
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(CLEAR.contains(&Errno::from_io_error(&error).unwrap()), "{what}: {error}");
            None
        }
    }
}

fn list(mount: &Mounted, folder: &str) -> io::Result<usize> {
    let entries = fs::read_dir(mount.path(folder))?.collect::<io::Result<Vec<_>>>();
    entries.map(|entries| entries.len())
}

fn state(mount: &Mounted) -> String {
    let output = dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["state"].as_str().unwrap().to_owned()
}

/// Everything a person does with files, none of it waits.
fn edit(mount: &Mounted, round: usize) {
    let begun = Instant::now();
    let name = |what: &str| mount.path(format!("{what} {round}"));
    fs::create_dir(name("folder")).unwrap();
    fs::create_dir(name("folder").join("below")).unwrap();
    fs::write(name("folder").join("below/new"), b"new").unwrap();
    fs::write(name("draft"), b"draft").unwrap();
    fs::rename(name("draft"), name("folder").join("final")).unwrap();
    let file = File::options().append(true).open(mount.path("f0"));
    file.unwrap().write_all(b"!").unwrap();
    fs::rename(mount.path(format!("f{}", round + 1)), name("folder").join("moved")).unwrap();
    fs::remove_file(mount.path(format!("f{}", round + 6))).unwrap();
    // A folder takes the name of a file that is gone, and a file that of a folder.
    fs::create_dir(mount.path(format!("f{}", round + 6))).unwrap();
    fs::write(mount.path(format!("f{}/in it", round + 6)), b"in it").unwrap();
    fs::rename(name("folder").join("below"), name("below")).unwrap();
    fs::write(name("folder").join("below"), b"a file now").unwrap();
    assert!(begun.elapsed() < AT_ONCE, "editing took {:?}", begun.elapsed());
}

fn edits_arrive(mount: &Mounted, round: usize) {
    let name = |what: &str| format!("{what} {round}");
    mount.arrives(format!("{}/final", name("folder")), b"draft");
    mount.arrives(format!("{}/moved", name("folder")), &bytes(100_000, round as u64 + 1));
    mount.arrives(format!("{}/new", name("below")), b"new");
    mount.arrives(format!("{}/below", name("folder")), b"a file now");
    mount.arrives(format!("f{}/in it", round + 6), b"in it");
    eventually("the move", || !mount.remote(format!("f{}", round + 1)).exists());
    let there = names(mount.places.remote.as_path());
    assert!(!there.iter().any(|name| name.contains("conflict")), "{there:?}");
}

/// The address changes under all connections: none of them says a word any more, new ones lead to the server.
/// S54 "A clock that is set back or forward, a suspended machine and another network delay nothing by more than the deadline
/// of who waits; what is local goes on, and being back online is noticed without being told."
#[test]
fn connections_that_died_in_silence_hold_nobody_up_for_long() {
    let server = Server::start(Product::Apache);
    plant(&server);
    let line = Line::to(server.port);
    let mount = Mounted::url(&line.url(), server.root(), &["-o", TIMEOUT]);
    assert_eq!(names(&mount.places.at).len(), 18);
    // Several connections are made and kept.
    std::thread::scope(|scope| {
        for file in 0..5 {
            let mount = &mount;
            scope.spawn(move || fs::read(mount.path(format!("f{file}"))).unwrap());
        }
    });
    line.move_to(server.port);
    local_is_fast(&mount);
    let first = in_time("listing", || list(&mount, "d1"));
    let read = in_time("reading", || fs::read(mount.path("f9")));
    assert!(read.is_none_or(|read| read == bytes(100_000, 9)));
    let begun = Instant::now();
    eventually("all works again", || list(&mount, "d2").is_ok_and(|count| count == 1));
    println!("first listing {first:?}, all works again after {:?} more", begun.elapsed());
    edit(&mount, 0);
    edits_arrive(&mount, 0);
    assert_eq!(fs::read(mount.path("d3/in")).unwrap(), b"in 3");
}

/// No answer at all, for longer than anybody waits; then the network is there again.
#[test]
fn a_network_that_swallows_everything_is_lived_through() {
    let server = Server::start(Product::Apache);
    plant(&server);
    // Too large to be fetched ahead.
    for file in ["far", "farther"] {
        server.put(file, bytes(1_000_000, 70));
    }
    let line = Line::to(server.port);
    let mount = Mounted::url(&line.url(), server.root(), &["-o", TIMEOUT]);
    assert_eq!(names(&mount.places.at).len(), 20);
    for file in 0..3 {
        fs::read(mount.path(format!("f{file}"))).unwrap();
    }
    line.cut(true);
    local_is_fast(&mount);
    for folder in 0..3 {
        let listed = in_time("listing", || list(&mount, &format!("d{folder}")));
        assert!(listed.is_none(), "nothing came through");
    }
    assert!(in_time("reading", || fs::read(mount.path("far"))).is_none());
    eventually("it is known", || state(&mount) == "offline");
    // Known to be away: it is tried for two seconds, and nobody waits the whole deadline.
    let begun = Instant::now();
    assert!(in_time("reading", || fs::read(mount.path("farther"))).is_none());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // Nor one after the other, where several open folders that nobody has listed yet.
    std::thread::scope(|scope| {
        for folder in 0..6 {
            let mount = &mount;
            scope.spawn(move || {
                let begun = Instant::now();
                assert!(list(mount, &format!("d{folder}")).is_err(), "nothing came through");
                assert!(begun.elapsed() < AT_ONCE, "listing took {:?}", begun.elapsed());
            });
        }
    });
    local_is_fast(&mount);
    edit(&mount, 0);
    edit(&mount, 1);
    local_is_fast_after_edits(&mount);
    line.cut(false);
    let back = Instant::now();
    eventually("it is noticed", || state(&mount) == "online");
    println!("back online is noticed after {:?}", back.elapsed());
    edits_arrive(&mount, 0);
    edits_arrive(&mount, 1);
    println!("all edits have arrived after {:?}", back.elapsed());
    mount.arrives("f0", &[bytes(100_000, 0), b"!!".to_vec()].concat());
    assert!(fs::read(mount.path("far")).unwrap() == bytes(1_000_000, 70));
}

fn local_is_fast_after_edits(mount: &Mounted) {
    let begun = Instant::now();
    for _ in 0..20 {
        assert!(names(&mount.places.at).len() > 10);
        assert_eq!(fs::read(mount.path("folder 0/final")).unwrap(), b"draft");
    }
    assert!(begun.elapsed() < AT_ONCE, "local work took {:?}", begun.elapsed());
}

/// Mounted without a network at all: what was known and here is, edits of before and of now go out in an order that works.
#[test]
fn a_mount_without_network_works_from_what_is_known() {
    let server = Server::start(Product::Apache);
    plant(&server);
    let line = Line::to(server.port);
    let mut mount = Mounted::url(&line.url(), server.root(), &["-o", TIMEOUT]);
    assert_eq!(names(&mount.places.at).len(), 18);
    for file in 0..3 {
        fs::read(mount.path(format!("f{file}"))).unwrap();
    }
    line.cut(true);
    edit(&mount, 0);
    mount.kill();
    let begun = Instant::now();
    mount.mount();
    println!("mounted without network in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    local_is_fast_after_edits(&mount);
    edit(&mount, 1);
    assert!(in_time("listing", || list(&mount, "d1")).is_none());
    line.cut(false);
    edits_arrive(&mount, 0);
    edits_arrive(&mount, 1);
    mount.arrives("f0", &[bytes(100_000, 0), b"!!".to_vec()].concat());
}

/// A process that waits for a frozen server in every way there is can be killed, or has its answer within the deadline.
#[test]
fn nobody_stays_unkillable_on_a_frozen_server() {
    let server = Server::start(Product::Apache);
    plant(&server);
    let mount = Mounted::url(&server.url(), server.root(), &["-o", TIMEOUT]);
    assert_eq!(names(&mount.places.at).len(), 18);
    fs::read(mount.path("f0")).unwrap();
    server.freeze();
    let scripts = [
        "cat f9",
        "ls d1",
        "stat d2/in",
        "echo x >> f8",
        "dd if=/dev/zero of=f7 bs=100 seek=3 count=1 conv=notrunc",
        "mv d4/in d0/out",
        "truncate -s 5 f6",
        "head -c1 f5; mkdir d5/new",
    ];
    let start = |script: &'static str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&mount.places.at);
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        (script, shell.spawn().unwrap())
    };
    let mut started: Vec<_> = scripts.into_iter().map(start).collect();
    local_is_fast(&mount);
    // The kernel keeps the folder above locked until it is known whether this one is empty.
    started.push(start("rmdir d3"));
    let begun = Instant::now();
    for (script, mut shell) in started {
        shell.kill().unwrap();
        let is_gone = || shell.try_wait().unwrap().is_some();
        assert!(holds_within(DEADLINE, is_gone), "`{script}` cannot be killed");
    }
    println!("{} processes are gone {:?} after they were killed", scripts.len(), begun.elapsed());
    server.thaw();
    eventually("all works again", || list(&mount, "d5").is_ok());
    assert!(fs::read(mount.path("f9")).unwrap() == bytes(100_000, 9));
}

/// The server stops in the middle of every answer.
#[test]
fn a_server_that_hangs_in_mid_answer_stops_only_who_needs_it() {
    let server = Server::start(Product::Apache);
    plant(&server);
    server.put("large", bytes(60_000_000, 50));
    let line = Line::to(server.port);
    let mount = Mounted::url(&line.url(), server.root(), &["-o", TIMEOUT]);
    assert_eq!(names(&mount.places.at).len(), 19);
    fs::read(mount.path("f0")).unwrap();
    let file = File::open(mount.path("large")).unwrap();
    let mut head = vec![0; 1_000_000];
    file.read_exact_at(&mut head, 0).unwrap();
    line.cut(true);
    let begun = Instant::now();
    let mut at = 1_000_000;
    let refused = loop {
        let read = in_time("reading on", || file.read_exact_at(&mut head, at));
        if read.is_none() {
            break at;
        }
        assert!(head == bytes(60_000_000, 50)[at as usize..at as usize + head.len()]);
        at += head.len() as u64;
        assert!(begun.elapsed() < LIMIT && at < 59_000_000, "more came than was under way");
    };
    local_is_fast(&mount);
    line.cut(false);
    eventually("it goes on", || file.read_exact_at(&mut head, refused).is_ok());
    assert!(head == bytes(60_000_000, 50)[refused as usize..refused as usize + head.len()]);
}

/// S140 "A directory as remote that hangs in the kernel (a network share without its server) holds up nothing but what is in it;
/// what was asked for and comes too late changes nothing any more."
#[test]
fn a_directory_that_hangs_in_the_kernel_holds_up_nothing_but_what_is_in_it() {
    // The share is a mount of our own, whose daemon stands still.
    let share = Mounted::of(|remote| {
        for file in 0..12 {
            fs::write(remote.join(format!("f{file}")), bytes(100_000, file)).unwrap();
        }
        for folder in 0..6 {
            fs::create_dir(remote.join(format!("d{folder}"))).unwrap();
            fs::write(remote.join(format!("d{folder}/in")), b"in").unwrap();
        }
    });
    let mut places = mount::Places::new();
    places.spec = share.places.at.clone().into();
    let mut mount = Mounted::at(places, &["-o", TIMEOUT]);
    assert_eq!(names(&mount.places.at).len(), 18);
    fs::read(mount.path("f0")).unwrap();
    share.freeze();
    std::thread::scope(|scope| {
        for reader in 0..24 {
            let mount = &mount;
            let read = move || fs::read(mount.path(format!("f{}", 1 + reader % 11)));
            scope.spawn(move || in_time("reading", read));
        }
        let mount = &mount;
        scope.spawn(move || in_time("listing", || list(mount, "d1")));
        local_is_fast(mount);
        let begun = Instant::now();
        let mut file = File::create(mount.path("own")).unwrap();
        file.write_all(b"own").unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::rename(mount.path("own"), mount.path("own too")).unwrap();
        assert!(begun.elapsed() < AT_ONCE, "writing took {:?}", begun.elapsed());
    });
    eventually("offline to be noticed", || state(&mount) == "offline");
    // A request that the share had begun when it stopped keeps the old process, and must keep nobody else.
    let begun = Instant::now();
    let mut old = mount.leave();
    mount.mount();
    assert!(begun.elapsed() < DEADLINE, "the end and the start took {:?}", begun.elapsed());
    local_is_fast(&mount);
    assert_eq!(fs::read(mount.path("own too")).unwrap(), b"own");
    share.signal(Signal::CONT);
    eventually("the end of the first daemon", || old.try_wait().unwrap().is_some());
    eventually("what is not here", || {
        fs::read(mount.path("f3")).is_ok_and(|read| read == bytes(100_000, 3))
    });
}

/// Asking a server that stands still whether it is there was not part of `drain=`: the daemon outlived it by far.
#[test]
fn regression_a_daemon_ends_in_time_on_a_frozen_server() {
    let server = Server::start(Product::Apache);
    plant(&server);
    let options = ["-o", "timeout=1h,drain=1s,poll=1h"];
    let mut mount = Mounted::url(&server.url(), server.root(), &options);
    assert_eq!(names(&mount.places.at).len(), 18);
    mount.signal(Signal::INT);
    mount.end();
    server.freeze();
    mount.mount();
    fs::write(mount.path("new"), "new").unwrap();
    mount.signal(Signal::INT);
    mount.end();
    server.thaw();
    mount.mount();
    mount.arrives("new", b"new");
}
