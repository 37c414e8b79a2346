//! `dewfs why`: what happened to an item.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::config::shell_word;
use crate::control::Request;

use super::output::{Output, Tone, local_time, number, path_bytes, shown, size, text, tone_of};
use super::target::Target;
use super::{Common, Failure, exit};

/// Which item.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// The item
    path: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &WhyArgs, common: &Common) -> Result<u8, Failure> {
    let target = Target::of(&args.path)?;
    let output = Output::of(common);
    let request = Request::Why { scope: target.scope.clone() };
    let kept_back = kept_back(&target)?;
    let done = target.connect()?.ask(request, false, |document, line| {
        if common.json {
            output.line(line);
        } else {
            show(document, &kept_back, &output);
        }
    })?;
    exit::conclude(&done).map_err(|failure| failure.about(args.path.display()))
}

/// Why its mount sends nothing now; empty if it does.
fn kept_back(target: &Target) -> Result<String, Failure> {
    let mut why = String::new();
    target.connect()?.ask(Request::Status, false, |document, _| {
        if !matches!(text(document, "state"), "online" | "degraded") {
            why = format!("{}: {}", text(document, "state"), text(document, "reason"));
        }
    })?;
    Ok(why)
}

fn show(document: &Value, kept_back: &str, output: &Output) {
    if text(document, "type") == "history" {
        let time = output.paint(&local_time(text(document, "time")), Tone::Faint);
        output.line(&format!("{time}  {}", text(document, "message")));
        return;
    }
    let state = text(document, "state");
    let head = output.paint(&shown(document), Tone::Bold);
    output.line(&format!("{head}: {}", output.paint(state, tone_of(state))));
    for line in known(document) {
        output.line(&line);
    }
    if !text(document, "since").is_empty() && !kept_back.is_empty() {
        output.line(&format!("the mount is {kept_back}"));
    }
    for (key, what) in [("since", "not in sync since"), ("retry_at", "tried again at")] {
        let time = text(document, key);
        if !time.is_empty() {
            output.line(&format!("{what} {}", local_time(time)));
        }
    }
    let error = text(document, "error");
    if !error.is_empty() {
        output.line(&output.paint(&format!("last error: {error}"), Tone::Bad));
    }
}

/// What is known of an item, in sentences.
fn known(document: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let (size_all, here) = (number(document, "size"), number(document, "present_bytes"));
    if text(document, "kind") == "file" {
        lines.push(match text(document, "content") {
            "local" => format!("its content is here, {}", size(size_all)),
            "partial" => format!("{} of its {} are here", size(here), size(size_all)),
            _ => format!("its content is at the remote only, {}", size(size_all)),
        });
    }
    lines.push(match text(document, "sync") {
        "in-sync" => "it is the same here and at the remote".into(),
        "local-only" => "it is kept on this machine and never sent".into(),
        "uploading" => "it is being sent".into(),
        "conflict" => format!(
            "it is a conflict copy: somebody else changed the original meanwhile, both are kept; look at both, then decide: \
             dewfs resolve {} --keep mine, theirs or both",
            shell_word(OsStr::from_bytes(&path_bytes(document)))
        ),
        "error" => "it cannot be sent as it is".into(),
        _ if text(document, "version").is_empty() => {
            "it waits to be sent; the remote has nothing of it yet".into()
        }
        _ => "its changes wait to be sent".into(),
    });
    let from = text(document, "pin_from");
    let by = match (from, text(document, "pin_rule")) {
        ("", "") => String::new(),
        ("", rule) => format!(" by the rule {rule}"),
        (from, _) => format!(", because {from} is"),
    };
    match text(document, "pin") {
        "pinned" => lines.push(format!("it is pinned{by}: it is always kept here")),
        "unpinned" => lines.push(format!("it is unpinned{by}: its room is given back first")),
        _ => {}
    }
    let version = text(document, "version");
    if !version.is_empty() {
        lines.push(format!("version last seen at the remote: {version}"));
    }
    lines
}
