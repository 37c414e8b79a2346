//! Attaching to a place in the tree and detaching from it: by mount(2) where that is allowed, else by fusermount3,
//! and where that is missing by the helper.
//!
//! fuser can mount, too, but unmounts a second time what is unmounted already, and by then somebody else may be mounted
//! there. So the descriptor is made here, and fuser only speaks over it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tracing::debug;

use super::companion;
use super::mount::{Access, MountAs, MountError};

const DEVICE: &str = "/dev/fuse";

/// Where distributions put it; mount(8) leaves no PATH to be searched.
const FUSERMOUNT: [&str; 4] =
    ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3", "/sbin/fusermount3"];

const UMOUNT: &str = "/bin/umount";

/// Mounts and answers the descriptor over which the kernel speaks.
pub(super) fn attach(how: &MountAs) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    match attach_directly(how, &device) {
        Ok(()) => Ok(device.into()),
        Err(rustix::io::Errno::PERM) => match attach_by_fusermount(how) {
            // The helper does the same under the same rules.
            Err(MountError::NoFusermount(error)) => companion::mount(how, device).map_err(|why| {
                debug!("the helper does not mount either: {why}");
                MountError::NoFusermount(error)
            }),
            outcome => outcome,
        },
        Err(errno) => Err(MountError::Refused(io::Error::from(errno).to_string())),
    }
}

/// Detaches what is mounted at `mountpoint`, at once, even if it is in use; programs that have something open there keep it.
pub(super) fn detach(mountpoint: &Path) -> io::Result<()> {
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => detach_by_fusermount(mountpoint),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether every thread can have a descriptor of its own.
pub(super) fn can_clone() -> bool {
    open_device().is_ok()
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
    rustix::mount::mount(&how.source, &how.mountpoint, "fuse", flags, &*data)
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
    let device = receive_descriptor(&ours);
    drop(ours);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What cannot be read is not worth more than the lack of a descriptor.
        drop(stderr.read_to_string(&mut said));
    }
    let status = child.wait().map_err(MountError::System)?;
    match device {
        Ok(Some(device)) if status.success() => Ok(device),
        _ => Err(MountError::Refused(last_line(&said))),
    }
}

fn detach_by_fusermount(mountpoint: &Path) -> io::Result<()> {
    let output = match fusermount().args(["-u", "-z", "--"]).arg(mountpoint).output() {
        // umount(8) knows by the mount whose it is.
        Err(_no_fusermount) => Command::new(UMOUNT).args(["-l", "--"]).arg(mountpoint).output()?,
        Ok(output) => output,
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

fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(received)
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
