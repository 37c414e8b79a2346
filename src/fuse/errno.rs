//! What a failed verb is called in POSIX: the one place where an errno is chosen.

use std::io;

use fuser::Errno;

use crate::engine::{EngineError, ErrorKind, RemoteError};
use crate::model::NameError;

/// Says what a request named: only names can be not found, a number was given to the kernel by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A name in a folder.
    Name,
    /// An inode number.
    Number,
}

/// The errno of a failed verb.
pub(super) fn errno(error: &EngineError, by: By) -> Errno {
    match error {
        // An inode that the kernel knows and we no longer do was replaced or deleted by the remote: ESTALE makes the kernel
        // look its name up again and go on with what is there now, where ENOENT would fail.
        EngineError::NotFound if by == By::Number => Errno::ESTALE,
        EngineError::NotFound => Errno::ENOENT,
        EngineError::Exists => Errno::EEXIST,
        EngineError::NotFolder => Errno::ENOTDIR,
        EngineError::IsFolder => Errno::EISDIR,
        EngineError::NotEmpty => Errno::ENOTEMPTY,
        EngineError::NotPermitted(_) => Errno::EPERM,
        EngineError::Denied(_) => Errno::EACCES,
        EngineError::ReadOnly => Errno::EROFS,
        EngineError::TooLarge => Errno::EFBIG,
        EngineError::NameTooLong => Errno::ENAMETOOLONG,
        EngineError::Invalid(_) | EngineError::Refused(_) => Errno::EINVAL,
        EngineError::NoAttribute => Errno::ENODATA,
        // rename(2) says EINVAL for a folder moved below itself.
        EngineError::IntoItself => Errno::EINVAL,
        EngineError::CrossDevice => Errno::EXDEV,
        // lseek(2) says ENXIO for SEEK_DATA and SEEK_HOLE beyond the end.
        EngineError::NoDataBeyond => Errno::ENXIO,
        EngineError::NoSpace(_) => Errno::ENOSPC,
        EngineError::QuotaExceeded => Errno::EDQUOT,
        EngineError::Stale => Errno::ESTALE,
        EngineError::TimedOut => Errno::ETIMEDOUT,
        // Known to be away, as opposed to silent: NFS and CIFS say the same.
        EngineError::Offline => Errno::EHOSTDOWN,
        // EKEYEXPIRED would be exact, but programs have no words for it.
        EngineError::Unauthenticated => Errno::EACCES,
        EngineError::Corrupt(_) => Errno::EIO,
        EngineError::Unsupported => Errno::EOPNOTSUPP,
        // The limit is the daemon's, not the program's: EMFILE would send its user to the wrong ulimit.
        EngineError::TooManyOpen => Errno::ENFILE,
        EngineError::Busy(_) => Errno::EBUSY,
        EngineError::Disk(error) => of_disk(error),
        EngineError::Lost | EngineError::Catalog(_) => Errno::EIO,
        // What the kernel itself says once the daemon is gone.
        EngineError::Stopped => Errno::ENOTCONN,
        EngineError::Remote(error) => of_remote(error),
    }
}

/// The errno for bytes that are no name.
pub(super) fn of_name(error: NameError) -> Errno {
    match error {
        NameError::TooLong => Errno::ENAMETOOLONG,
        NameError::Reserved | NameError::Separator => Errno::EINVAL,
    }
}

/// Only what is true for the program's file as well is passed on from the local disk; EACCES on our state directory, say, is
/// not the program's business.
fn of_disk(error: &io::Error) -> Errno {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => Errno::ENOSPC,
        Some(libc::EDQUOT) => Errno::EDQUOT,
        Some(libc::EFBIG) => Errno::EFBIG,
        Some(libc::EROFS) => Errno::EROFS,
        Some(libc::EINVAL) => Errno::EINVAL,
        Some(libc::EOPNOTSUPP) => Errno::EOPNOTSUPP,
        Some(libc::ENXIO) => Errno::ENXIO,
        Some(libc::EMFILE | libc::ENFILE) => Errno::ENFILE,
        Some(libc::ENOMEM) => Errno::ENOMEM,
        _ => Errno::EIO,
    }
}

fn of_remote(error: &RemoteError) -> Errno {
    match error.kind {
        ErrorKind::AlreadyExists => Errno::EEXIST,
        ErrorKind::NotEmpty => Errno::ENOTEMPTY,
        // What Linux answers for a name that a FAT or CIFS file system cannot hold.
        ErrorKind::NameRejected => Errno::EINVAL,
        ErrorKind::NotFound | ErrorKind::NoParent | ErrorKind::VersionMismatch => Errno::ESTALE,
        ErrorKind::Denied | ErrorKind::Unauthenticated => Errno::EACCES,
        ErrorKind::NoSpace => Errno::EDQUOT,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ErrorKind::Offline => Errno::EHOSTDOWN,
        ErrorKind::Unavailable
        | ErrorKind::Unsettled { .. }
        | ErrorKind::Locked { .. }
        | ErrorKind::RateLimited { .. } => Errno::ETIMEDOUT,
        ErrorKind::RootMissing | ErrorKind::Away => Errno::EHOSTDOWN,
        ErrorKind::Corrupt | ErrorKind::CursorExpired | ErrorKind::Other => Errno::EIO,
    }
}

/// Whether somebody should read of this failure in the log: what the program did is its own business, what we could not do
/// is ours.
pub(super) fn is_ours(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Corrupt(_)
            | EngineError::Disk(_)
            | EngineError::Catalog(_)
            | EngineError::TooManyOpen
            | EngineError::TimedOut
            | EngineError::Remote(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_gone_is_stale_and_a_name_is_absent() {
        assert_eq!(errno(&EngineError::NotFound, By::Number).code(), libc::ESTALE);
        assert_eq!(errno(&EngineError::NotFound, By::Name).code(), libc::ENOENT);
    }

    #[test]
    fn the_network_has_errnos_of_its_own() {
        assert_eq!(errno(&EngineError::Offline, By::Name).code(), libc::EHOSTDOWN);
        assert_eq!(errno(&EngineError::TimedOut, By::Name).code(), libc::ETIMEDOUT);
        assert_eq!(errno(&EngineError::QuotaExceeded, By::Name).code(), libc::EDQUOT);
    }

    #[test]
    fn our_own_disk_errors_do_not_look_like_permissions() {
        let denied = EngineError::Disk(io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(errno(&denied, By::Name).code(), libc::EIO);
        let full = EngineError::Disk(io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(errno(&full, By::Name).code(), libc::ENOSPC);
    }
}
