//! `dewfs umount`: sends what is pending, then unmounts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::Who;
use crate::control::{Client, PathText, Request, Unmounted, find_daemon, to_line};
use crate::engine::left_to_send;

use crate::fuse::mountinfo::{Mount, mounts};

use super::output::Output;
use super::progress::Bars;
use super::target::{Target, Unreached};
use super::users::users_of;
use super::{Common, DONE, Failure, LEFT};

/// A mount to end.
#[derive(Args, Clone, Debug)]
pub struct UmountArgs {
    /// The mountpoint, or any path in the mount; NAME: for that of a saved remote
    dir: PathBuf,
    /// Unmount at once; what is not sent goes on at the next mount
    #[arg(long)]
    no_wait: bool,
    /// Only take away what a killed daemon left mounted there; it is well if there is nothing
    #[arg(long, conflicts_with_all = ["no_wait", "timeout"])]
    dead: bool,
    /// Send for at most this long
    #[arg(long, value_name = "DUR", value_parser = super::sync::duration)]
    timeout: Option<Duration>,
}

/// How long the daemon of a mount that is all sent may take to let go.
const GOODBYE: Duration = Duration::from_secs(10);

/// Runs the command.
pub(super) fn run(args: &UmountArgs, common: &Common) -> Result<u8, Failure> {
    let dir = super::target::place_of(&args.dir, common)?;
    if args.dead {
        return match crate::fuse::clear_dead(&dir) {
            Ok(()) => Ok(DONE),
            Err(why) => Err(Failure::failed(why.to_string())),
        };
    }
    let target = Target::of(&dir)?;
    let at = &target.mount.mountpoint;
    let mut client = match target.reach() {
        Ok(client) => client,
        Err(Unreached::Gone) => {
            let left = left_behind(&target.mount);
            clear(&target.mount)?;
            if !common.quiet {
                let what = match left {
                    0 => "all was sent".to_owned(),
                    1 => "1 item is not sent, and goes on at the next mount".to_owned(),
                    left => format!("{left} items are not sent, and go on at the next mount"),
                };
                eprintln!("dewfs: {}: the daemon was gone; {what}", at.display());
            }
            return Ok(if left == 0 { DONE } else { LEFT });
        }
        Err(Unreached::Stuck { pid }) if args.no_wait => {
            clear(&target.mount)?;
            if !common.quiet {
                eprintln!(
                    "dewfs: {}: unmounted; its daemon (process {pid}) does not answer: what it had not sent goes on at the next \
                     mount, once that process has ended",
                    at.display()
                );
            }
            return Ok(LEFT);
        }
        Err(stuck) => return Err(stuck.failure(at)),
    };
    let limit = if args.no_wait { Some(Duration::ZERO) } else { args.timeout };
    let left = drain(&mut client, limit, common)?;
    release(&target.mount)?;
    if left == 0 {
        wait_for_goodbye(&mut client);
    }
    tell(at, left, common);
    Ok(if left == 0 { DONE } else { LEFT })
}

/// Sends what can be sent; answers how many items are left.
pub(super) fn drain(
    client: &mut Client,
    limit: Option<Duration>,
    common: &Common,
) -> Result<u64, Failure> {
    let mut bars = Bars::of(common);
    let timeout_ms = limit.map(super::sync::millis);
    let request = Request::Drain { timeout_ms };
    let done = client.ask(request, bars.wanted(), |document, _| {
        bars.take(document);
    })?;
    match done.message {
        // The engine failed: the items are safe, but nothing is known of their number.
        Some(message) if done.exit == super::FAILED => Err(Failure::failed(message)),
        _ => Ok(done.left.unwrap_or(0)),
    }
}

fn tell(at: &Path, left: u64, common: &Common) {
    if common.json {
        let document = Unmounted::new(PathText::in_mount(at, b""), left);
        Output::of(common).line(&to_line(&document));
    } else if left > 0 {
        eprintln!(
            "dewfs: {}: unmounted; {left} item{} not sent yet, safe here, sent after the next mount",
            at.display(),
            if left == 1 { " is" } else { "s are" }
        );
    }
}

/// Unmounts, or says by whom it is busy.
fn release(mount: &Mount) -> Result<(), Failure> {
    match unmount_once(&mount.mountpoint, false) {
        Ok(()) => Ok(()),
        Err(_) if !is_mounted(mount) => Ok(()),
        Err(why) => {
            let users: Vec<String> =
                users_of(&mount.mountpoint).iter().map(ToString::to_string).collect();
            let at = mount.mountpoint.display();
            Err(Failure::failed(if users.is_empty() {
                format!("{at}: still mounted: {why}")
            } else {
                format!(
                    "{at}: still mounted, in use by {}; unmount again when that has ended",
                    users.join(", ")
                )
            }))
        }
    }
}

/// How many items a daemon that is gone has not sent, by the states that were mounted there. A state that cannot be read is
/// told of by the next mount.
fn left_behind(mount: &Mount) -> u64 {
    let notes = find_daemon(&mount.mountpoint, mount.owner, Who::current().uid);
    let states = notes.into_iter().map(|found| found.note.state_dir).collect::<BTreeSet<_>>();
    states.iter().filter_map(|dir| left_to_send(dir).ok()?).sum()
}

/// Takes away the mount of a daemon that was killed.
fn clear(mount: &Mount) -> Result<(), Failure> {
    let at = mount.mountpoint.display();
    unmount_once(&mount.mountpoint, true).map_err(|why| Failure::failed(format!("{at}: {why}")))
}

fn unmount_once(at: &Path, lazily: bool) -> Result<(), String> {
    let outcome = if lazily { crate::fuse::unmount(at) } else { crate::fuse::release(at) };
    outcome.map_err(|error| error.to_string())
}

fn is_mounted(mount: &Mount) -> bool {
    mounts().is_ok_and(|all| all.contains(mount))
}

/// Waits until the daemon has closed the connection: then it has let go of its state.
fn wait_for_goodbye(client: &mut Client) {
    let until = Instant::now() + GOODBYE;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let patience = client.set_patience(Some(left.max(Duration::from_millis(1))));
        if patience.is_err() || client.next_line().is_err() {
            return;
        }
    }
}
