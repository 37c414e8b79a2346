//! `dewfs why`: what happened to an item.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::control::Request;

use super::output::{Output, Tone, local_time, shown, text, tone_of};
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
    let done = target.connect()?.ask(request, false, |document, line| {
        if common.json {
            output.line(line);
        } else {
            show(document, &output);
        }
    })?;
    exit::conclude(&done).map_err(|failure| failure.about(args.path.display()))
}

fn show(document: &Value, output: &Output) {
    if text(document, "type") == "history" {
        let time = output.paint(&local_time(text(document, "time")), Tone::Faint);
        output.line(&format!("{time}  {}", text(document, "message")));
        return;
    }
    let state = text(document, "state");
    let head = output.paint(&shown(document), Tone::Bold);
    output.line(&format!("{head}: {}", output.paint(state, tone_of(state))));
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
