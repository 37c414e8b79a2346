//! A daemon that stands still for a while, as on a suspended machine.

use super::*;

/// Takes a process out of the world for a while, as a suspended machine does.
enum Pause {
    Signals,
    /// A freezer cgroup of its own.
    Cgroup(PathBuf),
}

impl Pause {
    fn cgroup(daemon: u32) -> Option<Self> {
        let name = format!("dewfs-test-{daemon}");
        let (old, new) = ("/sys/fs/cgroup/freezer", "/sys/fs/cgroup");
        let root = if Path::new(old).exists() { old } else { new };
        let dir = Path::new(root).join(name);
        let made = fs::create_dir(&dir)
            .and_then(|()| fs::write(dir.join("cgroup.procs"), daemon.to_string()));
        match made {
            Ok(()) => Some(Self::Cgroup(dir)),
            Err(why) => {
                drop(fs::remove_dir(&dir));
                eprintln!("NOT RUN: no freezer: {why}");
                None
            }
        }
    }

    fn set(&self, mount: &Mounted, frozen: bool) {
        match self {
            Self::Signals => mount.signal(if frozen { Signal::STOP } else { Signal::CONT }),
            Self::Cgroup(dir) if dir.join("freezer.state").exists() => {
                let word = if frozen { "FROZEN" } else { "THAWED" };
                fs::write(dir.join("freezer.state"), word).unwrap();
                eventually("the freezer", || {
                    fs::read_to_string(dir.join("freezer.state")).unwrap().trim() == word
                });
            }
            Self::Cgroup(dir) => {
                let bit = if frozen { "1" } else { "0" };
                fs::write(dir.join("cgroup.freeze"), bit).unwrap();
                eventually("the freezer", || {
                    let events = fs::read_to_string(dir.join("cgroup.events")).unwrap();
                    events.contains(&format!("frozen {bit}"))
                });
            }
        }
    }
}

/// A machine sleeps longer than any deadline while it reads and writes, and wakes up in another network.
fn sleeps_and_wakes(pause: impl FnOnce(u32) -> Option<Pause>) {
    let server = Server::start(Product::Apache);
    plant(&server);
    server.put("large", bytes(20_000_000, 50));
    let line = Line::to(server.port);
    let mount = Mounted::url(&line.url(), server.root(), &["-o", TIMEOUT]);
    assert_eq!(names(&mount.places.at).len(), 19);
    fs::read(mount.path("f0")).unwrap();
    let Some(pause) = pause(mount.pid()) else { return };
    let written = bytes(3_000_000, 60);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let file = File::open(mount.path("large")).unwrap();
            let expected = bytes(20_000_000, 50);
            let mut piece = vec![0; 100_000];
            let (mut refused, mut first) = (0, None);
            for at in (0..expected.len()).step_by(piece.len()) {
                loop {
                    match file.read_exact_at(&mut piece, at as u64) {
                        Ok(()) => break,
                        Err(error) => {
                            let errno = Errno::from_io_error(&error).unwrap();
                            assert!(CLEAR.contains(&errno), "{error}");
                            refused += 1;
                            let since = *first.get_or_insert_with(Instant::now);
                            assert!(
                                since.elapsed() < DEADLINE,
                                "it is not noticed that all is well"
                            );
                            std::thread::sleep(Duration::from_millis(50));
                        }
                    }
                }
                assert!(piece == expected[at..at + piece.len()], "wrong bytes at {at}");
            }
            refused
        });
        fs::write(mount.path("before"), &written).unwrap();
        pause.set(&mount, true);
        // A write begins while it sleeps, and the network changes.
        let writer = scope.spawn(|| fs::write(mount.path("meanwhile"), &written));
        line.move_to(server.port);
        // What is asleep shows nothing that could be waited for: the time itself is what the test is about.
        std::thread::sleep(ASLEEP);
        let begun = Instant::now();
        pause.set(&mount, false);
        local_is_fast(&mount);
        writer.join().unwrap().unwrap();
        println!("{} reads were refused", reader.join().unwrap());
        println!("read to the end {:?} after waking up", begun.elapsed());
        mount.arrives("before", &written);
        mount.arrives("meanwhile", &written);
        println!("all has arrived {:?} after waking up", begun.elapsed());
    });
    eventually("it is online", || state(&mount) == "online");
    if let Pause::Cgroup(dir) = pause {
        drop(mount);
        eventually("the cgroup is empty", || fs::remove_dir(&dir).is_ok());
    }
}

#[test]
fn a_suspended_daemon_goes_on_where_it_was() {
    sleeps_and_wakes(|_| Some(Pause::Signals));
}

#[test]
fn a_frozen_daemon_goes_on_where_it_was() {
    sleeps_and_wakes(Pause::cgroup);
}
