//! Extended attributes: `user.*` is the engine's, everything else has a fixed answer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, INodeNo, ReplyEmpty, ReplyXattr};

use super::answer::Call;
use super::attributes::ino;
use super::filesystem::Kernel;
use crate::engine::Engine;

/// What the engine keeps.
const USER: &[u8] = b"user.";

/// What the kernel asks before many a write and many an exec: none is kept, so none is set, and the engine is not bothered.
/// Of everything else that is not kept, programs like ls learn that there is no use in asking for each file.
const CAPABILITY: &[u8] = b"security.capability";

/// The longest list or value that Linux passes on.
const MOST: usize = 64 * 1024;

fn refusal_to_read(name: &OsStr) -> Option<Errno> {
    let name = name.as_bytes();
    if is_kept(name) {
        None
    } else if name == CAPABILITY {
        Some(Errno::ENODATA)
    } else {
        Some(Errno::EOPNOTSUPP)
    }
}

fn refusal_to_change(name: &OsStr) -> Option<Errno> {
    match name.as_bytes() {
        kept if is_kept(kept) => None,
        USER => Some(Errno::EINVAL),
        _ => Some(Errno::EOPNOTSUPP),
    }
}

fn is_kept(name: &[u8]) -> bool {
    name.len() > USER.len() && name.starts_with(USER)
}

/// The size protocol: 0 asks how long it is, less than that is ERANGE.
fn give(reply: ReplyXattr, data: &[u8], size: u32) {
    let Ok(length) = u32::try_from(data.len()) else { return reply.error(Errno::E2BIG) };
    if data.len() > MOST {
        reply.error(Errno::E2BIG);
    } else if size == 0 {
        reply.size(length);
    } else if length > size {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(data);
    }
}

fn joined(names: &[Vec<u8>]) -> Vec<u8> {
    names.iter().flat_map(|name| name.iter().copied().chain([0])).collect()
}

impl Kernel {
    pub(super) fn get_xattr(&self, at: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if let Some(errno) = refusal_to_read(name) {
            return reply.error(errno);
        }
        let verb = |engine: &Engine| engine.get_xattr(ino(at), name.as_bytes());
        self.door.answer(Call::of("getxattr", at), reply, verb, move |reply, value| {
            give(reply, &value, size);
        });
    }

    pub(super) fn list_xattr(&self, at: INodeNo, size: u32, reply: ReplyXattr) {
        let verb = |engine: &Engine| engine.list_xattr(ino(at));
        self.door.answer(Call::of("listxattr", at), reply, verb, move |reply, names| {
            give(reply, &joined(&names), size);
        });
    }

    pub(super) fn set_xattr(
        &self,
        at: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        reply: ReplyEmpty,
    ) {
        if let Some(errno) = refusal_to_change(name) {
            return reply.error(errno);
        }
        let create = flags & libc::XATTR_CREATE != 0;
        let replace = flags & libc::XATTR_REPLACE != 0;
        let verb =
            |engine: &Engine| engine.set_xattr(ino(at), name.as_bytes(), value, create, replace);
        self.door.answer(Call::of("setxattr", at).holding(), reply, verb, |reply, ()| reply.ok());
    }

    pub(super) fn remove_xattr(&self, at: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if let Some(errno) = refusal_to_change(name) {
            return reply.error(errno);
        }
        let verb = |engine: &Engine| engine.remove_xattr(ino(at), name.as_bytes());
        self.door
            .answer(Call::of("removexattr", at).holding(), reply, verb, |reply, ()| reply.ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_attributes_are_kept() {
        assert_eq!(refusal_to_read(OsStr::new("user.a")), None);
        let code = |errno: Option<Errno>| errno.map(Errno::code);
        let read = |name: &str| code(refusal_to_read(OsStr::new(name)));
        assert_eq!(read("security.capability"), Some(libc::ENODATA));
        assert_eq!(read("system.posix_acl_access"), Some(libc::EOPNOTSUPP));
        let change = |name: &str| code(refusal_to_change(OsStr::new(name)));
        assert_eq!(change("security.selinux"), Some(libc::EOPNOTSUPP));
        assert_eq!(change("user."), Some(libc::EINVAL));
        assert_eq!(change("user.a"), None);
    }

    #[test]
    fn names_end_with_nul() {
        assert_eq!(joined(&[b"user.a".to_vec(), b"user.b".to_vec()]), b"user.a\0user.b\0");
    }
}
