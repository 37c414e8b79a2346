//! The protocol: one packet a request with its descriptors, one packet an answer. All numbers are this machine's own.
//!
//! | request | bytes | descriptors | answer's value |
//! | --- | --- | --- | --- |
//! | register | `1` | `/dev/fuse`, the file open for reading, the same open for both | the number |
//! | unregister | `2`, number | `/dev/fuse` | 0 |
//! | mount | `3`, flags, source | `/dev/fuse`, not mounted yet; the directory | 0 |
//!
//! An answer is request, errno, value: twelve bytes. The first one comes unasked: request 0, the protocol's number as value.

use std::ffi::OsStr;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, UCred,
};

use crate::limits::Seat;
use crate::{checks, kernel, mounting};

const PROTOCOL: u32 = 1;

const GREETING: u32 = 0;
const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;
const MOUNT: u32 = 3;

/// The longest request: a mount with a long source.
const LONGEST: usize = 4096;
/// The most descriptors of one.
const DESCRIPTORS: usize = 3;
/// How long who asks too often waits for the answer that says so.
const PAUSE: Duration = Duration::from_millis(10);

/// Serves one connection until its end.
pub(crate) fn serve(line: &OwnedFd, who: &UCred, seat: &Seat) {
    if kernel::become_user(who).is_err() || answer(line, GREETING, Ok(PROTOCOL)).is_err() {
        return;
    }
    let mut bytes = [0; LONGEST];
    while let Ok(Some((length, descriptors))) = receive(line, &mut bytes) {
        let request = bytes.get(..length).unwrap_or_default();
        let outcome = if seat.may_ask() {
            act(who, seat, request, &descriptors)
        } else {
            std::thread::sleep(PAUSE);
            Err(Errno::AGAIN)
        };
        // A mount lives as long as any descriptor of it: none is left when the caller goes on.
        drop(descriptors);
        if answer(line, number(request, 0).unwrap_or(GREETING), outcome).is_err() {
            break;
        }
    }
}

/// Tells who has too many connections already.
pub(crate) fn refuse(line: &OwnedFd) {
    // Who does not hear it sees the end.
    let _unheard = answer(line, GREETING, Err(Errno::USERS));
}

/// The next request's length and descriptors; nothing at the end.
fn receive(line: &OwnedFd, bytes: &mut [u8]) -> Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(bytes)];
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(line, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        // Too much of either: no request has so few descriptors.
        return Ok(Some((0, Vec::new())));
    }
    Ok((received.bytes > 0).then_some((received.bytes, descriptors)))
}

fn act(who: &UCred, seat: &Seat, request: &[u8], descriptors: &[OwnedFd]) -> Result<u32> {
    let uid = who.uid.as_raw();
    match (number(request, 0), request.len(), descriptors) {
        (Some(REGISTER), 4, [fuse, file, proof]) => {
            let connection = checks::Connection::of(fuse.as_fd(), uid)?;
            checks::may_register(file.as_fd(), proof.as_fd(), uid)?;
            if !seat.add(connection) {
                return Err(Errno::NFILE);
            }
            kernel::register(fuse.as_fd(), file.as_fd()).map_err(|error| {
                seat.remove(connection);
                Errno::from_io_error(&error).unwrap_or(Errno::IO)
            })
        }
        (Some(UNREGISTER), 8, [fuse]) => {
            let connection = checks::Connection::of(fuse.as_fd(), uid)?;
            let id = number(request, 4).ok_or(Errno::INVAL)?;
            kernel::unregister(fuse.as_fd(), id)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            seat.remove(connection);
            Ok(0)
        }
        (Some(MOUNT), 9.., [fuse, place]) => {
            let flags = number(request, 4).ok_or(Errno::INVAL)?;
            let source = OsStr::from_bytes(request.get(8..).ok_or(Errno::INVAL)?);
            mounting::mount(who, fuse.as_fd(), place.as_fd(), flags, source).map(|()| 0)
        }
        _ => Err(Errno::INVAL),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    four.try_into().ok().map(u32::from_ne_bytes)
}

/// Answers without waiting: who does not read does not keep a thread.
fn answer(line: &OwnedFd, request: u32, outcome: Result<u32>) -> Result<()> {
    let (errno, value) = match outcome {
        Ok(value) => (0, value),
        Err(errno) => (errno.raw_os_error().cast_unsigned(), 0),
    };
    let bytes = [request, errno, value].map(u32::to_ne_bytes).concat();
    rustix::net::send(line, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)
}
