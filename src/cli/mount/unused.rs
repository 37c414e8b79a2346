//! What a start leaves that came to no mount.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tracing::warn;

use crate::engine::{only_here, remove_state, remove_state_but_log};

/// Takes away the state that such a start made: nobody ever used it. Who wants to know more than the one line keeps the log.
pub(super) fn forget(state: &Path, but_log: bool) {
    // Another daemon may have begun with it meanwhile, or begin now: where there is no lock yet, it is made.
    let mut options = File::options();
    let lock = options.create(true).append(true).mode(0o600).open(state.join("lock"));
    if lock.as_ref().is_ok_and(|lock| lock.try_lock().is_ok()) {
        remove_if_unused(state, but_log);
    }
}

fn remove_if_unused(state: &Path, but_log: bool) {
    let is_unused = only_here(state).is_ok_and(|kept| kept.is_empty())
        && std::fs::read_dir(state.join("recovered")).is_ok_and(|mut kept| kept.next().is_none());
    let has_catalog = state.join("catalog.db").exists();
    if !is_unused && has_catalog {
        return;
    }
    let removed = if but_log { remove_state_but_log(state) } else { remove_state(state) };
    if let Err(why) = removed
        && why.kind() != ErrorKind::NotFound
    {
        warn!("{}: {why}: the state of a mount that did not come about stays.", state.display());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_another_daemon_has_begun_with_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let lock = File::create(state.join("lock")).unwrap();
        lock.lock().unwrap();
        forget(&state, false);
        assert!(state.join("lock").exists());
        drop(lock);
        std::fs::write(state.join("log"), "said").unwrap();
        forget(&state, true);
        assert!(state.join("log").exists() && !state.join("lock").exists());
        forget(&state, false);
        assert!(!state.exists());
    }
}
