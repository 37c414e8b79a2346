//! The life of a mount's daemon: state, remote, engine, socket, kernel; then the way back.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit, test_kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::failure::{Failure, Kind};
use super::place::Place;
use super::{Order, background, log, remote, service, thrift, unused};
use crate::cli::remotes::Signs;
use crate::config::{Access, Atime, MountOptions};
use crate::control::{
    Client, MetricsServer, MountInfo, Note, Request, Server, StopSignal, settle_elsewhere,
};
use crate::engine::{Engine, Restraint, StartError, claim_state_dir};
use crate::fuse::{self, MountAs, Mounted};
use crate::model::Ino;
use crate::remote::Remote;

/// How long a daemon that only goes on sending has to let go of the state.
const LET_GO: Duration = Duration::from_secs(5);

/// How long making everything durable may take at the end, when the disk hangs.
const STOP: Duration = Duration::from_secs(20);

/// What systemd waits longer for the end than its parts may take.
const MARGIN: Duration = Duration::from_secs(10);

/// Mounts, serves, and ends with the mount.
pub(super) fn run(order: &Order, in_background: bool) -> Result<(), Failure> {
    let state = &order.options.places.state_dir;
    let is_new = matches!(state.try_exists(), Ok(false));
    let begun = begin(order, in_background);
    if is_new && begun.is_err() {
        let is_debugged = matches!(level(order), "debug" | "trace");
        unused::forget(state, is_debugged);
    }
    let (runtime, mut daemon) = begun?;
    if in_background {
        background::leave(daemon.notice.as_deref())
            .map_err(|why| Failure::system("/dev/null", &why))?;
    } else {
        service::ready();
    }
    let outcome = runtime.block_on(daemon.live());
    // What still runs waits for the network or for a program that has a file open; nothing of it is needed any more.
    runtime.shutdown_background();
    outcome
}

/// All that comes before the mount can be used.
fn begin(order: &Order, in_background: bool) -> Result<(Runtime, Daemon), Failure> {
    start_log(order, in_background)?;
    raise_open_files();
    crate::cache::share_heaps();
    // A daemon that stands in a folder keeps it from being unmounted.
    std::env::set_current_dir("/").map_err(|why| Failure::system("/", &why))?;
    let runtime = runtime().map_err(|why| Failure::system("no threads to be had", &why))?;
    let daemon = runtime.block_on(Daemon::start(&order.options))?;
    Ok((runtime, daemon))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).thread_name("engine").enable_all().build()
}

/// How much is logged.
fn level(order: &Order) -> &str {
    if order.debug { "debug" } else { order.options.log.as_deref().unwrap_or("info") }
}

fn start_log(order: &Order, in_background: bool) -> Result<(), Failure> {
    let (places, level) = (&order.options.places, level(order));
    if !in_background {
        log::to_stderr_or_journal(level, &order.options.name);
        return Ok(());
    }
    claim_state_dir(&places.state_dir)?;
    log::to_file(level, &places.log);
    Ok(())
}

/// One descriptor per open file is needed, and the usual limit is 1,024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(why) = setrlimit(Resource::Nofile, raised) {
        warn!("the limit of open files stays at {:?}: {why}", limit.current);
    }
}

/// Is a mount in use, and everything behind it.
struct Daemon {
    engine: Engine,
    mounted: Mounted,
    signals: Signals,
    signs: Option<Signs>,
    thrift: thrift::Watch,
    stop: StopSignal,
    drain: Duration,
    options: MountOptions,
    /// What who mounts should know although it worked.
    notice: Option<String>,
    _socket: Option<Server>,
    _metrics: Option<MetricsServer>,
}

/// Says why a mount ends.
enum End {
    /// Somebody unmounted it.
    Unmounted(io::Result<()>),
    /// A signal: unmount and go on sending for a while.
    Signal,
    /// Somebody needs the state now.
    Stop,
}

impl Daemon {
    async fn start(options: &MountOptions) -> Result<Self, Failure> {
        let signals = Signals::listen().map_err(|why| Failure::system("signals", &why))?;
        let place = Place::examine(options)?;
        let opened = remote::open(options)?;
        let before = catalogs_set_aside(&options.places.state_dir);
        let mut thrift = thrift::Watch::start(options.thrift).await;
        let engine = start_engine(options, opened.remote).await?;
        restrain(&engine, thrift.now()).await;
        let notice = damaged(&options.places.state_dir, before);
        let stop = StopSignal::default();
        let socket = serve_socket(&engine, options, &stop).await;
        let metrics = match serve_metrics(&engine, options).await {
            Ok(metrics) => metrics,
            Err(failure) => {
                stop_engine(&engine, options).await;
                return Err(failure);
            }
        };
        let how = mount_as(options, place.path.clone());
        match place.mount(&engine, &how) {
            Ok((mounted, told)) => {
                info!("{} is mounted at {}.", how.source.display(), how.mountpoint.display());
                stop.take_back();
                let drain = options.settings.drain;
                if let Some(signs) = &opened.signs {
                    signs.stop_asking();
                }
                let signs = opened.signs;
                let notice = both(notice, told);
                Ok(Self {
                    engine,
                    mounted,
                    signals,
                    signs,
                    thrift,
                    stop,
                    drain,
                    options: options.clone(),
                    notice,
                    _socket: socket,
                    _metrics: metrics,
                })
            }
            Err(failure) => {
                stop_engine(&engine, options).await;
                Err(failure)
            }
        }
    }

    /// Serves until somebody ends it, then sends what is pending for a while. It fails if nobody did: then it is started again.
    async fn live(&mut self) -> Result<(), Failure> {
        let end = tokio::select! {
            ended = self.mounted.ended() => End::Unmounted(ended),
            () = self.signals.next() => End::Signal,
            () = self.stop.asked() => End::Stop,
            never = service::attend(&self.engine) => match never {},
            never = be_thrifty(&mut self.thrift, &self.engine) => match never {},
            never = sign_in_when_asked(&self.stop, self.signs.as_ref(), &self.options, &self.engine) => match never {},
        };
        service::stopping(self.drain + STOP + MARGIN);
        if let End::Unmounted(Err(why)) = &end {
            error!("the kernel's requests could not be taken any more: {why}");
        }
        // Of a connection that was aborted the dead mount is left.
        let aborted = match &end {
            End::Unmounted(ended) => ended.is_err() || self.mounted.is_there(),
            End::Signal | End::Stop => false,
        };
        let until = Instant::now() + self.drain;
        // What programs save meanwhile belongs into the mount, and is sent as well: it goes away last.
        let may_send = match end {
            End::Signal => self.drain(0, self.drain, "").await,
            End::Unmounted(_) => true,
            End::Stop => false,
        };
        if let Err(why) = self.mounted.unmount() {
            error!("it could not be unmounted: {why}");
        }
        if may_send {
            // The first signal asks for what is being done already.
            let harmless = u32::from(matches!(end, End::Unmounted(_)));
            let rest = until.saturating_duration_since(Instant::now());
            if self.engine.mount_status().await.is_ok_and(|how| how.pending == 0) {
                info!("unmounted, all is sent.");
            } else {
                self.drain(harmless, rest, "unmounted, ").await;
            }
        }
        stop_engine(&self.engine, &self.options).await;
        if aborted {
            let why = "the kernel's connection was aborted: mount again; nothing is lost";
            return Err(Failure::new(Kind::System, why));
        }
        Ok(())
    }

    /// Sends what is pending for at most `limit`; signals beyond `harmless` ones end it. Whether there is reason to go on.
    async fn drain(&mut self, harmless: u32, limit: Duration, where_it_is: &str) -> bool {
        let Self { signals, mounted, thrift, .. } = self;
        let what = format!("{where_it_is}sends what is left");
        info!("{what}.");
        service::status(&what);
        let enough = async {
            for _ in 0..=harmless {
                signals.next().await;
            }
        };
        let is_up = where_it_is.is_empty();
        tokio::select! {
            left = self.engine.drain(limit) => match left {
                0 => info!("{where_it_is}all is sent."),
                left => info!("{where_it_is}{left} items are left and go on at the next mount."),
            },
            () = enough => {
                info!("{where_it_is}ended by a signal.");
                return false;
            }
            () = self.stop.asked() => {
                info!("{where_it_is}a new mount takes over.");
                return false;
            }
            _ = mounted.ended(), if is_up => info!("unmounted by somebody while it sends what is left."),
            never = service::stay_alive(&self.engine) => match never {},
            never = be_thrifty(thrift, &self.engine) => match never {},
            never = sign_in_when_asked(&self.stop, self.signs.as_ref(), &self.options, &self.engine) => match never {},
        }
        true
    }
}

/// Reads the secret anew each time somebody signed in or out, and asks the remote with it.
async fn sign_in_when_asked(
    wishes: &StopSignal,
    signs: Option<&Signs>,
    options: &MountOptions,
    engine: &Engine,
) -> Infallible {
    loop {
        wishes.sign_in_asked().await;
        if let Some(signs) = signs {
            signs.again(options.credentials_now());
        }
        if let Err(why) = engine.sync_now(Ino::ROOT).await {
            info!("the remote cannot be asked with the new secret: {why}");
        }
    }
}

/// Holds back what is to be held back, each time that circumstances change.
async fn be_thrifty(thrift: &mut thrift::Watch, engine: &Engine) -> Infallible {
    loop {
        thrift.changed().await;
        restrain(engine, thrift.now()).await;
    }
}

async fn restrain(engine: &Engine, restraint: Option<Restraint>) {
    if let Some(Restraint { lane, why }) = restraint {
        info!("{}: {why}.", lane.word());
    }
    if let Err(error) = engine.restrain(restraint).await {
        warn!("nothing is held back: {error}.");
    }
}

/// How many damaged catalogs were set aside in this state until now.
fn catalogs_set_aside(state: &Path) -> usize {
    let Ok(kept) = std::fs::read_dir(state.join("recovered")) else { return 0 };
    let is_one = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b"catalog.db.");
    kept.flatten().filter(|entry| is_one(&entry.file_name())).count()
}

/// What to say of a catalog that was just set aside, if one was.
fn damaged(state: &Path, before: usize) -> Option<String> {
    (catalogs_set_aside(state) > before).then(|| {
        let kept = state.join("recovered");
        let kept = kept.display();
        format!("the catalog was damaged: it and all that was not sent are kept in {kept}")
    })
}

/// Both of what there is to say, a line each.
fn both(one: Option<String>, other: Option<String>) -> Option<String> {
    let lines: Vec<String> = one.into_iter().chain(other).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

async fn stop_engine(engine: &Engine, options: &MountOptions) {
    if tokio::time::timeout(STOP, engine.stop()).await.is_err() {
        error!("the local disk did not take everything in {} s.", STOP.as_secs());
        // Looking at the state would wait for that disk without end; the note stays.
        return;
    }
    settle_elsewhere(&options.places);
}

/// Starts the engine; a daemon of the same mount that only goes on sending is asked to let go.
async fn start_engine(options: &MountOptions, remote: Arc<dyn Remote>) -> Result<Engine, Failure> {
    let mut asked = false;
    let first = Instant::now();
    loop {
        let settings = options.settings.clone();
        let state = &options.places.state_dir;
        let holder = match Engine::start(settings, state, Arc::clone(&remote)).await {
            Err(StartError::InUse { pid, dir }) => (pid, StartError::InUse { pid, dir }),
            Err(StartError::Catalog(why)) => {
                return Err(Failure::new(Kind::Mount, format!("{}: {why}", state.display())));
            }
            outcome => return Ok(outcome?),
        };
        let (pid, in_use) = holder;
        let noted = Note::read(&options.places.state_dir.join(Note::IN_STATE));
        if !lets_go(options, noted.as_ref(), pid) || first.elapsed() > LET_GO {
            return Err(in_use.into());
        }
        // One that just ends does not answer any more, and one that does is not asked twice.
        asked = asked || ask_to_stop(options, noted);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the daemon that holds the state has it mounted nowhere any more, so that it will let go.
fn lets_go(options: &MountOptions, noted: Option<&Note>, pid: u32) -> bool {
    // The same state may be mounted at another place, and in use there.
    is_unmounted(pid, &options.mountpoint)
        && noted.is_none_or(|note| is_unmounted(pid, &note.mountpoint))
}

/// Whether that daemon has no mount any more there, in its own view of the tree: it may see another than we. One that has ended
/// has none.
fn is_unmounted(pid: u32, mountpoint: &Path) -> bool {
    match fuse::mountinfo::mounts_of(pid) {
        Ok(mounts) => !mounts.iter().any(|m| m.is_dewfs() && m.mountpoint == mountpoint),
        Err(_) => has_ended(pid),
    }
}

/// Whether a process is gone, or has only its end before it: `/proc` shows no mounts of that. It may hide a living one, too.
fn has_ended(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let is_dead =
        |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    state.is_ok_and(|stat| is_dead(&stat)) || test_kill_process(pid) == Err(Errno::SRCH)
}

fn ask_to_stop(options: &MountOptions, noted: Option<Note>) -> bool {
    // One that was started otherwise has its socket elsewhere, but noted where.
    let socket = noted.map_or_else(|| options.places.socket.clone(), |note| note.socket);
    let asked = Client::connect(&socket).and_then(|mut daemon| {
        daemon.set_patience(Some(LET_GO))?;
        daemon.ask(Request::Stop, false, |_, _| {})
    });
    asked.is_ok()
}

/// A mount without its socket is still a mount; only the commands cannot ask it.
async fn serve_socket(
    engine: &Engine,
    options: &MountOptions,
    stop: &StopSignal,
) -> Option<Server> {
    let about = MountInfo {
        mountpoint: options.mountpoint.clone(),
        remote: options.source.to_string_lossy().into_owned(),
        name: options.name.clone(),
        id: options.places.id.clone(),
        owner: options.who.uid,
        uid: options.settings.uid,
        others: options.kernel.access == Access::Everyone,
    };
    match Server::start(engine.clone(), about, &options.places, stop.clone()).await {
        Ok(server) => Some(server),
        Err(why) => {
            warn!("{}: {why}: commands cannot ask this mount.", options.places.socket.display());
            None
        }
    }
}

/// Who asked for figures is told if they cannot be shown.
async fn serve_metrics(
    engine: &Engine,
    options: &MountOptions,
) -> Result<Option<MetricsServer>, Failure> {
    let Some(address) = options.metrics else { return Ok(None) };
    match MetricsServer::start(engine.clone(), &options.name, address).await {
        Ok(server) => {
            info!("figures are at http://{}/metrics.", server.address());
            Ok(Some(server))
        }
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
            let why = format!("metrics={address}: this port is in use: choose another port");
            Err(Failure::new(Kind::System, why))
        }
        Err(why) => Err(Failure::system(&format!("metrics={address}"), &why)),
    }
}

fn mount_as(options: &MountOptions, mountpoint: std::path::PathBuf) -> MountAs {
    MountAs {
        source: options.source.clone(),
        mountpoint,
        read_only: options.kernel.read_only,
        no_exec: options.kernel.no_exec,
        no_atime: options.kernel.atime == Atime::Never,
        access: match options.kernel.access {
            Access::Owner => fuse::Access::Owner,
            Access::OwnerAndRoot => fuse::Access::Root,
            Access::Everyone => fuse::Access::Everybody,
        },
        // Whom this process mounts for may write on the way.
        follows_no_link: crate::config::is_entrusted(),
        timeout: options.settings.timeout,
    }
}

/// Is what tells the daemon to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Ends nothing: the broken lease of a data file would kill by default, and so would a terminal that goes away, or a file
    /// that grows beyond the limit of the shell that began this.
    _harmless: [Signal; 3],
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _harmless: [
                signal(SignalKind::io())?,
                signal(SignalKind::hangup())?,
                signal(SignalKind::from_raw(libc::SIGXFSZ))?,
            ],
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
