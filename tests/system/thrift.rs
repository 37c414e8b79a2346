//! A metered network and the battery, told by services on a bus of the test's own.
#![cfg(feature = "desktop")]

use std::process::Output;

use crate::support::bus::{Bus, Property};
use crate::support::desk::{Desk, told, until};
use zbus::Variant;

const LARGE: usize = 2 << 20;

/// What NetworkManager says of a network.
const YES: u32 = 1;
const NO: u32 = 2;
const GUESSED_YES: u32 = 3;
const GUESSED_NO: u32 = 4;

fn mount(desk: &Desk, bus: &Bus, more: &str) -> Output {
    let options = format!("{}{more}", desk.options());
    let mut command = desk.command();
    command.env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
    let output = command.args(["mount", "remote", "mnt", "-o", &options]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    output
}

fn reason(desk: &Desk) -> (String, String) {
    let status = desk.json(0, "status mnt").remove(0);
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

/// A mount on a metered network with a large and a small file to send, of which the small one has arrived.
fn on_a_metered_network(bus: &Bus) -> (Property<'_>, Desk) {
    let network = Property::metered(bus, YES);
    let desk = Desk::new();
    mount(&desk, bus, "");
    std::fs::write(desk.at("mnt/large"), vec![1; LARGE]).unwrap();
    std::fs::write(desk.at("mnt/small"), "small").unwrap();
    until("the small file", || desk.at("remote/small").exists());
    (network, desk)
}

/// S120 "While the network is metered, large transfers that nobody waits for stand still (`metered=`), and so they do on the
/// battery where that was asked for (`battery=`); `status` says why, and it goes on by itself."
#[test]
fn a_metered_network_holds_large_files_back_until_it_is_none() {
    let bus = Bus::start();
    let (network, desk) = on_a_metered_network(&bus);
    let (state, why) = reason(&desk);
    assert_eq!(state, "paused");
    assert!(why.contains("the network is metered") && why.contains("resume"), "{why}");
    // What a program waits for is fetched all the same.
    assert_eq!(std::fs::read(desk.at("mnt/big")).unwrap().len(), 3 << 20);
    assert!(!desk.at("remote/large").exists(), "it was sent");
    network.change(Variant::U32(NO));
    until("the large file", || desk.at("remote/large").exists());
    assert_eq!(reason(&desk).0, "online");
    for (value, state) in [(GUESSED_YES, "paused"), (GUESSED_NO, "online"), (YES, "paused")] {
        network.change(Variant::U32(value));
        until(state, || reason(&desk).0 == state);
    }
    // Asked once at first, and once for each change: never again and again.
    assert_eq!(network.asked(), 5);
    // Whoever told is gone: nobody says that it costs anything.
    network.leave();
    until("nobody is asked", || reason(&desk).0 == "online");
}

#[test]
fn who_resumes_on_a_metered_network_has_it_sent() {
    let bus = Bus::start();
    let (network, desk) = on_a_metered_network(&bus);
    assert!(!desk.at("remote/large").exists());
    desk.run(0, "resume mnt");
    until("the large file", || desk.at("remote/large").exists());
    assert_eq!(reason(&desk).0, "online");
    // A person's pause is not lifted by a network that is free again.
    desk.run(0, "pause mnt");
    network.change(Variant::U32(NO));
    network.change(Variant::U32(YES));
    until("it was asked", || network.asked() == 3);
    desk.run(0, "pause mnt --lane bulk");
    let why = reason(&desk).1;
    assert!(why.starts_with("background transfer is paused"), "{why}");
}

#[test]
fn the_battery_counts_where_it_was_asked_for() {
    let bus = Bus::start();
    let power = Property::on_battery(&bus, true);
    let desk = Desk::new();
    mount(&desk, &bus, "");
    std::fs::write(desk.at("mnt/large"), vec![1; LARGE]).unwrap();
    until("the large file", || desk.at("remote/large").exists());
    assert_eq!(power.asked(), 0, "nothing depends on it");
    desk.run(0, "umount mnt");
    mount(&desk, &bus, ",battery=uploads,metered=ignore");
    let (state, why) = reason(&desk);
    assert_eq!(state, "paused");
    assert!(why.starts_with("sending is put off, the machine runs on its battery"), "{why}");
    std::fs::write(desk.at("mnt/small"), "small").unwrap();
    // Nothing more goes by itself, and nobody is left waiting for that.
    desk.run(3, "sync mnt --wait --timeout 1s");
    assert!(!desk.at("remote/small").exists());
    power.change(Variant::Bool(false));
    until("the small file", || desk.at("remote/small").exists());
}

/// S136 "A large transfer that nobody waits for stops in its middle when the network becomes metered, and goes on when it is free."
#[test]
fn what_is_under_way_stops_when_the_network_begins_to_cost() {
    let bus = Bus::start();
    let network = Property::metered(&bus, NO);
    let desk = Desk::new();
    mount(&desk, &bus, ",rate_up=300K,rate_down=300K,transfers=2");
    let status = || desk.json(0, "status mnt").remove(0);
    std::fs::write(desk.at("mnt/large"), vec![1; 3 * LARGE]).unwrap();
    desk.run(0, "pin mnt/big");
    until("both are under way", || {
        let now = status();
        now["uploading"].as_u64() > Some(0) && now["hydrating"].as_u64() > Some(0)
    });
    network.change(Variant::U32(YES));
    until("both stand still", || {
        let now = status();
        now["state"] == "paused" && now["uploading"] == 0 && now["hydrating"] == 0
    });
    let here = || desk.item("mnt/big")["present_bytes"].as_u64().unwrap();
    let before = here();
    assert!(before < 3 << 20, "it was all fetched");
    assert!(!desk.at("remote/large").exists(), "it was sent");
    // What is small, and what a program waits for, goes on.
    std::fs::write(desk.at("mnt/small"), "small").unwrap();
    until("the small file", || desk.at("remote/small").exists());
    assert_eq!(here(), before, "fetched all the same");
    network.change(Variant::U32(NO));
    until("the rest is fetched", || here() == 3 << 20);
    desk.run(0, "sync mnt --wait --timeout 90s");
    assert_eq!(std::fs::read(desk.at("remote/large")).unwrap(), vec![1; 3 * LARGE]);
    let left = std::fs::read_dir(desk.at("remote")).unwrap().map(|one| one.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains(".dewfs-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// While it sent what was left before it went away, a mount did not notice that the network begins to cost.
#[test]
fn regression_a_network_that_begins_to_cost_is_noticed_before_the_end_as_well() {
    let bus = Bus::start();
    let network = Property::metered(&bus, NO);
    let desk = Desk::new();
    mount(&desk, &bus, ",metered=uploads,rate_up=100K,drain=1h");
    std::fs::write(desk.at("mnt/large"), vec![1; 3 * LARGE]).unwrap();
    until("it is under way", || desk.json(0, "status mnt")[0]["uploading"] == 1);
    let note: serde_json::Value =
        serde_json::from_slice(&std::fs::read(desk.at("state/mount.json")).unwrap()).unwrap();
    let daemon = i32::try_from(note["pid"].as_i64().unwrap()).unwrap();
    let daemon = rustix::process::Pid::from_raw(daemon).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::TERM).unwrap();
    until("it only sends", || {
        std::fs::read_to_string(desk.at("state/log"))
            .is_ok_and(|log| log.contains("sends what is left"))
    });
    network.change(Variant::U32(YES));
    until("nothing more is sent", || !desk.is_mounted());
    assert!(!desk.at("remote/large").exists(), "it was sent");
}

#[test]
fn without_a_bus_nothing_is_held_back() {
    let desk = Desk::new();
    let options = format!("{},battery=all,metered=all", desk.options());
    let mut command = desk.command();
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    let output = command.args(["mount", "remote", "mnt", "-o", &options]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    std::fs::write(desk.at("mnt/large"), vec![1; LARGE]).unwrap();
    until("the large file", || desk.at("remote/large").exists());
    desk.run(0, "umount mnt");
    let wrong = desk.dewfs(&["mount", "remote", "mnt", "-o", "metered=sometimes"]);
    assert!(told(&wrong).contains("one of bulk, uploads, all, ignore"), "{}", told(&wrong));
}
