//! What waits for a person is told by every way of asking, at the mount and at the folder it lies in.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use crate::support::desk::{Desk, until};

/// A mount with one conflict copy in `folder`, all of it sent.
fn conflicted() -> (Desk, String) {
    conflicted_as("deep")
}

/// The same of a file of this name.
fn conflicted_as(name: &str) -> (Desk, String) {
    let (desk, there) = (Desk::new(), format!("remote/folder/{name}"));
    fs::write(desk.at(&there), "deep\n").unwrap();
    desk.mount();
    let copy = conflict(&desk, name);
    (desk, copy)
}

/// Makes a conflict copy of this file in `folder`, and answers its path.
fn conflict(desk: &Desk, name: &str) -> String {
    let (here, there) = (format!("mnt/folder/{name}"), format!("remote/folder/{name}"));
    fs::read(desk.at(&here)).unwrap();
    let mut open = OpenOptions::new().append(true).open(desk.at(&here)).unwrap();
    open.write_all(b"ours").unwrap();
    fs::write(desk.at(&there), "theirs").unwrap();
    drop(open);
    until("a conflict copy that is sent", || {
        let mount = desk.item("mnt");
        mount["conflicts"] == 1 && mount["pending"] == 0
    });
    let copy = desk.json(0, "conflicts mnt").remove(0);
    copy["path"].as_str().unwrap().to_owned()
}

/// The reason that a conflict copy waits hid the one that pins do not fit.
#[test]
fn regression_a_conflict_copy_does_not_hide_pins_that_do_not_fit() {
    let desk = Desk::new();
    fs::write(desk.at("remote/large"), vec![7; 6 << 20]).unwrap();
    let options = desk.options() + ",cache_size=4M";
    assert_eq!(desk.dewfs(&["mount", "remote", "mnt", "-o", &options]).status.code(), Some(0));
    desk.run(1, "pin mnt/large");
    conflict(&desk, "deep");
    until("both reasons", || {
        let reason = desk.item("mnt")["reason"].as_str().unwrap_or_default().to_owned();
        reason.starts_with("1 conflict copy waits: ") && reason.contains("cache_size")
    });
}

/// S161 "What waits for a person, a conflict copy above all, is told of by `status`, its exit status and `doctor`, at the mount and
/// at every folder above it."
///
/// A conflict copy was "online" and "in sync" to `status`, fine to `doctor`, and `--wait` ended with 0 where `--check` said 4.
#[test]
fn regression_a_conflict_copy_is_seen_wherever_one_asks() {
    let (desk, copy) = conflicted();
    let mount = desk.item("mnt");
    assert_eq!(mount["state"], "degraded");
    let why = "1 conflict copy waits: dewfs conflicts, then dewfs resolve";
    assert_eq!(mount["reason"], why);
    let said = desk.run(0, "status mnt");
    assert!(
        said.contains(why) && said.contains("all is sent, 1 conflict copy to decide"),
        "{said}"
    );
    for place in ["mnt", "mnt/folder"] {
        assert!(desk.run(4, &format!("status --wait --timeout 20s {place}")).contains(why));
        let said = desk.run(4, &format!("sync --wait --timeout 20s {place}"));
        assert!(said.contains(why) && !said.contains("in sync"), "{said}");
        assert_eq!(desk.run(4, &format!("status --check {place}")), "");
        assert_eq!(desk.run(0, &format!("status --short {place}")).trim(), "attention");
    }
    assert!(desk.run(0, "status mnt/folder").contains("dewfs conflicts"));
    assert_eq!(
        desk.run(0, "status --check mnt/hello.txt"),
        "",
        "of what has none, nothing is said"
    );
    let told = |arguments: &[&str]| crate::support::desk::told(&desk.dewfs(arguments));
    let said = told(&["why", &copy]);
    assert!(
        said.contains(&format!("dewfs resolve '{copy}' --keep mine, theirs or both")),
        "{said}"
    );
    let said = desk.run(1, "doctor");
    assert!(said.contains(&format!("dewfs conflicts {}", desk.at("mnt").display())), "{said}");
    told(&["resolve", &copy, "--keep", "theirs"]);
    desk.run(0, "sync --wait --timeout 20s mnt");
    assert_eq!(desk.run(0, "status --short mnt/folder").trim(), "in-sync");
    assert_eq!(desk.item("mnt")["state"], "online");
}

/// `in_sync` was false beside a conflict copy to who waited, and true to who did not.
#[test]
fn regression_in_sync_says_that_all_is_sent_to_whoever_asks() {
    let (desk, _copy) = conflicted();
    let asked = [(4, "status --wait --timeout 20s"), (4, "sync --wait --timeout 20s"), (0, "sync")];
    for (exit, words) in asked {
        for place in ["mnt", "mnt/folder"] {
            let told = desk.json(exit, &format!("{words} {place}")).remove(0);
            let (in_sync, left, attention) = (&told["in_sync"], &told["left"], &told["attention"]);
            assert_eq!((in_sync, left, attention), (&true.into(), &0.into(), &1.into()), "{words}");
        }
    }
    assert!(desk.run(0, "sync mnt").contains("all is sent"));
    let told = desk.json(0, "sync --wait --timeout 20s mnt/folder/deep").remove(0);
    assert_eq!(told["attention"], 0, "beside it nothing waits for anybody");
}

/// The command to decide with stood around a name that was not quoted: with an apostrophe in it the line was broken, and whoever
/// shares the folder could have had a command of theirs run by who pasted it.
#[test]
fn regression_why_prints_a_command_with_the_name_as_one_word() {
    let (desk, copy) = conflicted_as("Bob's '$(touch pwned)' notes.txt");
    let said = crate::support::desk::told(&desk.dewfs(&["why", &copy]));
    let word = said.split("dewfs resolve ").nth(1).unwrap().split(" --keep").next().unwrap();
    let read = desk.shell(&format!("printf %s {word}"));
    assert_eq!(read, copy, "{said}");
    assert!(!desk.at("pwned").exists(), "{said}");
}

/// What the guard holds was "ok" to `doctor`, and the folder it is in was `syncing` for ever.
#[test]
fn regression_held_changes_are_seen_at_their_folder_and_by_doctor() {
    let desk = Desk::new();
    for n in 0..30 {
        fs::write(desk.at(&format!("remote/folder/{n}")), "content").unwrap();
    }
    fs::create_dir(desk.at("remote/other")).unwrap();
    fs::write(desk.at("remote/other/file"), "content").unwrap();
    let options = desk.options() + ",guard=10";
    assert_eq!(desk.dewfs(&["mount", "remote", "mnt", "-o", &options]).status.code(), Some(0));
    desk.run(0, "ls -R --fetch mnt");
    for n in 0..30 {
        fs::remove_file(desk.at(&format!("mnt/folder/{n}"))).unwrap();
    }
    until("the guard", || desk.item("mnt")["held"].as_u64().unwrap() > 0);
    for place in ["mnt", "mnt/folder"] {
        desk.run(4, &format!("status --check {place}"));
        assert_eq!(desk.run(0, &format!("status --short {place}")).trim(), "attention");
    }
    for place in ["mnt/hello.txt", "mnt/other", "mnt/other/file"] {
        assert_eq!(desk.run(0, &format!("status --short {place}")).trim(), "in-sync", "{place}");
    }
    assert!(desk.run(1, "doctor").contains("dewfs held"));
    desk.run(0, "undo mnt");
}
