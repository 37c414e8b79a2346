//! `dewfs pin` and `dewfs unpin`: always keep here, or no longer.

use std::path::PathBuf;

use clap::Args;

use crate::config::shell_word;
use crate::control::Request;
use crate::model::PinRule;

use super::output::{Output, counted, number, path_bytes, shown, size, text};
use super::paths::Paths;
use super::progress::Bars;
use super::target::{Target, by_mount, here};
use super::{Common, DONE, Failure, exit};

/// What to keep.
#[derive(Args, Clone, Debug)]
pub struct PinArgs {
    /// What to work on; with --list and rules, a path in the mount (the current directory otherwise)
    #[arg(value_name = "PATH", required_unless_present_any = ["files_from", "list", "rule", "remove_rule"])]
    paths: Vec<PathBuf>,
    /// Read paths from this file, one a line; "-" is the standard input
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,
    /// Paths that are read or printed end with NUL instead of a line's end
    #[arg(short = '0', long = "null")]
    null: bool,
    /// Return when the content is here
    #[arg(long)]
    wait: bool,
    /// List what is pinned, and the rules
    #[arg(long, conflicts_with_all = ["wait", "files_from"])]
    list: bool,
    /// Pin the files that fit: a pattern of paths, then modified<30d, modified>1h, size<50M, size>1K
    #[arg(long, value_name = "EXPR", conflicts_with_all = ["wait", "files_from", "list"])]
    rule: Option<String>,
    /// Pin at most so much by the rule, the files changed last first
    #[arg(long, value_name = "SIZE", value_parser = budget, requires = "rule")]
    budget: Option<u64>,
    /// Give the rule a name; replaces the one of that name
    #[arg(long, value_name = "N", requires = "rule")]
    name: Option<String>,
    /// Remove a rule
    #[arg(long, value_name = "N", conflicts_with_all = ["wait", "files_from", "list", "rule"])]
    remove_rule: Option<String>,
}

fn budget(text: &str) -> Result<u64, String> {
    crate::model::parse_bytes(text).ok_or_else(|| "a size such as 500M or 20G is needed".into())
}

/// What to keep no longer.
#[derive(Args, Clone, Debug)]
pub struct UnpinArgs {
    #[command(flatten)]
    paths: Paths,
}

/// Runs `pin`.
pub(super) fn run(args: &PinArgs, common: &Common) -> Result<u8, Failure> {
    let at = here(args.paths.first());
    if args.list {
        let target = Target::of(&at)?;
        let scope = target.scope.clone();
        return show(args, common, &target, Request::Pins { scope });
    }
    if let Some(expression) = args.rule.clone() {
        let (name, budget) = (args.name.clone(), args.budget);
        let request = Request::PinRule { name, expression, budget };
        return show(args, common, &Target::of(&at)?, request);
    }
    if let Some(name) = args.remove_rule.clone() {
        return show(args, common, &Target::of(&at)?, Request::RemovePinRule { name });
    }
    let paths = Paths::of(&args.paths, args.files_from.as_ref(), args.null);
    each(&paths, common, |paths| Request::Pin { paths, wait: args.wait })
}

fn show(args: &PinArgs, common: &Common, target: &Target, request: Request) -> Result<u8, Failure> {
    let output = Output::of(common);
    let done = target.connect()?.ask(request, false, |document, line| {
        let is_rule = text(document, "type") == "rule";
        if common.json {
            output.line(line);
        } else if is_rule && !args.null {
            output.line(&rule_line(document));
        } else if args.null && !is_rule {
            output.end_with(&path_bytes(document), 0);
        } else if !is_rule {
            output.line(&format!("{:9}  {}", text(document, "pin"), shown(document)));
        }
    })?;
    exit::conclude(&done)
}

fn rule_line(document: &serde_json::Value) -> String {
    let budget = match document.get("budget_bytes").and_then(serde_json::Value::as_u64) {
        Some(budget) => format!(" of at most {}", size(budget)),
        None => String::new(),
    };
    let left_out = match number(document, "left_out") {
        0 => String::new(),
        count => format!(", {count} more fit the rule but not the budget"),
    };
    let unlisted = unlisted(number(document, "unlisted"), text(document, "expression"));
    format!(
        "rule       {}: {}: {}, {}{budget}, {} here{left_out}{unlisted}",
        super::exit::one_line(text(document, "name")),
        super::exit::one_line(text(document, "expression")),
        counted(number(document, "files"), "file", "files"),
        size(number(document, "size")),
        size(number(document, "present_bytes")),
    )
}

/// That a rule may be about more than is known; below a folder that it names all is listed by itself.
fn unlisted(count: u64, expression: &str) -> String {
    let is_about_all = PinRule::parse(expression).is_ok_and(|rule| rule.folder().is_empty());
    let (folders, them) = match count {
        0 => return String::new(),
        1 => ("1 folder is".to_owned(), "it"),
        count => (format!("{count} folders are"), "them"),
    };
    let way = if is_about_all { format!(": population=full lists {them}") } else { String::new() };
    format!("; {folders} not listed yet{way}")
}

/// Runs `unpin`.
pub(super) fn run_unpin(args: &UnpinArgs, common: &Common) -> Result<u8, Failure> {
    each(&args.paths, common, |paths| Request::Unpin { paths })
}

fn each(
    paths: &Paths,
    common: &Common,
    request: impl Fn(Vec<crate::control::Scope>) -> Request,
) -> Result<u8, Failure> {
    let output = Output::of(common);
    let mut status = DONE;
    for (target, paths) in by_mount(&paths.all()?)? {
        let mut bars = Bars::of(common);
        let mut client = target.connect()?;
        let done = client.ask(request(paths), bars.wanted(), |document, line| {
            if bars.take(document) {
                return;
            }
            bars.aside(|| {
                if common.json {
                    output.line(line);
                } else if !common.quiet {
                    let left = number(document, "bytes_left");
                    let rest = if left == 0 {
                        String::new()
                    } else {
                        format!(", {} still to come", size(left))
                    };
                    let by = by(document);
                    let pin = text(document, "pin");
                    output.line(&format!("{}: {pin}{by}{rest}", shown(document)));
                }
            });
        })?;
        status = status.max(exit::of_one(&done));
    }
    Ok(status)
}

/// What pins an item, if it is not its own pin.
fn by(document: &serde_json::Value) -> String {
    match (text(document, "pin_from"), text(document, "pin_rule")) {
        ("", "") => String::new(),
        ("", rule) => {
            let (rule, word) = (exit::one_line(rule), exit::one_line(&shell_word(rule)));
            format!(
                " (by the rule {rule}; dewfs free lets go of this file, dewfs pin --remove-rule {word} of all)"
            )
        }
        (from, _) => format!(" (by {})", exit::one_line(from)),
    }
}
