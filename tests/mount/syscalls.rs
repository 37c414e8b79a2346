//! How many system calls the daemon makes for what programs do most, held to what `docs/performance.md` says.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::mount::{self, Mounted, said};
use rustix::process::{Pid, Signal, kill_process};

/// How often each is done: what the daemon does besides is little beside it.
const TIMES: u32 = 400;

/// Nothing rests for less than the test lasts.
const QUIET: [&str; 2] = ["-o", "poll=1h,write_back_delay=1h,min_free=0"];

/// What waits, wakes or takes memory, and the sum of all.
const BESIDE: [&str; 15] = [
    "futex",
    "epoll_wait",
    "epoll_pwait",
    "restart_syscall",
    "sched_yield",
    "clock_nanosleep",
    "ppoll",
    "poll",
    "mprotect",
    "madvise",
    "mmap",
    "munmap",
    "brk",
    "clone3",
    "total",
];

/// strace, attached to a daemon.
struct Strace {
    child: Child,
    at: std::path::PathBuf,
}

impl Strace {
    fn of(mount: &Mounted) -> Self {
        let output = mount::dewfs().args(["status", "--json"]).arg(&mount.places.at).output();
        let output = output.unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let at = mount.places.at.with_extension("strace");
        let mut child = Command::new("strace")
            .args(["-f", "-c", "-U", "calls,name", "-o"])
            .arg(&at)
            .args(["-p", &status["pid"].to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            assert!(told.read_line(&mut line).unwrap() > 0, "strace did not attach");
        }
        // It tells of threads that begin later, too, and must not wait for a reader.
        std::thread::spawn(move || told.read_to_end(&mut Vec::new()));
        Self { child, at }
    }

    /// The calls since then, but for those that wait or take memory: these depend on what else the machine does.
    fn count(mut self) -> (u32, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap();
        let table = fs::read_to_string(&self.at).unwrap();
        let calls = table.lines().filter_map(|line| {
            let (calls, name) = line.trim().split_once(' ')?;
            (!BESIDE.contains(&name)).then(|| calls.parse::<u32>().ok())?
        });
        (calls.sum(), table)
    }
}

/// The calls for one of these, by what the page says of it, and as counted.
fn held(what: &str, mount: &Mounted, mut act: impl FnMut(u32)) {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md"));
    let page = page.unwrap();
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")));
    let row = row.unwrap_or_else(|| panic!("the page has no row: {what}"));
    let limit: f64 = row.split('|').next().unwrap().trim().parse().unwrap();
    let strace = Strace::of(mount);
    (0..TIMES).for_each(&mut act);
    let (calls, table) = strace.count();
    let each = f64::from(calls) / f64::from(TIMES);
    eprintln!("{what}: {each:.2} of {limit}");
    // How many changes go into one transaction depends on the machine; much less is news for the page.
    assert!(each <= limit * 1.25 + 0.5, "{what}: {each} instead of {limit}\n{table}");
    assert!(each >= limit * 0.5 - 0.5, "{what}: {each} only, the page says {limit}\n{table}");
}

fn strace_is_here() -> bool {
    let here = Command::new("strace").arg("-V").output();
    let may = rustix::process::geteuid().is_root();
    if here.is_err() || !may {
        eprintln!("NOT RUN: it needs strace, and root");
    }
    here.is_ok() && may
}

fn filled(options: &[&str]) -> Mounted {
    let options = [&QUIET[..], options].concat();
    let mut mount = Mounted::with(&options, |remote| {
        fs::create_dir(remote.join("folder")).unwrap();
        for number in 0..TIMES {
            fs::write(remote.join(format!("folder/f{number}")), [7; 4096]).unwrap();
        }
    });
    let output = mount::dewfs().arg("hydrate").arg(mount.path("folder")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // The kernel has forgotten all of it.
    mount.remount();
    let output = mount::dewfs().args(["sync", "--wait"]).arg(&mount.places.at).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    mount
}

#[test]
fn lookups_reads_and_creates_make_no_more_system_calls_than_written_down() {
    if !strace_is_here() {
        return;
    }
    let mount = filled(&["-o", "passthrough=off"]);
    let file = |number: u32| mount.path(format!("folder/f{number}"));
    held("first `stat` of a name, from the catalog", &mount, |number| {
        assert_eq!(fs::metadata(file(number)).unwrap().len(), 4096);
    });
    held("`stat` of a name once more", &mount, |number| {
        assert_eq!(fs::metadata(file(number)).unwrap().len(), 4096);
    });
    held("open, read 4 KiB, close, through the daemon", &mount, |number| {
        assert_eq!(fs::read(file(number)).unwrap(), [7; 4096]);
    });
    held("open, read the same once more, close", &mount, |number| {
        assert_eq!(fs::read(file(number)).unwrap(), [7; 4096]);
    });
    let open = File::open(file(0)).unwrap();
    held("read again from a file that is open", &mount, |_| {
        open.read_exact_at(&mut [0; 4096], 0).unwrap();
    });
    held("create and close", &mount, |number| {
        File::create_new(mount.path(format!("folder/new-{number}"))).unwrap();
    });
}

/// Of a large folder the kernel was given attributes with the first page only: find looked each of the others up by itself.
#[test]
fn of_a_large_folder_names_and_attributes_come_by_pages() {
    if !strace_is_here() {
        return;
    }
    let mount = filled(&[]);
    let mut found = Vec::new();
    held("name and `stat` of one of 400 in a folder that is read", &mount, |number| {
        if number == 0 {
            let entries = fs::read_dir(mount.path("folder")).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
            assert_eq!(found.len(), TIMES as usize);
        }
        assert_eq!(fs::metadata(&found[number as usize]).unwrap().len(), 4096);
    });
}

#[test]
fn a_folder_that_is_read_again_is_only_opened_and_closed() {
    if !strace_is_here() {
        return;
    }
    // So many that the close of one has been heard of when its turn comes again: only then the kernel's copy is used.
    const FOLDERS: u32 = 8;
    let mut mount = Mounted::with(&QUIET, |remote| {
        for number in 0..FOLDERS {
            fs::create_dir(remote.join(format!("d{number}"))).unwrap();
            fs::write(remote.join(format!("d{number}/file")), "").unwrap();
        }
    });
    let read = |mount: &Mounted, number: u32| {
        let folder = mount.path(format!("d{}", number % FOLDERS));
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    };
    (0..FOLDERS).for_each(|number| read(&mount, number));
    // Of what was listed just now the kernel may be told once more.
    mount.remount();
    (0..2 * FOLDERS).for_each(|number| read(&mount, number));
    held("a folder read once more", &mount, |number| read(&mount, number));
}

#[test]
fn with_passthrough_a_read_makes_no_system_call() {
    if !strace_is_here() {
        return;
    }
    let mount = filled(&[]);
    let output = mount::dewfs().args(["status", "--json"]).arg(&mount.places.at).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    if status["passthrough"] != true {
        eprintln!("NOT RUN: no passthrough here: {}", status["passthrough_reason"]);
        return;
    }
    let file = |number: u32| mount.path(format!("folder/f{number}"));
    (0..TIMES).for_each(|number| assert_eq!(fs::metadata(file(number)).unwrap().len(), 4096));
    held("open, read 4 KiB, close, with passthrough", &mount, |number| {
        assert_eq!(fs::read(file(number)).unwrap(), [7; 4096]);
    });
    held("create, write 4 KiB, close, with passthrough", &mount, |number| {
        fs::write(mount.path(format!("folder/new-{number}")), [7; 4096]).unwrap();
    });
    let open = File::open(file(0)).unwrap();
    held("read from an open file with passthrough", &mount, |_| {
        open.read_exact_at(&mut [0; 4096], 0).unwrap();
    });
}

/// Heaps that threads of a process have besides the first one: they begin at multiples of 64 MiB.
fn heaps(pid: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let is_heap = |line: &&str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let start = words[0].split('-').next().unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        words[1] == "rw-p" && words.len() == 5 && start.is_multiple_of(64 << 20)
    };
    maps.lines().filter(is_heap).count()
}

/// Each heap keeps what no other thread can use: a dozen threads had a fifth of the daemon's memory in them.
#[test]
fn the_threads_of_the_daemon_share_their_heaps() {
    let mount = Mounted::with(&QUIET, |remote| {
        for folder in 0..8 {
            fs::create_dir(remote.join(format!("d{folder}"))).unwrap();
            for file in 0..50 {
                fs::write(remote.join(format!("d{folder}/{file}")), b"some").unwrap();
            }
        }
    });
    std::thread::scope(|scope| {
        for folder in 0..8 {
            let folder = mount.path(format!("d{folder}"));
            scope.spawn(move || {
                for entry in fs::read_dir(&folder).unwrap() {
                    assert_eq!(fs::read(entry.unwrap().path()).unwrap(), b"some");
                }
                fs::write(folder.join("new"), b"new").unwrap();
            });
        }
    });
    let heaps = heaps(mount.pid());
    assert!(heaps <= 1, "{heaps} heaps besides the first one");
}
