//! Real mounts, through the kernel. `make test` runs them a second time without passthrough.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod attributes;
mod bytes;
mod command;
mod faults;
mod faults_random;
mod feed;
mod folder;
mod full_disk;
mod guard;
mod killed;
mod life;
mod listings;
mod mount_8;
mod names;
mod offline;
mod passthrough;
mod power_cut;
mod space;
mod syscalls;
mod webdav;
mod webdav_faults;
