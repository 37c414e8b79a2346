//! `dewfs free`: give space back.

use clap::Args;
use serde_json::Value;

use crate::control::Request;

use super::output::{Output, number, shown, size, text};
use super::paths::Paths;
use super::target::by_mount;
use super::{Common, DONE, Failure, exit};

/// What to free.
#[derive(Args, Clone, Debug)]
pub struct FreeArgs {
    #[command(flatten)]
    paths: Paths,
    /// Only tell what would be freed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs the command.
pub(super) fn run(args: &FreeArgs, common: &Common) -> Result<u8, Failure> {
    let output = Output::of(common);
    let (mut sum, mut looked) = (0, false);
    let mut status = DONE;
    for (target, paths) in by_mount(&args.paths.all()?)? {
        let request = Request::Free { paths, dry_run: args.dry_run };
        let done = target.connect()?.ask(request, false, |document, line| {
            (sum, looked) = (sum + number(document, "bytes"), true);
            if common.json {
                output.line(line);
            } else {
                tell_kept(document);
            }
        })?;
        status = status.max(exit::of_one(&done));
    }
    // Of what is not there nothing was freed, which was said.
    if !common.json && !common.quiet && (looked || status == DONE) {
        let verb = if args.dry_run { "would be freed" } else { "freed" };
        output.line(&format!("{} {verb}", size(sum)));
    }
    Ok(status)
}

/// Names what was kept, and why, on stderr.
pub(super) fn tell_kept(document: &Value) {
    for kept in document.get("kept").and_then(Value::as_array).into_iter().flatten() {
        let why = match text(kept, "message") {
            "open" => "open: close it in the program that uses it, then free it again",
            why => why,
        };
        eprintln!("dewfs: {}: kept: {}", shown(kept), exit::one_line(why));
    }
}
