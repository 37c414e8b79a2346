//! `dewfs remove`: the way back from `dewfs setup`. Nothing that is only here goes away unless somebody says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

mod export;

use crate::config::Who;
use crate::control::{Request, Scope, forget_elsewhere};
use crate::engine::{left_to_send, only_here, remove_state};

use super::keyring;
use super::output::{Output, number, text};
use super::saved::Saved;
use super::target::Target;
use super::units::Units;
use super::{Common, DONE, Failure, LEFT};

/// What to take away.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Nothing is deleted at the remote.")]
pub struct RemoveArgs {
    /// The saved remote
    name: String,
    /// First copy there what is not sent, or kept on this machine only
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// Lose what is not sent, or kept on this machine only
    #[arg(long)]
    discard: bool,
    /// Only tell what would go away
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// How long a daemon may take to let go of its state once it is unmounted, and how often it is asked to meanwhile.
const LET_GO: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Runs the command.
pub(super) fn run(args: &RemoveArgs, common: &Common) -> Result<u8, Failure> {
    let saved = Saved::find(&args.name, common)?;
    if !saved.is_own() {
        return Err(Failure::failed(format!(
            "{}: it is saved in /etc/dewfs, for every user: only root can remove it; dewfs umount {}: unmounts it",
            saved.name, saved.name
        )));
    }
    let units = Units::of(&Who::current());
    if let Some(user) = units.as_ref().and_then(|units| units.user(&saved.name)) {
        let (name, file) = (&saved.name, saved.place.file.display());
        return Err(Failure::failed(format!(
            "{name}: nothing was removed: dewfs@{name}.service mounts it as {user}, whose state may hold what is not sent: \
             systemctl disable --now dewfs@{name}.service, look at dewfs status as {user}, then remove {file}"
        )));
    }
    if args.dry_run {
        return would_remove(&saved, args, common, units.as_ref());
    }
    let exported = match &args.export {
        Some(dir) => Some(export::copy(&saved, dir, units.as_ref())?),
        None if args.discard => None,
        None => {
            send(&saved, common)?;
            None
        }
    };
    let enabled = units.as_ref().filter(|units| units.is_enabled(&saved.name));
    let was_mounted = saved.mounted()?.is_some();
    stop(&saved, units.as_ref()).map_err(|why| go_on(&saved, enabled, was_mounted, why))?;
    // Only now nobody can write any more.
    let refused = match (&args.export, &exported) {
        (Some(dir), Some(copied)) => export::refuse_changed(&saved, copied)
            .and_then(|()| export::copy_recovered(&saved, dir)),
        _ if args.discard => Ok(()),
        _ => left(&saved)
            .and_then(|left| refuse_unsent(&saved, left))
            .and_then(|()| refuse_kept(&saved)),
    };
    refused.map_err(|why| go_on(&saved, enabled, was_mounted, why))?;
    forget(&saved, common)?;
    if common.json {
        let document = serde_json::json!({
            "format": crate::control::FORMAT, "type": "removed", "name": saved.name,
            "dry_run": false,
        });
        Output::of(common).line(&document.to_string());
    } else if !common.quiet {
        eprintln!("dewfs: {} is removed; nothing was deleted at the remote", saved.name);
    }
    Ok(DONE)
}

/// Tells what would go away, and whether something would keep it from going.
fn would_remove(
    saved: &Saved,
    args: &RemoveArgs,
    common: &Common,
    units: Option<&Units>,
) -> Result<u8, Failure> {
    let (mut left, mut can_send) = (left(saved)?, false);
    if let Some(mut daemon) = connect(saved)? {
        daemon.ask(Request::Status, false, |document, _| {
            left = number(document, "pending");
            can_send = matches!(text(document, "state"), "online" | "degraded");
        })?;
    }
    let output = Output::of(common);
    if common.json {
        let document = serde_json::json!({
            "format": crate::control::FORMAT, "type": "removed", "name": saved.name,
            "dry_run": true,
        });
        output.line(&document.to_string());
    } else if !common.quiet {
        let name = &saved.name;
        if left > 0 && can_send {
            output.line(&format!("what is pending would be sent first: {left}"));
        }
        if saved.mounted()?.is_some() {
            output.line(&format!("{} would be unmounted", saved.mount.mountpoint.display()));
        }
        if units.is_some_and(|units| units.is_enabled(name)) {
            output.line(&format!("dewfs@{name} would be disabled"));
        }
        output.line(&format!("{} would be deleted", state(saved).display()));
        output.line(&format!("{name} would be forgotten; nothing would be deleted at the remote"));
    }
    if args.export.is_none() && !args.discard {
        refuse_unsent(saved, if can_send { 0 } else { left })?;
        refuse_kept(saved)?;
    }
    Ok(DONE)
}

/// Runs `dewfs remote forget`: takes the saved remote away, and nothing else; so nothing else may be there.
pub(super) fn forget_saved(name: &str, dry_run: bool, common: &Common) -> Result<u8, Failure> {
    let saved = Saved::find(name, common)?;
    let is_enabled = Units::of(&Who::current()).is_some_and(|u| u.is_enabled(&saved.name));
    if !saved.is_own() || is_enabled || state(&saved).join("catalog.db").exists() {
        return Err(Failure::failed(format!(
            "{name}: it is more than a name, it was mounted: dewfs remove {name} takes all of it away"
        )));
    }
    if !dry_run {
        saved.place.forget()?;
    }
    if common.json {
        let document = serde_json::json!({
            "format": crate::control::FORMAT, "type": "removed", "name": saved.name,
            "dry_run": dry_run,
        });
        Output::of(common).line(&document.to_string());
    } else if dry_run && !common.quiet {
        eprintln!("dewfs: {name} would be forgotten");
    }
    Ok(DONE)
}

fn state(saved: &Saved) -> &Path {
    &saved.mount.places.state_dir
}

fn connect(saved: &Saved) -> Result<Option<crate::control::Client>, Failure> {
    let Some(mount) = saved.mounted()? else { return Ok(None) };
    let target = Target { mount, scope: Scope::of(b"") };
    // A dead mount holds what its catalog says; that is asked afterwards.
    Ok(target.connect().ok())
}

/// How many items are not sent. What cannot be read may hold somebody's only copy.
fn left(saved: &Saved) -> Result<u64, Failure> {
    let left = left_to_send(state(saved)).map_err(|why| cannot_tell(saved, &why))?;
    Ok(left.unwrap_or(0))
}

fn cannot_tell(saved: &Saved, why: &impl std::fmt::Display) -> Failure {
    let name = &saved.name;
    Failure::failed(format!(
        "{name}: what is not sent cannot be told, and nothing was removed: {why}; mount it once with dewfs mount {name}:, \
         or --discard what may be lost"
    ))
}

/// Sends what can be sent while it is mounted, and refuses if something is left.
fn send(saved: &Saved, common: &Common) -> Result<(), Failure> {
    let left = match connect(saved)? {
        Some(mut daemon) => super::umount::drain(&mut daemon, None, common)?,
        None => left(saved)?,
    };
    refuse_unsent(saved, left)?;
    refuse_kept(saved)
}

fn refuse_unsent(saved: &Saved, left: u64) -> Result<(), Failure> {
    let name = &saved.name;
    match left {
        0 => Ok(()),
        _ => Err(Failure {
            exit: LEFT,
            message: format!(
                "{name}: {left} item{} not sent yet and nothing was removed; dewfs status --pending lists them, --export DIR copies them, --discard loses them",
                if left == 1 { " is" } else { "s are" }
            ),
        }),
    }
}

/// Refuses while something is here that is nowhere else and is not to be sent: files that stay on this machine, and what was
/// saved from conflicts and damage.
fn refuse_kept(saved: &Saved) -> Result<(), Failure> {
    let name = &saved.name;
    let refuse = |message: String| Err(Failure { exit: LEFT, message });
    let kept = only_here(state(saved)).map_err(|why| cannot_tell(saved, &why))?;
    let mut kept = kept.iter().filter(|one| !one.unsent);
    if let Some(first) = kept.next() {
        let (count, s, are) = match kept.count() + 1 {
            1 => (1, "", "is"),
            count => (count, "s", "are"),
        };
        let first = super::exit::one_line(&export::below(first).to_string_lossy());
        return refuse(format!(
            "{name}: {count} item{s} {are} kept on this machine only ({first}) and nothing was removed; --export DIR copies them, \
             --discard loses them"
        ));
    }
    let recovered = state(saved).join("recovered");
    if !fs::read_dir(&recovered).is_ok_and(|mut files| files.next().is_some()) {
        return Ok(());
    }
    refuse(format!(
        "{name}: {} holds files that were saved for you; --export DIR copies them, --discard loses them",
        recovered.display()
    ))
}

fn about(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// Mounts again what is not removed after all, or says that it is not mounted.
fn go_on(saved: &Saved, enabled: Option<&Units>, was_mounted: bool, why: Failure) -> Failure {
    let name = &saved.name;
    let what = match enabled.map(|units| units.enable(name)) {
        Some(Ok(())) => return why,
        Some(Err(failure)) => format!("it could not be mounted again: {}", failure.message),
        None if was_mounted => format!("it is unmounted now: dewfs mount {name}: mounts it"),
        None => return why,
    };
    Failure { message: format!("{}; {what}", why.message), ..why }
}

/// Unmounts it, whoever mounted it, and waits until nobody uses its state.
fn stop(saved: &Saved, units: Option<&Units>) -> Result<(), Failure> {
    if let Some(units) = units {
        units.disable(&saved.name)?;
    }
    let until = Instant::now() + LET_GO;
    let mut asked = ask_to_stop(saved)?;
    while !is_let_go(state(saved)) {
        // One that just starts is not mounted yet, or thinks that it was asked by who mounts.
        if asked.elapsed() > ASK_AGAIN {
            asked = ask_to_stop(saved)?;
        }
        if Instant::now() >= until {
            return Err(Failure::failed(format!(
                "{}: its daemon does not let go of {}",
                saved.name,
                state(saved).display()
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    crate::fuse::clear_dead(&saved.mount.mountpoint).map_err(|why| Failure::failed(why.to_string()))
}

/// Asks the daemon of what is mounted to end; answers when that was. One that ends already may not answer.
fn ask_to_stop(saved: &Saved) -> Result<Instant, Failure> {
    if let Some(mut daemon) = connect(saved)? {
        drop(daemon.ask(Request::Stop, false, |_, _| {}));
    }
    Ok(Instant::now())
}

/// Whether no daemon holds the lock of that state.
fn is_let_go(state: &Path) -> bool {
    match fs::File::open(state.join("lock")) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => true,
    }
}

/// Takes away state, remote, secret and the empty mountpoint.
fn forget(saved: &Saved, common: &Common) -> Result<(), Failure> {
    let dir = state(saved);
    if dir.join("catalog.db").exists() {
        remove_state(dir).map_err(|error| about(dir, &error))?;
        forget_elsewhere(&saved.mount.places);
    }
    saved.place.forget()?;
    let mount = &saved.mount;
    if mount.remote_options.credentials.is_none() {
        let shared = keyring::shared_with_others(saved, common);
        let (spec, with) = (&mount.remote, &mount.remote_options);
        // Without a keyring there is nothing in it.
        if let Err(why) = keyring::forget(spec, with, shared)
            && keyring::has(spec, with).is_err()
        {
            eprintln!("dewfs: {}: its secret stays in the keyring: {}", saved.name, why.message);
        }
    }
    // Somebody may keep something in it, and will want to go on.
    let at = &saved.mount.mountpoint;
    if fs::remove_dir(at).is_err()
        && let Some(bare) = crate::fuse::Bare::at(at)
    {
        bare.open_up();
    }
    Ok(())
}
