//! What several test binaries share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod asks;
#[cfg(feature = "desktop")]
pub mod bus;
pub mod cloud;
pub mod conformance;
pub mod desk;
pub mod disk;
pub mod elsewhere;
pub mod faults;
pub mod guest;
pub mod liar;
pub mod line;
pub mod mapping;
pub mod mount;
pub mod ordinary;
pub mod proxy;
pub mod servers;
pub mod shapes;
pub mod space;
pub mod tried;
pub mod wait;
pub mod world;
