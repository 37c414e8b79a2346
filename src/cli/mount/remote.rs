//! The remote of a mount, and who may still be asked for a password.

use super::failure::{Failure, Kind};
use crate::cli::remotes::{self, Opened};
use crate::config::MountOptions;

pub(super) fn open(options: &MountOptions) -> Result<Opened, Failure> {
    remotes::open_for(options).map_err(|failure| Failure::new(Kind::Mount, failure.message))
}
