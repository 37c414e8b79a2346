//! Where a mount is made. The own place of a saved remote is looked after: closed to writing while nothing is mounted there,
//! and cleared of what was saved there all the same.

use std::path::PathBuf;

use tokio::runtime::Handle;
use tracing::warn;

use super::failure::Failure;
use crate::config::MountOptions;
use crate::engine::Engine;
use crate::fuse::{self, Bare, MountAs, Mounted, MountpointError};

/// Is a place that can be mounted on.
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute, without symlinks.
    pub(super) path: PathBuf,
    /// Whether it is dewfs's to look after.
    is_own: bool,
    /// Whether it was mounted there before: what is in the folder was saved since then, by mistake.
    is_known: bool,
}

impl Place {
    /// Looks whether it can be mounted on.
    pub(super) fn examine(options: &MountOptions) -> Result<Self, MountpointError> {
        // Who wants something below the mount has it there.
        let is_own = options.is_own_place && !options.nonempty;
        let is_known = is_own && options.places.state_dir.join("catalog.db").exists();
        let path = fuse::examine(&options.mountpoint, options.nonempty || is_known)?;
        Ok(Self { path, is_own, is_known })
    }

    /// Mounts there. Answers what who mounts should know as well.
    pub(super) fn mount(
        &self,
        engine: &Engine,
        how: &MountAs,
    ) -> Result<(Mounted, Option<String>), Failure> {
        let bare = if self.is_own { Bare::at(&self.path) } else { None };
        let Some(bare) = bare else {
            return Ok((fuse::mount(engine, &Handle::current(), how)?, None));
        };
        bare.open_up();
        let mounted = self.mount_over(&bare, engine, how);
        if mounted.is_ok() || self.is_known {
            bare.close();
        }
        mounted
    }

    fn mount_over(
        &self,
        bare: &Bare,
        engine: &Engine,
        how: &MountAs,
    ) -> Result<(Mounted, Option<String>), Failure> {
        let mut told = None;
        if self.is_known {
            let aside = bare
                .set_aside()
                .map_err(|why| MountpointError::NotCleared { place: self.path.clone(), why })?;
            told = aside.map(|aside| self.tell(&aside));
        }
        let mounted = fuse::mount(engine, &Handle::current(), how)?;
        // Somebody may have been quick.
        match bare.set_aside() {
            Ok(None) => {}
            Ok(Some(aside)) => told = Some(self.tell(&aside)),
            Err(why) => {
                warn!("{}: what is below the mount cannot be moved: {why}.", self.path.display());
            }
        }
        Ok((mounted, told))
    }

    fn tell(&self, aside: &std::path::Path) -> String {
        let (place, aside) = (self.path.display(), aside.display());
        warn!("what was saved in {place} while it was unmounted is now in {aside}.");
        format!("what was saved in {place} while it was unmounted is now in {aside}")
    }
}
