//! Credentials, and being sent elsewhere.

use super::*;

#[tokio::test]
async fn credentials_are_asked_for_again_after_a_refusal() {
    let liar = Liar::start(|asked| {
        // user:new
        if asked.headers.contains("authorization: basic dxnlcjpuzxc=") {
            multistatus(&entry("/f", "<d:getcontentlength>1</d:getcontentlength>"))
        } else {
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into()
        }
    })
    .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let mut options = WebDavOptions::new(&liar.url);
    options.credentials = Some(Arc::new(move || {
        let password = if count.fetch_add(1, Ordering::Relaxed) == 0 { "old" } else { "new" };
        Some(Credentials::Basic { user: "user".into(), password: password.into() })
    }));
    let remote = WebDavRemote::open(&options).unwrap();
    assert!(remote.stat(&at("f")).await.unwrap().is_some());
    assert!(remote.stat(&at("f")).await.unwrap().is_some());
    assert_eq!((asked.load(Ordering::Relaxed), liar.asked().len()), (2, 3));

    let wrong = WebDavRemote::open(&WebDavOptions::new(&liar.url).basic("user", "secret")).unwrap();
    let error = wrong.stat(&at("f")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(!format!("{error:?} {wrong:?}").contains("secret"));
    let none = open(&liar).probe().await.unwrap_err();
    assert_eq!(none.kind, ErrorKind::Unauthenticated);
    assert!(none.to_string().contains(&liar.url), "{none}");
}

#[tokio::test]
async fn no_password_goes_unencrypted_to_another_machine() {
    let mut options = WebDavOptions::new("http://192.0.2.1/").basic("user", "password");
    let error = WebDavRemote::open(&options).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("insecure_http"), "{error}");
    options.insecure_http = true;
    WebDavRemote::open(&options).unwrap();
}

#[tokio::test]
async fn only_reading_follows_to_another_server_and_without_credentials() {
    for (credentials, sent) in [
        // user:password
        (
            Credentials::Basic { user: "user".into(), password: "password".into() },
            "basic dxnlcjpwyxnzd29yza==",
        ),
        (Credentials::Bearer("Token-1".into()), "bearer token-1"),
    ] {
        let other = Liar::start(part).await;
        let target = other.url.clone();
        let liar = Liar::start(move |_| {
            format!("HTTP/1.1 307 Moved\r\nLocation: {target}f\r\nContent-Length: 0\r\n\r\n")
        })
        .await;
        let mut options = WebDavOptions::new(&liar.url);
        options.credentials = Some(Arc::new(move || Some(credentials.clone())));
        let remote = WebDavRemote::open(&options).unwrap();
        drop(remote.read(&at("f"), &v(), 0..4).await.unwrap());
        let header = format!("authorization: {sent}");
        let asked = liar.asked();
        assert!(asked[0].headers.lines().any(|line| line == header), "{asked:?}");
        let told = other.asked();
        assert!(!told[0].has("authorization") && !told[0].headers.contains(sent), "{told:?}");

        assert_eq!(remote.stat(&at("f")).await.unwrap_err().kind, ErrorKind::Unsupported);
        assert!(remote.write(&at("f"), upload(b"x"), Expect::Absent).await.is_err());
        assert_eq!(other.asked().len(), 1, "nothing but the read went there");
        assert!(!format!("{options:?} {remote:?}").contains("Token-1"));
    }
}

#[tokio::test]
async fn redirects_on_the_same_server_are_followed_but_not_in_circles() {
    let liar = Liar::start(|asked| match asked.path.as_str() {
        "/f" => "HTTP/1.1 301 Moved\r\nLocation: /g\r\nContent-Length: 0\r\n\r\n".into(),
        "/g" => part(asked),
        _ => "HTTP/1.1 302 Found\r\nLocation: /circle\r\nContent-Length: 0\r\n\r\n".into(),
    })
    .await;
    let remote = open(&liar);
    drop(remote.read(&at("f"), &v(), 0..4).await.unwrap());
    let error = remote.read(&at("circle"), &v(), 0..4).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
}
