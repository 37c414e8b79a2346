//! The `dewfs` program: arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    dewfs::main_with(&dewfs::Schemes::new())
}
