//! The WebDAV remote against a server that means harm: names, sizes and answers without end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::support::liar::{Asked, Liar};
use crate::support::mount::{Mounted, dewfs, eventually, names};
use crate::support::servers::Server;
use dewfs::remote::webdav::{WebDavOptions, WebDavRemote};
use dewfs::remote::{ErrorKind, Locator, Name, Remote, RemotePath, Version};
use futures_util::TryStreamExt;

fn at(name: &str) -> Locator {
    Locator::at(RemotePath(vec![Name::new(name.as_bytes()).unwrap()]))
}

fn root() -> Locator {
    Locator::at(RemotePath::root())
}

fn open(url: &str) -> WebDavRemote {
    let mut options = WebDavOptions::new(url);
    // Far less than the 20 seconds in which it has to end.
    options.stall = Duration::from_secs(10);
    WebDavRemote::open(&options).unwrap()
}

fn entry(href: &str, props: &str) -> String {
    format!(
        "<d:response><d:href>{href}</d:href><d:propstat><d:prop>{props}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )
}

fn folder(href: &str) -> String {
    entry(href, "<d:resourcetype><d:collection/></d:resourcetype>")
}

fn file(href: &str, size: &str) -> String {
    entry(href, &format!("<d:getcontentlength>{size}</d:getcontentlength><d:getetag>v</d:getetag>"))
}

fn multistatus(inside: &str) -> String {
    let body = format!("<d:multistatus xmlns:d=\"DAV:\">{inside}</d:multistatus>");
    let length = body.len();
    format!(
        "HTTP/1.1 207 Multi-Status\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// A server whose root holds this, and which refuses every change.
async fn holding(entries: String) -> Liar {
    let listing = multistatus(&format!("{}{entries}", folder("/")));
    let own = multistatus(&folder("/"));
    Liar::start(move |asked: &Asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("PROPFIND", "/") if asked.headers.contains("depth: 0") => own.clone(),
        ("PROPFIND", "/") => listing.clone(),
        ("PROPFIND", _) => "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".into(),
        _ => "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".into(),
    })
    .await
}

/// Names, as a server writes them, that mean something else elsewhere.
fn odd(long: &str) -> [&str; 13] {
    [
        "..%2F..%2Fetc%2Fpasswd",
        "%2E%2E",
        "%2E",
        "%00",
        "line%0Abreak",
        "%1B%5B2J%1B%5Dtitle%07",
        // right to left override and isolate
        "%E2%80%AEfdp.exe",
        "%E2%81%A6x%E2%81%A9",
        "%FF%FE%FD",
        "%20",
        "-rf",
        "%2A",
        long,
    ]
}

/// What the kernel makes of it: no name breaks the listing of the others, none leads out of its folder.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_listed_and_stay_in_their_folder() {
    let long = "n".repeat(10_000);
    let odd = odd(&long);
    let entries = odd.map(|name| file(&format!("/{name}"), "4")).concat() + &file("/plain", "4");
    let liar = holding(entries).await;
    let url = liar.url.clone();
    let seen = tokio::task::spawn_blocking(move || {
        let nowhere = tempfile::tempdir().unwrap();
        let mount = Mounted::url(&url, nowhere.path(), &["-o", "timeout=2s"]);
        let entries = fs::read_dir(&mount.places.at).unwrap();
        let seen: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        for name in &seen {
            assert_eq!(fs::symlink_metadata(mount.path(name)).unwrap().len(), 4, "{name:?}");
        }
        let output = dewfs().arg("ls").arg(&mount.places.at).output().unwrap();
        assert!(output.status.success());
        let shown = output.stdout;
        assert!(!shown.contains(&0x1b), "escape sequences reach the terminal");
        seen
    });
    let seen = seen.await.unwrap();
    assert_eq!(seen.len(), odd.len() + 1, "{seen:?}");
    assert!(seen.iter().any(|name| name == "plain"));
    assert!(seen.iter().all(|name| name.len() <= 255 && name != ".." && name != "."));
}

/// A server with a folder in which there is one that holds these files, which gives and takes everything below that.
async fn giving(above: &'static str, files: Vec<String>) -> Liar {
    let inside = format!("{above}share");
    let all: String = files.iter().map(|path| file(path, "4")).collect();
    let (above_own, inside_own) = (folder(above), folder(&format!("{inside}/")));
    Liar::start(move |asked: &Asked| {
        let is_listed = !asked.headers.contains("depth: 0");
        let path = asked.path.trim_end_matches('/');
        match asked.method.as_str() {
            "PROPFIND" if format!("{path}/") == above => {
                let below = if is_listed { &inside_own } else { "" };
                multistatus(&format!("{above_own}{below}"))
            }
            "PROPFIND" if path == inside => {
                let below = if is_listed { &all } else { "" };
                multistatus(&format!("{inside_own}{below}"))
            }
            "PROPFIND" if files.contains(&asked.path) => multistatus(&file(&asked.path, "4")),
            "GET" if files.contains(&asked.path) => {
                let range = "Content-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\n0123";
                format!("HTTP/1.1 206 Part\r\nETag: \"v\"\r\n{range}")
            }
            "PUT" => "HTTP/1.1 201 Made\r\nETag: \"w\"\r\nContent-Length: 0\r\n\r\n".into(),
            // Full, as it says: so it is not tried what it can do.
            "MKCOL" => "HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n".into(),
            "MOVE" => "HTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n".into(),
            "DELETE" => "HTTP/1.1 204 Gone\r\n\r\n".into(),
            _ => "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".into(),
        }
    })
    .await
}

/// Whether a path leads out of a folder for anybody who reads it: a server that decodes first and then looks for dots as well.
fn leads_out(path: &str, folder: &str) -> bool {
    let is_dots = |part: &str| {
        let part = part.to_ascii_lowercase().replace("%2e", ".");
        part == "." || part == ".."
    };
    !format!("{path}/").starts_with(folder) || path.split('/').any(is_dots)
}

/// What programs do with such names asks for nothing outside of the folder.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_read_and_written_in_their_folder() {
    const FOLDER: &str = "/given/";
    assert!(leads_out("/given/%2E%2e/x", FOLDER) && leads_out("/givenx", FOLDER));
    assert!(!leads_out("/given/..%2Fx", FOLDER));
    let long = "n".repeat(10_000);
    let odd = odd(&long);
    let files = odd.iter().chain(&["plain"]).map(|name| format!("{FOLDER}share/{name}")).collect();
    let liar = giving(FOLDER, files).await;
    let url = format!("{}given/", liar.url);
    let count = odd.len() + 1;
    let asked = liar.asking();
    tokio::task::spawn_blocking(move || {
        let nowhere = tempfile::tempdir().unwrap();
        let mount = Mounted::url(&url, nowhere.path(), &["-o", "timeout=2s"]);
        let entries = fs::read_dir(mount.path("share")).unwrap();
        let seen: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(seen.len(), count, "{seen:?}");
        let mut right = 0;
        for name in &seen {
            match fs::read(mount.path("share").join(name)) {
                Ok(content) => {
                    assert_eq!(content, b"0123", "{name:?}");
                    right += 1;
                }
                Err(error) => println!("{name:?}: {error}"),
            }
        }
        assert!(right >= 9, "only {right} of them can be read");
        for name in &seen {
            if let Err(error) = fs::write(mount.path("share").join(name), b"4567") {
                println!("{name:?} is not written: {error}");
            }
        }
        // Under a name of its own first, which this server then knows nothing of.
        let is_sent =
            |name: &str| asked().iter().any(|one| one.method == "PUT" && one.path.ends_with(name));
        for name in ["plain", "-rf", "line%0Abreak", "%2A", "%20", "%FF%FE%FD"] {
            eventually(&format!("{name} to be sent"), || is_sent(name));
        }
        let all = asked();
        println!("{} requests", all.len());
        for one in &all {
            assert!(!leads_out(&one.path, FOLDER), "{one:?}");
            let to = one.headers.lines().find_map(|line| line.strip_prefix("destination: "));
            if let Some(to) = to {
                let path =
                    to.split_once("://").map_or(to, |(_, rest)| &rest[rest.find('/').unwrap()..]);
                assert!(!leads_out(path, FOLDER), "{one:?}");
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn sizes_that_are_none_are_no_listing() {
    for size in
        ["-1", "+4", "18446744073709551616", "1e9", "0x10", "", "9223372036854775808", "4 4"]
    {
        let liar = holding(file("/f", size)).await;
        let error = open(&liar.url).list(&root(), None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt, "{size}");
    }
}

/// The largest that a kernel can be told is shown; nothing is set aside for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_any_size_is_shown_and_read_as_far_as_it_goes() {
    let largest = i64::MAX.to_string();
    let liar = holding(file("/f", &largest) + &file("/h", &largest) + &file("/g", "4")).await;
    let url = liar.url.clone();
    tokio::task::spawn_blocking(move || {
        let nowhere = tempfile::tempdir().unwrap();
        let mount = Mounted::url(&url, nowhere.path(), &["-o", "timeout=2s"]);
        assert_eq!(names(&mount.places.at), ["f", "g", "h"]);
        let about = fs::metadata(mount.path("f")).unwrap();
        assert_eq!(about.size(), i64::MAX.unsigned_abs());
        let opened = fs::File::open(mount.path("f")).unwrap_err();
        assert_eq!(opened.raw_os_error(), Some(libc::EFBIG), "its blocks have no numbers");
        assert_eq!(names(&mount.places.at), ["f", "g", "h"], "the mount is alive");
    })
    .await
    .unwrap();
}

/// Writes `head` and then `more` again and again to everybody who asks, until they go away; counts what it got rid of.
fn endless(head: &'static str, more: &'static str) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let _asked = stream.read(&mut [0; 4096]);
                let piece = more.repeat((64 << 10) / more.len() + 1);
                let mut gone = stream.write_all(head.as_bytes());
                while gone.is_ok() {
                    gone = stream.write_all(piece.as_bytes());
                }
            });
        }
    });
    url
}

const LISTING: &str =
    "HTTP/1.1 207 Multi-Status\r\nContent-Type: text/xml\r\n\r\n<d:multistatus xmlns:d=\"DAV:\">";

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_given_up() {
    for (head, more) in [
        ("HTTP/1.1 207 Multi-Status\r\n", "X-More: of the same\r\n"),
        ("HTTP/1.1 207 Multi-Status\r\nX-One: ", "long"),
        ("HTTP/1.1 207 ", "Multi"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        (LISTING, "<d:response>"),
        (LISTING, "<d:response-of-a-very-long-name"),
        (LISTING, "text"),
        (LISTING, "<!-- x"),
        (LISTING, "&amp;"),
    ] {
        let start = Instant::now();
        let remote = open(&endless(head, more));
        let outcome =
            tokio::time::timeout(Duration::from_secs(20), remote.list(&root(), None)).await;
        let error = outcome.unwrap_or_else(|_| panic!("no end of {head:?} {more:?}")).unwrap_err();
        let kinds = [ErrorKind::Offline, ErrorKind::Corrupt];
        assert!(kinds.contains(&error.kind), "{head:?} {more:?}: {error}");
        println!("{more:?}: {error} after {:?}", start.elapsed());
    }
}

/// Nothing is unpacked: a few bytes that would be gigabytes stay a few bytes.
#[tokio::test]
async fn nothing_is_unpacked() {
    let packed = "HTTP/1.1 206 P\r\nETag: \"v\"\r\nContent-Encoding: gzip\r\nContent-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\n\x1f\x1b\x08\x01";
    let liar = Liar::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", _) => packed.into(),
        // The file itself is packed: it is as long as what comes.
        (_, "/f") => multistatus(&file("/f", "4")),
        _ => multistatus(&folder("/"))
            .replace("Content-Type", "Content-Encoding: gzip\r\nContent-Type"),
    })
    .await;
    let remote = open(&liar.url);
    let stream = remote.read(&at("f"), &Version("e:v".into()), 0..4).await.unwrap();
    let bytes: Vec<bytes::Bytes> = stream.bytes.try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"\x1f\x1b\x08\x01");
    // said to be packed and is not: taken as it comes
    assert!(remote.list(&root(), None).await.unwrap().entries.is_empty());
    assert!(liar.asked().iter().all(|asked| asked.headers.contains("accept-encoding: identity")));
}

/// What was asked for under encryption does not come without it, and the password stays where it is.
#[tokio::test]
async fn no_redirect_leaves_encryption() {
    let server = Server::start_guarded("user", "right");
    let mut options = WebDavOptions::new(server.url()).basic("user", "right");
    options.ca_file = Some(server.ca_file());
    let remote = WebDavRemote::open(&options).unwrap();
    let inside = Locator::at(RemotePath(
        [&b"downgraded"[..], b"f"].map(|name| Name::new(name).unwrap()).into(),
    ));
    let error = remote.read(&inside, &Version("e:v".into()), 0..4).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("not encrypted"), "{error}");
}
