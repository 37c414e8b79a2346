//! Defects met on real servers, each with the answers that brought it about.

use super::*;

#[tokio::test]
async fn the_servers_clock_is_known_from_its_answers() {
    let answer = "HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n";
    let liar = Liar::start(move |_| answer.to_owned()).await;
    let remote = open(&liar);
    assert_eq!(remote.clock_ahead(), None);
    drop(remote.stat(&at("f")).await);
    let years = remote.clock_ahead().unwrap() / (365 * 24 * 3600);
    assert!(years < -25, "{years}");
}

/// A server whose tags are weak for ever had no version to rely on: nothing was ever sent a second time.
#[tokio::test]
async fn regression_tags_that_stay_weak_are_sure_once_they_are_old() {
    let props = |modified: &str| {
        format!(
            "<d:resourcetype/><d:getcontentlength>5</d:getcontentlength><d:getetag>W/\"5-1\"</d:getetag><d:getlastmodified>{modified}</d:getlastmodified>"
        )
    };
    for (modified, settled) in [("Mon, 12 Jan 2026 09:25:56 GMT", true), ("", false)] {
        let answer = multistatus(&entry("/f", &props(modified)));
        let liar = Liar::start(move |_| answer.clone()).await;
        let seen = open(&liar).stat(&at("f")).await.unwrap().unwrap();
        assert_eq!(seen.settled, settled, "{modified}");
    }
}

/// Reads that are sent on to a store with tags of its own were taken for another version, and never read.
#[tokio::test]
async fn regression_reads_are_sent_on_to_a_store_with_tags_of_its_own() {
    let part = "HTTP/1.1 206 Partial Content\r\nETag: \"stored\"\r\nContent-Range: bytes 2-5/9\r\nContent-Length: 4\r\n\r\n2345";
    let store = Liar::start(move |_| part.to_owned()).await;
    for (version, expected) in
        [("v", Ok("2345".to_owned())), ("w", Err(ErrorKind::VersionMismatch))]
    {
        let to = store.url.clone();
        let entry = multistatus(&entry(
            "/f",
            &format!(
                "<d:resourcetype/><d:getcontentlength>9</d:getcontentlength><d:getetag>\"{version}\"</d:getetag>"
            ),
        ));
        let liar = Liar::start(move |asked| match asked.method.as_str() {
            "GET" => {
                format!("HTTP/1.1 302 Found\r\nLocation: {to}blob\r\nContent-Length: 0\r\n\r\n")
            }
            _ => entry.clone(),
        })
        .await;
        let read = async {
            let stream = open(&liar).read(&at("f"), &v(), 2..6).await.map_err(|e| e.kind)?;
            let bytes: Vec<bytes::Bytes> = stream.bytes.try_collect().await.map_err(|e| e.kind)?;
            Ok(String::from_utf8(bytes.concat()).unwrap())
        };
        assert_eq!(read.await, expected);
    }
}

/// What a proxy compressed on its way was taken for the content.
#[tokio::test]
async fn regression_compressed_answers_are_not_the_content() {
    let props =
        "<d:resourcetype/><d:getcontentlength>9</d:getcontentlength><d:getetag>\"v\"</d:getetag>";
    let answers = [
        ("Transfer-Encoding: chunked\r\n\r\n9\r\ncompressd\r\n0\r\n\r\n", false),
        ("Content-Length: 8\r\n\r\ncompress", false),
        // a compressed file that the server labels as such
        ("Content-Length: 9\r\n\r\n012345678", true),
    ];
    for (rest, is_content) in answers {
        let listed = multistatus(&entry("/f", props));
        let liar = Liar::start(move |asked| match asked.method.as_str() {
            "GET" => format!("HTTP/1.1 200 OK\r\nETag: \"v\"\r\nContent-Encoding: gzip\r\n{rest}"),
            _ => listed.clone(),
        })
        .await;
        let outcome = open(&liar).read(&at("f"), &v(), 2..6).await;
        assert_eq!(
            outcome.map(drop).map_err(|error| error.kind),
            if is_content { Ok(()) } else { Err(ErrorKind::Corrupt) }
        );
    }
}

/// A server that keeps this, and takes its time for changes.
async fn slow_to_commit(put: Duration, moves: Duration) -> Liar {
    let there = Mutex::new(HashMap::new());
    Liar::start(move |asked| {
        let mut there = there.lock().unwrap();
        let header = |name: &str| {
            let line = asked.headers.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(": ")?.1.trim().to_owned())
        };
        match asked.method.as_str() {
            "PUT" => {
                std::thread::sleep(put);
                there.insert(asked.path.to_lowercase(), header("content-length").unwrap());
                "HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n".into()
            }
            "MOVE" => {
                std::thread::sleep(moves);
                let size = there.remove(&asked.path.to_lowercase()).unwrap();
                let to = header("destination").unwrap();
                there.insert(format!("/{}", to.rsplit('/').next().unwrap()), size);
                "HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n".into()
            }
            _ if asked.path == "/" => {
                multistatus(&entry("/", "<d:resourcetype><d:collection/></d:resourcetype>"))
            }
            _ => match there.get(&asked.path.to_lowercase()) {
                Some(size) => multistatus(&entry(
                    &asked.path,
                    &format!("<d:resourcetype/><d:getcontentlength>{size}</d:getcontentlength><d:getetag>\"v\"</d:getetag>"),
                )),
                None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
            },
        }
    })
    .await
}

fn large() -> Upload {
    let bytes: bytes::Bytes = vec![7; 3 << 20].into();
    let digest = Digest { size: bytes.len() as u64, hash: *blake3::hash(&bytes).as_bytes() };
    // With somebody told it goes out piece by piece.
    let progress: Option<Arc<dyn Fn(u64) + Send + Sync>> = Some(Arc::new(|_| {}));
    Upload { body: Body::Memory(bytes), digest, progress, ..upload(b"") }
}

/// A server that had all of a large file, and was writing it down for longer than nothing may move, was sent it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn regression_what_was_sent_is_waited_for() {
    let liar = slow_to_commit(Duration::from_secs(3), Duration::from_secs(2)).await;
    let mut options = WebDavOptions::new(&liar.url);
    options.stall = Duration::from_secs(1);
    let remote = WebDavRemote::open(&options).unwrap();
    let seen = remote.write(&at("f"), large(), Expect::Absent).await.unwrap();
    assert_eq!(seen.size, 3 << 20);
    let puts = liar.asked().iter().filter(|asked| asked.method == "PUT").count();
    assert_eq!(puts, 1);
}

/// While bytes are still to go, nothing moving is what it was: a dead connection.
#[tokio::test]
async fn a_server_that_stops_reading_is_given_up() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            if head.starts_with(b"PUT") {
                held.push(stream);
                continue;
            }
            let answer = match head.starts_with(b"PROPFIND / ") {
                true => {
                    multistatus(&entry("/", "<d:resourcetype><d:collection/></d:resourcetype>"))
                }
                false => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
            };
            let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mut options = WebDavOptions::new(&url);
    options.stall = Duration::from_secs(1);
    let remote = WebDavRemote::open(&options).unwrap();
    // More than any socket's buffers hold; all of it would be waited for a minute.
    let mut much = large();
    much.digest.size = 64 << 20;
    much.body = Body::Memory(vec![7; 64 << 20].into());
    let begun = std::time::Instant::now();
    let error = remote.write(&at("f"), much, Expect::Absent).await.unwrap_err();
    assert!(error.to_string().contains("no progress for 1s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    serving.abort();
}

/// Of several requests that the old password was sent with, only the first was asked again with the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn regression_all_requests_go_on_with_a_new_password() {
    let together = std::sync::Barrier::new(4);
    let new = format!("authorization: basic {}", STANDARD.encode("me:new")).to_lowercase();
    let liar = Liar::start(move |asked| {
        if asked.headers.contains(&new) {
            return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into();
        }
        together.wait();
        "HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n".into()
    })
    .await;
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let mut options = WebDavOptions::new(&liar.url);
    options.credentials = Some(Arc::new(move || {
        let first = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        let password = if first { "old" } else { "new" };
        Some(Credentials::Basic { user: "me".into(), password: password.to_owned().into() })
    }));
    let remote = WebDavRemote::open(&options).unwrap();
    let file = at("f");
    let ask = || remote.stat(&file);
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    for answer in [a, b, c, d] {
        assert!(answer.unwrap().is_none());
    }
}

/// A gateway's page of 200, without length and version, was taken for the content of every file and part that ends within it.
#[tokio::test]
async fn regression_a_page_is_not_the_content() {
    for (length, range, read) in [
        // As long as the file: nothing tells them apart but what is in it.
        (9, 0..9, Ok("<html></h".to_owned())),
        (9, 2..6, Ok("tml>".to_owned())),
        (8, 0..8, Err(ErrorKind::Corrupt)),
        (8, 2..6, Err(ErrorKind::Corrupt)),
        (12, 0..4, Err(ErrorKind::Corrupt)),
        (12, 2..6, Err(ErrorKind::Corrupt)),
    ] {
        let liar = Liar::start(move |asked| match asked.method.as_str() {
            "GET" => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<html>\r\n3\r\n</h\r\n0\r\n\r\n".into(),
            _ => multistatus(&entry(
                "/f",
                &format!("<d:getcontentlength>{length}</d:getcontentlength><d:getetag>\"v\"</d:getetag>"),
            )),
        })
        .await;
        let shown = format!("{range:?} of {length}");
        assert_eq!(reads_of(&open(&liar), range).await, read, "{shown}");
    }
}

#[tokio::test]
async fn an_answer_that_tells_no_version_is_asked_for_it() {
    let liar = Liar::start(|asked| match asked.method.as_str() {
        "GET" => {
            "HTTP/1.1 206 P\r\nContent-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\n0123".into()
        }
        _ => multistatus(&entry(
            "/f",
            "<d:getcontentlength>9</d:getcontentlength><d:getetag>w</d:getetag>",
        )),
    })
    .await;
    let error = open(&liar).read(&at("f"), &v(), 0..4).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionMismatch);
}
