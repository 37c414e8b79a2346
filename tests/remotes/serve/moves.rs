//! Moving and copying in a share: what fails, is stopped, or is waited for by nobody.

use super::*;

/// Something mounted below a share until this is dropped.
pub(super) struct Disk(PathBuf);

impl Disk {
    /// `None`, and why, where nothing can be mounted.
    pub(super) fn at(place: &Path, options: &[&str]) -> Option<Self> {
        let output = Command::new("mount").args(options).arg(place).output().unwrap();
        if output.status.success() {
            return Some(Self(place.to_owned()));
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!rustix::process::geteuid().is_root(), "{why}");
        eprintln!("NOT RUN: {why}");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|code| code.success()) || std::thread::panicking());
    }
}

/// What was at the target of a move or copy was removed before it was known whether anything would come there.
#[test]
fn regression_a_move_or_copy_that_fails_leaves_its_target() {
    let served = Served::new();
    let at = |name: &str| served.dir.join(name);
    for folder in ["usb", "frozen", "docs/deep", "whole"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    let Some(_usb) = Disk::at(&at("usb"), &["-t", "tmpfs", "-o", "size=4M", "tmpfs"]) else {
        return;
    };
    fs::create_dir(at("usb/docs")).unwrap();
    fs::write(at("usb/docs/keep"), "kept").unwrap();
    let Some(_frozen) = Disk::at(&at("frozen"), &["-t", "tmpfs", "tmpfs"]) else { return };
    fs::write(at("frozen/a"), "new").unwrap();
    fs::write(at("frozen/keep"), "old").unwrap();
    fs::write(at("whole/a"), "kept").unwrap();
    fs::write(at("whole/large"), vec![b'x'; 6 << 20]).unwrap();
    drop(Command::new("mount").args(["-o", "remount,ro"]).arg(at("frozen")).status());
    let to = |path: &str| format!("Destination: {path}\r\nOverwrite: T\r\n");
    // A folder cannot go to another disk.
    assert_eq!(served.status("MOVE", "/docs", &to("/usb/docs"), ""), 501);
    // A file can, but it cannot be taken from this one; nor can anything be set aside there.
    assert_eq!(served.status("MOVE", "/frozen/a", &to("/whole/a"), ""), 403);
    assert_eq!(served.status("MOVE", "/frozen/a", &to("/frozen/keep"), ""), 403);
    // There is no room for it.
    assert_eq!(served.status("COPY", "/whole", &to("/usb/docs"), ""), 507);
    assert_eq!(fs::read(at("usb/docs/keep")).unwrap(), b"kept");
    assert_eq!(fs::read(at("whole/a")).unwrap(), b"kept");
    assert_eq!(fs::read(at("frozen/keep")).unwrap(), b"old");
    assert!(at("docs/deep").is_dir());
    for (folder, names) in [("usb", &["docs"][..]), ("whole", &["a", "large"])] {
        assert_eq!(mount::names(&at(folder)), names, "something stays in {folder}");
    }
}

#[test]
fn what_is_moved_over_is_replaced_whole() {
    let served = Served::new();
    let at = |name: &str| served.dir.join(name);
    let to = |path: &str| format!("Destination: {path}\r\n");
    for folder in ["new", "old/deep"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("new/a"), "new").unwrap();
    fs::write(at("old/deep/b"), "old").unwrap();
    assert_eq!(served.status("MOVE", "/new", &to("/old"), ""), 204);
    assert_eq!(mount::names(&at("old")), ["a"]);
    fs::write(at("f"), "file").unwrap();
    assert_eq!(served.status("COPY", "/f", &to("/old"), ""), 204);
    assert_eq!(fs::read(at("old")).unwrap(), b"file");
    // Two names of one file.
    fs::hard_link(at("f"), at("g")).unwrap();
    assert_eq!(served.status("MOVE", "/f", &to("/g"), ""), 204);
    let right = format!("{}If-Match: {}\r\n", to("/old"), served.etag("/g"));
    fs::write(at("g"), "another").unwrap();
    assert_eq!(served.status("MOVE", "/g", &right, ""), 412);
    assert_eq!(served.status("MOVE", "/g", &to("/old"), ""), 204);
    assert_eq!(fs::read(at("old")).unwrap(), b"another");
    assert_eq!(mount::names(&served.dir), ["old"]);
}

/// A share with one folder whose copy takes longer than any test waits, and a client that has it copied; answered once it is
/// under way.
fn copying() -> (Served, TcpStream) {
    let served = Served::new();
    fs::create_dir(served.dir.join("from")).unwrap();
    fs::File::create(served.dir.join("from/large")).unwrap().set_len(16 << 30).unwrap();
    let stream = served.begin("COPY", "/from", "/to");
    eventually("it is copied", || has_temporary(&served.dir));
    (served, stream)
}

fn has_temporary(dir: &Path) -> bool {
    mount::names(dir).iter().any(|name| name.starts_with(".dewfs-tmp."))
}

/// A copy went on although nobody waited for it any more, and so did one more after each retry: all other changes waited.
#[test]
fn regression_a_copy_that_nobody_waits_for_ends() {
    let (served, stream) = copying();
    drop(stream);
    assert_eq!(served.status("PUT", "/f", "", "x"), 201);
    assert_eq!(mount::names(&served.dir), ["f", "from"]);
}

/// What a copy had made so far stayed for ever under its hidden name when the server was ended.
#[test]
fn regression_a_copy_that_the_end_stops_leaves_nothing() {
    let (mut served, _stream) = copying();
    let server = rustix::process::Pid::from_child(&served.child);
    rustix::process::kill_process(server, rustix::process::Signal::TERM).unwrap();
    let status = served.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(mount::names(&served.dir), ["from"]);
}

/// While a file came from another disk, what it was to replace had a hidden name, and kept it when the server was ended then.
#[test]
fn regression_what_is_moved_over_stays_until_the_new_one_is_here() {
    let served = Served::new();
    let at = |name: &str| served.dir.join(name);
    fs::create_dir(at("usb")).unwrap();
    fs::create_dir(at("docs")).unwrap();
    fs::write(at("docs/f"), "kept").unwrap();
    let Some(_usb) = Disk::at(&at("usb"), &["-t", "tmpfs", "tmpfs"]) else { return };
    fs::File::create(at("usb/large")).unwrap().set_len(16 << 30).unwrap();
    let _stream = served.begin("MOVE", "/usb/large", "/docs/f");
    eventually("it comes", || has_temporary(&at("docs")));
    assert_eq!(fs::read(at("docs/f")).unwrap(), b"kept");
    assert!(at("usb/large").exists());
    drop(served);
}
