//! A door in front of a server that can be shut: then nobody gets through, and who was inside is thrown out.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub struct Door {
    port: u16,
    shut: Arc<AtomicBool>,
    inside: Arc<Mutex<Vec<TcpStream>>>,
}

impl Door {
    /// A door that leads to this port of this machine.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let door = Self { port, shut: Arc::default(), inside: Arc::default() };
        let (shut, inside) = (door.shut.clone(), door.inside.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                inside.lock().unwrap().extend(ends);
                pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                pump(server, client);
            }
        });
        door
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        for stream in self.inside.lock().unwrap().drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _gone = to.shutdown(Shutdown::Write);
    });
}
