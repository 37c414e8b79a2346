//! Signing in by the browser, where a server offers it: the link is shown, opened if there is a desktop, and waited for.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::config::{Login, RemoteOptions, RemoteSpec};
use crate::remote::ErrorKind;
use crate::remote::webdav::LoginFlow;

use super::way_out::with_way_out;
use super::{ATTENTION, Failure, remotes};

/// The server forgets a login after twenty minutes.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Has a person sign in; `None` if the remote is none that people sign in to by the browser.
pub(super) fn sign_in(
    spec: &RemoteSpec,
    options: &RemoteOptions,
    stall: Duration,
) -> Result<Option<Login>, Failure> {
    let RemoteSpec::WebDav { url, .. } = spec else { return Ok(None) };
    let opened_with = remotes::webdav_options(url, options, stall);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let failed =
            |error: crate::remote::RemoteError| Failure::failed(with_way_out(&error.to_string()));
        let flow = match LoginFlow::begin(&opened_with).await {
            Ok(Some(flow)) => flow,
            // Who wants a password even for its status page is no such server.
            Err(error) if error.kind == ErrorKind::Unauthenticated => return Ok(None),
            Ok(None) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        eprintln!("Sign in to {} in your browser and grant access:", flow.product());
        eprintln!("  {}", flow.link());
        if open(flow.link()) {
            eprintln!("It was opened for you. Waiting ...");
        }
        let granted = flow.wait(PATIENCE).await.map_err(failed)?.ok_or_else(|| Failure {
            exit: ATTENTION,
            message: "nobody signed in within 20 minutes; start again for a new link".into(),
        })?;
        Ok(Some(Login::Basic { user: granted.user, password: granted.password }))
    })
}

/// Opens a link, if there is a desktop to open it on.
fn open(link: &str) -> bool {
    let is_desktop =
        ["WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let mut opener = Command::new("xdg-open");
    opener.arg(link).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    is_desktop && opener.spawn().is_ok()
}
