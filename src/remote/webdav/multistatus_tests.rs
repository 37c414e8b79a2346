#![allow(clippy::unwrap_used)]

use std::io::{self, BufRead, Cursor, Read};

use super::{Bounded, Response, parse};
use crate::remote::ErrorKind;
use crate::remote::webdav::failure::Outcome;

/// Gives a text in small pieces and refuses pieces of XML longer than `most`.
struct Text<'t> {
    cursor: Cursor<&'t [u8]>,
    most: usize,
    left: usize,
}

impl Bounded for Text<'_> {
    fn refill(&mut self) {
        self.left = self.most;
    }
}

impl Read for Text<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cursor.read(buffer)
    }
}

impl BufRead for Text<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let ready = self.cursor.fill_buf()?;
        if self.left == 0 && !ready.is_empty() {
            return Err(io::Error::other("too long"));
        }
        Ok(&ready[..ready.len().min(7).min(self.left)])
    }

    fn consume(&mut self, amount: usize) {
        self.cursor.consume(amount);
        self.left -= amount;
    }
}

fn read(text: &str) -> Outcome<Vec<Response>> {
    let mut found = Vec::new();
    let source = Text { cursor: Cursor::new(text.as_bytes()), most: 65_536, left: 65_536 };
    parse(source, &mut |response| {
        found.push(response);
        Ok(())
    })?;
    Ok(found)
}

fn corrupt(text: &str) -> String {
    let failure = read(text).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Corrupt, "{failure}");
    failure.why
}

#[test]
fn an_answer_in_the_style_of_nginx_is_read() {
    let found = read(
        r#"<?xml version="1.0" encoding="utf-8" ?>
<D:multistatus xmlns:D="DAV:">
<D:response>
<D:href>/</D:href>
<D:propstat>
<D:prop>
<D:getlastmodified>Sat, 21 Nov 2026 23:10:29 GMT</D:getlastmodified>
<D:resourcetype><D:collection/></D:resourcetype>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
</D:response>
<D:response>
<D:href>/a%25b.txt</D:href>
<D:propstat>
<D:prop>
<D:getcontentlength>3</D:getcontentlength>
<D:resourcetype></D:resourcetype>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
</D:response>
</D:multistatus>
"#,
    )
    .unwrap();
    assert_eq!(found.len(), 2);
    assert!(found[0].props.collection && !found[1].props.collection);
    assert_eq!(found[1].href, "/a%25b.txt");
    assert_eq!(found[1].props.length.as_deref(), Some("3"));
    assert_eq!(found[1].props.etag, None);
}

#[test]
fn an_answer_in_the_style_of_apache_is_read() {
    let found = read(
        r#"<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:" xmlns:ns0="DAV:">
<D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/" xmlns:g0="DAV:">
<D:href>/dir/</D:href>
<D:propstat>
<D:prop>
<lp1:resourcetype><D:collection/></lp1:resourcetype>
<lp1:getetag>W/"1000-660d17782e4be"</lp1:getetag>
</D:prop>
<D:status>HTTP/1.1 200 OK</D:status>
</D:propstat>
<D:propstat>
<D:prop>
<g0:getcontentlength/>
</D:prop>
<D:status>HTTP/1.1 404 Not Found</D:status>
</D:propstat>
</D:response>
</D:multistatus>"#,
    )
    .unwrap();
    assert!(found[0].props.collection);
    assert_eq!(found[0].props.etag.as_deref(), Some("W/\"1000-660d17782e4be\""));
    assert_eq!(found[0].props.length, None);
}

#[test]
fn an_answer_in_the_style_of_lighttpd_and_rclone_is_read() {
    let found = read(
        r#"<?xml version="1.0" encoding="UTF-8"?><D:multistatus xmlns:D="DAV:" xmlns:ns0="urn:uuid:c2f41010-65b3-11d1-a29f-00aa00c14882/"><D:response><D:href>http://h/x%20y</D:href><D:propstat><D:prop><D:resourcetype></D:resourcetype><D:getcontentlength ns0:dt="int">3</D:getcontentlength><D:getetag>"18ea"</D:getetag></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat><D:propstat><D:prop><D:getetag></D:getetag></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response></D:multistatus>"#,
    )
    .unwrap();
    assert_eq!(found[0].props.length.as_deref(), Some("3"));
    assert_eq!(
        found[0].props.etag.as_deref(),
        Some("\"18ea\""),
        "what is not there takes nothing away"
    );
}

#[test]
fn an_answer_in_the_style_of_nextcloud_is_read() {
    let found = read(
        r#"<?xml version="1.0"?>
<d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" xmlns:oc="http://owncloud.org/ns"><d:response><d:href>/remote.php/dav/files/u/%C3%A4%20&amp;&#x20;b/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype><d:getetag>&quot;65a&quot;</d:getetag><oc:fileid>42</oc:fileid><oc:permissions>RGDNVCK</oc:permissions><d:quota-available-bytes>-3</d:quota-available-bytes></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>"#,
    )
    .unwrap();
    assert_eq!(found[0].href, "/remote.php/dav/files/u/%C3%A4%20& b/");
    assert_eq!(found[0].props.file_id.as_deref(), Some("42"));
    assert_eq!(found[0].props.etag.as_deref(), Some("\"65a\""));
    assert_eq!(found[0].props.permissions.as_deref(), Some("RGDNVCK"));
}

#[test]
fn the_default_namespace_counts_and_foreign_elements_do_not() {
    let found = read(
        r#"<multistatus xmlns="DAV:"><response><href><![CDATA[/a]]></href><x:href xmlns:x="other">/b</x:href><propstat><prop><x:getetag xmlns:x="other">no</x:getetag><x:deep xmlns:x="o"><getetag>no</getetag></x:deep></prop></propstat><status>HTTP/1.1 404 Not Found</status></response></multistatus>"#,
    )
    .unwrap();
    assert_eq!((found[0].href.as_str(), found[0].status), ("/a", Some(404)));
    assert_eq!(found[0].props.etag, None);
}

#[test]
fn an_answer_cut_anywhere_is_never_whole() {
    let whole = r#"<?xml version="1.0"?><d:multistatus xmlns:d="DAV:"><d:response><d:href>/a</d:href><d:propstat><d:prop><d:getetag>"x&amp;"</d:getetag></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>"#;
    read(whole).unwrap();
    for end in 0..whole.len() {
        corrupt(&whole[..end]);
    }
}

#[test]
fn bombs_and_tricks_are_refused() {
    corrupt(
        r#"<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaa">]><d:multistatus xmlns:d="DAV:"/>"#,
    );
    corrupt(
        r#"<d:multistatus xmlns:d="DAV:"><d:response><d:href>&a;</d:href></d:response></d:multistatus>"#,
    );
    corrupt(r#"<d:multistatus xmlns:d="DAV:"><d:response></d:response></d:multistatus>"#);
    corrupt(r#"<d:multistatus xmlns:d="DAV:"></d:multistatus><d:multistatus xmlns:d="DAV:"/>"#);
    corrupt(r#"<d:multistatus xmlns:d="DAV:"></d:multistatus>trailing"#);
    corrupt(r#"<d:multistatus xmlns:d="DAV:"><a></b></d:multistatus>"#);
    corrupt(r#"<html><body>Sign in</body></html>"#);
    corrupt(r#"<d:multistatus xmlns:d="other"/>"#);
    corrupt(r#"<?xml version="1.0" encoding="iso-8859-1"?><d:multistatus xmlns:d="DAV:"/>"#);
    corrupt("");
    let open = |inside: &str| format!(r#"<d:multistatus xmlns:d="DAV:">{inside}"#);
    corrupt(&open(&"<a>".repeat(10_000)));
    corrupt(&open(&format!("<a b=\"{}\"/></d:multistatus>", "x".repeat(200_000))));
    corrupt(&open(&format!("{}</d:multistatus>", "x".repeat(200_000))));
    corrupt(&open(&format!("<!--{}--></d:multistatus>", "x".repeat(200_000))));
    let slow = "&lt;".repeat(30_000);
    corrupt(&open(&format!("<d:response><d:href>{slow}</d:href></d:response></d:multistatus>")));
}
