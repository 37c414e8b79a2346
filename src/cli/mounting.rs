//! `dewfs mount SPEC DIR`, and `dewfs SPEC DIR` in the manner of mount(8): from words to an order.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::config::{
    ConfigError, MountOptions, MountRequest, Schemes, Who, own_mountpoint, resolve,
};

use super::mount::{Order, Voice, run as mount};
use super::{Common, Failure, exit};

/// What is mounted where, and how.
#[derive(Args, Clone, Debug)]
pub struct MountArgs {
    /// The remote: a folder (/dir, ./dir), a WebDAV address (https://...), a saved remote (NAME:, NAME:sub/dir)
    spec: OsString,
    /// Where to mount it: an empty folder. A saved remote has a place of its own, ~/NAME unless it says another
    dir: Option<PathBuf>,
    /// Mount options, as in mount.dewfs(8)
    #[arg(short = 'o', long = "options", value_name = "OPT,...")]
    options: Vec<String>,
    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,
    /// Write a debug log
    #[arg(short, long)]
    debug: bool,
}

/// mount(8): wrong usage, or not permitted.
const USAGE: u8 = 1;
/// mount(8): the mount failed.
const MOUNT_FAILED: u8 = 32;

/// Runs `dewfs mount`.
pub(super) fn run(args: &MountArgs, common: &Common) -> ExitCode {
    match order(args, common, false, Voice::Dewfs) {
        Ok(order) => mount(&order),
        Err(error) => ExitCode::from(exit::report(&Failure::from(error))),
    }
}

/// Runs `dewfs SPEC DIR [-o …]`.
pub(super) fn run_like_mount(arguments: &[OsString], schemes: &Schemes) -> ExitCode {
    let (args, common, sloppy) = match read(arguments) {
        Ok((args, common, sloppy)) => (args, Common { schemes: schemes.clone(), ..common }, sloppy),
        Err(why) => return refuse(USAGE, &why),
    };
    match order(&args, &common, sloppy, Voice::Mount8) {
        Ok(order) => mount(&order),
        Err(error @ (ConfigError::Remount | ConfigError::Place(_))) => {
            refuse(MOUNT_FAILED, &error.to_string())
        }
        Err(error) => refuse(USAGE, &error.to_string()),
    }
}

fn refuse(status: u8, why: &str) -> ExitCode {
    exit::report(&Failure::failed(why));
    ExitCode::from(status)
}

fn order(
    args: &MountArgs,
    common: &Common,
    sloppy: bool,
    voice: Voice,
) -> Result<Order, ConfigError> {
    let options = resolved(args, common, sloppy)?;
    Ok(Order {
        options,
        foreground: args.foreground,
        debug: args.debug || common.verbose > 0,
        voice,
    })
}

fn resolved(args: &MountArgs, common: &Common, sloppy: bool) -> Result<MountOptions, ConfigError> {
    let (config, schemes) = (common.config.as_deref(), &common.schemes);
    let cwd = std::env::current_dir()
        .map_err(|error| ConfigError::Place(format!("the current directory: {error}")))?;
    let who = Who::current();
    let own = match &args.dir {
        Some(_) => None,
        None => Some(make_own(own_mountpoint(&args.spec, config, &who, &cwd, schemes)?)?),
    };
    let dir = args.dir.as_ref().or(own.as_ref()).map_or(Path::new(""), PathBuf::as_path);
    let options = &args.options;
    let request = MountRequest { spec: &args.spec, dir, options, config, sloppy, schemes };
    resolve(&request, &who, &cwd)
}

/// Makes the folder that is a saved remote's own place; a dead mount there is one as well.
fn make_own(dir: PathBuf) -> Result<PathBuf, ConfigError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(ConfigError::Place(format!("{}: {error}", dir.display())))
        }
        _ => Ok(dir),
    }
}

/// Reads mount(8)'s manner: flags and words in any order. What mount(8) itself has dealt with is skipped.
fn read(arguments: &[OsString]) -> Result<(MountArgs, Common, bool), String> {
    let mut args = MountArgs {
        spec: OsString::new(),
        dir: None,
        options: Vec::new(),
        foreground: false,
        debug: false,
    };
    let mut common = Common::default();
    let mut sloppy = false;
    let mut words: Vec<&OsStr> = Vec::new();
    let mut rest = arguments.iter().map(OsString::as_os_str);
    while let Some(argument) = rest.next() {
        let text = argument.to_str().unwrap_or_default();
        let mut value = || rest.next().ok_or_else(|| format!("{text} needs a value"));
        match text {
            "-o" | "--options" => args.options.push(value()?.to_string_lossy().into_owned()),
            "--config" => common.config = Some(value()?.into()),
            "--color" | "-t" | "-N" => drop(value()?),
            "-f" | "--foreground" => args.foreground = true,
            "-d" | "--debug" => args.debug = true,
            "-s" => sloppy = true,
            "-r" | "--read-only" => args.options.push("ro".into()),
            "-w" | "--rw" => args.options.push("rw".into()),
            "-v" | "--verbose" => common.verbose += 1,
            "-n" | "-q" | "--quiet" | "--json" | "--no-progress" => {}
            _ if text.starts_with("-o") && text.len() > 2 => {
                args.options.push(text.trim_start_matches("-o").to_owned());
            }
            _ if text.starts_with('-') && text.len() > 1 => {
                return Err(format!("unknown option {text}; see dewfs mount --help"));
            }
            _ => words.push(argument),
        }
    }
    match words.as_slice() {
        [spec, dir] => {
            args.spec = (*spec).to_owned();
            args.dir = Some(PathBuf::from(dir));
            Ok((args, common, sloppy))
        }
        [_] => Err("where to mount it is missing: dewfs SPEC DIR [-o OPT,...]".into()),
        [_, _, extra, ..] => Err(format!("{}: one word too many", extra.to_string_lossy())),
        [] => Err("dewfs SPEC DIR [-o OPT,...]".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn flags_stand_anywhere() {
        let (args, common, sloppy) = read(&words("-s /srv -n /mnt -v -o ro,x=y -ofoo -r")).unwrap();
        assert_eq!(
            (args.spec.to_str(), args.dir.as_deref()),
            (Some("/srv"), Some(Path::new("/mnt")))
        );
        assert_eq!(args.options, ["ro,x=y", "foo", "ro"]);
        assert!(sloppy && common.verbose == 1 && !args.foreground);
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        for (text, named) in [
            ("/srv", "where to mount"),
            ("/srv /mnt /x", "/x"),
            ("/srv /mnt -o", "-o"),
            ("/srv /mnt --frob", "--frob"),
        ] {
            let why = read(&words(text)).unwrap_err();
            assert!(why.contains(named), "{why}");
        }
    }
}
