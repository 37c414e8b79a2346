//! Random work of a program under random faults, with the daemon and the server killed at random: in the end the server has
//! what the program was told is done, byte for byte and nothing else. `DEWFS_SEED` replays one history.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::faults::{Fault, Proxy};
use crate::support::mount::{Mounted, dewfs, patiently};
use crate::support::servers::{Product, Server};
use crate::support::tried;
use crate::support::wait::holds_within;
use fastrand::Rng;
use rustix::io::Errno;

const STEPS: usize = 90;
const NAMES: [&str; 7] = ["a", "b", "c", "x/a", "x/b", "y/a", "y/b"];
const FOLDERS: [&str; 3] = ["", "x", "y"];
const DEADLINE: Duration = Duration::from_secs(20);
const CLEAR: [Errno; 5] =
    [Errno::HOSTDOWN, Errno::TIMEDOUT, Errno::ACCESS, Errno::IO, Errno::STALE];

fn any_fault(random: &mut Rng) -> Fault {
    match random.usize(..15) {
        0 => Fault::Slow(Duration::from_millis(random.u64(10..400))),
        1 => Fault::Thin(random.usize(100_000..2_000_000)),
        2 => Fault::Hole,
        3 => Fault::Hangup,
        4 => Fault::Reset,
        5 => Fault::Cut,
        6 => Fault::Short,
        7 => Fault::Over,
        8 => Fault::Long,
        9 => Fault::Answer("HTTP/1.1 429 Slow down\r\nRetry-After: 1\r\n"),
        10 => Fault::Burst(random.usize(1..6)),
        11 => later(random, "HTTP/1.1 401 Who\r\n"),
        12 => later(random, "HTTP/1.1 500 Broken\r\n"),
        13 => Fault::Torn,
        _ => Fault::Lost,
    }
}

fn later(random: &mut Rng, answer: &'static str) -> Fault {
    let (well, fault) = (random.usize(..4), Box::new(Fault::Answer(answer)));
    if random.bool() { Fault::After(well, fault) } else { Fault::Next(well, fault) }
}

fn any_methods(random: &mut Rng) -> &'static [&'static str] {
    const ALL: [&[&str]; 6] = [
        &[],
        &["GET"],
        &["PROPFIND"],
        &["PUT", "MOVE", "DELETE"],
        &["MOVE"],
        &["PUT", "GET", "PROPFIND"],
    ];
    random.choice(ALL).unwrap()
}

struct History {
    seed: u64,
    random: Rng,
    server: Server,
    proxy: Proxy,
    mount: Mounted,
    /// What the program was told is there.
    told: BTreeMap<&'static str, Vec<u8>>,
    faults: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let server = Server::start(Product::Apache);
        for folder in &FOLDERS[1..] {
            server.make_folder(folder);
        }
        let mut told = BTreeMap::new();
        for name in NAMES {
            if random.bool() {
                continue;
            }
            let content = content(&mut random);
            server.put(name, &content);
            println!("{seed}: {} bytes are in {name}", content.len());
            told.insert(name, content);
        }
        let proxy = Proxy::start(server.port);
        let mount = Mounted::url(
            &proxy.url(),
            server.root(),
            &["-o", "timeout=3s,guard=0,requests=500,min_free=64M"],
        );
        let history = Self { seed, random, server, proxy, mount, told, faults: 0 };
        for folder in FOLDERS {
            assert_eq!(history.list(folder).unwrap(), history.names(folder));
        }
        history
    }

    fn run(mut self) -> u64 {
        for step in 0..STEPS {
            let what = self.step();
            // what the last line says is where it went wrong
            println!("{}/{step}: {what}", self.seed);
        }
        self.faults += u64::try_from(self.proxy.count()).unwrap();
        self.proxy.heal();
        patiently("in sync", || {
            let mut command = dewfs();
            command
                .args(["sync", "--wait", "--timeout", "2s", "--json"])
                .arg(&self.mount.places.at);
            // A conflict copy may wait for a decision when all is sent.
            String::from_utf8_lossy(&command.output().unwrap().stdout).contains("\"in_sync\":true")
        });
        let expected = self.told.iter().map(|(name, content)| ((*name).into(), content.clone()));
        let expected: BTreeMap<PathBuf, Vec<u8>> = expected.collect();
        for place in [self.server.root(), &self.mount.places.at] {
            let found = tree(place);
            let shown = |tree: &BTreeMap<PathBuf, Vec<u8>>| {
                tree.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect::<Vec<_>>()
            };
            assert_eq!(shown(&found), shown(&expected), "{} of {}", place.display(), self.seed);
            assert!(found == expected, "other bytes at {} of {}", place.display(), self.seed);
        }
        self.faults
    }

    fn step(&mut self) -> String {
        let name = self.random.choice(NAMES).unwrap();
        let path = self.mount.path(name);
        match self.random.usize(..20) {
            0..=2 => {
                let content = content(&mut self.random);
                in_time(|| fs::write(&path, &content)).unwrap();
                let length = content.len();
                self.told.insert(name, content);
                format!("{length} bytes to {name}")
            }
            3 => self.write_inside(name),
            4 => self.rename(name),
            5 => {
                let outcome = in_time(|| fs::remove_file(&path));
                assert_eq!(outcome.is_ok(), self.told.remove(name).is_some(), "{outcome:?}");
                format!("{name} removed")
            }
            6..=7 => self.read(name),
            8 => {
                let folder = self.random.choice(FOLDERS).unwrap();
                let listed = self.list(folder);
                if let Ok(listed) = &listed {
                    assert_eq!(*listed, self.names(folder), "{folder}");
                }
                format!("{folder}/ listed: {}", clear(listed))
            }
            9 => {
                let output = dewfs().arg("free").arg(&path).output().unwrap();
                format!("{name} freed: {}", output.status)
            }
            10..=11 => {
                let (fault, methods) = (any_fault(&mut self.random), any_methods(&mut self.random));
                let shown = format!("{fault:?} for {methods:?}");
                self.faults += u64::try_from(self.proxy.count()).unwrap();
                self.proxy.set(fault, methods);
                shown
            }
            12 => {
                self.faults += u64::try_from(self.proxy.count()).unwrap();
                self.proxy.heal();
                "healed".to_owned()
            }
            13 => {
                if self.random.bool() {
                    self.mount.kill();
                    self.mount.mount();
                    return "daemon killed".to_owned();
                }
                self.server.kill();
                self.server.start_again();
                "server killed".to_owned()
            }
            _ => self.let_it_work(),
        }
    }

    fn write_inside(&mut self, name: &'static str) -> String {
        let piece: Vec<u8> =
            (0..self.random.usize(1..50_000)).map(|_| self.random.u8(..)).collect();
        let Some(content) = self.told.get_mut(name) else { return format!("no {name}") };
        let at = self.random.usize(..=content.len());
        let path = self.mount.path(name);
        let outcome = in_time(|| File::options().write(true).open(path))
            .and_then(|file| in_time(|| file.write_all_at(&piece, at as u64)));
        if outcome.is_ok() {
            let end = at + piece.len();
            content.resize(content.len().max(end), 0);
            content[at..end].copy_from_slice(&piece);
        }
        format!("{} bytes at {at} in {name}: {}", piece.len(), clear(outcome))
    }

    fn rename(&mut self, name: &'static str) -> String {
        let to = self.random.choice(NAMES).unwrap();
        let outcome = in_time(|| fs::rename(self.mount.path(name), self.mount.path(to)));
        match self.told.remove(name) {
            Some(content) => {
                outcome.unwrap();
                self.told.insert(to, content);
            }
            None => assert!(outcome.is_err()),
        }
        format!("{name} renamed to {to}")
    }

    fn read(&self, name: &str) -> String {
        let outcome = in_time(|| fs::read(self.mount.path(name)));
        match (&outcome, self.told.get(name)) {
            (Ok(found), Some(content)) => assert!(found == content, "wrong bytes of {name}"),
            (Ok(_), None) => panic!("{name} is back"),
            (Err(error), None) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            (Err(_), Some(_)) => return format!("{name} read: {}", clear(outcome)),
        }
        format!("{name} read")
    }

    /// Until something was asked, for a moment at most: the faults are to be met at every stage of the work.
    fn let_it_work(&self) -> String {
        let before = self.proxy.asked();
        let _either = holds_within(Duration::from_millis(500), || self.proxy.asked() != before);
        format!("{} requests more", self.proxy.asked() - before)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let read = || -> io::Result<Vec<String>> {
            let entries = fs::read_dir(self.mount.path(folder))?;
            entries.map(|entry| Ok(entry?.file_name().into_string().unwrap())).collect()
        };
        let mut names = in_time(read)?;
        names.sort();
        Ok(names)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let inside = |name: &&str| match name.split_once('/') {
            Some((above, _)) => above == folder,
            None => folder.is_empty(),
        };
        let here = self.told.keys().filter(|name| inside(name));
        let mut names: Vec<_> =
            here.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect();
        if folder.is_empty() {
            names.extend(FOLDERS[1..].iter().map(|folder| (*folder).to_owned()));
        }
        names.sort();
        names
    }
}

fn content(random: &mut Rng) -> Vec<u8> {
    let length = match random.usize(..6) {
        0 => 0,
        1 => random.usize(..2_000_000),
        _ => random.usize(..100_000),
    };
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Does it, and fails the test if it takes too long.
fn in_time<T>(act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = act();
    assert!(start.elapsed() < DEADLINE, "stuck for {:?}", start.elapsed());
    done
}

/// The errno that a program got; fails the test if it says nothing.
fn clear<T>(outcome: io::Result<T>) -> String {
    let Err(error) = outcome else { return "done".to_owned() };
    let errno = Errno::from_io_error(&error).unwrap();
    assert!(CLEAR.contains(&errno), "{errno:?}");
    format!("{errno:?}")
}

/// All files with their contents; what a killed Apache leaves, and hides, does not count, nor what a killed probe leaves
/// until the root is listed an hour later.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                let is_probe = below.to_string_lossy().starts_with(".dewfs-probe-");
                folders.extend((!is_probe).then_some(path));
            } else if !below.to_string_lossy().contains(".davfs.tmp") {
                all.insert(below, fs::read(path).unwrap());
            }
        }
    }
    all
}

/// S8 "Equal content is no conflict, and with no other writer there is never a conflict copy."
fn histories(first: u64, count: u64) {
    let seed = std::env::var("DEWFS_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = seed.map_or(first..first + count, |seed| seed..seed + 1);
    for seed in seeds {
        let (start, faults) = (Instant::now(), History::new(seed).run());
        println!("DEWFS_SEED={seed}: {faults} faults in {:?}", start.elapsed());
        tried::tried(faults, "faults between a mount and a server");
    }
}

macro_rules! histories {
    ($($name:ident: $first:expr;)*) => { $(
        #[test]
        fn $name() {
            let first = std::env::var("DEWFS_FIRST").map_or(0, |first| first.parse().unwrap());
            let count = std::env::var("DEWFS_HISTORIES").map_or(6, |count| count.parse().unwrap());
            histories(first + $first, count);
        }
    )* };
}

histories! {
    random_work_under_random_faults_1: 1;
    random_work_under_random_faults_2: 1001;
    random_work_under_random_faults_3: 2001;
    random_work_under_random_faults_4: 3001;
}
