//! From what was said about a remote to the remote.

use std::sync::Arc;

use super::daemon::not_yet;
use super::failure::{Failure, Kind};
use crate::config::{MountOptions, RemoteSpec};
use crate::remote::Remote;
use crate::remote::folder::FolderRemote;

pub(super) fn open(options: &MountOptions) -> Result<Arc<dyn Remote>, Failure> {
    match &options.remote {
        RemoteSpec::Folder(root) => {
            let remote = FolderRemote::open(root)
                .map_err(|why| Failure::new(Kind::Mount, format!("{}: {why}", root.display())))?;
            Ok(Arc::new(remote))
        }
        RemoteSpec::WebDav { url, .. } => Err(not_yet(url.as_str())),
    }
}
