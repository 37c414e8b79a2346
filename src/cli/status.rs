//! `dewfs status`: how a mount or an item is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::control::{ClientError, Done, Request, Scope};
use crate::fuse::mountinfo::mounts;

use super::output::{
    Output, Tone, age, local_time, number, path_bytes, shown, size, text, tone_of,
};
use super::progress::Bars;
use super::target::{Target, here, mine};
use super::unmounted::{Waiting, waiting};
use super::{ATTENTION, Common, DONE, Failure, LEFT, exit};

/// What to look at, and how.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// A mount or an item; otherwise the mount of the current directory, else all of yours
    path: Option<PathBuf>,
    /// Show it again each time it changes
    #[arg(long, conflicts_with_all = ["wait", "check", "short", "pending"])]
    watch: bool,
    /// Return when all is in sync, or nothing goes further by itself
    #[arg(long, conflicts_with_all = ["check", "pending"])]
    wait: bool,
    /// Wait for at most this long
    #[arg(long, value_name = "DUR", value_parser = super::sync::duration, requires = "wait")]
    timeout: Option<Duration>,
    /// Print nothing: 0 in sync, 3 work left, 4 a person is needed
    #[arg(long, conflicts_with_all = ["short", "pending"])]
    check: bool,
    /// Print one of: in-sync, syncing N, offline, paused, attention
    #[arg(long, conflicts_with = "pending")]
    short: bool,
    /// List what is not in sync
    #[arg(long)]
    pending: bool,
    /// With --pending: print only paths, each ended by NUL
    #[arg(short = '0', long = "null", requires = "pending")]
    null: bool,
}

/// Runs the command.
pub(super) fn run(args: &StatusArgs, common: &Common) -> Result<u8, Failure> {
    let (targets, waiting) = targets(args.path.as_ref(), common)?;
    if targets.is_empty() && !common.quiet && !args.check && !common.json {
        eprintln!("dewfs: nothing of yours is mounted");
    }
    let asks = args.check || args.wait;
    let mut worst = if asks && !waiting.is_empty() { LEFT } else { DONE };
    if !args.check && !args.short && !args.pending {
        waiting.iter().for_each(|one| one.show(common));
    }
    let until = args.timeout.map(|timeout| Instant::now() + timeout);
    let shown: Vec<Result<u8, Failure>> = if args.watch {
        // Each of them goes on until somebody ends it.
        std::thread::scope(|scope| {
            let watch = |target| scope.spawn(move || one(args, common, target, until));
            let watched: Vec<_> = targets.iter().map(watch).collect();
            watched.into_iter().filter_map(|one| one.join().ok()).collect()
        })
    } else {
        targets.iter().map(|target| one(args, common, target, until)).collect()
    };
    for outcome in shown {
        match outcome {
            Ok(status) => worst = worst.max(status),
            // One whose daemon is gone does not hide the others, mounted or not.
            Err(failure) if targets.len() > 1 || !waiting.is_empty() => {
                worst = worst.max(exit::report(&failure));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(worst)
}

/// The mounts that are meant; if those are all of the caller's, also what is not mounted and waits to be.
fn targets(
    path: Option<&PathBuf>,
    common: &Common,
) -> Result<(Vec<Target>, Vec<Waiting>), Failure> {
    if let Some(path) = path {
        return Ok((vec![Target::of(path)?], Vec::new()));
    }
    let mounts = mounts()?;
    if let Some(mut target) = Target::among(&here(None), &mounts) {
        target.scope = Scope::of(b"");
        return Ok((vec![target], Vec::new()));
    }
    Ok((mine()?, waiting(&mounts, common)))
}

fn one(
    args: &StatusArgs,
    common: &Common,
    target: &Target,
    until: Option<Instant>,
) -> Result<u8, Failure> {
    if args.wait {
        let waited = wait(common, target, until)?;
        if args.short {
            show(args, common, target)?;
        }
        return exit::conclude(&waited);
    }
    show(args, common, target)
}

fn wait(common: &Common, target: &Target, until: Option<Instant>) -> Result<Done, Failure> {
    let output = Output::of(common);
    let mut bars = Bars::of(common);
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let timeout_ms = left.map(super::sync::millis);
    let request = Request::Wait { scope: target.scope.clone(), timeout_ms };
    let done = target.connect()?.ask(request, bars.wanted(), |document, line| {
        if !bars.take(document) && common.json {
            output.line(line);
        }
    })?;
    Ok(done)
}

fn show(args: &StatusArgs, common: &Common, target: &Target) -> Result<u8, Failure> {
    let output = Output::of(common);
    let scope = target.scope.clone();
    let whole = scope == Scope::of(b"");
    let request = match (args.pending, args.watch, whole) {
        (true, ..) => Request::Pending { scope },
        (_, true, _) => Request::Watch { scope },
        (.., true) => Request::Status,
        (.., false) => Request::Item { scope },
    };
    let (mut item, mut folder) = (Value::Null, false);
    let asked = target.connect()?.ask(request, false, |document, line| {
        if args.check {
        } else if args.short && !common.json && !whole {
            item = document.clone();
        } else if common.json {
            output.line(line);
        } else if args.short {
            output.line(&short(document));
        } else if args.null {
            output.end_with(&path_bytes(document), 0);
        } else if args.pending {
            pending_line(document, &output);
        } else if text(document, "type") == "mount" {
            mount_lines(document, &output);
        } else {
            folder = text(document, "kind") == "folder";
            item_lines(document, &output);
        }
    });
    let done = match asked {
        // Who watches a mount sees its end.
        Err(ClientError::Ended) if args.watch => {
            eprintln!("dewfs: {}: unmounted", target.mount.mountpoint.display());
            return Ok(DONE);
        }
        asked => asked?,
    };
    if let (DONE, Some(more), false) = (done.exit, &done.message, common.quiet) {
        eprintln!("dewfs: {more}");
    }
    if folder && done.exit == ATTENTION {
        output.line(&format!("  you       are needed{}", needed(&done, target)?));
    }
    if item.is_object() {
        output.line(&short_item(&item, &done, target)?);
    }
    match done.exit {
        DONE | LEFT | ATTENTION if args.check => Ok(done.exit),
        // Plain `status` is 0 whenever it could ask.
        LEFT | ATTENTION if done.message.is_none() => Ok(DONE),
        _ => exit::conclude(&done).map_err(|failure| {
            failure.about(args.path.as_deref().unwrap_or(Path::new(".")).display())
        }),
    }
}

/// What a person has to do about a folder: bring back its remote, if nothing of it is sent before, else look below.
fn needed(done: &Done, target: &Target) -> Result<String, Failure> {
    let mut needed = " below: dewfs conflicts, dewfs held, dewfs status --pending".to_owned();
    if done.left == Some(0) {
        return Ok(needed);
    }
    target.connect()?.ask(Request::Status, false, |document, _| {
        if stands(document) {
            needed = format!(": {}", text(document, "reason"));
        }
    })?;
    Ok(needed)
}

/// Whether a mount sends nothing until somebody did something about its remote.
fn stands(document: &Value) -> bool {
    matches!(text(document, "state"), "auth-required" | "remote-missing")
}

fn short(document: &Value) -> String {
    let troubles = ["errors", "conflicts", "held"].map(|key| number(document, key));
    match text(document, "state") {
        _ if stands(document) => "attention".into(),
        _ if troubles.iter().any(|count| *count > 0) => "attention".into(),
        state @ ("offline" | "paused") => state.into(),
        _ => syncing(number(document, "pending")),
    }
}

/// The same of an item; what keeps its mount from sending is told of it if it has something to send.
fn short_item(item: &Value, done: &Done, target: &Target) -> Result<String, Failure> {
    let own = u64::from(!matches!(text(item, "sync"), "in-sync" | "local-only" | "conflict"));
    let left = number(item, "pending_below") + own;
    if done.exit == ATTENTION || left == 0 {
        return Ok(if done.exit == ATTENTION { "attention".into() } else { syncing(0) });
    }
    let mut state = String::new();
    target.connect()?.ask(Request::Status, false, |document, _| {
        text(document, "state").clone_into(&mut state);
    })?;
    Ok(if matches!(state.as_str(), "offline" | "paused") { state } else { syncing(left) })
}

fn syncing(count: u64) -> String {
    if count == 0 { "in-sync".into() } else { format!("syncing {count}") }
}

fn pending_line(document: &Value, output: &Output) {
    let state = text(document, "sync");
    let mut line =
        format!("{}  {}", output.paint(&format!("{state:9}"), tone_of(state)), shown(document));
    let error = text(document, "error");
    if !error.is_empty() {
        line += &output.paint(&format!("  {error}"), Tone::Bad);
    }
    let again = text(document, "retry_at");
    if !again.is_empty() {
        line += &format!("  (again at {})", local_time(again));
    }
    output.line(&line);
}

fn mount_lines(document: &Value, output: &Output) {
    let field = |name: &str, value: &str| output.line(&format!("  {name:8}  {value}"));
    let state = text(document, "state");
    let head = output.paint(&super::exit::one_line(text(document, "mountpoint")), Tone::Bold);
    let only =
        if document.get("read_only") == Some(&Value::Bool(true)) { ", read-only" } else { "" };
    output.line(&format!("{head}  {}{only}", output.paint(state, tone_of(state))));
    if !text(document, "reason").is_empty() {
        field("why", text(document, "reason"));
    }
    field("remote", &super::exit::one_line(text(document, "remote")));
    field("sync", &sync_words(document));
    let nothing = Value::Null;
    let part = |key: &str| document.get(key).unwrap_or(&nothing);
    let cache = part("cache");
    let bytes = |of: &Value, key: &str| size(number(of, key));
    field(
        "here",
        &format!(
            "{} of {}, {} pinned, {} not sent",
            bytes(cache, "used_bytes"),
            bytes(cache, "limit_bytes"),
            bytes(cache, "pinned_bytes"),
            bytes(cache, "pending_bytes")
        ),
    );
    field("items", &number(document, "items").to_string());
    let contact = match text(document, "last_contact") {
        "" => "no contact yet".to_owned(),
        time => format!("last contact {}", local_time(time)),
    };
    let feed = match text(document, "feed_detail") {
        "folder-versions" => "a walk of changed folders",
        "listing" => "listing folders again",
        "changes" => "asking since a token",
        _ => text(document, "feed"),
    };
    let look = match age(text(document, "oldest_look")) {
        Some(age) => format!(", oldest look {age} ago"),
        None => String::new(),
    };
    field("changes", &format!("by {feed}{look}, {contact}"));
    let quota = part("quota");
    match (
        quota.get("used_bytes").and_then(Value::as_u64),
        quota.get("limit_bytes").and_then(Value::as_u64),
    ) {
        (Some(used), Some(limit)) => field("there", &format!("{} of {}", size(used), size(limit))),
        (Some(used), None) => field("there", &size(used)),
        _ => {}
    }
    let traffic = part("traffic");
    let requests = number(traffic, "requests");
    let (down, up) = (bytes(traffic, "bytes_down"), bytes(traffic, "bytes_up"));
    field("traffic", &format!("{requests} requests, {down} down, {up} up"));
    let error = part("last_error");
    if error.is_object() {
        let place = [text(error, "path"), ": "].concat();
        let place = if text(error, "path").is_empty() { "" } else { &place };
        let message =
            format!("{} {place}{}", local_time(text(error, "time")), text(error, "message"));
        field("trouble", &output.paint(&super::exit::one_line(&message), Tone::Bad));
    }
}

/// Counts of a mount that are told, and what one of them and several are called.
const TROUBLES: [(&str, &str, &str); 4] = [
    ("uploading", "uploading", "uploading"),
    ("errors", "error", "errors"),
    ("conflicts", "conflict copy to decide", "conflict copies to decide"),
    ("held", "held", "held"),
];

fn sync_words(document: &Value) -> String {
    let pending = number(document, "pending");
    let mut words = match pending {
        0 => "in sync".to_owned(),
        _ => format!("{pending} not in sync"),
    };
    for (key, one, many) in TROUBLES {
        match number(document, key) {
            0 => {}
            1 => words += &format!(", 1 {one}"),
            count => words += &format!(", {count} {many}"),
        }
    }
    if number(document, "conflicts") > 0 && pending == 0 {
        words = words.replacen("in sync", "all is sent", 1);
    }
    match text(document, "oldest_pending") {
        "" => words,
        since => format!("{words}, the oldest since {}", local_time(since)),
    }
}

fn item_lines(document: &Value, output: &Output) {
    let field = |name: &str, value: &str| output.line(&format!("  {name:8}  {value}"));
    let state = text(document, "state");
    let head = output.paint(&shown(document), Tone::Bold);
    output.line(&format!("{head}  {}", output.paint(state, tone_of(state))));
    let folder = text(document, "kind") == "folder";
    field("kind", text(document, "kind"));
    if folder {
        field("content", text(document, "content"));
    } else {
        let (all, present) = (number(document, "size"), number(document, "present_bytes"));
        field(
            "content",
            &format!("{}, {} of {} here", text(document, "content"), size(present), size(all)),
        );
    }
    let below = number(document, "pending_below");
    let below = if below == 0 { String::new() } else { format!(", {below} below are not") };
    field("sync", &format!("{}{below}", text(document, "sync")));
    let from = text(document, "pin_from");
    let from = match (from, text(document, "pin_rule")) {
        ("", "") => String::new(),
        ("", rule) => format!(" (by the rule {rule})"),
        (from, _) => format!(" (by {from})"),
    };
    field("pin", &format!("{}{from}", text(document, "pin")));
    for (key, name) in [("mtime", "changed"), ("since", "waiting"), ("retry_at", "again at")] {
        if !text(document, key).is_empty() {
            field(name, &local_time(text(document, key)));
        }
    }
    for (key, name) in [("version", "version"), ("remote_id", "id"), ("error", "error")] {
        if !text(document, key).is_empty() {
            field(name, text(document, key));
        }
    }
}
