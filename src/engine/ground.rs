//! What the state lies on: a disk that was taken away, or whose machine went down, forgets what was not synced.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Names which mount of which boot a directory lies on, as no other is ever named; `None` where the system does not tell.
pub(super) fn mounted(dir: &Path) -> Option<Vec<u8>> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    // linux/stat.h: STATX_MNT_ID_UNIQUE, since Linux 6.8. The older number is given to the next mount at once.
    let unique = StatxFlags::from_bits_retain(0x4000);
    let found = statx(CWD, dir, AtFlags::empty(), unique).ok()?;
    let told = found.stx_mask & unique.bits() != 0;
    told.then(|| format!("{} {}", boot.trim(), found.stx_mnt_id).into_bytes())
}
