//! Programs with remotes of their own: `main_with` is the whole of dewfs with more schemes.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::config::Schemes;

/// Runs the whole program with these kinds of remotes as well: all commands, `dewfs SPEC DIR`, mount(8) and units.
pub fn main_with(schemes: &Schemes) -> ExitCode {
    if let Some(wrong) = schemes.wrong() {
        eprintln!(
            "dewfs: {wrong}:// cannot be a scheme of this program: it is dewfs's own, or no scheme"
        );
        return ExitCode::from(super::USAGE);
    }
    crate::config::keep_memory_private();
    if let Err(error) = crate::config::hide_secrets_in_environment() {
        eprintln!("dewfs: {error}");
        return ExitCode::from(super::FAILED);
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    super::run(&arguments, schemes)
}
