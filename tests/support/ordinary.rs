//! Tests as an ordinary user, whoever runs them.
//!
//! Root starts the test once more in a mount namespace of its own, without any right: there `/dev/fuse` is open to everybody
//! as udev makes it, the user database knows one user more, and the program, the test and the directory of its files lie
//! where that user can reach them. Who is an ordinary user already just goes on.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// Nobody has this number: what it owns was made by these tests.
pub(crate) const UID: u32 = 64_321;

/// Set in the test that was started once more: the directory made for it.
const BOX: &str = "DEWFS_TEST_BOX";

const SCRIPT: &str = r#"
    box=$1 program=$2 test=$3 files=$4 uid=$5 runtime=$6 fuse_conf=$7 name=$8
    mount -t tmpfs -o mode=755 dewfs-test "$box"
    mkdir "$box/home" "$box/files"
    chown "$uid:$uid" "$box/home" "$files"
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
    mkdir -p /run/user
    mount -t tmpfs -o mode=755 dewfs-test /run/user
    if [ "$runtime" = yes ]; then install -d -o "$uid" -g "$uid" -m 700 "/run/user/$uid"; fi
    unset XDG_CONFIG_HOME XDG_STATE_HOME XDG_RUNTIME_DIR
    export DEWFS_TEST_BOX="$box" DEWFS_TEST_PROGRAM="$box/program" DEWFS_TEST_FILES="$box/files"
    export HOME="$box/home" USER=dewfs-test
    cd "$box/files"
    exec setpriv --reuid="$uid" --regid="$uid" --clear-groups --inh-caps=-all --bounding-set=+all \
        "$box/test" --exact "$name" --nocapture --test-threads=1
"#;

/// The machine that the user finds.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    /// Whether somebody made `/run/user/UID`, as a session does.
    pub(crate) runtime_dir: bool,
    /// What `/etc/fuse.conf` says.
    pub(crate) fuse_conf: &'static str,
}

/// A machine with a session of the user.
pub(crate) const USUAL: Machine = Machine { runtime_dir: true, fuse_conf: "" };

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
    let usual = machine.runtime_dir && machine.fuse_conf.is_empty();
    if !usable || !usual {
        eprintln!("NOT RUN: this machine cannot be made what the test is about without root");
    }
    usable && usual
}

/// The home directory of the user.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME").unwrap().into()
}
