//! `dewfs hydrate`: bring content here.

use clap::Args;

use crate::control::Request;

use super::output::{Output, number, shown, size};
use super::paths::Paths;
use super::progress::Bars;
use super::target::by_mount;
use super::{Common, DONE, Failure, exit};

/// What to bring.
#[derive(Args, Clone, Debug)]
pub struct HydrateArgs {
    #[command(flatten)]
    paths: Paths,
}

/// Runs the command.
pub(super) fn run(args: &HydrateArgs, common: &Common) -> Result<u8, Failure> {
    let output = Output::of(common);
    let mut status = DONE;
    for (target, paths) in by_mount(&args.paths.all()?)? {
        let mut bars = Bars::of(common);
        let mut client = target.connect()?;
        let done = client.ask(Request::Hydrate { paths }, bars.wanted(), |document, line| {
            if bars.take(document) {
                return;
            }
            bars.aside(|| {
                if common.json {
                    output.line(line);
                } else if !common.quiet {
                    let bytes = size(number(document, "bytes"));
                    output.line(&format!("{}: {bytes} fetched", shown(document)));
                }
            });
        })?;
        status = status.max(exit::of_one(&done));
    }
    Ok(status)
}
