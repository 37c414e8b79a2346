//! The words on the command line.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgAction, Args, ColorChoice, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::config::Schemes;

use super::examples::EXAMPLES;
use super::{
    cache, completions, doctor, find, free, held, hydrate, login, ls, man, mounting, pause, pin,
    remote, remove, resolve, serve, setup, status, sync,
};
use super::{exit, umount, watch, why};

/// Files On-Demand for Linux: a whole remote as a folder, fetched as it is read.
#[derive(Debug, Parser)]
#[command(
    name = "dewfs",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 time ran out or work left, 4 a person is needed.\n\
                  \"dewfs SPEC DIR [-o OPT,...]\" mounts in the manner of mount(8)."
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// Say more; twice, say much more
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Everywhere")]
    pub verbose: u8,
    /// Say only what went wrong
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// Read this file instead of config.toml
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// Colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Everywhere"
    )]
    pub color: Colors,
    /// No bars
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub no_progress: bool,
    /// Print JSON documents, one a line
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
    /// The kinds of remotes that the program has besides dewfs's own.
    #[arg(skip)]
    pub schemes: Schemes,
}

/// Says when to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colors {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount a remote
    Mount(mounting::MountArgs),
    /// Send what is pending, then unmount
    Umount(umount::UmountArgs),
    /// Show the state of a mount or an item
    Status(status::StatusArgs),
    /// Send and fetch changes now
    Sync(sync::SyncArgs),
    /// List names with their state; fetches no content
    Ls(ls::LsArgs),
    /// Bring content here
    Hydrate(hydrate::HydrateArgs),
    /// Give space back; deletes nothing anywhere
    Free(free::FreeArgs),
    /// Always keep here
    Pin(pin::PinArgs),
    /// No longer always keep here
    Unpin(pin::UnpinArgs),
    /// Tell what happened to an item
    Why(why::WhyArgs),
    /// List conflict copies that are not resolved
    Conflicts(held::ListArgs),
    /// Decide a conflict: keep mine, theirs, or both
    Resolve(resolve::ResolveArgs),
    /// List the deletions and overwrites that are held
    Held(held::ListArgs),
    /// Send what is held after all
    Release(held::DoArgs),
    /// Bring back what is held
    Undo(held::DoArgs),
    /// Find by name, without asking the remote
    Find(find::FindArgs),
    /// Sum up sizes, without asking the remote
    Du(find::DuArgs),
    /// List the largest files, without asking the remote
    Largest(find::FirstArgs),
    /// List the files changed last, without asking the remote
    Recent(find::FirstArgs),
    /// Stop background transfer; what a program waits for goes on
    Pause(pause::PauseArgs),
    /// Let background transfer go on
    Resume(pause::ResumeArgs),
    /// Tell what happens, as JSON lines
    Watch(watch::WatchArgs),
    /// Look after the content kept here
    Cache(cache::CacheArgs),
    /// Save a remote and have it mounted at every login
    Setup(setup::SetupArgs),
    /// Undo a setup; nothing that is not sent goes away
    Remove(remove::RemoveArgs),
    /// Sign in again
    Login(login::LoginArgs),
    /// Sign out; the mount stays
    Logout(login::LogoutArgs),
    /// Look at remotes
    Remote(remote::RemoteArgs),
    /// Serve a directory as a WebDAV remote
    Serve(serve::ServeArgs),
    /// Check this machine, and say how to mend it
    Doctor(doctor::DoctorArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
}

/// The whole command line, with examples under the help of each command.
pub(super) fn command_line() -> clap::Command {
    EXAMPLES.iter().fold(Cli::command(), |all, (name, lines)| {
        let examples = lines.iter().map(|line| format!("\n  dewfs {name} {line}"));
        let examples = examples.fold("Examples:".to_owned(), |text, line| text + &line);
        all.mut_subcommand(name, |command| match command.get_after_help().cloned() {
            Some(more) => command.after_help(format!("{examples}\n\n{more}")),
            None => command.after_help(examples),
        })
    })
}

/// The words that are no option and no value of a common option, with their places.
fn words(arguments: &[OsString]) -> Vec<&OsStr> {
    let mut words = Vec::new();
    let mut rest = arguments.iter().skip(1).map(OsString::as_os_str);
    while let Some(word) = rest.next() {
        match word.to_str() {
            Some("--config" | "--color" | "-o") => drop(rest.next()),
            Some("--") => {
                words.extend(rest);
                break;
            }
            Some(text) if text.starts_with('-') && text.len() > 1 => {}
            _ => words.push(word),
        }
    }
    words
}

/// How the help that these arguments ask for is coloured: it is printed before they are understood.
pub(super) fn colors_of_help(arguments: &[OsString]) -> ColorChoice {
    let mut rest = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let mut choice = ColorChoice::Auto;
    while let Some(word) = rest.next() {
        let value = match word {
            "--" => break,
            "--color" => rest.next(),
            _ => word.strip_prefix("--color="),
        };
        choice = match value {
            Some("always") => ColorChoice::Always,
            Some("never") => ColorChoice::Never,
            Some(_) => ColorChoice::Auto,
            None => choice,
        };
    }
    choice
}

/// Whether this is `dewfs SPEC DIR [-o …]`: the first word is no command but could be a specification.
pub(super) fn is_mount_like(arguments: &[OsString]) -> bool {
    let words = words(arguments);
    let Some(first) = words.first().copied() else { return false };
    let is_command = first.to_str().is_some_and(|name| {
        command_line().get_subcommands().any(|command| command.get_name() == name)
    });
    let bytes = first.as_encoded_bytes();
    let could_be = bytes.contains(&b'/') || bytes.contains(&b':') || Path::new(first).is_dir();
    !is_command && could_be
}

/// Prints what clap has to say: help as it is, an error in one line.
pub(super) fn explain(error: &clap::Error, arguments: &[OsString]) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away has read enough.
        let _shown = error.print();
        return exit::DONE;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _shown = error.print();
        return exit::USAGE;
    }
    exit::report(&super::Failure::usage(first_paragraph(&error.render().to_string(), arguments)))
}

/// The command that these arguments are about: `dewfs cache stat`.
fn command_of(arguments: &[OsString]) -> String {
    let mut command = command_line();
    let mut name = "dewfs".to_owned();
    for word in words(arguments) {
        let Some(next) = word.to_str().and_then(|word| command.find_subcommand(word)) else {
            break;
        };
        name = format!("{name} {}", next.get_name());
        command = next.clone();
    }
    name
}

/// What a parser says of a number, as people say it.
fn number_in_words(text: &str) -> String {
    let said = ["invalid digit found in string", "number too large to fit in target type"];
    said.iter().fold(text.to_owned(), |text, said| text.replace(said, "a whole number is needed"))
}

fn first_paragraph(text: &str, arguments: &[OsString]) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let mut message = Vec::new();
    let mut more = format!("see {} --help", command_of(arguments));
    for line in text.lines().map(str::trim) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let words = usage.split(' ').take_while(|word| !word.starts_with(['[', '<', '-']));
            more = format!("see {} --help", words.collect::<Vec<_>>().join(" "));
            break;
        }
        if line.starts_with("For more information") {
            break;
        }
        if !line.is_empty() {
            message.push(line.strip_prefix("tip: ").unwrap_or(line));
        }
    }
    let message = message.join("; ").replace(":; ", ": ");
    format!("{}; {more}", number_in_words(&message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_command_line_is_sound() {
        command_line().debug_assert();
    }

    #[test]
    fn what_is_no_command_but_could_be_a_specification_is_a_mount() {
        for text in ["dewfs https://h/x /mnt -o ro", "dewfs -o ro nas: /mnt", "dewfs /srv /mnt"] {
            assert!(is_mount_like(&arguments(text)), "{text}");
        }
        for text in [
            "dewfs staus",
            "dewfs status /mnt",
            "dewfs",
            "dewfs --json",
            "dewfs find /mnt",
            "dewfs watch /mnt",
        ] {
            assert!(!is_mount_like(&arguments(text)), "{text}");
        }
    }
}
