//! Small disks to keep a state on. Mounting needs root; what cannot run here says why.
#![allow(dead_code, unsafe_code)]

use super::wait::{LIMIT, holds_within};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted directory, unmounted when dropped.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Disk {
    /// Cuts the power: what was not synced is gone. Whoever uses the disk gets errors from now on.
    pub(crate) fn cut_power(&self) {
        /// `EXT4_IOC_SHUTDOWN`, and the same number for XFS.
        const SHUTDOWN: libc::Ioctl = 0x8004_587D_u32 as libc::Ioctl;
        /// Not even the journal in memory is written.
        const NO_LOG_FLUSH: u32 = 2;
        let root = File::open(self.root()).unwrap();
        // SAFETY: the kernel reads four bytes from a place that lives through the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &NO_LOG_FLUSH) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// Brings a disk back whose power was cut, when nobody uses it any more.
    pub(crate) fn power_on(&self) {
        self.unmount();
        let image = self.dir.path().join("image");
        let root = self.root();
        run("mount", &["-o", "loop", image.to_str().unwrap(), root.to_str().unwrap()]).unwrap();
    }

    fn unmount(&self) {
        let unmounted = || Command::new("umount").arg(self.root()).status();
        // A daemon that ends lets go of its files in the moment after its mount is gone.
        let is_gone = holds_within(LIMIT, || unmounted().is_ok_and(|status| status.success()));
        assert!(is_gone || std::thread::panicking(), "the disk stays in use");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

pub(crate) fn run(program: &str, args: &[&str]) -> Result<(), String> {
    match Command::new(program).args(args).output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

pub(crate) fn mounted(mount: impl FnOnce(&Path, &str) -> Result<(), String>) -> Option<Disk> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mnt");
    std::fs::create_dir(&root).unwrap();
    match mount(dir.path(), root.to_str().unwrap()) {
        Ok(()) => Some(Disk { dir }),
        Err(why) => {
            assert!(!rustix::process::geteuid().is_root() || !why.starts_with("mount"), "{why}");
            eprintln!("NOT RUN: {why}");
            None
        }
    }
}

pub(crate) fn tmpfs(size: &'static str) -> Option<Disk> {
    mounted(|_, root| run("mount", &["-t", "tmpfs", "-o", size, "dewfs-test", root]))
}

pub(crate) fn image(kind: &'static str, megabytes: u64) -> Option<Disk> {
    image_with(kind, &[], megabytes)
}

pub(crate) fn image_with(kind: &'static str, made: &[&str], megabytes: u64) -> Option<Disk> {
    mounted(|dir, root| {
        let image = dir.join("image");
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let image = image.to_str().unwrap();
        run(&format!("mkfs.{kind}"), &[made, &["-q", image]].concat())?;
        run("mount", &["-o", "loop", image, root])
    })
}
