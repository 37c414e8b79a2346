//! Tests as an ordinary user, whoever runs them.
//!
//! Root starts the test once more in a mount namespace of its own, without any right: there `/dev/fuse` is open to everybody
//! as udev makes it, the user database knows one user more, and the program, the test and the directory of its files lie
//! where that user can reach them. Who is an ordinary user already just goes on.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Nobody has this number: what it owns was made by these tests.
pub(crate) const UID: u32 = 64_321;

/// Set in the test that was started once more: the directory made for it.
const BOX: &str = "DEWFS_TEST_BOX";

const SCRIPT: &str = r#"
    box=$1 program=$2 test=$3 files=$4 uid=$5 runtime=$6 fuse_conf=$7 name=$8 helper=$9
    mount -t tmpfs -o mode=755 dewfs-test "$box"
    mkdir "$box/home" "$box/files"
    chown "$uid:$uid" "$box/home" "$files"
    # Files of somebody else, which who owns the directory may move; one of them everybody may write to.
    echo theirs | tee "$files/roots" > "$files/private"
    chmod 666 "$files/roots"
    chmod 644 "$files/private"
    mount --bind "$files" "$box/files"
    for file in program test; do
        touch "$box/$file"
        eval "mount --bind \"\$$file\" $box/$file"
    done
    # As udev makes it; where it is so already, nothing has to be made.
    if [ "$(stat -c %a /dev/fuse)" != 666 ]; then
        mknod -m 666 "$box/fuse" c 10 229
        mount --bind "$box/fuse" /dev/fuse
    fi
    { cat /etc/passwd; echo "dewfs-test:x:$uid:$uid::$box/home:/bin/sh"; } > "$box/passwd"
    mount --bind "$box/passwd" /etc/passwd
    printf '%s\n' "$fuse_conf" > "$box/fuse.conf"
    mount --bind "$box/fuse.conf" /etc/fuse.conf
    export DEWFS_HELPER_SOCKET="$box/helper.sock"
    if [ -n "$helper" ]; then
        touch "$box/helper"
        mount --bind "$helper" "$box/helper"
        if [ "$CONNECTIONS" = shown ]; then mount -t fusectl none /sys/fs/fuse/connections; fi
        if [ "$FUSERMOUNT" = missing ]; then mount --bind /dev/null "$(command -v fusermount3)"; fi
        # What belongs to others: a file that everybody may write to, and a mount whose descriptor was left open.
        touch "$box/everybodys"
        chmod 666 "$box/everybodys"
        mkdir "$box/other" "$box/roots" "$box/strangers" "$box/sticky" "$box/disk"
        chmod 1777 "$box/sticky"
        mount -t tmpfs -o mode=777 dewfs-test "$box/disk"
        exec 9<>/dev/fuse
        mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 none "$box/other"
        for owner in roots:0 "strangers:${uid}0"; do
            mount -i -t fuse.dewfs -o "fd=7,rootmode=40000,user_id=${owner#*:},group_id=0" none "$box/${owner%:*}" 7<>/dev/fuse
        done
        mkfifo -m 666 "$box/control"
        # It ends when nobody is left who could write to it, and the helper with it.
        sh -uc "$CONTROL" sh "$box" "$ARGUMENTS" <"$box/control" 9>&- &
        exec 8>"$box/control"
        for _ in $(seq 2000); do [ ! -S "$box/helper.sock" ] || break; sleep 0.01; done
        [ -S "$box/helper.sock" ]
    fi
    mkdir -p /run/user
    mount -t tmpfs -o mode=755 dewfs-test /run/user
    if [ "$runtime" = yes ]; then install -d -o "$uid" -g "$uid" -m 700 "/run/user/$uid"; fi
    unset XDG_CONFIG_HOME XDG_STATE_HOME XDG_RUNTIME_DIR
    export DEWFS_TEST_BOX="$box" DEWFS_TEST_PROGRAM="$box/program" DEWFS_TEST_FILES="$box/files"
    export HOME="$box/home" USER=dewfs-test
    cd "$box/files"
    exec setpriv --reuid="$uid" --regid="$uid" --clear-groups --inh-caps=-all --bounding-set=+all $CONFINED \
        "$box/test" --exact "$name" --nocapture --test-threads=1
"#;

/// Starts the helper with the rights that its service leaves it, and does to it what the test writes into the fifo.
const CONTROL: &str = r#"
    box=$1 arguments=$2
    start() {
        rm -f "$box/helper.sock"
        python3 -c "$LISTEN" "$box/helper.sock" \
            setpriv --inh-caps=-all --bounding-set=-all,+sys_admin,+setuid,+setgid "$box/helper" $arguments &
        pid=$!
    }
    start
    while read -r word; do
        case $word in
            start) start;;
            kill) kill -KILL $pid; wait $pid || :;;
            stop) kill -STOP $pid;;
            cont) kill -CONT $pid;;
        esac
    done
    kill -KILL $pid
"#;

/// Becomes a program whose standard input is a socket that listens, as systemd makes it; it is there when it can be used.
const LISTEN: &str = r#"
import os, socket, sys
place, program = sys.argv[1], sys.argv[2:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(place + ".new")
os.chmod(place + ".new", 0o666)
listener.listen(64)
os.rename(place + ".new", place)
os.dup2(listener.fileno(), 0)
os.execvp(program[0], program)
"#;

/// The machine that the user finds.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    /// Whether somebody made `/run/user/UID`, as a session does.
    pub(crate) runtime_dir: bool,
    /// What `/etc/fuse.conf` says.
    pub(crate) fuse_conf: &'static str,
    /// The arguments of the helper that root runs, if it does.
    pub(crate) helper: Option<&'static str>,
    /// Whether the kernel shows its connections.
    pub(crate) connections: bool,
    /// Whether there is fusermount3.
    pub(crate) fusermount: bool,
    /// Whether the user's programs can gain no privileges, as under a confined unit.
    pub(crate) confined: bool,
}

/// A machine with a session of the user.
pub(crate) const USUAL: Machine = Machine {
    runtime_dir: true,
    fuse_conf: "",
    helper: None,
    connections: true,
    fusermount: true,
    confined: false,
};

/// Whether the caller is an ordinary user, who goes on with the test; as root the whole test has been run as one when this
/// returns. `name` is the test's own.
pub(crate) fn goes_on(name: &str, machine: Machine) -> bool {
    if !rustix::process::geteuid().is_root() {
        return std::env::var_os(BOX).is_some() || can_mount(machine);
    }
    let place = tempfile::Builder::new().prefix("dewfs-box-").tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let files = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = if machine.runtime_dir { "yes" } else { "no" };
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", SCRIPT, "sh"])
        .arg(place.path())
        .arg(env!("CARGO_BIN_EXE_dewfs"))
        .arg(std::env::current_exe().unwrap())
        .arg(files.path())
        .arg(UID.to_string())
        .args([runtime, machine.fuse_conf, name])
        .arg(machine.helper.map(|_| helper()).unwrap_or_default())
        .env("ARGUMENTS", machine.helper.unwrap_or_default())
        .env("CONNECTIONS", if machine.connections { "shown" } else { "hidden" })
        .env("FUSERMOUNT", if machine.fusermount { "there" } else { "missing" })
        .env("CONFINED", if machine.confined { "--no-new-privs" } else { "" })
        .env("CONTROL", CONTROL)
        .env("LISTEN", LISTEN)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "as an ordinary user:\n{said}");
    assert!(said.contains("1 passed"), "the name of the test is another: {name}\n{said}");
    false
}

/// Whether this machine lets its ordinary users mount, and is what the test is about.
fn can_mount(machine: Machine) -> bool {
    let usable = fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    let usual = machine.runtime_dir
        && machine.fuse_conf.is_empty()
        && machine.helper.is_none()
        && !machine.confined;
    if !usable || !usual {
        eprintln!("NOT RUN: this machine cannot be made what the test is about without root");
    }
    usable && usual
}

/// The helper, built with this test's own profile.
pub(crate) fn helper() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_dewfs")).with_file_name("dewfs-helper");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "mount-helper"]);
    if beside.components().any(|part| part.as_os_str() == "release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    beside
}

/// A place that root made for the test.
pub(crate) fn boxed(name: &str) -> PathBuf {
    Path::new(&std::env::var_os(BOX).unwrap()).join(name)
}

/// Does something to the helper: `kill`, `start`, `stop` or `cont`.
pub(crate) fn control(word: &str) {
    let mut fifo = fs::File::options().write(true).open(boxed("control")).unwrap();
    std::io::Write::write_all(&mut fifo, format!("{word}\n").as_bytes()).unwrap();
}

/// The home directory of the user.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME").unwrap().into()
}

/// A file of root's in a directory of the user's own: `roots` everybody may write to, `private` root alone.
pub(crate) fn roots_file(name: &str) -> PathBuf {
    std::env::var_os("DEWFS_TEST_FILES").map_or_else(PathBuf::new, PathBuf::from).join(name)
}
