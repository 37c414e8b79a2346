//! The machine around: its users, systemd, D-Bus, packages, the helper.
//!
//! Some tests change the working directory of their process: none here relies on it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod companion;
mod keyring;
mod ordinary_user;
mod package;
mod security;
mod setup;
mod systemd;
mod systemd_boot;
mod systemd_docs;
mod systemd_doctor;
mod thrift;
