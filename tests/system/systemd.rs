//! Mounts under a real systemd: at login, at boot, by automount, and what stopping, killing and updating do to them.
//!
//! Each test boots a container of its own, which takes about a second.

use std::path::Path;
use std::process::Command;

use crate::support::guest::{self, Guest};

/// `dewfs setup` is all it takes: mounted now, unmounted at logout with nothing lost, mounted again at the next login, and
/// `dewfs remove` undoes it.
#[test]
fn set_up_once_it_is_there_at_every_login() {
    Guest::new().run(
        r##"
person alice
mkdir -m 777 /srv/nas; echo theirs > /srv/nas/old
login alice <<'END'
dewfs setup Cloud /srv/nas --yes
findmnt -n -t fuse.dewfs ~/Cloud
test "$(cat Cloud/old)" = theirs
echo mine > Cloud/new
systemctl --user is-enabled dewfs@Cloud.service
systemctl --user status dewfs@Cloud.service | tee status
grep -q 'Status: "online, ' status
dewfs status --short
END
wait_for is_logged_out alice
not is_mounted /home/alice/Cloud
test "$(cat /srv/nas/new)" = mine
test -z "$(ls /home/alice/Cloud)"
login alice <<'END'
systemctl --user is-system-running --wait
findmnt -n -t fuse.dewfs ~/Cloud
test "$(cat Cloud/new)" = mine
echo 'again' > Cloud/new
journalctl --user -u dewfs@Cloud.service -o json --no-pager | grep '"DEWFS_MOUNT":"Cloud"' | grep -q '"PRIORITY"'
dewfs remove Cloud
test ! -e Cloud
test ! -e .config/dewfs/remotes/Cloud.toml
test -z "$(ls .local/state/dewfs)"
not systemctl --user is-enabled dewfs@Cloud.service
not systemctl --user is-active dewfs@Cloud.service
dewfs setup Cloud /srv/nas --yes --mountpoint ~/elsewhere/it
test "$(cat elsewhere/it/new)" = again
not dewfs setup Cloud /srv/nas --yes
END
test "$(cat /srv/nas/new)" = again
wait_for is_logged_out alice
not is_mounted /home/alice/elsewhere/it
"##,
    );
}

/// A user who lingers has the mount without any session, from the start of the machine.
#[test]
fn who_lingers_needs_no_login() {
    Guest::new().run(
        r##"
person bob
mkdir -m 777 /srv/nas; echo theirs > /srv/nas/old
mkdir -p /etc/dewfs/remotes
echo 'spec = "/srv/nas"' > /etc/dewfs/remotes/Cloud.toml
systemctl --global enable dewfs@Cloud.service
loginctl enable-linger bob
wait_for is_mounted /home/bob/Cloud
test "$(systemctl --user -M bob@ is-active dewfs@Cloud.service)" = active
systemctl --user -M bob@ show -p StatusText dewfs@Cloud.service | grep online
su bob -c 'cat ~/Cloud/old; echo mine > ~/Cloud/new'
loginctl disable-linger bob
loginctl terminate-user bob || true
wait_for is_logged_out bob
not is_mounted /home/bob/Cloud
test "$(cat /srv/nas/new)" = mine
"##,
    );
}

/// Stopped while programs stand in it, killed, unmounted by hand, replaced by another version: it ends or comes back as it
/// should, and nothing that was written is lost.
#[test]
fn it_survives_what_happens_to_services() {
    Guest::new().run(
        r##"
person alice
mkdir -m 777 /srv/nas; echo theirs > /srv/nas/old
login alice <<'END'
dewfs setup Cloud /srv/nas --yes -o drain=1s
unit=dewfs@Cloud.service

# Busy: somebody stands in it and writes.
(cd Cloud && exec 3>open && echo first >&3 && exec sleep 60) &
wait_for test -s Cloud/open
systemctl --user stop $unit
not is_mounted ~/Cloud
test "$(systemctl --user is-failed $unit)" = inactive
kill %1
wait_for has /srv/nas/open first
systemctl --user start $unit
test "$(cat Cloud/open)" = first

# Killed: it comes back by itself, with what was written just before.
before=$(systemctl --user show -p MainPID --value $unit)
echo 'just before' > Cloud/killed
kill -9 $before
is_another() { local now; now=$(systemctl --user show -p MainPID --value $unit); test "$now" != 0 -a "$now" != "$before"; }
wait_for is_another
wait_for systemctl --user is-active $unit
test "$(cat Cloud/killed)" = 'just before'
wait_for has /srv/nas/killed 'just before'

# Frozen: the watchdog does what a person would do.
mkdir -p .config/systemd/user/$unit.d
printf '[Service]\nWatchdogSec=2s\n' > .config/systemd/user/$unit.d/quick.conf
systemctl --user daemon-reload
systemctl --user restart $unit
before=$(systemctl --user show -p MainPID --value $unit)
sleep 3
test "$(systemctl --user show -p MainPID --value $unit)" = $before
kill -STOP $before
wait_for is_another
wait_for systemctl --user is-active $unit
test "$(cat Cloud/old)" = theirs

# Unmounted by hand: that was meant.
dewfs umount Cloud
is_inactive() { test "$(systemctl --user is-active $unit)" = inactive; }
wait_for is_inactive
test "$(systemctl --user show -p Result --value $unit)" = success

# Mounted by hand: a unit that ends meanwhile takes only what is dead away.
dewfs mount Cloud: ~/Cloud
not systemctl --user start $unit
systemctl --user stop $unit
test "$(cat Cloud/old)" = theirs
dewfs umount Cloud
END
wait_for is_logged_out alice

# Another version is installed while it is mounted: the old one goes on, the new one takes over when it is started again.
(
    wait_for test -e /home/alice/ready
    cp /usr/bin/dewfs /usr/bin/dewfs.new
    mv /usr/bin/dewfs.new /usr/bin/dewfs
    touch /home/alice/installed
    wait_for test -s /home/alice/pid
    # Only root may look at a process that may hold secrets.
    readlink /proc/$(cat /home/alice/pid)/exe > /home/alice/exe
) &
login alice <<'END'
wait_for is_mounted ~/Cloud
echo 'to the old one' > Cloud/update
touch ready
wait_for test -e installed
echo 'still the old one' > Cloud/update2
test "$(cat Cloud/old)" = theirs
dewfs status --short
systemctl --user restart dewfs@Cloud.service
systemctl --user show -p MainPID --value dewfs@Cloud.service > pid
wait_for test -s exe
test "$(cat exe)" = /usr/bin/dewfs
test "$(cat Cloud/update)" = 'to the old one'
test "$(cat Cloud/update2)" = 'still the old one'
END
"##,
    );
}

/// A secret is saved where only its owner reads it, a wrong one changes nothing, and what waits for the right one arrives as
/// soon as it is there, under the same daemon.
#[test]
fn secrets_come_and_go_under_a_mount_in_use() {
    let script = r##"
person alice
echo alice:one > /srv/control/users
chmod 666 /srv/control/users
(
    wait_for test -s /home/alice/pid
    cat /proc/$(cat /home/alice/pid)/environ > /home/alice/environ
) &
login alice <<'END'
# The wrong one: nothing is set up.
echo wrong | dewfs setup Cloud http://alice@127.0.0.1:8080/ --yes --password-stdin && false || test $? = 4
test -z "$(find .config -type f)"
test ! -e Cloud

echo one | dewfs setup Cloud http://alice@127.0.0.1:8080/ --yes --password-stdin -o poll=1s
test "$(stat -c %a .config/dewfs/secrets/Cloud)" = 600
not grep -r one .config/dewfs/remotes
echo first > Cloud/f
wait_for has /guest/dav/f first
daemon=$(systemctl --user show -p MainPID --value dewfs@Cloud.service)

# The server's password is changed, then ours: by hand, and by the file.
is() { test "$(dewfs status --json Cloud | grep -o '"state":"[a-z-]*"')" = "\"state\":\"$1\""; }
echo alice:two > /srv/control/users
echo second > Cloud/f
wait_for is auth-required
test "$(cat Cloud/f)" = second
echo wrong | dewfs login Cloud --password-stdin && false || test $? = 4
has .config/dewfs/secrets/Cloud password=one
echo two | dewfs login Cloud --password-stdin
wait_for has /guest/dav/f second
wait_for is online
echo alice:three > /srv/control/users
echo third > Cloud/f
wait_for is auth-required
sed -i s/two/three/ .config/dewfs/secrets/Cloud
wait_for has /guest/dav/f third

# Signed out, and mounted again like that.
dewfs logout ~/Cloud
echo fourth > Cloud/f
wait_for is auth-required
test "$(systemctl --user show -p MainPID --value dewfs@Cloud.service)" = $daemon
systemctl --user restart dewfs@Cloud.service
test "$(cat Cloud/f)" = fourth
wait_for is auth-required
not dewfs remove Cloud
is_mounted ~/Cloud
echo three | dewfs login ~/Cloud --password-stdin
wait_for has /guest/dav/f fourth

# What others may read is refused, with the way out.
chmod 644 .config/dewfs/secrets/Cloud
not systemctl --user restart dewfs@Cloud.service
systemctl --user show -p StatusText dewfs@Cloud.service | grep 'chmod 600'
chmod 600 .config/dewfs/secrets/Cloud
systemctl --user start dewfs@Cloud.service
dewfs remove Cloud
test -z "$(find .config/dewfs -type f)"

# From the environment it gets into the file, and into no other process.
DEWFS_USER=alice DEWFS_PASSWORD=three dewfs setup Cloud http://127.0.0.1:8080/ --yes
test "$(cat Cloud/f)" = fourth
systemctl --user show -p MainPID --value dewfs@Cloud.service > pid
wait_for grep -qaz ^HOME= environ
not grep -az DEWFS_PASSWORD environ
END
"##;
    Guest::new().with_server().run(&[guest::SERVER, script].concat());
}

/// While a unit stopped, its mount was gone but what was pending still went: whoever saved by path in that time saved into the
/// folder below, and the unit could not start any more.
#[test]
fn regression_who_saves_while_the_unit_restarts_loses_nothing_and_does_not_stop_it() {
    let script = r##"
person alice
echo alice:one > /srv/control/users
chmod 666 /srv/control/users
chmod 777 /srv/control
login alice <<'END'
unit=dewfs@Cloud.service
echo one | dewfs setup Cloud http://alice@127.0.0.1:8080/ --yes --password-stdin -o drain=1m,write_back_delay=100ms
echo 500 > /srv/control/rate
for i in 1 2 3 4 5; do head -c 20000 /dev/zero > Cloud/pending$i; done
systemctl --user stop --no-block $unit
is_stopping() { test "$(systemctl --user show -P ActiveState $unit)" = deactivating; }
wait_for is_stopping
is_mounted ~/Cloud
echo late > Cloud/late
rm /srv/control/rate
is_inactive() { test "$(systemctl --user is-active $unit)" = inactive; }
wait_for is_inactive
not is_mounted ~/Cloud
has /guest/dav/late late
for i in 1 2 3 4 5; do test "$(stat -c %s /guest/dav/pending$i)" = 20000; done
test -z "$(ls -A Cloud)"

# Somebody saves all the time, and the unit stops, starts and is killed under it.
sed -i 's/drain = .*/drain = "2s"/' .config/dewfs/remotes/Cloud.toml
systemctl --user start $unit
(set +e; while :; do date +%N > Cloud/tick; sleep 0.02; done 2> /dev/null) &
systemctl --user restart $unit
is_mounted ~/Cloud
before=$(systemctl --user show -P MainPID $unit)
kill -9 $before
is_another() { local now; now=$(systemctl --user show -P MainPID $unit); test "$now" != 0 -a "$now" != "$before"; }
wait_for is_another
wait_for systemctl --user is-active $unit
kill %1
test -e Cloud/tick
systemctl --user stop $unit
test -z "$(ls -A Cloud)"
# Who was so quick as to save in the moment in which fusermount3 needs the folder open finds that beside it.
for aside in Cloud\ *; do
    test ! -d "$aside" || journalctl --user -u $unit --no-pager | grep -F "is now in $PWD/$aside"
done
END
"##;
    Guest::new().with_server().run(&[guest::SERVER, script].concat());
}

/// What could not be removed in the end, because a program saved something in the last moment, stayed unmounted and disabled.
#[test]
fn regression_what_is_not_removed_after_all_is_mounted_still() {
    let script = r##"
person alice
chmod 777 /srv/control
login alice <<'END'
unit=dewfs@Cloud.service
dewfs setup Cloud http://127.0.0.1:8080/ --yes -o drain=0,write_back_delay=50ms
dewfs pause Cloud
echo first > Cloud/first
(set +e; i=0; while :; do date +%N > Cloud/tick$((i++)); sleep 0.02; done 2> /dev/null) &
dewfs remove Cloud --export kept > said 2>&1 && false || echo $? > status
kill %1
cat said
test "$(cat status)" = 3
has said 'changed while it was copied'
systemctl --user is-enabled $unit
systemctl --user is-active $unit
is_mounted ~/Cloud
test "$(cat Cloud/first)" = first

# Nor did one go on whose unit did not stop in time.
rm Cloud/tick*
dewfs resume Cloud
dewfs sync --wait Cloud
mkdir bin
printf '#!/bin/sh\n/usr/bin/systemctl "$@" || exit\ncase "$*" in *" stop "*) exit 1 ;; esac\n' > bin/systemctl
chmod +x bin/systemctl
PATH=$PWD/bin:$PATH dewfs remove Cloud > said 2>&1 && false || test $? != 0
cat said
systemctl --user is-enabled $unit
systemctl --user is-active $unit
is_mounted ~/Cloud
END
"##;
    Guest::new().with_server().run(&[guest::SERVER, script].concat());
}

/// A program with remotes of its own is what setup, the users' unit and the machine's start, as docs/remotes.md says.
#[test]
fn a_program_with_a_store_of_its_own_is_started_by_units() {
    let guest = Guest::new();
    let built = Path::new(env!("CARGO_BIN_EXE_dewfs")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--example", "custom_remote"]);
    if built.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    let installed = guest.path("files/usr/bin/dewfs");
    std::fs::copy(built.join("examples/custom_remote"), installed).unwrap();
    guest.run(
        r##"
person alice
mkdir -m 777 /srv/alice
login alice <<'END'
dewfs setup Notes mystore:///srv/alice/store --yes
findmnt -n -t fuse.dewfs ~/Notes
systemctl --user is-active dewfs@Notes.service
mkdir Notes/folder
echo mine > Notes/folder/note
dewfs sync --wait --timeout 20s Notes
END
wait_for is_logged_out alice
not is_mounted /home/alice/Notes
login alice <<'END'
wait_for findmnt -n -t fuse.dewfs Notes
test "$(cat Notes/folder/note)" = mine
dewfs remove Notes
# With a state that knows nothing.
dewfs setup Notes mystore:///srv/alice/store --yes
test "$(cat Notes/folder/note)" = mine
dewfs remove Notes
END
mkdir /srv/machine
dewfs setup Box mystore:///srv/machine/store --yes --mountpoint /mnt/box
systemctl is-active dewfs@Box.service
echo ours > /mnt/box/note
systemctl restart dewfs@Box.service
test "$(cat /mnt/box/note)" = ours
dewfs remove Box
test -s /srv/machine/store
"##,
    );
}
