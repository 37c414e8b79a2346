//! Setting up where a sign-in is needed.

use super::*;

/// Clouds that people do not sign in to by the browser: name and password are wanted instead, and are enough.
#[test]
fn regression_owncloud_and_opencloud_are_set_up_with_a_password() {
    if !goes_on(
        "setup::sign_in::regression_owncloud_and_opencloud_are_set_up_with_a_password",
        USUAL,
    ) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for product in [Product::OwnCloud, Product::OpenCloud] {
        let server = runtime.block_on(CloudServer::start(Options::cloud(product)));
        server.put("notes.txt", b"theirs");
        let set_up = ["setup", "Cloud", &server.url(), "--yes"];
        // Nobody is there to be asked.
        let mut asks = dewfs();
        let asked = asks.args(set_up).stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&asked.stderr).into_owned();
        let is_wanted = !asked.status.success() && !told.contains("cannot be right");
        assert!(is_wanted, "{product:?}: {told}");
        let mut given = dewfs();
        given.args(set_up).env("DEWFS_USER", LOGIN).env("DEWFS_PASSWORD", PASSWORD);
        let given = given.output().unwrap();
        assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
        assert_eq!(fs::read(home().join("Cloud/notes.txt")).unwrap(), b"theirs");
        said(0, &["remove", "Cloud"]);
    }
}

/// The link is opened where there is a desktop to open it on, and nowhere else.
#[test]
fn the_link_of_a_login_opens_on_a_desktop() {
    if !goes_on("setup::sign_in::the_link_of_a_login_opens_on_a_desktop", USUAL) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(CloudServer::start(Options::nextcloud()));
    let (programs, opened) = (home().join("programs"), home().join("opened"));
    fs::create_dir(&programs).unwrap();
    // Renamed, so that what is found is whole.
    let script = format!("#!/bin/sh\necho \"$@\" >{0}.new && mv {0}.new {0}\n", opened.display());
    fs::write(programs.join("xdg-open"), script).unwrap();
    fs::set_permissions(programs.join("xdg-open"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    for desktop in [None, Some("DISPLAY"), Some("WAYLAND_DISPLAY")] {
        let mut setup = dewfs();
        setup.args(["setup", "Cloud", &server.url(), "--yes"]).env("PATH", &path);
        setup.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        setup.envs(desktop.map(|name| (name, "somewhere")));
        let mut setup = setup.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(setup.stderr.take().unwrap()).lines();
        let link = lines.find(|line| line.as_ref().unwrap().contains("/login/v2/flow/")).unwrap();
        if desktop.is_some() {
            assert!(lines.next().unwrap().unwrap().contains("opened for you"));
            eventually("the link is opened", || opened.exists());
            assert_eq!(fs::read_to_string(&opened).unwrap().trim(), link.unwrap().trim());
            fs::remove_file(&opened).unwrap();
        }
        server.grant();
        assert!(setup.wait().unwrap().success(), "{:?}", lines.collect::<Vec<_>>());
        assert!(!opened.exists(), "{desktop:?}");
        said(0, &["remove", "Cloud"]);
    }
}

/// Who signs in by the browser under another name than the address has was let in while it was set up, and never again.
#[test]
fn regression_who_signs_in_under_another_name_stays_signed_in() {
    if !goes_on("setup::sign_in::regression_who_signs_in_under_another_name_stays_signed_in", USUAL)
    {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(CloudServer::start(Options::nextcloud()));
    server.put("notes.txt", b"theirs");
    let address = server.url().replace("http://", "http://bob@");
    let mut setup = dewfs()
        .args(["setup", "Cloud", &address, "--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(setup.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("/login/v2/flow/")));
    server.grant();
    assert!(setup.wait().unwrap().success(), "{:?}", lines.collect::<Vec<_>>());
    assert_eq!(fs::read(home().join("Cloud/notes.txt")).unwrap(), b"theirs");
    let at = home().join("Cloud");
    assert!(said(0, &["status", at.to_str().unwrap(), "--json"]).contains("\"online\""));
}
