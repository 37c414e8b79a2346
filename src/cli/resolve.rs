//! `dewfs resolve`: decide a conflict.

use clap::{Args, ValueEnum};

use crate::control::{Kept, Request};

use super::output::{Output, shown, text};
use super::paths::Paths;
use super::target::by_mount;
use super::{Common, DONE, Failure, exit};

/// Which conflicts, and what stays.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "PATH is a conflict copy, or the file that it is a copy of. Content that the remote never had is not \
                        deleted: it goes to recovered/, and the place is printed."
)]
pub struct ResolveArgs {
    #[command(flatten)]
    paths: Paths,
    /// mine: what was edited here gets the original's name; theirs: the copy goes, here and at the remote; both: both stay
    #[arg(long, value_name = "WHICH")]
    keep: Keep,
    /// Only tell what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Says which content stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Keep {
    Mine,
    Theirs,
    Both,
}

/// Runs the command.
pub(super) fn run(args: &ResolveArgs, common: &Common) -> Result<u8, Failure> {
    let output = Output::of(common);
    let (keep, dry_run) = (args.keep, args.dry_run);
    let mut status = DONE;
    for (target, paths) in by_mount(&args.paths.all()?)? {
        let wire = match keep {
            Keep::Mine => Kept::Mine,
            Keep::Theirs => Kept::Theirs,
            Keep::Both => Kept::Both,
        };
        let request = Request::Resolve { paths, keep: wire, dry_run };
        let done = target.connect()?.ask(request, false, |document, line| {
            if common.json {
                return output.line(line);
            }
            if common.quiet {
                return;
            }
            let would = if dry_run { "would be " } else { "" };
            let original = exit::one_line(text(document, "original"));
            output.line(&match keep {
                Keep::Mine => format!("{}: {would}moved to {original}", shown(document)),
                Keep::Theirs => format!("{}: {would}removed, {original} stays", shown(document)),
                Keep::Both => format!("{}: {would}kept, as {original} is", shown(document)),
            });
            if !text(document, "kept").is_empty() {
                let kept = exit::one_line(text(document, "kept"));
                output.line(&format!("it was never sent: its content is kept in {kept}"));
            }
        })?;
        status = status.max(exit::of_one(&done));
    }
    Ok(status)
}
