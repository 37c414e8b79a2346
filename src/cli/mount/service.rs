//! What systemd is told of a mount in a unit of type `notify`.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells systemd a state, if it asked for it.
pub(super) fn tell(state: &str) {
    let Some(place) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&place),
    };
    let told = address.and_then(|address| -> io::Result<usize> {
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(why) = told {
        tracing::debug!("systemd was not told {state}: {why}.");
    }
}
