//! Saved remotes as they are written down: `remotes/NAME.toml`, and the secret that goes with it in a file of its own.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;

use super::assignment::Assignment;
use super::known::VALUED;
use super::spec::check_name;
use super::{ConfigError, Login, Schemes, Who};

/// Is where a saved remote is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPlace {
    /// The remote.
    pub file: PathBuf,
    /// Its secret.
    pub secret: PathBuf,
}

/// Is a remote to be saved.
#[derive(Clone, Debug)]
pub struct NewRemote<'a> {
    /// Its specification; `None` leaves that to the machine's file of the same name.
    pub spec: Option<&'a str>,
    /// Where it is mounted, if not at `~/NAME`.
    pub mountpoint: Option<&'a str>,
    /// Its options.
    pub options: &'a [Assignment],
}

impl SavedPlace {
    /// The place of this name: root's remotes are every user's.
    pub fn of(who: &Who, name: &str, schemes: &Schemes) -> Result<Self, ConfigError> {
        check_name(name, schemes)?;
        let dir = if who.is_root() {
            PathBuf::from(super::files::SITE)
        } else {
            let home = who.config_home.as_ref().map(|home| home.join("dewfs"));
            home.ok_or_else(|| {
                ConfigError::Place(format!(
                    "user {} has no home directory to save a remote in",
                    who.uid
                ))
            })?
        };
        Ok(Self {
            file: dir.join("remotes").join(format!("{name}.toml")),
            secret: dir.join("secrets").join(name),
        })
    }

    /// Writes the remote, whole or not at all.
    pub fn write(&self, remote: &NewRemote<'_>) -> Result<(), ConfigError> {
        let text = text_of(remote).map_err(|why| self.failed(&self.file, &why.to_string()))?;
        put(&self.file, text.as_bytes(), Reader::Others, is_site(&self.file))
            .map_err(|error| self.failed(&self.file, &error.to_string()))
    }

    /// Writes what signs in; only its owner can read it.
    pub fn write_secret(&self, login: &Login) -> Result<(), ConfigError> {
        write_secret(&self.secret, Some(login))
    }

    /// Takes both files away; those that are not there are none to worry about.
    pub fn forget(&self) -> Result<(), ConfigError> {
        for path in [&self.file, &self.secret] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed(path, &error.to_string()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, path: &Path, why: &str) -> ConfigError {
        ConfigError::Place(format!("{}: {why}", path.display()))
    }
}

/// Writes a credentials file; without a login it says that nobody is signed in, and keeps its place.
pub fn write_secret(path: &Path, login: Option<&Login>) -> Result<(), ConfigError> {
    let text = match login {
        Some(Login::Basic { user, password }) => {
            format!("username={user}\npassword={}\n", password.expose_secret())
        }
        Some(Login::Bearer(token)) => format!("token={}\n", token.expose_secret()),
        None => "# signed out: dewfs login signs in again\n".to_owned(),
    };
    put(path, text.as_bytes(), Reader::Owner, is_site(path))
        .map_err(|error| ConfigError::Credentials(format!("{}: {error}", path.display())))
}

fn text_of(remote: &NewRemote<'_>) -> Result<String, toml::ser::Error> {
    let mut mount = toml::Table::new();
    for one in remote.options {
        let value = match &one.value {
            Some(value) => toml::Value::String(value.clone()),
            None if VALUED.contains(&one.key.as_str()) => toml::Value::String(String::new()),
            None => toml::Value::Boolean(true),
        };
        // A list keeps each of several; of other options the last one counts, as on the command line.
        match mount.get_mut(&one.key) {
            Some(toml::Value::Array(all)) => all.push(value),
            None if one.key == "exclude" => {
                drop(mount.insert(one.key.clone(), toml::Value::Array(vec![value])));
            }
            _ => drop(mount.insert(one.key.clone(), value)),
        }
    }
    let mut all = toml::Table::new();
    if let Some(spec) = remote.spec {
        all.insert("spec".to_owned(), spec.into());
    }
    if let Some(mountpoint) = remote.mountpoint {
        all.insert("mountpoint".to_owned(), mountpoint.into());
    }
    if !mount.is_empty() {
        all.insert("mount".to_owned(), mount.into());
    }
    toml::to_string(&all)
}

/// Says who may read a file that is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Its owner.
    Owner,
    /// Others as well.
    Others,
}

/// Puts a file in its place by renaming, so that who reads it meanwhile sees the one before or this one. In the place of all
/// users what they are to read is open to them whatever root's umask, and so are the folders above a secret.
fn put(path: &Path, bytes: &[u8], reader: Reader, is_site: bool) -> io::Result<()> {
    let (dir_mode, mode) = if reader == Reader::Owner { (0o700, 0o600) } else { (0o755, 0o644) };
    let open_up = |path: &Path, mode: u32| match is_site {
        true => std::fs::set_permissions(path, Permissions::from_mode(mode)),
        false => Ok(()),
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    if let Some(above) = dir.parent() {
        // What is above holds what others are to read as well.
        DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    }
    DirBuilder::new().recursive(true).mode(dir_mode).create(dir)?;
    for made in missing {
        open_up(made, if made == dir { dir_mode } else { 0o755 })?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = dir.join(name);
    // Of an earlier try: its mode is not ours to trust.
    drop(std::fs::remove_file(&temporary));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file: File| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| open_up(&temporary, mode))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    written
}

/// Whether a file lies where those of all users do.
fn is_site(path: &Path) -> bool {
    path.starts_with(super::files::SITE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{ConfigFiles, split_options};

    #[test]
    fn a_saved_remote_comes_back_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let who = Who { config_home: Some(dir.path().into()), uid: 4_000_001, ..Who::current() };
        let place = SavedPlace::of(&who, "my-cloud", &Schemes::new()).unwrap();
        let options =
            split_options("cache_size=5G,ro,exclude=*.o,exclude=\"a,b\",poll=1,poll=2").unwrap();
        let new =
            NewRemote { spec: Some("https://h/\"x\""), mountpoint: Some("~/C"), options: &options };
        place.write(&new).unwrap();
        let login = Login::Basic { user: "al".into(), password: "p=w #1".to_owned().into() };
        place.write_secret(&login).unwrap();
        assert_eq!(place.secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let folder = place.secret.parent().unwrap().metadata().unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);

        let files = ConfigFiles::at(vec![dir.path().join("dewfs")], None);
        let saved = files.remote("my-cloud").unwrap();
        assert_eq!(
            (saved.spec.as_str(), saved.mountpoint.as_deref()),
            ("https://h/\"x\"", Some("~/C"))
        );
        let words: Vec<String> = saved
            .options
            .iter()
            .map(|one| format!("{}={}", one.key, one.value.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(words, ["cache_size=5G", "exclude=*.o", "exclude=a,b", "poll=2", "ro=-"]);
        assert_eq!(files.names(&Schemes::new()), ["my-cloud"]);
        place.forget().unwrap();
        place.forget().unwrap();
        assert!(files.remote("my-cloud").is_err());
        assert!(!place.secret.exists());
    }

    /// In a process of its own: the umask is all of its threads'.
    #[test]
    fn what_all_users_read_is_open_to_them_whatever_the_umask() {
        const DIR: &str = "DEWFS_TEST_UMASK_DIR";
        let name = "config::saved::tests::what_all_users_read_is_open_to_them_whatever_the_umask";
        if let Some(dir) = std::env::var_os(DIR) {
            let dir = PathBuf::from(dir).join("dewfs");
            put(&dir.join("secrets/x"), b"x", Reader::Owner, true).unwrap();
            put(&dir.join("remotes/x.toml"), b"x", Reader::Others, true).unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sh");
        child.args(["-c", "umask 077; exec \"$0\" --exact \"$1\""]);
        let child = child.arg(std::env::current_exe().unwrap()).arg(name).env(DIR, dir.path());
        assert!(child.stdout(std::process::Stdio::null()).status().unwrap().success());
        let mode =
            |path: &str| dir.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("dewfs/remotes/x.toml"), 0o644);
        assert_eq!((mode("dewfs/remotes"), mode("dewfs")), (0o755, 0o755));
        assert_eq!((mode("dewfs/secrets"), mode("dewfs/secrets/x")), (0o700, 0o600));
        // A folder that somebody closed stays closed.
        std::fs::set_permissions(dir.path().join("dewfs"), Permissions::from_mode(0o700)).unwrap();
        put(&dir.path().join("dewfs/remotes/y.toml"), b"y", Reader::Others, true).unwrap();
        assert_eq!(mode("dewfs"), 0o700);
    }

    /// A secret that was written before anything else closed the folder of the machine's remotes to everybody but root, and
    /// every command of other users ended with that.
    #[test]
    fn regression_a_secret_that_comes_first_closes_only_its_own_folder() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("etc/dewfs/secrets/Cloud");
        write_secret(&secret, None).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&secret), 0o600);
        assert_eq!(mode(secret.parent().unwrap()), 0o700);
        assert_eq!(mode(&dir.path().join("etc/dewfs")) & 0o055, 0o055);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_none() {
        assert!(SavedPlace::of(&Who::current(), "../x", &Schemes::new()).is_err());
    }
}
