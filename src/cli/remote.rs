//! `dewfs remote`: saved remotes, and what a remote can do and dewfs can promise there.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::{ConfigFiles, Who, resolve_remote};
use crate::remote::{Capabilities, Conditional, ErrorKind, FeedKind, RemoteError, Space};

use super::output::{Output, Tone, size};
use super::remotes::{self, Opened};
use super::saved::Saved;
use super::way_out::with_way_out;
use super::{ATTENTION, Common, DONE, FAILED, Failure};

/// Remotes.
#[derive(Args, Clone, Debug)]
pub struct RemoteArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Save a remote under a name, without mounting it
    Add {
        /// What to call it
        name: String,
        /// The remote
        spec: String,
        /// Options to be saved with it, as for mounting
        #[arg(short = 'o', long = "options", value_name = "OPT,...")]
        options: Vec<String>,
    },
    /// List the saved remotes
    List,
    /// Forget a saved remote that is not mounted; dewfs remove undoes a setup
    Forget {
        /// Its name
        name: String,
        /// Only tell whether it would be
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Ask a remote what it can do, and say what dewfs can promise there
    Test {
        /// The remote: NAME: or a specification
        spec: OsString,
        /// Options, as for mounting
        #[arg(short = 'o', long = "options", value_name = "OPT,...")]
        options: Vec<String>,
    },
}

/// How long a remote that is only looked at may make no progress.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// Runs the command.
pub(super) fn run(args: &RemoteArgs, common: &Common) -> Result<u8, Failure> {
    match &args.what {
        What::Add { name, spec, options } => super::setup::add(name, spec, options, common),
        What::List => list(common),
        What::Forget { name, dry_run } => super::remove::forget_saved(name, *dry_run, common),
        What::Test { spec, options } => {
            let found = look(spec, options, common)?;
            let output = Output::of(common);
            if common.json {
                output.line(&crate::control::to_line(&found));
            } else {
                show(&found, &output);
            }
            Ok(DONE)
        }
    }
}

fn list(common: &Common) -> Result<u8, Failure> {
    let output = Output::of(common);
    let mut status = DONE;
    for name in ConfigFiles::of(&Who::current(), None).names(&common.schemes) {
        let saved = match Saved::find(&name, common) {
            Ok(saved) => saved,
            // One that is written wrongly does not hide the others.
            Err(failure) => {
                super::exit::report(&failure);
                status = FAILED;
                continue;
            }
        };
        let at = saved.mount.mountpoint.to_string_lossy().into_owned();
        if common.json {
            tell_saved(&saved, common);
        } else {
            let whose = if saved.is_own() { "" } else { "  (the machine's)" };
            let name = output.paint(&name, Tone::Bold);
            output.line(&format!("{name}  {}  at {at}{whose}", saved.written.spec));
        }
    }
    Ok(status)
}

/// Prints the document of a saved remote.
pub(super) fn tell_saved(saved: &Saved, common: &Common) {
    let document = serde_json::json!({
        "format": crate::control::FORMAT, "type": "saved", "name": saved.name,
        "spec": saved.written.spec, "mountpoint": saved.mount.mountpoint.to_string_lossy(),
        "own": saved.is_own(),
    });
    Output::of(common).line(&document.to_string());
}

/// Asks a remote; for this command and `doctor`.
pub(super) fn look(spec: &OsString, options: &[String], common: &Common) -> Result<Found, Failure> {
    let who = Who::current();
    let cwd = std::env::current_dir()?;
    // The bare name of a saved remote is enough here.
    let bare =
        spec.to_str().filter(|name| !name.contains([':', '/', '.']) && !cwd.join(name).is_dir());
    let spec = bare.map_or_else(|| spec.clone(), |name| OsString::from(format!("{name}:")));
    let (config, schemes) = (common.config.as_deref(), &common.schemes);
    let (remote, opened_with) = resolve_remote(&spec, options, config, &who, &cwd, schemes)?;
    let opened = remotes::open(&remote, &opened_with, &who, STALL, schemes)?;
    let (abilities, space) = probe(&opened)?;
    let clock_ahead = opened.remote.clock_ahead();
    Ok(Found { clock_ahead, ..Found::of(remote.to_string(), abilities, space) })
}

/// Asks an opened remote what it can do and how much room there is.
pub(super) fn probe(opened: &Opened) -> Result<(Capabilities, Option<Space>), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let abilities = opened.remote.probe().await.map_err(|error| refused(&error))?;
        // Room is told by some only; not knowing it is no failure.
        Ok((abilities, opened.remote.space().await.ok().flatten()))
    })
}

fn refused(error: &RemoteError) -> Failure {
    let exit = if error.kind == ErrorKind::Unauthenticated { ATTENTION } else { FAILED };
    Failure { exit, message: with_way_out(&error.to_string()) }
}

/// Is what a remote was found to be (JSON type `remote`).
#[derive(Clone, Debug, Serialize)]
pub(super) struct Found {
    format: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    remote: String,
    /// For `doctor`: how many seconds the server's clock is ahead of ours.
    #[serde(skip)]
    pub(super) clock_ahead: Option<i64>,
    product: String,
    identity: Option<String>,
    writable: bool,
    ranges: bool,
    conditional: &'static str,
    rename: bool,
    server_copy: bool,
    stable_ids: bool,
    settable_mtime: bool,
    settable_mode: bool,
    settable_extended: bool,
    dot_names: bool,
    version_tick_ms: u64,
    feed: &'static str,
    quota: crate::control::Quota,
    promises: Vec<String>,
}

impl Found {
    fn of(remote: String, can: Capabilities, space: Option<Space>) -> Self {
        Self {
            format: crate::control::FORMAT,
            kind: "remote",
            remote,
            clock_ahead: None,
            promises: promises(&can),
            product: can.product,
            identity: can.identity,
            writable: can.writable,
            ranges: can.ranges,
            conditional: match can.conditional {
                Conditional::Atomic => "atomic",
                Conditional::Checked => "checked",
                Conditional::None => "none",
            },
            rename: can.rename,
            server_copy: can.server_copy,
            stable_ids: can.stable_ids,
            settable_mtime: can.settable_mtime,
            settable_mode: can.settable_mode,
            settable_extended: can.settable_extended,
            dot_names: can.dot_names,
            version_tick_ms: super::sync::millis(can.version_tick),
            feed: feed_word(can.feed),
            quota: crate::control::Quota {
                used_bytes: space.and_then(|space| space.used),
                limit_bytes: space.and_then(|space| space.limit),
            },
        }
    }
}

fn feed_word(feed: FeedKind) -> &'static str {
    match feed {
        FeedKind::Push => "push",
        FeedKind::Poll => "poll",
        FeedKind::Walk => "walk",
        FeedKind::Inotify => "inotify",
        FeedKind::None => "none",
    }
}

/// What dewfs can promise there, in sentences.
fn promises(can: &Capabilities) -> Vec<String> {
    let mut all = Vec::new();
    let mut say = |text: &str| all.push(text.to_owned());
    if !can.writable {
        say("It can only be read: the mount is read-only.");
    } else {
        match can.conditional {
            Conditional::Atomic => {
                say(
                    "A change made by somebody else is never overwritten: the store compares and writes in one step.",
                );
            }
            Conditional::Checked => say(
                "A change made by somebody else is looked for just before each write and once more after it; what was displaced in between is kept beside it.",
            ),
            Conditional::None => say(
                "It honours no conditions: a change made by somebody else in the moment of a write may be overwritten. Do not write from two places at once.",
            ),
        }
        if !can.rename {
            say("It cannot rename: a moved file is sent again.");
        }
        if !can.settable_mtime {
            say("It sets modification times itself: yours are kept on this machine only.");
        }
        if !can.dot_names {
            say(
                "Its listings hide names that begin with a dot: such names stay on this machine, and a removed folder is kept there under a hidden name.",
            );
        }
        if !can.settable_mode {
            say("It holds no permission bits: yours are kept on this machine only.");
        }
        if !can.settable_extended {
            say("It holds no owners and no user attributes: yours are kept on this machine only.");
        }
    }
    if !can.ranges {
        say("It sends whole files only: a read in the middle fetches from the start.");
    }
    if !can.version_tick.is_zero() {
        say(
            "Its versions are coarse: a file that was just changed is looked at again before it is relied on.",
        );
    }
    match can.feed {
        FeedKind::Push | FeedKind::Inotify => say("Changes made by others show at once."),
        FeedKind::Poll => say("Changes made by others show after the poll interval."),
        FeedKind::Walk if can.folder_versions => {
            say("Changes made by others show after the poll interval.");
        }
        FeedKind::Walk => say(
            "Changes made by others show when their folder is looked at again: some time after the poll interval.",
        ),
        FeedKind::None => {
            say("Changes made by others are not noticed until something is opened anew.");
        }
    }
    all
}

fn show(found: &Found, output: &Output) {
    let field = |name: &str, value: &str| output.line(&format!("  {name:12}  {value}"));
    let yes = |on: bool| if on { "yes" } else { "no" };
    output.line(&format!("{}  {}", output.paint(&found.remote, Tone::Bold), found.product));
    field("identity", found.identity.as_deref().unwrap_or("unknown"));
    field("writable", yes(found.writable));
    field("ranges", yes(found.ranges));
    field("conditions", found.conditional);
    field("rename", yes(found.rename));
    field("server copy", yes(found.server_copy));
    field("stable ids", yes(found.stable_ids));
    field("keeps mtime", yes(found.settable_mtime));
    field("keeps mode", yes(found.settable_mode));
    field("keeps xattrs", yes(found.settable_extended));
    field("changes by", found.feed);
    if let Some(used) = found.quota.used_bytes {
        let limit = found
            .quota
            .limit_bytes
            .map_or_else(String::new, |limit| format!(" of {}", size(limit)));
        field("used", &format!("{}{limit}", size(used)));
    }
    for promise in &found.promises {
        output.line(&format!("* {promise}"));
    }
}
