//! libFuzzer at the doors where bytes of others come in; `DEWFS_FUZZ` says at which.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static DOOR: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("DEWFS_FUZZ").unwrap_or_default();
    let door = dewfs::doors::ALL.iter().find(|(one, _)| *one == name);
    door.unwrap_or_else(|| panic!("DEWFS_FUZZ={name}: no such door")).1
});

fuzz_target!(|bytes: &[u8]| DOOR(bytes));
