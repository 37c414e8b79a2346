//! Secrets of the environment, on their way to who signs in and to nobody else.
//!
//! What stood in the environment goes to an unnamed file in memory, and the program starts itself again without it. The one
//! that was started reads the file, closes it, and keeps what it read to itself; only the daemon that is started to be the
//! mount gets a file of its own ([`pass_on`]). So neither `/proc/PID/environ` nor any descriptor of a child has it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use secrecy::zeroize::Zeroizing;

use super::ConfigError;

pub(super) const PASSWORD: &str = "DEWFS_PASSWORD";
const TOKEN: &str = "DEWFS_TOKEN";
pub(super) const USER: &str = "DEWFS_USER";
const HANDED_OVER: &str = "DEWFS_SECRET_FD";

/// What such a file is called; the kernel says so where it shows descriptors.
const NAME: &str = "dewfs-secret";

static TAKEN: Mutex<Option<Zeroizing<String>>> = Mutex::new(None);

/// What stood in the environment, as lines of a credentials file; only who asks first gets it.
pub(super) fn take() -> Option<Zeroizing<String>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Lets go of what stood in the environment, where nobody will ask for it.
pub fn forget() {
    drop(take());
}

/// Hands it on to the program that `command` starts, which has to be this one again. What is answered has to live until then.
pub fn pass_on(command: &mut Command) -> io::Result<Option<File>> {
    command.env_remove(HANDED_OVER);
    let Some(text) = take() else { return Ok(None) };
    let memory = in_memory(&text)?;
    command.env(HANDED_OVER, memory.as_raw_fd().to_string());
    Ok(Some(memory))
}

/// An unnamed file that a started program inherits.
fn in_memory(text: &str) -> io::Result<File> {
    let memory = rustix::fs::memfd_create(NAME, rustix::fs::MemfdFlags::empty())?;
    let mut memory = File::from(memory);
    memory.write_all(text.as_bytes())?;
    Ok(memory)
}

/// Sees to it that what is in memory does not get to the disk or to other programs of the same user: no core dump is written,
/// and no debugger or reader of `/proc/PID/mem` is let in, unless it is root's. Programs started from here are not concerned.
pub fn keep_memory_private() {
    let undumped = rustix::process::DumpableBehavior::NotDumpable;
    // A kernel that refuses knows no core dumps either.
    let _unchanged = rustix::process::set_dumpable_behavior(undumped);
}

/// Moves secrets out of the environment, before any thread or child exists. Afterwards neither `/proc/PID/environ` nor any
/// child has them. Returns only if there is nothing left to hide, or if it could not be done.
pub fn hide_secrets_in_environment() -> Result<(), ConfigError> {
    let failed = |error: io::Error| {
        ConfigError::Credentials(format!(
            "{PASSWORD}: cannot be taken out of the environment: {error}"
        ))
    };
    if let Some(text) = received().map_err(failed)? {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
    if std::env::var_os(PASSWORD).is_none() && std::env::var_os(TOKEN).is_none() {
        return Ok(());
    }
    let mut again = Command::new("/proc/self/exe");
    let mut text = Zeroizing::new(String::new());
    for (name, key) in [(PASSWORD, "password"), (TOKEN, "token"), (USER, "username")] {
        if let Some(value) = std::env::var_os(name) {
            text.extend([key, "=", &value.to_string_lossy(), "\n"]);
            again.env_remove(name);
        }
    }
    let memory = in_memory(&text).map_err(failed)?;
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    again.args(arguments).env(HANDED_OVER, memory.as_raw_fd().to_string());
    Err(failed(again.exec()))
}

/// What who started this program handed over, out of a descriptor that is closed by then. The number alone, which children
/// inherit, names none.
fn received() -> io::Result<Option<Zeroizing<String>>> {
    let Some(number) = std::env::var(HANDED_OVER).ok().and_then(|text| text.parse::<i32>().ok())
    else {
        return Ok(None);
    };
    let path = format!("/proc/self/fd/{number}");
    let is_ours = std::fs::read_link(&path)
        .is_ok_and(|found| found.to_string_lossy().starts_with(&format!("/memfd:{NAME}")));
    if !is_ours {
        return Ok(None);
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.read_to_string(&mut text)?;
    nix::unistd::close(number)?;
    Ok(Some(text))
}
