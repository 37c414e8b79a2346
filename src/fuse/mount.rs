//! A mount from its beginning to its end.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{Config, InitFlags, KernelConfig, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{debug, error};

use super::answer::Door;
use super::attach::{Attached, attach, detach};
use super::attributes::Threshold;
use super::backing::Registry;
use super::copies::Copies;
use super::filesystem::Kernel;
use super::mountinfo;
use super::notify::{self, Waiting};
use crate::engine::Engine;

/// Threads that take requests from the kernel. They never wait, so few are enough.
const THREADS: usize = 4;

/// The largest write: what the kernel allows by default.
const MAX_WRITE: u32 = 1 << 20;

/// Requests that may be under way before the kernel holds others back: reads that wait for the network must not stop reads
/// of what is here.
const MAX_BACKGROUND: u16 = 4096;
const CONGESTION: u16 = 3072;

/// How far the kernel reads ahead in a file that is read from front to back.
const READ_AHEAD_KIB: &str = "1024";

/// Says who may enter the mount; what they may do there is up to modes and owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Only who mounted it.
    #[default]
    Owner,
    /// Root as well.
    Root,
    /// Everybody.
    Everybody,
}

/// Says how the kernel is to show a mount.
#[derive(Clone, Debug)]
pub struct MountAs {
    /// The source as it was given: mount(8) recognises its mounts by it.
    pub source: OsString,
    /// Where, absolute.
    pub mountpoint: PathBuf,
    /// Nothing may be changed.
    pub read_only: bool,
    /// No programs may be run from it.
    pub no_exec: bool,
    /// Access times are left alone.
    pub no_atime: bool,
    /// Who may enter.
    pub access: Access,
    /// What is mounted on is what the path says: a symbolic link on the way is refused.
    pub follows_no_link: bool,
    /// How long a waiting program waits without progress.
    pub timeout: Duration,
}

/// Says in one line why mounting failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel's device cannot be opened.
    #[error("/dev/fuse: {}{}", .0, remedy(.0))]
    Device(io::Error),
    /// fusermount3 cannot be run.
    #[error("fusermount3 cannot be run ({0}): install the package fuse3")]
    NoFusermount(io::Error),
    /// fusermount3 would be of no use, and the helper does not mount.
    #[error(
        "fusermount3 cannot mount for who may gain no privileges (NoNewPrivileges), and {0}: sudo systemctl enable --now \
         dewfs-helper.socket"
    )]
    Confined(io::Error),
    /// The kernel or fusermount3 said no.
    #[error("mounting was refused: {0}")]
    Refused(String),
    /// The kernel and dewfs could not agree.
    #[error("the kernel's FUSE cannot be used: {0}")]
    Handshake(io::Error),
    /// The system is short of something.
    #[error("{0}")]
    System(io::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (load the kernel module: modprobe fuse)",
        io::ErrorKind::PermissionDenied => " (it should be readable and writable by everybody)",
        _ => "",
    }
}

/// Is a mount in use. It stays when this is dropped: it ends when it is unmounted, by whomever.
#[derive(Debug)]
pub struct Mounted {
    mountpoint: PathBuf,
    device: Option<String>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Mounted {
    /// Waits until it has been unmounted and nothing is open in it any more.
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.ended).await.unwrap_or(Ok(()))
    }

    /// Whether it is in its place still; once it has ended that is the dead mount of a connection that was aborted.
    pub fn is_there(&self) -> bool {
        let there = mountinfo::at(&self.mountpoint).ok().flatten();
        there.is_some_and(|mount| self.device.as_ref() == Some(&mount.device))
    }

    /// Unmounts it at once; programs that have something open in it keep that. What somebody else mounted over it stays.
    pub fn unmount(&self) -> io::Result<()> {
        match mountinfo::at(&self.mountpoint)? {
            Some(mount) if self.device.as_ref().is_none_or(|device| *device == mount.device) => {
                detach(&self.mountpoint, true)
            }
            _ => Ok(()),
        }
    }
}

/// Unmounts what is mounted there, at once, even if it is in use.
pub fn unmount(mountpoint: &Path) -> io::Result<()> {
    detach(mountpoint, true)
}

/// Unmounts what is mounted there, unless it is in use.
pub fn release(mountpoint: &Path) -> io::Result<()> {
    detach(mountpoint, false)
}

/// Mounts `engine`; when this answers, the mount can be used.
pub fn mount(engine: &Engine, runtime: &Handle, how: &MountAs) -> Result<Mounted, MountError> {
    let notifier = Arc::new(OnceLock::new());
    let waiting = Arc::new(Waiting::default());
    let copies = Arc::new(Copies::default());
    let door = Door::new(
        engine.clone(),
        runtime.clone(),
        how.timeout,
        Arc::clone(&notifier),
        Arc::clone(&waiting),
        Arc::clone(&copies),
    );
    let Attached { descriptor, can_clone } = attach(how)?;
    // Read at once: of what is mounted over it later the device would be the wrong one.
    let device = mountinfo::at(&how.mountpoint).ok().flatten().map(|mount| mount.device);
    let (end, ended) = oneshot::channel();
    let mounted = Mounted { mountpoint: how.mountpoint.clone(), device, ended };
    let started = || {
        let (access, config) = config(how.access, can_clone);
        let registry = Registry::new(&descriptor).map_err(MountError::System)?;
        let root = match how.access {
            Access::Root => Threshold::ClosedFor(rustix::process::geteuid().as_raw()),
            Access::Owner | Access::Everybody => Threshold::Open,
        };
        let kernel = Kernel::new(door, root, Arc::clone(&copies));
        let session =
            Session::from_fd(kernel, descriptor, access, config).map_err(MountError::Handshake)?;
        // The session is the only one that sets it, and does so once.
        drop(notifier.set(session.notifier()));
        if let Some(news) = engine.take_invalidations() {
            notify::start(session.notifier(), news, waiting, copies).map_err(MountError::System)?;
        }
        if let Err(why) = engine.use_backings(Arc::new(registry)) {
            debug!("no passthrough: {why}");
        }
        serve(session, end).map_err(MountError::System)
    };
    if let Err(error) = started() {
        if let Err(why) = mounted.unmount() {
            error!("the mount that could not be used could not be undone: {why}");
        }
        return Err(error);
    }
    if let Some(device) = &mounted.device {
        read_ahead(device);
    }
    Ok(mounted)
}

fn config(access: Access, can_clone: bool) -> (SessionACL, Config) {
    let acl = match access {
        Access::Owner => SessionACL::Owner,
        Access::Root => SessionACL::RootAndOwner,
        Access::Everybody => SessionACL::All,
    };
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = can_clone;
    (acl, config)
}

/// Runs the session's threads until the kernel ends it.
fn serve(session: Session<Kernel>, end: oneshot::Sender<io::Result<()>>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("fuse".to_owned());
    // Nobody is left to be told when the program is at its end.
    thread.spawn(move || drop(end.send(session.run()))).map(drop)
}

/// What this side of the protocol can do and wants; called when the kernel introduces itself.
pub(super) fn negotiate(config: &mut KernelConfig) -> io::Result<()> {
    // Without it `> big` would fetch what it is about to throw away.
    if config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC).is_err() {
        return Err(io::Error::from_raw_os_error(libc::EPROTO));
    }
    // Without READDIRPLUS_AUTO: with it the kernel asks for attributes with the first page only, and who then looks at each name,
    // as find and du do, asks for one after the other.
    let wanted = InitFlags::FUSE_DO_READDIRPLUS
        | InitFlags::FUSE_PARALLEL_DIROPS
        // A symlink's target never changes: another one is another inode.
        | InitFlags::FUSE_CACHE_SYMLINKS
        | InitFlags::FUSE_ASYNC_DIO
        // Else every write asks for security.capability first.
        | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
    for flag in wanted.iter() {
        if config.add_capabilities(flag).is_err() {
            debug!("this kernel has no {flag:?}");
        }
    }
    // The files behind it may lie on a plain file system, not on one that is itself stacked on another.
    if config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() {
        at_most(1, |value| config.set_max_stack_depth(value));
    }
    at_most(MAX_WRITE, |value| config.set_max_write(value));
    at_most(u32::MAX, |value| config.set_max_readahead(value));
    at_most(MAX_BACKGROUND, |value| config.set_max_background(value));
    at_most(CONGESTION, |value| config.set_congestion_threshold(value));
    Ok(())
}

/// Sets a value, or the nearest one that is allowed.
fn at_most<T: Copy>(value: T, mut set: impl FnMut(T) -> Result<T, T>) {
    if let Err(nearest) = set(value)
        && set(nearest).is_err()
    {
        debug!("the kernel keeps its own value");
    }
}

/// The kernel offers 128 KiB; only root may ask for more, and then only after the fact.
fn read_ahead(device: &str) {
    let place = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(why) = std::fs::write(&place, READ_AHEAD_KIB) {
        debug!("{place}: {why}");
    }
}
