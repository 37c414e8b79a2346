//! `dewfs-helper`: does for an ordinary user's `dewfs` the things that need privilege: it mounts and unmounts under the
//! rules of fusermount3, and it registers and unregisters files that the kernel then reads and writes itself.
//!
//! systemd hands it a socket that everybody may connect to. A connection is one user, as the kernel names him, and has a
//! thread of its own that has become that user but for the privilege: what hangs, hangs for him alone. It keeps no FUSE
//! descriptor: each request brings it, and it is closed before the answer, or goes away with it; so a mount ends with its
//! daemon. [`request`] is the protocol, [`checks`] says what may be registered, [`mounting`] where may be mounted and what
//! unmounted, [`mod@limits`] how much.

mod checks;
mod kernel;
mod limits;
mod mounting;
mod request;
mod systems;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketFlags, accept_with, sockopt};

use limits::{Ledger, Seat};

/// A thread calls nothing that is deep.
const STACK: usize = 128 << 10;

const USAGE: &str = "usage: dewfs-helper [BACKINGS [REQUESTS-A-SECOND [LINES]]] <&SOCKET
Its standard input is a listening socket of kind SOCK_SEQPACKET: dewfs-helper.socket sees to that.";

/// The limits, from a command line; systemd's says nothing.
fn limits(mut words: impl Iterator<Item = OsString>) -> Option<Ledger> {
    let mut ledger = Ledger::default();
    let limits = [&mut ledger.backings, &mut ledger.requests, &mut ledger.most_lines];
    for (limit, word) in limits.into_iter().zip(&mut words) {
        *limit = word.to_str()?.parse().ok()?;
    }
    words.next().is_none().then_some(ledger)
}

fn main() -> ExitCode {
    let limits = limits(std::env::args_os().skip(1));
    let listens = sockopt::socket_acceptconn(std::io::stdin()).unwrap_or(false);
    let (Some(ledger), true) = (limits.map(Arc::new), listens) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    loop {
        if welcome(&ledger).is_err() {
            // Out of descriptors, memory or threads: others must end first.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn welcome(ledger: &Arc<Ledger>) -> std::io::Result<()> {
    let line = Arc::new(accept_with(std::io::stdin(), SocketFlags::CLOEXEC)?);
    let who = sockopt::socket_peercred(&line)?;
    let Some(seat) = Seat::take(ledger, who.uid.as_raw(), &line) else {
        request::refuse(&line);
        return Ok(());
    };
    let serve = move || request::serve(&who, &seat);
    std::thread::Builder::new().stack_size(STACK).spawn(serve).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn given(words: &[&str]) -> Option<Ledger> {
        limits(words.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_understood_or_refused() {
        let (usual, few) = (given(&[]).unwrap(), given(&["3"]).unwrap());
        assert_eq!((few.backings, few.requests), (3, usual.requests));
        let all = given(&["3", "4", "5"]).unwrap();
        assert_eq!((all.backings, all.requests, all.most_lines), (3, 4, 5));
        for wrong in [&["many"][..], &["-1"], &["1", "many"], &["1", "2", "3", "4"]] {
            assert!(given(wrong).is_none(), "{wrong:?}");
        }
    }
}
