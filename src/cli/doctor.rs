//! `dewfs doctor`: checks this machine, and says how to mend it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::config::{Who, state_base};
use crate::fuse::examine_helper;

use super::output::{Output, Tone, size};
use super::{Common, DONE, FAILED, Failure, remote};

/// Seconds by which two clocks that are both right may differ, on the way and by rounding.
const CLOCKS_DIFFER: u64 = 10;

/// What to check besides the machine.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// A remote to check as well
    spec: Option<OsString>,
}

/// Is one thing looked at (JSON type `check`).
#[derive(Clone, Debug, Serialize)]
struct Check {
    format: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    ok: bool,
    message: String,
    mend: Option<String>,
}

impl Check {
    fn well(name: &'static str, message: impl Into<String>) -> Self {
        Self::with(name, true, message, None)
    }

    fn ill(name: &'static str, message: impl Into<String>, mend: &str) -> Self {
        Self::with(name, false, message, Some(mend.to_owned()))
    }

    fn with(
        name: &'static str,
        ok: bool,
        message: impl Into<String>,
        mend: Option<String>,
    ) -> Self {
        Self {
            format: crate::control::FORMAT,
            kind: "check",
            name,
            ok,
            message: message.into(),
            mend,
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &DoctorArgs, common: &Common) -> Result<u8, Failure> {
    let who = Who::current();
    let mut checks = vec![device(), fusermount(&who), kernel(), passthrough(), state_disk(&who)];
    if let Some(spec) = &args.spec {
        match remote::look(spec, &[], common) {
            Ok(found) => {
                checks.extend(found.clock_ahead.map(clock));
                let answers = format!("{} answers", spec.to_string_lossy());
                checks.push(Check::well("remote", answers));
            }
            Err(failure) => {
                let mend = "dewfs remote test says more";
                checks.push(Check::ill("remote", failure.message, mend));
            }
        }
    }
    let output = Output::of(common);
    for check in &checks {
        if common.json {
            output.line(&crate::control::to_line(check));
        } else if !check.ok || !common.quiet {
            let mark = if check.ok {
                output.paint("ok  ", Tone::Good)
            } else {
                output.paint("FAIL", Tone::Bad)
            };
            output.line(&format!("{mark}  {:11}  {}", check.name, check.message));
            if let Some(mend) = &check.mend {
                output.line(&format!("                   {mend}"));
            }
        }
    }
    Ok(if checks.iter().all(|check| check.ok) { DONE } else { FAILED })
}

fn device() -> Check {
    match std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Check::well("/dev/fuse", "can be opened"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::ill("/dev/fuse", "is missing", "load the kernel module: sudo modprobe fuse")
        }
        Err(error) => Check::ill(
            "/dev/fuse",
            format!("cannot be opened: {error}"),
            "make it usable for everybody: sudo chmod 666 /dev/fuse",
        ),
    }
}

fn fusermount(who: &Who) -> Check {
    let places = ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"];
    match places.iter().find(|path| Path::new(path).exists()) {
        Some(path) => Check::well("fusermount3", *path),
        None if who.is_root() => Check::well("fusermount3", "is missing; root needs none"),
        None => Check::ill("fusermount3", "is missing", "install it: sudo apt install fuse3"),
    }
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
    let name = "passthrough";
    let own = rustix::thread::capabilities(None);
    if own.is_ok_and(|own| own.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN)) {
        return Check::well(name, "dewfs may ask the kernel for it");
    }
    match examine_helper() {
        Ok(()) => Check::well(name, "dewfs-helper asks the kernel for it"),
        Err(why) => {
            let mend = "sudo systemctl enable --now dewfs-helper.socket";
            Check::well(
                name,
                format!("none, files are read and written through the daemon: {why} ({mend})"),
            )
        }
    }
}

/// Compares the clocks: times of files, and the names of conflict copies, are told by both.
fn clock(ahead: i64) -> Check {
    let seconds = ahead.unsigned_abs();
    let way = if ahead > 0 { "behind" } else { "ahead of" };
    if seconds < CLOCKS_DIFFER {
        return Check::well("clock", format!("differs from the server's by {seconds} s at most"));
    }
    Check::ill(
        "clock",
        format!("{seconds} s {way} the server's"),
        "let it be set by the network: sudo timedatectl set-ntp true",
    )
}

fn state_disk(who: &Who) -> Check {
    let base = match state_base(who) {
        Ok(base) => base,
        Err(error) => return Check::ill("state", error.to_string(), "mount with -o state_dir=DIR"),
    };
    let existing = base
        .ancestors()
        .find(|dir| dir.is_dir())
        .map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let room =
        rustix::fs::statvfs(&existing).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let writable = rustix::fs::access(&existing, rustix::fs::Access::WRITE_OK).is_ok();
    match room {
        _ if !writable => Check::ill(
            "state",
            format!("{} cannot be written", existing.display()),
            "mount with -o state_dir=DIR, or mend its owner",
        ),
        Ok(free) if free < 1 << 30 => Check::ill(
            "state",
            format!("{}: only {} free", base.display(), size(free)),
            "free some room, or mount with -o state_dir=DIR on another disk",
        ),
        Ok(free) => Check::well("state", format!("{}: {} free", base.display(), size(free))),
        Err(error) => Check::ill("state", error.to_string(), "mount with -o state_dir=DIR"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told_with_the_way_they_do() {
        assert!(clock(0).ok && clock(9).ok && clock(-9).ok);
        let behind = clock(3600);
        assert!(!behind.ok && behind.message.starts_with("3600 s behind"), "{}", behind.message);
        let ahead = clock(-86400);
        assert!(!ahead.ok && ahead.message.starts_with("86400 s ahead of"), "{}", ahead.message);
        assert!(ahead.mend.is_some());
    }
}
