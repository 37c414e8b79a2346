//! Bars: on stderr, on a terminal, for what takes longer than a second.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::Common;
use super::output::{number, shown, text};

/// What is over sooner than this needs no bar.
const QUIET: Duration = Duration::from_secs(1);
/// A transfer that was not heard of for so long is over.
const STALE: Duration = Duration::from_millis(700);

/// Shows `progress` events as bars.
pub(super) struct Bars {
    shown: Option<MultiProgress>,
    since: Instant,
    bars: HashMap<String, (ProgressBar, Instant)>,
}

impl Bars {
    /// Bars if there is a terminal to show them on and nobody said otherwise.
    pub(super) fn of(common: &Common) -> Self {
        let wanted = !common.no_progress && !common.quiet && std::io::stderr().is_terminal();
        Self {
            shown: wanted.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            since: Instant::now(),
            bars: HashMap::new(),
        }
    }

    /// Whether progress events are of any use.
    pub(super) fn wanted(&self) -> bool {
        self.shown.is_some()
    }

    /// Takes a document; `true` if it was a progress event.
    pub(super) fn take(&mut self, document: &Value) -> bool {
        if text(document, "event") != "progress" {
            return false;
        }
        let now = Instant::now();
        if let Some(all) = &self.shown
            && now.duration_since(self.since) >= QUIET
        {
            let key = format!("{} {}", text(document, "what"), shown(document));
            let total = document.get("total").and_then(Value::as_u64);
            let entry = self.bars.entry(key.clone()).or_insert_with(|| {
                let bar = all.add(ProgressBar::new(total.unwrap_or(0)));
                bar.set_style(style(total.is_some()));
                bar.set_message(key);
                (bar, now)
            });
            if let Some(total) = total {
                entry.0.set_length(total);
            }
            entry.0.set_position(number(document, "done"));
            entry.1 = now;
            self.drop_stale(now);
        }
        true
    }

    fn drop_stale(&mut self, now: Instant) {
        self.bars.retain(|_, (bar, heard)| {
            let live = now.duration_since(*heard) < STALE;
            if !live {
                bar.finish_and_clear();
            }
            live
        });
    }

    /// Runs `print` with the bars out of the way.
    pub(super) fn aside(&self, print: impl FnOnce()) {
        match &self.shown {
            Some(all) => all.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for (bar, _) in self.bars.values() {
            bar.finish_and_clear();
        }
    }
}

fn style(known: bool) -> ProgressStyle {
    let template = if known {
        "{wide_msg} {bar:20} {binary_bytes:>11}/{binary_total_bytes:11} {binary_bytes_per_sec:>12}"
    } else {
        "{wide_msg} {binary_bytes:>11} {spinner}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
