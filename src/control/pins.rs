//! Pins: the requests that set, take away and list them, and their documents; pausing.

use std::path::Path;

use serde::Serialize;

use crate::engine::{EngineError, Lane, OwnPin, RuleStatus, pin_word};
use crate::model::{Pin, shown_bytes};

use super::document::{FORMAT, Mount, PathText};
use super::handler::{Handler, Outcome};
use super::outcome::{Pinned, small_document};
use super::protocol::{Done, PausedLane, Scope};
use super::several::Several;

small_document! {
    /// Is an item with a pin of its own.
    PinnedItem, "pinned", {
        /// The item.
        #[serde(flatten)]
        path: PathText,
        /// The pin that was set on it.
        pin: &'static str,
    }
}
small_document! {
    /// Is a pin rule, and what it does.
    RuleDocument, "rule", {
        /// What people call it.
        name: String,
        /// What it says.
        expression: String,
        /// How many bytes may be pinned by it.
        budget_bytes: Option<u64>,
        /// Files pinned by it.
        files: u64,
        /// Bytes of these.
        size: u64,
        /// Bytes of these that are here.
        present_bytes: u64,
        /// Files that fit, for which the budget has no room.
        left_out: u64,
        /// Folders in which files may fit, whose names are not known yet.
        unlisted: u64,
    }
}

impl PinnedItem {
    /// One of the engine's.
    pub fn of(pin: &OwnPin, mountpoint: &Path) -> Self {
        Self::new(PathText::in_mount(mountpoint, &pin.path), pin_word(pin.pin))
    }
}

impl RuleDocument {
    /// One of the engine's.
    pub fn of(rule: &RuleStatus) -> Self {
        Self::new(
            rule.name.clone(),
            rule.expression.clone(),
            rule.budget,
            rule.files,
            rule.size,
            rule.present_bytes,
            rule.left_out,
            rule.unlisted,
        )
    }
}

impl PausedLane {
    /// The engine's lane.
    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Bulk => Lane::Bulk,
            Self::Uploads => Lane::Uploads,
            Self::All => Lane::All,
        }
    }
}

impl Handler {
    pub(super) async fn say_mount(&self) -> Outcome {
        let status = self.engine.mount_status().await?;
        self.say(&Mount::of(&status, &self.info)).await;
        Ok(Done::well())
    }

    pub(super) async fn pin(&self, paths: &[Scope], wait: bool) -> Outcome {
        let mut all = Several::default();
        for scope in paths {
            let path = self.path_text(&scope.bytes().unwrap_or_default()).path;
            all.add(&path, self.pin_one(scope, wait).await);
        }
        Ok(all.done())
    }

    async fn pin_one(&self, scope: &Scope, wait: bool) -> Outcome {
        let ino = self.find(scope).await?;
        self.engine.set_pin(ino, Pin::Pinned).await?;
        let mut left = self.engine.pin_left(ino).await?;
        let path = scope.bytes().unwrap_or_default();
        if left > 0 && !self.engine.pins_fit(ino).await? {
            let text = self.path_text(&path).path;
            return Ok(Done::with(1, None, Some(self.does_not_fit(&text, left).await?)));
        }
        let mut failed = Several::default();
        // What is not listed yet is not counted in what is left.
        if wait {
            match self.engine.hydrate(ino).await {
                // The pin holds, and goes on by itself when the remote is back.
                Err(EngineError::Offline | EngineError::TimedOut) => {}
                other => {
                    for (path, error) in other?.failed {
                        // What is only slow is told as still to come.
                        if !matches!(error, EngineError::TimedOut) {
                            self.note_not_fetched(&mut failed, &path, &error, "; it stays pinned");
                        }
                    }
                }
            }
            left = self.engine.pin_left(ino).await?;
        }
        self.say(&Pinned::of(&path, (Pin::Pinned, None), left, &self.info.mountpoint)).await;
        Ok(failed.done())
    }

    async fn does_not_fit(&self, text: &str, left: u64) -> Result<String, EngineError> {
        let limit = self.engine.mount_status().await?.cache_limit;
        let beside = if left > limit { "" } else { " beside what else is pinned" };
        Ok(format!(
            "{text}: {} more do not fit into cache_size={}{beside}; it stays pinned and comes when there is room: raise cache_size=, \
             or dewfs unpin it",
            shown_bytes(left),
            shown_bytes(limit)
        ))
    }

    pub(super) async fn unpin(&self, paths: &[Scope]) -> Outcome {
        let mut all = Several::default();
        for scope in paths {
            let path = self.path_text(&scope.bytes().unwrap_or_default()).path;
            all.add(&path, self.unpin_one(scope).await);
        }
        Ok(all.done())
    }

    async fn unpin_one(&self, scope: &Scope) -> Outcome {
        let ino = self.find(scope).await?;
        self.engine.unpin(ino).await?;
        let path = scope.bytes().unwrap_or_default();
        let item = self.engine.item_status(ino).await?;
        let pin = (item.pin, item.pin_from.as_deref());
        let mut told = Pinned::of(&path, pin, 0, &self.info.mountpoint);
        told.pin_rule = item.pin_rule;
        self.say(&told).await;
        Ok(Done::well())
    }

    pub(super) async fn pins(&self, scope: &Scope) -> Outcome {
        let top = self.find(scope).await?;
        for pin in &self.engine.own_pins(top).await? {
            self.say(&PinnedItem::of(pin, &self.info.mountpoint)).await;
        }
        for rule in &self.engine.pin_rules().await? {
            self.say(&RuleDocument::of(rule)).await;
        }
        Ok(Done::well())
    }

    pub(super) async fn add_rule(
        &self,
        name: Option<&str>,
        expression: &str,
        budget: Option<u64>,
    ) -> Outcome {
        let name = match self.engine.add_pin_rule(name, expression, budget).await {
            Err(EngineError::Refused(why)) => {
                let why = format!("--rule '{expression}': {why}");
                return Ok(Done::with(2, None, Some(why)));
            }
            other => other?,
        };
        for rule in self.engine.pin_rules().await?.iter().filter(|rule| rule.name == name) {
            self.say(&RuleDocument::of(rule)).await;
        }
        Ok(Done::well())
    }

    pub(super) async fn remove_rule(&self, name: &str) -> Outcome {
        match self.engine.remove_pin_rule(name).await {
            Err(EngineError::NotFound) => {
                let why = format!("no pin rule {name}: dewfs pin --list shows them");
                Ok(Done::with(1, None, Some(why)))
            }
            other => other.map(|()| Done::well()),
        }
    }
}
