//! What reads the sources: the arrows between rooms, promises and rules.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod architecture;
mod semantics;
