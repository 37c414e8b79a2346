//! A daemon that is killed at any moment of its start and its end.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::mount::{Mounted, bytes, eventually, names};

/// All mounts at a place, one over the other.
fn mounts_at(place: &Path) -> usize {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = place.to_str().unwrap();
    all.lines().filter(|line| line.split(' ').nth(4) == Some(place)).count()
}

const ROUNDS: u64 = 20;

fn content_of(round: u64) -> Vec<u8> {
    bytes(100_000 + usize::try_from(round).unwrap(), round)
}

/// Nothing was lost, whichever moments the daemon was killed at.
fn all_is_there_once(mount: &mut Mounted, until: u64) {
    assert_eq!(mounts_at(&mount.places.at), 1, "{}", mount.log());
    for round in 0..until {
        assert!(fs::read(mount.path(format!("f{round}"))).unwrap() == content_of(round), "{round}");
    }
}

fn all_arrives_once(mount: &mut Mounted) {
    mount.options_replaced(&[]);
    mount.mount();
    all_is_there_once(mount, ROUNDS);
    for round in 0..ROUNDS {
        mount.arrives(format!("f{round}"), &content_of(round));
    }
    let mut expected: Vec<String> = (0..ROUNDS).map(|round| format!("f{round}")).collect();
    expected.sort();
    eventually("neither more nor less", || {
        let mut there = names(&mount.places.remote);
        // What a killed upload left is removed by its owner after a day.
        there.retain(|name| !name.starts_with(".dewfs-"));
        there == expected && names(&mount.places.at) == expected
    });
    mount.unmount();
    assert_eq!(mounts_at(&mount.places.at), 0);
}

/// S24 "After the daemon was killed, the next `dewfs mount` on that directory works."
#[test]
fn a_daemon_killed_at_any_moment_of_its_start_has_lost_nothing() {
    let options = ["-o", "write_back_delay=1h,drain=0s"];
    let mut mount = Mounted::with(&options, |_| {});
    let mut mounted = 0;
    for round in 0..ROUNDS {
        all_is_there_once(&mut mount, round);
        fs::write(mount.path(format!("f{round}")), content_of(round)).unwrap();
        mount.unmount();
        let mut command = mount.places.command(&options);
        let mut daemon = command.arg("-f").stderr(Stdio::null()).spawn().unwrap();
        // The moment is what is tried here.
        std::thread::sleep(Duration::from_millis(10 * round));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        mounted += mounts_at(&mount.places.at);
        mount.mount();
    }
    println!("{mounted} of {ROUNDS} were killed after they had mounted");
    mount.unmount();
    all_arrives_once(&mut mount);
}

fn killed_while_it_ends(options: &str) {
    let options = ["-o", options];
    let mut mount = Mounted::with(&options, |_| {});
    let mut ended = 0;
    for round in 0..ROUNDS {
        all_is_there_once(&mut mount, round);
        fs::write(mount.path(format!("f{round}")), content_of(round)).unwrap();
        let mut daemon = mount.leave();
        std::thread::sleep(Duration::from_millis(10 * round));
        ended += u64::from(daemon.try_wait().unwrap().is_some());
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert_eq!(mounts_at(&mount.places.at), 0);
        mount.mount();
    }
    println!("{ended} of {ROUNDS} had ended before");
    mount.unmount();
    all_arrives_once(&mut mount);
}

#[test]
fn a_daemon_killed_at_any_moment_of_its_end_has_lost_nothing() {
    killed_while_it_ends("write_back_delay=1h,drain=0s");
}

#[test]
fn a_daemon_killed_at_any_moment_of_its_last_sending_has_lost_nothing() {
    killed_while_it_ends("write_back_delay=50ms,drain=20s");
}
