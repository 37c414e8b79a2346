//! Where a mount keeps its state, and where commands find it.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::spec::RemoteSpec;
use super::{ConfigError, Who};

/// Is where one mount's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Names this mount: the same remote, user and mountpoint have the same one.
    pub id: String,
    /// Catalog and content.
    pub state_dir: PathBuf,
    /// The socket of the running daemon.
    pub socket: PathBuf,
    /// A small file that says which mountpoint this socket is for.
    pub note: PathBuf,
    /// The log of a mount in the background.
    pub log: PathBuf,
    /// The file in the usual place of states that says where this one is, if it is elsewhere.
    pub elsewhere: Option<PathBuf>,
}

/// Is where the sockets of one user's mounts are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    /// Where the notes are.
    pub notes: PathBuf,
    /// Where the sockets are; `None` = each in its state directory.
    pub sockets: Option<PathBuf>,
}

impl RunDir {
    /// Where a user's daemon that starts now is found, whatever the environment says.
    pub fn of(uid: u32) -> Option<Self> {
        let all = Self::all(uid);
        // A service of the machine outlives the sessions of its user, and what logind removes with them.
        if uid != 0 && is_service_of_machine() { all.last() } else { all.first() }.cloned()
    }

    /// Everywhere where daemons of a user can be found.
    pub fn all(uid: u32) -> Vec<Self> {
        let here = |dir: PathBuf| Self { sockets: Some(dir.clone()), notes: dir };
        if uid == 0 {
            return vec![here(PathBuf::from("/run/dewfs"))];
        }
        let runtime = PathBuf::from(format!("/run/user/{uid}"));
        let is_there =
            std::fs::metadata(&runtime).is_ok_and(|about| about.is_dir() && about.uid() == uid);
        let runtime = is_there.then(|| here(runtime.join("dewfs")));
        let home = super::who::home_of(uid)
            .map(|home| Self { notes: home.join(".local/state/dewfs/run"), sockets: None });
        runtime.into_iter().chain(home).collect()
    }
}

/// Whether this process belongs to a unit of the machine's systemd, rather than to a session or a user's systemd.
pub fn is_service_of_machine() -> bool {
    std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| {
        text.lines().any(|line| {
            let path = line.splitn(3, ':').nth(2).unwrap_or_default();
            path.contains("/system.slice/") && !path.contains("/user@")
        })
    })
}

impl Places {
    /// The folder among the usual states with notes of those that are elsewhere.
    pub const ELSEWHERE: &str = "elsewhere";

    /// The places of a mount; `state_dir` is the option of this name.
    pub(super) fn of(
        id: String,
        state_dir: Option<PathBuf>,
        who: &Who,
    ) -> Result<Self, ConfigError> {
        let (state_dir, elsewhere) = match state_dir {
            Some(dir) => (dir.clone(), state_base(who).ok().and_then(|base| noted_at(&base, &dir))),
            None => (state_base(who)?.join(&id), None),
        };
        let run = RunDir::of(who.uid);
        let sockets = run.as_ref().and_then(|run| run.sockets.clone());
        let notes = run.map_or_else(|| state_dir.clone(), |run| run.notes);
        Ok(Self {
            socket: sockets.unwrap_or_else(|| state_dir.clone()).join(format!("{id}.sock")),
            note: notes.join(format!("{id}.json")),
            log: state_dir.join("log"),
            state_dir,
            elsewhere,
            id,
        })
    }
}

/// Where a state that is not one of the usual place `base` is noted: by its own name, for the same mount may have several.
fn noted_at(base: &Path, state_dir: &Path) -> Option<PathBuf> {
    if state_dir.parent() == Some(base) {
        return None;
    }
    let name = blake3::hash(state_dir.as_os_str().as_bytes()).to_hex();
    let name: String = name.chars().take(20).collect();
    Some(base.join(Places::ELSEWHERE).join(format!("{name}.json")))
}

/// Where a user's states are: `/var/lib/dewfs` for root, else `$XDG_STATE_HOME/dewfs`.
pub fn state_base(who: &Who) -> Result<PathBuf, ConfigError> {
    if who.is_root() {
        return Ok(PathBuf::from("/var/lib/dewfs"));
    }
    let home = who.state_home.as_ref().ok_or_else(|| {
        ConfigError::Place(format!(
            "user {} has no home directory: say where the state goes with -o state_dir=DIR",
            who.uid
        ))
    })?;
    Ok(home.join("dewfs"))
}

/// The name of the mount of this remote, as this user, by this endpoint, at this mountpoint: the same every time.
pub fn state_id(
    remote: &RemoteSpec,
    user: Option<&str>,
    endpoint: Option<&str>,
    at: &Path,
) -> String {
    let mut hash = blake3::Hasher::new();
    let parts = [
        remote.canonical(),
        user.unwrap_or_default().into(),
        endpoint.unwrap_or_default().into(),
        at.as_os_str().as_bytes().to_vec(),
    ];
    for part in parts {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(&part);
    }
    hash.finalize().to_hex().chars().take(20).collect()
}

/// The path with symlinks resolved as far as it exists.
pub fn resolved(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut at = super::spec::lexical(path);
    loop {
        if let Ok(found) = at.canonicalize() {
            return missing.iter().rev().fold(found, |dir, name| dir.join(name));
        }
        match at.file_name() {
            Some(name) => missing.push(name.to_owned()),
            None => return super::spec::lexical(path),
        }
        at.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &str) -> RemoteSpec {
        RemoteSpec::Folder(path.into())
    }

    #[test]
    fn an_id_stays_for_ever() {
        // Written down: a change here would lose every state there is.
        let id = state_id(&folder("/srv/data"), None, None, Path::new("/mnt/data"));
        assert_eq!(id, "2aae4917142fbf9433fa");
    }

    #[test]
    fn each_part_matters() {
        let at = Path::new("/mnt");
        let one = state_id(&folder("/srv"), Some("a"), None, at);
        for other in [
            state_id(&folder("/srv"), Some("b"), None, at),
            state_id(&folder("/srv"), None, Some("a"), at),
            state_id(&folder("/srv"), Some("a"), None, Path::new("/mnt2")),
            state_id(&folder("/srv2"), Some("a"), None, at),
        ] {
            assert_ne!(one, other);
        }
    }
}
