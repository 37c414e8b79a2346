//! The socket itself: bound, guarded, read line by line.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::Places;
use crate::engine::Engine;

use super::elsewhere::note_elsewhere;
use super::handler::Handler;
use super::protocol::{Done, Envelope, VERSION};
use super::rights::{Peer, may_ask};
use super::{MountInfo, Note, to_line};

/// The longest request: a list of paths may be long.
const LONGEST: u64 = 16 << 20;
/// The same of somebody who may only ask, and how many of those may be connected at once.
const LONGEST_OF_OTHERS: u64 = 64 << 10;
const OTHERS: usize = 64;
/// The longest path a socket can be bound to or reached by.
const SUN_PATH: usize = 107;

/// Carries wishes to the daemon: that it ends, that it signs in again.
#[derive(Clone, Debug)]
pub struct StopSignal {
    stop: Arc<watch::Sender<bool>>,
    sign_in: Arc<Notify>,
}

impl Default for StopSignal {
    fn default() -> Self {
        Self { stop: Arc::new(watch::channel(false).0), sign_in: Arc::default() }
    }
}

impl StopSignal {
    /// Asks the daemon to end.
    pub fn ask(&self) {
        self.stop.send_replace(true);
    }

    /// Takes the wish to end back: who had it found no mount yet, and thought that it was gone.
    pub fn take_back(&self) {
        self.stop.send_replace(false);
    }

    /// Asks the daemon to read its secret anew.
    pub fn ask_sign_in(&self) {
        self.sign_in.notify_one();
    }

    /// Waits until somebody asked for that.
    pub async fn sign_in_asked(&self) {
        self.sign_in.notified().await;
    }

    /// Waits until somebody asked for the end.
    pub async fn asked(&self) {
        let mut receiver = self.stop.subscribe();
        // The sender lives as long as this does, so this ends only when it is true.
        let _closed = receiver.wait_for(|asked| *asked).await;
    }
}

/// Is a listening socket; dropped, it is gone.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    note: PathBuf,
    inode: u64,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens at the places of the mount and answers from `engine`. Somebody who asks the mount to end sets `stop`.
    pub async fn start(
        engine: Engine,
        info: MountInfo,
        places: &Places,
        stop: StopSignal,
    ) -> io::Result<Self> {
        let everybody = info.owner == 0;
        for dir in [places.socket.parent(), places.note.parent()].into_iter().flatten() {
            make_dir(dir, everybody)?;
        }
        remove_stale(&info, places);
        let listener = bind(&places.socket)?;
        // Root's mounts may be asked by others, who are told apart by their uid.
        let mode = if everybody { 0o666 } else { 0o600 };
        std::fs::set_permissions(&places.socket, std::fs::Permissions::from_mode(mode))?;
        let note = Note {
            mountpoint: info.mountpoint.clone(),
            socket: places.socket.clone(),
            state_dir: places.state_dir.clone(),
            pid: std::process::id(),
        };
        note.write(&places.note, if everybody { 0o644 } else { 0o600 })?;
        // Stays, so that `status` can tell of what was not sent when nothing is mounted.
        note.write(&places.state_dir.join(Note::IN_STATE), 0o600)?;
        note_elsewhere(places, &note);
        let inode = std::fs::metadata(&places.socket)?.ino();
        let task = tokio::spawn(accept(listener, engine, Arc::new(info), stop));
        Ok(Self { socket: places.socket.clone(), note: places.note.clone(), inode, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Another daemon of this mount may have taken over already: its socket is not ours to remove.
        if std::fs::metadata(&self.socket).is_ok_and(|about| about.ino() == self.inode) {
            for path in [&self.socket, &self.note] {
                if let Err(error) = std::fs::remove_file(path) {
                    tracing::debug!("{}: {error}.", path.display());
                }
            }
        }
    }
}

/// Removes what killed daemons at the same mountpoint left, so that commands do not knock at their doors.
fn remove_stale(info: &MountInfo, places: &Places) {
    let others = super::find_daemons(info.owner).into_iter().map(|found| found.note);
    for note in others.filter(|note| note.mountpoint == info.mountpoint) {
        let dead = super::Client::connect(&note.socket).is_err();
        if dead && note.socket != places.socket {
            let path = note.socket.with_extension("json");
            for path in [&note.socket, &path] {
                if let Err(error) = std::fs::remove_file(path) {
                    tracing::debug!("{}: {error}.", path.display());
                }
            }
        }
    }
}

/// A directory that only we can write, and others at most enter; one of somebody else is refused.
pub(super) fn make_dir(dir: &Path, everybody: bool) -> io::Result<()> {
    let mode = if everybody { 0o755 } else { 0o700 };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir)?;
    let about = std::fs::metadata(dir)?;
    if about.uid() != rustix::process::geteuid().as_raw() {
        let why = format!("{} belongs to user {}", dir.display(), about.uid());
        return Err(io::Error::other(why));
    }
    if about.mode() & 0o777 & !mode != 0 {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(about.mode() & mode))?;
    }
    Ok(())
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // What a killed daemon left; a living one holds the lock of the state directory.
        _ => {}
    }
    with_short_path(path, |path| UnixListener::bind(path))
}

/// Calls `act` with a path to the same place that is short enough for a socket.
pub(super) fn with_short_path<T>(
    path: &Path,
    act: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    use std::os::fd::AsRawFd as _;
    if path.as_os_str().len() <= SUN_PATH {
        return act(path);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return act(path) };
    let dir = std::fs::File::open(dir)?;
    act(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

async fn accept(listener: UnixListener, engine: Engine, info: Arc<MountInfo>, stop: StopSignal) {
    let others = Arc::new(Semaphore::new(OTHERS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok((peer, pid)) = who_is(&stream) else { continue };
                let rules = peer.rules(&info);
                let place = if rules { None } else { others.clone().try_acquire_owned().ok() };
                if !rules && place.is_none() {
                    // Those who are connected already are all others; the mount's own commands get through.
                    continue;
                }
                let (engine, info, stop) = (engine.clone(), info.clone(), stop.clone());
                tokio::spawn(async move {
                    let _held = place;
                    let peer = if rules { peer } else { peer.with_groups(pid).await };
                    if let Err(error) = converse(stream, peer, engine, info, stop).await {
                        tracing::debug!("A client of the socket went away: {error}.");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("The socket could not take a client: {error}.");
                // Out of descriptors, most likely: those in use come back.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Who the kernel says is at the other end, with the number of the process.
fn who_is(stream: &UnixStream) -> io::Result<(Peer, Option<i32>)> {
    let who = stream.peer_cred()?;
    Ok((Peer::of(who.uid(), who.gid()), who.pid()))
}

async fn converse(
    stream: UnixStream,
    peer: Peer,
    engine: Engine,
    info: Arc<MountInfo>,
    stop: StopSignal,
) -> io::Result<()> {
    let rules = peer.rules(&info);
    let longest = if rules { LONGEST } else { LONGEST_OF_OTHERS };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(line) = next_line(&mut reader, longest).await? {
        let envelope = match understand(&line) {
            Ok(envelope) => envelope,
            Err(done) => {
                write_line(&mut writer, &to_line(&*done)).await?;
                continue;
            }
        };
        let is_let_in = rules || (info.others && may_ask(&engine, &peer, &envelope.request).await);
        if !is_let_in {
            let refused = Done::with(1, None, Some("permission denied: not your mount".into()));
            write_line(&mut writer, &to_line(&refused)).await?;
            continue;
        }
        let (out, lines) = mpsc::channel(64);
        let handler =
            Handler { engine: engine.clone(), info: info.clone(), stop: stop.clone(), out, rules };
        if !answer(handler, envelope, lines, &mut reader, &mut writer).await? {
            break;
        }
    }
    Ok(())
}

/// Works until the answer is whole or who asked is gone: then the work is dropped. `false` = gone.
async fn answer(
    handler: Handler,
    envelope: Envelope,
    mut lines: mpsc::Receiver<String>,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<bool> {
    // It tells of all that is in transfer: names that others may not be able to list.
    let progress = envelope.progress && handler.rules;
    let work = async move { handler.handle(envelope.request, progress).await };
    let (done, written) = {
        let write = async {
            while let Some(line) = lines.recv().await {
                write_line(writer, &line).await?;
            }
            io::Result::Ok(())
        };
        let mut both = Box::pin(async { tokio::join!(work, write) });
        tokio::select! {
            outcome = &mut both => outcome,
            gone = reader.fill_buf() => {
                if gone?.is_empty() {
                    return Ok(false);
                }
                // The next request is here already; it waits its turn.
                both.await
            }
        }
    };
    written?;
    write_line(writer, &to_line(&done)).await?;
    Ok(true)
}

async fn next_line(
    reader: &mut BufReader<OwnedReadHalf>,
    longest: u64,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(longest).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a request that does not end"));
    }
    Ok(Some(line))
}

/// What a command says that asks for what this daemon does not know.
const OLDER: &str =
    "the running mount is of an older dewfs, which cannot do this: unmount and mount again";

pub(super) fn understand(line: &[u8]) -> Result<Envelope, Box<Done>> {
    let refuse = |why: String| Box::new(Done::with(2, None, Some(why)));
    #[derive(serde::Deserialize)]
    struct Head {
        version: u32,
        request: Option<String>,
    }
    let head: Head =
        serde_json::from_slice(line).map_err(|error| refuse(format!("not a request: {error}")))?;
    serde_json::from_slice(line).map_err(|error| {
        let error = error.to_string();
        let is_new = |word: &String| error.starts_with(&format!("unknown variant `{word}`"));
        if head.version > VERSION {
            refuse(OLDER.into())
        } else if head.request.as_ref().is_some_and(is_new) {
            Box::new(Done::with(1, None, Some(OLDER.into())))
        } else {
            refuse(format!("not a request: {error}"))
        }
    })
}

async fn write_line(writer: &mut OwnedWriteHalf, line: &str) -> io::Result<()> {
    writer.write_all(line.as_bytes()).await?;
    writer.write_all(b"\n").await
}
