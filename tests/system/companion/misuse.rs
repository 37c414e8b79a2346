//! What the helper refuses: files, connections and places that are not the caller's, and too much of anything.

use super::*;
use crate::support::asks;

/// The places of the user, with an empty mount and a file of his own.
struct Own {
    mount: Option<Nothing>,
    file: PathBuf,
    /// Removed last: all of it lies there.
    places: Places,
}

impl Own {
    fn new() -> Self {
        let places = Places::new();
        let file = places.remote.join("own");
        fs::write(&file, "own").unwrap();
        let mount = Some(Nothing::at(&places.at));
        Self { mount, file, places }
    }

    fn fuse(&self) -> &OwnedFd {
        &self.mount.as_ref().unwrap().fuse
    }
}

/// S105 "The helper registers only the caller's own regular files, opened for reading and writing, for his own mounts."
#[test]
fn files_that_are_not_the_callers_to_write_are_refused() {
    if !helped("companion::misuse::files_that_are_not_the_callers_to_write_are_refused", HELPED) {
        return;
    }
    let own = Own::new();
    let asks = Asks::new();
    let refuses = |what: &str, errno: i32, file: &OwnedFd, proof: &OwnedFd| {
        let outcome = asks.ask(&[REGISTER], &[own.fuse().as_fd(), file.as_fd(), proof.as_fd()]);
        assert_eq!(outcome, Err(errno), "{what}");
        // An error and nothing else: the next one who asks rightly is served.
        let id = asks.register(own.fuse(), &own.file).unwrap();
        assert_eq!(asks.unregister(own.fuse(), id), Ok(0), "{what}");
    };
    let read = |path: &Path| OwnedFd::from(File::open(path).unwrap());
    let both = |path: &Path| OwnedFd::from(open(path));
    let (reads, writes) = (read(&own.file), both(&own.file));

    let everybodys = boxed("everybodys");
    refuses("another user's", libc::EPERM, &read(&everybodys), &both(&everybodys));
    let shadow = asks::path_only(Path::new("/etc/shadow"));
    refuses("/etc/shadow by O_PATH", libc::EPERM, &shadow, &shadow);
    refuses("one's own by O_PATH", libc::EACCES, &asks::path_only(&own.file), &writes);
    refuses("a proof by O_PATH", libc::EACCES, &reads, &asks::path_only(&own.file));
    refuses("read-only", libc::EACCES, &reads, &reads);
    let appends = OpenOptions::new().read(true).append(true).open(&own.file).unwrap();
    refuses("append-only", libc::EACCES, &reads, &appends.into());
    let writer: OwnedFd = OpenOptions::new().write(true).open(&own.file).unwrap().into();
    refuses("write-only", libc::EACCES, &writer, &writes);
    let other = own.places.remote.join("other");
    fs::write(&other, "other").unwrap();
    refuses("another file's proof", libc::EACCES, &reads, &both(&other));
    let folder = read(&own.places.remote);
    refuses("a directory", libc::EINVAL, &folder, &folder);
    let fifo = own.places.remote.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let fifo: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo)
        .unwrap()
        .into();
    refuses("a fifo", libc::EINVAL, &fifo, &fifo);
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = OwnedFd::from(socket);
    refuses("a socket", libc::EINVAL, &socket, &socket);
    // Regular, his own, and written to by who opened it, not by who writes.
    let memory = both(Path::new("/proc/self/mem"));
    refuses("the kernel's own", libc::EPERM, &memory, &memory);
}

#[test]
fn connections_that_are_not_the_callers_are_refused() {
    if !helped("companion::misuse::connections_that_are_not_the_callers_are_refused", HELPED) {
        return;
    }
    let own = Own::new();
    let asks = Asks::new();
    let root = device_of_root();
    // Its kernel's side would register anything.
    let _session = asks::greeted(&root);
    assert_eq!(fs::metadata(&own.file).unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_eq!(asks.register(&root, &own.file), Err(libc::EPERM));
    assert_eq!(asks.unregister(&root, 1), Err(libc::EPERM));
    assert_eq!(asks.register(&device(), &own.file), Err(libc::ENOTCONN));
    let null: OwnedFd = open(Path::new("/dev/null")).into();
    assert_eq!(asks.register(&null, &own.file), Err(libc::ENOTTY));
    assert_eq!(asks.register(&open(&own.file).into(), &own.file), Err(libc::ENOTTY));
    // A mount is served over no descriptor but the helper's.
    let place = asks::path_only(&own.places.state);
    for fuse in [&root, own.fuse(), &device()] {
        let outcome = asks.ask(&[MOUNT, 0, 0], &[fuse.as_fd(), place.as_fd()]);
        assert_eq!(outcome, Err(libc::EINVAL));
    }
    assert!(asks.register(own.fuse(), &own.file).is_ok());
}

#[test]
fn places_that_a_user_may_not_cover_are_refused() {
    if !helped("companion::misuse::places_that_a_user_may_not_cover_are_refused", HELPED) {
        return;
    }
    let places = Places::new();
    let asks = Asks::new();
    let refuses = |at: &Path, flags: u32, errno: i32| {
        assert_eq!(asks.mount(at, flags).err(), Some(errno), "{}", at.display());
    };
    refuses(Path::new("/usr"), 0, libc::EACCES);
    refuses(Path::new("/etc/passwd"), 0, libc::ENOTDIR);
    refuses(&boxed("sticky"), 0, libc::EPERM);
    // Who unmounted it twice at once took away the disk that lay below it as well, by the helper's rights.
    refuses(&boxed("disk"), 0, libc::EBUSY);
    refuses(Path::new("/proc/self/fd"), 0, libc::EACCES);
    // Others are let in only where /etc/fuse.conf says so.
    refuses(&places.at, 8, libc::EACCES);
    refuses(&places.at, 16, libc::EINVAL);
    assert!(!places.is_mounted());
    drop(Nothing::at(&places.at));
}

/// S106 "The helper unmounts only dewfs mounts of the caller's own."
#[test]
fn what_is_not_the_callers_own_mount_stays_mounted() {
    if !helped("companion::misuse::what_is_not_the_callers_own_mount_stays_mounted", HELPED) {
        return;
    }
    let own = Own::new();
    let asks = Asks::new();
    let above = own.places.at.parent().unwrap().to_owned();
    let name = own.places.at.file_name().unwrap().to_str().unwrap().to_owned();
    std::os::unix::fs::symlink(&own.places.at, above.join("link")).unwrap();
    fs::create_dir(above.join("folder")).unwrap();
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table();
    for lazily in [0, 1] {
        let refuses = |above: &Path, name: &str, errno: i32| {
            let what = above.join(name);
            assert_eq!(asks.unmount(above, name, lazily), Err(errno), "{}", what.display());
        };
        let place = boxed("");
        refuses(&place, "roots", libc::EPERM);
        refuses(&place, "strangers", libc::EPERM);
        refuses(&place, "other", libc::EPERM);
        refuses(Path::new("/"), "proc", libc::EPERM);
        refuses(&above, "link", libc::EPERM);
        refuses(&above, "folder", libc::EPERM);
        refuses(&above, "missing", libc::ENOENT);
        for name in [".", "..", "folder/", "/proc", &format!("folder/../{name}"), "a/b"] {
            refuses(&above, name, libc::EINVAL);
        }
        refuses(&own.places.at, "..", libc::EINVAL);
        refuses(&own.file, "x", libc::ENOTDIR);
    }
    assert_eq!(asks.unmount(&above, &name, 2), Err(libc::EINVAL));
    assert_eq!(table(), before);

    let used = asks::path_only(&own.places.at);
    assert_eq!(asks.unmount(&above, &name, 0), Err(libc::EBUSY));
    assert!(own.places.is_mounted());
    assert_eq!(asks.unmount(&above, &name, 1), Ok(0));
    assert!(!own.places.is_mounted());
    drop(used);
    assert_eq!(asks.unmount(&above, &name, 1), Err(libc::EPERM));
    drop(own);

    let own = Own::new();
    let above = own.places.at.parent().unwrap();
    assert_eq!(asks.unmount(above, &name, 0), Ok(0));
    assert!(!own.places.is_mounted());
}

#[test]
fn malformed_requests_get_an_error_and_nothing_else() {
    if !helped("companion::misuse::malformed_requests_get_an_error_and_nothing_else", HELPED) {
        return;
    }
    let own = Own::new();
    let asks = Asks::new();
    let fuse = own.fuse().as_fd();
    let file = open(&own.file);
    let file = file.as_fd();
    let seven = [fuse; 7];
    let long = [vec![3, 0, 0, 0, 0, 0, 0, 0], vec![b'x'; 100_000]].concat();
    let cases: [(&str, &[u8], &[std::os::fd::BorrowedFd<'_>]); 14] = [
        ("one byte", b"x", &[]),
        ("an unknown request", &99_u32.to_ne_bytes(), &[fuse]),
        ("the greeting", &0_u32.to_ne_bytes(), &[]),
        ("no descriptors", &REGISTER.to_ne_bytes(), &[]),
        ("too few descriptors", &REGISTER.to_ne_bytes(), &[fuse, file]),
        ("too many descriptors", &REGISTER.to_ne_bytes(), &[fuse, file, file, file]),
        ("far too many descriptors", &REGISTER.to_ne_bytes(), &seven),
        ("more than asked for", &[1, 0, 0, 0, 0], &[fuse, file, file]),
        ("no number", &UNREGISTER.to_ne_bytes(), &[fuse]),
        ("half a number", &[2, 0, 0, 0, 1], &[fuse]),
        ("no source", &[3, 0, 0, 0, 0, 0, 0, 0], &[file]),
        ("too long", &long, &[file]),
        ("no name", &[4, 0, 0, 0, 0, 0, 0, 0], &[file]),
        ("two places", &[4, 0, 0, 0, 0, 0, 0, 0, b'x'], &[file, file]),
    ];
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    for (what, bytes, with) in cases {
        assert_eq!(asks.raw(bytes, with), Err(libc::EINVAL), "{what}");
    }
    assert_eq!(fs::read_dir("/proc/self/fd").unwrap().count(), before);
    assert_eq!(asks.ask(&[MOUNT, 0, 0], &[file]), Err(libc::ENOTDIR));
    assert_eq!(asks.unregister(own.fuse(), 12_345), Err(libc::ENOENT));
    assert!(asks.register(own.fuse(), &own.file).is_ok());
}

#[test]
fn a_user_has_no_more_than_the_limits() {
    let machine = Machine { helper: Some("3"), ..USUAL };
    if !helped("companion::misuse::a_user_has_no_more_than_the_limits", machine) {
        return;
    }
    let mut own = Own::new();
    let fill = |own: &Own| {
        let asks = Asks::new();
        let ids: Vec<u32> = (0..3).map(|_| asks.register(own.fuse(), &own.file).unwrap()).collect();
        assert_eq!(asks.register(own.fuse(), &own.file), Err(libc::ENFILE));
        asks.unregister(own.fuse(), ids[1]).unwrap();
        asks.register(own.fuse(), &own.file).unwrap();
        assert_eq!(asks.register(own.fuse(), &own.file), Err(libc::ENFILE));
    };
    fill(&own);
    // Another connection to the helper is the same user.
    assert_eq!(Asks::new().register(own.fuse(), &own.file), Err(libc::ENFILE));
    // What the kernel dropped with the mount does not count.
    drop(own.mount.take());
    own.mount = Some(Nothing::at(&own.places.at));
    fill(&own);
}

#[test]
fn who_asks_too_often_or_on_too_many_lines_is_refused() {
    let machine = Machine { helper: Some("100 50"), ..USUAL };
    if !helped("companion::misuse::who_asks_too_often_or_on_too_many_lines_is_refused", machine) {
        return;
    }
    let asks = Asks::new();
    let outcomes: Vec<_> = (0..200).map(|_| asks.raw(b"x", &[])).collect();
    assert!(outcomes[..50].iter().all(|outcome| *outcome == Err(libc::EINVAL)), "{outcomes:?}");
    assert!(outcomes.contains(&Err(libc::EAGAIN)), "{outcomes:?}");
    eventually("to be served again", || asks.raw(b"x", &[]) == Err(libc::EINVAL));

    let mut lines = vec![asks];
    let refused = loop {
        match Asks::try_new() {
            Ok(line) => lines.push(line),
            Err(errno) => break errno,
        }
        assert!(lines.len() < 100);
    };
    assert_eq!((lines.len(), refused), (32, libc::EUSERS as u32));
    lines.pop();
    eventually("a free place", || Asks::try_new().is_ok());
    // A mount of his does without.
    let places = Places::new();
    fs::write(places.remote.join("f"), "x").unwrap();
    let mount = Mounted::at(places, &ROOM);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
    (&File::create(mount.path("g")).unwrap()).write_all(b"y").unwrap();
    mount.arrives("g", b"y");
}

/// The file stayed open in the kernel until the unmount, and counted as his: nobody knew the number to end it by.
#[test]
fn regression_a_registration_that_nobody_hears_of_is_none() {
    let machine = Machine { helper: Some("3"), ..USUAL };
    if !helped("companion::misuse::regression_a_registration_that_nobody_hears_of_is_none", machine)
    {
        return;
    }
    let own = Own::new();
    let registered = Asks::new().register(own.fuse(), &own.file).unwrap();
    assert!(!asks::is_free(&own.file), "registered, it is held");
    Asks::new().unregister(own.fuse(), registered).unwrap();
    assert!(asks::is_free(&own.file));
    for _ in 0..4 {
        let gone = Asks::new();
        control("stop");
        eventually("the helper to stand still", || gone.stands_still());
        gone.register_unheard(own.fuse(), &own.file);
        drop(gone);
        control("cont");
        eventually("the file to be free", || asks::is_free(&own.file));

        let deaf = Asks::new();
        deaf.becomes_deaf();
        deaf.register_unheard(own.fuse(), &own.file);
        eventually("the file to be free", || asks::is_free(&own.file));
    }
    let asks = Asks::new();
    for _ in 0..3 {
        asks.register(own.fuse(), &own.file).unwrap();
    }
}

/// An end that came in a busy second was refused, and nobody asks for it again: the file stayed open until the unmount.
#[test]
fn regression_what_ends_in_a_busy_second_ends() {
    let machine = Machine { helper: Some("3 10"), ..USUAL };
    if !helped("companion::misuse::regression_what_ends_in_a_busy_second_ends", machine) {
        return;
    }
    let own = Own::new();
    let asks = Asks::new();
    let id = asks.register(own.fuse(), &own.file).unwrap();
    eventually("a busy second", || asks.raw(b"x", &[]) == Err(libc::EAGAIN));
    assert_eq!(asks.unregister(own.fuse(), id), Ok(0));
    assert!(asks::is_free(&own.file));
}

/// Who has many user numbers could take all places with lines on which he asked nothing.
#[test]
fn regression_idle_lines_shut_nobody_out() {
    let machine = Machine { helper: Some("1 10000 3"), ..USUAL };
    if !helped("companion::misuse::regression_idle_lines_shut_nobody_out", machine) {
        return;
    }
    let own = Own::new();
    let mount = Mounted::with(&ROOM, |_| {});
    let content = bytes(50_000, 1);
    fs::write(mount.path("f"), &content).unwrap();
    let file = open(&mount.path("f"));
    let take_all = || {
        let lines: Vec<Asks> = (0..6).map(|_| Asks::new()).collect();
        assert!(lines[..3].iter().all(Asks::has_ended));
        // The last ones have their places.
        assert_eq!(lines[5].raw(b"x", &[]), Err(libc::EINVAL));
        lines
    };
    // The mount's own line was idle for longest. It is none the worse for that.
    let _lines = take_all();
    assert_eq!(status(&mount)["passthrough"], true);
    read_by_the_kernel(&mount, &file, &content);
    assert_eq!(Asks::new().register(own.fuse(), &own.file), Err(libc::ENFILE), "it still counts");
    // What was registered on that line is ended on another.
    drop(file);
    eventually("one less to count", || {
        let asks = Asks::new();
        let id = asks.register(own.fuse(), &own.file);
        id.is_ok_and(|id| asks.unregister(own.fuse(), id).is_ok())
    });
    let _more = take_all();
    fs::write(mount.path("g"), "x").unwrap();
    read_by_the_kernel(&mount, &open(&mount.path("g")), &content);
    assert_eq!(status(&mount)["passthrough_by"], "dewfs-helper");
    assert!(!mount.log().contains("does not answer"), "{}", mount.log());
}
