//! Every fault of the network or the server, met while a program lists, reads, writes, renames or removes, and the daemon or
//! the server killed in the middle of it: no program sees wrong bytes or waits for ever, and what was acknowledged arrives.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::support::faults::{Fault, Proxy};
use crate::support::mount::{Mounted, bytes, dewfs, eventually, names, patiently};
use crate::support::servers::{Product, Server};
use crate::support::tried;
use rustix::io::Errno;

/// Far more than `timeout=3s` takes with all its tries, far less than for ever.
const DEADLINE: Duration = Duration::from_secs(20);
const SIZE: usize = 400_000;

/// Answers that are no data: the remote is away, does not answer in time, denies, or cannot be right.
const CLEAR: [Errno; 5] =
    [Errno::HOSTDOWN, Errno::TIMEDOUT, Errno::ACCESS, Errno::IO, Errno::STALE];
/// The same from a mount whose daemon was killed.
const GONE: [Errno; 2] = [Errno::NOTCONN, Errno::CONNABORTED];

const WHO: &str = "HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";
const SLOW_DOWN: &str = "HTTP/1.1 429 Slow down\r\nRetry-After: 1\r\n";

/// What is being done when it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    List,
    Range,
    Whole,
    Upload,
    Replace,
    Rename,
    Remove,
}

/// Who is killed in the middle of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Nobody,
    Daemon,
    Server,
}

impl Doing {
    /// The requests that it consists of.
    fn methods(self) -> &'static [&'static str] {
        match self {
            Self::List => &["PROPFIND"],
            Self::Range | Self::Whole => &["GET"],
            Self::Upload | Self::Replace => &["PUT", "MOVE"],
            Self::Rename => &["MOVE"],
            Self::Remove => &["MOVE", "DELETE"],
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::List | Self::Range | Self::Whole)
    }

    fn faults(self) -> Vec<Fault> {
        let mut all = vec![
            Fault::Slow(Duration::from_millis(300)),
            Fault::Thin(800_000),
            Fault::Hole,
            Fault::Hangup,
            Fault::Reset,
            Fault::Cut,
            Fault::Short,
            Fault::Over,
            Fault::Long,
            Fault::Answer(SLOW_DOWN),
            Fault::Burst(3),
            Fault::After(usize::from(self == Self::Whole), Box::new(Fault::Answer(WHO))),
            Fault::Meddled,
        ];
        match self {
            Self::List => {}
            Self::Range | Self::Whole => all.extend([Fault::Shifted, Fault::Lying]),
            _ => all.extend([Fault::Lost, Fault::Torn]),
        }
        all
    }
}

struct Stage {
    server: Server,
    proxy: Proxy,
    mount: Mounted,
    doing: Doing,
}

/// Where one fault is met: a folder of its own, with what its file held and is to hold.
struct Case<'a> {
    stage: &'a mut Stage,
    fault: Fault,
    killed: Killed,
    folder: String,
    old: Vec<u8>,
    new: Vec<u8>,
    theirs: Vec<u8>,
}

impl Stage {
    fn new(doing: Doing, cases: usize) -> Self {
        let server = Server::start(Product::Apache);
        let proxy = Proxy::start(server.port);
        let root = server.root().to_owned();
        // what is to be listed is made later: nobody can list it ahead
        if doing != Doing::List {
            (0..cases).for_each(|case| make_folder(&server, doing, case));
        }
        let mount = Mounted::url(
            &proxy.url(),
            &root,
            &["-o", "timeout=3s,guard=0,requests=500,min_free=64M"],
        );
        names(&mount.places.at);
        Self { server, proxy, mount, doing }
    }

    /// All of it is at the remote, and the remote is believed.
    fn settle(&self, what: &str) {
        patiently(&format!("in sync: {what}"), || {
            let mut command = dewfs();
            command
                .args(["sync", "--wait", "--timeout", "2s", "--json"])
                .arg(&self.mount.places.at);
            // A conflict copy may wait for a decision when all is sent.
            String::from_utf8_lossy(&command.output().unwrap().stdout).contains("\"in_sync\":true")
        });
    }
}

fn make_folder(server: &Server, doing: Doing, case: usize) {
    let making = format!("making{case}");
    server.make_folder(&making);
    if doing != Doing::Upload {
        let file = format!("{making}/f");
        server.put(&file, bytes(SIZE, case as u64));
        let file = File::options().write(true).open(server.root().join(file)).unwrap();
        // old enough for its version to be sure
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
    fs::rename(server.root().join(making), server.root().join(format!("c{case}"))).unwrap();
}

/// Does it, and fails the test if it takes too long.
fn in_time<T>(act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = act();
    assert!(start.elapsed() < DEADLINE, "stuck for {:?}", start.elapsed());
    done
}

/// All bytes, or the errno of the first read that fails. Bytes that come before a failure must be right, too.
fn read_all(path: &Path, may_be: &[&[u8]]) -> Result<(), Errno> {
    let outcome = in_time(|| File::open(path)).and_then(|mut open| {
        let (mut found, mut piece) = (Vec::new(), vec![0; 100_000]);
        loop {
            let read = in_time(|| open.read(&mut piece))?;
            found.extend_from_slice(&piece[..read]);
            let at = found.len();
            assert!(may_be.iter().any(|one| one.starts_with(&found)), "wrong bytes before {at}");
            if read == 0 {
                assert!(may_be.contains(&found.as_slice()), "a short file without an error");
                return Ok(());
            }
        }
    });
    outcome.map_err(|error| Errno::from_io_error(&error).unwrap())
}

fn read_range(path: &Path, may_be: &[&[u8]]) -> Result<(), Errno> {
    let (start, mut piece) = (SIZE / 2 + 77, vec![0; 50_000]);
    let outcome = in_time(|| File::open(path))
        .and_then(|open| in_time(|| open.read_exact_at(&mut piece, start as u64)));
    outcome.map_err(|error| Errno::from_io_error(&error).unwrap())?;
    let is_right = may_be.iter().any(|one| one[start..start + piece.len()] == piece);
    assert!(is_right, "wrong bytes in a range");
    Ok(())
}

fn list(path: &Path, whole: &[&[&str]]) -> Result<(), Errno> {
    let read = || -> std::io::Result<Vec<String>> {
        let entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.into_iter().map(|e| e.file_name().into_string().unwrap()).collect())
    };
    let mut found = in_time(read).map_err(|error| Errno::from_io_error(&error).unwrap())?;
    found.sort();
    assert!(whole.iter().any(|one| *one == found), "a listing that is not whole: {found:?}");
    Ok(())
}

impl Case<'_> {
    fn what(&self) -> String {
        format!("{:?}, {:?}, {:?} killed", self.stage.doing, self.fault, self.killed)
    }

    fn here(&self, name: &str) -> std::path::PathBuf {
        self.stage.mount.path(&self.folder).join(name)
    }

    fn run(mut self) {
        println!("{}", self.what());
        if self.stage.doing == Doing::List {
            eventually("its folder", || self.here("").exists());
        } else {
            eventually("its folder listed", || fs::read_dir(self.here("")).is_ok());
        }
        if self.stage.doing == Doing::Rename || self.stage.doing == Doing::Remove {
            assert!(self.here("f").exists());
        }
        self.break_it();
        match self.stage.doing.reads() {
            true => self.read(),
            false => self.write(),
        }
        self.mend();
        self.settled();
    }

    fn break_it(&self) {
        let methods = self.stage.doing.methods();
        if self.fault != Fault::Meddled {
            return self.stage.proxy.set(self.fault.clone(), methods);
        }
        let name = if self.stage.doing == Doing::List { "g" } else { "f" };
        let path = self.stage.server.root().join(&self.folder).join(name);
        let theirs = self.theirs.clone();
        // the server's user can read it, and may replace and remove it: the folder is its own
        self.stage.proxy.meddle(methods, move || {
            let beside = path.with_extension("theirs");
            fs::write(&beside, theirs).unwrap();
            fs::rename(beside, path).unwrap();
        });
    }

    /// Reads under the fault, in the background while somebody is killed.
    fn read(&mut self) {
        let reader = {
            let (doing, path) = (self.stage.doing, self.here("f"));
            let folder = self.here("");
            let may_be = [self.old.clone(), self.theirs.clone()];
            std::thread::spawn(move || {
                let may_be = [may_be[0].as_slice(), may_be[1].as_slice()];
                match doing {
                    Doing::List => list(&folder, &[&["f"], &["f", "g"]]),
                    Doing::Range => read_range(&path, &may_be),
                    _ => read_all(&path, &may_be),
                }
            })
        };
        let what = format!("met: {}", self.what());
        eventually(&what, || self.stage.proxy.count() > 0 || reader.is_finished());
        self.kill();
        eventually("the reader's end", || reader.is_finished());
        let outcome = reader.join().unwrap_or_else(|panic| {
            eprintln!("in {}", self.what());
            std::panic::resume_unwind(panic)
        });
        assert!(self.stage.proxy.count() > 0, "not met: {}", self.what());
        if let Err(errno) = outcome {
            let is_clear =
                CLEAR.contains(&errno) || (self.killed == Killed::Daemon && GONE.contains(&errno));
            assert!(is_clear, "{errno:?}: {}", self.what());
        }
    }

    /// Acknowledged before anything of it reaches the server.
    fn write(&mut self) {
        match self.stage.doing {
            Doing::Upload | Doing::Replace => in_time(|| fs::write(self.here("f"), &self.new)),
            Doing::Rename => in_time(|| fs::rename(self.here("f"), self.here("to"))),
            _ => in_time(|| fs::remove_file(self.here("f"))),
        }
        .unwrap();
        let what = format!("met: {}", self.what());
        eventually(&what, || self.stage.proxy.count() > 0);
        self.kill();
    }

    fn kill(&mut self) {
        match self.killed {
            Killed::Nobody => {}
            Killed::Daemon => self.stage.mount.kill(),
            Killed::Server => self.stage.server.kill(),
        }
    }

    fn mend(&mut self) {
        if self.killed == Killed::Server {
            self.stage.server.start_again();
        }
        self.stage.proxy.heal();
        if self.killed == Killed::Daemon {
            self.stage.mount.mount();
        }
    }

    /// What must be there in the end, by name; of a conflict both contents under any names.
    fn settled(&self) {
        let stage = &*self.stage;
        let (old, new, theirs) = (self.old.as_slice(), self.new.as_slice(), self.theirs.as_slice());
        let is_meddled = self.fault == Fault::Meddled;
        let mut expected: Vec<(Option<&str>, &[u8])> = match stage.doing {
            Doing::List if is_meddled => vec![(Some("f"), old), (Some("g"), theirs)],
            Doing::Range | Doing::Whole if is_meddled => vec![(Some("f"), theirs)],
            Doing::List | Doing::Range | Doing::Whole => vec![(Some("f"), old)],
            Doing::Upload | Doing::Replace if is_meddled => vec![(Some("f"), theirs), (None, new)],
            Doing::Upload | Doing::Replace => vec![(Some("f"), new)],
            Doing::Rename if is_meddled => vec![(None, theirs)],
            Doing::Rename => vec![(Some("to"), old)],
            Doing::Remove if is_meddled => vec![(Some("f"), theirs)],
            Doing::Remove => vec![],
        };
        expected.sort();
        stage.settle(&self.what());
        let there = stage.server.root().join(&self.folder);
        let mut last = String::new();
        patiently(&format!("what was expected: {}", self.what()), || {
            let (seen, shown) = (contents(&there), contents(&self.here("")));
            let is_right = matches(&seen, &expected) && seen == shown;
            let said = format!("there {:?}, here {:?}", names_of(&seen), names_of(&shown));
            if !is_right && said != last {
                eprintln!("{}: {said}", self.what());
                last = said;
            }
            is_right
        });
    }
}

type Contents = Vec<(String, Vec<u8>)>;

/// What is in a folder, with everything hidden; nothing where it cannot be read just now.
fn contents(folder: &Path) -> Contents {
    let read = || -> std::io::Result<Contents> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap();
            // what a killed Apache leaves, and hides
            if !name.starts_with(".davfs.tmp") {
                all.push((name, fs::read(entry.path())?));
            }
        }
        Ok(all)
    };
    let mut all = read().unwrap_or_default();
    all.sort();
    all
}

fn names_of(all: &Contents) -> Vec<(&str, usize)> {
    all.iter().map(|(name, bytes)| (name.as_str(), bytes.len())).collect()
}

/// Whether these are the contents, each once, under the names that are told.
fn matches(found: &Contents, expected: &[(Option<&str>, &[u8])]) -> bool {
    let mut left: Vec<_> = found.iter().collect();
    for (name, content) in expected.iter().rev() {
        let is_it =
            |one: &&(String, Vec<u8>)| one.1 == *content && name.is_none_or(|name| name == one.0);
        let Some(at) = left.iter().position(is_it) else { return false };
        left.remove(at);
    }
    left.is_empty()
}

/// S1 "When `close` of a written file has returned, its bytes survive a killed daemon, and arrive on the remote later."
/// S14 "An answer of the wrong length, of another range, or cut short gives the right bytes after another try, or an
/// error; never short, shifted or zero-filled data."
/// S21 "A program that waits for the remote gets an answer at the latest 30 seconds (`timeout=`) after the last
/// progress: `ETIMEDOUT`, or `EHOSTDOWN` at once-ish (2 seconds) while the remote is known to be away."
fn everything_goes_wrong_while(doing: Doing, killed: Killed) {
    let faults = doing.faults();
    let mut stage = Stage::new(doing, faults.len());
    let (mut tried, start) = (0, Instant::now());
    for (number, fault) in faults.into_iter().enumerate() {
        let seed = number as u64;
        if doing == Doing::List {
            make_folder(&stage.server, doing, number);
        }
        let case = Case {
            stage: &mut stage,
            fault,
            killed,
            folder: format!("c{number}"),
            old: bytes(SIZE, seed),
            new: bytes(SIZE - 1_000, seed + 1_000),
            theirs: bytes(SIZE + 1_000, seed + 2_000),
        };
        case.run();
        tried += 1;
    }
    println!("{tried} faults in {:?}", start.elapsed());
    tried::tried(tried, "faults between a mount and a server");
}

macro_rules! matrix {
    ($($name:ident: $doing:ident;)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn every_fault() {
                everything_goes_wrong_while(Doing::$doing, Killed::Nobody);
            }

            #[test]
            fn every_fault_and_the_daemon_killed() {
                everything_goes_wrong_while(Doing::$doing, Killed::Daemon);
            }

            #[test]
            fn every_fault_and_the_server_killed() {
                everything_goes_wrong_while(Doing::$doing, Killed::Server);
            }
        }
    )* };
}

matrix! {
    listing: List;
    reading_a_range: Range;
    reading_all: Whole;
    uploading: Upload;
    replacing: Replace;
    renaming: Rename;
    removing: Remove;
}

/// All of a large file comes before its first read returns, or before room in it is reserved, however long that takes: they
/// failed although bytes were coming.
#[test]
fn regression_what_comes_slowly_is_waited_for() {
    let server = Server::start(Product::Apache);
    let proxy = Proxy::start(server.port);
    let content = bytes(8_400_000, 1);
    for name in ["read", "reserved"] {
        server.put(name, &content);
    }
    let options = ["-o", "timeout=2s,hydration=full,min_free=64M"];
    let mount = Mounted::url(&proxy.url(), server.root(), &options);
    names(&mount.places.at);
    proxy.set(Fault::Thin(450_000), &["GET"]);
    let begun = Instant::now();
    std::thread::scope(|both| {
        both.spawn(|| assert!(fs::read(mount.path("read")).unwrap() == content));
        both.spawn(|| {
            let file = File::options().write(true).open(mount.path("reserved")).unwrap();
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 9_000_000)
                .unwrap();
            assert_eq!(file.metadata().unwrap().len(), 9_000_000);
        });
    });
    // Four times the deadline is what other requests have, and the kernel asks twice for what it could not read.
    assert!(begun.elapsed() > Duration::from_secs(16), "{:?}", begun.elapsed());
}
