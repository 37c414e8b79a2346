//! mount.dewfs.
fn main() {}
