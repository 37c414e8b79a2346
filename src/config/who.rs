//! Who runs the program, and where this person's files are.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

/// Is the person who runs the program. mount(8) removes `HOME`, so what the environment does not say is asked of the
/// user database.
#[derive(Clone, Debug)]
pub struct Who {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Home directory by the user database, whatever the environment says.
    pub home: Option<PathBuf>,
    /// Where this person's configuration is: `$XDG_CONFIG_HOME`, else `~/.config`. Nowhere if this process may more than the
    /// person: what it mounts, and where, is then the administrator's to say.
    pub config_home: Option<PathBuf>,
    /// Where this person's state is: `$XDG_STATE_HOME`, else `~/.local/state`.
    pub state_home: Option<PathBuf>,
}

/// Whether this process may administer the machine for somebody who may not: then nothing that this person can write may say
/// what it does.
pub fn is_entrusted() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let may =
        |sets: rustix::thread::CapabilitySets| sets.effective.contains(CapabilitySet::SYS_ADMIN);
    !Uid::effective().is_root() && capabilities(None).is_ok_and(may)
}

impl Who {
    /// The person who runs this process.
    pub fn current() -> Self {
        let uid = Uid::effective();
        let listed = home_of(uid.as_raw());
        let home = absolute_from_env("HOME").or_else(|| listed.clone());
        let config_home = absolute_from_env("XDG_CONFIG_HOME")
            .or_else(|| home.as_ref().map(|home| home.join(".config")))
            .filter(|_| !is_entrusted());
        let state_home = absolute_from_env("XDG_STATE_HOME")
            .or_else(|| home.as_ref().map(|home| home.join(".local/state")));
        Self {
            uid: uid.as_raw(),
            gid: Gid::effective().as_raw(),
            home: listed.or(home),
            config_home,
            state_home,
        }
    }

    /// A path as this person writes it, from the root: in `--option=~/x` no shell writes the home directory out.
    pub fn path(&self, cwd: &Path, given: &Path) -> PathBuf {
        match (given.strip_prefix("~"), &self.home) {
            (Ok(below), Some(home)) => home.join(below),
            _ => cwd.join(given),
        }
    }

    /// Whether this is root.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Whether a path is written from the home directory of who runs the program.
pub(super) fn is_from_home(path: &str) -> bool {
    path == "~" || path.starts_with("~/")
}

/// The home directory of a user, by the user database.
pub(super) fn home_of(uid: u32) -> Option<PathBuf> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.dir)
}

/// The XDG rules: a path that is not absolute counts as not set.
fn absolute_from_env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The number of a user given by number or name.
pub(super) fn parse_user(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| User::from_name(text).ok().flatten().map(|u| u.uid.as_raw()))
}

/// The number of a group given by number or name.
pub(super) fn parse_group(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| {
        nix::unistd::Group::from_name(text).ok().flatten().map(|group| group.gid.as_raw())
    })
}
