//! `dewfs mount`, and `dewfs SPEC DIR` in the manner of mount(8).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{Common, FAILED};

/// What is mounted where, and how.
#[derive(Args, Clone, Debug)]
pub struct MountArgs {
    /// The remote: a folder (/dir, ./dir), a WebDAV address (https://...), a saved remote (NAME:, NAME:sub/dir)
    pub spec: OsString,
    /// Where to mount it: an empty folder
    pub dir: PathBuf,
    /// Mount options, as in mount.dewfs(8)
    #[arg(short = 'o', long = "options", value_name = "OPT,...")]
    pub options: Vec<String>,
    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,
    /// Write a debug log
    #[arg(short, long)]
    pub debug: bool,
}

/// Is `dewfs SPEC DIR [-o …]` as it was written, without the program's name.
#[derive(Clone, Debug)]
pub struct MountLike {
    /// The arguments.
    pub arguments: Vec<OsString>,
}

/// Mounts, with the exit statuses of every command.
pub fn run(args: &MountArgs, common: &Common) -> u8 {
    let _unused = (args, common);
    FAILED
}

/// Mounts, with the exit statuses of mount(8): 1 usage or permission, 2 system, 32 mount failed.
pub fn run_like_mount(mount: &MountLike) -> u8 {
    let _unused = mount;
    FAILED
}
