//! What can go wrong at a remote, and whether trying again helps.

use std::time::Duration;

/// Names what a remote refused or could not do, by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing is there.
    NotFound,
    /// Something is there already.
    AlreadyExists,
    /// What is there is not the version expected, or not of the kind expected.
    VersionMismatch,
    /// The version is too young to be told from a later one: ask again after this long.
    Unsettled {
        /// When the remote's clock tick is over.
        after: Duration,
    },
    /// The folder is not empty.
    NotEmpty,
    /// The folder that should hold it is not there.
    NoParent,
    /// The user may not.
    Denied,
    /// Not signed in, or no longer.
    Unauthenticated,
    /// Quota or disk of the remote is full.
    NoSpace,
    /// The remote cannot hold this name.
    NameRejected,
    /// Somebody holds a lock on it.
    Locked {
        /// When it is worth asking again, if told.
        after: Option<Duration>,
    },
    /// The remote, or this part of it, cannot be written.
    ReadOnly,
    /// Too many requests.
    RateLimited {
        /// When it may be asked again, if told.
        after: Option<Duration>,
    },
    /// The change cursor is too old: look at everything listed.
    CursorExpired,
    /// The remote's root is not there, or something else is in its place. Nothing was done.
    RootMissing,
    /// The part of the remote that this is in is not there now. Nothing was done.
    Away,
    /// This remote cannot do this.
    Unsupported,
    /// It answered what cannot be right (length, range, XML); nothing of it is believed.
    Corrupt,
    /// It cannot be reached. The request may or may not have been applied.
    Offline,
    /// It answers that it cannot serve this now. The request may or may not have been applied.
    Unavailable,
    /// Anything else.
    Other,
}

/// Says whether and when the same request is worth sending again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same request will fail again.
    Never,
    /// After exactly this long.
    After(Duration),
    /// After a while that grows.
    BackOff,
}

impl ErrorKind {
    /// Whether and when to try again; only the retry layer asks.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Unsettled { after }
            | Self::RateLimited { after: Some(after) }
            | Self::Locked { after: Some(after) } => Verdict::After(*after),
            Self::RateLimited { after: None }
            | Self::Locked { after: None }
            | Self::Offline
            | Self::Unavailable => Verdict::BackOff,
            _ => Verdict::Never,
        }
    }

    /// One word for figures.
    pub fn class(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::VersionMismatch => "version-mismatch",
            Self::Unsettled { .. } => "unsettled",
            Self::NotEmpty => "not-empty",
            Self::NoParent => "no-parent",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::NoSpace => "no-space",
            Self::NameRejected => "name-rejected",
            Self::Locked { .. } => "locked",
            Self::ReadOnly => "read-only",
            Self::RateLimited { .. } => "rate-limited",
            Self::CursorExpired => "cursor-expired",
            Self::RootMissing => "root-missing",
            Self::Away => "away",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::Offline => "offline",
            Self::Unavailable => "unavailable",
            Self::Other => "other",
        }
    }

    /// Whether the request may have been applied although it failed.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Offline | Self::Unavailable | Self::Corrupt | Self::Other)
    }
}

/// Is a failed remote operation: what was asked, of what, and why not.
#[derive(Debug, thiserror::Error)]
#[error("{}", shown(.operation, .path, &message(.kind, .source)))]
pub struct RemoteError {
    /// What it means for the caller.
    pub kind: ErrorKind,
    /// The trait method, in words: `list`, `read`, `write` …
    pub operation: &'static str,
    /// The path below the remote's root, for people.
    pub path: String,
    /// What the transport said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl RemoteError {
    /// An error without a cause from below.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they just made")]
    pub fn new(kind: ErrorKind, operation: &'static str, path: impl ToString) -> Self {
        Self { kind, operation, path: path.to_string(), source: None }
    }

    /// The same error with what the transport said.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// What is asked first is about the remote itself: who made it says where it is, and no verb is needed.
fn shown(operation: &str, path: &str, message: &str) -> String {
    match (operation, path) {
        ("open", "/") => message.to_owned(),
        ("open", _) => format!("{path}: {message}"),
        _ => format!("{operation} {path}: {message}"),
    }
}

fn message(kind: &ErrorKind, source: &Option<Box<dyn std::error::Error + Send + Sync>>) -> String {
    let what = match kind {
        ErrorKind::NotFound => "not found",
        ErrorKind::AlreadyExists => "exists already",
        ErrorKind::VersionMismatch => "changed by somebody else",
        ErrorKind::Unsettled { .. } => "too young to be relied on yet",
        ErrorKind::NotEmpty => "the folder is not empty",
        ErrorKind::NoParent => "its folder does not exist",
        ErrorKind::Denied => "permission denied by the remote",
        ErrorKind::Unauthenticated => "sign-in needed",
        ErrorKind::NoSpace => "the remote is full",
        ErrorKind::NameRejected => "the remote cannot hold this name",
        ErrorKind::Locked { .. } => "locked by somebody else",
        ErrorKind::ReadOnly => "the remote cannot be written",
        ErrorKind::RateLimited { .. } => "too many requests",
        ErrorKind::CursorExpired => "the change cursor is too old",
        ErrorKind::RootMissing => {
            "the remote's root is not there, or something else is in its place"
        }
        ErrorKind::Away => "the file system that it is in is not mounted there now",
        ErrorKind::Unsupported => "this remote cannot do this",
        ErrorKind::Corrupt => "the answer cannot be right",
        ErrorKind::Offline => "cannot be reached",
        ErrorKind::Unavailable => "the remote cannot serve this now",
        ErrorKind::Other => "failed",
    };
    match source {
        Some(source) => format!("{what} ({source})"),
        None => what.to_owned(),
    }
}

/// What every remote operation answers.
pub type Result<T> = std::result::Result<T, RemoteError>;
