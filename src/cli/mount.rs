//! `dewfs mount`, and `dewfs SPEC DIR`: from options to a usable mount, and the life of its daemon.
//!
//! In the background the daemon is this program once more ([`background`]): the one that was called waits until the mount
//! can be used, or prints the line that says why not. [`daemon`] is the mount from its first to its last moment.

mod background;
mod daemon;
mod failure;
mod log;
mod place;
mod remote;
mod service;
mod thrift;
mod unused;

use std::process::ExitCode;

use crate::config::MountOptions;

pub use failure::Voice;

/// Is a mount to be made.
#[derive(Debug)]
pub struct Order {
    /// Everything about it.
    pub options: MountOptions,
    /// Whether this process is to be the daemon.
    pub foreground: bool,
    /// Whether everything is logged.
    pub debug: bool,
    /// Whose exit codes are wanted.
    pub voice: Voice,
}

/// Mounts. In the background it returns when the mount can be used, in the foreground when it has ended.
pub fn run(order: &Order) -> ExitCode {
    let is_daemon = background::is_daemon();
    let outcome = if order.foreground || is_daemon {
        daemon::run(order, is_daemon)
    } else {
        background::start()
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if is_daemon => {
            background::report(&failure);
            failure.code(order.voice)
        }
        Err(failure) => {
            service::status(&failure.to_string());
            eprintln!("dewfs: {failure}");
            failure.code(order.voice)
        }
    }
}
