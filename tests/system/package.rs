//! The `.rpm`: what is in it, and that it is installed, replaced and removed. (The `.deb` is tested under systemd.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where all programs are that were built for this test.
fn built() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_dewfs")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--package", "mount-helper"]);
    if built.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    built.to_owned()
}

/// Makes the package of what was built for this test.
fn package(version: &str, out: &Path) -> PathBuf {
    let built = built();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package");
    let made = Command::new(script)
        .args(["--only", "rpm", "--pack", "gzip", "--version", version, "--built"])
        .args([&built, out])
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
}

/// Runs rpm and answers what it printed.
fn rpm(words: &[&str]) -> String {
    let output = Command::new("rpm").args(words).output().expect("rpm: scripts/test-servers");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rpm {words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_rpm_is_installed_replaced_and_removed() {
    assert!(rustix::process::geteuid().is_root(), "packages are installed as root");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (first, second) = (package("0.1.0", dir.path()), package("0.2.0", dir.path()));
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    let files = rpm(&["-qpl", &file(&first)]);
    for wanted in [
        "/usr/bin/dewfs",
        "/usr/sbin/mount.dewfs",
        "/usr/libexec/dewfs-helper",
        "/usr/share/dewfs/confined.conf",
        "/usr/lib/systemd/user/dewfs@.service",
        "/usr/lib/systemd/system/dewfs@.service",
        "/usr/lib/systemd/system/dewfs-helper.socket",
        "/usr/lib/systemd/system/dewfs-helper.service",
        "/usr/share/man/man1/dewfs.1.gz",
        "/usr/share/man/man1/dewfs-cache-clear.1.gz",
        "/usr/share/man/man8/mount.dewfs.8.gz",
        "/usr/share/bash-completion/completions/dewfs",
        "/etc/dewfs/remotes",
    ] {
        assert!(files.lines().any(|line| line == wanted), "{wanted} is not in it:\n{files}");
    }
    let needs = rpm(&["-qp", "--requires", &file(&first)]);
    assert!(needs.lines().any(|line| line == "fuse3"), "{needs}");
    assert!(!needs.contains("python"), "{needs}");
    let scripts = rpm(&["-qp", "--scripts", &file(&first)]);
    for wanted in [
        "if [ \"$1\" -gt 1 ]; then\nif [ -d /run/systemd/system ]; then systemctl try-restart dewfs-helper.service",
        "if [ \"$1\" -eq 0 ]; then\nif [ -d /run/systemd/system ]; then\n    systemctl --quiet disable --now dewfs-helper.socket",
    ] {
        assert!(scripts.contains(wanted), "{scripts}");
    }
    let about = rpm(&["-qp", "--qf", "%{NAME} %{VERSION} %{LICENSE}", &file(&first)]);
    assert_eq!(about, "dewfs 0.1.0 MIT OR Apache-2.0");

    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let root = file(&root);
    let at = |path: &str| Path::new(&root).join(path);
    // An empty root has neither a shell for the scripts nor what the package needs.
    let put = |how: &str, package: &Path| {
        rpm(&["--root", &root, "--nodeps", "--noscripts", "--noplugins", how, &file(package)]);
    };
    put("-i", &first);
    assert!(at("usr/bin/dewfs").exists() && at("etc/dewfs/remotes").is_dir());
    assert_eq!(rpm(&["--root", &root, "-V", "--nodeps", "dewfs"]), "", "all is as it was packed");
    // What people have written stays.
    fs::write(at("etc/dewfs/config.toml"), "[mount]\n").unwrap();
    put("-U", &second);
    assert!(rpm(&["--root", &root, "-q", "dewfs"]).starts_with("dewfs-0.2.0"));
    let version = Command::new(at("usr/bin/dewfs")).arg("--version").output().unwrap();
    assert!(version.status.success(), "{version:?}");
    rpm(&["--root", &root, "--noscripts", "--noplugins", "-e", "dewfs"]);
    assert!(!at("usr/bin/dewfs").exists() && !at("usr/lib/systemd/user/dewfs@.service").exists());
    assert!(at("etc/dewfs/config.toml").exists());
}

/// `make package` itself, of what was built for this test.
#[test]
fn make_package_makes_a_deb_and_an_rpm() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let made = Command::new("make")
        .args(["--silent", "package", "CARGO=true", "PACKING=--pack gzip"])
        .arg(format!("RELEASE={}", built().display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", dir.path())
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let packages = fs::read_dir(dir.path().join("package")).unwrap();
    let packages: Vec<PathBuf> = packages.map(|entry| entry.unwrap().path()).collect();
    let one = |end: &str| packages.iter().find(|path| path.extension().unwrap() == end).unwrap();
    assert_eq!(packages.len(), 2, "{packages:?}");
    let files = rpm(&["-qpl", one("rpm").to_str().unwrap()]);
    let listed = Command::new("dpkg-deb").arg("--contents").arg(one("deb")).output().unwrap();
    for listed in [files, String::from_utf8(listed.stdout).unwrap()] {
        for wanted in ["/usr/bin/dewfs\n", "/usr/share/man/man1/dewfs-remote-add.1.gz\n"] {
            assert!(listed.contains(wanted), "{wanted} is in none of\n{listed}");
        }
    }
}

/// Root has no cargo where it is the user's own: `make`, then `sudo make install`.
#[test]
fn what_was_built_is_installed_without_cargo() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let built = built();
    let make = |release: &Path| {
        Command::new("make")
            .args(["--silent", "install", "CARGO=no-cargo-here"])
            .arg(format!("RELEASE={}", release.display()))
            .arg(format!("DESTDIR={}", dir.path().display()))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap()
    };
    let made = make(&built);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(dir.path().join("usr/local/bin/dewfs").exists());
    // What is missing is built, and so it wants cargo.
    let missing = make(dir.path());
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(!missing.status.success() && said.contains("no-cargo-here"), "{said}");
}

/// Installed anywhere but in /usr or /usr/local, mount(8) never found the program; and one in /usr/local was taken for the
/// package's.
#[test]
fn regression_mount_finds_the_program_of_its_own_prefix() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let built = built();
    for (prefix, helper) in [("/opt/x", "/opt/x/libexec"), ("/usr", "/usr/sbin")] {
        let root = dir.path().join(prefix.replace('/', "_"));
        let made = Command::new("make")
            .args(["--silent", "install-built", "SBINDIR=/usr/sbin"])
            .arg(format!("PREFIX={prefix}"))
            .arg(format!("RELEASE={}", built.display()))
            .arg(format!("DESTDIR={}", root.display()))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let below = |place: &str| root.join(place.trim_start_matches('/'));
        let program = below(prefix).join("bin/dewfs");
        fs::write(&program, format!("#!/bin/sh\necho it is the one of {prefix}: \"$@\"\n"))
            .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mount = below(helper).join("mount.dewfs");
        let output = Command::new(&mount).args(["/srv/a", "/mnt/a"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with(&format!("it is the one of {prefix}: ")), "{output:?}");
        if helper != "/usr/sbin" {
            let found = fs::read_link(below("/usr/sbin/mount.dewfs")).unwrap();
            assert_eq!(found, Path::new(helper).join("mount.dewfs"));
        }
    }
}
