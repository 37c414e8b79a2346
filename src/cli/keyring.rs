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
    use super::{Failure, Login, RemoteOptions, RemoteSpec, Server, Shared, server};
    use crate::desktop::keyring::{self, Kept, KeyringError};
    use secrecy::SecretString;

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

    fn kept(with: &RemoteOptions, login: &Login) -> Kept {
        match login.clone() {
            Login::Basic { user, password } => {
                Kept { user: Some(user), is_token: false, secret: password }
            }
            Login::Bearer(secret) => Kept { user: with.username.clone(), is_token: true, secret },
        }
    }

    fn label(name: &str) -> String {
        format!("dewfs: {name}")
    }

    /// Puts the secret into the keyring.
    pub(in crate::cli) fn keep(
        name: &str,
        spec: &RemoteSpec,
        with: &RemoteOptions,
        login: &Login,
    ) -> Result<(), Failure> {
        let Some(server) = server(spec) else { return Ok(()) };
        keyring::keep(&label(name), (&server.host, server.port), &kept(with, login))
            .map_err(|error| Failure::failed(format!("{name}: {error}")))
    }

    /// Is a secret that was put into the keyring, and what was in its place before.
    #[derive(Debug)]
    pub(in crate::cli) struct Put {
        label: String,
        server: Server,
        kept: Kept,
        before: Option<SecretString>,
    }

    /// Puts the secret into the keyring so that it can be taken back; `None` where nobody signs in.
    pub(in crate::cli) fn put(
        name: &str,
        spec: &RemoteSpec,
        with: &RemoteOptions,
        login: &Login,
    ) -> Result<Option<Put>, Failure> {
        let Some(server) = server(spec) else { return Ok(None) };
        let (kept, label, place) = (kept(with, login), label(name), (&*server.host, server.port));
        let before = keyring::in_place_of(place, &kept)
            .and_then(|before| keyring::keep(&label, place, &kept).map(|()| before))
            .map_err(|error| Failure::failed(format!("{name}: {error}")))?;
        Ok(Some(Put { label, server, kept, before }))
    }

    impl Put {
        /// Puts there what was there before, or nothing.
        pub(in crate::cli) fn take_back(self) -> Result<(), Failure> {
            let (place, mut kept) = ((&*self.server.host, self.server.port), self.kept);
            let done = match self.before {
                Some(before) => {
                    kept.secret = before;
                    keyring::keep(&self.label, place, &kept)
                }
                None => keyring::take_back(place, &kept),
            };
            done.map_err(|error| Failure::failed(error.to_string()))
        }
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
    #[derive(Debug)]
    pub(in crate::cli) enum Put {}

    /// Refuses.
    pub(in crate::cli) fn put(
        name: &str,
        spec: &RemoteSpec,
        with: &RemoteOptions,
        login: &Login,
    ) -> Result<Option<Put>, Failure> {
        keep(name, spec, with, login).map(|()| None)
    }

    impl Put {
        /// There is nothing to take back.
        pub(in crate::cli) fn take_back(self) -> Result<(), Failure> {
            match self {}
        }
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

pub(super) use there::{Put, forget, has, keep, put};
