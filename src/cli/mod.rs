//! The commands.

mod mount;

pub use mount::{Order, Voice, run as run_mount};
