//! `dewfs man`: writes the manual pages.

use std::path::{Path, PathBuf};

use clap::{Args, Command};

use super::{DONE, Failure};

/// The pages that are written by hand.
const WRITTEN: [(&str, &str); 3] = [
    ("mount.dewfs.8", include_str!("../../docs/man/mount.dewfs.8")),
    ("dewfs.toml.5", include_str!("../../docs/man/dewfs.toml.5")),
    ("dewfs-semantics.7", include_str!("../../docs/man/dewfs-semantics.7")),
];

/// Where to.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// The folder to write the pages to; it is created
    dir: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &ManArgs) -> Result<u8, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::failed(format!("{}: {error}", path.display()))
    };
    std::fs::create_dir_all(&args.dir).map_err(|error| failed(&args.dir, error))?;
    for (name, text) in pages()? {
        let path = args.dir.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(DONE)
}

fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut all: Vec<(String, Vec<u8>)> =
        WRITTEN.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    let mut root = without_help(super::args::command_line());
    // Building gives the subcommands their full names.
    root.build();
    add_pages(&mut all, &root, None)?;
    Ok(all)
}

/// The pages tell what `help` does; it has none itself, nor one for each command again.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// The page of a command, and those of the commands below it.
fn add_pages(
    all: &mut Vec<(String, Vec<u8>)>,
    command: &Command,
    above: Option<&str>,
) -> Result<(), Failure> {
    let man = clap_mangen::Man::new(command.clone());
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut text = Vec::new();
    man.render(&mut text)?;
    text.extend(see_also(name, above).into_bytes());
    all.push((man.get_filename(), text));
    command.get_subcommands().try_for_each(|below| add_pages(all, below, Some(name)))
}

/// Where to read on.
fn see_also(name: &str, above: Option<&str>) -> String {
    let above = above.filter(|above| *above != "dewfs").map(|above| (above, 1));
    let root = (name != "dewfs").then_some(("dewfs", 1));
    let written = [("dewfs.toml", 5), ("dewfs-semantics", 7), ("mount.dewfs", 8)];
    let pages: Vec<String> = above
        .into_iter()
        .chain(root)
        .chain(written)
        .map(|(page, section)| format!(".BR {} ({section})", page.replace('-', "\\-")))
        .collect();
    format!(".SH \"SEE ALSO\"\n{}\n", pages.join(",\n"))
}
