//! A proxy between dewfs and a real server that breaks what a test tells it to: per request, at once, and until told otherwise.

#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

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
    /// It is read and never answered, and its connection stays dead for ever.
    Hole,
    /// Half of the answer's body comes, then the connection is reset.
    Reset,
    /// Half of its own body reaches the server, then both connections are reset.
    Torn,
    /// More comes than the answer's length says.
    Over,
    /// It is answered so much later.
    Slow(Duration),
    /// Bodies go at so many bytes a second, both ways.
    Thin(usize),
    /// So many are answered with 503, those after them go well.
    Burst(usize),
    /// So many go well, those after them go wrong like this.
    After(usize, Box<Self>),
    /// So many go well, the next one goes wrong like this.
    Next(usize, Box<Self>),
    /// Before the first of them is passed on, somebody else does something at the server.
    Meddled,
}

/// What somebody else does.
type Deed = Box<dyn FnOnce() + Send>;

struct State {
    fault: Fault,
    /// Only requests of these methods go wrong; all if empty.
    methods: Vec<&'static str>,
    /// The heads of all that came, in lower case.
    heads: Vec<String>,
    /// How many were meant, and how many of them went wrong so far.
    meant: usize,
    count: usize,
    deed: Option<Deed>,
    is_over: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    upstream: u16,
    begun: Instant,
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
        let state = State {
            fault: Fault::None,
            methods: Vec::new(),
            heads: Vec::new(),
            meant: 0,
            count: 0,
            deed: None,
            is_over: false,
        };
        let (state, changed, begun) = (Mutex::new(state), Condvar::new(), Instant::now());
        let shared = Arc::new(Shared { state, changed, upstream, begun });
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
        (state.meant, state.count) = (0, 0);
        state.deed = None;
        self.shared.changed.notify_all();
    }

    /// Before the next request of `methods` somebody else does this at the server.
    pub(crate) fn meddle(&self, methods: &[&'static str], deed: impl FnOnce() + Send + 'static) {
        self.set(Fault::Meddled, methods);
        self.shared.state.lock().unwrap().deed = Some(Box::new(deed));
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

impl Proxy {
    /// How many requests came so far.
    pub(crate) fn asked(&self) -> usize {
        self.shared.state.lock().unwrap().heads.len()
    }

    /// The heads of all requests that came so far, a header in each line, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().heads.clone()
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
    fn fault(&self, method: &str, head: &[u8]) -> Fault {
        let mut state = self.state.lock().unwrap();
        state.heads.push(String::from_utf8_lossy(head).to_ascii_lowercase());
        let is_meant = state.methods.is_empty() || state.methods.contains(&method);
        if !is_meant || state.fault == Fault::None {
            return Fault::None;
        }
        state.meant += 1;
        let fault = match state.fault.clone() {
            Fault::Burst(most) if state.meant > most => Fault::None,
            Fault::Burst(_) => Fault::Answer("HTTP/1.1 503 Busy\r\n"),
            Fault::After(well, _) if state.meant <= well => Fault::None,
            Fault::Next(well, _) if state.meant != well + 1 => Fault::None,
            Fault::After(_, fault) | Fault::Next(_, fault) => *fault,
            Fault::Meddled => {
                let Some(deed) = state.deed.take() else { return Fault::None };
                deed();
                Fault::Meddled
            }
            // counted when half of a body is through
            Fault::Thin(speed) => return Fault::Thin(speed),
            fault => fault,
        };
        state.count += usize::from(fault != Fault::None);
        fault
    }

    /// What came by, for whoever looks for the reason of a failure.
    fn note(&self, message: &Message, fault: &Fault) {
        let of = |name| message.header(name).unwrap_or_default();
        let about = [of("destination"), of("if-match"), of("content-length"), of("etag")].join(" ");
        let after = self.begun.elapsed().as_millis();
        println!("  {after} ms: {} {about} ({fault:?})", message.first);
    }

    /// Half of a slow body is through.
    fn note_half(&self) {
        self.state.lock().unwrap().count += 1;
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

/// Is a message whose head is read: the rest of it comes from the stream.
struct Begun {
    message: Message,
    length: Option<usize>,
    is_chunked: bool,
}

/// Reads the head of one message; `None` if the other side has nothing more to say.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<Begun>> {
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
    let message = Message { first, headers, body: bytes.split_off(head) };
    let is_chunked = message.header("transfer-encoding").is_some();
    let length = message.header("content-length").and_then(|length| length.parse::<usize>().ok());
    Ok(Some(Begun { message, length, is_chunked }))
}

/// Reads the body that belongs to a head. Without a length, an answer goes on to the end.
fn read_body(stream: &mut TcpStream, begun: Begun, is_answer: bool) -> io::Result<Message> {
    let Begun { mut message, length, is_chunked } = begun;
    let mut chunk = vec![0; 65_536];
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
    Ok(message)
}

fn serve(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    while let Some(begun) = read_head(&mut client)? {
        let method = begun.message.first.split(' ').next().unwrap_or_default().to_owned();
        let fault = shared.fault(&method, &begun.message.head());
        shared.note(&begun.message, &fault);
        if let Fault::Thin(speed) = fault
            && begun.length.is_some_and(|length| length > 0)
        {
            let mut answer = pass_slowly(shared, &mut client, begun, speed)?;
            deliver(shared, &mut client, &mut answer, &fault)?;
            break;
        }
        let mut request = read_body(&mut client, begun, false)?;
        match &fault {
            Fault::Silent => {
                shared.outlast(&fault);
                break;
            }
            Fault::Hole => {
                // whoever waits closes it; no sign of life ever comes
                let _closed = client.read(&mut [0]);
                break;
            }
            Fault::Hangup => break,
            Fault::Torn => {
                let mut server = TcpStream::connect(("127.0.0.1", shared.upstream))?;
                server.write_all(&request.head())?;
                server.write_all(&request.body[..request.body.len() / 2])?;
                reset(&server)?;
                return reset(&client);
            }
            Fault::Answer(head) => {
                client.write_all(format!("{head}Content-Length: 0\r\n\r\n").as_bytes())?;
                continue;
            }
            _ => {}
        }
        let mut answer = ask(shared.upstream, &mut request, &method)?;
        shared.note(&answer, &fault);
        if !deliver(shared, &mut client, &mut answer, &fault)? {
            break;
        }
    }
    client.shutdown(Shutdown::Both)
}

/// The next close of this stream resets the connection.
fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

fn ask(upstream: u16, request: &mut Message, method: &str) -> io::Result<Message> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    request.set("Connection", "close".to_owned());
    server.write_all(&request.head())?;
    server.write_all(&request.body)?;
    answer_of(&mut server, method)
}

fn answer_of(server: &mut TcpStream, method: &str) -> io::Result<Message> {
    loop {
        let begun = read_head(server)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if begun.message.first.contains(" 100 ") {
            continue;
        }
        return if method == "HEAD" { Ok(begun.message) } else { read_body(server, begun, true) };
    }
}

/// Passes a body on to the server as slowly as it comes.
fn pass_slowly(
    shared: &Shared,
    client: &mut TcpStream,
    begun: Begun,
    speed: usize,
) -> io::Result<Message> {
    let Begun { mut message, length, .. } = begun;
    let length = length.unwrap_or_default();
    let mut server = TcpStream::connect(("127.0.0.1", shared.upstream))?;
    message.set("Connection", "close".to_owned());
    server.write_all(&message.head())?;
    let (mut passed, mut noted) = (0, false);
    let mut piece = std::mem::take(&mut message.body);
    loop {
        server.write_all(&piece)?;
        passed += piece.len();
        if passed >= length / 2 && !std::mem::replace(&mut noted, true) {
            shared.note_half();
        }
        if passed >= length {
            break;
        }
        piece.resize((length - passed).min(PIECE), 0);
        let read = client.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        std::thread::sleep(time_for(read, speed));
    }
    let method = message.first.split(' ').next().unwrap_or_default().to_owned();
    answer_of(&mut server, &method)
}

/// What goes at once where bytes go slowly.
const PIECE: usize = 8 << 10;

fn time_for(bytes: usize, speed: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / speed as f64)
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
        Fault::Slow(time) => std::thread::sleep(*time),
        Fault::Short => {
            answer.body.truncate(half);
            answer.set("Content-Length", half.to_string());
        }
        Fault::Long => answer.set("Content-Length", (answer.body.len() + 9).to_string()),
        Fault::Over => answer.body.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnot"),
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
        Fault::Stall | Fault::Cut | Fault::Reset => {
            client.write_all(&answer.body[..half])?;
            match fault {
                Fault::Stall => shared.outlast(fault),
                Fault::Reset => {
                    reset(client)?;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                _ => {}
            }
            Ok(false)
        }
        Fault::Thin(speed) => {
            let mut passed = 0;
            for piece in answer.body.chunks(PIECE) {
                client.write_all(piece)?;
                std::thread::sleep(time_for(piece.len(), *speed));
                if (passed..passed + piece.len()).contains(&half) {
                    shared.note_half();
                }
                passed += piece.len();
            }
            Ok(false)
        }
        _ => {
            client.write_all(&answer.body)?;
            Ok(matches!(fault, Fault::None | Fault::Over))
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
