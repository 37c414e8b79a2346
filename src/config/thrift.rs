//! `metered=` and `battery=`: what stands still while the network costs money, or the machine runs on its battery.

use crate::engine::Lane;

use super::ConfigError;
use super::values::bad_value;

/// Is what stands still under which circumstances; `None` is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thrift {
    /// While the network is metered.
    pub metered: Option<Lane>,
    /// While the machine runs on its battery.
    pub battery: Option<Lane>,
}

impl Thrift {
    /// What was said, and what holds if nobody said anything: a metered network holds large transfers back. A battery does
    /// not, because who works on one all day wants the work to be sent.
    pub(super) fn of(metered: Option<Option<Lane>>, battery: Option<Option<Lane>>) -> Self {
        let usual = cfg!(feature = "desktop").then_some(Lane::Bulk);
        Self { metered: metered.unwrap_or(usual), battery: battery.unwrap_or(None) }
    }
}

/// Reads the value of either option.
pub(super) fn parse(key: &str, value: &str) -> Result<Option<Lane>, ConfigError> {
    let lane = match value {
        "ignore" => return Ok(None),
        "bulk" => Lane::Bulk,
        "uploads" => Lane::Uploads,
        "all" => Lane::All,
        _ => return Err(bad_value(key, value, "one of bulk, uploads, all, ignore is needed")),
    };
    if cfg!(feature = "desktop") {
        return Ok(Some(lane));
    }
    Err(ConfigError::Option(format!("{key}={value}: this build of dewfs does not ask the desktop")))
}
