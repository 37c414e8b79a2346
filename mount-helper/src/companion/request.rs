//! The protocol: one packet a request with its descriptors, one packet an answer. All numbers are this machine's own.
//!
//! | request | bytes | descriptors | answer's value |
//! | --- | --- | --- | --- |
//! | register | `1` | `/dev/fuse`, the file open for reading, the same open for both | the number |
//! | unregister | `2`, number | `/dev/fuse` | 0 |
//! | mount | `3`, flags, source | the directory | 0, and with it `/dev/fuse` |
//! | unmount | `4`, 1 if lazily, name | the directory in which the name is | 0 |
//!
//! An answer is request, errno, value: twelve bytes. The first one comes unasked: request 0, the protocol's number as value.

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, UCred,
};

use crate::limits::Seat;
use crate::{checks, kernel, mounting};

const PROTOCOL: u32 = 1;

const GREETING: u32 = 0;
const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;
const MOUNT: u32 = 3;
const UNMOUNT: u32 = 4;

/// The longest request: a mount with a long source.
const LONGEST: usize = 4096;
/// The most descriptors of one.
const DESCRIPTORS: usize = 3;
/// How long who asks too often waits for his answer.
const PAUSE: Duration = Duration::from_millis(10);

/// A value, and a descriptor that goes with it.
type Answer = Result<(u32, Option<OwnedFd>)>;

/// Serves one connection until its end.
pub(crate) fn serve(who: &UCred, seat: &Seat) {
    let line = &*seat.line;
    let is_user = kernel::become_user(who).map(|()| (PROTOCOL, None));
    if is_user.is_err() || answer(line, GREETING, is_user).is_err() {
        return;
    }
    let mut bytes = [0; LONGEST];
    while let Ok(Some((length, descriptors))) = receive(line, &mut bytes) {
        let request = bytes.get(..length).unwrap_or_default();
        let kind = number(request, 0).unwrap_or(GREETING);
        seat.busy(|| {
            // What was registered is ended also for who has gone; nothing else is of use to him.
            if kind == UNREGISTER || !has_gone(line) {
                respond(who, seat, kind, request, descriptors);
            }
        });
    }
}

/// Does what is asked, and says so.
fn respond(who: &UCred, seat: &Seat, kind: u32, request: &[u8], mut descriptors: Vec<OwnedFd>) {
    let may_ask = seat.may_ask();
    if !may_ask {
        std::thread::sleep(PAUSE);
    }
    // What was to be ended nobody asks for again.
    let outcome = if may_ask || kind == UNREGISTER {
        act(who, seat, request, &descriptors)
    } else {
        Err(Errno::AGAIN)
    };
    let registered = outcome.as_ref().ok().filter(|_| kind == REGISTER).map(|(id, _)| *id);
    // A mount lives as long as any descriptor of it: none is left when the caller goes on.
    descriptors.truncate(registered.iter().len());
    if answer(&seat.line, kind, outcome).is_err()
        && let Some(id) = registered
    {
        // Nobody knows the number, so nobody could ever end it.
        let end = [UNREGISTER, id].map(u32::to_ne_bytes).concat();
        let _ended = act(who, seat, &end, &descriptors);
    }
}

/// Whether nobody is at the other end any more.
fn has_gone(line: &OwnedFd) -> bool {
    let mut look = [PollFd::new(line, PollFlags::empty())];
    let looked = poll(&mut look, Some(&Timespec::default()));
    looked.is_ok() && look.iter().any(|at| at.revents().contains(PollFlags::HUP))
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

fn act(who: &UCred, seat: &Seat, request: &[u8], descriptors: &[OwnedFd]) -> Answer {
    let (uid, gid) = (who.uid.as_raw(), who.gid.as_raw());
    let second = number(request, 1).ok_or(Errno::INVAL);
    let text = OsStr::from_bytes(request.get(8..).unwrap_or_default());
    let value = match (number(request, 0), request.len(), descriptors) {
        (Some(REGISTER), 4, [fuse, file, proof]) => {
            let connection = checks::Connection::of(fuse, uid)?;
            checks::may_register(file, proof, uid)?;
            if !seat.add(connection) {
                return Err(Errno::NFILE);
            }
            kernel::register(fuse, file).inspect_err(|_| seat.remove(connection))?
        }
        (Some(UNREGISTER), 8, [fuse]) => {
            let connection = checks::Connection::of(fuse, uid)?;
            kernel::unregister(fuse, second?).inspect(|_| seat.remove(connection))?
        }
        (Some(MOUNT), 9.., [place]) => {
            return mounting::mount((uid, gid), place, second?, text).map(|fuse| (0, Some(fuse)));
        }
        (Some(UNMOUNT), 9.., [above]) => {
            mounting::unmount(uid, above, second?, text).map(|()| 0)?
        }
        _ => return Err(Errno::INVAL),
    };
    Ok((value, None))
}

fn number(request: &[u8], at: usize) -> Option<u32> {
    request.as_chunks().0.get(at).copied().map(u32::from_ne_bytes)
}

/// Answers without waiting: who does not read does not keep a thread.
fn answer(line: &OwnedFd, request: u32, outcome: Answer) -> Result<()> {
    let (errno, value, with) = match outcome {
        Ok((value, with)) => (0, value, with),
        Err(errno) => (errno.raw_os_error().cast_unsigned(), 0, None),
    };
    let bytes = [request, errno, value].map(u32::to_ne_bytes).concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let with = with.as_ref().map(AsFd::as_fd);
    control.push(SendAncillaryMessage::ScmRights(with.as_slice()));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(line, &[IoSlice::new(&bytes)], &mut control, flags).map(drop)
}
