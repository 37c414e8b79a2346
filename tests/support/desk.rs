//! A mount in a directory of its own, and the program to ask it with.
#![allow(dead_code)]

use super::wait::{self, LIMIT};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::elsewhere;
use super::shapes::assert_shape;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_dewfs");

/// A mount of a folder, in a directory of its own that goes away with it.
pub struct Desk {
    pub home: PathBuf,
    spec: String,
    _dir: tempfile::TempDir,
}

impl Desk {
    /// A place with `remote`, not mounted yet.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("dewfs-commands-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let home = dir.path().canonicalize().unwrap();
        for name in ["remote/folder", "mnt"] {
            std::fs::create_dir_all(home.join(name)).unwrap();
        }
        std::fs::write(home.join("remote/hello.txt"), "hello\n").unwrap();
        std::fs::write(home.join("remote/big"), vec![7; 3 << 20]).unwrap();
        std::fs::write(home.join("remote/folder/deep"), "deep\n").unwrap();
        Self { home, spec: "remote".into(), _dir: dir }
    }

    /// A place whose mount is of another remote.
    pub fn of(spec: &str) -> Self {
        let mut desk = Self::new();
        desk.spec = spec.to_owned();
        desk
    }

    pub fn mounted() -> Self {
        let desk = Self::new();
        desk.mount();
        desk
    }

    pub fn mount(&self) {
        let output = self.dewfs(&["mount", &self.spec, "mnt", "-o", &self.options()]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }

    pub fn options(&self) -> String {
        format!("state_dir={},write_back_delay=100ms,poll=1s", self.at("state").display())
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.current_dir(&self.home).env("XDG_CONFIG_HOME", self.at("config"));
        command.env("XDG_STATE_HOME", self.at("states"));
        command
    }

    pub fn dewfs<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs what must end with `status` and answers what it printed.
    pub fn run(&self, status: i32, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = self.dewfs(&words);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", told(&output));
        told(&output)
    }

    /// What a shell prints that is told this line.
    pub fn shell(&self, line: &str) -> String {
        let output =
            Command::new("sh").args(["-c", line]).current_dir(&self.home).output().unwrap();
        told(&output)
    }

    /// The documents that a command prints, each of the shape of the page.
    pub fn json(&self, status: i32, words: &str) -> Vec<Value> {
        let words: Vec<&str> = words.split_whitespace().chain(["--json"]).collect();
        let output = self.dewfs(&words);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", told(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().for_each(assert_shape);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn item(&self, path: &str) -> Value {
        self.json(0, &format!("status {path}")).remove(0)
    }

    /// The notes of states of this desk in the usual place of states.
    pub fn noted(&self, state: &str) -> Vec<PathBuf> {
        elsewhere::noted_below(&self.at(state), Some(&self.at("states")))
    }

    pub fn is_mounted(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        // It may be a link.
        let at = std::fs::read_link(self.at("mnt")).map_or(self.at("mnt"), |to| self.home.join(to));
        mounts.contains(&format!(" {} fuse.dewfs ", at.display()))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.is_mounted() {
            let _tried = self.dewfs(&["umount", "--no-wait", "mnt"]);
        }
        if self.is_mounted() {
            let _tried = Command::new("umount").arg("-l").arg(self.at("mnt/")).status();
        }
        // Root's are not in the place that a command is given.
        if rustix::process::geteuid().is_root() {
            elsewhere::forget_below(&self.home);
        }
    }
}

pub fn told(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

pub fn until(what: &str, holds: impl FnMut() -> bool) {
    wait::until(LIMIT, what, holds);
}
