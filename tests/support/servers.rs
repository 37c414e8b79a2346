//! Real WebDAV servers on loopback, each in its own temporary directory, stopped by the process that was started.

#[path = "programs.rs"]
mod programs;

use super::wait::{LIMIT, found_within, holds_within, until};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use programs::{apache, lighttpd, nginx, program, rclone};
use rustix::process::Signal;
use tempfile::TempDir;

/// Names a server program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Nginx,
    Apache,
    Lighttpd,
    Rclone,
}

/// How long it may take until a server that was stopped stands still.
const STANDS_STILL: Duration = Duration::from_secs(20);
/// How the paths begin that are asked for to be found in the log.
const MARK: &str = "/.written-down-";

/// Says how a server is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Plain,
    /// Over TLS only, with a password.
    Guarded,
    /// Nobody changes its tree but through it.
    Remembering,
    /// What it says a version is is made of size and mtime, as rclone does by itself.
    Dated,
}

/// A running server; stopped when dropped.
pub struct Server {
    pub product: Product,
    pub port: u16,
    root: PathBuf,
    log: Option<PathBuf>,
    process: Child,
    manner: Manner,
    home: TempDir,
    _held: fs::File,
}

/// One line of a server's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub method: String,
    pub path: String,
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub fn start(product: Product) -> Self {
        Self::start_as(product, Manner::Plain)
    }

    /// Starts a server whose tree nobody changes but through it: it may remember its folders.
    #[allow(dead_code)]
    pub fn start_remembering(product: Product) -> Self {
        Self::start_as(product, Manner::Remembering)
    }

    /// Starts a server whose versions are made of size and mtime.
    #[allow(dead_code)]
    pub fn start_dated() -> Self {
        Self::start_as(Product::Rclone, Manner::Dated)
    }

    /// Starts an nginx that speaks only TLS, with a certificate of its own, and wants a password.
    pub fn start_guarded(user: &str, password: &str) -> Self {
        let server = Self::start_as(Product::Nginx, Manner::Guarded);
        server.set_password(user, password);
        server
    }

    fn start_as(product: Product, manner: Manner) -> Self {
        let mut tries = 0;
        loop {
            tries += 1;
            if let Some(server) = Self::try_start(product, manner) {
                return server;
            }
            assert!(tries < 5, "{product:?} does not start: run scripts/test-servers");
        }
    }

    fn try_start(product: Product, manner: Manner) -> Option<Self> {
        let home = tempfile::Builder::new().prefix("dewfs-server-").tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = home.path().join("root");
        fs::create_dir(&root).unwrap();
        if manner == Manner::Guarded {
            make_certificate(home.path());
        }
        let (port, held) = free_port();
        let (process, log) = spawn(product, home.path(), port, manner);
        let mut server = Self { product, port, root, log, process, manner, home, _held: held };
        server.answers().then_some(server)
    }

    fn answers(&mut self) -> bool {
        let answers = || {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Some(true);
            }
            self.process.try_wait().unwrap()?;
            let said = fs::read_to_string(self.root.with_file_name("output"));
            eprintln!("{:?} ended: {}", self.product, said.unwrap_or_default());
            Some(false)
        };
        found_within(LIMIT, answers).unwrap_or(false)
    }

    /// Ends the server; its files stay.
    pub fn stop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        if holds_within(LIMIT, || matches!(self.process.try_wait(), Ok(Some(_)))) {
            return;
        }
        self.signal(Signal::KILL);
        let _gone = self.process.wait();
    }

    /// Kills it, and all that it consists of, in the middle of whatever it does.
    #[allow(dead_code)]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.process.wait().unwrap();
        // the last of them holds the port until it is gone
        let is_free = || TcpStream::connect(("127.0.0.1", self.port)).is_err();
        assert!(holds_within(LIMIT, is_free), "{:?} outlives its end", self.product);
    }

    /// Starts it again at the same address.
    pub fn start_again(&mut self) {
        let (process, _) = spawn(self.product, self.home.path(), self.port, self.manner);
        self.process = process;
        assert!(self.answers(), "{:?} does not start again", self.product);
    }

    /// Stops it in its tracks: connections stay, nothing is answered from the moment in which this returns.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        until(STANDS_STILL, "the server to stand still", || stands_still(self.process.id()));
    }

    /// Lets it go on after `freeze`.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// To all that the server consists of: it has a process group of its own.
    fn signal(&self, signal: Signal) {
        let group = rustix::process::Pid::from_child(&self.process);
        let _gone = rustix::process::kill_process_group(group, signal);
    }

    /// The certificate by which a guarded server is known.
    pub fn ca_file(&self) -> PathBuf {
        self.home.path().join("cert.pem")
    }

    /// Who may use a guarded server from now on.
    pub fn set_password(&self, user: &str, password: &str) {
        fs::write(self.home.path().join("users"), format!("{user}:{{PLAIN}}{password}\n")).unwrap();
    }

    pub fn url(&self) -> String {
        let scheme = if self.manner == Manner::Guarded { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/", self.port)
    }

    /// The directory that it serves.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts a file there behind everybody's back.
    pub fn put(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.root.join(name);
        fs::write(&path, bytes).unwrap();
        self.own(&path);
    }

    /// Makes a folder there behind everybody's back.
    pub fn make_folder(&self, name: impl AsRef<Path>) {
        let path = self.root.join(name);
        fs::create_dir(&path).unwrap();
        self.own(&path);
    }

    fn own(&self, path: &Path) {
        if self.product == Product::Apache {
            give_to_www_data(path);
        }
    }

    /// How many requests of `method` were answered so far; only where the server keeps a log.
    pub fn requests(&self, method: &str) -> Option<usize> {
        self.log.as_ref()?;
        Some(self.logged().iter().filter(|one| one.method == method).count())
    }

    /// All requests answered so far; nothing where the server keeps no log.
    pub fn logged(&self) -> Vec<Logged> {
        let Some(log) = self.log.as_deref() else { return Vec::new() };
        self.is_written_down(log);
        let mut all = read_log(log);
        all.retain(|one| !one.path.starts_with(MARK));
        all
    }

    /// A server writes its log after it has answered, one request after the other: once a request of ours is in it, so are all
    /// that were answered before.
    fn is_written_down(&self, log: &Path) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if self.manner == Manner::Guarded {
            return;
        }
        let Ok(mut line) = TcpStream::connect(("127.0.0.1", self.port)) else { return };
        let mark = format!("{MARK}{}", COUNT.fetch_add(1, Ordering::Relaxed));
        line.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(line, "GET {mark} HTTP/1.0\r\n\r\n").unwrap();
        line.read_to_end(&mut Vec::new()).unwrap();
        until(LIMIT, &format!("{mark} in the log"), || {
            read_log(log).iter().any(|one| one.path == mark)
        });
    }

    /// All requests of a server that keeps its log to itself until it ends; ends it.
    pub fn logged_at_the_end(&mut self) -> Vec<Logged> {
        self.stop();
        read_log(&self.home.path().join("access.log"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read_log(log: &Path) -> Vec<Logged> {
    let text = fs::read_to_string(log).unwrap_or_default();
    // what a line still lacks is being written
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(logged).collect()
}

/// Reads `"GET /a HTTP/1.1" 206 4096`.
fn logged(line: &str) -> Option<Logged> {
    let (request, rest) = line.trim_start_matches('"').rsplit_once("\" ")?;
    let (status, bytes) = rest.split_once(' ')?;
    let mut words = request.split(' ');
    Some(Logged {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        status: status.parse().ok()?,
        bytes: bytes.trim().parse().unwrap_or_default(),
    })
}

fn spawn(product: Product, home: &Path, port: u16, manner: Manner) -> (Child, Option<PathBuf>) {
    let (mut command, log) = match product {
        Product::Nginx => nginx(home, port, manner == Manner::Guarded),
        Product::Apache => apache(home, port),
        Product::Lighttpd => lighttpd(home, port),
        Product::Rclone => rclone(home, port, manner),
    };
    let output = fs::File::create(home.join("output")).unwrap();
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let process = command.process_group(0).spawn().unwrap_or_else(|error| {
        panic!("{product:?} cannot be started ({error}): run scripts/test-servers")
    });
    (process, log)
}

/// A key and a certificate that vouches for itself.
fn make_certificate(home: &Path) {
    let mut command = Command::new(program(&["openssl"]));
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(["-nodes", "-days", "2", "-subj", "/CN=dewfs test"]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-keyout").arg(home.join("key.pem")).arg("-out").arg(home.join("cert.pem"));
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A port that nobody has, and that no other test takes while the file is held: between here and the server's start two of
/// them would be given the same one, and one would talk to the other's server.
fn free_port() -> (u16, fs::File) {
    let locks = std::env::temp_dir().join("dewfs-test-ports");
    fs::create_dir_all(&locks).unwrap();
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let held = fs::File::create(locks.join(port.to_string())).unwrap();
        if held.try_lock().is_ok() {
            return (port, held);
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn give_to_www_data(path: &Path) {
    if is_root() {
        let id = |file: &str| {
            let text = fs::read_to_string(file).unwrap();
            let line = text.lines().find(|line| line.starts_with("www-data:")).unwrap();
            line.split(':').nth(2).unwrap().parse::<u32>().unwrap()
        };
        chown(path, Some(id("/etc/passwd")), Some(id("/etc/group"))).unwrap();
    }
}

/// Whether all threads of all processes of a group are stopped: a signal takes a while to reach them, in which they answer.
fn stands_still(group: u32) -> bool {
    let group = group.to_string();
    // The state and the group are the first and the third field behind the name.
    let fields = |path: PathBuf| {
        let text = fs::read_to_string(path.join("stat")).ok()?;
        let mut rest = text.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
        Some((rest.next()?, rest.nth(1)?))
    };
    let all =
        |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|one| one.path());
    let members = all(PathBuf::from("/proc"))
        .filter(|path| fields(path.clone()).is_some_and(|(_, of)| of == group));
    let mut threads = members.flat_map(|path| all(path.join("task")));
    threads.all(|thread| fields(thread).is_none_or(|(state, _)| state == "T"))
}
