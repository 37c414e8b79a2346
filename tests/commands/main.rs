//! The command line: words, exit statuses, JSON, and what commands do to a mount.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod folder;
mod hand;
mod json;
mod webdav;
