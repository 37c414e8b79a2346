//! What the kernel says in numbers, as the engine names it.

use fuser::{Errno, RenameFlags};

use crate::engine::RenameMode;
use crate::model::Kind;

/// The kind that mknod(2) asks for; device nodes are nobody's here.
pub(super) fn kind_of(mode: u32) -> Result<Kind, Errno> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Ok(Kind::File),
        libc::S_IFIFO => Ok(Kind::Fifo),
        libc::S_IFSOCK => Ok(Kind::Socket),
        libc::S_IFCHR | libc::S_IFBLK => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// How renameat2(2) is to treat what has the name already.
pub(super) fn rename_mode(flags: RenameFlags) -> Result<RenameMode, Errno> {
    match flags {
        none if none.is_empty() => Ok(RenameMode::Replace),
        RenameFlags::RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        _ => Err(Errno::EINVAL),
    }
}
