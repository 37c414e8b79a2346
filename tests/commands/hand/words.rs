//! What a person reads says what is so and what to do.

use std::fs::{self, File};

use crate::support::desk::{Desk, told, until};

/// A file had no size of its own: `du` of it said 0, `largest` and `find` found nothing.
#[test]
fn regression_a_file_counts_as_itself() {
    let desk = Desk::mounted();
    desk.run(0, "ls mnt");
    let usage = desk.json(0, "du mnt/hello.txt").remove(0);
    assert_eq!((&usage["size"], &usage["files"]), (&6.into(), &1.into()));
    assert!(desk.run(0, "du mnt/hello.txt").contains(" 1 file "));
    for words in ["largest mnt/hello.txt", "recent mnt/hello.txt", "find mnt/hello.txt"] {
        assert_eq!(super::names(&desk.json(0, words), "found"), ["/hello.txt"], "{words}");
    }
    assert_eq!(super::names(&desk.json(0, "find mnt/hello.txt *.txt"), "found").len(), 1);
    assert_eq!(super::names(&desk.json(0, "find mnt/hello.txt *.pdf"), "found").len(), 0);
}

/// What does not fit was told in bytes, without a way out, and not that the pin stays.
#[test]
fn regression_a_pin_that_does_not_fit_says_what_to_do() {
    let desk = Desk::new();
    fs::write(desk.at("remote/large"), vec![7; 6 << 20]).unwrap();
    let options = desk.options() + ",cache_size=4M";
    let output = desk.dewfs(&["mount", "remote", "mnt", "-o", &options]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let said = desk.run(1, "pin mnt/large");
    let why = "6.0 MiB more do not fit into cache_size=4.0 MiB; it stays pinned and comes when there is room: raise cache_size=, or dewfs unpin it";
    assert!(said.contains(why), "{said}");
    assert_eq!(desk.item("mnt/large")["pin"], "pinned");
    let said = desk.run(1, "hydrate mnt/large");
    assert!(said.contains("raise cache_size=") && !said.contains("bytes"), "{said}");
}

/// A rule that is none failed as if the work had, `unpin` below a pinned folder did not say why nothing changed, and what was
/// kept or not there was told half.
#[test]
fn regression_pins_and_frees_say_why_and_what_to_do() {
    let desk = Desk::mounted();
    desk.run(0, "ls -R --fetch mnt");
    let wrong = desk.dewfs(&["pin", "mnt", "--rule", "a owner=me"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(told(&wrong).contains("--rule 'a owner=me': "), "{}", told(&wrong));
    desk.run(0, "pin mnt/folder --wait");
    let folder = desk.at("mnt/folder").display().to_string();
    assert!(desk.run(0, "unpin mnt/folder/deep").contains(&format!("pinned (by {folder})")));
    assert_eq!(desk.json(0, "unpin mnt/folder/deep")[0]["pin_from"], folder.as_str());
    desk.run(0, "hydrate mnt/hello.txt");
    let open = File::open(desk.at("mnt/hello.txt")).unwrap();
    assert!(desk.run(1, "free mnt/hello.txt").contains("kept: open: close it in the program"));
    drop(open);
    let said = desk.run(1, "free mnt/none");
    assert!(said.contains("mnt/none") && !said.contains("freed"), "{said}");
}

/// `why` of what waits for a remote that is away said neither that it is, nor when it is asked next; a lost root named no way
/// back.
#[test]
fn regression_what_waits_for_the_remote_says_so_and_how_to_go_on() {
    let desk = Desk::mounted();
    desk.run(0, "ls mnt");
    fs::rename(desk.at("remote"), desk.at("away")).unwrap();
    desk.run(0, "sync mnt");
    until("the root is missed", || desk.item("mnt")["state"] == "remote-missing");
    fs::write(desk.at("mnt/new.txt"), "new").unwrap();
    let reason = desk.item("mnt")["reason"].as_str().unwrap().to_owned();
    let said = desk.run(0, "why mnt/new.txt");
    assert!(said.contains(&reason) && said.contains("the mount is "), "{said}");
    assert!(reason.contains("dewfs sync --accept-remote"), "{reason}");
    desk.run(4, "status --check mnt/new.txt");
    // While it is asked nobody knows when that is done next.
    until("the next time", || {
        let before = jiff::Timestamp::now().as_millisecond();
        let item = desk.item("mnt/new.txt");
        let next = item["retry_at"].as_str().map(|time| time.parse::<jiff::Timestamp>().unwrap());
        assert!(next.is_none_or(|next| next.as_millisecond() >= before), "{item} at {before}");
        next.is_some()
    });
    fs::rename(desk.at("away"), desk.at("remote")).unwrap();
}

/// Of a folder with something unsent in a mount whose remote is gone or asks for a sign-in, `status` sent people to conflict
/// copies and held changes of which there were none.
#[test]
fn regression_status_of_a_folder_names_the_way_out_of_its_mount() {
    let desk = Desk::mounted();
    desk.run(0, "ls -R --fetch mnt");
    fs::rename(desk.at("remote"), desk.at("away")).unwrap();
    desk.run(0, "sync mnt");
    until("the root is missed", || desk.item("mnt")["state"] == "remote-missing");
    fs::write(desk.at("mnt/folder/new.txt"), "new").unwrap();
    desk.run(4, "status --check mnt/folder");
    let said = desk.run(0, "status mnt/folder");
    let is_right = said.contains("dewfs sync --accept-remote") && !said.contains("dewfs conflicts");
    assert!(is_right, "{said}");
    fs::rename(desk.at("away"), desk.at("remote")).unwrap();
}

/// Who watched a mount was told that an answer broke off when it was unmounted.
#[test]
fn regression_who_watches_a_mount_is_told_of_its_end() {
    let desk = Desk::mounted();
    let mut command = desk.command();
    command.args(["status", "--watch", "mnt"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut watcher = command.spawn().unwrap();
    // It has begun when it said something.
    let mut first = [0];
    std::io::Read::read_exact(watcher.stdout.as_mut().unwrap(), &mut first).unwrap();
    desk.run(0, "umount mnt");
    let output = watcher.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("unmounted"), "{}", told(&output));
}
