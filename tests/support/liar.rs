//! An HTTP server that answers what a test tells it, true or not.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// The header lines, in lower case.
    pub headers: String,
}

impl Asked {
    pub fn has(&self, header: &str) -> bool {
        self.headers.lines().any(|line| line.starts_with(&format!("{header}:")))
    }
}

/// A running liar; stopped when dropped.
pub struct Liar {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Liar {
    /// Answers every request with what `answer` makes of it: a whole HTTP answer; nothing means to keep silent.
    pub async fn start(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&answer)));
            }
        });
        Self { url, asked, task }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The same for who outlives the borrow of this.
    #[allow(dead_code)]
    pub fn asking(&self) -> impl Fn() -> Vec<Asked> + Send + 'static {
        let asked = Arc::clone(&self.asked);
        move || asked.lock().unwrap().clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    log: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<impl Fn(&Asked) -> String + Send + Sync + 'static>,
) {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let (first, headers) = text.split_once("\r\n").unwrap();
    let mut words = first.split(' ');
    let asked = Asked {
        method: words.next().unwrap().to_owned(),
        path: words.next().unwrap().to_owned(),
        headers: headers.to_ascii_lowercase().replace('\r', ""),
    };
    let length = asked.headers.lines().find_map(|line| line.strip_prefix("content-length: "));
    let body: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < head + body {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    log.lock().unwrap().push(asked.clone());
    // An answer may wait for other requests: on one of the runtime's own threads it would keep from being served what was
    // just begun there.
    let Ok(text) = tokio::task::spawn_blocking(move || answer(&asked)).await else { return };
    if text.is_empty() {
        let _silent = stream.read_buf(&mut bytes).await;
        return;
    }
    // Each connection has one answer; who is not told that may ask again on one that is just being closed.
    let text = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let _gone = stream.write_all(text.as_bytes()).await;
    let _gone = stream.shutdown().await;
}
