//! What several test binaries share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod conformance;
pub mod tried;
pub mod world;
