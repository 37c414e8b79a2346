//! `dewfs cache`: numbers, checksums, clean content away.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::control::Request;

use super::free::tell_kept;
use super::output::{Output, number, path_bytes, shown, size, text};
use super::target::{Target, here};
use super::{Common, Failure, exit};

/// The content kept here.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Show how much is here
    Stat {
        /// A mount; the current directory's otherwise
        dir: Option<PathBuf>,
    },
    /// Compare what is here with its checksums
    Verify {
        /// A mount; the current directory's otherwise
        dir: Option<PathBuf>,
        /// Print only the paths that differ, each ended by NUL
        #[arg(short = '0', long = "null")]
        null: bool,
    },
    /// Drop what is in sync and not pinned
    Clear {
        /// A mount; the current directory's otherwise
        dir: Option<PathBuf>,
        /// Only tell what would be dropped
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
}

/// Runs the command.
pub(super) fn run(args: &CacheArgs, common: &Common) -> Result<u8, Failure> {
    let (dir, request) = match &args.what {
        What::Stat { dir } => (dir, Request::CacheStat),
        What::Verify { dir, .. } => (dir, Request::CacheVerify),
        What::Clear { dir, dry_run } => (dir, Request::CacheClear { dry_run: *dry_run }),
    };
    let null = matches!(args.what, What::Verify { null: true, .. });
    let target = Target::of(&here(dir.as_ref()))?;
    let output = Output::of(common);
    let done = target.connect()?.ask(request, false, |document, line| {
        if common.json {
            output.line(line);
        } else if null {
            if text(document, "type") == "problem" {
                output.end_with(&path_bytes(document), 0);
            }
        } else {
            show(document, &output, common.quiet);
        }
    })?;
    exit::conclude(&done)
}

fn show(document: &Value, output: &Output, quiet: bool) {
    let bytes = |key: &str| size(number(document, key));
    match text(document, "type") {
        "cache" => {
            output.line(&format!("here      {} of {}", bytes("used_bytes"), bytes("limit_bytes")));
            output.line(&format!("pinned    {}", bytes("pinned_bytes")));
            output.line(&format!("not sent  {}", bytes("pending_bytes")));
            output.line(&format!("items     {}", number(document, "items")));
            output.line(&format!("kept in   {}", text(document, "state_dir")));
        }
        "problem" => eprintln!("dewfs: {}: {}", shown(document), text(document, "message")),
        "freed" => {
            tell_kept(document);
            let would = document.get("dry_run").and_then(Value::as_bool) == Some(true);
            let verb = if would { "would be dropped" } else { "dropped" };
            if !quiet {
                output.line(&format!("{} {verb}", bytes("bytes")));
            }
        }
        "verified" if !quiet => match number(document, "problems") {
            0 => output.line("all as it should be"),
            1 => output.line("1 file differs"),
            many => output.line(&format!("{many} files differ")),
        },
        _ => {}
    }
}
