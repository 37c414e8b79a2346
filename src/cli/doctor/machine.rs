//! What the machine itself has to offer: device, fusermount3, fuse.conf, kernel.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;

use super::Check;
use crate::cli::Common;
use crate::config::{Access, ConfigFiles, Options, Who};
use crate::fuse::examine_helper;

/// All of it.
pub(super) fn checks(who: &Who, common: &Common) -> Vec<Check> {
    vec![device(who), fusermount(who), fuse_conf(who, common), kernel(), passthrough()]
}

fn device(who: &Who) -> Check {
    const DEVICE: &str = "/dev/fuse";
    let mode = std::fs::metadata(DEVICE).map(|about| about.mode() & 0o777);
    match std::fs::File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => match mode {
            Ok(mode) if who.is_root() && mode & 0o006 != 0o006 => Check::note(
                DEVICE,
                format!("can be opened by root, but not by others (mode {mode:03o})"),
                "for their mounts make it usable for everybody: sudo chmod 666 /dev/fuse",
            ),
            _ => Check::well(DEVICE, "can be opened"),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Check::ill(DEVICE, "is missing", "load the kernel module: sudo modprobe fuse")
        }
        Err(error) => {
            let mode = mode.map(|mode| format!(", mode {mode:03o}")).unwrap_or_default();
            Check::ill(
                DEVICE,
                format!("cannot be opened: {error}{mode}"),
                "make it usable for everybody: sudo chmod 666 /dev/fuse",
            )
        }
    }
}

fn fusermount(who: &Who) -> Check {
    const NAME: &str = "fusermount3";
    let places = ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"];
    let found = places.iter().find_map(|path| Some((path, std::fs::metadata(path).ok()?)));
    match found {
        None if who.is_root() => Check::well(NAME, "is missing; root needs none"),
        None if examine_helper().is_ok() => {
            Check::well(NAME, "is missing; dewfs-helper mounts for you")
        }
        None => Check::ill(NAME, "is missing", "install it: sudo apt install fuse3"),
        Some((path, about)) if about.mode() & 0o4000 == 0 && !who.is_root() => Check::ill(
            NAME,
            format!("{path} is not set-uid, so it cannot mount for you"),
            "install it anew: sudo apt reinstall fuse3",
        ),
        Some((path, _)) => Check::well(NAME, *path),
    }
}

/// Letting others in needs root's consent.
fn fuse_conf(who: &Who, common: &Common) -> Check {
    const NAME: &str = "fuse.conf";
    if who.is_root() {
        return Check::well(NAME, "root may let others in");
    }
    let allowed = std::fs::read_to_string("/etc/fuse.conf")
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"));
    match (allowed, who_lets_others_in(who, common)) {
        (true, _) => Check::well(NAME, "user_allow_other is set: you may let others in"),
        (false, None) => Check::well(NAME, "only you can enter your mounts"),
        (false, Some(what)) => Check::ill(
            NAME,
            format!("{what} says allow_other, which is not allowed on this machine"),
            "let root write the line user_allow_other into /etc/fuse.conf",
        ),
    }
}

/// The file or saved remote that wants others to be let in.
fn who_lets_others_in(who: &Who, common: &Common) -> Option<String> {
    let files = ConfigFiles::of(who, common.config.as_deref());
    let mut general = Options::default();
    files.apply_general(&mut general, false).ok()?;
    if matches!(general.access, Some(Access::Everyone | Access::OwnerAndRoot)) {
        return Some("config.toml".to_owned());
    }
    files.names(&common.schemes).into_iter().find(|name| {
        let mut options = general.clone();
        let saved = files.remote(name).map(|saved| saved.options).unwrap_or_default();
        let read = saved.iter().try_for_each(|one| options.apply(one));
        read.is_ok() && matches!(options.access, Some(Access::Everyone | Access::OwnerAndRoot))
    })
}

fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    match version {
        (Some(major), Some(minor)) if (major, minor) >= (6, 9) => Check::well(
            "kernel",
            format!("Linux {release}, can read and write what is here itself"),
        ),
        (Some(major), Some(minor)) if (major, minor) >= (5, 10) => Check::well(
            "kernel",
            format!("Linux {release}; from 6.9 it can read and write what is here itself"),
        ),
        _ => Check::ill("kernel", format!("Linux {release}"), "dewfs needs Linux 5.10 or newer"),
    }
}

/// Who may tell the kernel of files that it can read and write itself; a mount works without.
fn passthrough() -> Check {
    const NAME: &str = "passthrough";
    let own = rustix::thread::capabilities(None);
    if own.is_ok_and(|own| own.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN)) {
        return Check::well(NAME, "dewfs may ask the kernel for it");
    }
    match examine_helper() {
        Ok(()) => Check::well(NAME, "dewfs-helper asks the kernel for it"),
        Err(why) => Check::note(
            NAME,
            format!("none, files are read and written through the daemon: {why}"),
            "sudo systemctl enable --now dewfs-helper.socket",
        ),
    }
}
