//! What systemd is told of a mount in a unit of type `notify`: that it can be used, how it is in one line, and that it is
//! alive, which only a mount says whose catalog still answers.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::config::is_service_of_machine;
use crate::engine::{Engine, LastError, MountStatus};

/// The line is written anew at most this often.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells systemd that the mount can be used.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells systemd that the mount ends, and how long that may take.
pub(super) fn stopping(limit: Duration) {
    let limit = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(limit)]);
}

/// Tells systemd a line for people; it is what `systemctl status` shows.
pub(super) fn status(line: &str) {
    tell(&[NotifyState::Status(&line.replace(char::is_control, " "))]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told {states:?}: {why}.");
    }
}

/// Shows how the mount is each time that changes, and answers the watchdog, for as long as it is wanted.
pub(super) async fn attend(engine: &Engine) -> Infallible {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        tokio::join!(show(engine), answer_watchdog(engine, sd_notify::watchdog_enabled()));
    }
    std::future::pending().await
}

/// Answers the watchdog alone: the line says what is being done.
pub(super) async fn stay_alive(engine: &Engine) -> Infallible {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        answer_watchdog(engine, sd_notify::watchdog_enabled()).await;
    }
    std::future::pending().await
}

async fn show(engine: &Engine) {
    // Everybody may ask the machine's systemd for this line.
    let is_public = is_service_of_machine() || rustix::process::geteuid().is_root();
    let mut mark = 0;
    let mut shown = String::new();
    loop {
        let begun = Instant::now();
        if let Ok(how) = engine.mount_status().await {
            let line = line(&how, is_public);
            if line != shown {
                status(&line);
                shown = line;
            }
        }
        // Where much waits to be sent it is counted.
        tokio::time::sleep(PAUSE.max(begun.elapsed() * 10)).await;
        mark = engine.changed(mark).await;
    }
}

/// A mount whose catalog does not answer is not alive, whatever its threads do.
async fn answer_watchdog(engine: &Engine, limit: Option<Duration>) {
    let Some(limit) = limit else { return };
    let pause = (limit / 3).max(Duration::from_millis(1));
    let mut ticks = interval_at(Instant::now() + pause, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if matches!(timeout(pause, engine.is_alive()).await, Ok(true)) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// One line: the state and why, what is not sent, and what went wrong last; that names files, so not where everybody may read
/// it.
fn line(how: &MountStatus, is_public: bool) -> String {
    let mut line = how.state.word().to_owned();
    if let Some(why) = &how.reason {
        line += &format!(" ({why})");
    }
    line += &match how.pending {
        0 => ", all is sent".to_owned(),
        1 => ", 1 item not sent yet".to_owned(),
        count => format!(", {count} items not sent yet"),
    };
    if let Some(error) = &how.last_error {
        line += &last_error(error, is_public);
    }
    line
}

fn last_error(error: &LastError, is_public: bool) -> String {
    if is_public {
        return "; for the last error see dewfs status".to_owned();
    }
    let path = error.path.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let colon = if path.is_empty() { "" } else { ": " };
    format!("; last error: {path}{colon}{}", error.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_may_read_names_no_file() {
        let message = "hr/dismissal.odt: the disk there is full".to_owned();
        let error = LastError { time: 0, path: Some(b"hr/dismissal.odt".to_vec()), message };
        assert!(last_error(&error, false).contains("hr/dismissal.odt: hr/dismissal.odt: the disk"));
        assert_eq!(last_error(&error, true), "; for the last error see dewfs status");
    }
}
