//! How the caller's mounts and units are: dead, doubled, signed out, without passthrough.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::Check;
use crate::cli::Failure;
use crate::cli::output::{number, text};
use crate::cli::target::Target;
use crate::cli::units::Units;
use crate::config::{ConfigFiles, Schemes, Who, shell_word};
use crate::control::{Client, Request, Scope, find_daemon};
use crate::fuse::mountinfo::{Mount, mounts};

/// How long a daemon has to answer before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// One or more checks for each mount and unit of the caller.
pub(super) fn checks(who: &Who, schemes: &Schemes) -> Result<Vec<Check>, Failure> {
    let all = mounts()?;
    let mine: Vec<Mount> = all
        .into_iter()
        .filter(|mount| mount.is_dewfs() && mount.owner.is_none_or(|owner| owner == who.uid))
        .collect();
    let mut checks = doubled(&mine, who);
    for mount in mine {
        checks.extend(one(mount, who));
    }
    checks.extend(units(who, schemes));
    Ok(checks)
}

/// Mountpoints with more than one mount or daemon.
fn doubled(mine: &[Mount], who: &Who) -> Vec<Check> {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for mount in mine {
        *counts.entry(mount.mountpoint.clone()).or_default() += 1;
    }
    let mut checks = Vec::new();
    for (place, count) in counts {
        let (shown, word) = (place.display(), shell_word(&place));
        let daemons = find_daemon(&place, Some(who.uid), who.uid);
        let alive = daemons.iter().filter(|found| Client::connect(&found.note.socket).is_ok());
        let pids: Vec<String> = alive.map(|found| found.note.pid.to_string()).collect();
        if count > 1 {
            checks.push(Check::ill(
                "mounts",
                format!("{shown}: {count} dewfs mounts lie on top of each other"),
                &format!("unmount the upper one: dewfs umount {word}"),
            ));
        } else if pids.len() > 1 {
            checks.push(Check::ill(
                "mounts",
                format!("{shown}: two daemons (processes {}) serve this place", pids.join(" and ")),
                &format!("unmount it and mount it once: dewfs umount {word}"),
            ));
        }
    }
    checks
}

/// How one mount is, as its daemon says.
fn one(mount: Mount, who: &Who) -> Vec<Check> {
    let place = mount.mountpoint.display().to_string();
    match answers(&mount) {
        Some(Ok(())) => {}
        Some(Err(why)) => {
            return vec![Check::ill(
                "mount",
                format!("{place} is dead: its daemon is gone ({why})"),
                &format!(
                    "nothing is lost: unmount it with dewfs umount {}, then mount again",
                    shell_word(&place)
                ),
            )];
        }
        None => {
            return vec![Check::ill(
                "mount",
                format!("{place}: its daemon does not answer"),
                &stuck(&mount, who),
            )];
        }
    }
    let target = Target { mount, scope: Scope::of(b"") };
    let mut told = None;
    let asked = target.connect().and_then(|mut daemon| {
        daemon.set_patience(Some(PATIENCE))?;
        Ok(daemon.ask(Request::Status, false, |document, _| told = Some(document.clone()))?)
    });
    match (asked, told) {
        (Ok(_), Some(status)) => vec![health(&place, &status), speed(&place, &status)],
        (Err(failure), _) => {
            vec![Check::ill("mount", failure.message, "unmount it and mount it again")]
        }
        (Ok(_), None) => Vec::new(),
    }
}

/// Whether the daemon behind it answers the kernel; `None` if it does not say. Asked in a thread of its own, which a stuck one
/// keeps.
fn answers(mount: &Mount) -> Option<Result<(), rustix::io::Errno>> {
    let (tell, told) = mpsc::channel();
    let place = mount.mountpoint.clone();
    std::thread::spawn(move || tell.send(rustix::fs::statfs(&place).map(drop)));
    told.recv_timeout(PATIENCE).ok()
}

fn stuck(mount: &Mount, who: &Who) -> String {
    let place = shell_word(&mount.mountpoint);
    let pid = find_daemon(&mount.mountpoint, mount.owner, who.uid).first().map(|one| one.note.pid);
    let kill =
        pid.map(|pid| format!("end it (kill {pid}, at worst kill -9), then ")).unwrap_or_default();
    format!("nothing is lost: {kill}unmount with dewfs umount {place} and mount again")
}

fn health(place: &str, status: &Value) -> Check {
    let word = shell_word(place);
    let state = text(status, "state");
    let reason = text(status, "reason");
    let said = if reason.is_empty() { state.to_owned() } else { format!("{state}, {reason}") };
    let ill = |mend: &str| Check::ill("mount", format!("{place}: {said}"), mend);
    match state {
        "auth-required" => ill(&format!(
            "sign in again: dewfs login {word}; or write the new password into the file of credentials="
        )),
        "remote-missing" => ill(&format!(
            "bring it back; if it was emptied or replaced on purpose: dewfs sync --accept-remote {word}"
        )),
        "offline" => Check::note(
            "mount",
            format!("{place}: {said}"),
            "what is here works, edits wait; look at the network and at the server",
        ),
        _ if number(status, "held") > 0 => ill(&format!(
            "dewfs held {word} lists them; dewfs undo {word} brings all back, dewfs release {word} sends them"
        )),
        _ if number(status, "errors") > 0 => {
            ill(&format!("dewfs status --pending {word} lists what cannot be sent, and why"))
        }
        _ if number(status, "conflicts") > 0 => ill(&format!(
            "dewfs conflicts {word} lists them; decide each: dewfs resolve PATH --keep mine, theirs or both"
        )),
        "degraded" => Check::note(
            "mount",
            format!("{place}: {said}"),
            &format!("dewfs pin --list {word} shows what is pinned"),
        ),
        _ => Check::well("mount", format!("{place}: {said}")),
    }
}

/// Whether what is here is read at native speed.
fn speed(place: &str, status: &Value) -> Check {
    if status.get("passthrough") == Some(&Value::Bool(true)) {
        return Check::well(
            "passthrough",
            format!("{place}: what is here is read at native speed"),
        );
    }
    let why = text(status, "passthrough_reason");
    Check::note(
        "passthrough",
        format!("{place}: none, {why}"),
        "it works all the same; root's mounts have it, and everybody's where dewfs-helper runs: sudo systemctl enable --now dewfs-helper.socket",
    )
}

/// Units of saved remotes that failed.
fn units(who: &Who, schemes: &Schemes) -> Vec<Check> {
    let Some(units) = Units::of(who) else { return Vec::new() };
    let names = ConfigFiles::of(who, None).names(schemes);
    let failed = names.into_iter().filter_map(|name| {
        let why = units.why_failed(&name)?;
        let user = if who.is_root() { "" } else { " --user" };
        Some(Check::ill(
            "unit",
            format!("dewfs@{name} failed: {why}"),
            &format!("mend that, then: systemctl{user} restart dewfs@{name}"),
        ))
    });
    failed.collect()
}
