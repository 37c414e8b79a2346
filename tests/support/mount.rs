//! A real mount, of a folder remote or of the address of a server, through the real program, in a temporary place; gone again when it is dropped.

#![allow(dead_code)]

use super::wait;
pub(crate) use super::wait::LIMIT;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use dewfs::fuse::mountinfo;
use tempfile::TempDir;

use super::elsewhere;

/// The file system type that statfs(2) tells of FUSE.
const FUSE: i64 = 0x6573_5546;

/// The program under test; a test that runs as another user finds it at another place.
pub(crate) fn dewfs() -> Command {
    let elsewhere = std::env::var_os("DEWFS_TEST_PROGRAM");
    let mut command = Command::new(elsewhere.unwrap_or(env!("CARGO_BIN_EXE_dewfs").into()));
    command.stdin(Stdio::null());
    command
}

/// Waits until `condition` holds; fails the test, naming `what`, when it does not in time.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    wait::until(LIMIT, what, condition);
}

/// The same where all must come to rest: after each failure the next try is made later, and other tests run beside this one.
pub(crate) fn patiently(what: &str, condition: impl FnMut() -> bool) {
    wait::until(Duration::from_secs(90), what, condition);
}

/// The errno of a failed operation.
pub(crate) fn errno<T: std::fmt::Debug>(outcome: std::io::Result<T>) -> i32 {
    outcome.unwrap_err().raw_os_error().unwrap()
}

/// Bytes that differ from place to place and can be told from each other.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Temporary places for remote, mountpoint and state.
pub(crate) struct Places {
    /// What is mounted: the directory `remote`, or the address of a server that serves it.
    pub(crate) spec: OsString,
    pub(crate) remote: PathBuf,
    pub(crate) at: PathBuf,
    pub(crate) state: PathBuf,
    /// Removed last: everything lies in it.
    dir: TempDir,
}

impl Places {
    pub(crate) fn new() -> Self {
        // Not /tmp: it may be a memory disk, whose files have no holes to speak of.
        let elsewhere = std::env::var_os("DEWFS_TEST_FILES");
        let dir = elsewhere.unwrap_or(env!("CARGO_TARGET_TMPDIR").into());
        let dir = tempfile::tempdir_in(dir).unwrap();
        let place = |name: &str| {
            let place = dir.path().canonicalize().unwrap().join(name);
            fs::create_dir(&place).unwrap();
            place
        };
        let remote = place("remote");
        Self { spec: remote.clone().into(), remote, at: place("mnt"), state: place("state"), dir }
    }

    /// `dewfs mount REMOTE DIR -o state_dir=…` with further options.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = dewfs();
        command.arg("mount").arg(&self.spec).arg(&self.at);
        command.arg("-o").arg(format!("state_dir={}", self.state.display()));
        command.args(options);
        command
    }

    pub(crate) fn is_mounted(&self) -> bool {
        mountinfo::at(&self.at).unwrap().is_some_and(|mount| mount.is_dewfs())
    }

    /// Unmounts what is there, if anything, however it is.
    pub(crate) fn detach(&self) {
        while self.is_mounted() {
            dewfs::fuse::unmount(&self.at).unwrap();
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.detach();
        elsewhere::forget_below(self.state.parent().unwrap());
    }
}

/// A mount in use.
pub(crate) struct Mounted {
    pub(crate) places: Places,
    options: Vec<String>,
    daemon: Option<Child>,
}

impl Mounted {
    /// Mounts an empty remote.
    pub(crate) fn empty() -> Self {
        Self::with(&[], |_| {})
    }

    /// Mounts a remote that `fill` has filled.
    pub(crate) fn of(fill: impl FnOnce(&Path)) -> Self {
        Self::with(&[], fill)
    }

    /// The same with options.
    pub(crate) fn with(options: &[&str], fill: impl FnOnce(&Path)) -> Self {
        let places = Places::new();
        fill(&places.remote);
        Self::at(places, options)
    }

    /// Mounts the address of a server that serves `root`.
    pub(crate) fn url(url: &str, root: &Path, options: &[&str]) -> Self {
        let mut places = Places::new();
        places.spec = url.into();
        places.remote = root.to_owned();
        Self::at(places, options)
    }

    /// Mounts what these places say.
    pub(crate) fn at(places: Places, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut mounted = Self { places, options, daemon: None };
        mounted.mount();
        mounted
    }

    /// A path in the mount.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.places.at.join(name)
    }

    /// The same path at the remote.
    pub(crate) fn remote(&self, name: impl AsRef<Path>) -> PathBuf {
        self.places.remote.join(name)
    }

    /// Mounts (again) and waits until it can be used.
    pub(crate) fn mount(&mut self) {
        let mut options = vec!["-o", "poll=500ms,write_back_delay=10ms"];
        // All of it has to hold with the kernel's own reading and writing, and without.
        let passthrough = std::env::var("DEWFS_TEST_PASSTHROUGH")
            .map(|switch| format!("passthrough={switch}"))
            .unwrap_or_default();
        if !passthrough.is_empty() {
            options.extend(["-o", &passthrough]);
        }
        options.extend(self.options());
        let log = self.places.at.with_extension("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut daemon = self.places.command(&options).arg("-f").stderr(log).spawn().unwrap();
        eventually("the mount", || {
            if let Some(status) = daemon.try_wait().unwrap() {
                panic!("dewfs mount -f ended with {status}:\n{}", self.log());
            }
            // What a killed daemon left is a mount as well, but no room is known of it; once it is gone, and before the new
            // one is there, the room is that of the bare directory.
            rustix::fs::statfs(&self.places.at).is_ok_and(|room| room.f_type == FUSE)
        });
        self.daemon = Some(daemon);
    }

    fn options(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(String::as_str)
    }

    /// The next mount has these options instead.
    pub(crate) fn options_replaced(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
    }

    /// What the daemon logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.places.at.with_extension("log")).unwrap_or_default()
    }

    /// Unmounts and waits until the daemon has ended.
    pub(crate) fn unmount(&mut self) {
        self.places.detach();
        self.end();
    }

    /// Unmounts; the daemon may take its time to end, since the kernel ends no process of which a request is under way.
    pub(crate) fn leave(&mut self) -> Child {
        self.places.detach();
        self.daemon.take().unwrap()
    }

    /// Unmounts and mounts again.
    pub(crate) fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    /// Kills the daemon at once.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The daemon's number.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Asks the daemon to end by a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let daemon = self.daemon.as_ref().unwrap();
        let pid = rustix::process::Pid::from_child(daemon);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Stops the daemon in its tracks: a signal takes a while to reach all threads, in which they still answer.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        let threads = format!("/proc/{}/task", self.daemon.as_ref().unwrap().id());
        eventually("it stands still", || {
            fs::read_dir(&threads).unwrap().all(|thread| {
                let status = fs::read_to_string(thread.unwrap().path().join("stat"));
                status.unwrap_or_default().rsplit(") ").next().is_some_and(|is| is.starts_with('T'))
            })
        });
    }

    /// Waits for the daemon's end.
    pub(crate) fn end(&mut self) {
        let _code = self.ended();
    }

    /// The same; answers its exit status, if it has one.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take()?;
        let mut status = None;
        eventually("the end of the daemon", || {
            status = daemon.try_wait().unwrap();
            status.is_some()
        });
        status?.code()
    }

    /// Waits until the remote has exactly this content under this name.
    pub(crate) fn arrives(&self, name: impl AsRef<Path>, content: &[u8]) {
        let there = self.remote(name.as_ref());
        eventually(&format!("{} at the remote", there.display()), || {
            fs::read(&there).is_ok_and(|found| found == content)
        });
    }

    /// Waits until the mount shows exactly this content under this name.
    pub(crate) fn shows(&self, name: impl AsRef<Path>, content: &[u8]) {
        let here = self.path(name.as_ref());
        eventually(&format!("{} in the mount", here.display()), || {
            fs::read(&here).is_ok_and(|found| found == content)
        });
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pending = dewfs().args(["status", "--pending"]).arg(&self.places.at).output();
            let pending =
                pending.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("--- not in sync:\n{}", pending.unwrap_or_default());
            eprintln!("--- the daemon's log:\n{}", self.log());
        }
        self.places.detach();
        if let Some(mut daemon) = self.daemon.take() {
            let mut ended = || !daemon.try_wait().is_ok_and(|status| status.is_none());
            if !wait::holds_within(LIMIT, &mut ended) {
                drop(daemon.kill());
                drop(daemon.wait());
            }
        }
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The inode number.
pub(crate) fn ino(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// What a program printed on standard error, for messages.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
