//! `dewfs watch`: what happens in a mount, as JSON lines.

use std::path::PathBuf;

use clap::Args;

use crate::control::Request;

use super::output::Output;
use super::target::{Target, here};
use super::{Common, Failure, exit};

/// What to watch.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// A folder of a mount; the current directory otherwise
    dir: Option<PathBuf>,
}

/// Runs the command: prints until it is ended, or the mount is.
pub(super) fn run(args: &WatchArgs, common: &Common) -> Result<u8, Failure> {
    let path = here(args.dir.as_ref());
    let target = Target::of(&path)?;
    let output = Output::of(common);
    let request = Request::Events { scope: target.scope.clone() };
    let done = target.connect()?.ask(request, false, |_, line| output.line(line))?;
    exit::conclude(&done).map_err(|failure| failure.about(path.display()))
}
