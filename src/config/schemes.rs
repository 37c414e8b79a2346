//! The kinds of remotes that a program has besides dewfs's own: a value that goes along with what was asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::remote::Remote;

use super::RemoteOptions;

/// Names that stand for dewfs's own remotes, or will.
const OWN: [&str; 8] = ["file", "http", "https", "dav", "davs", "s3", "az", "gs"];

/// Opens a remote at an address, which is what stands behind `scheme://`. Asks nothing yet: the engine probes it.
pub type Open = Arc<dyn Fn(&str, &RemoteOptions) -> Result<Arc<dyn Remote>, String> + Send + Sync>;

/// Is the kinds of remotes that a program has besides dewfs's own, by their schemes.
#[derive(Clone, Default)]
pub struct Schemes {
    openers: BTreeMap<String, Open>,
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    pub fn with<R: Remote + 'static, E: fmt::Display>(
        mut self,
        scheme: &str,
        open: impl Fn(&str, &RemoteOptions) -> Result<R, E> + Send + Sync + 'static,
    ) -> Self {
        let open = move |address: &str, options: &RemoteOptions| {
            let opened = open(address, options).map_err(|error| error.to_string())?;
            Ok(Arc::new(opened) as Arc<dyn Remote>)
        };
        self.openers.insert(scheme.to_owned(), Arc::new(open));
        self
    }

    /// The first that cannot be: it is one of dewfs's own, or no scheme.
    pub fn wrong(&self) -> Option<&str> {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        let legal = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest)
        };
        let wrong = |name: &&str| !legal(name) || OWN.contains(name);
        self.openers.keys().map(String::as_str).find(wrong)
    }

    /// Opens a remote of such a kind.
    pub fn open(
        &self,
        scheme: &str,
        address: &str,
        options: &RemoteOptions,
    ) -> Result<Arc<dyn Remote>, String> {
        match self.openers.get(scheme) {
            Some(open) => open(address, options),
            None => Err(format!("this program knows no {scheme}:// remotes")),
        }
    }

    /// Whether the scheme was added.
    pub(super) fn is_added(&self, scheme: &str) -> bool {
        self.openers.contains_key(scheme)
    }

    /// Whether the word names a kind of remote, dewfs's own or an added one.
    pub(super) fn is_kind(&self, word: &str) -> bool {
        OWN.contains(&word) || self.is_added(word)
    }

    /// The schemes that were added.
    pub(super) fn added(&self) -> impl Iterator<Item = &str> {
        self.openers.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::remote::folder::AwaitedFolder;

    fn with(scheme: &str) -> Schemes {
        Schemes::new().with(scheme, |address, _| match address {
            "" => Err("an address is missing"),
            _ => Ok(AwaitedFolder::new(std::path::Path::new(address))),
        })
    }

    #[test]
    fn what_cannot_be_a_scheme_is_named() {
        for (scheme, wrong) in
            [("my-store+1.x", None), ("https", Some("https")), ("9p", Some("9p")), ("", Some(""))]
        {
            assert_eq!(with(scheme).wrong(), wrong, "{scheme}");
        }
    }

    #[test]
    fn a_program_knows_the_kinds_that_it_was_given_and_no_others() {
        let options = RemoteOptions::default();
        let opened = with("my").open("my", "/srv", &options).unwrap();
        assert!(format!("{opened:?}").contains("/srv"), "{opened:?}");
        assert_eq!(with("my").open("my", "", &options).unwrap_err(), "an address is missing");
        assert!(Schemes::new().open("my", "/srv", &options).unwrap_err().contains("my://"));
    }
}
