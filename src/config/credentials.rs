//! Who signs in, and where the secret comes from: a file, systemd, the environment, the desktop's keyring, a terminal, in this
//! order.
//!
//! A secret is never an argument and never in a child's environment: what stood in the environment is taken out of it before
//! anything else happens ([`handed_over`](super::handed_over)). Files are read anew each time the remote refuses what it was
//! given, so a rotated password needs no restart.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::{ConfigError, Who, handed_over};

/// Is a secret: never printed, wiped when dropped.
pub type Secret = SecretString;

/// Is what signs a request.
#[derive(Clone, Debug)]
pub enum Login {
    /// User name and password.
    Basic {
        /// The user name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
}

/// Is the server that somebody signs in at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub host: String,
    /// Its port, if it has one: two ports of one host may be two people's.
    pub port: Option<u16>,
}

impl Server {
    /// The server of an address.
    pub fn of(url: &url::Url) -> Self {
        let host = url.host_str().unwrap_or_default().to_owned();
        Self { host, port: url.port_or_known_default() }
    }
}

/// Is where a mount's credentials come from.
#[derive(Debug)]
pub struct Credentials {
    file: Mutex<Option<PathBuf>>,
    /// Whether systemd put the file there: it may let us read it by other means than owner and mode.
    is_systemds: AtomicBool,
    uid: u32,
    user: Option<String>,
    server: Server,
    known: Mutex<Option<Login>>,
    may_ask: AtomicBool,
    given_once: AtomicBool,
    /// Whether what is known is the keyring's.
    is_in_keyring: AtomicBool,
}

impl Credentials {
    /// Finds the source and reads it once, so that a file that cannot be used is an error now. `user` is what options or URL
    /// said; `server` is also named in the question on a terminal.
    pub fn find(
        file: Option<&Path>,
        user: Option<&str>,
        server: Server,
        who: &Who,
    ) -> Result<Self, ConfigError> {
        let is_systemds = file.is_none();
        let file = file.map(Path::to_owned).or_else(systemd_file);
        let found = Self {
            is_systemds: AtomicBool::new(is_systemds),
            uid: who.uid,
            user: user.map(str::to_owned),
            server,
            known: Mutex::new(None),
            may_ask: AtomicBool::new(true),
            given_once: AtomicBool::new(false),
            is_in_keyring: AtomicBool::new(false),
            file: Mutex::new(file.clone()),
        };
        let login = match &file {
            Some(file) => found.read_file(file)?,
            None => found.take_handed_over()?,
        };
        let is_none = login.is_none() && file.is_none();
        found.remember(login);
        if is_none {
            found.read_keyring();
        }
        Ok(found)
    }

    /// This login and no other; nobody is asked.
    pub fn given(login: Login) -> Self {
        Self {
            file: Mutex::new(None),
            is_systemds: AtomicBool::new(false),
            uid: 0,
            user: None,
            server: Server { host: String::new(), port: None },
            known: Mutex::new(Some(login)),
            may_ask: AtomicBool::new(false),
            given_once: AtomicBool::new(false),
            is_in_keyring: AtomicBool::new(false),
        }
    }

    /// Whether what it signs with is in the keyring, and is to stay there.
    pub fn is_in_keyring(&self) -> bool {
        self.is_in_keyring.load(Ordering::SeqCst)
    }

    /// The file that it reads, if it reads one.
    pub fn source(&self) -> Option<PathBuf> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether somebody said which file has it.
    pub fn is_named(&self) -> bool {
        self.source().is_some() && !self.is_systemds.load(Ordering::SeqCst)
    }

    /// From now on this file is read, which somebody wrote who signed in; it goes before what else there is.
    pub fn read_from(&self, file: PathBuf) {
        self.is_systemds.store(false, Ordering::SeqCst);
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    /// What it signs with since it was last asked.
    pub fn known(&self) -> Option<Login> {
        self.remembered()
    }

    /// What to sign with now. Asked again, after what it gave was refused, it reads the file or the keyring again or, while
    /// [`stop_asking`](Self::stop_asking) was not called, asks on the terminal. `None`: sign nothing.
    pub fn current(&self) -> Option<Login> {
        let again = self.given_once.swap(true, Ordering::SeqCst);
        if !again {
            return self.remembered();
        }
        match self.source() {
            Some(file) => match self.read_file(&file) {
                Ok(login) => self.remember(login),
                Err(error) => tracing::warn!("{error}."),
            },
            None => {
                let before = self.remembered();
                // What the environment gave is not to be had again, and nobody else's is put in its place.
                if before.is_none() || self.is_in_keyring() {
                    self.read_keyring();
                }
                let is_new = !same(before.as_ref(), self.remembered().as_ref());
                if !is_new
                    && self.may_ask.load(Ordering::SeqCst)
                    && let Some(login) = self.ask()
                {
                    self.is_in_keyring.store(false, Ordering::SeqCst);
                    self.remember(Some(login));
                }
            }
        }
        self.remembered()
    }

    /// From now on nobody is asked on a terminal: the mount is up.
    pub fn stop_asking(&self) {
        self.may_ask.store(false, Ordering::SeqCst);
    }

    fn remember(&self, login: Option<Login>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = login;
    }

    fn remembered(&self) -> Option<Login> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a file says; `None` if it says nothing, as after signing out.
    fn read_file(&self, path: &Path) -> Result<Option<Login>, ConfigError> {
        let refuse =
            |why: &str| ConfigError::Credentials(format!("credentials {}: {why}", path.display()));
        let file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => refuse(
                "no such file: look at the path, or make it with lines username= and password= (chmod 600)",
            ),
            _ => refuse(&error.to_string()),
        })?;
        let about = file.metadata().map_err(|error| refuse(&error.to_string()))?;
        if about.uid() != self.uid && about.uid() != 0 {
            return Err(refuse("it belongs to somebody else"));
        }
        if about.mode() & 0o077 != 0 && !self.is_systemds.load(Ordering::SeqCst) {
            return Err(refuse("others can read it; chmod 600 it"));
        }
        let mut lines = Lines::default();
        let mut text = Zeroizing::new(String::new());
        file.take(64 << 10)
            .read_to_string(&mut text)
            .map_err(|error| refuse(&error.to_string()))?;
        lines.read(&text).map_err(|why| refuse(&why))?;
        if lines.is_empty() {
            return Ok(None);
        }
        // Whoever wrote the secret down knows whose it is: a server may want another name than the address has.
        let user = lines.username.clone().or_else(|| self.user.clone());
        login(lines, user)
            .map(Some)
            .ok_or_else(|| refuse("it has neither password= with a username= nor token="))
    }

    fn take_handed_over(&self) -> Result<Option<Login>, ConfigError> {
        let Some(text) = handed_over::take() else { return Ok(None) };
        let mut lines = Lines::default();
        lines.read(&text).map_err(ConfigError::Credentials)?;
        if lines.is_empty() {
            return Ok(None);
        }
        let nobodys = || {
            ConfigError::Credentials(format!(
                "{}: whose it is has to be said, by {}, username= or the address",
                handed_over::PASSWORD,
                handed_over::USER
            ))
        };
        let user = self.user.clone().or_else(|| lines.username.clone());
        login(lines, user).map(Some).ok_or_else(nobodys)
    }

    /// Takes what the keyring has for this place, or that it has nothing any more; where it cannot be asked, nothing changes.
    #[cfg(feature = "desktop")]
    fn read_keyring(&self) {
        let server = (self.server.host.as_str(), self.server.port);
        let kept = match crate::desktop::keyring::find(server, self.user.as_deref()) {
            Ok(kept) => kept,
            Err(error) => return tracing::debug!("{error}."),
        };
        let login = kept.and_then(|kept| match kept.is_token {
            true => Some(Login::Bearer(kept.secret)),
            false => {
                let user = self.user.clone().or(kept.user)?;
                Some(Login::Basic { user, password: kept.secret })
            }
        });
        if login.is_some() || self.is_in_keyring() {
            self.is_in_keyring.store(true, Ordering::SeqCst);
            self.remember(login);
        }
    }

    #[cfg(not(feature = "desktop"))]
    fn read_keyring(&self) {}

    fn ask(&self) -> Option<Login> {
        ask_login(self.user.as_deref(), &self.server.host)
    }
}

fn login(lines: Lines, user: Option<String>) -> Option<Login> {
    if let Some(token) = lines.token {
        return Some(Login::Bearer(token));
    }
    Some(Login::Basic { user: user?, password: lines.password? })
}

/// Whether both sign in alike.
fn same(one: Option<&Login>, other: Option<&Login>) -> bool {
    match (one, other) {
        (Some(Login::Bearer(one)), Some(Login::Bearer(other))) => {
            one.expose_secret() == other.expose_secret()
        }
        (
            Some(Login::Basic { user: one, password: a }),
            Some(Login::Basic { user: other, password: b }),
        ) => one == other && a.expose_secret() == b.expose_secret(),
        (None, None) => true,
        _ => false,
    }
}

/// Asks on the terminal who signs in at `place`; `None` if there is no terminal, or no answer.
pub fn ask_login(user: Option<&str>, place: &str) -> Option<Login> {
    let user = match user {
        Some(user) => user.to_owned(),
        None => ask(&format!("User name for {place}: "), true)?,
    };
    let password = ask(&format!("Password of {user} for {place}: "), false)?;
    Some(Login::Basic { user, password: password.into() })
}

/// Asks on the terminal; `None` if there is no terminal, or no answer. A secret is not shown while it is typed.
pub fn ask(text: &str, shown: bool) -> Option<String> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    question(&terminal, text, shown)
}

/// Asks on the terminal; `None` if nothing was answered.
fn question(terminal: &File, text: &str, shown: bool) -> Option<String> {
    let mut out = terminal;
    out.write_all(text.as_bytes()).ok()?;
    let before = tcgetattr(terminal).ok()?;
    if !shown {
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        silent.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(terminal, SetArg::TCSANOW, &silent).ok()?;
    }
    let mut line = Zeroizing::new(String::new());
    let read = BufReader::new(terminal).read_line(&mut line);
    let restored = tcsetattr(terminal, SetArg::TCSANOW, &before);
    read.ok()?;
    restored.ok()?;
    let answer = line.trim_end_matches(['\n', '\r']).to_owned();
    (!answer.is_empty()).then_some(answer)
}

fn systemd_file() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join("dewfs");
    path.is_file().then_some(path)
}

/// Is what a credentials file says.
#[derive(Default)]
struct Lines {
    username: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.username.is_none() && self.password.is_none() && self.token.is_none()
    }

    fn read(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            match line.split_once('=').map(|(key, value)| (key.trim(), value)) {
                Some(("username", value)) => self.username = Some(value.trim().to_owned()),
                Some(("password", value)) => self.password = Some(value.to_owned().into()),
                Some(("token", value)) => self.token = Some(value.trim().to_owned().into()),
                // The line may be a password somebody wrote without a key: it is not repeated.
                _ => {
                    return Err(format!(
                        "line {}: write username=, password= or token=",
                        number + 1
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(dir: &Path, text: &str, mode: u32) -> PathBuf {
        let path = dir.join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn find(path: &Path, user: Option<&str>) -> Result<Credentials, ConfigError> {
        let there = Server { host: "there".to_owned(), port: None };
        Credentials::find(Some(path), user, there, &Who::current())
    }

    fn password(login: Option<Login>) -> (String, String) {
        match login.unwrap() {
            Login::Basic { user, password } => (user, password.expose_secret().to_owned()),
            Login::Bearer(token) => ("bearer".into(), token.expose_secret().to_owned()),
        }
    }

    #[test]
    fn a_rotated_password_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "# mine\nusername=al\npassword= a=b \n", 0o600);
        let found = find(&path, None).unwrap();
        assert_eq!(password(found.current()), ("al".into(), " a=b ".into()));
        write(dir.path(), "token=T\n", 0o600);
        assert_eq!(password(found.current()), ("bearer".into(), "T".into()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(password(found.current()), ("bearer".into(), "T".into()));
    }

    #[test]
    fn a_file_others_can_read_is_refused_and_so_is_one_that_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for (text, mode, named) in [
            ("username=a\npassword=b", 0o640, "chmod 600"),
            ("password=b", 0o600, "username="),
            ("hunter2", 0o600, "line 1"),
        ] {
            let path = write(dir.path(), text, mode);
            let message = find(&path, None).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
            assert!(!message.contains("hunter2"));
        }
        let path = write(dir.path(), "password=b", 0o400);
        assert_eq!(password(find(&path, Some("al")).unwrap().current()).0, "al");
        assert!(find(&dir.path().join("none"), None).is_err());
    }

    #[test]
    fn who_signed_out_signs_nothing_until_the_file_says_something() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "# signed out\n\n", 0o600);
        let found = find(&path, Some("al")).unwrap();
        assert!(found.current().is_none() && found.current().is_none());
        write(dir.path(), "password=b\n", 0o600);
        assert_eq!(password(found.current()), ("al".into(), "b".into()));
        write(dir.path(), "", 0o600);
        assert!(found.current().is_none());
    }

    #[test]
    fn nothing_secret_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "username=a\npassword=hunter2", 0o600);
        assert!(!format!("{:?}", find(&path, None).unwrap()).contains("hunter2"));
    }
}
