//! From a path somebody typed to the mount it is in and the daemon behind it.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::config::{Who, own_mountpoint, shell_word};
use crate::control::{Client, Request, Scope, find_daemon};
use crate::fuse::mountinfo::{Mount, dewfs_above, mounts};

use super::{Common, Failure};

/// Is a path in a mount.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The mount.
    pub(super) mount: Mount,
    /// The path below the mountpoint.
    pub(super) scope: Scope,
}

/// Says why nobody answers for a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreached {
    /// No process does.
    Gone,
    /// One is there, and keeps silent.
    Stuck {
        /// The process.
        pid: u32,
    },
}

impl Unreached {
    /// The failure of who needs its answer.
    pub(super) fn failure(self, at: &Path) -> Failure {
        let (at, word) = (at.display(), shell_word(at));
        Failure::failed(match self {
            Self::Gone => format!(
                "{at}: its daemon does not answer; if it was killed, mount again, or unmount with dewfs umount {word}"
            ),
            Self::Stuck { pid } => format!(
                "{at}: its daemon does not answer; it runs (process {pid}) and is stuck: dewfs umount --no-wait {word} unmounts it, \
                 and nothing is lost"
            ),
        })
    }
}

/// How long a daemon has for its first word.
const PATIENCE: Duration = Duration::from_secs(8);

impl Target {
    /// The mount that holds `path`. Symlinks on the way to it are followed, one at its end only if it lies in no mount.
    pub(super) fn of(path: &Path) -> Result<Self, Failure> {
        let mounts = mounts()?;
        Self::among(path, &mounts).ok_or_else(|| outside(path))
    }

    /// The same, with the list of mounts at hand; `None` if no dewfs mount holds it.
    pub(super) fn among(path: &Path, mounts: &[Mount]) -> Option<Self> {
        let written = absolute(path)?;
        // The text alone is tried first: it asks no file system, so a frozen one cannot hold up the answer.
        let plain = !written.components().any(|part| part == Component::ParentDir);
        if plain && let Some(mount) = dewfs_above(&written, mounts) {
            return Some(Self::at(mount, &written));
        }
        let found = followed(&written)?;
        // A link in a mount is an item of its own; one that is in none is the way into one.
        let at = |place: &Path| Some(Self::at(dewfs_above(place, mounts)?, place));
        at(&found).or_else(|| at(&written.canonicalize().ok()?))
    }

    fn at(mount: Mount, path: &Path) -> Self {
        let below = path.strip_prefix(&mount.mountpoint).unwrap_or(Path::new(""));
        Self { scope: Scope::of(below.as_os_str().as_bytes()), mount }
    }

    /// A connection to the daemon behind the mount.
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        self.reach().map_err(|why| why.failure(&self.mount.mountpoint))
    }

    /// The same; tells one that is gone from one that is stuck: a socket takes connections for a process that stands still.
    pub(super) fn reach(&self) -> Result<Client, Unreached> {
        let daemons = find_daemon(&self.mount.mountpoint, self.mount.owner, Who::current().uid);
        let mut why = Unreached::Gone;
        for found in daemons {
            let Ok(mut client) = Client::connect(&found.note.socket) else { continue };
            // Notes say what their writers like: nobody but the mount's owner serves it.
            if client.peer() != self.mount.owner {
                continue;
            }
            let asked = client
                .set_patience(Some(PATIENCE))
                .and_then(|()| client.ask(Request::Version, false, |_, _| {}))
                .and_then(|_| client.set_patience(None));
            match asked {
                Ok(()) => return Ok(client),
                Err(error) if error.is_silence() => {
                    why = Unreached::Stuck { pid: found.note.pid };
                }
                // It ended in this moment.
                Err(_) => {}
            }
        }
        Err(why)
    }
}

/// Why no daemon can be asked about this path.
fn outside(path: &Path) -> Failure {
    let shown = path.display();
    let is_missing = path.symlink_metadata().is_err_and(|why| why.kind() == ErrorKind::NotFound);
    Failure::failed(match is_missing {
        true => format!("{shown}: not in a dewfs mount, and no such file or folder"),
        false => format!("{shown}: not in a dewfs mount; dewfs status shows what is mounted"),
    })
}

/// The path from the root, `.` and double slashes dropped, `..` kept.
fn absolute(path: &Path) -> Option<PathBuf> {
    let from = if path.is_absolute() { PathBuf::new() } else { std::env::current_dir().ok()? };
    Some(from.join(path).components().filter(|part| *part != Component::CurDir).collect())
}

/// The path with the symlinks on its way followed.
fn followed(path: &Path) -> Option<PathBuf> {
    match path.file_name() {
        Some(name) => Some(path.parent()?.canonicalize().ok()?.join(name)),
        None => path.canonicalize().ok(),
    }
}

/// So many paths go into one request: a daemon takes none without an end.
const AT_ONCE: usize = 1000;

/// Paths in groups of one mount and one request each, in order.
pub(super) fn by_mount(paths: &[PathBuf]) -> Result<Vec<(Target, Vec<Scope>)>, Failure> {
    let mounts = mounts()?;
    let mut groups: Vec<(Target, Vec<Scope>)> = Vec::new();
    for path in paths {
        let target = Target::among(path, &mounts).ok_or_else(|| outside(path))?;
        let scope = target.scope.clone();
        match groups.last_mut() {
            Some((last, scopes)) if last.mount == target.mount && scopes.len() < AT_ONCE => {
                scopes.push(scope);
            }
            _ => groups.push((target, vec![scope])),
        }
    }
    Ok(groups)
}

/// A path, or for `NAME:` the place where that saved remote is mounted.
pub(super) fn place_of(given: &Path, common: &Common) -> Result<PathBuf, Failure> {
    let text = given.as_os_str();
    let is_name = text.as_bytes().ends_with(b":") && !text.as_bytes().contains(&b'/');
    if !is_name || given.symlink_metadata().is_ok() {
        return Ok(given.to_owned());
    }
    let cwd = std::env::current_dir()?;
    let config = common.config.as_deref();
    Ok(own_mountpoint(text, config, &Who::current(), &cwd, &common.schemes)?)
}

/// All mounts of the caller.
pub(super) fn mine() -> Result<Vec<Target>, Failure> {
    let uid = Who::current().uid;
    let mine = |mount: &Mount| mount.is_dewfs() && mount.owner.is_none_or(|owner| owner == uid);
    let whole = |mount| Target { mount, scope: Scope::of(b"") };
    Ok(mounts()?.into_iter().filter(mine).map(whole).collect())
}

/// The path somebody gave, or the current directory.
pub(super) fn here(path: Option<&PathBuf>) -> PathBuf {
    path.cloned().unwrap_or_else(|| PathBuf::from(OsStr::new(".")))
}
