//! A saved remote as commands see it: what it is, where it is mounted, where its state and its secret are.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::{
    ConfigFiles, MountOptions, MountRequest, SavedPlace, SavedRemote, Who, own_mountpoint, resolve,
};
use crate::fuse::mountinfo::{Mount, at};

use super::{Common, Failure};

/// Is a saved remote and its places.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    /// Its name.
    pub(super) name: String,
    /// What is written.
    pub(super) written: SavedRemote,
    /// Where it is written.
    pub(super) place: SavedPlace,
    /// Its mount, with nothing left to look up.
    pub(super) mount: MountOptions,
}

impl Saved {
    /// Looks it up; `NAME` and `NAME:` are the same.
    pub(super) fn find(given: &str, common: &Common) -> Result<Self, Failure> {
        let who = Who::current();
        let name = given.strip_suffix(':').unwrap_or(given).to_owned();
        let schemes = &common.schemes;
        let place = SavedPlace::of(&who, &name, schemes)?;
        let config = common.config.as_deref();
        let written = ConfigFiles::of(&who, config).remote(&name)?;
        let spec = OsString::from(format!("{name}:"));
        let cwd = std::env::current_dir()?;
        let dir: PathBuf = own_mountpoint(&spec, config, &who, &cwd, schemes)?;
        let request =
            MountRequest { spec: &spec, dir: &dir, options: &[], config, sloppy: false, schemes };
        let mount = resolve(&request, &who, &cwd)?;
        Ok(Self { name, written, place, mount })
    }

    /// The mount at its own place, if there is one.
    pub(super) fn mounted(&self) -> Result<Option<Mount>, Failure> {
        Ok(at(&self.mount.mountpoint)?.filter(Mount::is_dewfs))
    }

    /// Whether the caller wrote it, rather than the machine's administrator.
    pub(super) fn is_own(&self) -> bool {
        self.place.file.exists()
    }
}
