//! `dewfs pause` and `dewfs resume`: background transfer stands still, or goes on.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::control::{PausedLane, Request};

use super::output::{Output, text, tone_of};
use super::target::Target;
use super::{Common, Failure, exit};

/// What to pause.
#[derive(Args, Clone, Debug)]
pub struct PauseArgs {
    /// A path in the mount
    dir: PathBuf,
    /// What stands still; what a program waits for goes on
    #[arg(long, value_name = "LANE", default_value = "all")]
    lane: LaneWord,
}

/// What to resume.
#[derive(Args, Clone, Debug)]
pub struct ResumeArgs {
    /// A path in the mount
    dir: PathBuf,
    /// What goes on; what else is paused stays so
    #[arg(long, value_name = "LANE", default_value = "all")]
    lane: LaneWord,
}

/// The lanes that can be paused.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LaneWord {
    /// Fetching what is pinned, and sending files of more than 1 MiB
    Bulk,
    /// All that is sent
    Uploads,
    /// Both
    All,
}

impl LaneWord {
    fn paused(self) -> PausedLane {
        match self {
            Self::Bulk => PausedLane::Bulk,
            Self::Uploads => PausedLane::Uploads,
            Self::All => PausedLane::All,
        }
    }
}

/// Runs `pause`.
pub(super) fn run(args: &PauseArgs, common: &Common) -> Result<u8, Failure> {
    ask(&args.dir, common, Request::Pause { lane: args.lane.paused() })
}

/// Runs `resume`.
pub(super) fn run_resume(args: &ResumeArgs, common: &Common) -> Result<u8, Failure> {
    let request = match args.lane {
        LaneWord::All => Request::Resume,
        lane => Request::ResumeLane { lane: lane.paused() },
    };
    ask(&args.dir, common, request)
}

fn ask(dir: &std::path::Path, common: &Common, request: Request) -> Result<u8, Failure> {
    let output = Output::of(common);
    let done = Target::of(dir)?.connect()?.ask(request, false, |document, line| {
        let state = text(document, "state");
        if common.json {
            output.line(line);
        } else if !common.quiet {
            let at = super::exit::one_line(text(document, "mountpoint"));
            output.line(&format!("{at}  {}", output.paint(state, tone_of(state))));
        }
    })?;
    exit::conclude(&done).map_err(|failure| failure.about(dir.display()))
}
