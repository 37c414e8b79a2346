//! Mass changes at a real mount, here and at the remote: held, undone, and a remote that is suddenly gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::desk::{Desk, told, until};
use crate::support::proxy::Door;
use crate::support::servers::{Product, Server};
use serde_json::Value;

const OPTIONS: &str = ",guard=10,poll=500ms,drain=0";

fn fill(folder: &Path, files: usize) {
    fs::create_dir_all(folder).unwrap();
    for number in 0..files {
        fs::write(folder.join(format!("f{number}")), format!("content {number}")).unwrap();
    }
}

fn mount(desk: &Desk, spec: &str) {
    let options = desk.options() + OPTIONS;
    let output = desk.dewfs(&["mount", spec, "mnt", "-o", &options]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

fn status(desk: &Desk) -> Value {
    desk.json(0, "status mnt").remove(0)
}

fn count(folder: PathBuf) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_mass_deletion_is_held_shown_and_undone() {
    let desk = Desk::new();
    fill(&desk.at("remote/docs"), 40);
    fill(&desk.at("remote/other"), 100);
    mount(&desk, "remote");
    for number in 0..20 {
        fs::read(desk.at(&format!("mnt/docs/f{number}"))).unwrap();
    }
    fs::remove_dir_all(desk.at("mnt/docs")).unwrap();
    let all_held = || {
        let held = status(&desk)["held"].as_u64().unwrap();
        held > 0 && held == count(desk.at("remote/docs")) as u64
    };
    until("the deletion is held", all_held);
    let held = status(&desk)["held"].as_u64().unwrap();
    assert!(held >= 30, "only {held} of 40 were held");
    fs::write(desk.at("mnt/other/f1"), "edited").unwrap();
    until("others go on", || fs::read(desk.at("remote/other/f1")).unwrap() == b"edited");
    assert_eq!(status(&desk)["state"], "degraded");
    assert_eq!(desk.run(0, "status --short mnt"), "attention\n");
    assert_eq!(desk.run(4, "status --check mnt"), "");
    let said = desk.run(4, "status --wait --timeout 30s mnt");
    assert!(said.contains("held"), "{said}");
    let list = desk.json(0, "held mnt");
    assert_eq!(list.len() as u64, held);
    assert!(list.iter().all(|one| one["what"] == "delete" && one["path"].as_str().unwrap().contains("/docs/f")));
    assert!(desk.run(0, "held mnt").contains("mnt/docs/f"));
    assert_eq!(desk.run(0, "held -0 mnt").matches('\0').count() as u64, held);
    assert_eq!(desk.json(0, "undo -n mnt").len() as u64, held);
    assert_eq!(desk.json(0, "release --dry-run mnt")[0]["items"], held);
    assert_eq!(status(&desk)["held"], held);
    let said = desk.run(0, "undo mnt");
    assert!(said.contains(&format!("{held} items brought back")), "{said}");
    desk.run(0, "sync --wait --timeout 30s mnt");
    assert_eq!(count(desk.at("mnt/docs")) as u64, held);
    let number = fs::read_dir(desk.at("mnt/docs")).unwrap().next().unwrap().unwrap().file_name();
    let number = number.to_string_lossy().trim_start_matches('f').to_owned();
    let read = fs::read_to_string(desk.at(&format!("mnt/docs/f{number}"))).unwrap();
    assert_eq!(read, format!("content {number}"));
    assert_eq!(desk.run(0, "status --check mnt"), "");
}

#[test]
fn a_mass_overwrite_is_undone_with_ours_kept_or_released() {
    let desk = Desk::new();
    fill(&desk.at("remote/docs"), 40);
    mount(&desk, "remote");
    let scramble = || {
        for number in 0..40 {
            fs::write(desk.at(&format!("mnt/docs/f{number}")), "scrambled").unwrap();
        }
    };
    let original = || {
        let read = |number| fs::read(desk.at(&format!("remote/docs/f{number}"))).unwrap();
        (0..40).filter(|number| read(*number) == format!("content {number}").as_bytes()).count()
    };
    scramble();
    until("the overwrites are held", || {
        status(&desk)["held"].as_u64().unwrap() == original() as u64
    });
    assert!(original() >= 30, "{} of 40 are as they were", original());
    let held = original();
    let undone = desk.json(0, "undo mnt");
    assert_eq!(undone.len(), held);
    for one in &undone {
        assert_eq!(one["what"], "reverted");
        assert_eq!(fs::read(one["kept"].as_str().unwrap()).unwrap(), b"scrambled");
    }
    desk.run(0, "sync --wait --timeout 30s mnt");
    assert_eq!(original(), held);
    scramble();
    until("held again", || status(&desk)["held"].as_u64().unwrap() > 0);
    until("all are judged", || {
        let now = status(&desk);
        now["held"] == now["pending"]
    });
    let said = desk.run(0, "release mnt");
    assert!(said.contains("held changes are sent"), "{said}");
    desk.run(0, "sync --wait --timeout 30s mnt");
    assert_eq!(original(), 0);
}

#[test]
fn conflict_copies_are_listed_with_their_originals() {
    let desk = Desk::new();
    fs::write(desk.at("remote/a.txt"), "first").unwrap();
    mount(&desk, "remote");
    fs::read(desk.at("mnt/a.txt")).unwrap();
    let copies = || desk.json(0, "conflicts mnt");
    assert!(copies().is_empty());
    let mut open = fs::OpenOptions::new().append(true).open(desk.at("mnt/a.txt")).unwrap();
    std::io::Write::write_all(&mut open, b" and ours").unwrap();
    fs::write(desk.at("remote/a.txt"), "theirs").unwrap();
    drop(open);
    until("a conflict copy", || copies().len() == 1);
    let copy = copies().remove(0);
    assert_eq!(copy["original"], desk.at("mnt/a.txt").to_str().unwrap());
    let path = copy["path"].as_str().unwrap().to_owned();
    assert_eq!(fs::read(&path).unwrap(), b"first and ours");
    let item = || -> Value {
        let output = desk.dewfs(&["status", "--json", &path]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    until("it is in sync", || item()["sync"] == "conflict");
    assert_eq!(item()["state"], "conflict");
    assert_eq!(desk.run(4, "status --check mnt"), "");
    fs::remove_file(&path).unwrap();
    desk.run(0, "sync --wait --timeout 30s mnt");
    assert!(copies().is_empty());
}

/// A directory that is mounted on another, as a share is; taken away at the end.
struct Nas {
    at: PathBuf,
    disk: PathBuf,
}

impl Nas {
    fn plug_in(&self) {
        let done = Command::new("mount").arg("--bind").arg(&self.disk).arg(&self.at).status();
        assert!(done.unwrap().success(), "cannot bind-mount");
    }

    fn take_away(&self) {
        let done = Command::new("umount").arg("-l").arg(&self.at).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Nas {
    fn drop(&mut self) {
        // Most often it is mounted once, or not any more.
        let _tried = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

fn edits_wait_and_nothing_is_gone(desk: &Desk, files: usize) {
    let now = status(desk);
    assert!(!now["reason"].is_null());
    assert_eq!(count(desk.at("mnt/docs")), files);
    assert_eq!(fs::read(desk.at("mnt/docs/f1")).unwrap(), b"content 1");
    fs::write(desk.at("mnt/docs/f2"), "edited while it was away").unwrap();
    fs::write(desk.at("mnt/new"), "new").unwrap();
    fs::remove_file(desk.at("mnt/docs/f3")).unwrap();
    assert_eq!(desk.run(0, "status --short mnt"), "attention\n");
    desk.run(4, "status --check mnt");
    desk.run(4, "status --wait --timeout 20s mnt");
}

fn goes_on(desk: &Desk, disk: &Path, files: usize) {
    desk.run(0, "sync mnt");
    until("online again", || {
        desk.run(0, "sync mnt");
        let now = status(desk);
        println!("{} {} {}", now["state"], now["reason"], desk.run(0, "status --pending mnt"));
        now["state"] == "online"
    });
    until("in sync again", || {
        desk.run(0, "sync mnt");
        let now = status(desk);
        println!("{} {} {}", now["state"], now["pending"], desk.run(0, "status --pending mnt"));
        now["state"] == "online" && now["pending"] == 0
    });
    assert_eq!(fs::read(disk.join("docs/f2")).unwrap(), b"edited while it was away");
    assert_eq!(fs::read(disk.join("new")).unwrap(), b"new");
    let names = |folder: PathBuf| -> std::collections::BTreeSet<_> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(
        names(desk.at("mnt/docs")),
        names(disk.join("docs")),
        "{}",
        desk.run(0, "status --pending mnt")
    );
    assert_eq!(count(disk.join("docs")), files - 1);
    assert!(desk.json(0, "conflicts mnt").is_empty());
}

#[test]
fn a_share_that_is_unmounted_under_the_remote_deletes_nothing_and_gets_nothing() {
    let desk = Desk::new();
    let nas = Nas { at: desk.at("nas"), disk: desk.at("disk") };
    fs::create_dir(&nas.at).unwrap();
    fill(&nas.disk.join("docs"), 40);
    nas.plug_in();
    mount(&desk, "nas");
    assert_eq!(count(desk.at("mnt/docs")), 40);
    fs::read(desk.at("mnt/docs/f1")).unwrap();
    desk.run(0, "sync --wait --timeout 20s mnt");
    nas.take_away();
    until("remote-missing", || status(&desk)["state"] == "remote-missing");
    edits_wait_and_nothing_is_gone(&desk, 40);
    assert_eq!(count(nas.at.clone()), 0, "something was sent under the share");
    // A mount made now does not fall for it either.
    desk.run(3, "umount --no-wait mnt");
    mount(&desk, "nas");
    until("remote-missing", || status(&desk)["state"] == "remote-missing");
    assert_eq!((count(desk.at("mnt/docs")), count(nas.at.clone())), (39, 0));
    nas.plug_in();
    goes_on(&desk, &nas.disk, 40);
    // Changes are learnt as before.
    fs::write(nas.disk.join("docs/later"), "later").unwrap();
    until("a later change", || desk.at("mnt/docs/later").exists());
}

fn a_root_that_is_made_again_deletes_nothing(product: Product) {
    let server = Server::start(product);
    server.make_folder("docs");
    for number in 0..40 {
        server.put(format!("docs/f{number}"), format!("content {number}"));
    }
    let desk = Desk::new();
    mount(&desk, &server.url());
    assert_eq!(count(desk.at("mnt/docs")), 40);
    fs::read(desk.at("mnt/docs/f1")).unwrap();
    desk.run(0, "sync --wait --timeout 20s mnt");
    let aside = server.root().with_extension("aside");
    fs::rename(server.root(), &aside).unwrap();
    until("the root is missed", || {
        desk.run(0, "sync mnt");
        status(&desk)["state"] == "remote-missing"
    });
    fs::create_dir(server.root()).unwrap();
    edits_wait_and_nothing_is_gone(&desk, 40);
    assert_eq!(count(server.root().to_owned()), 0, "something was sent to the new root");
    fs::remove_dir(server.root()).unwrap();
    fs::rename(&aside, server.root()).unwrap();
    goes_on(&desk, server.root(), 40);
}

#[test]
fn a_root_made_again_on_nginx_deletes_nothing() {
    a_root_that_is_made_again_deletes_nothing(Product::Nginx);
}

#[test]
fn a_root_made_again_on_apache_deletes_nothing() {
    a_root_that_is_made_again_deletes_nothing(Product::Apache);
}

#[test]
fn a_saved_name_pointed_at_another_server_sends_it_nothing() {
    let (one, other) = (Server::start(Product::Nginx), Server::start(Product::Nginx));
    fill(&one.root().join("docs"), 20);
    let door = Door::to(one.port);
    let desk = Desk::new();
    let save = |url: &str| {
        fs::create_dir_all(desk.at("config/dewfs/remotes")).unwrap();
        let text = format!("spec = \"{url}\"\n");
        fs::write(desk.at("config/dewfs/remotes/work.toml"), text).unwrap();
    };
    save(&door.url());
    mount(&desk, "work:");
    assert_eq!(count(desk.at("mnt/docs")), 20);
    door.shut();
    fs::write(desk.at("mnt/docs/pending"), "for the first one only").unwrap();
    fs::remove_file(desk.at("mnt/docs/f4")).unwrap();
    desk.run(3, "umount --no-wait mnt");
    save(&other.url());
    // The same state: refused, naming both.
    let options = desk.options() + OPTIONS;
    let refused = || desk.dewfs(&["mount", "work:", "mnt", "-o", &options]);
    until("the first daemon is gone", || !told(&refused()).contains("another dewfs uses"));
    let output = refused();
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for url in [door.url(), other.url()] {
        assert!(said.contains(url.trim_end_matches('/')), "{said}");
    }
    // A state of its own: nothing of the first one is in it.
    let own = format!("state_dir={},poll=500ms", desk.at("own").display());
    let output = desk.dewfs(&["mount", "work:", "mnt", "-o", &own]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    desk.run(0, "sync --wait --timeout 20s mnt");
    assert_eq!((count(desk.at("mnt")), count(other.root().to_owned())), (0, 0));
    desk.run(0, "umount mnt");
    assert_eq!(count(other.root().to_owned()), 0);
    // The first one gets what was for it.
    door.open();
    save(&door.url());
    mount(&desk, "work:");
    desk.run(0, "sync --wait --timeout 60s mnt");
    assert_eq!(fs::read(one.root().join("docs/pending")).unwrap(), b"for the first one only");
    assert_eq!(count(one.root().join("docs")), 20);
}

/// A remote that took no changes for a moment was taken for one that takes none until the mount was made anew.
#[test]
fn regression_a_remote_that_takes_changes_again_gets_them() {
    let desk = Desk::new();
    let nas = Nas { at: desk.at("remote"), disk: desk.at("remote") };
    nas.plug_in();
    let remount = |how: &str| {
        let done = Command::new("mount").args(["-o", how]).arg(&nas.at).status();
        assert!(done.unwrap().success(), "{how}");
    };
    remount("remount,bind,ro");
    let options = desk.options() + ",poll=100ms";
    let output = desk.dewfs(&["mount", "remote", "mnt", "-o", &options]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let refused = fs::write(desk.at("mnt/new"), "new").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    remount("remount,bind,rw");
    until("it takes changes", || fs::write(desk.at("mnt/new"), "new").is_ok());
    desk.run(0, "sync --wait --timeout 30s mnt");
    assert_eq!(fs::read(desk.at("remote/new")).unwrap(), b"new");
}
