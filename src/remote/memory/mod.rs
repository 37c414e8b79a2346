//! A deterministic remote in memory, stricter than real ones, for tests.
//!
//! Versions never repeat (unless the options say otherwise), a read of another version fails, listings come in small
//! pages in an order shuffled by the seed, an upload whose bytes are not what was promised is refused, and every fault that
//! a network or a server can have is scripted. One [`MemoryStore`] holds the tree; [`MemoryRemote`]s are handles to it, one
//! for each engine or incarnation, each of which can be taken offline or cut off for ever. Tests change the tree behind the
//! engines' backs by the store's own verbs (`put`, `mkdir`, `rm`, `mv`) and step requests one by one by a [`Gate`].
//!
//! At the weak `Conditional` levels the store only looks and then acts, as WebDAV servers do, and the handle makes up for
//! it as every backend must: temporary upload, move aside, look, move in.

mod actor;
mod client;
mod fault;
mod requests;
mod store;
mod tree;
mod weak;

pub use client::MemoryRemote;
pub use fault::{Fault, FaultRule, Gate, Held, HintFaults, Moment, Operation, RandomFaults, Step};
pub use store::{MemoryOptions, MemoryStore, VersionKind, path};
