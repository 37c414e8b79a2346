//! Which folders are asked for and which are being listed. Memory only.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::Ino;

/// Is what is known of listings asked for and under way.
#[derive(Default)]
pub(super) struct Lists(Mutex<State>);

#[derive(Default)]
struct State {
    /// Asked for, the first first.
    needed: Vec<Ino>,
    listing: HashSet<Ino>,
}

impl Lists {
    pub(super) fn is_needed(&self, folder: Ino) -> bool {
        self.state().needed.contains(&folder)
    }

    pub(super) fn is_listing(&self, folder: Ino) -> bool {
        self.state().listing.contains(&folder)
    }

    pub(super) fn need(&self, folder: Ino) {
        let mut state = self.state();
        if !state.needed.contains(&folder) {
            state.needed.push(folder);
        }
    }

    /// Ends being asked for: the folder is gone.
    pub(super) fn drop_need(&self, folder: Ino) {
        self.state().needed.retain(|one| *one != folder);
    }

    /// Begins a listing, which answers the request for it; `false` if one is under way.
    pub(super) fn begin(&self, folder: Ino) -> bool {
        let mut state = self.state();
        if !state.listing.insert(folder) {
            return false;
        }
        state.needed.retain(|one| *one != folder);
        true
    }

    pub(super) fn end(&self, folder: Ino) {
        self.state().listing.remove(&folder);
    }

    /// Folders asked for that are not being listed.
    pub(super) fn waiting(&self, most: usize) -> Vec<Ino> {
        let state = self.state();
        let waiting = state.needed.iter().filter(|folder| !state.listing.contains(folder));
        waiting.take(most).copied().collect()
    }

    /// How many folders are asked for or being listed.
    pub(super) fn busy(&self) -> usize {
        let state = self.state();
        state.needed.len() + state.listing.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
