//! The `dewfs` program.

fn main() {}
