//! What `pin`, `unpin`, `hydrate` and rules say is so.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags};

use crate::support::desk::{Desk, told, until};

/// A mount with room for 4 MiB of content.
fn small() -> Desk {
    let desk = Desk::new();
    for name in ["one", "two"] {
        fs::write(desk.at(&format!("remote/{name}")), vec![7; 3 << 20]).unwrap();
    }
    for name in ["folder/large", "huge"] {
        fs::write(desk.at(&format!("remote/{name}")), vec![7; 6 << 20]).unwrap();
    }
    fs::write(desk.at("remote/folder/last"), "last\n").unwrap();
    let options = desk.options() + ",cache_size=4M";
    let output = desk.dewfs(&["mount", "remote", "mnt", "-o", &options]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    desk
}

/// B44: pins that did not fit together were each confirmed, and `doctor` found such a mount well.
#[test]
fn regression_pins_that_do_not_fit_together_are_refused_and_told() {
    let desk = small();
    // Nothing comes: what is told is not a question of time.
    desk.run(0, "pause mnt");
    desk.run(0, "pin mnt/one");
    let said = desk.run(1, "pin mnt/two");
    let why = "3.0 MiB more do not fit into cache_size=4.0 MiB beside what else is pinned; it stays pinned and comes when";
    assert!(said.contains(why), "{said}");
    desk.run(0, "unpin mnt/two");
    desk.run(0, "resume mnt");
    desk.run(0, "pin mnt/one --wait");
    // What can never come takes no room from others.
    desk.run(1, "pin mnt/huge");
    desk.run(0, "pin mnt/hello.txt --wait");
    until("it is degraded", || desk.item("mnt")["state"] == "degraded");
    let checks = desk.dewfs(&["doctor", "--json"]);
    let place = desk.at("mnt").display().to_string();
    let text = told(&checks);
    let mut lines = text.lines().filter(|line| line.contains(&place) && line.contains("\"mount\""));
    let check: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert!(check["message"].as_str().unwrap().contains("does not fit in the cache"), "{check}");
    assert!(check["mend"].as_str().unwrap().contains("dewfs pin --list"), "{check}");
}

/// `unpin` said of a file that a rule pins that it was not pinned any more, which was not so a second later.
#[test]
fn regression_unpin_names_the_rule_that_pins_a_file() {
    let desk = Desk::mounted();
    desk.run(0, "ls mnt");
    let rule = ["pin", "mnt", "--rule", "*.txt size<1K", "--name", "notes"];
    assert_eq!(desk.dewfs(&rule).status.code(), Some(0));
    for _ in 0..2 {
        let said = desk.run(0, "unpin mnt/hello.txt");
        let by = "pinned (by the rule notes; dewfs free lets go of this file, dewfs pin --remove-rule notes of all)";
        assert!(said.contains(by), "{said}");
        let told = desk.json(0, "unpin mnt/hello.txt").remove(0);
        assert_eq!((&told["pin"], &told["pin_rule"]), (&"pinned".into(), &"notes".into()));
        // The next time it has a pin of its own.
        desk.run(0, "pin mnt/hello.txt");
    }
    desk.run(0, "free mnt/hello.txt");
    assert_eq!(desk.item("mnt/hello.txt")["pin"], "unpinned");
    desk.run(0, "unpin mnt/hello.txt");
    desk.run(0, "pin mnt --remove-rule notes");
    assert!(desk.run(0, "unpin mnt/hello.txt").contains(": unspecified"));
}

/// The first file that could not be fetched kept all others from coming, and was not named.
#[test]
fn regression_hydrate_of_a_folder_goes_on_and_names_what_did_not_come() {
    let desk = small();
    desk.run(0, "ls mnt/folder");
    // What must stay leaves no room for the large one.
    desk.run(0, "pin mnt/one --wait");
    let said = desk.run(1, "hydrate mnt/folder");
    let large = desk.at("mnt/folder/large").display().to_string();
    assert!(said.contains(&format!("{large}: no room left: ")), "{said}");
    assert!(said.contains("mnt/folder: 10 B fetched"), "{said}");
    // The one before may have made room for it.
    assert_eq!(desk.item("mnt/folder/last")["content"], "local");
    let said = desk.run(1, "hydrate mnt/folder/large");
    assert!(said.contains(&large) && !said.contains("fetched"), "{said}");
}

/// `pin --wait` ended at the first file that did not come, and did not name it.
#[test]
fn regression_pin_wait_goes_on_and_names_what_did_not_come() {
    let desk = Desk::new();
    let disk = desk.at("remote/folder/disk");
    fs::create_dir(&disk).unwrap();
    if rustix::mount::mount("t", &disk, "tmpfs", MountFlags::empty(), None).is_err() {
        eprintln!("NOT LOOKED AT: no disk can be mounted here");
        return;
    }
    fs::write(disk.join("away"), "away\n").unwrap();
    fs::write(desk.at("remote/folder/last"), "last\n").unwrap();
    desk.mount();
    desk.run(0, "ls -R --fetch mnt");
    rustix::mount::unmount(&disk, UnmountFlags::DETACH).unwrap();
    for command in ["pin --wait", "hydrate"] {
        let said = desk.run(1, &format!("{command} mnt/folder"));
        let away = desk.at("mnt/folder/disk/away").display().to_string();
        let why = format!("{away}: the remote answers, but cannot reach this part of it now");
        assert!(said.contains(&why), "{said}");
        for name in ["deep", "last"] {
            assert_eq!(desk.item(&format!("mnt/folder/{name}"))["content"], "local");
        }
    }
    assert_eq!(desk.item("mnt/folder")["pin"], "pinned");
}

/// A rule said nothing of folders that it could not look into.
#[test]
fn regression_a_rule_tells_of_folders_that_are_not_listed() {
    let desk = Desk::mounted();
    desk.run(0, "ls mnt");
    let said = told(&desk.dewfs(&["pin", "mnt", "--rule", "*.txt"]));
    assert!(said.contains("; 1 folder is not listed yet: population=full lists it"), "{said}");
    let rules = || desk.json(0, "pin --list mnt");
    assert_eq!((&rules()[0]["files"], &rules()[0]["unlisted"]), (&1.into(), &1.into()));
    desk.run(0, "ls mnt/folder");
    assert_eq!(rules()[0]["unlisted"], 0);
    assert!(!desk.run(0, "pin --list mnt").contains("listed"));
}
