//! dewfs: Files On-Demand for Linux. A whole remote as a folder, fetched as it is read.
//!
//! The catalog is the truth about names, the cache is the truth about bytes, the remote is only ever an observation. The
//! kernel is answered from catalog and cache; what is missing is fetched *into* them, what differs is sent *from* them.
//! `ARCHITECTURE.md` is the map of the house.
//!
//! A program that brings its own store implements [`remote::Remote`] and calls [`main_with`]: it has every command, mount(8)
//! and the units for its own scheme. One that wants no command line starts an [`engine::Engine`]: it offers in process what the
//! socket offers. `docs/remotes.md` tells how, `examples/custom_remote.rs` shows it.

pub mod cache;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod control;
#[cfg(feature = "desktop")]
pub mod desktop;
#[cfg(any(test, fuzzing))]
pub mod doors;
pub mod engine;
pub mod fuse;
pub mod model;
pub mod remote;

pub use cli::main_with;
pub use config::Schemes;
