//! What the machine and the desktop say over D-Bus: whether the network costs money and the battery drains.
//!
//! Nothing here decides, and nothing is asked again and again: who is told of a change asks once. Where there is no bus, or
//! nobody on it who knows, it is as if nothing were said.

mod thrift;

pub use thrift::{Circumstances, follow};
