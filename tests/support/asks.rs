//! Asks `dewfs-helper` what a program would that means no good, or what `dewfs` would, byte by byte.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fuser::{Config, Filesystem, InitFlags, KernelConfig, Request, Session, SessionACL};
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketType,
};

use super::ordinary::boxed;

pub(crate) const REGISTER: u32 = 1;
pub(crate) const UNREGISTER: u32 = 2;
pub(crate) const MOUNT: u32 = 3;
pub(crate) const UNMOUNT: u32 = 4;

/// A connection to the helper.
pub(crate) struct Asks(OwnedFd);

impl Asks {
    /// Connects; answers the errno of the greeting if that is a refusal.
    pub(crate) fn try_new() -> Result<Self, u32> {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        let limit = Some(Duration::from_secs(20));
        set_socket_timeout(&socket, Timeout::Recv, limit).unwrap();
        let at = SocketAddrUnix::new(boxed("helper.sock")).unwrap();
        rustix::net::connect(&socket, &at).unwrap();
        let this = Self(socket);
        match this.hear() {
            Some((0, 0, 1, None)) => Ok(this),
            Some((0, errno, _, None)) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn new() -> Self {
        Self::try_new().unwrap()
    }

    /// The three numbers of an answer, and what came with them.
    fn hear(&self) -> Option<(u32, u32, u32, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 64];
        let received = {
            let mut into = [IoSliceMut::new(&mut bytes)];
            rustix::net::recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap()
        };
        let mut with = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(some) => some.collect::<Vec<OwnedFd>>(),
            _ => panic!("something else came"),
        });
        let (with, more) = (with.next(), with.next());
        assert!(more.is_none());
        let mut numbers = bytes[..received.bytes]
            .chunks(4)
            .map(|four| u32::from_ne_bytes(four.try_into().unwrap()));
        let answer = (numbers.next()?, numbers.next()?, numbers.next()?, with);
        assert_eq!(received.bytes, 12);
        Some(answer)
    }

    /// Sends a packet with descriptors.
    fn send(&self, bytes: &[u8], with: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !with.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(with)));
        }
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags).unwrap();
    }

    /// The same; answers the value and what came with it, or the errno.
    fn exchange(
        &self,
        bytes: &[u8],
        with: &[BorrowedFd<'_>],
    ) -> Result<(u32, Option<OwnedFd>), i32> {
        self.send(bytes, with);
        match self.hear().expect("an answer") {
            (_, 0, value, with) => Ok((value, with)),
            (_, errno, 0, None) => Err(errno as i32),
            other => panic!("an error and a value: {other:?}"),
        }
    }

    /// The same, where nothing may come with the value.
    pub(crate) fn raw(&self, bytes: &[u8], with: &[BorrowedFd<'_>]) -> Result<u32, i32> {
        self.exchange(bytes, with).map(|(value, with)| {
            assert!(with.is_none());
            value
        })
    }

    pub(crate) fn ask(&self, numbers: &[u32], with: &[BorrowedFd<'_>]) -> Result<u32, i32> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        self.raw(&bytes, with)
    }

    /// Registers a file as it should be done.
    pub(crate) fn register(&self, fuse: &OwnedFd, path: &Path) -> Result<u32, i32> {
        let file = File::open(path).unwrap();
        let proof = File::options().read(true).write(true).open(path).unwrap();
        self.ask(&[REGISTER], &[fuse.as_fd(), file.as_fd(), proof.as_fd()])
    }

    /// Sends what registers a file, and hears nothing.
    pub(crate) fn register_unheard(&self, fuse: &OwnedFd, path: &Path) {
        let file = File::open(path).unwrap();
        let proof = File::options().read(true).write(true).open(path).unwrap();
        self.send(&REGISTER.to_ne_bytes(), &[fuse.as_fd(), file.as_fd(), proof.as_fd()]);
    }

    /// From here on nothing can be said to it, though the line is there.
    pub(crate) fn becomes_deaf(&self) {
        rustix::net::shutdown(&self.0, Shutdown::Read).unwrap();
    }

    /// Whether the helper stands still.
    pub(crate) fn stands_still(&self) -> bool {
        // Who listened on the socket became the helper.
        let pid = rustix::net::sockopt::socket_peercred(&self.0).unwrap().pid;
        let about = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        about.lines().any(|line| line.starts_with("State:\tT"))
    }

    /// Whether the helper has ended the line.
    pub(crate) fn has_ended(&self) -> bool {
        self.hear().is_none()
    }

    pub(crate) fn unregister(&self, fuse: &OwnedFd, id: u32) -> Result<u32, i32> {
        self.ask(&[UNREGISTER, id], &[fuse.as_fd()])
    }

    pub(crate) fn mount(&self, at: &Path, flags: u32) -> Result<OwnedFd, i32> {
        let place = path_only(at);
        let mut bytes = [MOUNT, flags].map(u32::to_ne_bytes).concat();
        bytes.extend(at.as_os_str().as_bytes());
        let (value, fuse) = self.exchange(&bytes, &[place.as_fd()])?;
        assert_eq!(value, 0);
        Ok(fuse.expect("the descriptor of the mount"))
    }

    pub(crate) fn unmount(&self, above: &Path, name: &str, lazily: u32) -> Result<u32, i32> {
        let mut bytes = [UNMOUNT, lazily].map(u32::to_ne_bytes).concat();
        bytes.extend(name.as_bytes());
        self.raw(&bytes, &[path_only(above).as_fd()])
    }
}

/// A descriptor that only says where.
pub(crate) fn path_only(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Whether nobody at all has the file open: only then is a lease for writing granted.
#[allow(unsafe_code)]
pub(crate) fn is_free(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    // SAFETY: the request takes a number; the descriptor is open, and its end takes the lease back.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0 }
}

/// A new descriptor of `/dev/fuse`.
pub(crate) fn device() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/fuse").unwrap().into()
}

/// The descriptor of the mount that root left open.
pub(crate) fn device_of_root() -> OwnedFd {
    let at = std::fs::read_link("/proc/self/fd/9").unwrap();
    assert_eq!(at, Path::new("/dev/fuse"));
    // Number 9 stays open: this is another of the same.
    rustix::io::dup(borrow_nine()).unwrap()
}

#[allow(unsafe_code)]
fn borrow_nine() -> BorrowedFd<'static> {
    // SAFETY: the shell that started this test opened it, and nobody closes it.
    unsafe { BorrowedFd::borrow_raw(9) }
}

/// A mount of nothing, on a connection that may have passthrough.
pub(crate) struct Nothing {
    pub(crate) fuse: OwnedFd,
    at: PathBuf,
    _session: Session<Empty>,
}

pub(crate) struct Empty;

/// Answers the kernel's greeting on a new connection.
pub(crate) fn greeted(fuse: &OwnedFd) -> Session<Empty> {
    let other = fuse.try_clone().unwrap();
    Session::from_fd(Empty, other, SessionACL::Owner, Config::default()).unwrap()
}

impl Filesystem for Empty {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).unwrap();
        config.set_max_stack_depth(1).unwrap();
        Ok(())
    }
}

impl Nothing {
    /// Mounted by the helper.
    pub(crate) fn at(at: &Path) -> Self {
        let fuse = Asks::new().mount(at, 0).unwrap();
        let session = greeted(&fuse);
        Self { fuse, at: at.to_owned(), _session: session }
    }
}

impl Drop for Nothing {
    fn drop(&mut self) {
        if dewfs::fuse::mountinfo::at(&self.at).unwrap().is_some() {
            dewfs::fuse::unmount(&self.at).unwrap();
        }
    }
}
