//! The engine, over remotes in memory and in directories, without a mount.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod ahead;
mod crash;
mod exclude;
mod feed;
mod guard;
mod pause;
mod pins;
mod review;
mod space;
mod state_disk;
mod sync_found;
mod through;
mod trust;
mod verbs;
