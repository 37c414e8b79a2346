//! The desktop's keyring as a place for the secret of a saved remote, instead of a file.

use crate::config::{Login, RemoteOptions, RemoteSpec};

use super::Failure;

/// Whose secret for which server; `None` where nobody signs in.
#[cfg(feature = "desktop")]
fn place<'a>(spec: &'a RemoteSpec, with: &'a RemoteOptions) -> Option<(&'a str, Option<&'a str>)> {
    match spec {
        RemoteSpec::WebDav { url, .. } => {
            Some((url.host_str().unwrap_or_default(), with.username.as_deref()))
        }
        RemoteSpec::Folder(_) | RemoteSpec::Added { .. } => None,
    }
}

/// Whether two remotes may sign in with one secret, or cannot be told apart by who signs in.
pub(super) fn may_share(
    (spec, with): (&RemoteSpec, &RemoteOptions),
    (other, with_other): (&RemoteSpec, &RemoteOptions),
) -> bool {
    let host = |spec: &RemoteSpec| match spec {
        RemoteSpec::WebDav { url, .. } => url.host_str().map(str::to_owned),
        RemoteSpec::Folder(_) | RemoteSpec::Added { .. } => None,
    };
    let users = (&with.username, &with_other.username);
    let same_user = !matches!(users, (Some(one), Some(other)) if one != other);
    host(spec).is_some() && host(spec) == host(other) && same_user
}

#[cfg(feature = "desktop")]
mod there {
    use super::{Failure, Login, RemoteOptions, RemoteSpec, place};
    use crate::desktop::keyring::{self, Kept};

    /// Whether the keyring has a secret for it.
    pub(in crate::cli) fn has(spec: &RemoteSpec, with: &RemoteOptions) -> bool {
        place(spec, with).is_some_and(|(server, user)| {
            keyring::find(server, user).is_ok_and(|found| found.is_some())
        })
    }

    /// Puts the secret into the keyring.
    pub(in crate::cli) fn keep(
        name: &str,
        spec: &RemoteSpec,
        with: &RemoteOptions,
        login: &Login,
    ) -> Result<(), Failure> {
        let Some((server, _)) = place(spec, with) else { return Ok(()) };
        let kept = match login.clone() {
            Login::Basic { user, password } => {
                Kept { user: Some(user), is_token: false, secret: password }
            }
            Login::Bearer(secret) => Kept { user: with.username.clone(), is_token: true, secret },
        };
        keyring::keep(&format!("dewfs: {name}"), server, &kept)
            .map_err(|error| Failure::failed(format!("{name}: {error}")))
    }

    /// Takes the secret out of the keyring; answers whether there was one.
    pub(in crate::cli) fn forget(spec: &RemoteSpec, with: &RemoteOptions) -> Result<bool, Failure> {
        match place(spec, with) {
            Some((server, user)) => {
                keyring::forget(server, user).map_err(|error| Failure::failed(error.to_string()))
            }
            None => Ok(false),
        }
    }
}

#[cfg(not(feature = "desktop"))]
mod there {
    use super::{Failure, Login, RemoteOptions, RemoteSpec};

    /// Whether the keyring has a secret for it.
    pub(in crate::cli) fn has(_spec: &RemoteSpec, _with: &RemoteOptions) -> bool {
        false
    }

    /// Refuses.
    pub(in crate::cli) fn keep(
        name: &str,
        _spec: &RemoteSpec,
        _with: &RemoteOptions,
        _login: &Login,
    ) -> Result<(), Failure> {
        Err(Failure::failed(format!("{name}: this build of dewfs does not ask the keyring")))
    }

    /// There is none.
    pub(in crate::cli) fn forget(
        _spec: &RemoteSpec,
        _with: &RemoteOptions,
    ) -> Result<bool, Failure> {
        Ok(false)
    }
}

pub(super) use there::{forget, has, keep};
