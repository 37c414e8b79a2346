//! The command line: a thin client of [`control`](crate::control), one file a command.
//!
//! [`run`] takes the arguments, finds out which command is meant, and answers its exit status: 0 done, 1 failed, 2 wrong
//! usage, 3 time ran out or work left, 4 a person is needed. `dewfs SPEC DIR` is a mount in the manner of mount(8), with its
//! exit statuses. Answers go to stdout, everything else to stderr in one line; bars only to a terminal.

mod args;
mod cache;
mod completions;
mod doctor;
mod exit;
mod free;
mod hydrate;
mod ls;
mod man;
pub mod mount;
mod output;
mod paths;
mod pin;
mod progress;
mod remote;
pub mod remotes;
mod status;
mod sync;
mod target;
mod umount;
mod users;
mod why;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};

pub use args::{Cli, Command, Common};
pub use exit::{ATTENTION, DONE, FAILED, Failure, LEFT, USAGE};

/// Runs the program with these arguments (the first is its name) and answers its exit status.
pub fn run(arguments: Vec<OsString>) -> u8 {
    if let Some(mount) = args::mount_like(&arguments) {
        return mount::run_like_mount(&mount);
    }
    if let Some(name) = args::not_yet(&arguments) {
        return exit::report(&Failure::usage(format!("{name}: not available in this version")));
    }
    let matches = match Cli::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return args::explain(&error),
    };
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => match dispatch(&cli) {
            Ok(status) => status,
            Err(failure) => exit::report(&failure),
        },
        Err(error) => args::explain(&error),
    }
}

fn dispatch(cli: &Cli) -> Result<u8, Failure> {
    let common = &cli.common;
    match &cli.command {
        Command::Mount(args) => Ok(mount::run(args, common)),
        Command::Umount(args) => umount::run(args, common),
        Command::Status(args) => status::run(args, common),
        Command::Sync(args) => sync::run(args, common),
        Command::Ls(args) => ls::run(args, common),
        Command::Hydrate(args) => hydrate::run(args, common),
        Command::Free(args) => free::run(args, common),
        Command::Pin(args) => pin::run(args, common),
        Command::Unpin(args) => pin::run_unpin(args, common),
        Command::Why(args) => why::run(args, common),
        Command::Cache(args) => cache::run(args, common),
        Command::Remote(args) => remote::run(args, common),
        Command::Doctor(args) => doctor::run(args, common),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
