//! `dewfs find`, `du`, `largest` and `recent`: answered from the catalog, without asking the remote.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::control::{Order, Request, Scope};
use crate::model::Glob;

use super::output::{Output, Tone, local_time, number, shown, size, text, tone_of};
use super::target::Target;
use super::{Common, Failure, exit};

/// What to find.
#[derive(Args, Clone, Debug)]
pub struct FindArgs {
    /// Where to look
    dir: PathBuf,
    /// A pattern of the name, or with a slash of the path below DIR: * ? [a-z] **
    glob: Option<OsString>,
    /// Print only paths, each ended by NUL
    #[arg(short = '0', long = "null")]
    null: bool,
}

/// What to sum up.
#[derive(Args, Clone, Debug)]
pub struct DuArgs {
    /// Where to look
    dir: PathBuf,
    /// Show folders down to this depth
    #[arg(short = 'd', long, value_name = "N", default_value_t = 1)]
    max_depth: u64,
    /// Show only the sum
    #[arg(short, long, conflicts_with = "max_depth")]
    summarize: bool,
    /// Print only paths, each ended by NUL
    #[arg(short = '0', long = "null")]
    null: bool,
}

/// How many files to show.
#[derive(Args, Clone, Debug)]
pub struct FirstArgs {
    /// Where to look
    dir: PathBuf,
    /// How many files
    #[arg(short = 'N', long = "number", value_name = "N", default_value_t = 20)]
    number: u64,
    /// Print only paths, each ended by NUL
    #[arg(short = '0', long = "null")]
    null: bool,
}

/// Runs `find`.
pub(super) fn run(args: &FindArgs, common: &Common) -> Result<u8, Failure> {
    if let Some(why) = args.glob.as_deref().and_then(|glob| Glob::flaw(glob.as_bytes())) {
        let glob = args.glob.as_deref().unwrap_or_default().display();
        return Err(Failure::usage(format!("pattern '{glob}': {why}")));
    }
    let pattern = args.glob.as_deref().map(|glob: &OsStr| Scope::of(glob.as_bytes()));
    ask(&args.dir, common, args.null, |scope| Request::Find { scope, pattern })
}

/// Runs `largest`.
pub(super) fn run_largest(args: &FirstArgs, common: &Common) -> Result<u8, Failure> {
    first(args, common, Order::Largest)
}

/// Runs `recent`.
pub(super) fn run_recent(args: &FirstArgs, common: &Common) -> Result<u8, Failure> {
    first(args, common, Order::Recent)
}

fn first(args: &FirstArgs, common: &Common, order: Order) -> Result<u8, Failure> {
    let count = args.number;
    ask(&args.dir, common, args.null, |scope| Request::First { scope, order, count })
}

/// Runs `du`.
pub(super) fn run_du(args: &DuArgs, common: &Common) -> Result<u8, Failure> {
    let depth = if args.summarize { 0 } else { args.max_depth };
    ask(&args.dir, common, args.null, |scope| Request::Usage { scope, depth })
}

fn ask(
    dir: &Path,
    common: &Common,
    null: bool,
    request: impl FnOnce(Scope) -> Request,
) -> Result<u8, Failure> {
    let target = Target::of(dir)?;
    let output = Output::of(common);
    let request = request(target.scope.clone());
    let mut sums = Vec::new();
    let done = target.connect()?.ask(request, false, |document, line| {
        match text(document, "type") {
            // Of paths only paths are printed; how much was not looked at is said to people.
            "searched" if common.json => output.line(line),
            "searched" => say_unlisted(document, common),
            "usage" if !common.json && !null => sums.push(document.clone()),
            _ if output.for_scripts(common, null, document, line) => {}
            _ => found_line(document, &output),
        }
    })?;
    // Subfolders first and the sum last, as du prints them; the largest last, where it is seen.
    sums.sort_by_key(|one| number(one, "size"));
    sums.iter().for_each(|one| usage_line(one, &output));
    exit::conclude(&done).map_err(|failure| failure.about(dir.display()))
}

fn say_unlisted(document: &Value, common: &Common) {
    let count = number(document, "unlisted");
    if count == 0 || common.quiet {
        return;
    }
    let folders = if count == 1 { "1 folder is".into() } else { format!("{count} folders are") };
    eprintln!("dewfs: {folders} not listed yet: what is in there is not counted");
}

fn found_line(document: &Value, output: &Output) {
    let content = text(document, "content");
    let state = output.paint(&format!("{content:11}"), tone_of(content));
    let bytes = match text(document, "kind") {
        "folder" => String::new(),
        _ => size(number(document, "size")),
    };
    let time = output.paint(&local_time(text(document, "mtime")), Tone::Faint);
    output.line(&format!("{state}  {bytes:>10}  {time}  {}", shown(document)));
}

fn usage_line(document: &Value, output: &Output) {
    let (all, here) = (number(document, "size"), number(document, "present_bytes"));
    output.line(&format!(
        "{:>10}  {:>10} here  {:>8} {}  {}",
        size(all),
        size(here),
        number(document, "files"),
        if number(document, "files") == 1 { "file " } else { "files" },
        shown(document)
    ));
}
