//! Where file systems are mounted, as the kernel's table has it: also those that cannot be looked at.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use crate::remote::Name;

/// Whether the kernel's table has a mount at a name in a folder. Nothing is asked of what is mounted.
pub(super) fn is_mounted(folder: &OwnedFd, name: &Name) -> bool {
    let at = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let (Ok(at), Ok(table)) = (at, std::fs::read("/proc/self/mountinfo")) else { return false };
    has(&table, at.join(std::ffi::OsStr::from_bytes(name.as_bytes())).as_os_str().as_bytes())
}

fn has(table: &[u8], path: &[u8]) -> bool {
    let lines = table.split(|byte| *byte == b'\n');
    let mut places = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    places.any(|place| unescaped(place) == path)
}

/// The bytes of a place: four of them are written as three octal digits behind a backslash.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::has;

    #[test]
    fn a_mount_is_found_by_its_whole_path() {
        let table = b"36 35 98:0 / /mnt/a\\040b rw,noatime - ext4 /dev/root rw\n\
                      37 35 0:50 / /mnt/c\\134d\xff rw - fuse.x x rw\n";
        assert!(has(table, b"/mnt/a b") && has(table, b"/mnt/c\\d\xff"));
        assert!(!has(table, b"/mnt/a") && !has(table, b"/mnt") && !has(table, b""));
    }
}
