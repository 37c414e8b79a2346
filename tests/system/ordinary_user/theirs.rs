//! Files of somebody else in a user's remote.

use super::*;
use crate::support::ordinary::roots_file;

/// What cannot be set on a file of somebody else was tried for ever, and its row told an error.
///
/// S173 "What a remote cannot hold of it, or who mounts may not set there, stays here, and is no error."
#[test]
fn regression_what_a_user_may_not_set_there_stays_here() {
    let name = "ordinary_user::theirs::regression_what_a_user_may_not_set_there_stays_here";
    if !goes_on(name, USUAL) {
        return;
    }
    let mount = Mounted::of(|remote| {
        for name in ["roots", "private"] {
            fs::rename(roots_file(name), remote.join(name)).unwrap();
        }
        fs::write(remote.join("mine"), "x").unwrap();
        fs::set_permissions(remote.join("mine"), fs::Permissions::from_mode(0o444)).unwrap();
    });
    let theirs = |name: &str| {
        let there = fs::metadata(mount.remote(name)).unwrap();
        (there.uid(), there.mode() & 0o777, there.mtime())
    };
    let before = ["roots", "private"].map(theirs);
    assert_eq!(before.map(|(uid, mode, _)| (uid, mode)), [(0, 0o666), (0, 0o644)]);
    let permissions = |mode| fs::Permissions::from_mode(mode);
    let second = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
    for name in ["roots", "private"] {
        fs::set_permissions(mount.path(name), permissions(0o666)).unwrap();
        let file = fs::File::options().write(true).open(mount.path(name)).unwrap();
        file.set_modified(second).unwrap();
        fs::set_permissions(mount.path(name), permissions(0o600)).unwrap();
    }
    // Who may not write it now lets itself for a moment, there as here.
    fs::set_permissions(mount.path("mine"), permissions(0o644)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    for name in ["roots", "mine", "private"] {
        rustix::fs::setxattr(mount.path(name), "user.ours", b"kept", flags).unwrap();
    }
    fs::set_permissions(mount.path("mine"), permissions(0o444)).unwrap();
    for name in ["roots", "mine"] {
        let mut value = [0; 16];
        eventually("its attribute there", || {
            rustix::fs::getxattr(mount.remote(name), "user.ours", &mut value[..]) == Ok(4)
        });
    }
    for name in ["roots", "mine", "private"] {
        let status = || ask(&["status", "--short"], &mount.path(name)).stdout;
        eventually("all to be sent", || status().trim_ascii() == b"in-sync");
    }
    assert_eq!(["roots", "private"].map(theirs), before);
    for name in ["roots", "private"] {
        let here = fs::metadata(mount.path(name)).unwrap();
        assert_eq!((here.mode() & 0o777, here.mtime()), (0o600, 1));
        let mut value = [0; 16];
        assert_eq!(rustix::fs::getxattr(mount.path(name), "user.ours", &mut value[..]), Ok(4));
    }
    assert_eq!(fs::metadata(mount.remote("mine")).unwrap().mode() & 0o777, 0o444);
}
