//! From a specification to a remote that can be asked.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Credentials, RemoteOptions, RemoteSpec, Who};
use crate::remote::Remote;
use crate::remote::folder::FolderRemote;

use super::Failure;

/// Is a remote, and where its credentials come from if it takes any.
pub struct Opened {
    /// The remote.
    pub remote: Arc<dyn Remote>,
    /// To be told when nobody may be asked on a terminal any more.
    pub credentials: Option<Arc<Credentials>>,
}

/// Opens a remote. Asks it nothing yet.
pub fn open(
    spec: &RemoteSpec,
    options: &RemoteOptions,
    who: &Who,
    stall: Duration,
) -> Result<Opened, Failure> {
    match spec {
        RemoteSpec::Folder(path) => {
            let remote =
                FolderRemote::open(path).map_err(|error| Failure::failed(error.to_string()))?;
            Ok(Opened { remote: Arc::new(remote), credentials: None })
        }
        RemoteSpec::WebDav { url, .. } => {
            let _unused = (options, who, stall);
            Err(Failure::usage(format!("{url}: not available in this version")))
        }
    }
}
