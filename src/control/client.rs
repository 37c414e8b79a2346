//! The other end of the socket, for commands: plain blocking reads.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::protocol::{Done, Envelope, Request, VERSION};
use super::server::with_short_path;
use super::to_line;

/// Is why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the mount does not answer: {0}")]
    Away(std::io::Error),
    /// The answer broke off or made no sense.
    #[error("the mount's answer broke off: {0}")]
    Broken(String),
    /// The daemon ended before the answer did.
    #[error("the mount's answer broke off: its daemon ended")]
    Ended,
    /// Patience ended before the answer.
    #[error("the mount does not answer")]
    Silent,
}

impl ClientError {
    /// Whether patience ended: somebody is there, and says nothing.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent)
    }
}

/// Is one line of an answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A document, as its JSON value and as it came.
    Document(serde_json::Value, String),
    /// The end.
    Done(Done),
}

/// Is a connection to a daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon at this socket.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = with_short_path(socket, |path| UnixStream::connect(path));
        Ok(Self { stream: BufReader::new(stream.map_err(ClientError::Away)?) })
    }

    /// The user whose process answers, as the kernel says.
    pub fn peer(&self) -> Option<u32> {
        let about = rustix::net::sockopt::socket_peercred(self.stream.get_ref());
        about.ok().map(|about| about.uid.as_raw())
    }

    /// Asks, and hands each document to `each` until the answer is whole.
    pub fn ask(
        &mut self,
        request: Request,
        progress: bool,
        mut each: impl FnMut(&serde_json::Value, &str),
    ) -> Result<Done, ClientError> {
        self.send(request, progress)?;
        loop {
            match self.next_line()? {
                Answer::Document(value, line) => each(&value, &line),
                Answer::Done(done) => return Ok(done),
            }
        }
    }

    /// Sends a request.
    pub fn send(&mut self, request: Request, progress: bool) -> Result<(), ClientError> {
        let envelope = Envelope { version: VERSION, progress, request };
        let line = to_line(&envelope) + "\n";
        self.stream.get_mut().write_all(line.as_bytes()).map_err(ClientError::Away)
    }

    /// The next line of the answer.
    pub fn next_line(&mut self) -> Result<Answer, ClientError> {
        let broken = |why: &dyn std::fmt::Display| ClientError::Broken(why.to_string());
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent,
            _ => broken(&error),
        })?;
        if read == 0 {
            return Err(ClientError::Ended);
        }
        let line = line.trim_end_matches('\n').to_owned();
        let value: serde_json::Value = serde_json::from_str(&line).map_err(|e| broken(&e))?;
        if value.get("type").and_then(|kind| kind.as_str()) == Some("done") {
            return serde_json::from_value(value).map(Answer::Done).map_err(|e| broken(&e));
        }
        Ok(Answer::Document(value, line))
    }

    /// Lets reads fail after this long; `None` waits for ever.
    pub fn set_patience(&self, patience: Option<Duration>) -> Result<(), ClientError> {
        self.stream.get_ref().set_read_timeout(patience).map_err(ClientError::Away)
    }
}
