//! `dewfs ls`: names with their state.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::control::Request;

use super::output::{Output, Tone, number, shown, size, text, tone_of, width};
use super::target::{Target, here};
use super::{Common, Failure, exit};

/// What to list.
#[derive(Args, Clone, Debug)]
pub struct LsArgs {
    /// A folder or an item; the current directory otherwise
    path: Option<PathBuf>,
    /// And what is below
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Ask the remote for folders below that are not listed yet
    #[arg(long)]
    fetch: bool,
    /// Print only paths, each ended by NUL
    #[arg(short = '0', long = "null")]
    null: bool,
}

/// How many rows are kept to find the widths of their columns.
const PAGE: usize = 1000;

/// Runs the command.
pub(super) fn run(args: &LsArgs, common: &Common) -> Result<u8, Failure> {
    let path = here(args.path.as_ref());
    let target = Target::of(&path)?;
    let output = Output::of(common);
    let top = target.mount.mountpoint.join(target_path(&target));
    let mut table = Table::new(&output, &top);
    let request =
        Request::List { scope: target.scope.clone(), recursive: args.recursive, fetch: args.fetch };
    let done = target.connect()?.ask(request, false, |document, line| {
        if !output.for_scripts(common, args.null, document, line) {
            table.add(document);
        }
    })?;
    table.print();
    exit::conclude(&done).map_err(|failure| failure.about(path.display()))
}

fn target_path(target: &Target) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec(target.scope.bytes().unwrap_or_default()).into()
}

/// Is the rows not printed yet.
struct Table<'a> {
    output: &'a Output,
    top: String,
    rows: Vec<[String; 5]>,
    headed: bool,
}

const HEAD: [&str; 4] = ["STATE", "PIN", "SIZE", "HERE"];

impl<'a> Table<'a> {
    fn new(output: &'a Output, top: &Path) -> Self {
        Self { output, top: top.to_string_lossy().into_owned(), rows: Vec::new(), headed: false }
    }

    fn add(&mut self, document: &Value) {
        let folder = text(document, "kind") == "folder";
        let count = |key: &str| if folder { String::new() } else { size(number(document, key)) };
        let full = shown(document);
        let below = full.strip_prefix(&self.top).map(|rest| rest.trim_start_matches('/'));
        let name = below.filter(|rest| !rest.is_empty()).unwrap_or(&full);
        self.rows.push([
            text(document, "state").to_owned(),
            pin_mark(text(document, "pin")).to_owned(),
            count("size"),
            count("present_bytes"),
            format!("{name}{}", mark(text(document, "kind"))),
        ]);
        if self.rows.len() >= PAGE {
            self.print();
        }
    }

    fn print(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let wide = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell));
            cells.chain(HEAD.get(column).map(|head| width(head))).max().unwrap_or(0)
        };
        let [state_wide, pin_wide, size_wide, here_wide] = [wide(0), wide(1), wide(2), wide(3)];
        if !std::mem::replace(&mut self.headed, true) {
            let [state, pin, size, here] = HEAD;
            let head = format!(
                "{state:state_wide$}  {pin:pin_wide$}  {size:>size_wide$}  {here:>here_wide$}  NAME"
            );
            self.output.line(&self.output.paint(&head, Tone::Faint));
        }
        for [state, pin, size, here, name] in self.rows.drain(..) {
            let padded = format!("{state:state_wide$}");
            let state = self.output.paint(&padded, tone_of(&state));
            self.output.line(&format!(
                "{state}  {pin:pin_wide$}  {size:>size_wide$}  {here:>here_wide$}  {name}"
            ));
        }
    }
}

fn pin_mark(pin: &str) -> &str {
    if pin == "unspecified" { "-" } else { pin }
}

fn mark(kind: &str) -> &'static str {
    match kind {
        "folder" => "/",
        "symlink" => "@",
        "fifo" => "|",
        "socket" => "=",
        _ => "",
    }
}
