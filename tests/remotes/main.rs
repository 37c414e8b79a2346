//! Remotes and their decorators, against the contract, real servers and servers that lie.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod cloud;
mod conformance;
mod custom;
mod folder;
mod layers;
mod memory;
mod serve;
mod webdav;
mod webdav_conformance;
mod webdav_halfway;
mod webdav_hostile;
mod webdav_lies;
