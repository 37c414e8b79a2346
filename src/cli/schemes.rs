//! Programs with remotes of their own: `main_with` is the whole of dewfs with more schemes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use crate::config::{RemoteOptions, add_schemes};
use crate::remote::Remote;

/// Opens a remote at an address, which is what stands behind `scheme://`. Asks nothing yet: the engine probes it.
pub type Open = Arc<dyn Fn(&str, &RemoteOptions) -> Result<Arc<dyn Remote>, String> + Send + Sync>;

static OPENERS: OnceLock<HashMap<String, Open>> = OnceLock::new();

/// Is the kinds of remotes that a program has besides dewfs's own.
#[derive(Clone, Default)]
pub struct Schemes {
    openers: HashMap<String, Open>,
}

impl std::fmt::Debug for Schemes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.openers.keys()).finish()
    }
}

impl Schemes {
    /// None besides dewfs's own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With `scheme://…` as well: `open` is given what stands behind `//`, and the options about remotes (user name,
    /// credentials file and so on). An error is shown to who mounts, so it is one line that says what to do.
    #[must_use]
    pub fn with(
        mut self,
        scheme: &str,
        open: impl Fn(&str, &RemoteOptions) -> Result<Arc<dyn Remote>, String> + Send + Sync + 'static,
    ) -> Self {
        self.openers.insert(scheme.to_owned(), Arc::new(open));
        self
    }
}

/// Runs the whole program with these kinds of remotes as well: all commands, `dewfs SPEC DIR`, mount(8) and units.
pub fn main_with(schemes: Schemes) -> ExitCode {
    let names: Vec<String> = schemes.openers.keys().cloned().collect();
    if let Err(wrong) = add_schemes(&names) {
        eprintln!(
            "dewfs: {wrong}:// cannot be a scheme of this program: it is dewfs's own, or no scheme"
        );
        return ExitCode::from(super::USAGE);
    }
    // The first call counts, as it does for the names.
    let _kept = OPENERS.set(schemes.openers);
    crate::config::keep_memory_private();
    if let Err(error) = crate::config::hide_secrets_in_environment() {
        eprintln!("dewfs: {error}");
        return ExitCode::from(super::FAILED);
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    super::run(&arguments)
}

/// Opens a remote of such a kind.
pub(super) fn open(
    scheme: &str,
    address: &str,
    options: &RemoteOptions,
) -> Result<Arc<dyn Remote>, String> {
    match OPENERS.get().and_then(|openers| openers.get(scheme)) {
        Some(open) => open(address, options),
        None => Err(format!("this program knows no {scheme}:// remotes")),
    }
}
