//! `dewfs-helper`: does for an ordinary user's `dewfs` the three things that need privilege: it mounts under the rules of
//! fusermount3, and it registers and unregisters files that the kernel then reads and writes itself.
//!
//! systemd hands it a socket that everybody may connect to. A connection is one user, as the kernel names him, and has a
//! thread of its own that has become that user but for the privilege: what hangs, hangs for him alone. It keeps no FUSE
//! descriptor: each request brings it, and it is closed before the answer, so a mount ends with its daemon. [`request`] is
//! the protocol, [`checks`] says what may be registered, [`mounting`] where may be mounted, [`limits`] how much.

mod checks;
mod kernel;
mod limits;
mod mounting;
mod request;
mod systems;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use limits::{Ledger, Limits};

/// It ends when nobody has been connected for so long; systemd starts it again.
const IDLE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
/// A thread calls nothing that is deep.
const STACK: usize = 128 << 10;

const USAGE: &str =
    "usage: dewfs-helper [--socket PATH] [--backings NUMBER] [--requests NUMBER-A-SECOND]";

/// Is what the command line says; systemd's says nothing.
#[derive(Default)]
struct Options {
    socket: Option<PathBuf>,
    limits: Limits,
}

fn options(mut words: impl Iterator<Item = OsString>) -> Option<Options> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let value = words.next()?;
        let number = || value.to_str()?.parse::<u32>().ok();
        match word.to_str()? {
            "--socket" => options.socket = Some(value.into()),
            "--backings" => options.limits.backings = number()?,
            "--requests" => options.limits.requests = number()?,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let listener = match &options.socket {
        Some(at) => listen(at),
        None => kernel::socket_of_systemd(),
    };
    match listener.and_then(|listener| serve(&listener, options.limits)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("dewfs-helper: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the socket itself, for who runs it without systemd.
fn listen(at: &Path) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let listener = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(at)?)?;
    rustix::fs::chmod(at, rustix::fs::Mode::from_raw_mode(0o666))?;
    rustix::net::listen(&listener, 64)?;
    Ok(listener)
}

fn serve(listener: &OwnedFd, limits: Limits) -> io::Result<()> {
    let ledger = Arc::new(Ledger::new(limits));
    loop {
        let mut waiting = [PollFd::new(listener, PollFlags::IN)];
        if poll(&mut waiting, Some(&IDLE)) == Ok(0) && ledger.is_idle() {
            return Ok(());
        }
        if !waiting[0].revents().is_empty() && welcome(listener, &ledger).is_err() {
            // Out of descriptors, memory or threads: others must end first.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn welcome(listener: &OwnedFd, ledger: &Arc<Ledger>) -> io::Result<()> {
    let line = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    let who = sockopt::socket_peercred(&line)?;
    let Some(seat) = ledger.seat(who.uid.as_raw()) else {
        request::refuse(&line);
        return Ok(());
    };
    let ledger = Arc::clone(ledger);
    let serve = move || request::serve(&line, who, &ledger, seat);
    std::thread::Builder::new().stack_size(STACK).spawn(serve).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn given(words: &[&str]) -> Option<Options> {
        options(words.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_understood_or_refused() {
        let options = given(&["--socket", "/run/x", "--backings", "3"]).unwrap();
        assert_eq!(options.socket.as_deref(), Some(Path::new("/run/x")));
        assert_eq!(options.limits.backings, 3);
        assert_eq!(given(&[]).unwrap().limits.requests, Limits::default().requests);
        for wrong in [&["--socket"][..], &["--backings", "many"], &["--debug", "x"]] {
            assert!(given(wrong).is_none(), "{wrong:?}");
        }
    }
}
