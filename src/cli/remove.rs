//! `dewfs remove`: the way back from `dewfs setup`. Nothing that is not sent goes away unless somebody says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::Who;
use crate::control::{Request, Scope};
use crate::engine::left_to_send;

use super::output::{Output, number, path_bytes, text};
use super::progress::Bars;
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
    /// First copy there what is not sent
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// Lose what is not sent
    #[arg(long)]
    discard: bool,
    /// Only tell what would go away
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// How long a daemon may take to let go of its state once it is unmounted.
const LET_GO: Duration = Duration::from_secs(30);

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
    if args.dry_run {
        return would_remove(&saved, args, common, units.as_ref());
    }
    if let Some(dir) = &args.export {
        export(&saved, dir, units.as_ref())?;
    } else if !args.discard {
        send(&saved, common)?;
    }
    stop(&saved, units.as_ref())?;
    if args.export.is_none() && !args.discard {
        refuse_unsent(&saved, left_to_send(state(&saved)).unwrap_or(0))?;
        refuse_recovered(&saved)?;
    }
    forget(&saved)?;
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
    let (mut left, mut can_send) = (left_to_send(state(saved)).unwrap_or(0), false);
    if let Some(mut daemon) = connect(saved)? {
        daemon.ask(Request::Status, false, |document, _| {
            left = number(document, "pending");
            can_send = text(document, "state") == "online";
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
        refuse_recovered(saved)?;
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
    if dry_run {
        if !common.quiet {
            eprintln!("dewfs: {name} would be forgotten");
        }
        return Ok(DONE);
    }
    saved.place.forget()?;
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

/// Sends what can be sent while it is mounted, and refuses if something is left.
fn send(saved: &Saved, common: &Common) -> Result<(), Failure> {
    let left = match connect(saved)? {
        Some(mut daemon) => {
            let mut bars = Bars::of(common);
            let request = Request::Drain { timeout_ms: None };
            let done = daemon.ask(request, bars.wanted(), |document, _| {
                bars.take(document);
            })?;
            done.left.unwrap_or(0)
        }
        None => left_to_send(state(saved)).unwrap_or(0),
    };
    refuse_unsent(saved, left)?;
    refuse_recovered(saved)
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

/// What was saved from conflicts and damage is somebody's only copy.
fn refuse_recovered(saved: &Saved) -> Result<(), Failure> {
    let kept = state(saved).join("recovered");
    let holds = fs::read_dir(&kept).is_ok_and(|mut files| files.next().is_some());
    if !holds {
        return Ok(());
    }
    Err(Failure {
        exit: LEFT,
        message: format!(
            "{}: {} holds files that were saved for you; --export DIR moves them, --discard loses them",
            saved.name,
            kept.display()
        ),
    })
}

/// Copies what is not sent, as it is in the mount, and what was saved from conflicts and damage.
fn export(saved: &Saved, dir: &Path, units: Option<&Units>) -> Result<(), Failure> {
    let left = left_to_send(state(saved)).unwrap_or(0);
    if left > 0 && connect(saved)?.is_none() {
        match units {
            Some(units) => units.start(&saved.name)?,
            None => {
                return Err(Failure::failed(format!(
                    "{}: mount it first: dewfs mount {}:",
                    saved.name, saved.name
                )));
            }
        }
    }
    fs::create_dir_all(dir).map_err(|error| about(dir, &error))?;
    if let Some(mut daemon) = connect(saved)? {
        let mut files = Vec::new();
        let request = Request::Pending { scope: Scope::of(b"") };
        daemon.ask(request, false, |document, _| {
            if text(document, "type") == "item" && text(document, "kind") == "file" {
                files.push((path_bytes(document), number(document, "size")));
            }
        })?;
        for (path, _) in files {
            copy_out(&saved.mount.mountpoint, &path, dir)?;
        }
    }
    let kept = state(saved).join("recovered");
    if kept.is_dir() {
        copy_tree(&kept, &dir.join("recovered")).map_err(|error| about(&kept, &error))?;
    }
    Ok(())
}

fn about(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// Copies one file of the mount to the same place below `dir`. One that is gone meanwhile was removed here.
fn copy_out(mountpoint: &Path, path: &[u8], dir: &Path) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStrExt as _;
    let from = Path::new(std::ffi::OsStr::from_bytes(path));
    let Ok(below) = from.strip_prefix(mountpoint) else { return Ok(()) };
    let to = dir.join(below);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| about(folder, &error))?;
    }
    match fs::copy(from, &to) {
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && from.symlink_metadata().is_err() =>
        {
            Ok(())
        }
        Err(error) => Err(about(from, &error)),
        Ok(_) => Ok(()),
    }
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Unmounts it, whoever mounted it, and waits until nobody uses its state.
fn stop(saved: &Saved, units: Option<&Units>) -> Result<(), Failure> {
    if let Some(units) = units {
        units.disable(&saved.name)?;
    }
    if let Some(mut daemon) = connect(saved)? {
        daemon.ask(Request::Stop, false, |_, _| {})?;
    }
    let until = Instant::now() + LET_GO;
    while !is_let_go(state(saved)) {
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

/// Whether no daemon holds the lock of that state.
fn is_let_go(state: &Path) -> bool {
    match fs::File::open(state.join("lock")) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => true,
    }
}

/// Takes away state, remote, secret and the empty mountpoint.
fn forget(saved: &Saved) -> Result<(), Failure> {
    let dir = state(saved);
    if dir.join("catalog.db").exists() {
        fs::remove_dir_all(dir).map_err(|error| about(dir, &error))?;
    }
    saved.place.forget()?;
    let mount = &saved.mount;
    if mount.remote_options.credentials.is_none() {
        // Without a keyring there is nothing in it.
        let _forgotten = super::keyring::forget(&mount.remote, &mount.remote_options);
    }
    // Somebody may keep something in it.
    drop(fs::remove_dir(&saved.mount.mountpoint));
    Ok(())
}
