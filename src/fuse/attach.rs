//! Attaching to a place in the tree and detaching from it: by mount(2) where that is allowed, else by fusermount3, and by
//! the helper where that is missing or, being set-uid, of no use to who may gain no privileges.
//!
//! fuser can mount, too, but unmounts a second time what is unmounted already, and by then somebody else may be mounted
//! there. So the descriptor is made here, and fuser only speaks over it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::RecvFlags;
use tracing::debug;

use super::companion;
use super::mount::{Access, MountAs, MountError};

const DEVICE: &str = "/dev/fuse";

/// Where distributions put it; mount(8) leaves no PATH to be searched.
const FUSERMOUNT: [&str; 4] =
    ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3", "/sbin/fusermount3"];

const UMOUNT: &str = "/bin/umount";

/// Is what the kernel speaks over.
pub(super) struct Attached {
    /// The descriptor.
    pub(super) descriptor: OwnedFd,
    /// Whether every thread can have one of its own: they are all opened by one namespace of users.
    pub(super) can_clone: bool,
}

/// Mounts and answers the descriptor over which the kernel speaks.
pub(super) fn attach(how: &MountAs) -> Result<Attached, MountError> {
    let device = open_device()?;
    let by_helper = |descriptor| Attached { descriptor, can_clone: false };
    match attach_directly(how, &device) {
        Ok(()) => Ok(Attached { descriptor: device.into(), can_clone: open_device().is_ok() }),
        Err(rustix::io::Errno::PERM) if is_confined() => {
            companion::mount(how).map(by_helper).map_err(MountError::Confined)
        }
        Err(rustix::io::Errno::PERM) => match attach_by_fusermount(how) {
            // The helper does the same under the same rules.
            Err(MountError::NoFusermount(error)) => {
                companion::mount(how).map(by_helper).map_err(|why| {
                    debug!("the helper does not mount either: {why}");
                    MountError::NoFusermount(error)
                })
            }
            outcome => {
                outcome.map(|descriptor| Attached { descriptor, can_clone: open_device().is_ok() })
            }
        },
        Err(errno) => Err(MountError::Refused(io::Error::from(errno).to_string())),
    }
}

/// Detaches what is mounted at `mountpoint`. Lazily it does so at once even if it is in use, and programs that have something
/// open there keep it.
pub(super) fn detach(mountpoint: &Path, lazily: bool) -> io::Result<()> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazily);
    match rustix::mount::unmount(mountpoint, flags) {
        Err(rustix::io::Errno::PERM) if is_confined() => companion::unmount(mountpoint, lazily),
        Err(rustix::io::Errno::PERM) => detach_by_programs(mountpoint, lazily),
        outcome => Ok(outcome?),
    }
}

/// Whether set-uid programs are of no use to this one.
fn is_confined() -> bool {
    rustix::thread::no_new_privs().unwrap_or(false)
}

fn open_device() -> Result<File, MountError> {
    OpenOptions::new().read(true).write(true).open(DEVICE).map_err(MountError::Device)
}

fn attach_directly(how: &MountAs, device: &File) -> rustix::io::Result<()> {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, how.read_only);
    flags.set(MountFlags::NOEXEC, how.no_exec);
    flags.set(MountFlags::NOATIME, how.no_atime);
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,subtype=dewfs",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if how.access != Access::Owner {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(|_nul| rustix::io::Errno::INVAL)?;
    if !how.follows_no_link {
        return rustix::mount::mount(&how.source, &how.mountpoint, "fuse", flags, &*data);
    }
    let only = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let on = rustix::fs::open(&how.mountpoint, only, Mode::empty())?;
    let by_descriptor = format!("/proc/self/fd/{}", on.as_raw_fd());
    if std::fs::read_link(&by_descriptor).ok().as_deref() != Some(&how.mountpoint) {
        return Err(rustix::io::Errno::LOOP);
    }
    rustix::mount::mount(&how.source, &by_descriptor, "fuse", flags, &*data)
}

fn attach_by_fusermount(how: &MountAs) -> Result<OwnedFd, MountError> {
    let (ours, theirs) = UnixStream::pair().map_err(MountError::System)?;
    let mut child = fusermount()
        .arg("-o")
        .arg(fusermount_options(how))
        .arg("--")
        .arg(&how.mountpoint)
        // Its end of the socket is its standard input: the one descriptor that nobody else inherits by accident.
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(MountError::NoFusermount)?;
    let device = companion::receive(&ours, &mut [0], RecvFlags::empty());
    drop(ours);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What cannot be read is not worth more than the lack of a descriptor.
        drop(stderr.read_to_string(&mut said));
    }
    let status = child.wait().map_err(MountError::System)?;
    match device {
        Ok((_, Some(device))) if status.success() => Ok(device),
        _ => Err(MountError::Refused(last_line(&said))),
    }
}

fn detach_by_programs(mountpoint: &Path, lazily: bool) -> io::Result<()> {
    let run = |mut program: Command, lazy: &[&str], plain: &[&str]| {
        program.args(if lazily { lazy } else { plain }).arg("--").arg(mountpoint).output()
    };
    let output = match run(fusermount(), &["-uz"], &["-u"]) {
        Ok(output) => output,
        Err(_no_fusermount) => match companion::unmount(mountpoint, lazily) {
            Ok(()) => return Ok(()),
            Err(why) => {
                debug!("the helper does not unmount: {why}");
                // umount(8) knows by the mount whose it is.
                run(Command::new(UMOUNT), &["-l"], &[])?
            }
        },
    };
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(last_line(&String::from_utf8_lossy(&output.stderr))))
    }
}

fn fusermount() -> Command {
    let found = FUSERMOUNT.into_iter().find(|place| Path::new(place).exists());
    Command::new(found.unwrap_or("fusermount3"))
}

fn last_line(said: &str) -> String {
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or("fusermount3 failed without a word").to_owned()
}

fn fusermount_options(how: &MountAs) -> OsString {
    let mut options = b"nosuid,nodev,default_permissions,subtype=dewfs,fsname=".to_vec();
    options.extend(escaped(&how.source));
    let words = [
        (how.read_only, ",ro"),
        (how.no_exec, ",noexec"),
        (how.no_atime, ",noatime"),
        (how.access != Access::Owner, ",allow_other"),
    ];
    for (_, word) in words.into_iter().filter(|(wanted, _)| *wanted) {
        options.extend(word.as_bytes());
    }
    OsString::from_vec(options)
}

/// fusermount3 takes its options apart at commas.
fn escaped(source: &OsStr) -> Vec<u8> {
    let escape = |byte: &u8| matches!(byte, b',' | b'\\').then_some(b'\\');
    source.as_bytes().iter().flat_map(|byte| escape(byte).into_iter().chain([*byte])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::time::Duration;

    #[test]
    fn commas_in_the_source_do_not_become_options() {
        let how = MountAs {
            source: "https://h/x?y=1,2".into(),
            mountpoint: PathBuf::from("/m"),
            read_only: true,
            no_exec: false,
            no_atime: false,
            access: Access::Everybody,
            follows_no_link: false,
            timeout: Duration::from_secs(30),
        };
        let options = fusermount_options(&how);
        let expected = "nosuid,nodev,default_permissions,subtype=dewfs,\
                        fsname=https://h/x?y=1\\,2,ro,allow_other";
        assert_eq!(options, OsStr::new(expected));
    }

    #[test]
    fn what_fusermount_said_last_counts() {
        assert_eq!(last_line("a\nfusermount3: no\n\n"), "fusermount3: no");
    }
}
