//! A directory as a WebDAV server: the other side of [`webdav`](super::webdav), for `dewfs serve`.
//!
//! Each request is one or two calls of [`FolderRemote`], which sees to it that nothing outside its root is reached, that no link
//! is followed, and that a write is compared and made visible in one step. So `If-Match` and `If-None-Match` are exact here:
//! of two writers under one version exactly one wins. ETags are strong and fine: every write through the server makes another
//! inode. What changed since a sync token (RFC 6578) is what the kernel told of the folders that somebody has listed; a token of
//! before the start, or of a time that is not remembered any more, is refused, and the client looks at everything.
//!
//! There are no locks (class 1): conditions do what locks are for. There is no encryption either: beyond this machine it
//! belongs behind something that has it.

mod changes;
mod copies;
mod gather;
mod guard;
mod paths;
mod places;
mod props;
mod read;
mod request;
mod write;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::folder::FolderRemote;
use super::{Remote as _, Result};
use changes::Changes;
pub use guard::SignIn;

/// How long a client may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(30);
/// How long the listener rests when the machine has no descriptors left.
const REST: Duration = Duration::from_millis(100);
/// How long the end waits for what is under way.
const END: Duration = Duration::from_secs(10);

/// Is a directory that is served.
pub struct Share {
    remote: FolderRemote,
    sign_in: SignIn,
    read_only: bool,
    changes: Changes,
    /// One change of names or contents at a time: what is compared is so until it is changed.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Nothing is moved or copied any more.
    is_ending: AtomicBool,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share").field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl Share {
    /// Opens a directory and finds out what can be promised there.
    pub async fn open(dir: &Path, sign_in: SignIn, read_only: bool) -> Result<Self> {
        let remote = FolderRemote::open(dir)?.with_hidden_names();
        let found = remote.probe().await?;
        let changes = Changes::new();
        let read_only = read_only || !found.writable;
        let turn = Arc::default();
        Ok(Self { remote, sign_in, read_only, changes, turn, is_ending: AtomicBool::new(false) })
    }

    /// Whether nothing can be changed.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Serves it until the task is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            // Answers are small and waited for.
            let _as_it_is = stream.set_nodelay(true);
            drop(tokio::spawn(self.clone().talk(stream, peer)));
        }
    }

    /// Waits, but not for long, until nothing is halfway: a copy is given up and taken away, a move is brought to its end.
    pub async fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        if tokio::time::timeout(END, self.turn.lock()).await.is_err() {
            tracing::warn!(
                "a change takes longer than the end can wait: what it hides may stay hidden"
            );
        }
    }

    async fn talk(self: Arc<Self>, stream: tokio::net::TcpStream, peer: SocketAddr) {
        let service = service_fn(move |request| {
            let share = self.clone();
            async move { Ok::<_, std::convert::Infallible>(share.answer(request).await) }
        });
        let talking = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = talking.await {
            tracing::debug!(%peer, %error, "a connection ended");
        }
    }
}
