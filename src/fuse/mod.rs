//! The kernel's door: requests come in, engine verbs are asked, answers go out.
//!
//! This room translates and never decides. `filesystem` takes the kernel's requests apart; `answer` asks the engine and
//! is the one place with a `catch_unwind`, a span, a deadline and an errno; `notify` tells the kernel what to forget, on
//! a thread of its own, after the commit; [`mount`] attaches and detaches, over a folder that is `bare` before; `companion` asks
//! the privileged helper for what an ordinary user may not. Everything that is fuser's name stays in here.
//!
//! What the kernel is told it may believe for hours, because every change is invalidated: attributes and names, negative
//! ones too. Pages are never invalidated by notification: an `open` says whether those from last time may be kept.

mod answer;
mod attach;
mod attributes;
mod backing;
mod bare;
mod companion;
mod copies;
mod errno;
mod files;
mod filesystem;
mod flags;
mod folders;
mod mount;
mod mountpoint;
mod names;
mod nodes;
mod notify;
mod xattr;

pub mod mountinfo;

pub use bare::Bare;
pub use companion::examine_helper;
pub use mount::{Access, MountAs, MountError, Mounted, mount, release, unmount};
pub use mountpoint::{MountpointError, clear_dead, examine};
