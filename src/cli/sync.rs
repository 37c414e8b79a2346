//! `dewfs sync`: send and fetch changes now.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::parse_duration;
use crate::control::{Done, Request};

use super::output::{Output, number};
use super::progress::Bars;
use super::target::{Target, here, mine};
use super::{Common, DONE, Failure, exit};

/// What to sync.
#[derive(Args, Clone, Debug)]
pub struct SyncArgs {
    /// A mount, or an item in it; else the current directory, or all of the caller's mounts if that is in none
    path: Option<PathBuf>,
    /// Return when all is in sync, or nothing goes further by itself
    #[arg(long)]
    wait: bool,
    /// Wait for at most this long
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
    /// The remote is meant to be another one, or to be empty
    #[arg(long)]
    accept_remote: bool,
}

/// Reads a duration for clap.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a duration such as 500ms, 30s or 1h30m is needed".into())
}

/// A duration in milliseconds, for a request.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Runs the command.
pub(super) fn run(args: &SyncArgs, common: &Common) -> Result<u8, Failure> {
    let until = args.timeout.map(|timeout| Instant::now() + timeout);
    let targets = match Target::of(&here(args.path.as_ref())) {
        Ok(target) => vec![target],
        Err(failure) if args.path.is_some() => return Err(failure),
        Err(_) => mine()?,
    };
    match targets.as_slice() {
        [] => Err(Failure::failed("nothing of yours is mounted")),
        [target] => exit::conclude(&one(args, common, target, until)?),
        _ if args.accept_remote => {
            Err(Failure::usage("say which mount is meant: dewfs sync --accept-remote DIR"))
        }
        several => {
            let outcome = |target| one(args, common, target, until);
            let all = several.iter().map(outcome).map(|outcome| match outcome {
                Ok(done) => exit::of_one(&done),
                Err(failure) => exit::report(&failure),
            });
            Ok(all.max().unwrap_or(DONE))
        }
    }
}

fn one(
    args: &SyncArgs,
    common: &Common,
    target: &Target,
    until: Option<Instant>,
) -> Result<Done, Failure> {
    if args.accept_remote {
        exit::conclude(&target.connect()?.ask(Request::AcceptRemote, false, |_, _| {})?)?;
    }
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let request = Request::Sync {
        scope: target.scope.clone(),
        wait: args.wait,
        timeout_ms: left.map(millis),
    };
    let output = Output::of(common);
    let mut bars = Bars::of(common);
    let mut client = target.connect()?;
    let done = client.ask(request, bars.wanted(), |document, line| {
        if bars.take(document) {
            return;
        }
        bars.aside(|| match (common.json, number(document, "left")) {
            (true, _) => output.line(line),
            (false, _) if common.quiet => {}
            (false, 0) if number(document, "attention") > 0 => output.line("all is sent"),
            (false, 0) => output.line("in sync"),
            (false, left) if args.wait => output.line(&format!("{left} not in sync")),
            (false, left) => output.line(&format!("asked; {left} not in sync yet")),
        });
    })?;
    Ok(done)
}
