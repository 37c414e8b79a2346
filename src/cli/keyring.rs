//! The desktop's keyring as a place for the secret of a saved remote, instead of a file.

use crate::config::{ConfigFiles, Login, RemoteOptions, RemoteSpec, Server, Who};

use super::saved::Saved;
use super::{Common, Failure};

/// Where somebody signs in; `None` where nobody does.
fn server(spec: &RemoteSpec) -> Option<Server> {
    match spec {
        RemoteSpec::WebDav { url, .. } => Some(Server::of(url)),
        RemoteSpec::Folder(_) | RemoteSpec::Added { .. } => None,
    }
}

/// Says which secrets two remotes may have in common, as far as who signs in does not tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shared {
    /// None.
    None,
    /// One from before ports were noted beside secrets.
    Old,
    /// All.
    All,
}

/// Which secrets two remotes may sign in with both.
pub(super) fn shared(
    (spec, with): (&RemoteSpec, &RemoteOptions),
    (other, with_other): (&RemoteSpec, &RemoteOptions),
) -> Shared {
    let users = (&with.username, &with_other.username);
    match (server(spec), server(other), users) {
        (_, _, (Some(one), Some(other))) if one != other => Shared::None,
        (Some(one), Some(other), _) if one == other => Shared::All,
        (Some(one), Some(other), _) if one.host == other.host => Shared::Old,
        _ => Shared::None,
    }
}

/// Whether the secrets in the keyring may be those of another saved remote as well.
pub(super) fn shared_with_others(saved: &Saved, common: &Common) -> Shared {
    let (who, mount) = (Who::current(), &saved.mount);
    let names = ConfigFiles::of(&who, common.config.as_deref()).names(&common.schemes);
    let others = names.iter().filter(|name| **name != saved.name).map(|name| {
        let one = (&mount.remote, &mount.remote_options);
        match Saved::find(name, common) {
            Ok(Saved { mount: other, .. }) if other.remote_options.credentials.is_some() => {
                Shared::None
            }
            Ok(Saved { mount: other, .. }) => shared(one, (&other.remote, &other.remote_options)),
            // One that cannot be read may be anything.
            Err(_unreadable) => Shared::All,
        }
    });
    others.max().unwrap_or(Shared::None)
}

#[cfg(feature = "desktop")]
mod there {
    use super::{Failure, Login, RemoteOptions, RemoteSpec, Shared, server};
    use crate::desktop::keyring::{self, Kept, KeyringError};

    /// Whether the keyring has a secret for it; one that cannot say so may have it.
    pub(in crate::cli) fn has(spec: &RemoteSpec, with: &RemoteOptions) -> Result<bool, Failure> {
        let Some(server) = server(spec) else { return Ok(false) };
        match keyring::find((&server.host, server.port), with.username.as_deref()) {
            Ok(found) => Ok(found.is_some()),
            Err(KeyringError::None(_)) => Ok(false),
            Err(error @ (KeyringError::Locked | KeyringError::Silent)) => {
                Err(Failure::failed(error.to_string()))
            }
        }
    }

    /// Puts the secret into the keyring.
    pub(in crate::cli) fn keep(
        name: &str,
        spec: &RemoteSpec,
        with: &RemoteOptions,
        login: &Login,
    ) -> Result<(), Failure> {
        let Some(server) = server(spec) else { return Ok(()) };
        let kept = match login.clone() {
            Login::Basic { user, password } => {
                Kept { user: Some(user), is_token: false, secret: password }
            }
            Login::Bearer(secret) => Kept { user: with.username.clone(), is_token: true, secret },
        };
        keyring::keep(&format!("dewfs: {name}"), (&server.host, server.port), &kept)
            .map_err(|error| Failure::failed(format!("{name}: {error}")))
    }

    /// Takes the secret out of the keyring, and one from before ports were noted if that is nobody else's; answers whether
    /// there was one.
    pub(in crate::cli) fn forget(
        spec: &RemoteSpec,
        with: &RemoteOptions,
        shared: Shared,
    ) -> Result<bool, Failure> {
        match (server(spec), shared) {
            (None, _) | (_, Shared::All) => Ok(false),
            (Some(server), _) => {
                let (place, user) = ((&*server.host, server.port), with.username.as_deref());
                keyring::forget(place, user, shared == Shared::None)
                    .map_err(|error| Failure::failed(error.to_string()))
            }
        }
    }
}

#[cfg(not(feature = "desktop"))]
mod there {
    use super::{Failure, Login, RemoteOptions, RemoteSpec, Shared};

    /// Whether the keyring has a secret for it.
    pub(in crate::cli) fn has(_spec: &RemoteSpec, _with: &RemoteOptions) -> Result<bool, Failure> {
        Ok(false)
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
        _shared: Shared,
    ) -> Result<bool, Failure> {
        Ok(false)
    }
}

pub(super) use there::{forget, has, keep};
