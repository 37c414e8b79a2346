//! `mount.dewfs` (built as `mount-dewfs`): what mount(8) calls for `mount -t dewfs SPEC DIR` and for such lines in fstab.
//!
//! It understands mount(8)'s arguments and becomes `dewfs SPEC DIR -o …`, whose exit status is mount(8)'s. Nothing else is
//! decided here: mount(8) has taken HOME and PATH away, so no path is searched and no home is asked for.

mod arguments;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use arguments::{Order, Refusal, Wanted};

/// mount(8): wrong usage, or not permitted.
const USAGE: u8 = 1;
/// mount(8): system error.
const SYSTEM: u8 = 2;
/// mount(8): the mount failed.
const FAILED: u8 = 32;

/// Where `dewfs` is when it is neither beside this program nor in the `bin` beside its directory.
const PLACES: [&str; 2] = ["/usr/local/bin/dewfs", "/usr/bin/dewfs"];

/// Who changes the mount namespace for `mount -N`; of the same package as mount(8).
const NSENTER: &str = "/usr/bin/nsenter";

fn main() -> ExitCode {
    match arguments::read(env::args_os().skip(1)) {
        Ok(Wanted::Nothing) => ExitCode::SUCCESS,
        Ok(Wanted::Mount(order)) => mount(order),
        Err(refusal) => {
            eprintln!("mount.dewfs: {refusal}");
            ExitCode::from(if refusal == Refusal::Remount { FAILED } else { USAGE })
        }
    }
}

/// Becomes `dewfs`; returns only if that fails.
fn mount(order: Order) -> ExitCode {
    let Some(program) = program() else {
        eprintln!("mount.dewfs: the program dewfs is neither beside mount.dewfs nor in {PLACES:?}");
        return ExitCode::from(SYSTEM);
    };
    let mut command = match &order.namespace {
        None => Command::new(&program),
        Some(namespace) => {
            let mut place = OsString::from("--mount=");
            place.push(namespace);
            let mut command = Command::new(NSENTER);
            command.arg(place).arg("--").arg(&program);
            command
        }
    };
    let why = command.args(order.arguments()).exec();
    eprintln!("mount.dewfs: {}: {why}", program.display());
    ExitCode::from(SYSTEM)
}

fn program() -> Option<PathBuf> {
    if let Some(told) = env::var_os("DEWFS_PROGRAM") {
        return Some(PathBuf::from(told));
    }
    // What was installed with this comes before what somebody else installed.
    let here = env::current_exe().ok().and_then(|this| Some(this.parent()?.to_owned()));
    let own = here.into_iter().flat_map(|dir| [dir.join("dewfs"), dir.join("../bin/dewfs")]);
    own.chain(PLACES.map(PathBuf::from)).find(|place| Path::is_file(place))
}
