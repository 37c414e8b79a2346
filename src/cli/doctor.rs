//! `dewfs doctor`: checks this machine, your mounts and a remote, and says how to mend what is wrong.

mod machine;
mod mounts;
mod remote;
mod states;

use std::ffi::OsString;

use clap::Args;
use serde::Serialize;

use crate::config::Who;

use super::output::{Output, Tone};
use super::{Common, DONE, FAILED, Failure};

/// What to check besides the machine.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// A remote to check as well
    spec: Option<OsString>,
}

/// Is one thing looked at (JSON type `check`).
#[derive(Clone, Debug, Serialize)]
struct Check {
    format: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    ok: bool,
    message: String,
    mend: Option<String>,
}

impl Check {
    fn well(name: &'static str, message: impl Into<String>) -> Self {
        Self::with(name, true, message, None)
    }

    fn ill(name: &'static str, message: impl Into<String>, mend: &str) -> Self {
        Self::with(name, false, message, Some(mend.to_owned()))
    }

    /// Works, but not as well as it could.
    fn note(name: &'static str, message: impl Into<String>, mend: &str) -> Self {
        Self::with(name, true, message, Some(mend.to_owned()))
    }

    fn with(
        name: &'static str,
        ok: bool,
        message: impl Into<String>,
        mend: Option<String>,
    ) -> Self {
        Self {
            format: crate::control::FORMAT,
            kind: "check",
            name,
            ok,
            message: message.into(),
            mend,
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &DoctorArgs, common: &Common) -> Result<u8, Failure> {
    let who = Who::current();
    let mut checks = machine::checks(&who, common);
    checks.extend(states::checks(&who, args.spec.as_deref(), common));
    checks.extend(mounts::checks(&who, &common.schemes)?);
    if let Some(spec) = &args.spec {
        checks.extend(remote::checks(spec, common));
    }
    let output = Output::of(common);
    for check in &checks {
        if common.json {
            output.line(&crate::control::to_line(check));
        } else if !check.ok || !common.quiet {
            let mark = match (check.ok, &check.mend) {
                (true, None) => output.paint("ok  ", Tone::Good),
                (true, Some(_)) => output.paint("note", Tone::Busy),
                (false, _) => output.paint("FAIL", Tone::Bad),
            };
            output.line(&format!("{mark}  {:11}  {}", check.name, check.message));
            if let Some(mend) = &check.mend {
                output.line(&format!("                   {mend}"));
            }
        }
    }
    Ok(if checks.iter().all(|check| check.ok) { DONE } else { FAILED })
}
