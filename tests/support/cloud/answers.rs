//! Its HTTP: what is asked, and what it answers.

use super::*;

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn answer(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new() }
}

fn with(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
    Answer { status, headers: vec![("content-type", kind.to_owned())], body: body.into() }
}

pub(super) async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    while let Some(request) = receive(&mut stream, &mut bytes).await {
        let said = {
            let mut state = state.lock().unwrap();
            let at = Instant::now();
            let said = handle(&mut state, &request);
            let prefix = state.prefix();
            let path = percent_decode_str(&request.path).decode_utf8_lossy().into_owned();
            let path =
                path.strip_prefix(&prefix).map_or(path.clone(), |p| p.trim_matches('/').to_owned());
            let depth = request.headers.get("depth").cloned().unwrap_or_default();
            let method = request.method.clone();
            state.asked.push(Asked { at, method, path, depth, status: said.status });
            said
        };
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut head =
            format!("HTTP/1.1 {} Answer\r\nserver: Test\r\ndate: {date}\r\n", said.status);
        for (name, value) in &said.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if said.status != 204 {
            head.push_str(&format!("content-length: {}\r\n", said.body.len()));
        }
        head.push_str("\r\n");
        let mut out = head.into_bytes();
        if request.method != "HEAD" && said.status != 204 {
            out.extend(said.body);
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

async fn receive(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Request> {
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let (first, rest) = text.split_once("\r\n").unwrap();
    let headers: HashMap<String, String> = rest
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + length {
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let body = bytes[head..head + length].to_vec();
    bytes.drain(..head + length);
    Some(Request { method, path, headers, body })
}

fn is_signed(request: &Request) -> bool {
    let signs = |user: &str| {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{PASSWORD}"));
        request.headers.get("authorization") == Some(&format!("Basic {pair}"))
    };
    signs(LOGIN) || signs(USER)
}

fn handle(state: &mut State, request: &Request) -> Answer {
    if state.away {
        return with(404, "text/plain", "404 page not found");
    }
    let asks_token = request.method == "PROPFIND"
        && String::from_utf8_lossy(&request.body).contains("sync-token");
    if let Some(status) = state.refuses_tokens.filter(|_| asks_token) {
        return answer(status);
    }
    let path = request.path.split('?').next().unwrap();
    let cloud = state.options.cloud;
    let nextcloud = cloud == Some(Product::Nextcloud);
    if let (Some(product), "GET", "/status.php") = (cloud, request.method.as_str(), path) {
        return with(200, "application/json", status(product));
    }
    match (request.method.as_str(), path) {
        ("POST", "/index.php/login/v2") if nextcloud => {
            let base = format!("http://127.0.0.1:{}", state.port);
            let body = format!(
                r#"{{"poll":{{"token":"a+b/c","endpoint":"{base}/login/v2/poll"}},"login":"{base}/login/v2/flow/x1"}}"#
            );
            return with(200, "application/json", body);
        }
        ("POST", "/login/v2/poll") if nextcloud => {
            if request.body != b"token=a%2Bb%2Fc" {
                return answer(400);
            }
            if !std::mem::take(&mut state.granted) {
                return with(404, "application/json", "[]");
            }
            let body = format!(
                r#"{{"server":"http://elsewhere.example","loginName":"{LOGIN}","appPassword":"{PASSWORD}"}}"#
            );
            return with(200, "application/json", body);
        }
        _ => {}
    }
    let dav = path.starts_with("/remote.php/") || path.starts_with("/dav/");
    if cloud == Some(Product::OpenCloud) && !dav {
        return with(200, "text/html", "<!DOCTYPE html><html></html>");
    }
    if !dav || cloud.is_some() == path.starts_with("/dav/") {
        let status = if request.method == "GET" { 404 } else { 405 };
        return with(status, "text/html", "<html></html>");
    }
    if state.signed_in && !is_signed(request) {
        return answer(401);
    }
    if path == "/remote.php/dav/" && request.method == "PROPFIND" {
        let found = match state.options.principal {
            true => format!(
                "<d:propstat><d:prop><d:current-user-principal><d:href>/remote.php/dav/principals/users/{USER}/</d:href></d:current-user-principal></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>"
            ),
            false => "<d:propstat><d:prop><d:current-user-principal/></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>".to_owned(),
        };
        let one = format!("<d:response><d:href>/remote.php/dav/</d:href>{found}</d:response>");
        return multistatus(&one);
    }
    let Some(rest) = path.strip_prefix(&state.prefix()) else { return answer(404) };
    let Ok(name) = percent_decode_str(rest).decode_utf8() else { return answer(400) };
    let name = name.trim_matches('/').to_owned();
    if name.contains(|c: char| c.is_control() || c == '\\') {
        return answer(400);
    }
    if let Some((_, path, content)) = state.before.take_if(|(verb, ..)| *verb == request.method) {
        state.put(&path, &content, None);
    }
    match request.method.as_str() {
        "PROPFIND" => propfind(state, request, &name),
        "REPORT" if state.options.sync => report(state, request),
        "GET" | "HEAD" => get(state, request, &name),
        "PUT" => put(state, request, &name),
        "MKCOL" => make(state, &name),
        "DELETE" => delete(state, request, &name),
        "MOVE" => rename(state, request, &name),
        "PROPPATCH" => patch(state, request, &name),
        _ => answer(405),
    }
}

fn status(product: Product) -> &'static str {
    match product {
        Product::Nextcloud => {
            r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"31.0.4.1","versionstring":"31.0.4","edition":"","productname":"Nextcloud"}"#
        }
        Product::OwnCloud => {
            r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"10.15.0.2","versionstring":"10.15.0","edition":"Community","productname":"ownCloud"}"#
        }
        Product::OpenCloud => {
            r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"10.11.0.0","versionstring":"10.11.0","edition":"","productname":"OpenCloud","product":"OpenCloud","productversion":"2.3.0"}"#
        }
    }
}

fn multistatus(inside: &str) -> Answer {
    let body = format!(
        r#"<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">{inside}</d:multistatus>"#
    );
    with(207, "application/xml; charset=utf-8", body)
}

fn href(state: &State, name: &str) -> String {
    let names = name.split('/').map(|one| utf8_percent_encode(one, NON_ALPHANUMERIC).to_string());
    let end = match state.nodes.get(name) {
        Some(node) if node.content.is_none() && !name.is_empty() => "/",
        _ => "",
    };
    format!("{}/{}{end}", state.prefix(), names.collect::<Vec<_>>().join("/"))
}

/// The names of the properties that a body asks for.
fn wanted(body: &str) -> Vec<String> {
    let Some((_, rest)) = body.split_once("prop>") else {
        let all = ["d:resourcetype", "d:getcontentlength", "d:getlastmodified", "d:getetag"];
        return all.map(str::to_owned).to_vec();
    };
    let rest = rest.split("</").next().unwrap();
    rest.split('<').filter_map(|one| Some(one.strip_suffix("/>")?.to_owned())).collect()
}

fn response(state: &State, name: &str, wanted: &[String]) -> String {
    let node = &state.nodes[name];
    let (mut found, mut none) = (String::new(), String::new());
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(node.mtime.unsigned_abs());
    for one in wanted {
        let is_cloud = state.options.cloud.is_some();
        let is_root = name.is_empty();
        let value = match one.as_str() {
            "d:resourcetype" if node.content.is_none() => Some("<d:collection/>".to_owned()),
            "d:resourcetype" => Some(String::new()),
            "d:getcontentlength" => node.content.as_ref().map(|content| content.len().to_string()),
            "d:getlastmodified" => Some(httpdate::fmt_http_date(date)),
            "d:getetag" => Some(format!("&quot;{}&quot;", node.etag)),
            "oc:fileid" if state.options.cloud == Some(Product::OpenCloud) => {
                Some(format!("1284d238-aa92$534bb038-6f9e!{:08x}", node.id))
            }
            "oc:fileid" if is_cloud => Some(node.id.to_string()),
            "oc:permissions" if is_cloud => Some(node.permissions.to_owned()),
            "oc:size" if is_cloud => Some(state.size(name).to_string()),
            "d:quota-used-bytes" if is_cloud => Some(state.size("").to_string()),
            "d:quota-available-bytes" if is_cloud => Some("1000000000".to_owned()),
            "d:sync-token" if state.options.sync && is_root && !state.hears_nothing => Some(token(state.changes.len())),
            "d:supported-report-set" if state.options.sync => Some(
                "<d:supported-report><d:report><d:sync-collection/></d:report></d:supported-report>".to_owned(),
            ),
            _ => None,
        };
        match value {
            Some(value) => found.push_str(&format!("<{one}>{value}</{one}>")),
            None => none.push_str(&format!("<{one}/>")),
        }
    }
    let mut stats = format!(
        "<d:propstat><d:prop>{found}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>"
    );
    if !none.is_empty() {
        stats.push_str(&format!(
            "<d:propstat><d:prop>{none}</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>"
        ));
    }
    format!("<d:response><d:href>{}</d:href>{stats}</d:response>", href(state, name))
}

fn propfind(state: &State, request: &Request, name: &str) -> Answer {
    let Some(node) = state.nodes.get(name) else { return answer(404) };
    let wanted = wanted(&String::from_utf8_lossy(&request.body));
    let mut all = response(state, name, &wanted);
    match request.headers.get("depth").map(String::as_str) {
        Some("0") => {}
        Some("1") if node.content.is_none() => {
            for child in state.nodes.keys().filter(|one| parent(one) == Some(name)) {
                all.push_str(&response(state, child, &wanted));
            }
        }
        Some("1") => {}
        _ => return answer(403),
    }
    multistatus(&all)
}

fn token(number: usize) -> String {
    format!("http://test.example/sync/{number}&amp;x")
}

fn report(state: &State, request: &Request) -> Answer {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let told = body.split_once("sync-token>").and_then(|(_, rest)| rest.split_once("</"));
    let told = told.map(|(token, _)| token).unwrap_or_default();
    let number = told
        .strip_prefix("http://test.example/sync/")
        .and_then(|rest| rest.strip_suffix("&amp;x"))
        .and_then(|number| number.parse::<usize>().ok())
        .filter(|number| (state.forgotten..=state.changes.len()).contains(number));
    if !body.contains("<d:sync-level>infinite</d:sync-level>")
        || request.headers.get("depth").map(String::as_str) != Some("0")
    {
        return answer(400);
    }
    let Some(number) = number else {
        return with(
            403,
            "application/xml",
            r#"<?xml version="1.0"?><d:error xmlns:d="DAV:"><d:valid-sync-token/></d:error>"#,
        );
    };
    let end = state.changes.len().min(number + state.options.page);
    let mut names: Vec<&String> = state.changes[number..end].iter().collect();
    names.sort();
    names.dedup();
    let wanted = wanted(&body.replace("d:sync-level>", ""));
    let mut all = String::new();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        all.push_str(&match state.nodes.contains_key(name) {
            true => response(state, name, &wanted),
            false => format!(
                "<d:response><d:href>{}</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>",
                href(state, name)
            ),
        });
    }
    if end < state.changes.len() {
        all.push_str(&format!(
            "<d:response><d:href>{}</d:href><d:status>HTTP/1.1 507 Insufficient Storage</d:status></d:response>",
            href(state, "")
        ));
    }
    all.push_str(&format!("<d:sync-token>{}</d:sync-token>", token(end)));
    multistatus(&all)
}

fn get(state: &State, request: &Request, name: &str) -> Answer {
    let Some(node) = state.nodes.get(name) else { return answer(404) };
    let Some(content) = &node.content else { return answer(405) };
    let etag = format!("\"{}\"", node.etag);
    let mut said = with(200, "application/octet-stream", content.clone());
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    if let Some((first, last)) = range.and_then(|range| range.split_once('-')) {
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        if first >= content.len() {
            return answer(416);
        }
        let last = last.min(content.len() - 1);
        said = with(206, "application/octet-stream", content[first..=last].to_vec());
        said.headers.push(("content-range", format!("bytes {first}-{last}/{}", content.len())));
    }
    said.headers.push(("etag", etag));
    said
}

/// Whether the conditions of a request do not hold.
fn refused(state: &State, request: &Request, name: &str) -> bool {
    let node = state.nodes.get(name);
    let etag = node.map(|node| format!("\"{}\"", node.etag));
    if let Some(wanted) = request.headers.get("if-match") {
        return match wanted.as_str() {
            "*" => node.is_none(),
            wanted => etag.as_deref() != Some(wanted),
        };
    }
    request.headers.get("if-none-match").is_some_and(|none| none == "*" && node.is_some())
}

fn may(state: &State, name: &str, letter: char) -> bool {
    state.nodes.get(name).is_none_or(|node| node.permissions.contains(letter))
}

fn has_folder(state: &State, name: &str) -> bool {
    let above = parent(name).and_then(|above| state.nodes.get(above));
    above.is_some_and(|above| above.content.is_none())
}

fn put(state: &mut State, request: &Request, name: &str) -> Answer {
    if !has_folder(state, name) {
        return answer(409);
    }
    if state.nodes.get(name).is_some_and(|node| node.content.is_none()) {
        return answer(409);
    }
    let is_there = state.nodes.contains_key(name);
    if refused(state, request, name) {
        return answer(412);
    }
    if is_there && !may(state, name, 'W') || !is_there && !may(state, parent(name).unwrap(), 'C') {
        return answer(403);
    }
    let mtime = request.headers.get("x-oc-mtime").and_then(|mtime| mtime.parse().ok());
    let is_new = state.put(name, &request.body, mtime);
    let mut said = answer(if is_new { 201 } else { 204 });
    let node = &state.nodes[name];
    said.headers.push(("etag", format!("\"{}\"", node.etag)));
    said.headers.push(("oc-etag", format!("\"{}\"", node.etag)));
    said.headers.push(("oc-fileid", format!("{:08}instance", node.id)));
    if mtime.is_some() {
        said.headers.push(("x-oc-mtime", "accepted".to_owned()));
    }
    said
}

fn make(state: &mut State, name: &str) -> Answer {
    match () {
        () if state.nodes.contains_key(name) => answer(405),
        () if !has_folder(state, name) => answer(409),
        () if !may(state, parent(name).unwrap(), 'K') => answer(403),
        () => {
            state.make_folder(name);
            answer(201)
        }
    }
}

fn delete(state: &mut State, request: &Request, name: &str) -> Answer {
    match () {
        () if !state.nodes.contains_key(name) => answer(404),
        () if refused(state, request, name) => answer(412),
        () if !may(state, name, 'D') || name.is_empty() => answer(403),
        () => {
            state.remove(name);
            answer(204)
        }
    }
}

fn rename(state: &mut State, request: &Request, name: &str) -> Answer {
    let target = &request.headers["destination"];
    let path = target.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
    let Some(to) = path.strip_prefix(&state.prefix()) else { return answer(502) };
    let Ok(to) = percent_decode_str(to).decode_utf8() else { return answer(400) };
    let to = to.trim_matches('/').to_owned();
    let is_there = state.nodes.contains_key(&to);
    let overwrite = request.headers.get("overwrite").is_none_or(|over| over != "F");
    match () {
        () if to.contains(|c: char| c.is_control() || c == '\\') => answer(400),
        () if !state.nodes.contains_key(name) => answer(404),
        () if !has_folder(state, &to) => answer(409),
        () if is_there && !overwrite || refused(state, request, name) => answer(412),
        () if to == name || below(&to, name) => answer(403),
        () if !may(state, name, 'V') => answer(403),
        () => {
            state.rename(name, &to);
            answer(if is_there { 204 } else { 201 })
        }
    }
}

/// These servers hold every verb to its conditions.
fn patch(state: &mut State, request: &Request, name: &str) -> Answer {
    if refused(state, request, name) {
        return answer(412);
    }
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let value = body.split_once("lastmodified>").and_then(|(_, rest)| rest.split_once("</"));
    let Some(mtime) = value.and_then(|(value, _)| value.parse().ok()) else { return answer(400) };
    let Some(node) = state.nodes.get_mut(name) else { return answer(404) };
    node.mtime = mtime;
    let one = format!(
        "<d:response><d:href>{}</d:href><d:propstat><d:prop><d:lastmodified/></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>",
        href(state, name)
    );
    multistatus(&one)
}
