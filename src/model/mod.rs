//! The nouns of dewfs and the decisions about them: no I/O, no clock, no async.
//!
//! An inode has two places: `local`, where users see it, and, in its [`Base`], where the remote last had it. The outbox
//! says *who* is not in sync; [`plan`] recomputes *what* to do. [`reconcile`] applies what was observed, `settle` applies
//! what became of a step. All three work on [`Rows`], which the catalog implements as one SQLite transaction and the tests
//! as plain maps, so what is tested is what runs. The rules and the histories that break without them are in
//! `docs/RULES.md`.

mod around;
mod blocks;
mod conflict;
mod entry;
mod exclude;
mod glob;
pub mod guard;
mod ids;
mod listing;
mod look;
mod metadata;
mod pin;
mod place;
mod plan;
mod reconcile;
mod relocate;
mod revive;
mod rows;
mod rule;
mod settle;
mod sights;
mod size;
#[cfg(test)]
mod tests;
mod touch;
mod verbs;

pub use around::{Busy, by_path, is_attempted_above, path, path_of};
pub use blocks::{BLOCK, BlockSet};
pub use conflict::{conflict_name, original_name};
pub use entry::{Content, Digest, Kind, Observed, Pin};
pub use exclude::Exclude;
pub use glob::Glob;
pub use ids::{Edition, Generation, Ino, RemoteId, Stamp, Tick, Version};
pub use listing::{
    Listing, Look, Sight, apply_page, begin_listing, begin_page, break_listing, end_listing,
    hint_folder, list_page, listing_refused, lost_hints, settle_missing, unchanged,
};
pub use look::{Looked, came, confirmed, found_to_fetch, found_to_list, look, resolve};
pub use metadata::{
    Shown, Touched, metadata_not_held, metadata_refused, metadata_sent, metadata_set,
};
pub use place::{Name, NameError, Place, RemotePath};
pub use plan::{Step, plan};
pub use reconcile::{Trust, look_at_everything, look_from_the_root, reconcile};
pub use revive::{Undone, discard, inherit, resurrect, step_aside, undo};
pub use rows::{Attempt, Base, Based, Expect, Handles, Met, Node, OutboxRow, Rows, Sent, StepKind};
pub use rule::{PinRule, bytes as parse_bytes};
pub use settle::{
    Begun, Made, Refusal, begin, begin_write, current, made_folder, make_folder_refused,
    move_refused, moved, put_off, remove_refused, removed, sidestep_place, write_refused, written,
};
pub use size::shown_bytes;
pub use touch::touch;
pub use verbs::{exchange, handled, is_listed, recover, rename, unlink};
