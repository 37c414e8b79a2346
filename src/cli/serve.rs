//! `dewfs serve`: a directory as a WebDAV remote.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Credentials, Login, Server, Who};
use crate::remote::serve::{Share, SignIn};

use super::output::Output;
use super::{Common, DONE, Failure};

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// What is served, where, to whom.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "User name and password, or a token, come from --credentials, systemd or the environment (DEWFS_USER, DEWFS_PASSWORD, \
                        DEWFS_TOKEN), as for a mount. Without them, whoever can use this machine can use the share, and only this \
                        machine can. There is no encryption: for others, put a server with TLS in front."
)]
pub struct ServeArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A file with lines username=, password= or token=
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Nothing can be changed
    #[arg(long)]
    read_only: bool,
    /// Listen beyond this machine although passwords and contents go unencrypted
    #[arg(long)]
    insecure_http: bool,
}

/// Runs the command.
pub(super) fn run(args: &ServeArgs, common: &Common) -> Result<u8, Failure> {
    let sign_in = sign_in(args)?;
    if !args.listen.ip().is_loopback() {
        let listen = args.listen;
        if !sign_in.is_asked() {
            return Err(Failure::usage(format!(
                "--listen {listen}: everybody who reaches it could change {}: give --credentials FILE, or listen on 127.0.0.1",
                args.dir.display()
            )));
        }
        if !args.insecure_http {
            return Err(Failure::usage(format!(
                "--listen {listen}: passwords would go unencrypted: put a server with TLS in front of 127.0.0.1, or say --insecure-http"
            )));
        }
    }
    log(common.verbose);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(args, sign_in, common))
}

fn sign_in(args: &ServeArgs) -> Result<SignIn, Failure> {
    let place = Server { host: args.dir.display().to_string(), port: None };
    let found = Credentials::find(args.credentials.as_deref(), None, place, &Who::current())?;
    match found.known() {
        Some(Login::Basic { user, password }) => Ok(SignIn::Basic { user, password }),
        Some(Login::Bearer(token)) => Ok(SignIn::Bearer(token)),
        // A mount is signed out by that; a share would be everybody's.
        None => match found.source() {
            Some(file) => Err(Failure::usage(format!(
                "credentials {}: nobody could sign in with that: write username= and password=, or token=",
                file.display()
            ))),
            None => Ok(SignIn::Nobody),
        },
    }
}

async fn serve(args: &ServeArgs, sign_in: SignIn, common: &Common) -> Result<u8, Failure> {
    let (mut asked, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let is_asked = sign_in.is_asked();
    if args.dir.is_file() {
        let dir = args.dir.display();
        return Err(Failure::usage(format!("{dir} is a file: name a directory to serve")));
    }
    let share = Share::open(&args.dir, sign_in, args.read_only).await;
    let share = Arc::new(share.map_err(|error| Failure::failed(error.to_string()))?);
    let listener = tokio::net::TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::failed(format!(
            "--listen {}: this port is in use: choose another port, or 0 for any that is free",
            args.listen
        )),
        _ => Failure::failed(format!("--listen {}: {error}", args.listen)),
    })?;
    let url = format!("http://{}/", listener.local_addr()?);
    let output = Output::of(common);
    if common.json {
        let path = args.dir.canonicalize()?;
        let document = serde_json::json!({
            "format": crate::control::FORMAT, "type": "serving", "path": path.to_string_lossy(),
            "url": url, "sign_in": is_asked, "read_only": share.is_read_only(),
        });
        output.line(&document.to_string());
    } else if !common.quiet {
        let whom = if is_asked { "" } else { ", to whoever can use this machine" };
        output.line(&format!("{} is served at {url}{whom}", args.dir.display()));
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "nobody was told that it is ready");
    }
    let ended = tokio::select! {
        () = share.clone().serve(listener) => DONE,
        _ = asked.recv() => DONE,
        _ = interrupted.recv() => INTERRUPTED,
    };
    // Who asks twice does not want to wait.
    tokio::select! {
        () = share.end() => {}
        _ = asked.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(ended)
}

fn log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    // What the watcher says of folders that went is no news.
    let filter = tracing_subscriber::EnvFilter::new(format!("{level},notify=error"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    let log = log.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    // Only a second start could fail, and then there is a log already.
    drop(log.try_init());
}
