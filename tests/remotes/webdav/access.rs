//! Who is let in: authorities and passwords.

use super::*;

#[tokio::test]
async fn a_server_with_its_own_authority_is_trusted_by_its_file_only() {
    let server = Server::start_guarded("user", "right");
    server.put("a", b"secret");
    let mut options = WebDavOptions::new(server.url()).basic("user", "right");
    let error = WebDavRemote::open(&options).unwrap().probe().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Offline);
    assert!(error.to_string().contains("ca_file="), "{error}");
    assert_eq!(server.requests("PROPFIND"), Some(0), "nothing is said to a stranger");
    options.ca_file = Some(server.ca_file());
    let remote = WebDavRemote::open(&options).unwrap();
    remote.probe().await.unwrap();
    assert_eq!(read_all(&remote, &at("a")).await, b"secret");
    write(&remote, "b", b"by tls", Expect::Absent).await.unwrap();
    assert_eq!(std::fs::read(server.root().join("b")).unwrap(), b"by tls");
    options.ca_file = Some(server.root().join("nowhere.pem"));
    let error = WebDavRemote::open(&options).unwrap_err();
    assert!(error.to_string().contains("nowhere.pem"), "{error}");
}

#[tokio::test]
async fn a_rotated_password_is_asked_for_and_a_wrong_one_refused() {
    let server = Server::start_guarded("user", "first");
    server.put("a", b"secret");
    let with = |source: Option<CredentialsSource>| {
        let mut options = WebDavOptions::new(server.url());
        options.ca_file = Some(server.ca_file());
        options.credentials = source;
        WebDavRemote::open(&options).unwrap()
    };
    let basic =
        |password: &str| Credentials::Basic { user: "user".into(), password: password.into() };
    let none = with(None).probe().await.unwrap_err();
    assert_eq!(none.kind, ErrorKind::Unauthenticated);
    let wrong = with(Some(Arc::new(move || Some(basic("wrong")))));
    assert_eq!(wrong.probe().await.unwrap_err().kind, ErrorKind::Unauthenticated);
    assert_eq!(
        write(&wrong, "b", b"x", Expect::Absent).await.unwrap_err().kind,
        ErrorKind::Unauthenticated
    );

    let held = Arc::new(Mutex::new("first"));
    let source = Arc::clone(&held);
    let remote = with(Some(Arc::new(move || Some(basic(*source.lock().unwrap())))));
    remote.probe().await.unwrap();
    assert_eq!(read_all(&remote, &at("a")).await, b"secret");
    server.set_password("user", "second");
    assert_eq!(remote.stat(&at("a")).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    *held.lock().unwrap() = "second";
    assert_eq!(read_all(&remote, &at("a")).await, b"secret");
    write(&remote, "b", b"again", Expect::Absent).await.unwrap();
    assert_eq!(on_disk(&server, ""), ["a", "b"]);
}
