#![allow(clippy::unwrap_used)]
use super::*;

struct Desk {
    dir: tempfile::TempDir,
    who: Who,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(home.join("remote")).unwrap();
        std::fs::create_dir_all(home.join("mnt")).unwrap();
        std::fs::create_dir_all(home.join("config/dewfs/remotes")).unwrap();
        let who = Who {
            uid: 4_000_001,
            gid: 4_000_002,
            home: Some(home.clone()),
            config_home: Some(home.join("config")),
            state_home: Some(home.join("state")),
        };
        Self { dir, who }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn resolve(
        &self,
        spec: &str,
        dir: &str,
        options: &[&str],
    ) -> Result<MountOptions, ConfigError> {
        let options: Vec<String> = options.iter().map(|one| (*one).to_owned()).collect();
        let request = MountRequest {
            spec: OsStr::new(spec),
            dir: Path::new(dir),
            options: &options,
            config: None,
            sloppy: false,
            schemes: &Schemes::new(),
        };
        resolve(&request, &self.who, &self.at(""))
    }
}

#[test]
fn what_nobody_said_is_as_in_the_contract() {
    let desk = Desk::new();
    let mount = desk.resolve("./remote", "mnt", &[]).unwrap();
    assert_eq!(mount.source, desk.at("remote").into_os_string());
    assert_eq!(mount.mountpoint, desk.at("mnt"));
    assert_eq!(mount.places.state_dir, desk.at("state/dewfs").join(&mount.places.id));
    assert_eq!((mount.settings.uid, mount.settings.gid), (4_000_001, 4_000_002));
    assert_eq!((mount.settings.file_mode, mount.settings.dir_mode), (0o644, 0o755));
    assert!(mount.settings.cache_size <= 50 << 30);
    assert!(mount.settings.exclude.contains(&".goutputstream-*".to_owned()));
    assert_eq!(mount.kernel.access, Access::Owner);
    assert_eq!(mount.name, "mnt");
}

#[test]
fn words_are_over_the_saved_remote_and_that_over_the_general_file() {
    let desk = Desk::new();
    std::fs::write(
        desk.at("config/dewfs/config.toml"),
        "[mount]\npoll = '7s'\nrequests = 7\ntransfers = 7\n",
    )
    .unwrap();
    let saved = format!(
        "spec = 'file://{}'\n[mount]\nrequests = 8\ntransfers = 8\n",
        desk.at("remote").display()
    );
    std::fs::write(desk.at("config/dewfs/remotes/nas.toml"), saved).unwrap();
    let mount = desk.resolve("nas:in/side", "mnt", &["transfers=9"]).unwrap();
    assert_eq!(mount.settings.poll.as_secs(), 7);
    assert_eq!((mount.settings.requests, mount.settings.transfers), (8, 9));
    assert_eq!(mount.remote, RemoteSpec::Folder(desk.at("remote/in/side")));
    assert_eq!(mount.source, "nas:in/side");
}

/// Only the mountpoint of a saved remote was taken from the home directory: `~/` before any other path was an error.
#[test]
fn regression_all_paths_in_files_are_taken_from_the_home_directory() {
    let desk = Desk::new();
    let saved = "spec = '~/remote'\nmountpoint = '~/place'\n[mount]\nstate_dir = '~/states/nas'\n\
                 credentials = '~/secret'\nca_file = '~/ca.pem'\nclient_cert = '~/cert'\nclient_key = '~/key'\n";
    std::fs::write(desk.at("config/dewfs/remotes/nas.toml"), saved).unwrap();
    std::fs::create_dir(desk.at("elsewhere")).unwrap();
    let (cwd, schemes) = (desk.at("elsewhere"), Schemes::new());
    let place = own_mountpoint(OsStr::new("nas:"), None, &desk.who, &cwd, &schemes).unwrap();
    assert_eq!(place, desk.at("place"));
    let mount = desk.resolve("nas:deep", "mnt", &[]).unwrap();
    assert_eq!(mount.remote, RemoteSpec::Folder(desk.at("remote/deep")));
    assert_eq!(mount.places.state_dir, desk.at("states/nas"));
    let (_, opened) =
        resolve_remote(OsStr::new("nas:"), &[], None, &desk.who, &cwd, &schemes).unwrap();
    let paths = [opened.credentials, opened.ca_file, opened.client_cert, opened.client_key];
    let wanted = ["secret", "ca.pem", "cert", "key"].map(|name| Some(desk.at(name)));
    assert_eq!(paths, wanted);
    std::fs::write(desk.at("config/dewfs/config.toml"), "[mount]\nstate_dir = '~/all'\n").unwrap();
    let mount = desk.resolve("./remote", "mnt", &[]).unwrap();
    assert_eq!(mount.places.state_dir, desk.at("all"));
}

#[test]
fn modes_follow_masks_and_are_private_when_root_mounts_for_somebody() {
    let mut desk = Desk::new();
    let modes = |mount: MountOptions| (mount.settings.file_mode, mount.settings.dir_mode);
    let some = desk.resolve("./remote", "mnt", &["umask=027,dmask=077,file_mode=0400"]).unwrap();
    assert_eq!(modes(some), (0o400, 0o700));
    desk.who.uid = 0;
    let state = format!("state_dir={}", desk.at("st").display());
    let root = desk.resolve("./remote", "mnt", &[&state]).unwrap();
    assert_eq!(root.kernel.access, Access::Everyone);
    assert_eq!(modes(root), (0o644, 0o755));
    let given = desk.resolve("./remote", "mnt", &[&state, "uid=4000009"]).unwrap();
    assert_eq!(modes(given), (0o600, 0o700));
}

#[test]
fn places_inside_one_another_are_refused() {
    let desk = Desk::new();
    let in_mount = format!("state_dir={}", desk.at("mnt/state").display());
    let in_remote = format!("state_dir={}", desk.at("remote/state").display());
    for (spec, dir, options) in [
        ("./remote", "mnt", vec![in_mount.as_str()]),
        ("./remote", "mnt", vec![in_remote.as_str()]),
        ("./remote", "remote/mnt", vec![]),
        (".", "mnt", vec![]),
        ("./mnt/deep", "mnt", vec![]),
        ("./remote", "remote", vec![]),
    ] {
        let message = desk.resolve(spec, dir, &options).unwrap_err().to_string();
        assert!(message.contains("one lies in the other"), "{message}");
    }
}

#[test]
fn the_id_knows_the_user_and_no_spelling() {
    let desk = Desk::new();
    let id = |spec: &str, options: &[&str]| desk.resolve(spec, "mnt", options).unwrap().places.id;
    let alice = id("https://alice@Host:443/x/", &[]);
    assert_eq!(alice, id("davs://host/x", &["username=alice"]));
    assert_ne!(alice, id("https://host/x", &[]));
    assert_eq!(id("./remote", &[]), id("remote", &["poll=9"]));
}
