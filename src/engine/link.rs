//! The connection to the remote: the layers it is seen through, and what they tell.

use std::sync::Arc;

use super::core::Remotes;
use super::settings::Settings;
use crate::remote::Remote;

/// Is what is known of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Link {}

impl Remotes {
    /// Puts the layers around a remote, one stack for each cause.
    pub(crate) fn layered(remote: Arc<dyn Remote>, settings: &Settings) -> (Self, Link) {
        let _ = settings;
        (Self { user: remote.clone(), feed: remote.clone(), transfer: remote }, Link {})
    }
}
