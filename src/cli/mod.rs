//! The command line: a thin client of [`control`](crate::control), one file a command.
//!
//! [`run`] takes the arguments, finds out which command is meant, and answers its exit status: 0 done, 1 failed, 2 wrong
//! usage, 3 time ran out or work left, 4 a person is needed. `dewfs SPEC DIR` is a mount in the manner of mount(8), with its
//! exit statuses. Answers go to stdout, everything else to stderr in one line; bars only to a terminal.

mod args;
mod browser;
mod cache;
mod completions;
mod doctor;
mod examples;
mod exit;
mod find;
mod free;
mod held;
mod hydrate;
mod keyring;
mod login;
mod ls;
mod man;
mod mount;
mod mounting;
mod output;
mod paths;
mod pause;
mod pin;
mod progress;
mod remote;
pub mod remotes;
mod remove;
mod resolve;
mod saved;
mod schemes;
mod serve;
mod setup;
mod status;
mod sync;
mod target;
mod umount;
mod units;
mod unmounted;
mod users;
mod watch;
mod way_out;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::config::Schemes;

pub use args::{Cli, Command, Common};
pub use exit::{ATTENTION, DONE, FAILED, Failure, LEFT, USAGE};
pub use mount::{Order, Voice, run as run_mount};
pub use schemes::main_with;

/// Runs the program with these arguments (the first is its name) and kinds of remotes, and answers its exit status.
pub fn run(arguments: &[OsString], schemes: &Schemes) -> ExitCode {
    if args::is_mount_like(arguments) {
        return mounting::run_like_mount(arguments.get(1..).unwrap_or_default(), schemes);
    }
    let commands = args::command_line().color(args::colors_of_help(arguments));
    let matches = commands.try_get_matches_from(arguments);
    let read = matches.and_then(|matches| Cli::from_arg_matches(&matches)).map(|mut cli| {
        cli.common.schemes = schemes.clone();
        cli
    });
    match read {
        Ok(Cli { common, command: Command::Mount(args) }) => mounting::run(&args, &common),
        Ok(cli) => {
            let outcome = dispatch(&cli);
            ExitCode::from(outcome.unwrap_or_else(|failure| exit::report(&failure)))
        }
        Err(error) => ExitCode::from(args::explain(&error, arguments)),
    }
}

fn dispatch(cli: &Cli) -> Result<u8, Failure> {
    let common = &cli.common;
    match &cli.command {
        // It lives longer than a command and has exit statuses of its own.
        Command::Mount(_) => Ok(FAILED),
        Command::Umount(args) => umount::run(args, common),
        Command::Status(args) => status::run(args, common),
        Command::Sync(args) => sync::run(args, common),
        Command::Ls(args) => ls::run(args, common),
        Command::Hydrate(args) => hydrate::run(args, common),
        Command::Free(args) => free::run(args, common),
        Command::Pin(args) => pin::run(args, common),
        Command::Unpin(args) => pin::run_unpin(args, common),
        Command::Why(args) => why::run(args, common),
        Command::Conflicts(args) => held::run_conflicts(args, common),
        Command::Resolve(args) => resolve::run(args, common),
        Command::Held(args) => held::run(args, common),
        Command::Release(args) => held::run_release(args, common),
        Command::Undo(args) => held::run_undo(args, common),
        Command::Find(args) => find::run(args, common),
        Command::Du(args) => find::run_du(args, common),
        Command::Largest(args) => find::run_largest(args, common),
        Command::Recent(args) => find::run_recent(args, common),
        Command::Pause(args) => pause::run(args, common),
        Command::Resume(args) => pause::run_resume(args, common),
        Command::Watch(args) => watch::run(args, common),
        Command::Cache(args) => cache::run(args, common),
        Command::Setup(args) => setup::run(args, common),
        Command::Remove(args) => remove::run(args, common),
        Command::Login(args) => login::run(args, common),
        Command::Logout(args) => login::run_logout(args, common),
        Command::Remote(args) => remote::run(args, common),
        Command::Serve(args) => serve::run(args, common),
        Command::Doctor(args) => doctor::run(args, common),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
