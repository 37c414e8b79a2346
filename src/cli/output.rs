//! How answers look to people: colours, sizes, times, tables.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

pub(super) use crate::model::shown_bytes as size;

use super::Common;
use super::args::Colors;

/// Writes answers to stdout.
#[derive(Clone, Debug)]
pub(super) struct Output {
    color: bool,
}

/// Is the colour of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Bold,
    Faint,
    Good,
    Busy,
    Bad,
}

impl Output {
    /// The output of a command.
    pub(super) fn of(common: &Common) -> Self {
        let color = match common.color {
            Colors::Always => true,
            Colors::Never => false,
            Colors::Auto => {
                std::io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Self { color }
    }

    /// The text in a colour, if there are colours.
    pub(super) fn paint(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Bold => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line on stdout. A reader that went away ends the program quietly, as it does with other tools.
    pub(super) fn line(&self, text: &str) {
        self.end_with(text.as_bytes(), b'\n');
    }

    /// Prints a document as scripts want it: as the line it came as, or its path ended by NUL. `false`: a person is to see it.
    pub(super) fn for_scripts(
        &self,
        common: &Common,
        null: bool,
        document: &Value,
        line: &str,
    ) -> bool {
        if common.json {
            self.line(line);
        } else if null {
            self.end_with(&path_bytes(document), 0);
        }
        common.json || null
    }

    /// Bytes and their end on stdout.
    pub(super) fn end_with(&self, bytes: &[u8], end: u8) {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.write_all(&[end]));
        if written.is_err() {
            std::process::exit(i32::from(super::FAILED));
        }
    }
}

/// The colour of a state word.
pub(super) fn tone_of(word: &str) -> Tone {
    match word {
        "online" | "in-sync" | "local" | "pinned" => Tone::Good,
        "pending" | "uploading" | "hydrating" | "paused" | "offline" | "partial" | "degraded" => {
            Tone::Busy
        }
        "error" | "conflict" | "auth-required" | "remote-missing" => Tone::Bad,
        "online-only" | "unlisted" | "local-only" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// A time of a document as local time.
pub(super) fn local_time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => {
            let local = time.to_zoned(jiff::tz::TimeZone::system());
            local.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => text.to_owned(),
    }
}

/// How long ago a time was, in the two largest units; `None` if it is no time.
pub(super) fn age(time: &str) -> Option<String> {
    let then = time.parse::<jiff::Timestamp>().ok()?;
    let seconds = jiff::Timestamp::now().duration_since(then).as_secs().max(0);
    Some(match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    })
}

/// A text field of a document; empty if unknown.
pub(super) fn text<'a>(document: &'a Value, key: &str) -> &'a str {
    document.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number of a document; 0 if unknown.
pub(super) fn number(document: &Value, key: &str) -> u64 {
    document.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// The bytes of a document's path.
pub(super) fn path_bytes(document: &Value) -> Vec<u8> {
    use base64::Engine as _;
    let encoded = document.get("path_base64").and_then(Value::as_str);
    encoded
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
        .unwrap_or_else(|| text(document, "path").as_bytes().to_vec())
}

/// A path for people: control characters cannot play with the terminal.
pub(super) fn shown(document: &Value) -> String {
    super::exit::one_line(text(document, "path"))
}

/// How many columns text takes, one a character.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

/// A count with its noun.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}
