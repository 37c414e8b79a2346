//! Mounts of the machine under a real systemd: fstab, automount, shutdown, the system unit.

use std::fs;

use crate::support::guest::{Guest, SERVER};

/// A line in fstab is mounted at boot, an automount at the first access, and idle it is unmounted again.
#[test]
fn fstab_mounts_at_boot_and_on_demand() {
    let fstab = "/srv/a /mnt/a dewfs _netdev,nofail 0 0\n\
                 /srv/b /mnt/b dewfs noauto,_netdev,nofail,x-systemd.automount,x-systemd.idle-timeout=2s 0 0\n\
                 /srv/gone /mnt/c dewfs _netdev,nofail,x-systemd.mount-timeout=5s 0 0\n";
    let guest = Guest::new()
        .with("/etc/fstab", fstab)
        .with("/srv/a/f", "A\n")
        .with("/srv/b/f", "B\n")
        .with("/mnt/a/.keep", "")
        .with("/mnt/b/.keep", "")
        .with("/mnt/c/.keep", "");
    for place in ["a", "b", "c"] {
        fs::remove_file(guest.path("files/mnt").join(place).join(".keep")).unwrap();
    }
    guest.run(
        r##"
# At boot, before this began; what cannot be mounted did not stop the machine.
is_mounted /mnt/a
test "$(cat /mnt/a/f)" = A
not is_mounted /mnt/c
findmnt -n -o SOURCE,FSTYPE /mnt/a | grep -q '^/srv/a *fuse.dewfs'

# On demand, and idle again.
systemctl is-active 'mnt-b.automount'
not is_mounted /mnt/b
test "$(cat /mnt/b/f)" = B
is_mounted /mnt/b
echo new > /mnt/b/g
wait_for not is_mounted /mnt/b
wait_for has /srv/b/g new
test "$(cat /mnt/b/g)" = new
is_mounted /mnt/b

# Unmounted and mounted again at once, with something still to be sent.
for i in 1 2 3 4 5; do
    echo $i > /mnt/a/again
    umount /mnt/a
    mount /mnt/a
    test "$(cat /mnt/a/again)" = $i
done
systemctl restart mnt-a.mount
wait_for has /srv/a/again 5
systemctl stop mnt-a.mount
not is_mounted /mnt/a
"##,
    );
}

/// Writes 20 files and looks whether the server has them.
const FILES: &str = r##"
mkdir -p /mnt/slow
dav() { mount -t dewfs http://127.0.0.1:8080/ /mnt/slow -o "$1"; }
write() { for i in $(seq 20); do { echo "$1 $i"; head -c 20000 /dev/zero; } > /mnt/slow/$i; done; } 2> /dev/null
has_all() { for i in $(seq 20); do has /guest/dav/$i "$1 $i"; done; } 2> /dev/null
# Of its own mounts: the machine around it may know others.
is_over() { ! dewfs status 2>&1 | grep -q '^/mnt/.* not mounted'; }
is_told() { dewfs status | grep -E '/mnt/slow  not mounted: [0-9]+ items are not sent, safe here'; }
"##;

/// What is pending on a slow server when it is unmounted or the machine is shut down is sent within `drain=`, or told by
/// `dewfs status` afterwards, and arrives at the next mount.
#[test]
fn what_a_slow_server_did_not_get_is_told_and_arrives_later() {
    let guest = Guest::new().with_server().with_state_kept();
    guest.run(
        &[
            SERVER,
            FILES,
            r##"
# Long enough: all of it is sent after umount(8) has returned.
dav drain=60s
echo 40000 > /srv/control/rate
write first
umount /mnt/slow
not has_all first
wait_for has_all first
wait_for is_over

# Too short: what is left is told and safe.
dav drain=1s
echo 4000 > /srv/control/rate
write second
umount /mnt/slow
wait_for is_told

# Mounted again at once the mount goes on with it; then the machine is shut down.
dav drain=1s
test "$(head -n 1 /mnt/slow/20)" = 'second 20'
not has_all second
"##,
        ]
        .concat(),
    );
    let has_all = |word: &str| {
        (1..=20).all(|i| {
            let content = fs::read(guest.path("dav").join(i.to_string())).unwrap();
            content.starts_with(format!("{word} {i}\n").as_bytes())
        })
    };
    assert!(!has_all("second"));
    guest.run(
        &[
            SERVER,
            FILES,
            r##"
is_told
echo 'http://127.0.0.1:8080/ /mnt/slow dewfs noauto,_netdev,drain=20s 0 0' > /etc/fstab
systemctl daemon-reload
systemctl start mnt-slow.mount
test "$(head -n 1 /mnt/slow/20)" = 'second 20'
dewfs sync --wait /mnt/slow
has_all second

# Shut down with time enough.
echo 50000 > /srv/control/rate
echo 5 > /srv/control/grace
write third
not has_all third
"##,
        ]
        .concat(),
    );
    assert!(has_all("third"), "sent while the machine shut down");
}

/// An automount that expires with 20 uploads pending on a slow server: they are sent within `drain=`, or told by `dewfs status`, and
/// go on at the next access.
#[test]
fn an_automount_that_expires_while_it_sends_loses_nothing() {
    let line = |place: &str, drain: &str| {
        format!(
            "http://127.0.0.1:8080/ {place} dewfs noauto,_netdev,nofail,x-systemd.automount,x-systemd.idle-timeout=2s,drain={drain} 0 0\n"
        )
    };
    let fstab = line("/mnt/slow", "1s") + &line("/mnt/long", "60s");
    Guest::new().with_server().with("/etc/fstab", &fstab).run(
        &[
            SERVER,
            FILES,
            r##"
systemctl is-active mnt-slow.automount mnt-long.automount
# Too short: what is left is told and safe.
echo 2000 > /srv/control/rate
ls /mnt/slow
is_mounted /mnt/slow
write first
wait_for not is_mounted /mnt/slow
wait_for is_told
not has_all first
rm /srv/control/rate
test "$(head -n 1 /mnt/slow/20)" = 'first 20'
is_mounted /mnt/slow
wait_for has_all first
# Of what had arrived when the second was over the answer may be missing: the next mount goes on with that.
ends() { wait_for not is_mounted /mnt/slow; is_over || { ls /mnt/slow; false; }; }
wait_for ends

# Long enough: nobody mounts it again, and all of it is sent.
echo 20000 > /srv/control/rate
for i in $(seq 20); do { echo "second $i"; head -c 100000 /dev/zero; } > /mnt/long/$i; done
wait_for not is_mounted /mnt/long
not has_all second
rm /srv/control/rate
wait_for has_all second
not is_mounted /mnt/long
wait_for is_over
"##,
        ]
        .concat(),
    );
}

/// The machine's unit mounts for everybody, or as one user with a secret that systemd keeps, with or without passthrough.
#[test]
fn the_machines_unit_mounts_as_root_or_as_somebody() {
    let script = r##"
useradd -m -s /bin/bash alice
echo alice:secret > /srv/control/users
mkdir -p /etc/dewfs/remotes /etc/systemd/system/dewfs@Web.service.d
mkdir -m 777 /srv/nas; echo theirs > /srv/nas/old
printf 'spec = "/srv/nas"\nmountpoint = "/mnt/nas"\n' > /etc/dewfs/remotes/Nas.toml
printf 'spec = "http://127.0.0.1:8080/"\n' > /etc/dewfs/remotes/Web.toml
(umask 77; printf 'username=alice\npassword=secret\n' > /etc/dewfs/dav.secret)
systemctl enable --now dewfs@Nas.service
test "$(su alice -c 'cat /mnt/nas/old')" = theirs
echo new > /mnt/nas/new
systemctl status dewfs@Nas.service | grep 'Status: "online'

cat > /etc/systemd/system/dewfs@Web.service.d/alice.conf <<'END'
[Service]
LoadCredential=dewfs:/etc/dewfs/dav.secret
User=alice
END
# As the unit says: without the capability everything else has to go that keeps fusermount3 from mounting.
sed -n 's/^#     \([A-Z][A-Za-z]*=\(no\)\?\)$/\1/p' /usr/lib/systemd/system/dewfs@.service \
    >> /etc/systemd/system/dewfs@Web.service.d/alice.conf
cat /etc/systemd/system/dewfs@Web.service.d/alice.conf
systemctl daemon-reload
systemctl start dewfs@Web.service
su alice -c 'echo mine > ~/Web/f; cat ~/Web/f'
wait_for has /guest/dav/f mine
test "$(findmnt -n -o SOURCE,FSTYPE,OPTIONS /home/alice/Web | grep -c "user_id=$(id -u alice)")" = 1
printf '[Service]\nLoadCredential=dewfs:/etc/dewfs/dav.secret\nUser=alice\nAmbientCapabilities=CAP_SYS_ADMIN\n' \
    > /etc/systemd/system/dewfs@Web.service.d/alice.conf
systemctl daemon-reload
systemctl restart dewfs@Web.service
su alice -c 'cat ~/Web/f; echo again > ~/Web/f; dewfs status --json ~/Web' | tee /guest/status.json
wait_for has /guest/dav/f again
before=$(systemctl show -p MainPID --value dewfs@Web.service)
kill -9 $before
is_another() { local now; now=$(systemctl show -p MainPID --value dewfs@Web.service); test "$now" != 0 -a "$now" != "$before"; }
wait_for is_another
wait_for systemctl is-active dewfs@Web.service
su alice -c 'cat ~/Web/f' | grep again
# With that right it listens to root alone: neither a file of hers nor a link of hers says where it mounts.
su alice -c 'mkdir -p ~/.config/dewfs/remotes; printf "mountpoint = \"/srv/control\"\n[mount]\nnonempty = true\n" > ~/.config/dewfs/remotes/Web.toml'
before=$(systemctl show -p MainPID --value dewfs@Web.service)
kill -9 $before
wait_for is_another
wait_for systemctl is-active dewfs@Web.service
not is_mounted /srv/control
su alice -c 'cat ~/Web/f' | grep again
# Its secret is systemd's and its state is hers: root is told so, and nothing is written or forgotten.
dewfs login Web --password-stdin <<< secret > /guest/said && false || test $? = 1
dewfs logout Web >> /guest/said && false || test $? = 1
dewfs remove Web >> /guest/said && false || test $? = 1
systemctl is-active dewfs@Web.service
test -z "$(find /etc/dewfs -path '*secrets*' -type f)"
test -e /etc/dewfs/remotes/Web.toml
systemctl stop dewfs@Web.service
mkdir /srv/empty
su alice -c 'rmdir ~/Web; ln -s /srv/empty ~/Web'
not systemctl start dewfs@Web.service
not is_mounted /srv/empty
journalctl -u dewfs@Web.service | grep 'a symbolic link is on the way'
su alice -c 'rm ~/Web'
systemctl reset-failed dewfs@Web.service
systemctl stop dewfs@Nas.service dewfs@Web.service
not is_mounted /mnt/nas
not is_mounted /home/alice/Web
has /srv/nas/new new

# How exposed they are, as systemd judges: the user's unit can have none of what it counts, and says why.
systemd-analyze security --no-pager --threshold=50 dewfs@Nas.service
"##;
    Guest::new().with_server().run(&[SERVER, script].concat());
}

/// What every machine's systemd mounts at boot, and a container's does not.
const CONNECTIONS: &str = r##"
if ! mountpoint -q /sys/fs/fuse/connections; then
    mount -o remount,rw /sys
    mkdir -p /sys/fs/fuse/connections
    mount -t fusectl fusectl /sys/fs/fuse/connections
fi
"##;

/// Where the helper mounts, a user's unit can be confined, as the page says, and nothing is lost by it.
#[test]
fn a_confined_unit_of_a_user_mounts_at_login() {
    let script = r##"
person alice
mkdir -m 777 /srv/nas; echo theirs > /srv/nas/old
systemctl enable --now dewfs-helper.socket
install -D -m 644 /usr/share/dewfs/confined.conf /etc/systemd/user/dewfs@.service.d/confined.conf
# Not on the guest's own disk: it may be stacked on another.
install -d -o alice /guest/disk
login alice <<'END'
unit=dewfs@Cloud.service
dewfs setup Cloud /srv/nas --yes -o state_dir=/guest/disk/state,min_free=0,drain=1s
findmnt -n -t fuse.dewfs ~/Cloud
test "$(cat Cloud/old)" = theirs
echo mine > Cloud/new
dewfs sync --wait Cloud
dewfs status --json Cloud | grep -q '"passthrough_by":"dewfs-helper"'
pid=$(systemctl --user show -P MainPID $unit)
grep -q '^NoNewPrivs:.*1$' "/proc/$pid/status"
grep -q '^Seccomp:.*2$' "/proc/$pid/status"
grep -q '^CapBnd:[^1-9a-f]*$' "/proc/$pid/status"
systemd-analyze security --user --no-pager --threshold=50 $unit | tail -n 1
not systemd-analyze security --user --no-pager --threshold=30 $unit > /dev/null

# Killed, with what was written just before; busy; unmounted by hand.
echo 'just before' > Cloud/killed
kill -9 $pid
is_another() { local now; now=$(systemctl --user show -P MainPID $unit); test "$now" != 0 -a "$now" != "$pid"; }
wait_for is_another
wait_for systemctl --user is-active $unit
test "$(cat Cloud/killed)" = 'just before'
(cd Cloud && exec 3>open && echo first >&3 && exec sleep 60) &
wait_for test -s Cloud/open
systemctl --user stop $unit
not is_mounted ~/Cloud
test "$(systemctl --user is-failed $unit)" = inactive
kill %1
systemctl --user start $unit
test "$(cat Cloud/open)" = first
dewfs umount Cloud
not is_mounted ~/Cloud
# So many starts in ten seconds are too many for systemd.
systemctl --user reset-failed $unit
systemctl --user start $unit
echo 'at the end' > Cloud/last
END
wait_for is_logged_out alice
not is_mounted /home/alice/Cloud
has /srv/nas/last 'at the end'
has /srv/nas/new mine
login alice <<'END'
systemctl --user is-system-running --wait
findmnt -n -t fuse.dewfs ~/Cloud
test "$(cat Cloud/last)" = 'at the end'
dewfs remove Cloud
test ! -e Cloud -a ! -e /guest/disk/state
END
"##;
    Guest::new().run(&[CONNECTIONS, script].concat());
}

/// The helper's own unit, with all that it takes away, does what an ordinary user's mount needs.
#[test]
fn the_helper_that_systemd_starts_gives_a_user_passthrough() {
    let guest = Guest::new();
    let script = r##"
not systemctl is-active dewfs-helper.service
systemctl enable --now dewfs-helper.socket
test "$(stat -c %a:%u /run/dewfs-helper.sock)" = 666:0
person alice
# Not on the guest's own disk: it may be stacked on another.
install -d -o alice /guest/state
login alice <<'END'
mkdir remote Cloud
echo content > remote/f
dewfs doctor | grep 'dewfs-helper asks the kernel for it'
dewfs mount remote Cloud -o state_dir=/guest/state,min_free=0
dewfs status --json Cloud | tee status
grep -q '"passthrough_by":"dewfs-helper"' status
dewfs hydrate Cloud/f
test "$(cat Cloud/f)" = content
echo more >> Cloud/f
dewfs sync --wait Cloud
test "$(cat remote/f)" = "content
more"
dewfs umount Cloud
END
systemctl is-active dewfs-helper.service
pid=$(systemctl show -P MainPID dewfs-helper.service)
# CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN.
grep -q '^CapBnd:.*00000000002000c0$' "/proc/$pid/status"
grep -q '^NoNewPrivs:.*1$' "/proc/$pid/status"
grep -q '^Seccomp:.*2$' "/proc/$pid/status"
"##;
    guest.run(&[CONNECTIONS, script].concat());
}
