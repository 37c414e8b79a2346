//! The program from outside, without a mount: words, exit statuses, help, JSON shapes, one line for what is wrong.

mod found;
mod pages;

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::shapes::assert_shape;

/// A program that sees no configuration of this machine's user.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["config/dewfs/remotes", "remote", "mnt"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dewfs"));
        command
            .current_dir(self.dir.path())
            .env("XDG_CONFIG_HOME", self.at("config"))
            .env("XDG_STATE_HOME", self.at("state"))
            .env_remove("DEWFS_PASSWORD")
            .env_remove("DEWFS_TOKEN");
        command
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs what must fail with `status` and one line on stderr, and answers the line.
    fn refused(&self, status: i32, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = self.run(&words);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{words:?}: {line}");
        assert!(line.starts_with("dewfs: "), "{words:?}: {line}");
        assert!(output.stdout.is_empty(), "{words:?}");
        line
    }
}

const COMMANDS: [&str; 32] = [
    "mount",
    "umount",
    "status",
    "sync",
    "ls",
    "hydrate",
    "free",
    "pin",
    "unpin",
    "why",
    "conflicts",
    "resolve",
    "held",
    "release",
    "undo",
    "find",
    "du",
    "largest",
    "recent",
    "pause",
    "resume",
    "watch",
    "cache",
    "setup",
    "remove",
    "login",
    "logout",
    "remote",
    "serve",
    "doctor",
    "completions",
    "man",
];

#[test]
fn every_command_helps() {
    let desk = Desk::new();
    let root = String::from_utf8(desk.run(&["--help"]).stdout).unwrap();
    let listed = root.split("Commands:\n").nth(1).unwrap().lines();
    let listed = listed.take_while(|line| line.starts_with("  ")).count();
    assert_eq!(listed, COMMANDS.len(), "{root}");
    for command in COMMANDS {
        assert!(root.contains(&format!("\n  {command} ")), "{command} in the list");
        for help in ["-h", "--help"] {
            let output = desk.run(&[command, help]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0), "{command}");
            assert!(text.contains("Usage: dewfs"), "{command}: {text}");
            for flag in ["--json", "--quiet", "--verbose", "--config", "--color", "--no-progress"] {
                assert!(text.contains(flag), "{command}: {flag}");
            }
        }
    }
    let version = String::from_utf8(desk.run(&["-V"]).stdout).unwrap();
    assert_eq!(version.trim(), format!("dewfs {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_has_colours_where_it_was_told_to() {
    let desk = Desk::new();
    let colored = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        desk.run(&words).stdout.contains(&0x1b)
    };
    for always in ["--color always --help", "status --help --color=always"] {
        assert!(colored(always), "{always}");
    }
    for never in ["--help", "--color never --help", "--color=always --help --color never"] {
        assert!(!colored(never), "{never}");
    }
}

#[test]
fn wrong_usage_is_2_and_named_in_one_line() {
    let desk = Desk::new();
    std::fs::write(desk.at("config/dewfs/file"), "").unwrap();
    for (words, named) in [
        ("staus", "staus"),
        ("status --jso", "--jso"),
        ("mount", "<SPEC>"),
        ("mount ./remote", "say where to mount it"),
        ("sync --wait --timeout soon", "soon"),
        ("hydrate", "<PATH>"),
        ("completions tcsh", "tcsh"),
        ("status --check --short", "--short"),
        ("--color blue status", "blue"),
        ("mount ./remote mnt -o cache-size=1G", "nearest is cache_size"),
        ("mount ./remote mnt -o vfs-cache-max-size=1G", "cache_size="),
        ("mount ./remote mnt -o dir_refresh=5", "poll="),
        ("mount ./remote mnt -o frobnicate", "frobnicate"),
        ("mount ./remote mnt -o verify=off", "not available in this version"),
        ("mount s3://bucket mnt", "not available in this version"),
        ("mount ftp://h/ mnt", "ftp"),
        ("mount https://a:secretword@h/ mnt", "credentials=FILE"),
        ("mount ./remote mnt -o vfs-cache-max-age=1h", "dewfs says auto_free=30d"),
        ("mount ./remote mnt -o no_checksum", "dewfs needs none: "),
        ("mount ./remote mnt -o foo", "unknown option foo; mount.dewfs(8)"),
        ("pause mnt --lane x", "see dewfs pause --help"),
        ("umount mnt --timeout soon", "see dewfs umount --help"),
        ("largest mnt -N x", "a whole number is needed; see dewfs largest --help"),
        ("find mnt [", "pattern '['"),
        ("setup Cloud ./remote --password-stdin --yes", "leave --password-stdin out"),
        ("setup Cloud ./remote --keyring --yes", "leave --keyring out"),
        ("serve config/dewfs/file", "name a directory"),
        ("mount nowhere mnt", "./nowhere"),
        ("mount nope: mnt", "nope"),
        ("mount ./remote mnt --config none.toml", "none.toml"),
        ("remote test s3://x", "not available in this version"),
        ("serve", "<DIR>"),
        ("serve . --listen nowhere", "nowhere"),
        ("serve . --listen 0.0.0.0:0", "--credentials"),
    ] {
        let line = desk.refused(2, words);
        assert!(line.contains(named), "{words}: {line}");
        assert!(!line.contains("secretword"), "{line}");
    }
    assert!(desk.refused(2, "frobnicate").ends_with("; see dewfs --help\n"));
    assert!(desk.refused(2, "cache stat --all x").ends_with("; see dewfs cache stat --help\n"));
}

#[test]
fn the_manner_of_mount_has_its_exit_statuses() {
    let desk = Desk::new();
    for (status, words, named) in [
        (1, "./remote mnt -o frobnicate", "frobnicate"),
        (1, "./remote", "where to mount"),
        (1, "./remote mnt extra", "extra"),
        (1, "ftp://h/ mnt", "ftp"),
        (32, "./remote mnt -o remount,ro", "remount"),
        (32, "./remote none", "none"),
        (32, "./remote remote/in", "one lies in the other"),
        (32, "http://127.0.0.1:9/ mnt", "cannot be reached (Connection refused"),
    ] {
        let line = desk.refused(status, words);
        assert!(line.contains(named), "{words}: {line}");
    }
}

#[test]
fn mountpoints_that_will_not_do_are_named() {
    let desk = Desk::new();
    std::fs::write(desk.at("file"), "").unwrap();
    std::fs::create_dir(desk.at("full")).unwrap();
    std::fs::write(desk.at("full/x"), "").unwrap();
    let state = format!("-o state_dir={}", desk.at("state/one").display());
    for (words, named) in [
        (format!("mount ./remote none {state}"), "none"),
        (format!("mount ./remote file {state}"), "file"),
        (format!("mount ./remote full {state}"), "nonempty"),
        (format!("mount ./gone mnt {state}"), "gone"),
        ("mount ./remote mnt -o state_dir=mnt/state".into(), "one lies in the other"),
        ("mount ./remote mnt -o state_dir=remote/state".into(), "one lies in the other"),
        ("mount /  mnt".into(), "one lies in the other"),
    ] {
        let line = desk.refused(1, &words);
        assert!(line.contains(named), "{words}: {line}");
    }
    assert_eq!(std::fs::read_dir(desk.at("full")).unwrap().count(), 1);
}

#[test]
fn a_path_in_no_mount_is_named() {
    let desk = Desk::new();
    for words in [
        "umount mnt",
        "status mnt",
        "ls mnt",
        "sync mnt",
        "why mnt/x",
        "free mnt/x",
        "pin mnt",
        "cache stat mnt",
    ] {
        let line = desk.refused(1, words);
        assert!(line.contains("mnt") && line.contains("not in a dewfs mount"), "{line}");
    }
}

/// A server that gives everybody this answer.
fn answering(answer: &'static str) -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            drop(stream.read(&mut [0; 4096]));
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    at
}

/// What people meet first: what happened, to what, and what to do.
#[test]
fn what_cannot_be_mounted_is_named_with_the_way_out() {
    let desk = Desk::new();
    let page = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let closed = answering(
        "HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let denied = answering("HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let ill = answering("HTTP/1.1 500 Ill\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    std::fs::write(desk.at("config/dewfs/remotes/ill.toml"), "mountpoint = '/x'\n").unwrap();
    for (status, remote, said, way_out) in [
        (1, "./gone".into(), "gone: not found", "look at the spelling"),
        (
            1,
            "http://127.0.0.1:9/".into(),
            "cannot be reached (Connection refused",
            "nobody answers",
        ),
        (1, "https://nowhere.invalid/".into(), "cannot be reached (", "no such host is known"),
        (1, format!("https://{page}/"), "cannot be reached (", "the server does not speak TLS"),
        (1, format!("http://{page}/"), "is served, but not as a WebDAV folder", "/dav/"),
        (
            1,
            format!("http://{denied}/"),
            "denied by the remote (answered 403",
            "who you sign in as",
        ),
        (1, format!("http://{ill}/"), "cannot serve this now (answered 500", "try again later"),
        (4, format!("http://{closed}/"), "sign-in needed (answered 401", "dewfs login NAME"),
        (2, "nas:".into(), "nas: no saved remote of this name", "dewfs setup nas"),
        (2, "ill:".into(), "remotes/ill.toml: spec is missing", "such as \"https://"),
    ] {
        let mut lines = vec![desk.refused(status, &format!("mount {remote} mnt"))];
        if !remote.ends_with(':') && !remote.starts_with('.') {
            lines.push(desk.refused(status, &format!("remote test {remote}")));
        }
        for line in lines {
            let about = remote.trim_start_matches("./");
            assert!(line.matches(about).count() == 1 || about == "ill:", "{line}");
            assert!(line.contains(said) && line.contains(way_out), "{line}");
            let layers = ["open /", "error sending", "client error", "dns error", "tcp connect"];
            assert!(!layers.iter().any(|layer| line.contains(layer)), "{line}");
        }
        // Whoever sets it up has nothing saved yet, and is told what can be done there.
        for (command, signs_in) in
            [("setup Cloud --yes", "--password-stdin"), ("remote add Cloud", "credentials=FILE")]
        {
            if !remote.starts_with("http") {
                continue;
            }
            let line = desk.refused(status, &format!("{command} {remote}"));
            let way_out = if status == 4 { signs_in } else { way_out };
            // Beside the address as it was given, what was asked of it there may be named.
            let named = line.matches(&format!("{remote}: ")).count();
            assert!(named == 1 && line.contains(way_out), "{line}");
            assert!(!line.contains("sign in /") && !line.contains("dewfs login"), "{line}");
        }
    }
    let line = desk.refused(2, "mount ./remote mnt -o password=secret");
    assert!(line.contains("dewfs says credentials=FILE") && !line.contains("secret"), "{line}");
    assert!(desk.refused(1, "status nowhere/x").contains("no such file or folder"));
    assert!(desk.refused(1, "status mnt").contains("dewfs status shows what is mounted"));
}

#[test]
fn wrong_files_are_named_with_what_is_wrong_in_them() {
    let desk = Desk::new();
    let put =
        |name: &str, text: &str| std::fs::write(desk.at("config/dewfs").join(name), text).unwrap();
    put("remotes/a.toml", "spec = 'b:'\n");
    put("remotes/b.toml", "spec = '/x'\n[mount]\npool = 3\n");
    put("remotes/c.toml", "spek = '/x'\n");
    for (words, named) in [
        ("mount a: mnt", "another saved remote"),
        ("mount b: mnt", "nearest is poll"),
        ("mount c: mnt", "spek"),
    ] {
        let line = desk.refused(2, words);
        assert!(line.contains(named), "{words}: {line}");
    }
    put("config.toml", "[mount]\numask = 22\n");
    assert!(desk.refused(2, "mount ./remote mnt").contains("config.toml"));
}

#[test]
fn credentials_others_can_read_are_refused() {
    let desk = Desk::new();
    std::fs::write(desk.at("secret"), "username=a\npassword=hunter2\n").unwrap();
    std::fs::set_permissions(desk.at("secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let line = desk.refused(1, "remote test http://127.0.0.1:1/ -o credentials=secret");
    assert!(line.contains("chmod 600") && !line.contains("hunter2"), "{line}");
}

/// The environment of a running program is asked of the kernel: it must not hold the secret, nor may its children get it.
#[test]
fn a_password_does_not_stay_in_the_environment() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let desk = Desk::new();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", server.local_addr().unwrap());
    let child = desk
        .command()
        .args(["remote", "test", &address])
        .env("DEWFS_USER", "alice")
        .env("DEWFS_PASSWORD", "hunter2")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stream, _) = server.accept().unwrap();
    let mut environment = Vec::new();
    let path = format!("/proc/{}/environ", child.id());
    std::fs::File::open(path).unwrap().read_to_end(&mut environment).unwrap();
    let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    stream.write_all(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    drop((stream, server));
    child.wait_with_output().unwrap();
    // "alice:hunter2"
    let signed = head.iter().any(|line| line.ends_with("Basic YWxpY2U6aHVudGVyMg=="));
    assert!(signed, "{head:?}");
    assert!(!String::from_utf8_lossy(&environment).contains("hunter2"));
}

/// The password left the environment, but reached each program that was started from here as an open descriptor, wherever
/// somebody else's secret was used.
#[test]
fn regression_no_descriptor_holds_the_password_of_the_environment() {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", server.local_addr().unwrap());
    let file = desk.at("secret");
    std::fs::write(&file, "username=alice\npassword=other\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let credentials = format!("credentials={}", file.display());
    for words in [vec![], vec!["-o", credentials.as_str()]] {
        let mut command = desk.command();
        command.args(["remote", "test", &address]).args(&words);
        command.env("DEWFS_USER", "alice").env("DEWFS_PASSWORD", "hunter2");
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        let (mut stream, _) = server.accept().unwrap();
        let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        let open = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        let open: Vec<_> = open.map(|at| at.to_string_lossy().into_owned()).collect();
        assert!(open.iter().any(|at| at.starts_with("socket:")), "{open:?}");
        assert!(!open.iter().any(|at| at.starts_with("/memfd:")), "{words:?}: {open:?}");
        stream
            .write_all(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        drop(stream);
        // What it asks next is answered by nobody.
        let mut child = child;
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn what_is_printed_as_json_has_the_shape_of_the_page() {
    let desk = Desk::new();
    for words in [vec!["remote", "test", "--json", "./remote"], vec!["doctor", "--json"]] {
        let output = desk.run(&words);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.is_empty(), "{words:?}");
        text.lines().for_each(assert_shape);
    }
}

#[test]
fn a_remote_is_tested_and_left_as_it_was() {
    let desk = Desk::new();
    std::fs::write(
        desk.at("config/dewfs/remotes/nas.toml"),
        format!("spec = '{}'", desk.at("remote").display()),
    )
    .unwrap();
    for spec in ["nas", "nas:", "./remote"] {
        let output = desk.run(&["remote", "test", spec]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains("writable"), "{spec}");
    }
    assert_eq!(std::fs::read_dir(desk.at("remote")).unwrap().count(), 0);
    assert!(desk.refused(1, "remote test ./gone").contains("gone"));
    assert!(desk.refused(1, "remote test http://127.0.0.1:1/").contains("127.0.0.1"));
}

#[test]
fn every_manual_page_and_completion_is_written() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["man", "pages"]).status.code(), Some(0));
    let page = |name: &str| std::fs::read_to_string(desk.at("pages").join(name)).unwrap();
    for command in COMMANDS {
        assert!(page(&format!("dewfs-{command}.1")).contains(".SH NAME"), "{command}");
    }
    for name in ["dewfs.1", "mount.dewfs.8", "dewfs.toml.5", "dewfs-semantics.7"] {
        assert!(page(name).contains("NAME"), "{name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = desk.run(&["completions", shell]);
        assert!(String::from_utf8(output.stdout).unwrap().contains("hydrate"), "{shell}");
    }
}

/// A remote whose state lies on an unsuitable disk, or on a full one, was told that all is well: only the usual place was looked at.
#[test]
fn regression_doctor_looks_at_the_disk_that_a_remote_names_for_its_state() {
    let desk = Desk::new();
    let save = |name: &str, state: &str| {
        let text = format!("spec = '/srv'\n[mount]\nstate_dir = '{state}'\n");
        std::fs::write(desk.at(&format!("config/dewfs/remotes/{name}.toml")), text).unwrap();
    };
    let said = || {
        let said = desk.run(&["doctor", "--color", "never"]).stdout;
        let said = String::from_utf8(said).unwrap();
        said.lines().filter(|line| line.contains("state ")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(said().lines().count(), 1);
    let suitable = desk.at("elsewhere/state");
    save("nas", suitable.to_str().unwrap());
    assert!(said().contains(suitable.to_str().unwrap()), "{}", said());
    // Nobody can keep anything there.
    save("other", "/proc/dewfs-state");
    assert!(said().lines().any(|line| line.starts_with("FAIL  state") && line.contains("/proc")));
    let output = desk.run(&["doctor", "--color", "never"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the state_dir= of other"), "{said}");
}
