//! `dewfs pin` and `dewfs unpin`: always keep here, or no longer.

use clap::Args;

use crate::control::Request;

use super::output::{Output, number, shown, size, text};
use super::paths::Paths;
use super::progress::Bars;
use super::target::by_mount;
use super::{Common, DONE, Failure, exit};

/// What to keep.
#[derive(Args, Clone, Debug)]
pub struct PinArgs {
    #[command(flatten)]
    paths: Paths,
    /// Return when the content is here
    #[arg(long)]
    wait: bool,
}

/// What to keep no longer.
#[derive(Args, Clone, Debug)]
pub struct UnpinArgs {
    #[command(flatten)]
    paths: Paths,
}

/// Runs `pin`.
pub(super) fn run(args: &PinArgs, common: &Common) -> Result<u8, Failure> {
    each(&args.paths, common, |paths| Request::Pin { paths, wait: args.wait })
}

/// Runs `unpin`.
pub(super) fn run_unpin(args: &UnpinArgs, common: &Common) -> Result<u8, Failure> {
    each(&args.paths, common, |paths| Request::Unpin { paths })
}

fn each(
    paths: &Paths,
    common: &Common,
    request: impl Fn(Vec<crate::control::Scope>) -> Request,
) -> Result<u8, Failure> {
    let output = Output::of(common);
    for (target, paths) in by_mount(&paths.all()?)? {
        let mut bars = Bars::of(common);
        let mut client = target.connect()?;
        let done = client.ask(request(paths), bars.wanted(), |document, line| {
            if bars.take(document) {
                return;
            }
            bars.aside(|| {
                if common.json {
                    output.line(line);
                } else if !common.quiet {
                    let left = number(document, "bytes_left");
                    let rest = if left == 0 {
                        String::new()
                    } else {
                        format!(", {} still to come", size(left))
                    };
                    output.line(&format!("{}: {}{rest}", shown(document), text(document, "pin")));
                }
            });
        })?;
        if done.exit != DONE {
            return exit::conclude(&done);
        }
    }
    Ok(DONE)
}
