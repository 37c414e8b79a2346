//! How many histories, crash points and faults were tried: `make test` names a file in `DEWFS_TRIED`, the suites add lines
//! of `COUNT WHAT` to it, and their sums are printed at the end.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::io::Write as _;

/// Adds `count` of `what`, such as "crash points", to what this run of all tests tried.
pub fn tried(count: u64, what: &str) {
    let Some(file) = std::env::var_os("DEWFS_TRIED") else { return };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    // One write, so that test processes side by side do not mix their lines.
    file.write_all(format!("{count} {what}\n").as_bytes()).unwrap();
}
