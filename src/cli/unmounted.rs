//! States of mounts that are not mounted and still hold what was not sent.

use std::path::{Path, PathBuf};

use crate::config::{ConfigFiles, Who, state_base};
use crate::control::{Client, Note, PathText, Unmounted, find_daemons, noted_elsewhere, to_line};
use crate::engine::left_to_send;
use crate::fuse::mountinfo::Mount;

use super::Common;
use super::output::{Output, Tone};

/// Is a state with something in it that is not sent.
pub(super) struct Waiting {
    /// Where it was mounted.
    mountpoint: PathBuf,
    /// Items not sent.
    left: u64,
}

/// All such states of the caller: those in the usual place, those that are noted there or by a daemon, and those of saved
/// remotes.
pub(super) fn waiting(mounted: &[Mount], common: &Common) -> Vec<Waiting> {
    let who = Who::current();
    let daemons: Vec<Note> = find_daemons(who.uid).into_iter().map(|found| found.note).collect();
    let mut notes = daemons.clone();
    if let Ok(base) = state_base(&who) {
        let usual = std::fs::read_dir(&base).into_iter().flatten();
        notes.extend(usual.filter_map(|entry| in_state(&entry.ok()?.path())));
        notes.extend(noted_elsewhere(&base));
    }
    let config = ConfigFiles::of(&who, common.config.as_deref());
    let saved = config.names(&common.schemes).into_iter();
    notes.extend(saved.filter_map(|name| in_state(&saved_state(&config, &name, &who)?)));
    notes.sort_by(|a, b| a.state_dir.cmp(&b.state_dir));
    notes.dedup_by(|a, b| a.state_dir == b.state_dir);
    let is_mounted = |at: &Path| mounted.iter().any(|m| m.is_dewfs() && m.mountpoint == at);
    let unmounted = notes
        .into_iter()
        .filter(|note| !is_mounted(&note.mountpoint) || is_beside_another(note, &daemons));
    unmounted.filter_map(|note| look(&note)).collect()
}

/// Where the options of a saved remote put its state, if they do. Its place is not looked at: a daemon that is stuck there
/// would hold us up.
fn saved_state(config: &ConfigFiles, name: &str, who: &Who) -> Option<PathBuf> {
    let saved = config.remote(name).ok()?;
    let mut said = saved.options.into_iter().rfind(|said| said.key == "state_dir")?;
    said.name_from_root(Path::new("/"), who).ok()?;
    said.value.map(PathBuf::from)
}

/// What the state itself notes of its mount. Where it is now is known better than what it noted then.
fn in_state(dir: &Path) -> Option<Note> {
    let note = Note::read(&dir.join(Note::IN_STATE))?;
    Some(Note { state_dir: dir.to_owned(), ..note })
}

/// Whether it is another state that is mounted in this one's place.
fn is_beside_another(note: &Note, daemons: &[Note]) -> bool {
    let is_alive = |one: &Note| Client::connect(&one.socket).is_ok();
    let is_other =
        |one: &&Note| one.mountpoint == note.mountpoint && one.state_dir != note.state_dir;
    let mut others = daemons.iter().filter(is_other);
    // The socket of a mount is named after remote and place: it may be the other's by now.
    others.any(is_alive)
        && !daemons.iter().any(|one| one.state_dir == note.state_dir && is_alive(one))
}

fn look(note: &Note) -> Option<Waiting> {
    // A state that is damaged, or gone, is told of by the next mount.
    let left = left_to_send(&note.state_dir).ok()??;
    (left > 0).then(|| Waiting { mountpoint: note.mountpoint.clone(), left })
}

impl Waiting {
    /// Prints it.
    pub(super) fn show(&self, common: &Common) {
        let output = Output::of(common);
        if common.json {
            let path = PathText::in_mount(&self.mountpoint, b"");
            output.line(&to_line(&Unmounted::new(path, self.left)));
            return;
        }
        let at = super::exit::one_line(&self.mountpoint.to_string_lossy());
        let left = match self.left {
            1 => "1 item is not sent".to_owned(),
            left => format!("{left} items are not sent"),
        };
        let head = output.paint(&at, Tone::Bold);
        output.line(&format!("{head}  not mounted: {left}, safe here, sent after the next mount"));
    }
}
