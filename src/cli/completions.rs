//! `dewfs completions`: shell completions on stdout.

use clap::Args;
use clap_complete::Shell;

use super::{DONE, Failure};

/// For which shell.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub(super) fn run(args: &CompletionsArgs) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::args::command_line(), "dewfs", &mut text);
    std::io::Write::write_all(&mut std::io::stdout(), &text)?;
    Ok(DONE)
}
