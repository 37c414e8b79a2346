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
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use limits::{Ledger, Limits, Seat};

/// A thread calls nothing that is deep.
const STACK: usize = 128 << 10;

const USAGE: &str = "usage: dewfs-helper [SOCKET [BACKINGS [REQUESTS-A-SECOND]]]";

/// The socket to be made and the limits, from a command line; systemd's says nothing.
fn options(mut words: impl Iterator<Item = OsString>) -> Option<(Option<PathBuf>, Limits)> {
    let mut limits = Limits::default();
    let socket = words.next().map(PathBuf::from);
    for limit in [&mut limits.backings, &mut limits.requests] {
        let Some(word) = words.next() else { break };
        *limit = word.to_str()?.parse().ok()?;
    }
    words.next().is_none().then_some((socket, limits))
}

fn main() -> ExitCode {
    let Some((socket, limits)) = options(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match socket.map_or_else(kernel::socket_of_systemd, |at| listen(&at)) {
        Ok(listener) => serve(&listener, limits),
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

fn serve(listener: &OwnedFd, limits: Limits) -> ! {
    let ledger = Ledger::default();
    loop {
        if welcome(listener, &ledger, limits).is_err() {
            // Out of descriptors, memory or threads: others must end first.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn welcome(listener: &OwnedFd, ledger: &Ledger, limits: Limits) -> io::Result<()> {
    let line = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    let who = sockopt::socket_peercred(&line)?;
    let Some(seat) = Seat::take(ledger, limits, who.uid.as_raw()) else {
        request::refuse(&line);
        return Ok(());
    };
    let serve = move || request::serve(&line, &who, &seat);
    std::thread::Builder::new().stack_size(STACK).spawn(serve).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn given(words: &[&str]) -> Option<(Option<PathBuf>, Limits)> {
        options(words.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_understood_or_refused() {
        let (socket, limits) = given(&["/run/x", "3"]).unwrap();
        assert_eq!((socket.as_deref(), limits.backings), (Some(Path::new("/run/x")), 3));
        assert_eq!(limits.requests, Limits::default().requests);
        assert!(given(&[]).unwrap().0.is_none());
        for wrong in [&["/run/x", "many"][..], &["/run/x", "-1"], &["/run/x", "1", "2", "3"]] {
            assert!(given(wrong).is_none(), "{wrong:?}");
        }
    }
}
