//! The WebDAV remote against servers that lie, refuse and point elsewhere.

mod elsewhere;
mod found;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::support::liar::{Asked, Liar};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dewfs::remote::webdav::{Credentials, WebDavOptions, WebDavRemote};
use dewfs::remote::{
    AttemptTag, Body, Digest, ErrorKind, Expect, Locator, Name, Remote, RemotePath, Upload,
    Verdict, Version,
};
use futures_util::TryStreamExt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn at(name: &str) -> Locator {
    Locator::at(RemotePath(vec![Name::new(name.as_bytes()).unwrap()]))
}

fn root() -> Locator {
    Locator::at(RemotePath::root())
}

/// Who answers does so at once; the rest is for a machine that stands still for a moment.
fn open(liar: &Liar) -> WebDavRemote {
    patient(&liar.url, Duration::from_secs(10))
}

fn patient(url: &str, stall: Duration) -> WebDavRemote {
    WebDavRemote::open(&WebDavOptions { stall, ..WebDavOptions::new(url) }).unwrap()
}

fn v() -> Version {
    Version("e:v".into())
}

const PART: &str = "HTTP/1.1 206 Partial Content\r\nETag: \"v\"\r\n";

/// What reading bytes 2 to 6 of a file of version `v` gives when this is the answer.
async fn reads(answer: &'static str) -> Result<String, ErrorKind> {
    let liar = Liar::start(move |_| answer.to_owned()).await;
    reads_of(&open(&liar), 2..6).await
}

async fn reads_of(remote: &WebDavRemote, range: Range<u64>) -> Result<String, ErrorKind> {
    let length = range.end - range.start;
    let stream = remote.read(&at("f"), &v(), range).await.map_err(|e| e.kind)?;
    assert_eq!(stream.length, length);
    let bytes: Vec<bytes::Bytes> = stream.bytes.try_collect().await.map_err(|e| e.kind)?;
    Ok(String::from_utf8(bytes.concat()).unwrap())
}

#[tokio::test]
async fn an_honest_part_and_an_honest_whole_are_read() {
    let part = "HTTP/1.1 206 Partial Content\r\nETag: \"v\"\r\nContent-Range: bytes 2-5/9\r\nContent-Length: 4\r\n\r\n2345";
    assert_eq!(reads(part).await, Ok("2345".into()));
    let part = "HTTP/1.1 206 Partial Content\r\nETag: W/\"v\"\r\nContent-Range: bytes 2-5/*\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n23\r\n2\r\n45\r\n0\r\n\r\n";
    assert_eq!(reads(part).await, Ok("2345".into()));
    let whole = "HTTP/1.1 200 OK\r\nETag: \"v\"\r\nContent-Length: 9\r\n\r\n012345678";
    assert_eq!(reads(whole).await, Ok("2345".into()));
}

#[tokio::test]
async fn a_server_that_gives_wholes_is_said_to_have_no_ranges() {
    let liar = Liar::start(|_| {
        "HTTP/1.1 200 OK\r\nETag: \"v\"\r\nContent-Length: 9\r\n\r\n012345678".into()
    })
    .await;
    let remote = open(&liar);
    assert!(remote.capabilities().ranges);
    drop(remote.read(&at("f"), &v(), 0..9).await.unwrap());
    assert!(remote.capabilities().ranges, "all was asked for");
    drop(remote.read(&at("f"), &v(), 2..6).await.unwrap());
    assert!(!remote.capabilities().ranges);
}

/// S14 "An answer of the wrong length, of another range, or cut short gives the right bytes after another try, or an
/// error; never short, shifted or zero-filled data."
#[tokio::test]
async fn wrong_parts_are_never_read() {
    for (answer, kind) in [
        // another range, no range, another length, another total
        (
            "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Range: bytes 1-4/9\r\nContent-Length: 4\r\n\r\n1234",
            ErrorKind::Corrupt,
        ),
        (
            "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Range: bytes 2-4/9\r\nContent-Length: 3\r\n\r\n234",
            ErrorKind::Corrupt,
        ),
        ("HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Length: 4\r\n\r\n2345", ErrorKind::Corrupt),
        (
            "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Range: bytes 2-5/4\r\nContent-Length: 4\r\n\r\n2345",
            ErrorKind::Corrupt,
        ),
        (
            "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Range: bytes 2-5/9\r\nContent-Length: 5\r\n\r\n23456",
            ErrorKind::Corrupt,
        ),
        // too short and too long
        (
            "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Range: bytes 2-5/9\r\nContent-Length: 4\r\n\r\n23",
            ErrorKind::Offline,
        ),
        (
            "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Range: bytes 2-5/9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n23\r\n0\r\n\r\n",
            ErrorKind::Corrupt,
        ),
        (
            "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Range: bytes 2-5/9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n23456\r\n0\r\n\r\n",
            ErrorKind::Corrupt,
        ),
        (
            "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Range: bytes 2-5/9\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n2345\r\n1\r\n6\r\n0\r\n\r\n",
            ErrorKind::Corrupt,
        ),
        ("HTTP/1.1 200 OK\r\nETag: \"v\"\r\nContent-Length: 5\r\n\r\n01234", ErrorKind::Corrupt),
        ("HTTP/1.1 200 OK\r\nETag: \"v\"\r\nConnection: close\r\n\r\n01234", ErrorKind::Corrupt),
        // another version, refusals
        (
            "HTTP/1.1 206 P\r\nETag: \"w\"\r\nContent-Range: bytes 2-5/9\r\nContent-Length: 4\r\n\r\n2345",
            ErrorKind::VersionMismatch,
        ),
        (
            "HTTP/1.1 200 OK\r\nETag: \"w\"\r\nContent-Length: 9\r\n\r\n012345678",
            ErrorKind::VersionMismatch,
        ),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ErrorKind::NotFound),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", ErrorKind::Denied),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", ErrorKind::Offline),
        ("HTTP/1.1 204 No Content\r\n\r\n", ErrorKind::Other),
        ("SSH-2.0-OpenSSH\r\n", ErrorKind::Offline),
        ("", ErrorKind::Offline),
    ] {
        assert_eq!(reads(answer).await, Err(kind), "{answer}");
    }
}

#[tokio::test]
async fn a_version_of_time_and_size_is_compared_with_the_answers_own() {
    let version = Version("t:6b0224e5-9".into());
    for (answer, kind) in [
        ("Last-Modified: Sat, 21 Nov 2026 23:10:29 GMT\r\nContent-Range: bytes 0-3/9\r\n", None),
        (
            "Last-Modified: Sat, 21 Nov 2026 23:10:30 GMT\r\nContent-Range: bytes 0-3/9\r\n",
            Some(ErrorKind::VersionMismatch),
        ),
        (
            "Last-Modified: Sat, 21 Nov 2026 23:10:29 GMT\r\nContent-Range: bytes 0-3/8\r\n",
            Some(ErrorKind::VersionMismatch),
        ),
    ] {
        let liar = Liar::start(move |_| {
            format!("HTTP/1.1 206 P\r\nETag: \"any\"\r\n{answer}Content-Length: 4\r\n\r\n0123")
        })
        .await;
        let read = open(&liar).read(&at("f"), &version, 0..4).await;
        assert_eq!(read.err().map(|e| e.kind), kind);
    }
}

#[tokio::test]
async fn waiting_is_told_in_seconds_or_as_a_date() {
    let until = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
    for (status, header, least, most) in [
        ("429 Too Many Requests", "Retry-After: 7\r\n".to_owned(), 7, 7),
        ("503 Busy", format!("Retry-After: {until}\r\n"), 85, 91),
        ("429 Too Many Requests", "Retry-After: 99999999\r\n".to_owned(), 86_400, 86_400),
        ("423 Locked", "Retry-After: 3\r\n".to_owned(), 3, 3),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\n\r\n");
        let liar = Liar::start(move |_| answer.clone()).await;
        let error = open(&liar).stat(&at("f")).await.unwrap_err();
        let Verdict::After(wait) = error.kind.verdict() else { panic!("{error:?}") };
        assert!((least..=most).contains(&wait.as_secs()), "{status} {wait:?}");
    }
}

#[tokio::test]
async fn a_listing_counts_only_when_it_is_a_whole_multistatus_about_the_folder() {
    let folder = entry("/", "<d:resourcetype><d:collection/></d:resourcetype>");
    let file = entry("/a", "<d:getcontentlength>9</d:getcontentlength>");
    let whole = multistatus(&format!("{folder}{file}"));
    let cut = whole.replace("</d:multistatus>", "").replace("Content-Length", "X-Length");
    let outside = entry("/../../etc/passwd", "<d:getcontentlength>1</d:getcontentlength>");
    let deeper = entry("/a/b", "<d:getcontentlength>1</d:getcontentlength>");
    let hidden = entry("/.dewfs-tmp.m.1.2--x", "<d:getcontentlength>1</d:getcontentlength>");
    for (answer, kind) in [
        (whole.clone(), None),
        (multistatus(&format!("{folder}{file}{outside}{deeper}{hidden}{file}")), None),
        (cut, Some(ErrorKind::Corrupt)),
        (whole.replace("207 Multi-Status", "200 OK"), Some(ErrorKind::Other)),
        (whole.replace("text/xml", "text/html"), Some(ErrorKind::Corrupt)),
        (whole.replace("</d:multistatus>", ""), Some(ErrorKind::Offline)),
        (multistatus(&file), Some(ErrorKind::Corrupt)),
        (multistatus(&folder.replace("<d:collection/>", "")), Some(ErrorKind::NotFound)),
        (multistatus(&format!("{folder}{}", entry("/a", ""))), Some(ErrorKind::Corrupt)),
    ] {
        let shown = answer.clone();
        let liar = Liar::start(move |_| answer.clone()).await;
        let listed = open(&liar).list(&root(), None).await;
        match (listed, kind) {
            (Ok(page), None) => {
                assert_eq!(page.entries.len(), 1, "{shown}");
                assert_eq!(page.entries[0].name.as_bytes(), b"a");
            }
            (listed, kind) => {
                assert_eq!(listed.map(|_| ()).unwrap_err().kind, kind.unwrap(), "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn hostile_names_are_shown_under_names_that_can_be_read_back() {
    let names = ["a%2Fb", "%00", "%2E%2E", "x%0Ay", "%25dewfs%25", "%FF%FE"];
    let mut body = entry("/", "<d:resourcetype><d:collection/></d:resourcetype>");
    for name in names {
        body += &entry(
            &format!("/{name}"),
            "<d:getcontentlength>4</d:getcontentlength><d:getetag>v</d:getetag>",
        );
    }
    let listing = multistatus(&body);
    let liar = Liar::start(move |asked| match asked.method.as_str() {
        "PROPFIND" => listing.clone(),
        _ => format!("{PART}Content-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\n0123"),
    })
    .await;
    let remote = open(&liar);
    let page = remote.list(&root(), None).await.unwrap();
    assert_eq!(page.entries.len(), names.len());
    for listed in page.entries {
        assert!(!listed.name.as_bytes().contains(&b'/'));
        let at = Locator {
            path: RemotePath(vec![listed.name.clone()]),
            id: None,
            extra: listed.entry.extra.clone(),
        };
        match remote.read(&at, &v(), 0..4).await {
            Ok(_) => {
                let asked = liar.asked().pop().unwrap().path;
                let known = names.iter().any(|n| asked.eq_ignore_ascii_case(&format!("/{n}")));
                assert!(known, "{asked}");
            }
            Err(error) => assert_eq!(error.kind, ErrorKind::NameRejected, "{:?}", listed.name),
        }
    }
}

/// A name longer than any here stands under a shorter one, also in the middle of a path, and also for a client that has not
/// listed anything yet.
#[tokio::test]
async fn a_path_through_a_folder_of_an_unreadable_name_is_the_right_path() {
    let long = "n".repeat(300);
    let inside = format!("/{long}");
    let listing = [
        multistatus(
            &(entry("/", "<d:resourcetype><d:collection/></d:resourcetype>")
                + &entry(&inside, "<d:resourcetype><d:collection/></d:resourcetype>")),
        ),
        multistatus(&entry(
            &format!("{inside}/f"),
            "<d:getcontentlength>4</d:getcontentlength><d:getetag>v</d:getetag>",
        )),
        multistatus(&entry(&inside, "<d:resourcetype><d:collection/></d:resourcetype>")),
    ];
    let liar = Liar::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("PROPFIND", "/") => listing[0].clone(),
        ("PROPFIND", path) if path == format!("{inside}/f") => listing[1].clone(),
        ("PROPFIND", path) if path.trim_end_matches('/') == inside => listing[2].clone(),
        ("GET", path) if path == format!("{inside}/f") => part(asked),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
    })
    .await;
    let shown = open(&liar).list(&root(), None).await.unwrap().entries.remove(0).name;
    assert_eq!(shown.as_bytes().len(), 255);
    let fresh = open(&liar);
    let file = Locator::at(RemotePath(vec![shown.clone(), Name::new(&b"f"[..]).unwrap()]));
    assert_eq!(fresh.stat(&file).await.unwrap().unwrap().size, 4);
    drop(fresh.read(&file, &v(), 0..4).await.unwrap());
    let folder = Locator::at(RemotePath(vec![shown.clone()]));
    assert!(fresh.list(&folder, None).await.unwrap().entries.is_empty());
    let listings = |asked: &Asked| asked.path == "/";
    assert_eq!(liar.asked().iter().filter(|asked| listings(asked)).count(), 2, "looked for once");
    // what no listing shows so is a name like any other
    let text = String::from_utf8_lossy(shown.as_bytes()).replace("nnn", "mmm");
    let other = Locator::at(RemotePath(vec![Name::new(text.as_bytes()).unwrap()]));
    assert_eq!(fresh.stat(&other).await.unwrap(), None);
}

/// Answers one request on the first connection and lets the next one on it go without an answer.
#[tokio::test]
async fn a_look_on_a_connection_that_was_just_closed_is_sent_again_and_a_change_is_not() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let found = multistatus(&entry("/f", "<d:getcontentlength>1</d:getcontentlength>"));
    let server = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            for is_answered in [true, false] {
                let mut bytes = Vec::new();
                while !bytes.ends_with(b"</d:propfind>") && !bytes.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                        break;
                    }
                }
                seen.push(String::from_utf8_lossy(&bytes).split(' ').next().unwrap().to_owned());
                if is_answered {
                    stream.write_all(found.as_bytes()).await.unwrap();
                }
            }
            if seen.len() >= 4 {
                return seen;
            }
        }
        seen
    });
    let remote = WebDavRemote::open(&WebDavOptions::new(&url)).unwrap();
    assert!(remote.stat(&at("f")).await.unwrap().is_some());
    assert!(remote.stat(&at("f")).await.unwrap().is_some(), "asked again on another connection");
    let error = remote.make_folder(&at("g")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Offline, "{error}");
    assert!(error.kind.is_unanswered());
    drop(server);
}

#[tokio::test]
async fn what_is_no_webdav_folder_is_named_at_the_probe() {
    for (answer, kind, says) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ErrorKind::Unsupported, "not as a WebDAV"),
        ("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", ErrorKind::Unsupported, "not as a WebDAV"),
        ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", ErrorKind::NotFound, "check the path"),
    ] {
        let liar = Liar::start(move |_| answer.to_owned()).await;
        let error = open(&liar).probe().await.unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(
            error.to_string().contains(says) && error.to_string().contains(&liar.url),
            "{error}"
        );
    }
    let gone = Liar::start(part).await.url.clone();
    let error = WebDavRemote::open(&WebDavOptions::new(&gone)).unwrap().probe().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Offline);
    assert!(error.to_string().contains(&gone), "{error}");
    let liar = Liar::start(part).await;
    let https = liar.url.replace("http:", "https:");
    let remote = patient(&https, Duration::from_millis(300));
    let error = remote.probe().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Offline, "{error}");
}

#[tokio::test]
async fn a_server_that_only_reads_is_not_writable() {
    let liar = Liar::start(|asked| match asked.method.as_str() {
        "PROPFIND" => multistatus(&entry("/", "<d:resourcetype><d:collection/></d:resourcetype>")),
        _ => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".into(),
    })
    .await;
    let found = open(&liar).probe().await.unwrap();
    assert!(!found.writable);
}

#[tokio::test]
async fn silence_ends_by_itself() {
    let liar = Liar::start(|_| String::new()).await;
    let error =
        patient(&liar.url, Duration::from_millis(300)).list(&root(), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Offline);
    assert!(error.to_string().contains("no progress"), "{error}");
}

fn upload(bytes: &'static [u8]) -> Upload {
    Upload {
        body: Body::Memory(bytes.into()),
        digest: Digest { size: bytes.len() as u64, hash: *blake3::hash(bytes).as_bytes() },
        mtime: None,
        mode: None,
        extended: Default::default(),
        tag: AttemptTag { mount: "m".into(), item: 1, nonce: 2 },
        still_whole: None,
        pace: None,
        progress: None,
    }
}

fn entry(href: &str, props: &str) -> String {
    format!(
        "<d:response><d:href>{href}</d:href><d:propstat><d:prop>{props}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )
}

fn multistatus(inside: &str) -> String {
    let body = format!("<d:multistatus xmlns:d=\"DAV:\">{inside}</d:multistatus>");
    let length = body.len();
    format!(
        "HTTP/1.1 207 Multi-Status\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn part(_: &Asked) -> String {
    format!("{PART}Content-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\n0123")
}
