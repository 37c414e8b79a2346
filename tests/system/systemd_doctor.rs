//! `dewfs doctor` on machines where something is wrong: it finds it, and what it says to do about it helps.

use crate::support::guest::{Guest, SERVER};

#[test]
fn each_fault_is_found_and_told_how_to_mend() {
    let script = r##"
person alice
mkdir -m 777 /srv/nas; echo theirs > /srv/nas/old
# Runs as alice: doctor's answer to one thing, which has to be this mark, these words and, if it is wrong, a way out.
cat > /usr/local/bin/finds <<'END'
#!/bin/bash
mark=$1 name=$2 words=$3; shift 3
said=$(dewfs doctor "$@" --color never); status=$?
if grep -A1 -- "^$mark  $name " <<< "$said" | tr '\n' ' ' | grep -qF -- "$words"; then
    if [[ $mark = FAIL ]]; then test $status = 1; fi
else
    echo "$said"; exit 1
fi
END
chmod +x /usr/local/bin/finds
a() { su alice -c "$*"; }

# Nothing is wrong.
a "finds 'ok  ' /dev/fuse 'can be opened'"
a "finds 'ok  ' fusermount3 /usr/bin/fusermount3"
a "finds 'ok  ' fuse.conf 'only you'"
a "finds 'ok  ' state 'free'"
a 'dewfs doctor'

# The device, fusermount3, fuse.conf: mended as it says.
chmod 600 /dev/fuse
a "finds FAIL /dev/fuse 'sudo chmod 666 /dev/fuse'"
finds note /dev/fuse 'not by others (mode 600)'
chmod 666 /dev/fuse
chmod u-s /usr/bin/fusermount3
a "finds FAIL fusermount3 'not set-uid'"
mv /usr/bin/fusermount3 /usr/bin/fusermount3.away
a "finds FAIL fusermount3 'apt install fuse3'"
mv /usr/bin/fusermount3.away /usr/bin/fusermount3; chmod u+s /usr/bin/fusermount3
a 'mkdir -p ~/.config/dewfs/remotes; printf "spec = \"/srv/nas\"\n[mount]\nallow_other = true\n" > ~/.config/dewfs/remotes/Nas.toml'
a "finds FAIL fuse.conf 'user_allow_other into /etc/fuse.conf'"
a 'not() { ! "$@"; }; not dewfs mount Nas:'
echo user_allow_other >> /etc/fuse.conf
a "finds 'ok  ' fuse.conf 'user_allow_other is set'"
a 'dewfs mount Nas:'
a 'dewfs umount Nas:'

# The state's disk.
a 'mkdir -p ~/.local/state'
mount -t tmpfs -o size=100m,uid=$(id -u alice) none /home/alice/.local/state
a "finds FAIL state 'free some room'"
mount -o remount,size=2g /home/alice/.local/state
a "finds FAIL state 'in memory'"
umount /home/alice/.local/state
chown root: /home/alice/.local/state
a "finds FAIL state 'cannot be written'"
chown alice: /home/alice/.local/state

# Mounts: speed, a dead one, a stuck one, two in one place.
a 'dewfs mount Nas:'
a "finds note passthrough 'dewfs-helper.socket'"
a "finds 'ok  ' mount '/home/alice/Nas: online'"
pid=$(pidof dewfs)
kill -STOP $pid
a "finds FAIL mount 'kill $pid'"
kill -CONT $pid
kill -9 $pid
wait_for bash -c '! stat -f /home/alice/Nas'
a "finds FAIL mount 'dewfs umount /home/alice/Nas'"
a 'dewfs umount ~/Nas'
mkdir -p /mnt/one /mnt/two
dewfs mount /srv/nas /mnt/one
dewfs mount /srv/nas /mnt/two
mount --make-rprivate /
mount --move /mnt/two /mnt/one
finds FAIL mounts '2 dewfs mounts lie on top of each other'
umount /mnt/one
finds 'ok  ' mount '/mnt/one: online'
dewfs umount /mnt/one

# Remotes: password, clock, TLS, nobody there, a failed unit.
echo alice:secret > /srv/control/users
echo 7200 > /srv/control/ahead
(umask 77; printf 'username=alice\npassword=secret\n' > /home/alice/secret; chown alice: /home/alice/secret)
a 'printf "spec = \"http://127.0.0.1:8080/\"\n[mount]\ncredentials = \"/home/alice/secret\"\n" > ~/.config/dewfs/remotes/Web.toml'
a "finds FAIL clock '7200 s behind' Web:"
echo 0 > /srv/control/ahead
a "finds 'ok  ' clock 'differs from' Web:"
echo alice:other > /srv/control/users
a "finds FAIL remote 'dewfs login Web' Web:"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1 \
    -keyout /srv/key.pem -out /home/alice/cert.pem 2> /dev/null
systemd-run -q --unit=tls openssl s_server -accept 8443 -key /srv/key.pem -cert /home/alice/cert.pem -www
wait_for bash -c ': < /dev/tcp/127.0.0.1/8443'
a "finds FAIL remote 'ca_file=FILE' https://127.0.0.1:8443/"
a "finds FAIL remote 'does not speak TLS' https://127.0.0.1:8080/"
a "finds FAIL remote 'nobody answers' http://127.0.0.1:9/"
a "finds FAIL remote 'write https://' http://nowhere.invalid/"
a "finds FAIL remote 'spelling' https://nowhere.invalid/"
login alice <<'END'
not systemctl --user start dewfs@Web.service
systemctl --user stop dewfs@Web.service
printf '[mount\n' > .config/dewfs/remotes/Web.toml
not systemctl --user start dewfs@Web.service
finds FAIL unit 'systemctl --user restart dewfs@Web'
END
"##;
    Guest::new().with_server().run(&[SERVER, script].concat());
}
