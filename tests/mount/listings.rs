//! Folders that are read again: the kernel has a copy of their names, which is to be true.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::mount::{Mounted, eventually, names};
use rustix::fs::{Dir, Mode, OFlags};

/// Read so often that the kernel has a copy, and that it is asked for.
fn read_often(folder: &Path) -> Vec<String> {
    names(folder);
    names(folder);
    names(folder)
}

#[test]
fn what_others_do_shows_in_a_folder_that_was_read_again_and_again() {
    let mount = Mounted::of(|remote| {
        fs::create_dir(remote.join("d")).unwrap();
        for name in ["goes", "moves", "stays", "turns"] {
            fs::write(remote.join("d").join(name), name).unwrap();
        }
    });
    let (here, there) = (mount.path("d"), mount.places.remote.join("d"));
    let shows = |what: &str, expected: &[&str]| eventually(what, || read_often(&here) == expected);
    shows("what is there", &["goes", "moves", "stays", "turns"]);
    fs::write(there.join("new"), "new").unwrap();
    shows("what appears", &["goes", "moves", "new", "stays", "turns"]);
    fs::remove_file(there.join("goes")).unwrap();
    shows("what goes", &["moves", "new", "stays", "turns"]);
    fs::rename(there.join("moves"), there.join("moved")).unwrap();
    shows("what moves", &["moved", "new", "stays", "turns"]);
    fs::remove_file(there.join("turns")).unwrap();
    fs::create_dir(there.join("turns")).unwrap();
    eventually("another kind", || {
        let listed = fs::read_dir(&here).unwrap().map(Result::unwrap);
        listed.filter(|entry| entry.file_type().unwrap().is_dir()).count() == 1
    });
    // What is done here needs nobody who tells of it.
    fs::write(here.join("own"), "own").unwrap();
    assert_eq!(read_often(&here), ["moved", "new", "own", "stays", "turns"]);
    fs::rename(here.join("own"), mount.path("elsewhere")).unwrap();
    assert_eq!(read_often(&here), ["moved", "new", "stays", "turns"]);
    fs::rename(mount.path("elsewhere"), here.join("stays")).unwrap();
    fs::remove_file(here.join("new")).unwrap();
    assert_eq!(read_often(&here), ["moved", "stays", "turns"]);
    // The folder was read while some of it was on its way there, and what comes back changes nothing.
    eventually("all of it arrives", || names(&there) == ["moved", "stays", "turns"]);
    assert_eq!(read_often(&here), ["moved", "stays", "turns"]);
}

#[test]
fn who_keeps_a_folder_open_sees_what_others_do_when_he_begins_again() {
    let mount = Mounted::of(|remote| {
        fs::create_dir(remote.join("d")).unwrap();
        fs::write(remote.join("d/first"), "").unwrap();
    });
    read_often(&mount.path("d"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let open = rustix::fs::open(mount.path("d"), flags, Mode::empty()).unwrap();
    let mut listing = Dir::new(open).unwrap();
    let count = |listing: &mut Dir| {
        listing.rewind();
        listing.by_ref().map(Result::unwrap).count()
    };
    assert_eq!(count(&mut listing), 3);
    fs::write(mount.places.remote.join("d/second"), "").unwrap();
    eventually("he sees it", || count(&mut listing) == 4);
    assert_eq!(read_often(&mount.path("d")), ["first", "second"]);
    fs::remove_file(mount.places.remote.join("d/first")).unwrap();
    eventually("he sees that it is gone", || count(&mut listing) == 3);
    drop(listing);
    assert_eq!(read_often(&mount.path("d")), ["second"]);
}

/// S152 "A name that is there the whole time is in what he reads, also if the file behind it is replaced meanwhile, and again and
/// again where that happens to a few at once; then it may be there up to three times." Who reads new pages and then an older copy that another has just filled would miss it.
#[test]
fn what_is_replaced_while_many_read_its_folder_is_seen_by_each() {
    const NAMES: usize = 300;
    let mount = Mounted::with(&["-o", "drain=0s"], |_| {});
    let folder = mount.path("d");
    fs::create_dir(&folder).unwrap();
    // More than one page, however large the kernel's buffer is.
    let name = |number: usize| format!("{number:04}{}", "n".repeat(200));
    for number in 0..NAMES {
        fs::write(folder.join(name(number)), "old").unwrap();
    }
    let done = AtomicBool::new(false);
    let read = || {
        let entries = fs::read_dir(&folder).unwrap();
        let seen: HashSet<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(seen.len(), NAMES);
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut readings = 0;
                    while !done.load(Ordering::Relaxed) || readings < 3 {
                        read();
                        readings += 1;
                    }
                })
            })
            .collect();
        for number in 0..NAMES {
            fs::write(mount.path("new"), "new").unwrap();
            fs::rename(mount.path("new"), folder.join(name(number * 7 % NAMES))).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(names(&folder).len(), NAMES);
}
