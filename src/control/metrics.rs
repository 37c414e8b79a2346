//! Figures for Prometheus, on a loopback address: `metrics=127.0.0.1:PORT`. Off unless it was asked for.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::engine::LATENCIES;
use crate::engine::{Engine, EngineError, Figures, MountState, MountStatus};

/// How long a scraper may take for its question.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest question.
const LONGEST: u64 = 16 << 10;

/// Is a listening door for figures; dropped, it is gone.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Listens at a loopback address and answers what `engine` knows of the mount called `name`.
    pub async fn start(engine: Engine, name: &str, address: SocketAddr) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            let why = "figures are shown on loopback addresses only, such as 127.0.0.1:9464";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let name = name.to_owned();
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (engine, name) = (engine.clone(), name.clone());
                        tokio::spawn(async move {
                            let answered =
                                tokio::time::timeout(PATIENCE, answer(stream, &engine, &name));
                            if let Ok(Err(error)) = answered.await {
                                tracing::debug!(%error, "a scraper went away");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot take a scraper");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, engine: &Engine, name: &str) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader.take(LONGEST)).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match (first.starts_with("GET "), path) {
        (true, "/metrics" | "/") => match text(engine, name).await {
            Ok(text) => ("200 OK", text),
            Err(error) => ("503 Service Unavailable", format!("{error}\n")),
        },
        (true, _) => ("404 Not Found", "figures are at /metrics\n".to_owned()),
        (false, _) => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    writer.write_all(head.as_bytes()).await?;
    writer.write_all(body.as_bytes()).await?;
    writer.shutdown().await
}

async fn text(engine: &Engine, name: &str) -> Result<String, EngineError> {
    let status = engine.mount_status().await?;
    let mut page = Page { mount: escaped(name), text: String::new() };
    page.mount(&status);
    page.figures(&engine.figures());
    Ok(page.text)
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

struct Page {
    mount: String,
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string cannot fail.
        let _ok = writeln!(self.text, "# HELP dewfs_{name} {help}\n# TYPE dewfs_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let mount = &self.mount;
        let _ok = writeln!(self.text, "dewfs_{name}{{mount=\"{mount}\"{labels}}} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.value(name, "", value);
    }

    fn mount(&mut self, status: &MountStatus) {
        self.head("state", "gauge", "1 for the state that the mount is in.");
        for state in [
            MountState::AuthRequired,
            MountState::RemoteMissing,
            MountState::Offline,
            MountState::Paused,
            MountState::Degraded,
            MountState::Online,
        ] {
            let labels = format!(",state=\"{}\"", state.word());
            self.value("state", &labels, u8::from(state == status.state));
        }
        for (name, help, value) in [
            ("items", "Items known.", status.items),
            ("queue_items", "Items not in sync.", status.pending),
            ("queue_bytes", "Bytes not yet sent.", status.cache_pending),
            ("uploading", "Items being sent.", status.uploading),
            ("hydrating", "Items being fetched.", status.hydrating),
            ("held", "Items held by the mass-change guard.", status.held),
            ("conflicts", "Conflict copies not resolved.", status.conflicts),
            ("error_items", "Items that cannot be sent.", status.errors),
            ("cache_used_bytes", "Bytes of content here.", status.cache_used),
            ("cache_limit_bytes", "Bytes of content that may be here.", status.cache_limit),
            ("cache_pinned_bytes", "Bytes of pinned content here.", status.cache_pinned),
        ] {
            self.one(name, "gauge", help, value);
        }
        self.one(
            "read_bytes_total",
            "counter",
            "Bytes fetched from the remote.",
            status.bytes_down,
        );
        self.one("written_bytes_total", "counter", "Bytes sent to the remote.", status.bytes_up);
        self.head("requests_total", "counter", "Requests to the remote, by cause.");
        let by = status.requests_by;
        for (cause, count) in [("user", by.user), ("feed", by.feed), ("transfer", by.transfer)] {
            self.value("requests_total", &format!(",cause=\"{cause}\""), count);
        }
    }

    fn figures(&mut self, figures: &Figures) {
        self.one("read_hits_total", "counter", "Reads answered from here.", figures.hits);
        self.one(
            "read_misses_total",
            "counter",
            "Reads that waited for the remote.",
            figures.misses,
        );
        self.head(
            "request_errors_total",
            "counter",
            "Requests that were refused or failed, by class.",
        );
        for (class, count) in &figures.errors {
            self.value("request_errors_total", &format!(",class=\"{class}\""), count);
        }
        let name = "request_seconds";
        self.head(name, "histogram", "How long the remote took to answer.");
        for (operation, counts) in &figures.operations {
            let labels = format!(",operation=\"{operation}\"");
            for (end, count) in LATENCIES.iter().zip(counts.within) {
                let end = Duration::from_millis(*end).as_secs_f64();
                self.value("request_seconds_bucket", &format!("{labels},le=\"{end}\""), count);
            }
            self.value("request_seconds_bucket", &format!("{labels},le=\"+Inf\""), counts.answered);
            let seconds = Duration::from_micros(counts.micros).as_secs_f64();
            self.value("request_seconds_sum", &labels, seconds);
            self.value("request_seconds_count", &labels, counts.answered);
        }
    }
}
