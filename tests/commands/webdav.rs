//! The commands against a real mount of a real WebDAV server, behind a door that can be shut.

use crate::support::desk::{Desk, until};
use crate::support::proxy::Door;
use crate::support::servers::{Product, Server};

fn stage() -> (Server, Door, Desk) {
    let server = Server::start(Product::Nginx);
    server.put("hello.txt", "hello\n");
    let door = Door::to(server.port);
    let desk = Desk::of(&door.url());
    desk.mount();
    (server, door, desk)
}

#[test]
fn a_server_is_mounted_read_written_and_unmounted() {
    let (server, _door, desk) = stage();
    assert_eq!(std::fs::read_to_string(desk.at("mnt/hello.txt")).unwrap(), "hello\n");
    std::fs::write(desk.at("mnt/new.txt"), "new\n").unwrap();
    desk.run(0, "sync --wait --timeout 30s mnt");
    assert_eq!(std::fs::read_to_string(server.root().join("new.txt")).unwrap(), "new\n");
    desk.run(0, "umount mnt");
    assert!(!desk.is_mounted());
}

#[test]
fn what_cannot_be_sent_is_left_safe_and_goes_on_at_the_next_mount() {
    let (server, door, desk) = stage();
    std::fs::read_dir(desk.at("mnt")).unwrap().count();
    door.shut();
    std::fs::write(desk.at("mnt/late.txt"), "late\n").unwrap();
    until("offline", || desk.json(0, "status mnt")[0]["state"] == "offline");
    assert_eq!(desk.run(0, "status --short mnt"), "offline\n");
    assert_eq!(desk.run(3, "status --check mnt"), "");
    let said = desk.run(3, "status --wait --timeout 1s mnt");
    assert!(said.contains("1 item not in sync"), "{said}");
    assert!(desk.run(0, "status --pending mnt").contains("late.txt"));
    let said = desk.run(3, "umount --timeout 2s mnt");
    assert!(said.contains("1 item is not sent yet"), "{said}");
    assert!(!desk.is_mounted());

    // With a catalog the remote is not needed for mounting.
    desk.mount();
    assert_eq!(std::fs::read_to_string(desk.at("mnt/late.txt")).unwrap(), "late\n");
    door.open();
    desk.run(0, "sync --wait --timeout 60s mnt");
    assert_eq!(std::fs::read_to_string(server.root().join("late.txt")).unwrap(), "late\n");
}

#[test]
fn a_server_is_tested_and_told_of() {
    let server = Server::start(Product::Nginx);
    let found = Desk::new().json(0, &format!("remote test {}", server.url())).remove(0);
    assert!(found["product"].as_str().unwrap().to_lowercase().contains("nginx"), "{found}");
    assert_eq!(found["writable"], true);
    assert_eq!(std::fs::read_dir(server.root()).unwrap().count(), 0);
}
