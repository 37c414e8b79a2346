//! Small disks to keep a state on. Mounting needs root; what cannot run here says why.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A mounted directory, unmounted when dropped.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = || Command::new("umount").arg(self.root()).status();
        // A daemon that ends lets go of its files in the moment after its mount is gone.
        let until = Instant::now() + Duration::from_secs(20);
        while !unmounted().is_ok_and(|status| status.success()) {
            if Instant::now() > until {
                assert!(std::thread::panicking(), "the disk stays in use");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
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
    mounted(|dir, root| {
        let image = dir.join("image");
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let image = image.to_str().unwrap();
        run(&format!("mkfs.{kind}"), &["-q", image])?;
        run("mount", &["-o", "loop", image, root])
    })
}
