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
    let mut root = super::args::command_line();
    // Building gives the subcommands their full names.
    root.build();
    all.push(("dewfs.1".into(), page(&root)?));
    for command in root.get_subcommands() {
        all.push((format!("dewfs-{}.1", command.get_name()), page(command)?));
    }
    Ok(all)
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}
