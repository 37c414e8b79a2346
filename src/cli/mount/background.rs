//! Going to the background: this program is started once more as the daemon, and waited for until it can be used.
//!
//! The daemon's standard output is a pipe to who waits: it says there that it is ready, or why not. The process group stays
//! the same until the mount is up: an automount point lets only its own group through to mount on it.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::failure::{Failure, Kind};
use crate::config::pass_on;

/// Tells the daemon what it is.
const MARK: &str = "DEWFS_BACKGROUND";

const READY: &str = "ready\n";

/// Whether this process is the daemon in the background.
pub(super) fn is_daemon() -> bool {
    env::var_os(MARK).is_some()
}

/// Starts the daemon and waits until its mount can be used.
pub(super) fn start() -> Result<(), Failure> {
    keep_descriptors_from_daemon();
    let (mut reader, writer) =
        io::pipe().map_err(|why| Failure::system("no pipe to wait at", &why))?;
    let program = program();
    let mut arguments = env::args_os();
    let mut command = Command::new(&program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(MARK, "1").stdout(OwnedFd::from(writer));
    let secrets =
        pass_on(&mut command).map_err(|why| Failure::system("no memory for the secret", &why))?;
    let what = program.display().to_string();
    let mut daemon = command.spawn().map_err(|why| Failure::system(&what, &why))?;
    // It holds our end of the pipe that the daemon writes to.
    drop((command, secrets));
    let mut said = String::new();
    reader
        .read_to_string(&mut said)
        .map_err(|why| Failure::system("the daemon cannot be heard", &why))?;
    if let Some(notices) = said.strip_prefix(READY) {
        notices.lines().for_each(|notice| eprintln!("dewfs: {notice}"));
        return Ok(());
    }
    Err(Failure::read(&said).unwrap_or_else(|| {
        let end = daemon.wait().map_or_else(|why| why.to_string(), |status| status.to_string());
        Failure::new(Kind::System, format!("the daemon ended without a word ({end})"))
    }))
}

/// Says why there is no mount to who waits.
pub(super) fn report(failure: &Failure) {
    say(&failure.written());
}

/// Says that the mount can be used, and lets go of terminal, session and the caller's descriptors.
///
/// `notice` is what a person should know all the same.
pub(super) fn leave(notice: Option<&str>) -> io::Result<()> {
    // Who leads a group already cannot have a session of its own; that is not worth failing for.
    if let Err(why) = rustix::process::setsid() {
        tracing::debug!("no session of its own: {why}.");
    }
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    say(&[READY, notice.unwrap_or_default()].concat());
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok(())
}

fn say(what: &str) {
    let mut stdout = io::stdout();
    // Who waited may have gone away; the mount does not need it.
    drop(stdout.write_all(what.as_bytes()).and_then(|()| stdout.flush()));
}

/// This program's file; if that was replaced meanwhile, what runs.
fn program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    env::current_exe().ok().filter(|file| file.exists()).unwrap_or(running)
}

/// Sees to it that the daemon inherits nothing but the standard descriptors: a shell that reads a pipe to its end, or holds
/// a lock by a descriptor, must not wait for the daemon.
#[allow(unsafe_code)]
fn keep_descriptors_from_daemon() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|number| *number > 2);
    for number in numbers {
        // SAFETY: this sets a flag of a descriptor that takes effect when another program is started; nothing is closed
        // here, and a number that is no descriptor any more is answered with an error.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
