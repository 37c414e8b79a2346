//! Where a mount is made. The own place of a saved remote is looked after: closed to writing while nothing is mounted there,
//! and cleared of what was saved there all the same.

use std::path::PathBuf;

use tokio::runtime::Handle;
use tracing::warn;

use super::failure::Failure;
use crate::config::MountOptions;
use crate::control::Note;
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
        // The note stays where nothing is mounted.
        let noted = Note::read(&options.places.state_dir.join(Note::IN_STATE));
        let was_here = noted.is_some_and(|note| note.mountpoint == options.mountpoint);
        let is_known = is_own && was_here && Bare::at(&options.mountpoint).is_some();
        let path = fuse::examine(&options.mountpoint, options.nonempty || is_known)?;
        Ok(Self { path, is_own, is_known })
    }

    /// Mounts there. Answers what who mounts should know as well.
    pub(super) fn mount(
        &self,
        engine: &Engine,
        how: &MountAs,
    ) -> Result<(Mounted, Option<String>), Failure> {
        // Whatever is mounted there: fusermount3 wants to be able to write in it.
        let Some(bare) = Bare::at(&self.path) else {
            return Ok((fuse::mount(engine, &Handle::current(), how)?, None));
        };
        let was_closed = bare.open_up();
        let before = if self.is_known { self.set_aside(&bare) } else { None };
        let mounted = fuse::mount(engine, &Handle::current(), how);
        if was_closed || self.is_own && mounted.is_ok() {
            bare.close();
        }
        let mounted = mounted?;
        // Somebody may have been quick.
        let after = if self.is_own { self.set_aside(&bare) } else { None };
        Ok((mounted, after.or(before)))
    }

    /// What cannot be moved is below the mount, as it would be anywhere else.
    fn set_aside(&self, bare: &Bare) -> Option<String> {
        let place = self.path.display();
        let (aside, failed) = bare.set_aside().unwrap_or_else(|why| (None, Some(why)));
        if let Some(why) = failed {
            warn!("{place}: what is below the mount cannot be moved beside it: {why}.");
        }
        let told = format!(
            "what was saved in {place} while it was unmounted is now in {}",
            aside?.display()
        );
        warn!("{told}.");
        Some(told)
    }
}
