//! mount(8), umount(8), findmnt(8) and fstab, in a private view of the tree where `/sbin/mount.dewfs` is the one just built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the private tree; every process in it ends with the shell.
const PRIVATE: &str = r#"
mkdir etc run
mount -t tmpfs none run; mkdir run/u run/w
mount -t overlay none -o lowerdir=/usr/sbin,upperdir=$PWD/run/u,workdir=$PWD/run/w /usr/sbin
cp "$HELPER" /usr/sbin/mount.dewfs
# mount.fuse3 has a shell look for the program, and mount(8) leaves that shell no PATH.
ln -s "$DEWFS" /usr/sbin/dewfs
# What mount(8) and dewfs remember must not outlive this.
mount -t tmpfs none /run
: > etc/fstab
mount --bind etc/fstab /etc/fstab
export DEWFS_PROGRAM="$DEWFS"
cd "$T"
mkdir remote mnt state; echo content > remote/f
S=state_dir=$PWD/state
"#;

struct Script {
    dir: tempfile::TempDir,
}

impl Script {
    fn run(script: &str) -> Self {
        Self::run_with(Path::new(env!("CARGO_BIN_EXE_dewfs")), script)
    }

    /// With this program in the place of dewfs.
    fn run_with(program: &Path, script: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "mount(8) is tested as root");
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let this = Self { dir };
        let output = Command::new("unshare")
            .args(["-m", "-p", "-f", "--kill-child", "--mount-proc", "--propagation", "private"])
            .args(["bash", "-euc"])
            .arg(format!("{PRIVATE}\nset -x\n{script}\n: done"))
            .current_dir(this.dir.path())
            .env("T", this.dir.path())
            .env("HELPER", helper())
            .env("DEWFS", program)
            .output()
            .unwrap();
        let trace = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{trace}");
        assert!(trace.trim_end().ends_with("+ : done"), "{trace}");
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The helper, built with this test's own profile.
fn helper() -> PathBuf {
    built("mount-dewfs", &["--package", "mount-helper"])
}

fn built(name: &str, what: &[&str]) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_dewfs")).with_file_name(name);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked"]).args(what);
    if beside.components().any(|part| part.as_os_str() == "release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    assert!(beside.exists(), "{}", beside.display());
    beside
}

#[test]
fn mount_and_umount() {
    let after = Script::run(
        r#"
mount -t dewfs "$PWD/remote" mnt -o "$S"
test "$(cat mnt/f)" = content
echo new > mnt/g
findmnt -t fuse.dewfs -no SOURCE,TARGET,FSTYPE | grep -q "^$PWD/remote *$PWD/mnt *fuse.dewfs"
mountpoint -q mnt
findmnt -no OPTIONS mnt | grep -q nosuid
umount mnt
test -z "$(ls mnt)"
for i in $(seq 500); do test -e remote/g && break; sleep 0.02; done
"#,
    );
    assert_eq!(fs::read(after.path("remote/g")).unwrap(), b"new\n");
}

#[test]
fn fstab_of_type_dewfs_is_mounted_once() {
    Script::run(
        r#"
echo "$PWD/remote $PWD/mnt dewfs noauto,_netdev,nofail,$S 0 0" > /etc/fstab
mount mnt
test "$(cat mnt/f)" = content
echo "$PWD/remote $PWD/mnt dewfs _netdev,nofail,x-systemd.idle-timeout=1min,$S 0 0" > /etc/fstab
mount -a
mount -a
test "$(findmnt -t fuse.dewfs -no TARGET | grep -c "^$PWD/")" = 1
umount mnt
mount -a -O no_netdev
test -z "$(ls mnt)"
mount -a
test "$(cat mnt/f)" = content
umount -a -t fuse.dewfs
test -z "$(ls mnt)"
"#,
    );
}

#[test]
fn fstab_of_type_fuse_dewfs_is_mounted_once() {
    Script::run(
        r#"
echo "$PWD/remote $PWD/mnt fuse.dewfs _netdev,nofail,$S 0 0" > /etc/fstab
mount -a
test "$(cat mnt/f)" = content
mount -a
test "$(findmnt -t fuse.dewfs -no TARGET | grep -c "^$PWD/")" = 1
umount mnt
test -z "$(ls mnt)"
"#,
    );
}

#[test]
fn spaces_in_fstab_are_spaces() {
    Script::run(
        r#"
mkdir "my remote" "my mnt"; echo spaced > "my remote/f"
echo "$PWD/my\\040remote $PWD/my\\040mnt dewfs name=my\\040cloud,$S 0 0" > /etc/fstab
mount -a
test "$(cat "my mnt/f")" = spaced
mount -a
test "$(findmnt -t fuse.dewfs -no TARGET | grep -c "^$PWD/")" = 1
umount "my mnt"
"#,
    );
}

#[test]
fn a_fake_mount_mounts_nothing() {
    Script::run(
        r#"
mount -f -t dewfs "$PWD/remote" mnt -o "$S"
test -z "$(ls mnt)"
test -z "$(ls state)"
"#,
    );
}

#[test]
fn a_sloppy_mount_ignores_unknown_options() {
    Script::run(
        r#"
rc=0; mount -t dewfs "$PWD/remote" mnt -o "$S,nonsense=1" 2>err || rc=$?
test $rc = 1; grep -q nonsense err; test -z "$(ls mnt)"
mount -s -t dewfs "$PWD/remote" mnt -o "$S,nonsense=1"
test "$(cat mnt/f)" = content
umount mnt
"#,
    );
}

#[test]
fn a_remount_is_refused_and_never_mounts_a_second_time() {
    Script::run(
        r#"
mount -t dewfs "$PWD/remote" mnt -o "$S"
rc=0; mount -o remount,ro mnt 2>err || rc=$?
test $rc = 32; grep -q remount err
test "$(findmnt -t fuse.dewfs -no TARGET | grep -c "^$PWD/")" = 1
echo still > mnt/writable
umount mnt
"#,
    );
}

#[test]
fn the_mountpoint_is_made_when_asked() {
    Script::run(
        r#"
rc=0; mount -t dewfs "$PWD/remote" "$PWD/new" -o "$S" 2>err || rc=$?
test $rc = 32; grep -q "no such folder" err
mount -t dewfs "$PWD/remote" "$PWD/new" -o "$S,X-mount.mkdir"
test "$(cat new/f)" = content
umount new
"#,
    );
}

#[test]
fn read_only_and_other_flags_reach_the_kernel() {
    Script::run(
        r#"
mount -r -t dewfs "$PWD/remote" mnt -o "$S,noexec,noatime"
findmnt -no OPTIONS mnt | tr , '\n' > options
for o in ro noexec noatime nosuid nodev default_permissions allow_other; do grep -qx $o options; done
rc=0; touch mnt/x 2>err || rc=$?
test $rc = 1; grep -q "Read-only" err
umount mnt
"#,
    );
}

#[test]
fn a_dead_mount_is_cleared_by_the_next() {
    Script::run(
        r#"
mount -t dewfs "$PWD/remote" mnt -o "$S"
echo kept > mnt/g
for p in /proc/[0-9]*; do
  test "$(readlink $p/exe)" = "$(readlink -f "$DEWFS")" && kill -9 ${p#/proc/}
done || true
for i in $(seq 500); do stat mnt >/dev/null 2>&1 || break; sleep 0.02; done
mount -t dewfs "$PWD/remote" mnt -o "$S"
test "$(cat mnt/g)" = kept
test "$(findmnt -t fuse.dewfs -no TARGET | grep -c "^$PWD/")" = 1
umount mnt
"#,
    );
}

#[test]
fn another_mount_namespace_is_entered_when_named() {
    Script::run(
        r#"
unshare -m --propagation private sleep 1000 & other=$!
for i in $(seq 500); do
  test "$(readlink /proc/$other/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" && break; sleep 0.02
done
mount -N /proc/$other/ns/mnt -t dewfs "$PWD/remote" "$PWD/mnt" -o "$S"
test -z "$(ls mnt)"
test "$(nsenter -m -t $other cat "$PWD/mnt/f")" = content
nsenter -m -t $other umount "$PWD/mnt"
kill $other
"#,
    );
}

#[test]
fn a_store_of_ones_own_is_mounted_by_its_scheme() {
    let program = built("examples/custom_remote", &["--example", "custom_remote"]);
    Script::run_with(
        &program,
        r#"
mount -t dewfs "mystore://$PWD/store" mnt -o "$S"
mkdir mnt/folder; echo kept > mnt/folder/note
findmnt -no SOURCE,FSTYPE mnt | grep -q "^mystore://$PWD/store *fuse.dewfs$"
"$DEWFS" sync --wait --timeout 20s mnt
umount mnt
test -z "$(ls mnt)"
# a state that knows nothing yet has it from the store alone
echo "mystore://$PWD/store $PWD/mnt dewfs noauto,_netdev,state_dir=$PWD/fresh 0 0" > /etc/fstab
mount mnt
test "$(cat mnt/folder/note)" = kept
umount mnt
rc=0; mount -t dewfs "otherstore://$PWD/store" mnt -o "$S" 2>err || rc=$?
test $rc = 1; grep -q 'unknown kind of remote "otherstore".*mystore' err
"#,
    );
}
