//! What is said on the socket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The version of the protocol; a daemon understands its own and the one before.
pub const VERSION: u32 = 1;
/// The oldest version that is understood.
pub const OLDEST: u32 = 1;

/// Is a path below the mountpoint, as it travels: text, or base64 of bytes that are no text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The path without a leading slash; empty for the root.
    #[serde(default)]
    pub path: String,
    /// Its bytes, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
}

impl Scope {
    /// The bytes as they travel.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { path: text.to_owned(), path_base64: None },
            Err(_) => Self { path: String::new(), path_base64: Some(STANDARD.encode(bytes)) },
        }
    }

    /// The bytes of the path; `None` if the base64 is none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match &self.path_base64 {
            Some(text) => STANDARD.decode(text).ok(),
            None => Some(self.path.clone().into_bytes()),
        }
    }
}

/// Is one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// [`VERSION`] of who asks.
    pub version: u32,
    /// Whether `progress` events are wanted.
    #[serde(default)]
    pub progress: bool,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// Is what can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// The mount's state: one `mount` document.
    Status,
    /// An item's state: one `item` document.
    Item {
        /// Which.
        #[serde(flatten)]
        scope: Scope,
    },
    /// What is in a folder: `item` documents.
    List {
        /// Which.
        #[serde(flatten)]
        scope: Scope,
        /// And in the folders below.
        #[serde(default)]
        recursive: bool,
        /// Whether folders that are not listed yet are.
        #[serde(default)]
        fetch: bool,
    },
    /// What is not in sync at or below: `item` documents.
    Pending {
        /// Where.
        #[serde(flatten)]
        scope: Scope,
    },
    /// The state again each time it changes: `mount` or `item` documents, until who asked goes away.
    Watch {
        /// An item; the mount for its root.
        #[serde(flatten)]
        scope: Scope,
    },
    /// What happens at or below: `event` documents, until who asked goes away.
    Events {
        /// Where.
        #[serde(flatten)]
        scope: Scope,
    },
    /// Background transfer stands still: one `mount` document.
    Pause {
        /// Which.
        lane: PausedLane,
    },
    /// It goes on: one `mount` document.
    Resume,
    /// One lane of it goes on: one `mount` document.
    ResumeLane {
        /// Which.
        lane: PausedLane,
    },
    /// What is spoken here: one `protocol` document.
    Version,
    /// Send and ask now.
    Sync {
        /// Where.
        #[serde(flatten)]
        scope: Scope,
        /// Whether to wait as `wait` does.
        #[serde(default)]
        wait: bool,
        /// For how long at most.
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// Wait until all is in sync, or nothing goes further by itself.
    Wait {
        /// Where.
        #[serde(flatten)]
        scope: Scope,
        /// For how long at most.
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// Bring content here.
    Hydrate {
        /// What.
        paths: Vec<Scope>,
    },
    /// Give space back.
    Free {
        /// Where.
        paths: Vec<Scope>,
        /// Only tell.
        #[serde(default)]
        dry_run: bool,
    },
    /// Always keep here.
    Pin {
        /// What.
        paths: Vec<Scope>,
        /// Whether to wait for the content.
        #[serde(default)]
        wait: bool,
    },
    /// Back to `unspecified`.
    Unpin {
        /// What.
        paths: Vec<Scope>,
    },
    /// What has a pin of its own at or below: `pinned` documents, then all rules as `rule` documents.
    Pins {
        /// Where.
        #[serde(flatten)]
        scope: Scope,
    },
    /// Adds or replaces a pin rule: one `rule` document.
    PinRule {
        /// Its name; it gets one otherwise.
        #[serde(default)]
        name: Option<String>,
        /// What it says.
        expression: String,
        /// How many bytes may be pinned by it.
        #[serde(default)]
        budget: Option<u64>,
    },
    /// Removes a pin rule.
    RemovePinRule {
        /// Its name.
        name: String,
    },
    /// An item's history: `history` documents.
    Why {
        /// Which.
        #[serde(flatten)]
        scope: Scope,
    },
    /// What the mass-change guard holds: `held` documents.
    Held,
    /// Send it after all: one `released` document.
    Release {
        /// Only tell.
        #[serde(default)]
        dry_run: bool,
    },
    /// Bring it back: `restored` documents.
    Undo {
        /// Only tell.
        #[serde(default)]
        dry_run: bool,
    },
    /// Conflict copies not yet resolved: `conflict` documents.
    Conflicts,
    /// Decides conflict copies, each named itself or by its original: `resolved` documents.
    Resolve {
        /// Which.
        paths: Vec<Scope>,
        /// Which content stays.
        keep: Kept,
        /// Only tell.
        #[serde(default)]
        dry_run: bool,
    },
    /// The remote is meant to be another one, or to have lost what it lost.
    AcceptRemote,
    /// Numbers: one `cache` document.
    CacheStat,
    /// Compare checksums: `problem` documents.
    CacheVerify,
    /// Drop clean content that is not pinned.
    CacheClear {
        /// Only tell.
        #[serde(default)]
        dry_run: bool,
    },
    /// What is called so, from the catalog: `found` documents and one `searched`.
    Find {
        /// Where.
        #[serde(flatten)]
        scope: Scope,
        /// A pattern of the name, or with a slash of the path below.
        #[serde(default)]
        pattern: Option<Scope>,
    },
    /// The files that come first, from the catalog: `found` documents and one `searched`.
    First {
        /// Where.
        #[serde(flatten)]
        scope: Scope,
        /// In which order.
        order: Order,
        /// How many at most.
        count: u64,
    },
    /// What folders hold, from the catalog: `usage` documents and one `searched`.
    Usage {
        /// Where.
        #[serde(flatten)]
        scope: Scope,
        /// How far down folders are shown.
        depth: u64,
    },
    /// Send what is pending while that makes progress.
    Drain {
        /// For how long at most; not at all if 0.
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// Read the secret anew, as after signing in or out, and ask the remote with it.
    SignIn,
    /// Unmount if need be, let go of the state and end, without waiting for anything.
    Stop,
}

/// Names what can be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PausedLane {
    /// What is fetched ahead of anybody, and sending large files.
    Bulk,
    /// All that is sent.
    Uploads,
    /// Both.
    All,
}

/// Says which content stays of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// That of the conflict copy, under the original's name.
    Mine,
    /// That of the original.
    Theirs,
    /// Both, under their names.
    Both,
}

/// Says which files come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The largest.
    Largest,
    /// Those changed last.
    Recent,
}

/// Is the last line of every answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// [`super::FORMAT`].
    pub format: u32,
    /// `done`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The exit status for a command.
    pub exit: u8,
    /// Items left, for `wait`, `sync` and `drain`.
    pub left: Option<u64>,
    /// What went wrong, in one line.
    pub message: Option<String>,
}

impl Done {
    /// All went well.
    pub fn well() -> Self {
        Self::with(0, None, None)
    }

    /// An outcome.
    pub fn with(exit: u8, left: Option<u64>, message: Option<String>) -> Self {
        Self { format: super::FORMAT, kind: "done".into(), exit, left, message }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_one_line_and_come_back() {
        for request in [
            Request::Status,
            Request::Item { scope: Scope::of(b"a/\xff") },
            Request::Hydrate { paths: vec![Scope::of(b"a\nb"), Scope::of(b"")] },
            Request::Sync { scope: Scope::of(b"x"), wait: true, timeout_ms: Some(5) },
            Request::Stop,
        ] {
            let sent = Envelope { version: VERSION, progress: true, request };
            let line = serde_json::to_string(&sent).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Envelope>(&line).unwrap(), sent);
        }
    }

    /// The page had no `sign-in`, and the page beside it half of the others.
    #[test]
    fn regression_every_request_is_in_the_page_and_no_other() {
        let page = include_str!("../../docs/protocol.md");
        let rows = page.split("\n## Requests\n").nth(1).unwrap().lines();
        let rows = rows.skip_while(|line| !line.starts_with("| --- ")).skip(1);
        let cells = rows.take_while(|line| line.starts_with('|')).map(|line| line.split('|'));
        let quoted = |text: &str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let mut shown: Vec<String> =
            cells.flat_map(|mut cells| quoted(cells.nth(1).unwrap())).collect();
        // What is no request is refused with the words of all that are.
        let refused = serde_json::from_str::<Request>(r#"{"request":"?"}"#).unwrap_err();
        let mut known = quoted(&refused.to_string());
        known.retain(|word| word != "?");
        shown.sort();
        known.sort();
        assert!(known.len() > 30 && known.contains(&"sign-in".to_owned()), "{refused}");
        assert_eq!(shown, known);
    }

    #[test]
    fn a_path_that_is_no_text_travels_whole() {
        assert_eq!(Scope::of(b"a/\xff").bytes().unwrap(), b"a/\xff");
        assert_eq!(Scope::of("ä".as_bytes()).path, "ä");
    }
}
