//! While content is cut off, and afterwards: what was taken of it to be recorded before is not to be believed any more.

use std::sync::Arc;

use super::live::{Live, State};

/// Is a cut under way; it ends when this is dropped, whatever came of it.
pub(super) struct Cut(Arc<Live>);

impl Cut {
    /// To be called before the catalog is told, or anything is cut off.
    pub(super) fn begin(live: &Arc<Live>) -> Self {
        let mut state = live.state();
        state.cuts += 1;
        state.cutting += 1;
        drop(state);
        Self(Arc::clone(live))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.cutting = state.cutting.saturating_sub(1);
    }
}

impl State {
    /// Whether something was cut off since `cuts` was read, or is just being.
    pub(super) fn is_cut_since(&self, cuts: u64) -> bool {
        self.cutting > 0 || self.cuts != cuts
    }
}
