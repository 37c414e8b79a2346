//! The disks where states are, or would be: the usual place, and each that `state_dir=` names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Check;
use crate::cli::Common;
use crate::cli::output::size;
use crate::config::{ConfigFiles, Options, SavedPlace, Who, state_base};
use crate::control::find_daemons;

/// Less room than this is soon used up.
const LITTLE: u64 = 1 << 30;

/// File systems that cannot hold a state, and why.
const UNSUITABLE: &[(i64, &str, &str)] = &[
    (0x6969, "NFS", "it is a network file system, where locks and databases are not safe"),
    (0xff53_4d42, "CIFS", "it is a network file system, where locks and databases are not safe"),
    (0xfe53_4d42, "SMB2", "it is a network file system, where locks and databases are not safe"),
    (0x6573_5546, "FUSE", "it is a FUSE mount itself"),
    (0x4d44, "FAT", "it keeps no owners and no modes"),
    (0x2011_bab0, "exFAT", "it keeps no owners and no modes"),
    (
        0x0102_1994,
        "tmpfs",
        "it is in memory: what is not sent would be lost with the machine's power",
    ),
    (
        0x8584_58f6,
        "ramfs",
        "it is in memory: what is not sent would be lost with the machine's power",
    ),
];

/// One check for the usual place, and one for each other.
pub(super) fn checks(who: &Who, spec: Option<&OsStr>, common: &Common) -> Vec<Check> {
    let base = state_base(who);
    let usual = match &base {
        Ok(base) => disk_of(base, "mount with -o state_dir=DIR on another disk"),
        Err(error) => Check::ill("state", error.to_string(), "mount with -o state_dir=DIR"),
    };
    let mut elsewhere = elsewhere(who, spec, common);
    elsewhere.retain(|dir, _| !base.as_ref().is_ok_and(|base| dir.starts_with(base)));
    let others = elsewhere.iter().map(|(dir, whose)| {
        disk_of(dir, &format!("let the state_dir= of {whose} name a place on another disk"))
    });
    [usual].into_iter().chain(others).collect()
}

/// What `state_dir=` names, and who says so: config.toml, the caller's saved remotes and the one that was asked for, and the
/// mounts that run, which may have it from a command line.
fn elsewhere(who: &Who, spec: Option<&OsStr>, common: &Common) -> BTreeMap<PathBuf, String> {
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut found = BTreeMap::new();
    let running = find_daemons(who.uid).into_iter().map(|one| one.note);
    for note in running.filter(|note| note.state_dir.is_dir()) {
        found.insert(note.state_dir, note.mountpoint.display().to_string());
    }
    let files = ConfigFiles::of(who, common.config.as_deref());
    let mut general = Options::default();
    if files.apply_general(&mut general, false).is_err() {
        return found;
    }
    let asked = spec.and_then(OsStr::to_str).and_then(|spec| spec.split(':').next());
    // Where a remote of the machine's has its state may be closed to the caller, who does not mount it.
    let is_callers = |name: &String| {
        who.is_root()
            || asked == Some(name.as_str())
            || SavedPlace::of(who, name, &common.schemes).is_ok_and(|place| place.file.exists())
    };
    for name in files.names(&common.schemes).into_iter().filter(is_callers) {
        let mut options = general.clone();
        let saved = files.remote(&name).map(|saved| saved.options).unwrap_or_default();
        let is_read = saved.iter().try_for_each(|one| options.apply(one)).is_ok();
        if let Some(dir) = options.state_dir.filter(|_| is_read) {
            found.insert(who.path(&cwd, &dir), name);
        }
    }
    if let Some(dir) = general.state_dir {
        found.insert(who.path(&cwd, &dir), "config.toml".to_owned());
    }
    found
}

fn disk_of(place: &Path, elsewhere: &str) -> Check {
    const NAME: &str = "state";
    let shown = place.display();
    let existing = place
        .ancestors()
        .find(|dir| dir.is_dir())
        .map_or_else(|| PathBuf::from("/"), Path::to_owned);
    if rustix::fs::access(&existing, rustix::fs::Access::WRITE_OK).is_err() {
        let mend = format!("{elsewhere}, or mend its owner");
        return Check::ill(NAME, format!("{} cannot be written", existing.display()), &mend);
    }
    let (room, kind) = match (rustix::fs::statvfs(&existing), rustix::fs::statfs(&existing)) {
        (Ok(room), Ok(about)) => (room, about.f_type),
        (Err(error), _) | (_, Err(error)) => {
            return Check::ill(NAME, format!("{shown}: {error}"), elsewhere);
        }
    };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < LITTLE {
        let mend = format!("free some room, or {elsewhere}");
        return Check::ill(NAME, format!("{shown}: only {} free", size(free)), &mend);
    }
    // The width of the number differs from machine to machine, its low half does not.
    let same = |one: i64| one & 0xffff_ffff == kind & 0xffff_ffff;
    if let Some((_, name, why)) = UNSUITABLE.iter().find(|(one, ..)| same(*one)) {
        return Check::ill(NAME, format!("{shown} is on {name}: {why}"), elsewhere);
    }
    // Some file systems count none.
    if room.f_files > 0 && room.f_favail < 1000 {
        let message = format!("{shown}: its disk has room for {} more files only", room.f_favail);
        return Check::ill(NAME, message, elsewhere);
    }
    Check::well(NAME, format!("{shown}: {} free", size(free)))
}
