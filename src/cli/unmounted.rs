//! States of mounts that are not mounted and still hold what was not sent.

use std::path::{Path, PathBuf};

use crate::config::{Who, state_base};
use crate::control::{Note, PathText, Unmounted, find_daemons, to_line};
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

/// All such states of the caller: those in the usual place, and those elsewhere whose daemon was killed.
pub(super) fn waiting(mounted: &[Mount]) -> Vec<Waiting> {
    let who = Who::current();
    let usual = state_base(&who).ok().and_then(|base| std::fs::read_dir(base).ok());
    let usual = usual.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let usual = usual.filter_map(|dir| Note::read(&dir.join(Note::IN_STATE)));
    let mut notes: Vec<Note> = find_daemons(who.uid).into_iter().map(|found| found.note).collect();
    notes.extend(usual);
    notes.sort_by(|a, b| a.state_dir.cmp(&b.state_dir));
    notes.dedup_by(|a, b| a.state_dir == b.state_dir);
    let is_mounted = |at: &Path| mounted.iter().any(|m| m.is_dewfs() && m.mountpoint == at);
    let unmounted = notes.into_iter().filter(|note| !is_mounted(&note.mountpoint));
    unmounted.filter_map(|note| look(&note)).collect()
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
