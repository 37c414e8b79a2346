//! The line between a mount and its server: slow, dead without a word, or leading to another place.
#![allow(dead_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a connection looks whether it is dead by now.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Shared {
    upstream: AtomicU16,
    /// Bytes a second towards the server, over all connections; 0: as fast as it goes.
    rate: AtomicU64,
    /// What the paced bytes may go out after.
    next: Mutex<Option<Instant>>,
    /// Connections older than this many are dead: nothing passes, and nobody is told.
    dead: AtomicUsize,
    count: AtomicUsize,
    /// Nothing passes on any connection, new ones included.
    cut: AtomicBool,
    over: AtomicBool,
}

/// A relay; ends with the test.
pub(crate) struct Line {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Line {
    pub(crate) fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        shared.upstream.store(upstream, Ordering::SeqCst);
        let all = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if all.over.load(Ordering::SeqCst) {
                    return;
                }
                let all = all.clone();
                std::thread::spawn(move || all.serve(client));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// So many bytes a second reach the server.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::SeqCst);
    }

    /// The connections there are die without a word, as when the address of a machine changes; new ones lead elsewhere.
    pub(crate) fn move_to(&self, upstream: u16) {
        self.shared.upstream.store(upstream, Ordering::SeqCst);
        self.shared.dead.store(self.shared.count.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Nothing passes any more, and nobody is told; or all passes again, on new connections.
    pub(crate) fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::SeqCst);
        self.shared.dead.store(self.shared.count.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn serve(self: Arc<Self>, client: TcpStream) {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.upstream.load(Ordering::SeqCst)))
        else {
            return;
        };
        let (back, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let all = self.clone();
        let answers = std::thread::spawn(move || all.pass(number, back, from, false));
        self.pass(number, client, server, true);
        drop(answers.join());
    }

    fn is_dead(&self, number: usize) -> bool {
        self.cut.load(Ordering::SeqCst) || number <= self.dead.load(Ordering::SeqCst)
    }

    fn pass(&self, number: usize, mut from: TcpStream, mut to: TcpStream, paced: bool) {
        from.set_read_timeout(Some(LOOK)).unwrap();
        let mut piece = [0; 16 << 10];
        while !self.over.load(Ordering::SeqCst) {
            if self.is_dead(number) {
                std::thread::sleep(LOOK);
                continue;
            }
            let length = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    continue;
                }
                Err(_) => break,
            };
            if paced {
                self.pace(length as u64);
            }
            if self.is_dead(number) {
                continue;
            }
            if to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Write));
    }

    /// Waits until so many bytes may go at this rate.
    fn pace(&self, bytes: u64) {
        let rate = self.rate.load(Ordering::SeqCst);
        if rate == 0 {
            return;
        }
        let until = {
            let mut next = self.next.lock().unwrap();
            let begin = next.unwrap_or_else(Instant::now).max(Instant::now());
            let end = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *next = Some(end);
            end
        };
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }
}
