//! `dewfs held`, `release`, `undo`, `conflicts`: what waits for a person, and what the person wants.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::control::Request;

use super::output::{Output, counted, local_time, number, shown, size, text};
use super::target::{Target, here};
use super::{Common, DONE, FAILED, Failure, exit};

/// Which mount, and how to print.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// A path in the mount; the current directory otherwise
    #[arg(value_name = "DIR")]
    path: Option<PathBuf>,
    /// Print only paths, each ended by NUL
    #[arg(short = '0', long = "null")]
    null: bool,
}

/// Which mount, and whether to do it.
#[derive(Args, Clone, Debug)]
pub struct DoArgs {
    /// A path in the mount
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// Only tell what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs `held`.
pub(super) fn run(args: &ListArgs, common: &Common) -> Result<u8, Failure> {
    list(args, common, Request::Held, |document| {
        let when = local_time(text(document, "since"));
        let what = text(document, "what");
        format!("{what:9}  {when}  {}", shown(document))
    })
}

/// Runs `conflicts`.
pub(super) fn run_conflicts(args: &ListArgs, common: &Common) -> Result<u8, Failure> {
    list(args, common, Request::Conflicts, |document| {
        let of = match text(document, "original") {
            "" => String::new(),
            original => format!("  (copy of {})", exit::one_line(original)),
        };
        format!("{:>9}  {}{of}", size(number(document, "size")), shown(document))
    })
}

fn list(
    args: &ListArgs,
    common: &Common,
    request: Request,
    line_of: impl Fn(&Value) -> String,
) -> Result<u8, Failure> {
    let target = Target::of(&here(args.path.as_ref()))?;
    let output = Output::of(common);
    let done = target.connect()?.ask(request, false, |document, line| {
        if !output.for_scripts(common, args.null, document, line) {
            output.line(&line_of(document));
        }
    })?;
    exit::conclude(&done)
}

/// Runs `release`.
pub(super) fn run_release(args: &DoArgs, common: &Common) -> Result<u8, Failure> {
    let output = Output::of(common);
    let request = Request::Release { dry_run: args.dry_run };
    let done = Target::of(&args.path)?.connect()?.ask(request, false, |document, line| {
        if common.json {
            output.line(line);
        } else if !common.quiet {
            let count = number(document, "items");
            let verb = match (args.dry_run, count) {
                (true, _) => "would be sent",
                (false, 1) => "is sent",
                (false, _) => "are sent",
            };
            output.line(&format!("{} {verb}", counted(count, "held change", "held changes")));
        }
    })?;
    exit::conclude(&done)
}

/// Runs `undo`.
pub(super) fn run_undo(args: &DoArgs, common: &Common) -> Result<u8, Failure> {
    let output = Output::of(common);
    let request = Request::Undo { dry_run: args.dry_run };
    let (mut back, mut left) = (0_u64, false);
    let done = Target::of(&args.path)?.connect()?.ask(request, false, |document, line| {
        if text(document, "what") == "left" {
            left = true;
            eprintln!("dewfs: {}: in use: close it, then undo again", shown(document));
        } else {
            back += 1;
        }
        if common.json {
            output.line(line);
        } else if !text(document, "kept").is_empty() && !common.quiet {
            let kept = exit::one_line(text(document, "kept"));
            output.line(&format!("{}: your content is kept in {kept}", shown(document)));
        }
    })?;
    if !common.json && !common.quiet {
        let verb = if args.dry_run { "would be brought back" } else { "brought back" };
        output.line(&format!("{} {verb}", counted(back, "item", "items")));
    }
    match done.exit {
        DONE => Ok(DONE),
        FAILED if left => Ok(FAILED),
        _ => exit::conclude(&done),
    }
}
