//! A machine with a systemd of its own: `tests/support/systemd-guest` boots it, a script of the test runs in it as root.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every script begins with.
const PRELUDE: &str = r##"
exec 2>&1
set -eu
PS4='+ '
# Waits until a command succeeds; what is waited for has half a minute.
wait_for() {
    { local -; set +x; } 2> /dev/null
    local end=$((SECONDS + 30))
    until "$@" > /dev/null 2>&1; do
        if ((SECONDS > end)); then echo "not in 30 s: $*"; return 1; fi
        sleep 0.05
    done
}
not() { if "$@"; then return 1; fi; }
# Looks at nothing but the table: who looks at an automount uses it.
is_mounted() { grep -q " $1 .* - fuse.dewfs " /proc/self/mountinfo; }
has() { grep -qF -- "$2" "$1"; }
# A login through PAM, with a session of logind, that runs a script and ends.
login() {
    local user=$1
    { local -; set +x; } 2> /dev/null
    su -l "$user" -c "set -eu; $(declare -f wait_for not is_mounted has); set -x; cd; $(cat)"
}
person() { useradd -m -s /bin/bash "$1"; }
# What is known of every mount when something failed.
tell_all() {
    dewfs status
    for log in $(find /var/lib/dewfs /home/*/.local/state ~/.local/state -name log -type f 2> /dev/null); do
        echo "== $log"
        tail -n 40 "$log"
    done
}
trap '{ status=$?; set +ex; } 2> /dev/null; ((status == 0)) || tell_all' EXIT
# While services are being stopped it is "deactivating".
is_logged_out() { case $(systemctl is-active "user@$(id -u "$1")") in inactive|failed) true ;; *) false ;; esac; }
wait_for systemctl is-active -q systemd-logind
set -x
"##;

/// Is a machine that is not booted yet.
pub(crate) struct Guest {
    dir: tempfile::TempDir,
}

impl Guest {
    /// A machine without dewfs.
    pub(crate) fn bare() -> Self {
        assert!(rustix::process::geteuid().is_root(), "only root can boot a container");
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        Self { dir }
    }

    /// A machine where this dewfs is installed as its packages install it.
    pub(crate) fn new() -> Self {
        let guest = Self::bare();
        let program = Path::new(env!("CARGO_BIN_EXE_dewfs"));
        let built = program.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "mount-helper"]);
        if built.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
        let installed = Command::new("make")
            .args(["--silent", "install-built", "PREFIX=/usr", "SBINDIR=/usr/sbin"])
            .arg(format!("RELEASE={}", built.display()))
            .arg(format!("DESTDIR={}", guest.path("files").display()))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap();
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        guest
    }

    /// What the guest sees below `/guest`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file into the guest's tree.
    #[must_use]
    pub(crate) fn with(self, place: &str, text: &str) -> Self {
        let path = self.path("files").join(place.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Keeps root's states from one boot to the next.
    #[must_use]
    pub(crate) fn with_state_kept(self) -> Self {
        fs::create_dir(self.path("var-lib-dewfs")).unwrap();
        self
    }

    /// Boots, runs the script, powers off; a command that fails in the script fails the test.
    pub(crate) fn run(&self, script: &str) {
        let ended = "echo 'the script came to its end'";
        let whole = format!("{PRELUDE}\n{script}\n{ended}\n");
        fs::write(self.path("test"), whole).unwrap();
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/systemd-guest");
        let output = Command::new(guest).arg(self.dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let why = String::from_utf8_lossy(&output.stderr);
        let journal = fs::read_to_string(self.path("journal")).unwrap_or_default();
        let journal: Vec<&str> = journal.lines().filter(|line| line.contains("dewfs")).collect();
        let journal = journal.join("\n");
        assert!(output.status.success(), "{said}\n{why}\n== the journal, of dewfs:\n{journal}");
        assert!(said.trim_end().ends_with("the script came to its end"), "{said}");
    }
}

/// A WebDAV server in the guest, at 127.0.0.1:8080, of `/guest/dav`: `/srv/control/rate` and `/srv/control/users` steer it.
pub(crate) const SERVER: &str = r##"
mkdir -p /guest/dav /srv/control
systemd-run -q --unit=webdav -p DefaultDependencies=no -p KillMode=process \
    python3 /usr/share/slow-webdav.py 8080 /guest/dav /srv/control
wait_for bash -c ': < /dev/tcp/127.0.0.1/8080'
"##;

impl Guest {
    /// The same with what [`SERVER`] starts.
    #[must_use]
    pub(crate) fn with_server(self) -> Self {
        self.with("/usr/share/slow-webdav.py", include_str!("slow-webdav.py"))
    }
}
