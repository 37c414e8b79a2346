//! Names as the kernel sends them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::Errno;

use super::errno::of_name;
use crate::model::Name;

/// Names that begin so belong to dewfs: hidden in every mount, never made by anybody else.
const OURS: &[u8] = b".dewfs-";

/// A name to look for.
pub(super) fn sought(name: &OsStr) -> Result<Name, Errno> {
    if is_ours(name) { Err(Errno::ENOENT) } else { checked(name) }
}

/// A name to be made.
pub(super) fn made(name: &OsStr) -> Result<Name, Errno> {
    if is_ours(name) { Err(Errno::EPERM) } else { checked(name) }
}

fn is_ours(name: &OsStr) -> bool {
    name.as_bytes().starts_with(OURS)
}

fn checked(name: &OsStr) -> Result<Name, Errno> {
    Name::new(name.as_bytes()).map_err(of_name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_dewfs_are_neither_found_nor_made() {
        let ours = OsStr::new(".dewfs-tmp.1.2.3--a");
        assert_eq!(sought(ours).unwrap_err().code(), libc::ENOENT);
        assert_eq!(made(ours).unwrap_err().code(), libc::EPERM);
        assert!(made(OsStr::new(".dewfs")).is_ok());
    }

    #[test]
    fn names_are_any_255_bytes() {
        assert!(made(OsStr::from_bytes(&[0xff; 255])).is_ok());
        assert!(made(OsStr::from_bytes(b"a\nb")).is_ok());
        assert_eq!(sought(OsStr::from_bytes(&[b'a'; 256])).unwrap_err().code(), libc::ENAMETOOLONG);
    }
}
