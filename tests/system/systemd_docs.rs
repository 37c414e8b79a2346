//! The pages for people are followed word by word, on a machine that has nothing but the package.

use std::path::Path;
use std::process::Command;

use crate::support::guest::Guest;

/// The commands of a page, in order.
fn commands(page: &str) -> String {
    let mut all = String::new();
    let mut is_command = false;
    for line in page.lines() {
        match line {
            "```sh" => is_command = true,
            "```" => is_command = false,
            _ if is_command => all = all + line + "\n",
            _ => {}
        }
    }
    assert!(all.lines().count() > 5);
    all
}

/// A package of what is built, in the guest's `/guest/packages`.
fn package(guest: &Guest, version: &str) {
    let built = Path::new(env!("CARGO_BIN_EXE_dewfs")).parent().unwrap();
    let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package"))
        .args(["--only", "deb", "--pack", "gzip", "--version", version, "--built"])
        .arg(built)
        .arg(guest.path("packages"))
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// cloud.example.org, with a certificate that this machine trusts, and alice, who may become root.
const WORLD: &str = r##"
mkdir -p /srv/control /guest/web/dav/Papers /guest/web/shared /srv/nas
echo 'a letter' > /guest/web/dav/letter.txt
echo 'a paper' > /guest/web/dav/Papers/one.txt
echo 'for all' > /guest/web/shared/notice.txt
echo alice:secret > /srv/control/users
echo '127.0.0.1 cloud.example.org' >> /etc/hosts
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=cloud.example.org \
    -addext subjectAltName=DNS:cloud.example.org -addext basicConstraints=critical,CA:FALSE \
    -keyout /srv/control/key.pem -out /srv/control/cert.pem 2> /dev/null
cat /srv/control/cert.pem >> /etc/ssl/certs/ca-certificates.crt
systemd-run -q --unit=webdav -p DefaultDependencies=no -p KillMode=process \
    python3 /usr/share/slow-webdav.py 443 /guest/web /srv/control
wait_for bash -c ': < /dev/tcp/127.0.0.1/443'
useradd -m -s /bin/bash alice
printf 'alice ALL=(ALL) NOPASSWD: ALL\nDefaults env_keep += SYSTEMD_PAGER\n' > /etc/sudoers.d/alice
chmod 777 /srv/nas
"##;

fn follow(page: &str, questions: &str, before: &str, after: &str) {
    let guest = Guest::bare()
        .with_server()
        .with("/usr/share/typist.py", include_str!("../support/typist.py"))
        .with("/usr/share/page", &format!("set -eux\n{}", commands(page)))
        .with("/usr/share/questions", questions);
    package(&guest, env!("CARGO_PKG_VERSION"));
    let script = r##"
login alice <<'END'
cp /guest/packages/*.deb .
# Nobody is there to turn pages.
export SYSTEMD_PAGER=
python3 /usr/share/typist.py /usr/share/questions bash /usr/share/page
END
"##;
    guest.run(&[WORLD, before, script, after].concat());
}

#[test]
fn getting_started_is_true() {
    follow(
        include_str!("../../docs/getting-started.md"),
        "Password of alice for cloud.example.org: \tsecret\n[Y/n] \ty\n",
        "not test -e /usr/bin/dewfs",
        r##"
test "$(cat /guest/web/dav/copy.txt)" = 'a letter'
test "$(cat /guest/web/dav/note.txt)" = 'Dear all,'
test ! -e /home/alice/Nas
wait_for is_logged_out alice
not is_mounted /home/alice/Cloud
login alice <<'END'
wait_for is_mounted ~/Cloud
test "$(cat Cloud/Papers/one.txt)" = 'a paper'
END
"##,
    );
}

#[test]
fn the_rollout_page_is_true() {
    follow(
        include_str!("../../docs/rollout.md"),
        "User name for cloud.example.org: \talice\nPassword of alice for cloud.example.org: \tsecret\n",
        r##"
dpkg -i /guest/packages/*.deb > /dev/null
printf 'username=alice\npassword=secret\n' > /home/alice/shared.secret
useradd -m -s /bin/bash bob
"##,
        r##"
test "$(cat /srv/shared/notice.txt)" = 'for all'
# It is mounted elsewhere, and has its name in the journal all the same.
journalctl DEWFS_MOUNT=Shared -o cat --no-pager | grep -q 'is mounted'
is_mounted /home/alice/Cloud
test "$(su alice -c 'cat ~/Cloud/letter.txt')" = 'a letter'
# Who has not signed in is asked to, and the server is left alone.
login bob <<'END'
is_failed() { systemctl --user is-failed dewfs@Cloud.service; }
wait_for is_failed
systemctl --user show -p StatusText dewfs@Cloud.service | grep sign-in
test "$(systemctl --user show -p NRestarts --value dewfs@Cloud.service)" = 0
END
"##,
    );
}

/// Installed, upgraded, taken back and removed under mounts in use: those go on, a newer state is refused by an older program
/// that touches nothing, and what was not sent stays past a purge.
#[test]
fn packages_come_and_go_under_mounts_in_use() {
    let guest = Guest::bare();
    package(&guest, "0.1.0");
    package(&guest, "0.1.1");
    guest.run(
        r##"
mkdir -m 777 /srv/nas; echo theirs > /srv/nas/old
touch /before
install_package() { dpkg -i /guest/packages/dewfs_$1_*.deb > /dev/null; }
install_package 0.1.0
test -x /usr/sbin/mount.dewfs
useradd -m -s /bin/bash alice
login alice <<'END'
dewfs setup Cloud /srv/nas --yes
END
mkdir /mnt/fstab
mount -t dewfs /srv/nas /mnt/fstab
loginctl enable-linger alice
wait_for is_mounted /home/alice/Cloud
exec 5< /mnt/fstab/old
su alice -c 'echo one > ~/Cloud/f'
unit_pid() { systemctl --user -M alice@ show -p MainPID --value dewfs@Cloud.service; }
daemon=$(unit_pid)

systemctl --quiet enable --now dewfs-helper.socket
systemctl start dewfs-helper.service
helper_pid() { systemctl show -p MainPID --value dewfs-helper.service; }
helper=$(helper_pid)

# Upgraded: the mounts go on with the program they have, and new commands talk to it; no helper of before stays.
install_package 0.1.1
test "$(helper_pid)" != "$helper"
test "$(helper_pid)" != 0
test "$(unit_pid)" = "$daemon"
read line <&5; test "$line" = theirs
su alice -c 'echo two > ~/Cloud/f; cat ~/Cloud/old; dewfs status --short ~/Cloud; dewfs sync --wait ~/Cloud'
has /srv/nas/f two
systemctl --user -M alice@ restart dewfs@Cloud.service
su alice -c 'cat ~/Cloud/f' | grep two

# Taken back: the same state, as its format is the same.
install_package 0.1.0
systemctl --user -M alice@ restart dewfs@Cloud.service
su alice -c 'echo three > ~/Cloud/f'
wait_for has /srv/nas/f three

# The state of a newer one: refused, by name, and not a byte is touched.
systemctl --user -M alice@ stop dewfs@Cloud.service
state=$(dirname /home/alice/.local/state/dewfs/*/catalog.db)
python3 - "$state/catalog.db" <<'END'
import sqlite3, sys
catalog = sqlite3.connect(sys.argv[1])
catalog.execute("PRAGMA wal_checkpoint(TRUNCATE)")
catalog.execute(f"PRAGMA user_version = {catalog.execute('PRAGMA user_version').fetchone()[0] + 1}")
catalog.commit()
catalog.close()
END
chown -R alice: $state
sums() { (cd $state; find . -type f ! -name lock | sort | xargs sha256sum; find . | sort); }
sums > /sums
# The lock says who looked last; that is all.
not su alice -c 'dewfs mount Cloud: ~/Cloud' 2> /said
grep -i newer /said
sums | diff /sums -
not is_mounted /home/alice/Cloud

# Removed, even purged, under a mount in use: it goes on, and nothing of anybody's goes.
echo four > /mnt/fstab/g
cat /mnt/fstab/old
dpkg -r dewfs > /dev/null
not test -e /usr/bin/dewfs
not test -e /run/dewfs-helper.sock
not test -e /etc/systemd/system/sockets.target.wants/dewfs-helper.socket
test -z "$(pgrep -x dewfs-helper)"
test "$(cat /mnt/fstab/g)" = four
echo five > /mnt/fstab/g
dpkg -P dewfs > /dev/null
wait_for has /srv/nas/g five
exec 5<&-
umount /mnt/fstab
sums | diff /sums -
test -n "$(find /var/lib/dewfs -name catalog.db)"
left=$(find /usr /etc /lib -xdev -newer /before -name '*dewfs*' ! -path '*/default.target.wants/*' ! -name 'dewfs.list')
test -z "$left" || { echo "$left"; exit 1; }

# And back again.
install_package 0.1.0
mount -t dewfs /srv/nas /mnt/fstab
test "$(cat /mnt/fstab/g)" = five
"##,
    );
}
