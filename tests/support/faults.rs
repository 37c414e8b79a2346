//! A proxy between dewfs and a real server that breaks what a test tells it to: per request, at once, and until told otherwise.

#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Names a way in which a request goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not.
    None,
    /// It is read and never answered.
    Silent,
    /// It is read and the connection closed.
    Hangup,
    /// Half of the answer's body comes, then nothing.
    Stall,
    /// Half of the answer's body comes, then the connection is closed.
    Cut,
    /// Half of the answer's body comes, under a length that says it is all.
    Short,
    /// The answer's length says more than comes.
    Long,
    /// The answer's range is another one than asked for.
    Shifted,
    /// The right range is claimed, with bytes of another place.
    Lying,
    /// It is not passed on but answered like this: status line and headers.
    Answer(&'static str),
    /// It is passed on and carried out, but its answer is lost.
    Lost,
}

struct State {
    fault: Fault,
    /// Only requests of these methods go wrong; all if empty.
    methods: Vec<&'static str>,
    /// How many went wrong so far.
    count: usize,
    is_over: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    upstream: u16,
}

/// A running proxy; stopped when dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy to a port of this machine.
    pub(crate) fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { fault: Fault::None, methods: Vec::new(), count: 0, is_over: false };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), upstream });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&all);
                if shared.state.lock().unwrap().is_over {
                    return;
                }
                std::thread::spawn(move || {
                    let _broken = stream.and_then(|stream| serve(&shared, stream));
                });
            }
        });
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// From now on requests of `methods` (all if there are none) go wrong so.
    pub(crate) fn set(&self, fault: Fault, methods: &[&'static str]) {
        let mut state = self.shared.state.lock().unwrap();
        state.fault = fault;
        state.methods = methods.to_vec();
        state.count = 0;
        self.shared.changed.notify_all();
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&self) {
        self.set(Fault::None, &[]);
    }

    /// How many requests went wrong since the last `set`.
    pub(crate) fn count(&self) -> usize {
        self.shared.state.lock().unwrap().count
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().is_over = true;
        self.shared.changed.notify_all();
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    /// How a request of `method` goes wrong now.
    fn fault(&self, method: &str) -> Fault {
        let mut state = self.state.lock().unwrap();
        let is_meant = state.methods.is_empty() || state.methods.contains(&method);
        if !is_meant || state.fault == Fault::None {
            return Fault::None;
        }
        state.count += 1;
        state.fault.clone()
    }

    /// Waits until the fault is another one.
    fn outlast(&self, fault: &Fault) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |now| now.fault == *fault && !now.is_over).unwrap());
    }
}

/// A message: its first line, its headers, its body.
struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        self.headers.retain(|(one, _)| !one.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value));
    }

    fn head(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into_bytes()
    }
}

/// Reads one message; `None` if the other side has nothing more to say. Without a length, an answer goes on to the end.
fn read_message(
    stream: &mut TcpStream,
    is_answer: bool,
    has_body: bool,
) -> io::Result<Option<Message>> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 65_536];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head - 4]).into_owned();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let split = |line: &str| line.split_once(':').map(|(a, b)| (a.to_owned(), b.trim().to_owned()));
    let headers = lines.filter_map(split).collect();
    let mut message = Message { first, headers, body: bytes.split_off(head) };
    if !has_body {
        return Ok(Some(message));
    }
    let is_chunked = message.header("transfer-encoding").is_some();
    let length = message.header("content-length").and_then(|length| length.parse::<usize>().ok());
    let is_whole = |body: &[u8]| match length {
        Some(length) => body.len() >= length,
        None if is_chunked => body.ends_with(b"0\r\n\r\n"),
        None => !is_answer,
    };
    while !is_whole(&message.body) {
        match stream.read(&mut chunk)? {
            0 => break,
            read => message.body.extend_from_slice(&chunk[..read]),
        }
    }
    Ok(Some(message))
}

fn serve(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    while let Some(mut request) = read_message(&mut client, false, true)? {
        let method = request.first.split(' ').next().unwrap_or_default().to_owned();
        let fault = shared.fault(&method);
        match &fault {
            Fault::Silent => {
                shared.outlast(&fault);
                break;
            }
            Fault::Hangup => break,
            Fault::Answer(head) => {
                client.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes())?;
                continue;
            }
            _ => {}
        }
        let mut answer = ask(shared.upstream, &mut request, &method)?;
        if !deliver(shared, &mut client, &mut answer, &fault)? {
            break;
        }
    }
    client.shutdown(Shutdown::Both)
}

fn ask(upstream: u16, request: &mut Message, method: &str) -> io::Result<Message> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    request.set("Connection", "close".to_owned());
    server.write_all(&request.head())?;
    server.write_all(&request.body)?;
    loop {
        let answer = read_message(&mut server, true, method != "HEAD")?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !answer.first.contains(" 100 ") {
            return Ok(answer);
        }
    }
}

/// Hands an answer on; whether the connection can be used again.
fn deliver(
    shared: &Shared,
    client: &mut TcpStream,
    answer: &mut Message,
    fault: &Fault,
) -> io::Result<bool> {
    answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("connection"));
    let is_plain = answer.header("transfer-encoding").is_none();
    if is_plain && answer.header("content-length").is_none() && !answer.first.contains(" 204") {
        answer.set("Content-Length", answer.body.len().to_string());
    }
    let half = answer.body.len() / 2;
    match fault {
        Fault::Lost => return Ok(false),
        Fault::Short => {
            answer.body.truncate(half);
            answer.set("Content-Length", half.to_string());
        }
        Fault::Long => answer.set("Content-Length", (answer.body.len() + 9).to_string()),
        Fault::Shifted => {
            if let Some(range) = answer.header("content-range").and_then(shifted) {
                answer.set("Content-Range", range);
            }
        }
        Fault::Lying => {
            answer.set("ETag", "\"another\"".to_owned());
            answer.body.rotate_left(1.min(half));
        }
        _ => {}
    }
    client.write_all(&answer.head())?;
    match fault {
        Fault::Stall | Fault::Cut => {
            client.write_all(&answer.body[..half])?;
            if *fault == Fault::Stall {
                shared.outlast(fault);
            }
            Ok(false)
        }
        _ => {
            client.write_all(&answer.body)?;
            Ok(*fault == Fault::None)
        }
    }
}

/// `bytes 0-9/100` one byte later.
fn shifted(range: &str) -> Option<String> {
    let (bytes, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = bytes.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some(format!("bytes {}-{}/{total}", first + 1, last + 1))
}
