//! The notes that mounts with a `state_dir=` leave in the usual place of states: those of a test are its own to take away.

#![allow(dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};

use base64::Engine as _;

/// The notes of states at or below `dir`, in the usual place of states, or below `state_home` where that is honoured.
pub fn noted_below(dir: &Path, state_home: Option<&Path>) -> Vec<PathBuf> {
    let home = || std::env::home_dir().unwrap().join(".local/state");
    let base = match rustix::process::geteuid().is_root() {
        true => PathBuf::from("/var/lib/dewfs"),
        false => state_home.map_or_else(home, Path::to_owned).join("dewfs"),
    };
    let entries = std::fs::read_dir(base.join("elsewhere")).into_iter().flatten().flatten();
    let is_ours = |note: &PathBuf| state_of(note).is_some_and(|state| state.starts_with(dir));
    entries.map(|entry| entry.path()).filter(is_ours).collect()
}

/// Takes them away. Another test's may come and go meanwhile.
pub fn forget_below(dir: &Path) {
    for note in noted_below(dir, None) {
        let _gone = std::fs::remove_file(note);
    }
}

/// Where the state is that a note is of.
fn state_of(note: &Path) -> Option<PathBuf> {
    let text = std::fs::read(note).ok()?;
    let document: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let coded = document["state_dir_base64"].as_str()?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(coded).ok()?;
    Some(String::from_utf8(bytes).ok()?.into())
}
