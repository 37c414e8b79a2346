//! `dewfs-helper`, asked to do what needs a privilege that an ordinary user's daemon lacks: mount, unmount, register,
//! unregister.
//!
//! It is optional. Whoever asks waits for a second at most and then does without; after that nobody asks for a while. Each
//! request brings the FUSE descriptor, since the helper keeps none; `mount-helper/src/companion/request.rs` has the
//! protocol. A socket that root does not serve is never told anything.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
};
use tracing::{info, warn};

use super::mount::{Access, MountAs};

/// Where systemd listens for it.
pub(super) const SOCKET: &str = "/run/dewfs-helper.sock";
/// Names another place.
const ELSEWHERE: &str = "DEWFS_HELPER_SOCKET";

/// How users of other namespaces show.
const UNKNOWN: u32 = 65_534;

/// How long whoever asks waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long whoever unmounts waits: what is closed by that may have to be written.
const UNMOUNTED: Duration = Duration::from_secs(10);
/// How long nobody asks after that was in vain.
const REST: Duration = Duration::from_secs(5);

const PROTOCOL: u32 = 1;

const GREETING: u32 = 0;
const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;
const MOUNT: u32 = 3;
const UNMOUNT: u32 = 4;

/// The length of an answer: request, errno, value.
const ANSWER: usize = 12;

/// What the helper answers: a value, and a descriptor that goes with it.
type Said = (u32, Option<OwnedFd>);

/// Is the way to the helper, of one mount.
pub(super) struct Companion {
    line: Mutex<Line>,
    /// Numbers that are to be ended.
    owed: Mutex<Vec<u32>>,
}

#[derive(Default)]
struct Line {
    socket: Option<OwnedFd>,
    /// Since when it does not answer, and why.
    silent: Option<(Instant, String)>,
}

impl Companion {
    /// One that answers, or why there is none.
    pub(super) fn find() -> io::Result<Self> {
        let line = Line { socket: Some(connect(Instant::now() + PATIENCE)?), silent: None };
        Ok(Self { line: Mutex::new(line), owed: Mutex::default() })
    }

    /// Registers a file of ours on the connection of `fuse`.
    pub(super) fn register(&self, fuse: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<u32> {
        // That we may write to it is shown, not said; kept it would stand in the way of leases.
        let place = format!("/proc/self/fd/{}", file.as_raw_fd());
        let proof = File::options().read(true).write(true).open(place)?;
        let outcome = self.ask(&REGISTER.to_ne_bytes(), &[fuse, file, proof.as_fd()]);
        drop(proof);
        // What takes another line is done by the next request.
        let _settled = self.settle(fuse);
        outcome.map(|(number, _)| number)
    }

    /// Ends that, soon and without waiting for it.
    pub(super) fn unregister(self: &Arc<Self>, fuse: BorrowedFd<'_>, id: u32) {
        lock(&self.owed).push(id);
        if self.settle(fuse) {
            return;
        }
        // The helper gave the place of this line to others, or is another by now; who closes a file does not wait for that.
        let (this, fuse) = (Arc::clone(self), fuse.try_clone_to_owned());
        let anew = move || {
            let is_there = lock(&this.line).look_for_one();
            if is_there && let Ok(fuse) = fuse {
                let _settled = this.settle(fuse.as_fd());
            }
        };
        // Where there is no thread for it, the next request does it.
        drop(std::thread::Builder::new().name("helper".to_owned()).spawn(anew));
    }

    /// Why it is of no use now.
    pub(super) fn trouble(&self) -> Option<String> {
        let line = self.line.try_lock().ok()?;
        match (&line.socket, &line.silent) {
            // A line that the helper gave to others is no trouble: the next request opens another.
            (Some(socket), _) if is_closed(socket) && dial(Instant::now() + PATIENCE).is_err() => {
                Some("dewfs-helper has ended; the next open looks for it again".to_owned())
            }
            (None, Some((_, why))) => Some(why.clone()),
            _ => None,
        }
    }

    fn ask(&self, request: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<Said> {
        let mut line = lock(&self.line);
        line.may_look()?;
        let until = Instant::now() + PATIENCE;
        // A line from before may be that of a helper that has ended, or whose place others have: systemd starts another.
        if let Some(socket) = line.socket.take()
            && let Ok(outcome) = exchange(&socket, request, descriptors, until)
        {
            line.socket = Some(socket);
            return outcome;
        }
        let anew = connect(until).and_then(|socket| {
            let outcome = exchange(&socket, request, descriptors, until)?;
            Ok((socket, outcome))
        });
        let (socket, outcome) = anew.map_err(|error| line.falls_silent(&error))?;
        line.is_found(socket);
        outcome
    }

    /// Ends what is owed, if nobody else is at it: whoever is does it afterwards. False if that takes another line.
    fn settle(&self, fuse: BorrowedFd<'_>) -> bool {
        while !lock(&self.owed).is_empty() {
            let Ok(mut line) = self.line.try_lock() else { return true };
            let Some(socket) = &line.socket else { return line.may_look().is_err() };
            let Some(id) = lock(&self.owed).pop() else { return true };
            hear_what_came(socket);
            let request = [UNREGISTER, id].map(u32::to_ne_bytes).concat();
            if let Err(error) = send(socket, &request, &[fuse], SendFlags::DONTWAIT) {
                lock(&self.owed).push(id);
                if error.kind() == io::ErrorKind::WouldBlock {
                    return true;
                }
                line.socket = None;
            }
        }
        true
    }
}

impl Line {
    /// Whether it may be asked for: after that was in vain nobody does for a while.
    fn may_look(&self) -> io::Result<()> {
        match &self.silent {
            Some((since, why)) if since.elapsed() < REST => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, why.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Opens one if there is none. Whether there is one then.
    fn look_for_one(&mut self) -> bool {
        if self.socket.is_none() && self.may_look().is_ok() {
            match connect(Instant::now() + PATIENCE) {
                Ok(socket) => self.is_found(socket),
                Err(error) => drop(self.falls_silent(&error)),
            }
        }
        self.socket.is_some()
    }

    fn is_found(&mut self, socket: OwnedFd) {
        if self.silent.take().is_some() {
            info!("dewfs-helper answers again");
        }
        self.socket = Some(socket);
    }

    fn falls_silent(&mut self, error: &io::Error) -> io::Error {
        let why = format!("dewfs-helper does not answer: {}", words(error));
        if self.silent.is_none() {
            warn!("{why}; files are read and written through the daemon meanwhile");
        }
        self.silent = Some((Instant::now(), why.clone()));
        io::Error::new(io::ErrorKind::WouldBlock, why)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Mounts by the helper; answers the descriptor that it opened for that, or why not.
pub(super) fn mount(how: &MountAs) -> io::Result<OwnedFd> {
    let place = folder(&how.mountpoint)?;
    let words = [how.read_only, how.no_exec, how.no_atime, how.access != Access::Owner];
    let flags = words.iter().enumerate().map(|(bit, word)| u32::from(*word) << bit).sum();
    let outcome = ask_once(MOUNT, flags, &how.source, &place, PATIENCE)?;
    outcome.1.ok_or_else(|| io::Error::other("dewfs-helper hands over no descriptor"))
}

/// Unmounts by the helper, if it is a dewfs mount of this user; what is in use only lazily.
pub(super) fn unmount(mountpoint: &Path, lazily: bool) -> io::Result<()> {
    let (Some(above), Some(name)) = (mountpoint.parent(), mountpoint.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // Not the mount itself: with a descriptor of it, it would be in use.
    ask_once(UNMOUNT, lazily.into(), name, &folder(above)?, UNMOUNTED).map(drop)
}

fn folder(place: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(place, flags, Mode::empty())?)
}

/// A request about a folder, on a line of its own.
fn ask_once(
    request: u32,
    flags: u32,
    text: &OsStr,
    place: &OwnedFd,
    patience: Duration,
) -> io::Result<Said> {
    let mut bytes = [request, flags].map(u32::to_ne_bytes).concat();
    bytes.extend(text.as_bytes());
    let line = connect(Instant::now() + PATIENCE)?;
    exchange(&line, &bytes, &[place.as_fd()], Instant::now() + patience)?
}

/// Whether the helper is there for this user; if not, why.
pub fn examine_helper() -> io::Result<()> {
    connect(Instant::now() + PATIENCE).map(drop)
}

/// A line to the helper that has greeted: until then it may not be running, and what is sent would wait in the socket.
fn connect(until: Instant) -> io::Result<OwnedFd> {
    let at = place();
    let named = |error: io::Error| io::Error::other(format!("{}: {}", at.display(), words(&error)));
    let socket = dial(until).map_err(named)?;
    let server = sockopt::socket_peercred(&socket)?.uid;
    // In a namespace of users that has no root he shows as nobody; but nobody else makes sockets in /run.
    if !server.is_root() && (server.as_raw() != UNKNOWN || at != Path::new(SOCKET)) {
        return Err(named(io::Error::other("is not served by root")));
    }
    match hear(&socket, RecvFlags::empty()).map_err(named)? {
        (GREETING, Ok((PROTOCOL, _))) => Ok(socket),
        (_, Err(errno)) => Err(named(errno.into())),
        _ => Err(named(io::Error::other("speaks another protocol"))),
    }
}

/// A line on which nobody has greeted yet.
fn dial(until: Instant) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    wait_at_most(&socket, until)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(place())?)?;
    Ok(socket)
}

fn place() -> PathBuf {
    std::env::var_os(ELSEWHERE).map_or_else(|| SOCKET.into(), PathBuf::from)
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => "no answer within a second".to_owned(),
        _ => error.to_string(),
    }
}

/// Asks and hears the answer. The outer error is the line's, the inner one the helper's.
fn exchange(
    socket: &OwnedFd,
    request: &[u8],
    descriptors: &[BorrowedFd<'_>],
    until: Instant,
) -> io::Result<io::Result<Said>> {
    hear_what_came(socket);
    wait_at_most(socket, until)?;
    send(socket, request, descriptors, SendFlags::empty())?;
    loop {
        let heard = wait_at_most(socket, until).and_then(|()| hear(socket, RecvFlags::empty()));
        match heard {
            Ok((UNREGISTER, _)) => {}
            Ok((_, outcome)) => return Ok(outcome.map_err(refused)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return last_word(socket),
            Err(error) => return Err(error),
        }
    }
}

/// The answer that came at the last moment, if one did. None can come any more: the helper sees that, and keeps nothing
/// registered of which nobody heard. The line is of no further use.
fn last_word(socket: &OwnedFd) -> io::Result<io::Result<Said>> {
    rustix::net::shutdown(socket, Shutdown::Both)?;
    loop {
        match hear(socket, RecvFlags::DONTWAIT) {
            Ok((UNREGISTER, _)) => {}
            Ok((_, outcome)) => return Ok(outcome.map_err(refused)),
            Err(_nothing) => return Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Nothing on this socket waits for longer than until then.
fn wait_at_most(socket: &OwnedFd, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    sockopt::set_socket_timeout(socket, Timeout::Send, Some(left))?;
    sockopt::set_socket_timeout(socket, Timeout::Recv, Some(left))?;
    Ok(())
}

/// What the helper says no by. Only what the kernel lacks will not change.
fn refused(errno: Errno) -> io::Error {
    match errno {
        Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::LOOP => errno.into(),
        Errno::AGAIN | Errno::NFILE => {
            io::Error::new(io::ErrorKind::WouldBlock, "dewfs-helper: this user's limit is reached")
        }
        Errno::NOTCONN => io::Error::other(
            "dewfs-helper cannot see whose this mount is: it needs Linux 6.16 and /sys/fs/fuse/connections mounted",
        ),
        _ => io::Error::other(format!("dewfs-helper refuses it: {}", io::Error::from(errno))),
    }
}

fn send(
    socket: &OwnedFd,
    request: &[u8],
    descriptors: &[BorrowedFd<'_>],
    how: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let how = how | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(request)], &mut control, how)?;
    Ok(())
}

/// One answer: to which request, and what.
fn hear(socket: &OwnedFd, how: RecvFlags) -> io::Result<(u32, Result<Said, Errno>)> {
    let mut bytes = [0; ANSWER];
    let (length, with) = receive(socket, &mut bytes, how)?;
    let mut numbers = bytes.as_chunks::<4>().0.iter().map(|four| u32::from_ne_bytes(*four));
    match (length, numbers.next(), numbers.next(), numbers.next()) {
        (ANSWER, Some(request), Some(0), Some(value)) => Ok((request, Ok((value, with)))),
        (ANSWER, Some(request), Some(errno), _) => {
            Ok((request, Err(Errno::from_raw_os_error(errno.cast_signed()))))
        }
        (0, ..) => Err(io::ErrorKind::ConnectionReset.into()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Receives bytes, and a descriptor if one comes with them.
pub(super) fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    how: RecvFlags,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(bytes)];
    let how = how | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut buffers, &mut control, how)
    })?;
    let with = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, with))
}

/// Nobody waits for the answers about what was ended.
fn hear_what_came(socket: &OwnedFd) {
    while hear(socket, RecvFlags::DONTWAIT).is_ok() {}
}

fn is_closed(socket: &OwnedFd) -> bool {
    let how = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut byte = [0];
    !matches!(rustix::net::recv(socket, &mut byte, how), Ok((1.., _)) | Err(Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_answered_at_the_last_moment_counts_and_nothing_after_it() {
        let flags = SocketFlags::CLOEXEC;
        let pair =
            || rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let answer = |line: &OwnedFd, numbers: [u32; 3]| {
            let bytes = numbers.map(u32::to_ne_bytes).concat();
            rustix::net::send(line, &bytes, SendFlags::NOSIGNAL)
        };
        let (ours, theirs) = pair().unwrap();
        answer(&theirs, [UNREGISTER, 0, 0]).unwrap();
        answer(&theirs, [REGISTER, 0, 7]).unwrap();
        assert_eq!(last_word(&ours).unwrap().unwrap().0, 7);
        assert_eq!(answer(&theirs, [REGISTER, 0, 8]), Err(Errno::PIPE));

        let (ours, theirs) = pair().unwrap();
        assert_eq!(last_word(&ours).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(answer(&theirs, [REGISTER, 0, 8]), Err(Errno::PIPE));
    }
}
