//! The `dewfs` program: arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    dewfs::config::keep_memory_private();
    if let Err(error) = dewfs::config::hide_secrets_in_environment() {
        eprintln!("dewfs: {error}");
        return ExitCode::from(dewfs::cli::FAILED);
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    dewfs::cli::run(&arguments)
}
