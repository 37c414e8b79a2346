//! The nouns of dewfs and the decisions about them: no I/O, no clock, no async.
//!
//! An inode has two places: `local`, where users see it, and, in its [`Base`], where the remote last had it. The outbox
//! says *who* is not in sync; [`plan`] recomputes *what* to do. [`reconcile`] applies what was observed, [`settle`] applies
//! what became of a step. All three work on [`Rows`], which the catalog implements as one SQLite transaction and the tests
//! as plain maps, so what is tested is what runs. The rules and the histories that break without them are in
//! `docs/RULES.md`.

mod blocks;
mod conflict;
mod entry;
mod ids;
mod pin;
mod place;
mod rows;

pub use blocks::{BLOCK, BlockSet};
pub use conflict::conflict_name;
pub use entry::{Content, Digest, Kind, Observed, Pin};
pub use ids::{Edition, Generation, Ino, RemoteId, Stamp, Tick, Version};
pub use place::{Name, NameError, Place, RemotePath};
pub use rows::{Attempt, Base, Expect, Handles, Node, OutboxRow, Rows, Sent, StepKind};
